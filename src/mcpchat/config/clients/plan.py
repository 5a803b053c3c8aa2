"""What an import of other clients' servers would do to the config: which are new, there already, or cannot be used."""

import re
from collections.abc import Collection, Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Any, Literal

import msgspec
import tomlkit
from msgspec import Struct

from mcpchat.config.clients.conversion import Surroundings
from mcpchat.config.clients.entries import (
    MAX_BYTES,
    ClientServer,
    read_client_file,
    read_client_servers,
)
from mcpchat.config.clients.files import (
    CLIENT_NAMES,
    ClientFile,
    find_client_files,
    project_folder,
    select_clients,
)
from mcpchat.config.clients.likely_secrets import find_secrets, has_secret_address, has_secret_argument
from mcpchat.config.same_server import with_own_references
from mcpchat.config.schema import Config, ServerConfig, parse
from mcpchat.config.stored_secrets import secret_name
from mcpchat.config.validation import (
    SERVER_NAME,
)
from mcpchat.errors import ConfigError, UsageError
from mcpchat.util.paths import expand_user
from mcpchat.util.sanitize import one_line
from mcpchat.util.text import did_you_mean
from mcpchat.util.text_files import read_text

State = Literal["new", "same", "differs", "cannot"]
TRANSPORT_KEYS = ("command", "args", "url", "transport", "cwd", "env", "headers")
_NEUTRAL_KEYS = frozenset({
    "trust", "tools", "exclude", "enabled", "required", "timeouts", "max_parallel", "elicitation", "sampling", "roots",
})  # fmt: skip


class PlannedServer(Struct, frozen=True, kw_only=True):
    """A server of another client, and what its import would do.

    ``name`` is its name for mcpchat, and ``source_name`` the client's. ``detail`` says what differs, why it cannot be
    used, or which server of the config it is. ``moved_secrets`` are the keys of ``settings`` with a secret in plain
    text, as ``env.KEY``; ``asked_secrets`` those that the settings refer to by name and the client asks for or keeps.
    """

    name: str
    source_name: str
    state: State
    detail: str = ""
    hint: str = ""
    settings: dict[str, Any] = {}
    moved_secrets: tuple[str, ...] = ()
    asked_secrets: dict[str, str] = {}
    omitted: tuple[str, ...] = ()


class PlannedFile(Struct, frozen=True, kw_only=True):
    """The servers of one file, or the ``problem`` that it cannot be read."""

    client: str
    path: str
    is_project: bool = False
    servers: tuple[PlannedServer, ...] = ()
    problem: str = ""


def plan_import(
    files: Iterable[ClientFile | Path], config: Config, environ: Mapping[str, str]
) -> tuple[PlannedFile, ...]:
    """Plan the import of the servers in the files, in their order; nothing is changed.

    A server that an earlier file has too counts as the same; another one of its name gets a number.
    """
    planner = _Planner(config, environ)
    return tuple(map(planner.plan, files))


def plan_source(source: str, config: Config, folder: Path, environ: Mapping[str, str]) -> tuple[PlannedFile, ...]:
    """Plan the import from a client, by its name, or from a file.

    Raises UsageError if there is no such client or file, or it has no servers, or the file cannot be read.
    """
    if clients := select_clients(source):
        planned = plan_import(find_client_files(clients, folder, environ), config, environ)
        if not any(file.servers or file.problem for file in planned):
            titles = " and ".join(client.title for client in clients)
            raise UsageError(f"{titles} has no servers here", hint="mcpchat import shows what there is")
        return planned
    path = expand_user(source)
    if not path.is_file():
        known = did_you_mean(source, CLIENT_NAMES)
        name = one_line(source, 100)
        raise UsageError(f"{name}: no such client or file{known}", hint=f"clients: {', '.join(CLIENT_NAMES)}")
    planned = plan_import([path], config, environ)
    if problem := planned[0].problem:
        raise UsageError(f"{source}: {problem}")
    return planned


