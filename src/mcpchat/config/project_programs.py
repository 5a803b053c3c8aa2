"""The programs and scripts in a project's folder that its command lines name. They belong to what the user trusts."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_MODULE_SUFFIXES = (".py", "/__main__.py", "/__init__.py")
_SCRIPT_SUFFIXES = ("", ".js", ".mjs", ".cjs", ".ts", ".py", ".sh", "/index.js", "/__main__.py", "/package.json")
_BUILD_FILES: Mapping[
    str, tuple[str, ...]
] = {  # what these programs run is in a file that the command line does not name
    **dict.fromkeys(("npm", "pnpm", "yarn", "bun"), ("package.json",)),
    **dict.fromkeys(("make", "gmake"), ("GNUmakefile", "makefile", "Makefile")),
    "just": ("justfile", "Justfile", ".justfile"),
    "deno": ("deno.json", "deno.jsonc"),
    "docker": ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"),
}


def hash_programs(servers: Mapping[str, Mapping[str, Any]], folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that the servers' command lines name, by its path.

    A file belongs to it if it is named by a path relative to the server's working folder, or is inside the project's
    ``folder``. Files that these files load in turn do not.
    """
    hashes: dict[str, str] = {}
    for server in servers.values():
        for path in _named_files(server, folder):
            name = str(path)
            if name not in hashes and (digest := _hash_file(path)):
                hashes[name] = digest
    return dict(sorted(hashes.items()))


def _named_files(server: Mapping[str, Any], folder: Path) -> Iterator[Path]:
    command, args = server.get("command"), server.get("args", ())
    if not isinstance(command, str) or not isinstance(args, list | tuple):
        return
    cwd = server.get("cwd")
    base = folder / Path(cwd if isinstance(cwd, str) else ".").expanduser()
    if "/" in command or "\\" in command:
        yield from _candidates(command, base, folder, ("",))
    else:
        environment = server.get("env")
        search_path = environment.get("PATH") if isinstance(environment, dict) else None
        if isinstance(search_path, str) and (program := shutil.which(command, path=search_path)):
            yield from _candidates(program, Path.cwd(), folder, ("",))
    for name in _BUILD_FILES.get(Path(command).name, ()):
        yield base / name
    for previous, argument in zip((command, *args), args, strict=False):
        if not isinstance(argument, str):
            continue
        for text in {argument, argument.partition("=")[2], argument.removeprefix("@")} - {""}:
            if previous == "-m":
                yield from _candidates(text.replace(".", "/"), base, folder, _MODULE_SUFFIXES)
            yield from _candidates(text, base, folder, _SCRIPT_SUFFIXES)


def _candidates(text: str, base: Path, folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    if len(text) > 4096 or "\0" in text:
        return
    path = Path(text).expanduser() if text.startswith("~") else Path(text)
    if path.is_absolute() and not path.is_relative_to(folder):
        return
    yield from (Path(f"{base / path}{suffix}") for suffix in suffixes)


def _hash_file(path: Path) -> str:
    """Return the SHA-256 of a regular file; "" if there is none."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return "unreadable" if path.exists() else ""
