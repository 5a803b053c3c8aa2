"""The programs and scripts in a project's folder that its command lines name. They belong to what the user trusts."""

import hashlib
import os
import re
import shlex
import stat
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path, PurePath
from typing import Any

from mcpchat.config.program_variables import effect_of
from mcpchat.core.shell_commands import WRAPPERS

_MAX_BYTES = 50 * 2**20  # of a file that is read; of a larger one, size and time stand for the content
_MAX_ARGUMENT = 4096  # characters that are looked at
_MODULE_SUFFIXES = (".py", "/__main__.py", "/__init__.py", ".rb", ".pm")
_SCRIPT_SUFFIXES = (".js", ".mjs", ".cjs", ".ts", ".py", ".sh", "/index.js", "/__main__.py", "/package.json")
SCRIPT_NAME = re.compile(
    r"(?i).*\.(py[wz]?|[cm]?[jt]sx?|sh|bash|zsh|fish|ps1|bat|cmd|exe|rb|p[lm]|php|lua|tcl|r|jar|class|wasm|so|dylib|dll|node"
    r"|exs?|swift|dart|clj[sc]?|scala|kts?|groovy|java|csx?|fsx?|rs|go|zig|jl|nim|hs|awk|mk|raku|erl|rkt|scm|ml|cr|csproj|fsproj|vbproj|sln|props|targets)"
)
INTERPRETER = re.compile(
    r"(sh|ash|bash|zsh|dash|ksh|mksh|yash|csh|tcsh|fish|busybox|pwsh|powershell|cmd|node|nodejs|deno|bun|tsx|ts-node"
    r"|python|pypy|ruby|perl|raku|php|lua|luajit|tclsh|wish|expect|R|Rscript|julia|elixir|iex|erl|escript|awk|gawk|mawk|nawk|sed"
    r"|guile|racket|sbcl|clj|bb|ocaml|runghc|ghci|groovy|kotlin|scala|swift|dart|dotnet|mono|octave|osascript|jshell|nim|crystal)"
    r"[\d.]*(\.exe)?"
)
_COMPOSE_FILES = [
    f"{name}.{end}"
    for name in ("compose", "compose.override", "docker-compose", "docker-compose.override")
    for end in ("yaml", "yml")
]
# What these programs run is in a file that the command line does not name.
_BUILD_FILES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("npm", "pnpm", "yarn", "bun", "npx", "pnpx", "bunx", "node"), ("package.json", ".npmrc")),
    **dict.fromkeys(("make", "gmake"), ("GNUmakefile", "makefile", "Makefile")),
    **dict.fromkeys(("uv", "uvx", "poetry", "hatch", "pdm", "pipenv"), ("pyproject.toml", "uv.toml", "Pipfile")),
    **dict.fromkeys(
        ("docker", "docker-compose", "podman", "podman-compose"),
        ("Dockerfile", "Containerfile", ".env", *_COMPOSE_FILES),
    ),
    "just": ("justfile", "Justfile", ".justfile"),
    "task": tuple(f"{name}.{end}" for name in ("Taskfile", "Taskfile.dist", "taskfile") for end in ("yml", "yaml")),
    "invoke": ("tasks.py",),
    "rake": ("Rakefile", "rakefile"),
    "deno": ("deno.json", "deno.jsonc"),
    "cargo": ("Cargo.toml", "build.rs", "src/main.rs"),
    "go": ("go.mod", "main.go"),
    "swift": ("Package.swift",),
    "dart": ("pubspec.yaml",),
    "mix": ("mix.exs",),
    **dict.fromkeys(("bundle", "bundler"), ("Gemfile",)),
    "lein": ("project.clj",),
    "sbt": ("build.sbt",),
    "zig": ("build.zig",),
    "nox": ("noxfile.py",),
    "tox": ("tox.ini",),
    "pixi": ("pixi.toml", "pyproject.toml"),
    "direnv": (".envrc",),
    "gulp": ("gulpfile.js",),
    "mise": ("mise.toml", ".mise.toml", ".mise/config.toml"),
    "composer": ("composer.json",),
    **dict.fromkeys(
        ("mvn", "mvnw"),
        ("pom.xml", ".mvn/extensions.xml", ".mvn/jvm.config", ".mvn/maven.config", ".mvn/wrapper/maven-wrapper.jar",
         ".mvn/wrapper/maven-wrapper.properties"),
    ),
    **dict.fromkeys(
        ("gradle", "gradlew"),
        ("build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts", "gradle.properties",
         "gradle/wrapper/gradle-wrapper.jar", "gradle/wrapper/gradle-wrapper.properties"),
    ),
    "dotnet": ("*.csproj", "*.fsproj", "*.sln", "global.json", "Directory.Build.props", "Directory.Build.targets"),
    "nix": ("flake.nix",),
}  # fmt: skip
_JAVA = re.compile(r"(javaw?|kotlin|scala|groovy)[\d.]*(\.exe)?")  # they find a class by its name
_CLASS_NAME = re.compile(r"[^\W\d][\w$]*(?:[./][\w$]+)*")
_MAX_LIBRARIES = 100  # of a folder that a class path names
_BUILD_NAMES = frozenset(PurePath(name).name for names in _BUILD_FILES.values() for name in names)
_SEARCH_PATHS = re.compile(r"PYTHON(PATH|HOME|USERBASE)\b")
_MAX_FOLDERS, _MAX_FOLDER_DEPTH = 100, 3  # of those that words name: their number, and how many after each other
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_FILE_OPTION = re.compile(r"-f|--?(?:[a-z]+-)?(?:file|makefile|justfile|taskfile|config|script|build-file)")
_SPLIT = re.compile(r"[\s=,:;&|()<>'\"`]+")
_MODULE = re.compile(
    r"(?<![\w-])-\w*?[mrM]\s*(?P<name>[A-Za-z_][\w.:]*)|\b(?:import|from|use|require)\s+(?P<imported>[A-Za-z_][\w.:]*)"
)
_EVALUATES = re.compile(
    r"(?<![\w-])(?:exec|eval|execfile|load|require\w*|run_path|instance_eval|do|include)\b\s*[('\"./]"
    r"|(?:^|[\s;&|])(?:\.|source)\s|\|\s*(?:\S*/)?(?:[abdkz]|mk|ya)?sh\b|\|\s*(?:\S*/)?(?:python|perl|ruby|node|php)"
)
_GLOB = re.compile(r"[*?\[]")
_MAX_MATCHES = 100  # of a glob


