"""Servers that a command line names, without an entry in the config: addresses, commands, files of other clients."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mcpchat.config.foreign_entries import read_foreign_entries
from mcpchat.config.schema import Config, ServerConfig, with_builtin_defaults
from mcpchat.config.validation import SERVER_NAME, semantic_problems, type_problems
from mcpchat.errors import UsageError
from mcpchat.util.paths import expand_user
from mcpchat.util.text_files import read_text

_NAMED = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_-]*)=(?P<rest>.+)", re.DOTALL)
_MAX_BYTES = 10_000_000
_HINT = "write NAME=URL, NAME='COMMAND ARGS', URL, or a FILE.json of another client"
_COMMON_LABELS = frozenset({"mcp", "www", "api", "server", "com", "org", "net", "io", "dev", "ai", "app", "co"})


def is_address(text: str) -> bool:
    """Whether the text is an http or https URL."""
    return re.match(r"https?://", text) is not None


def parse_named_server(text: str, environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The settings of the servers in ``NAME=URL``, ``NAME='COMMAND ARGS'``, ``URL`` or ``FILE.json``, by name.

    Raises UsageError.
    """
    if is_address(text):
        return {name_address(text): read_address(text)}
    if match := _NAMED.fullmatch(text):
        rest = match["rest"].strip()
        return {match["name"]: read_address(rest) if is_address(rest) else _read_command(rest)}
    path = expand_user(text)
    if not path.is_file():
        raise UsageError(f"{text}: no such file, and no NAME=URL or NAME='COMMAND ARGS'", hint=_HINT)
    try:
        entries = read_foreign_entries(read_text(path, max_bytes=_MAX_BYTES, error=UsageError), environ)
    except UsageError as error:
        raise UsageError(f"{text}: {error.message}", hint=error.hint) from error
    return {name: _in_folder(entry, path.absolute().parent) for name, entry in entries.items()}


def name_address(url: str) -> str:
    """A name for the server at an address: what is particular in its host name."""
    host = urlsplit(url).hostname or ""
    labels = [label for label in host.split(".") if label not in _COMMON_LABELS] if not _is_numeric(host) else []
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", labels[-1] if labels else host or "server").strip("-_")
    return name[:40] or "server"


def _is_numeric(host: str) -> bool:
    return ":" in host or re.fullmatch(r"[\d.]+", host) is not None


def read_address(text: str) -> dict[str, Any]:
    """The settings of the server at a URL. Raises UsageError for one without a host."""
    try:
        host = urlsplit(text).hostname or ""
    except ValueError:
        host = ""
    if re.fullmatch(r"[^\[\]\s]+|[0-9A-Fa-f:.]+", host) is None:
        raise UsageError(f"{text}: the address has no valid host")
    return {"url": text}


def _read_command(text: str) -> dict[str, Any]:
    if "://" in text.partition(" ")[0]:
        raise UsageError(f"{text}: expected a URL that begins with https:// or http://, or a command")
    try:
        command, *args = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{text}: the quotes do not match", hint=_HINT) from error
    return {"command": command, **({"args": args} if args else {})}


def _in_folder(entry: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The entry, whose relative program is one beside its file."""
    command = entry.get("command", "")
    if command.startswith(("./", "../")) and "cwd" not in entry:
        return {**entry, "command": str(folder / command)}
    return entry


def add_named_servers(config: Config, texts: Sequence[str], environ: Mapping[str, str]) -> tuple[Config, list[str]]:
    """The config with the servers that the texts name, and their names in it.

    A server that the config has already, under any name, keeps its entry: its name is returned. Raises UsageError for a
    text that names none, and for a name that another server of the config has.
    """
    servers, names = dict(config.servers), []
    for text in texts:
        for name, entry in parse_named_server(text, environ).items():
            server = _convert(name, entry, text)
            known = next((key for key, other in servers.items() if _is_same(other, server)), None)
            if known is None and is_address(text):
                name = next(free for free in _numbered(name) if free not in servers)
            elif known is None and name in servers:
                raise UsageError(
                    f"{text}: another server is named {name}", hint=f"choose a name: OTHER={entry.get('url', '...')}"
                )
            names.append(known or name)
            servers[known or name] = msgspec.structs.replace(servers[known], enabled=True) if known else server
    return msgspec.structs.replace(config, servers=servers), names


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name[:35]}-{number}" for number in count(2))


def _is_same(one: ServerConfig, other: ServerConfig) -> bool:
    if other.url is not None:
        return one.url == other.url and not other.headers
    return (one.command, one.args, one.cwd, one.env) == (other.command, other.args, other.cwd, other.env)


def _convert(name: str, entry: dict[str, Any], text: str) -> ServerConfig:
    if not SERVER_NAME.fullmatch(name):
        raise UsageError(f"{text}: {name}: the name of a server has only letters, digits, - and _, at most 40")
    table = {"servers": {name: entry}}
    for path, problem in (*type_problems(table, Config, ()), *semantic_problems(table)):
        raise UsageError(f"{text}: {'.'.join(path[1:])}: {problem}")
    return with_builtin_defaults(msgspec.convert(entry, ServerConfig))
