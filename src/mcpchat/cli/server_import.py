"""Copies the servers of other clients into the config file, and their secrets into the keyring."""

import getpass
import os
import sys
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import typer

from mcpchat.cli.output import is_terminal
from mcpchat.cli.runtime import current_run, run_for_value
from mcpchat.config import edit, schema
from mcpchat.config.clients.plan import PlannedServer, keys_to_replace, settings_to_write
from mcpchat.config.run import default_paths
from mcpchat.config.stored_secrets import StoredSecrets, find_keyring_references, move_secret
from mcpchat.errors import ConfigError, Denied, UsageError
from mcpchat.util.sanitize import one_line


def add_to_config(text: str, servers: Iterable[tuple[PlannedServer, Mapping[str, Any]]]) -> str:
    """Add the servers to the text of the config file; of one that is there, the user's other settings stay.

    Raises ConfigError if the new text is not valid.
    """
    for server, settings in servers:
        if edit.has_server(text, server.name):
            own = tomllib.loads(text)["servers"][server.name]
            text = edit.merge_server(text, server.name, settings, keys_to_replace(own, settings))
        else:
            text = edit.add_server(text, server.name, settings)
    schema.parse(text, "the config with the imported servers")
    return text


def write_servers(config: Path | None, selected: Sequence[PlannedServer], *, yes: bool) -> None:
    """Write the servers, and their secrets into the keyring.

    Raises UsageError, ConfigError or Denied, and writes nothing, if a secret in plain text may not move or the config
    would not be valid.
    """
    if not selected:
        return
    paths = default_paths(os.environ)
    path = config or paths.config
    text = edit.current_text(path)
    add_to_config(text, [(server, settings_to_write(server)) for server in selected])
    moved = [f"{server.name}.{key}" for server in selected for key in server.moved_secrets]
    if moved and not yes:
        names = ", ".join(moved)
        if not is_terminal(sys.stdin, sys.stderr):
            raise UsageError(f"{names}: secrets in plain text", hint="--yes moves them into the keyring")
        if not typer.confirm(f"move {names} into the keyring?", default=True, err=True):
            raise Denied("nothing was imported: secrets never go into the file", hint="name the other servers")
    answers = {(server.name, name): secret for server in selected for name, secret in _ask_secrets(server)}
    used = {name for name, _ in find_keyring_references(tomllib.loads(text))}
    written = run_for_value(_store_secrets(selected, answers, StoredSecrets(paths.state), used))
    edit.update(path, lambda text: add_to_config(text, [(one.server, one.settings) for one in written]))
    sys.stderr.write(f"{one_line(str(path), 500)}: added {', '.join(server.name for server in selected)}\n")
    for one in written:
        for name, description in one.missing_secrets.items():
            sys.stderr.write(f"mcpchat secret set {name} stores its secret: {one_line(description, 100)}\n")
        if one.server.omitted:
            omitted = ", ".join(one.server.omitted)
            sys.stderr.write(f"{one.server.name}: {omitted} is not taken over; mcpchat asks before its calls\n")
    sys.stderr.write("mcpchat servers starts them and shows how they are\n")


def _ask_secrets(server: PlannedServer) -> Iterator[tuple[str, str]]:
    """What the user enters for the secrets that the other client asks for or keeps; nothing without a terminal."""
    for name, description in server.asked_secrets.items() if is_terminal(sys.stdin, sys.stderr) else ():
        text = one_line(description, 100)
        if secret := getpass.getpass(f"{server.name}: {text} (Enter: later): ", sys.stderr).strip():
            current_run().secrets.add(secret)
            yield name, secret


@dataclass(frozen=True)
class _WrittenServer:
    """A server with its settings for the file, and the secrets that they refer to and the user has not given yet."""

    server: PlannedServer
    settings: Mapping[str, Any]
    missing_secrets: Mapping[str, str]


async def _store_secrets(
    selected: Sequence[PlannedServer],
    answers: Mapping[tuple[str, str], str],
    store: StoredSecrets,
    used: Collection[str],
) -> list[_WrittenServer]:
    """Store the secrets in the keyring. ``answers`` are by server and name, ``used`` the names in the config already.

    A secret that is not given yet gets a name of its own: the server must not get another secret of the user.
    """
    written, taken = [], set(used)
    for server in selected:
        settings: Mapping[str, Any] = server.settings
        missing = {}
        for key in server.moved_secrets:
            settings = await move_secret(settings, server.name, key, store)
        for name, description in server.asked_secrets.items():
            if secret := answers.get((server.name, name)):
                stored_name = await store.store_new(name, secret)
            else:
                stored_name = await _find_free(store, name, taken)
                missing[stored_name] = description
            taken.add(stored_name)
            settings = _rename(settings, name, stored_name)
        written.append(_WrittenServer(server, settings, missing))
    return written


async def _find_free(store: StoredSecrets, name: str, used: Collection[str]) -> str:
    """A name that no secret has; without a keyring one that none can have."""
    try:
        return await store.find_free(name, used)
    except ConfigError:
        return f"{name}-{token_hex(3)}"


def _rename(value: Any, name: str, stored_name: str) -> Any:
    """The settings with the name under which a secret was stored."""
    if isinstance(value, dict):
        return {key: _rename(inner, name, stored_name) for key, inner in value.items()}
    references = {f"{prefix}keyring:{name}": f"{prefix}keyring:{stored_name}" for prefix in ("", "Bearer ")}
    return references.get(value, value) if isinstance(value, str) else value
