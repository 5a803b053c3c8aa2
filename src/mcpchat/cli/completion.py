"""Shell completion: the candidates for a Tab, from the generated table of commands and from files on disk.

It imports neither a parser nor an SDK and starts nothing. Names from servers and files (tools, titles) are offered only
if no shell could take them for more than a word.
"""

import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

SHELLS = ("bash", "zsh", "fish", "powershell")
_DATA = Path(__file__).resolve().parent.parent / "data"
_SAFE_WORD = re.compile(r"[\w.:/@+,=~%-]+")
_MAX_CANDIDATES = 200
_MAX_FILE_BYTES = 4_000_000
_MAX_DESCRIPTION = 70  # characters
Candidate = tuple[str, str]  # a word and its description

# The source of candidates for an option's value, and for a command's argument, by the parameter's name.
_OPTION_SOURCES = {
    "model": "models", "agent": "agents", "thread": "threads", "template": "templates", "allow": "tools",
    "deny": "tools", "tool": "tools", "server": "servers", "config": "files", "file": "files", "attach": "files",
    "schema": "files", "instructions_file": "files", "place": "files",
}  # fmt: skip
_ARGUMENT_SOURCES = {
    ("call", "tool"): "tools", ("call", "pairs"): "keys", ("read", "resource"): "resources",
    ("prompt", "name"): "prompts", ("prompt", "pairs"): "prompt_keys", ("tools", "words"): "tools",
    ("servers show", "name"): "servers", ("servers logs", "name"): "servers", ("servers remove", "name"): "servers",
    ("servers enable", "name"): "servers", ("servers disable", "name"): "servers",
    ("trust review", "server"): "servers", ("auth login", "name"): "servers",
    ("auth logout", "name"): "servers", ("threads show", "name"): "threads",
    ("threads fork", "name"): "threads", ("threads rename", "name"): "threads", ("threads export", "names"): "threads",
    ("threads delete", "names"): "threads", ("threads import", "files"): "files", ("agents show", "name"): "agents",
    ("models", "table"): "models", ("approvals revoke", "tools"): "tools", ("batch", "source"): "files",
    ("trust revoke", "path"): "files",
}  # fmt: skip


class Argument(NamedTuple):
    """An argument of a command; ``many`` if it takes several words. ``choices`` is empty if any word will do."""

    name: str
    many: bool
    choices: list[str]


class Option(NamedTuple):
    """An option of a command, by the ``parameter`` that it sets."""

    description: str
    takes_value: bool
    parameter: str
    repeatable: bool
    choices: list[str]


class Command(NamedTuple):
    """A command: its arguments, its options by their spellings, its subcommands with their descriptions."""

    arguments: list[Argument]
    options: dict[str, Option]
    commands: dict[str, str]


def load_commands() -> dict[str, Command]:
    """The commands by their paths ("", "ask", "config init"), from the generated table."""
    table = json.loads((_DATA / "commands.json").read_bytes())
    return {
        path: Command(
            [Argument(*argument) for argument in command["arguments"]],
            {name: Option(*option) for name, option in command["options"].items()},
            command["commands"],
        )
        for path, command in table.items()
    }


def complete(words: Sequence[str]) -> list[Candidate]:
    """The candidates for the last word, which may be empty; the words before it are complete."""
    *before, current = words or [""]
    return _complete(CommandLine(before), current)


def _complete(line: "CommandLine", current: str) -> list[Candidate]:
    if line.open_option is not None:
        return _matching(line.option_candidates(line.open_option), current)
    name, equals, value = current.partition("=")
    if current.startswith("--") and equals:
        option = line.command.options.get(name)
        candidates = line.option_candidates(option) if option is not None else []
        return [(f"{name}={word}", description) for word, description in _matching(candidates, value)]
    if current.startswith("-") and not line.options_ended:
        options = sorted(line.command.options.items())
        return _matching([(name, option.description) for name, option in options if line.is_available(name)], current)
    subcommands = list(line.command.commands.items()) if not line.arguments else []
    candidates = [*subcommands, *line.argument_candidates()]
    if "=" not in current:  # KEY=VALUE only once the key is there
        candidates = [(word, text) for word, text in candidates if "=" not in word[:-1]]
    return _matching(candidates, current)


def _matching(candidates: Iterable[Candidate], current: str) -> list[Candidate]:
    safe = {word: text for word, text in candidates if word.startswith(current) and _SAFE_WORD.fullmatch(word)}
    return list(safe.items())[:_MAX_CANDIDATES]


