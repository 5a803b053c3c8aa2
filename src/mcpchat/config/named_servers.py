"""Servers that a command line names, without an entry in the config: addresses, commands, files of other clients."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mcpchat.config.clients.conversion import Surroundings
from mcpchat.config.clients.entries import ClientServer, read_client_file
from mcpchat.config.clients.files import project_folder
from mcpchat.config.same_server import with_own_references
from mcpchat.config.schema import Config, NamedServer, ServerConfig, with_builtin_defaults
from mcpchat.config.validation import SERVER_NAME, semantic_problems, type_problems
from mcpchat.errors import UsageError
from mcpchat.util.paths import expand_user
from mcpchat.util.sanitize import one_line
from mcpchat.util.text import replace_surrogates
from mcpchat.util.urls import find_url_problem

_NAMED = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_-]*)=(?P<rest>.+)", re.DOTALL)
_HINT = "write NAME=URL, NAME='COMMAND ARGS', URL, or a FILE.json of another client"
_COMMON_LABELS = frozenset({"mcp", "www", "api", "server", "com", "org", "net", "io", "dev", "ai", "app", "co"})


def is_address(text: str) -> bool:
    """Whether the text is an http or https URL."""
    return re.match(r"https?://", text) is not None


def parse_named_server(text: str, environ: Mapping[str, str] | None = None) -> list[ClientServer]:
    """The servers in ``NAME=URL``, ``NAME='COMMAND ARGS'``, ``URL`` or ``FILE.json``, also those that cannot be used.

    Variables in a file's command lines and addresses are those of ``environ``; without it they are refused, since the
    settings are about to be written. Raises UsageError, also if no server of a file can be used.
    """
    if is_address(text):
        return [ClientServer(name=name_address(text), settings=read_address(text))]
    if match := _NAMED.fullmatch(text):
        rest = match["rest"].strip()
        settings = read_address(rest) if is_address(rest) else _read_command(rest)
        return [ClientServer(name=match["name"], settings=settings)]
    path = expand_user(text)
    if not _exists(path):
        raise UsageError(f"{one_line(text, 80)}: no such file, and no NAME=URL or NAME='COMMAND ARGS'", hint=_HINT)
    try:
        found = read_client_file(path, Surroundings(environ, project_folder(path)))
    except UsageError as error:
        raise UsageError(f"{text}: {error.message}", hint=error.hint) from error
    servers = [_without_secrets(server, text) for server in found]
    if all(server.problem for server in servers):
        first = servers[0]
        raise UsageError(f"{text}: {first.name}: {first.problem}", hint=first.hint)
    return servers


def _without_secrets(server: ClientServer, file: str) -> ClientServer:
    """The server; one whose client asks for its secrets cannot be used, because its file must not name ours."""
    if not server.secrets:
        return server
    asked = ", ".join(one_line(description, 80) for description in server.secrets.values())
    return ClientServer(
        name=server.name, problem=f"its client asks for {asked}", hint=f"mcpchat import {file} asks for it too"
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists() and not path.is_dir()
    except (OSError, ValueError):
        return False


def name_address(url: str) -> str:
    """A name for the server at an address: what is particular in its host name."""
    host = urlsplit(url).hostname or ""
    parts = host.split(".")
    inner = parts[:-1] if len(parts) > 1 else parts  # without .com, .de and the like
    labels = [label for label in inner if label not in _COMMON_LABELS] if not _is_numeric(host) else []
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", labels[-1] if labels else host or "server").strip("-_")
    return name[:40] or "server"


def _is_numeric(host: str) -> bool:
    return ":" in host or re.fullmatch(r"[\d.]+", host) is not None


def read_address(text: str) -> dict[str, Any]:
    """The settings of the server at a URL. Raises UsageError for one without a valid host and port."""
    if problem := find_url_problem(text):
        raise UsageError(f"{text}: {problem}")
    return {"url": text}


def _read_command(text: str) -> dict[str, Any]:
    if "://" in text.partition(" ")[0]:
        raise UsageError(f"{text}: expected a URL that begins with https:// or http://, or a command")
    try:
        command, *args = shlex.split(text) or [""]
    except ValueError as error:
        raise UsageError(f"{text}: the quotes do not match", hint=_HINT) from error
    if not command or replace_surrogates(text) != text:
        raise UsageError(f"{one_line(text, 80)!r} is no command", hint=_HINT)
    return {"command": command, **({"args": args} if args else {})}


def add_named_servers(
    config: Config, texts: Sequence[str], environ: Mapping[str, str]
) -> tuple[Config, list[str], list[str]]:
    """The config with the servers that the texts name, their names in it, and a notice for each that cannot be used.

    A server that the config has already, under any name, keeps its entry: its name is returned. Raises UsageError for a
    text that names none, and for a name that another server of the config has.
    """
    servers, names, notices = dict(config.servers), [], []
    for text in texts:
        for found in parse_named_server(text, environ):
            name, entry = found.name, found.settings
            if found.problem:
                notices.append(f"{one_line(f'{text}: {name}', 200)} is left out: {one_line(found.problem, 300)}")
                continue
            server = _convert(name, entry, text)
            known = next((key for key, other in servers.items() if _is_same(other, server)), None)
            if known is None and is_address(text):
                name = next(free for free in _numbered(name) if free not in servers)
            elif known is None and name in servers and not _NAMED.fullmatch(text):  # a file: the others can be used
                free = next(free for free in _numbered(name) if free not in servers)
                notices.append(f"{one_line(text, 200)}: {name} is {free} here: the config has another server {name}")
                name = free
            elif known is None and name in servers:
                raise UsageError(
                    f"{text}: another server is named {name}", hint=f"choose a name: OTHER={entry.get('url', '...')}"
                )
            names.append(known or name)
            servers[known or name] = (
                server if known is None else msgspec.structs.replace(servers[known], enabled=server.enabled)
            )
    return msgspec.structs.replace(config, servers=servers), names, notices


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name[:35]}-{number}" for number in count(2))


def find_named_server(config: Config, texts: Sequence[str], name: str) -> str:
    """The name in the config of the server that ``NAME=URL`` or ``NAME='COMMAND ARGS'`` among the texts calls ``name``.

    The config may have it under another one. Without such a text it is ``name`` itself.
    """
    for text in texts if name not in config.servers else ():
        if (match := _NAMED.fullmatch(text)) and match["name"] == name:
            server = _convert(name, parse_named_server(text)[0].settings, text)
            return next((key for key, other in config.servers.items() if _is_same(other, server)), name)
    return name


def _is_same(one: ServerConfig, other: ServerConfig) -> bool:
    """Whether ``other``, which a command line names, is the server ``one`` of the config.

    The config may refer to a secret that the other has in plain text. Without headers of its own, an address means the
    server with those of the config.
    """
    if other.url is not None:
        return one.url == other.url and (not other.headers or one.headers == with_own_references(other, one, "headers"))
    other_env = with_own_references(other, one, "env")
    return (one.command, one.args, one.cwd, one.env) == (other.command, other.args, other.cwd, other_env)


def _convert(name: str, entry: dict[str, Any], text: str) -> ServerConfig:
    if not SERVER_NAME.fullmatch(name):
        raise UsageError(f"{text}: {name}: the name of a server has only letters, digits, - and _, at most 40")
    table = {"servers": {name: entry}}
    for path, problem in (*type_problems(table, Config, ()), *semantic_problems(table)):
        raise UsageError(f"{text}: {'.'.join(path[1:])}: {problem}")
    server = with_builtin_defaults(msgspec.convert(entry, ServerConfig))
    return NamedServer(**msgspec.structs.asdict(server))