class _Planner:
    """Plans one file after the other. ``_imported`` has the servers of the files so far, by their new names."""

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        self._own = dict(config.servers)
        self._environ = environ
        self._imported: dict[str, ServerConfig] = {}

    def plan(self, file: ClientFile | Path) -> PlannedFile:
        client, path, is_project = "file", file, False
        if isinstance(file, ClientFile):
            client, path, is_project = file.client.name, file.path, file.is_project
        try:
            servers = tuple(map(self._plan_server, self._read(file)))
        except UsageError as error:
            return PlannedFile(client=client, path=str(path), is_project=is_project, problem=error.message)
        return PlannedFile(client=client, path=str(path), is_project=is_project, servers=servers)

    def _read(self, file: ClientFile | Path) -> list[ClientServer]:
        def is_set(name: str) -> bool:
            return bool(self._environ.get(name))

        if isinstance(file, ClientFile):
            text = read_text(file.path, max_bytes=MAX_BYTES, error=UsageError)
            return read_client_servers(text, Surroundings(folder=file.folder, is_set=is_set), file.path.suffix)
        return read_client_file(file, Surroundings(folder=project_folder(file), is_set=is_set))

    def _plan_server(self, server: ClientServer) -> PlannedServer:
        name = own_name(server.name)
        problem, hint = server.problem, server.hint
        if not problem:
            problem, hint = _find_problem(name, server.settings)
        if problem:
            return PlannedServer(name=name, source_name=server.name, state="cannot", detail=problem, hint=hint)
        converted = _convert(server.settings)
        known = {**self._own, **self._imported}
        if name in self._own and (different := _different_keys(converted, self._own[name])):
            item = _to_planned(name, server)
            return msgspec.structs.replace(item, state="differs", detail=", ".join(different))
        if (same := _find_same(name, converted, known)) is not None:
            item = _to_planned(same, server)
            return msgspec.structs.replace(item, name=name, state="same", detail="" if same == name else same)
        if name in known:
            name = next(free for free in (f"{name[:36]}-{n}" for n in count(2)) if free not in known)
        self._imported[name] = converted
        return _to_planned(name, server)


def _find_same(name: str, server: ServerConfig, known: Mapping[str, ServerConfig]) -> str | None:
    """The name of the same server among the known ones, if possible the same name; None if there is none."""
    names = [other for other, own in known.items() if not _different_keys(server, own)]
    return name if name in names else next(iter(names), None)


def _to_planned(name: str, server: ClientServer) -> PlannedServer:
    settings, asked = _name_secrets(name, server)
    return PlannedServer(
        name=name,
        source_name=server.name,
        state="new",
        settings=settings,
        moved_secrets=find_secrets(settings),
        asked_secrets=asked,
        omitted=server.omitted,
    )


def keys_to_replace(own: Mapping[str, Any], settings: Mapping[str, Any]) -> Collection[str]:
    """The keys of an own server that its replacement by another client's settings removes.

    Those of its command or address; if a command becomes an address or the reverse, all that belong to that.
    """
    if ("url" in own) == ("url" in settings):
        return TRANSPORT_KEYS
    return [key for key in own if key not in _NEUTRAL_KEYS]


def settings_to_write(item: PlannedServer) -> dict[str, Any]:
    """The settings as the config would have them: with references in place of secrets in plain text."""
    settings = dict(item.settings)
    for key in item.moved_secrets:
        table, _, name = key.partition(".")
        prefix = "Bearer " if settings[table][name].startswith("Bearer ") else ""
        settings[table] = {**settings[table], name: f"{prefix}keyring:{secret_name(item.name, name)}"}
    return settings


def own_name(name: str) -> str:
    """The name for a server that another client calls ``name``: letters, digits, - and _, at most 40."""
    if SERVER_NAME.fullmatch(name):
        return name
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-_")[:40].rstrip("-_") or "server"


def _name_secrets(name: str, server: ClientServer) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings, whose references to the client's secrets have a name of the server's own."""
    names = {secret: f"{name.lower()}-{secret}" for secret in server.secrets}

    def rename(value: str) -> str:
        prefix, secret = ("Bearer ", value[7:]) if value.startswith("Bearer ") else ("", value)
        own = names.get(secret.removeprefix("keyring:")) if secret.startswith("keyring:") else None
        return f"{prefix}keyring:{own}" if own else value

    settings = {
        key: {inner: rename(text) for inner, text in value.items()}
        if isinstance(value, dict) and key in ("env", "headers")
        else rename(value)
        if isinstance(value, str)
        else value
        for key, value in server.settings.items()
    }
    return settings, {names[secret]: description for secret, description in server.secrets.items()}


def _find_problem(name: str, settings: dict[str, Any]) -> tuple[str, str]:
    """Why the config cannot have the server, and what to do; empty if it can."""
    try:
        parse(tomlkit.dumps({"servers": {name: settings}}), "")
    except ConfigError as error:
        problem = error.message.splitlines()[0]
        return re.sub(rf"^:?\d*:?\s*servers\.{re.escape(name)}[.:]?\s*", "", problem), error.hint
    if has_secret_argument(settings.get("args", ())):
        hint = "set it as a variable, in env, if the server reads one"
        return "it has a secret on its command line, where every user of the machine can read it", hint
    if has_secret_address(settings):
        hint = f"mcpchat servers add {name} URL keeps it as it is; --mcp {name}=URL keeps nothing"
        return "its address has a secret in plain text, which the config would have too", hint
    return "", ""


def _convert(settings: dict[str, Any]) -> ServerConfig:
    return msgspec.convert(settings, ServerConfig)


def _different_keys(other: ServerConfig, own: ServerConfig) -> list[str]:
    """The settings in which another client's server differs from one of the config."""
    return [key for key in TRANSPORT_KEYS if with_own_references(other, own, key) != getattr(own, key)]