class CommandLine:
    """The complete words of a command line: the command, its arguments so far, an option that still needs a value."""

    def __init__(self, words: Sequence[str]) -> None:
        self.path = ""
        self.arguments: list[str] = []
        self.options_ended = False  # by --
        self.open_option: Option | None = None
        self._commands = load_commands()
        self._used: set[str] = set()
        self._values: dict[str, str] = {}
        for word in words:
            self._take(word)

    @property
    def command(self) -> Command:
        return self._commands[self.path]

    def _take(self, word: str) -> None:
        if self.open_option is not None:
            self._values[self.open_option.parameter] = word
            self.open_option = None
        elif self.options_ended or not word.startswith("-") or word == "-":
            path = f"{self.path} {word}".strip()
            if not self.arguments and not self.options_ended and path in self._commands:
                self.path = path
            else:
                self.arguments.append(word)
        elif word == "--":
            self.options_ended = True
        else:
            name, equals, value = word.partition("=")
            self._used.add(name)
            option = self.command.options.get(name)
            if option is not None and option.takes_value:
                if equals:
                    self._values[option.parameter] = value
                else:
                    self.open_option = option

    def is_available(self, name: str) -> bool:
        """Whether the option can still be given: it is repeatable, or not yet used under any of its names."""
        option, options = self.command.options[name], self.command.options
        used = {options[other].parameter for other in self._used if other in options}
        return option.repeatable or option.parameter not in used

    @property
    def _argument(self) -> Argument | None:
        """The argument that the next word is for."""
        arguments = self.command.arguments
        if not arguments:
            return None
        argument = arguments[min(len(self.arguments), len(arguments) - 1)]
        return argument if argument.many or len(self.arguments) < len(arguments) else None

    def argument_candidates(self) -> list[Candidate]:
        argument = self._argument
        if argument is None:
            return []
        return self._candidates(argument.choices, _ARGUMENT_SOURCES.get((self.path, argument.name), ""))

    def option_candidates(self, option: Option) -> list[Candidate]:
        return self._candidates(option.choices, _OPTION_SOURCES.get(option.parameter, ""))

    def _candidates(self, choices: Sequence[str], source: str) -> list[Candidate]:
        if choices:
            return [(choice, "") for choice in choices]
        read = _SOURCES.get(source)
        return read(CompletionData(self._values.get("config")), self.arguments) if read is not None else []

    def takes_file(self, current: str) -> bool:
        """Whether the shell should offer its files for the word."""
        if self.open_option is not None:
            source = _OPTION_SOURCES.get(self.open_option.parameter)
        elif current.startswith("-") or self._argument is None:
            source = None
        else:
            source = _ARGUMENT_SOURCES.get((self.path, self._argument.name))
        return source == "files" or (self.path == "call" and bool(self.arguments) and "=@" in current)