def hash_programs(servers: Mapping[str, Mapping[str, Any]], folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each program and script in the ``folder`` that the servers' command lines name, by path.

    A word of a command line, or of a variable that changes what runs, names a file that has this path from the server's
    working folder, from the project's, or from a folder that another word names. What an interpreter or a build program
    is told to run is a script whatever its name. Files that these files load in turn do not count. Nothing is run.
    """
    hashes: dict[str, str] = {}
    root = folder.resolve()
    for server in servers.values():
        for name, is_script in _named_files(server, folder):
            path = _resolve(name)
            if not path or not path.is_relative_to(root) or str(path) in hashes:
                continue
            if digest := _hash_file(path, is_script=is_script):
                hashes[str(path)] = digest
    return dict(sorted(hashes.items()))


def _resolve(name: str) -> Path | None:
    try:
        return Path(name).resolve()
    except (OSError, ValueError, RuntimeError):
        return None  # too long, or a loop of links


def _named_files(server: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield each path that a file could have, and whether that file is a script whatever its name."""
    command, args = server.get("command"), server.get("args", ())
    if not isinstance(command, str) or not isinstance(args, list | tuple):
        return
    cwd = server.get("cwd")
    bases = [*([_join(str(folder), cwd)] if isinstance(cwd, str) else []), str(folder)]
    table = server.get("env")
    variables = (
        {name: value for name, value in table.items() if isinstance(value, str)} if isinstance(table, dict) else {}
    )
    texts = [_expand(text, variables) for text in (command, *args) if isinstance(text, str)]
    settings = [value for name, value in variables.items() if effect_of(name) == "code"]
    words = [word for text in (*texts, *settings) for word in _words(text)]
    if os.sep not in command and "PATH" in variables:
        entries = variables["PATH"].split(os.pathsep)
        words += [_join(base, f"{entry or '.'}/{command}") for base in bases for entry in entries]
    names = (match["name"] or match["imported"] for match in _MODULE.finditer(" ".join(texts)))
    modules = [package for name in names for package in _with_packages(name.replace("::", "/").replace(".", "/"))]
    if any(map(_SEARCH_PATHS.search, (*variables, *texts))):
        modules += ["sitecustomize", "usercustomize"]
    runs_more = any(_runs_more(word) for word in words)
    if any(_JAVA.fullmatch(PurePath(word).name) for word in words):
        words += [f"{word.replace('.', '/')}.class" for word in words if _CLASS_NAME.fullmatch(word)]
    build_files = [name for word in words for name in _BUILD_FILES.get(PurePath(word).stem, ())]
    bases += _named_folders(bases, words)
    yield from (
        (path, False) for base in bases for word in words if word.endswith("/*") for path in _libraries(base, word)
    )
    yield from ((path, True) for path in _scripts(texts, bases))
    globs = (word for word in words if _GLOB.search(word))
    yield from ((path, False) for word in globs for base in bases for path in _matches(base, word))
    for base in bases:
        for inner in (".", *words):
            for name in build_files:
                path = _join(base, f"{inner}/{name}")
                yield from ((found, False) for found in (_matches(base, path) if "*" in name else [path]))
        yield from ((_join(base, word), runs_more and not PurePath(word).suffix) for word in words)
        yield from ((f"{_join(base, word)}{suffix}", False) for word in words for suffix in _SCRIPT_SUFFIXES)
        yield from ((_join(base, f"{module}{suffix}"), False) for module in modules for suffix in _MODULE_SUFFIXES)


def _takes_value(option: str) -> bool:
    """Whether the next word can be the value of an option that names no script, as after ``-W``."""
    return option.startswith("-") and not _FILE_OPTION.fullmatch(option)


def _with_packages(module: str) -> list[str]:
    """The module and the packages that it is in, whose code runs before it."""
    parts = module.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _runs_more(word: str) -> bool:
    """Whether the word is a program that runs what other words name, also a script without a suffix."""
    path = PurePath(word)
    return bool(INTERPRETER.fullmatch(path.name) or path.name in WRAPPERS or path.stem in _BUILD_FILES)


def _named_folders(bases: Sequence[str], words: Sequence[str]) -> list[str]:
    """The folders that words name, also one after the other, as in ``cd a && cd b``."""
    found: dict[str, None] = {}
    latest = list(bases)
    for _ in range(_MAX_FOLDER_DEPTH):
        paths = dict.fromkeys(_join(base, word) for base in latest for word in words if word not in (".", "/"))
        latest = [path for path in paths if path not in found and _is_folder(path)][:_MAX_FOLDERS]
        found |= dict.fromkeys(latest)
    return list(found)[:_MAX_FOLDERS]


def _expand(text: str, variables: Mapping[str, str]) -> str:
    """The text with the variables of the server's table, as a shell reads it; the working folder is "."."""
    return _VARIABLE.sub(lambda match: variables.get(match[1], "." if match[1] == "PWD" else match[0]), text)


def _scripts(texts: Sequence[str], bases: Sequence[str]) -> Iterator[str]:
    """Yield what interpreters run, the first file among their arguments, and the files that build programs get."""
    for text in filter(_EVALUATES.search, texts):
        yield from (_join(base, word) for base in bases for word in _words(text))
    for words in (texts, *(_split(text) for text in texts)):
        for number, word in enumerate(words):
            name, rest = PurePath(word).name, words[number + 1 :]
            if INTERPRETER.fullmatch(name):
                # A file that has the name of an option's value must not stand for the script.
                for arguments in (rest, [arg for before, arg in pairwise((word, *rest)) if not _takes_value(before)]):
                    named = ([_join(base, arg.lstrip("<")) for base in bases] for arg in arguments if arg[:1] != "-")
                    yield from next((paths for paths in named if any(map(_is_file, paths))), [])
            elif PurePath(word).stem in _BUILD_FILES:
                options = [part for arg in rest for part in arg.split("=", 1)]
                files = [file for option, file in pairwise(options) if _FILE_OPTION.fullmatch(option)]
                yield from (_join(base, file) for base in bases for file in files)


def _libraries(base: str, entry: str) -> list[str]:
    """The Java archives in a folder of a class path, which is written as ``lib/*``."""
    try:
        paths = sorted(path for path in Path(_join(base, entry[:-2])).iterdir() if path.suffix.lower() == ".jar")
    except (OSError, ValueError):
        return []
    return [str(path) for path in paths[:_MAX_LIBRARIES]]


def _matches(base: str, pattern: str) -> list[str]:
    """The files that a shell would put in the place of a glob."""
    relative = os.path.relpath(_join(base, pattern), base)
    try:
        return [str(path) for path in sorted(islice(Path(base).glob(relative), _MAX_MATCHES))]
    except (OSError, ValueError, NotImplementedError, re.error):
        return []


def _is_file(path: str) -> bool:
    try:
        return os.path.isfile(path)  # noqa: PTH113 - as above
    except ValueError:
        return False


def _is_folder(path: str) -> bool:
    try:
        return os.path.isdir(path)  # noqa: PTH112 - as above
    except ValueError:
        return False


def _join(base: str, name: str) -> str:
    return str(PurePath(base, os.path.expanduser(name)))  # noqa: PTH111 - Path's fails for an unknown user


def _words(text: str) -> Sequence[str]:
    """The parts of an argument that could be paths: all of it, its shell words, and the pieces between punctuation."""
    text = text[:_MAX_ARGUMENT].replace("\0", "")
    shell_words = _split(text)
    pieces = _SPLIT.split(text)
    glued = [re.sub(r"^(-\w|@|file://|\+)", "", piece) for piece in (text, *pieces)]
    return [*dict.fromkeys(word for word in (text, *shell_words, *pieces, *glued) if word)]


def _split(text: str) -> list[str]:
    """The words of a shell command; none if its quotes do not match."""
    try:
        return shlex.split(text[:_MAX_ARGUMENT])
    except ValueError:
        return []


def _hash_file(path: Path, *, is_script: bool) -> str:
    """Return the SHA-256 of a program or script. For another file, or if the file is missing, return ""."""
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            return ""
        with path.open("rb") as file:
            beginning = file.read(2)
            is_program = (
                is_script or path.name in _BUILD_NAMES or SCRIPT_NAME.fullmatch(path.name) or beginning == b"#!"
            )
            if not is_program and not info.st_mode & 0o111:
                return ""  # data, which the server may change itself
            if info.st_size > _MAX_BYTES:
                return f"{info.st_size} bytes, {info.st_mtime_ns}"
            return hashlib.sha256(beginning + file.read(_MAX_BYTES)).hexdigest()
    except PermissionError:
        return "unreadable"
    except (OSError, ValueError):
        return ""
