"""Copies the servers of other clients into the config file, and their secrets into the keyring."""

import getpass
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from mcpchat.cli.output import is_terminal
from mcpchat.cli.runtime import current_run, run_for_value
from mcpchat.config import edit
from mcpchat.config.clients.plan import TRANSPORT_KEYS, PlannedServer
from mcpchat.config.run import default_paths
from mcpchat.config.stored_secrets import StoredSecrets, move_secret
from mcpchat.errors import Denied, UsageError
from mcpchat.util.sanitize import one_line


def add_to_config(text: str, servers: Iterable[tuple[PlannedServer, Mapping[str, Any]]]) -> str:
    """Add the servers to the text of the config file; of one that is there, the user's other settings stay."""
    for server, settings in servers:
        if edit.has_server(text, server.name):
            text = edit.merge_server(text, server.name, settings, TRANSPORT_KEYS)
        else:
            text = edit.add_server(text, server.name, settings)
    return text


def write_servers(config: Path | None, selected: Sequence[PlannedServer], *, yes: bool) -> None:
    """Write the servers. Raises UsageError or Denied, and writes nothing, if a secret in plain text may not move."""
    if not selected:
        return
    paths = default_paths(os.environ)
    path = config or paths.config
    moved = [f"{server.name}.{key}" for server in selected for key in server.moved_secrets]
    if moved and not yes:
        names = ", ".join(moved)
        if not is_terminal(sys.stdin, sys.stderr):
            raise UsageError(f"{names}: secrets in plain text", hint="--yes moves them into the keyring")
        if not typer.confirm(f"move {names} into the keyring?", default=True, err=True):
            raise Denied("nothing was imported: secrets never go into the file", hint="name the other servers")
    answers = {name: secret for server in selected for name, secret in _ask_secrets(server)}
    written = run_for_value(_store_secrets(selected, answers, StoredSecrets(paths.state)))
    edit.update(path, lambda text: add_to_config(text, written))
    sys.stderr.write(f"{one_line(str(path), 500)}: added {', '.join(server.name for server in selected)}\n")
    for server in selected:
        for name, description in server.asked_secrets.items():
            if name not in answers:
                sys.stderr.write(f"mcpchat secret set {name} stores its secret: {one_line(description, 100)}\n")
        if server.omitted:
            omitted = ", ".join(server.omitted)
            sys.stderr.write(f"{server.name}: {omitted} is not taken over; mcpchat asks before its calls\n")
    sys.stderr.write("mcpchat servers starts them and shows how they are\n")


def _ask_secrets(server: PlannedServer) -> Iterator[tuple[str, str]]:
    """What the user enters for the secrets that the other client asks for or keeps; nothing without a terminal."""
    for name, description in server.asked_secrets.items() if is_terminal(sys.stdin, sys.stderr) else ():
        text = one_line(description, 100)
        if secret := getpass.getpass(f"{server.name}: {text} (Enter: later): ", sys.stderr).strip():
            current_run().secrets.add(secret)
            yield name, secret


async def _store_secrets(
    selected: Sequence[PlannedServer], answers: Mapping[str, str], store: StoredSecrets
) -> list[tuple[PlannedServer, Mapping[str, Any]]]:
    """The servers with their settings for the file, whose secrets are in the keyring then."""
    written: list[tuple[PlannedServer, Mapping[str, Any]]] = []
    for server in selected:
        settings: Mapping[str, Any] = server.settings
        for key in server.moved_secrets:
            settings = await move_secret(settings, server.name, key, store)
        for name in server.asked_secrets:
            stored_name = await store.store_new(name, answers[name]) if name in answers else name
            settings = _rename(settings, name, stored_name)
        written.append((server, settings))
    return written


def _rename(value: Any, name: str, stored_name: str) -> Any:
    """The settings with the name under which a secret was stored."""
    if isinstance(value, dict):
        return {key: _rename(inner, name, stored_name) for key, inner in value.items()}
    references = {f"{prefix}keyring:{name}": f"{prefix}keyring:{stored_name}" for prefix in ("", "Bearer ")}
    return references.get(value, value) if isinstance(value, str) else value