class CompletionData:
    """The data on disk: config, cached catalogs, threads. A file that cannot be read counts as empty."""

    def __init__(self, config: str | None) -> None:
        import platformdirs

        folders = platformdirs.PlatformDirs("mcpchat", appauthor=False)
        path = config or os.environ.get("MCPCHAT_CONFIG")
        self.path = Path(os.path.expanduser(path)) if path else folders.user_config_path / "config.toml"  # noqa: PTH111
        self._cache = folders.user_cache_path / "servers"
        self._threads = folders.user_data_path / "threads.db"

    def tables(self, name: str) -> dict[str, dict[str, Any]]:
        """The tables within a table of the config."""
        import tomllib

        try:
            table = tomllib.loads(self.path.read_text(encoding="utf-8-sig")).get(name)
        except (OSError, ValueError):
            return {}
        return (
            {key: value for key, value in table.items() if isinstance(value, dict)} if isinstance(table, dict) else {}
        )

    def servers(self) -> dict[str, dict[str, Any]]:
        return self.tables("servers") or {"calculator": {"builtin": "calculator"}}

    def catalogs(self) -> dict[str, dict[str, Any]]:
        """The latest cached catalog of each configured server, by its name."""
        servers, catalogs = self.servers(), dict[str, dict[str, Any]]()
        try:
            files = sorted(self._cache.glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
        except OSError:
            return {}
        for file in files[:100]:
            catalog = _read_json(file).get("catalog")
            if not isinstance(catalog, dict):
                continue
            items = [
                item for kind in ("tools", "resources", "prompts", "templates") for item in _dicts(catalog.get(kind))
            ]
            server = str(items[0].get("server", "")) if items else ""
            if server in servers:
                catalogs.setdefault(server, catalog)
        return catalogs

    def threads(self) -> list[Candidate]:
        import sqlite3
        from contextlib import closing
        from urllib.parse import quote

        try:
            uri = f"file:{quote(str(self._threads))}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=0.05)) as database:
                rows = database.execute("SELECT id, title FROM threads ORDER BY updated DESC LIMIT 50").fetchall()
        except sqlite3.Error:
            return []
        return [(str(thread_id)[:8], str(title)) for thread_id, title in rows]


def _read_json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _MAX_FILE_BYTES:
            return {}
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


Source = Callable[[CompletionData, Sequence[str]], list[Candidate]]


def _catalog_items(kind: str, key: str, separator: str) -> Source:
    """The items of a kind in all catalogs, each as SERVER, the separator and its ``key``."""

    def source(data: CompletionData, arguments: Sequence[str]) -> list[Candidate]:
        return [
            (f"{server}{separator}{item.get(key, '')}", str(item.get("title") or item.get("description") or ""))
            for server, catalog in data.catalogs().items()
            for item in _dicts(catalog.get(kind))
        ]

    return source


def _tool_keys(data: CompletionData, arguments: Sequence[str]) -> list[Candidate]:
    """KEY= for each parameter of the tool that is not given yet, and KEY=VALUE for each value that its schema names."""
    server, _, name = arguments[0].partition(".") if arguments else ("", "", "")
    for tool in _dicts(data.catalogs().get(server, {}).get("tools")):
        schema = tool.get("schema")
        properties = schema.get("properties") if tool.get("name") == name and isinstance(schema, dict) else None
        if isinstance(properties, dict):
            keys = {key: value if isinstance(value, dict) else {} for key, value in properties.items()}
            words = [
                (f"{key}={value}", "" if value else str(schema.get("description", "")))
                for key, schema in keys.items()
                for value in ("", *_values(schema))
            ]
            return _unused(words, arguments)
    return []


def _values(schema: dict[str, Any]) -> list[str]:
    """The values that a parameter may have, if its schema names them."""
    branches = [schema, *_dicts(schema.get("anyOf")), *_dicts(schema.get("oneOf"))]
    listed = [branch["enum"] for branch in branches if isinstance(branch.get("enum"), list)]
    values = [value for enum in listed for value in enum if isinstance(value, str | int | float)]
    values += ["true", "false"] if any(branch.get("type") == "boolean" for branch in branches) else []
    return [value if isinstance(value, str) else json.dumps(value) for value in values]


def _prompt_keys(data: CompletionData, arguments: Sequence[str]) -> list[Candidate]:
    """KEY= for each argument of the prompt that is not given yet."""
    server, _, name = arguments[0].partition(":") if arguments else ("", "", "")
    for prompt in _dicts(data.catalogs().get(server, {}).get("prompts")):
        if prompt.get("name") == name:
            keys = [(f"{a.get('name', '')}=", str(a.get("description", ""))) for a in _dicts(prompt.get("arguments"))]
            return _unused(keys, arguments)
    return []


def _unused(candidates: Sequence[Candidate], arguments: Sequence[str]) -> list[Candidate]:
    safe = [candidate for candidate in candidates if candidate[0][0].isalnum()]  # none that looks like an option
    used = {given.partition("=")[0].rstrip(":") for given in arguments[1:]}
    return [(word, text) for word, text in safe if word.partition("=")[0] not in used]


def _models(data: CompletionData, arguments: Sequence[str]) -> list[Candidate]:
    tables = {name: table for name, table in data.tables("model").items() if name not in {"headers", "price"}}
    listed = [(name, str(table.get("name", ""))) for name, table in tables.items()]
    return [*listed, ("demo", "no language model: it shows the tools")]


def _templates(data: CompletionData, arguments: Sequence[str]) -> list[Candidate]:
    folder = data.path.parent / "templates"
    files = [file for file in folder.rglob("*") if file.suffix in {".md", ".txt"}] if folder.is_dir() else []
    return sorted((file.relative_to(folder).with_suffix("").as_posix(), "") for file in files)


_SOURCES: dict[str, Source] = {
    "servers": lambda data, arguments: [
        (name, str(server.get("url") or server.get("command") or server.get("builtin") or ""))
        for name, server in data.servers().items()
    ],
    "agents": lambda data, arguments: [
        (name, str(agent.get("description", ""))) for name, agent in data.tables("agents").items()
    ],
    "models": _models,
    "tools": _catalog_items("tools", "name", "."),
    "resources": _catalog_items("resources", "uri", ":"),
    "prompts": _catalog_items("prompts", "name", ":"),
    "keys": _tool_keys,
    "prompt_keys": _prompt_keys,
    "threads": lambda data, arguments: data.threads(),
    "templates": _templates,
}


def format_candidates(words: Sequence[str]) -> str:
    """The lines that a shell's script reads: the word, a tab, its description. FILES asks for the shell's own files.

    ``words`` are those after ``mcpchat``; the last one is being completed.
    """
    *before, current = words or [""]
    line = CommandLine(before)
    lines = [f"{word}\t{_one_line(text)}" for word, text in _complete(line, current)]
    if line.takes_file(current):
        lines.append("FILES\t")
    return "".join(f"{text}\n" for text in lines)


def _one_line(text: str) -> str:
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(printable.split())[:_MAX_DESCRIPTION]


def main(words: Sequence[str]) -> int:
    """``__complete [WORDS...]``."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # if the shell's encoding lacks a character of a description
    sys.stdout.write(format_candidates(list(words)))
    return 0


def read_script(shell: str) -> str:
    """The script that a shell reads once, so that Tab asks mcpchat."""
    ending = "ps1" if shell == "powershell" else shell
    return (_DATA / "completion" / f"mcpchat.{ending}").read_text(encoding="utf-8")
