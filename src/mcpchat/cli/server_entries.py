"""The servers that a command line names to be added: URLs, commands, other clients' entries, names of the registry."""

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import Any

import typer

from mcpchat.cli.registry_install import InstallChoices, install, known_entry
from mcpchat.cli.runtime import run_async
from mcpchat.config.clients.entries import read_client_entry
from mcpchat.config.named_servers import is_address, parse_named_server, read_address
from mcpchat.config.run import RunContext
from mcpchat.config.stored_secrets import StoredSecrets, move_secret
from mcpchat.config.validation import SERVER_NAME, iter_literal_secrets
from mcpchat.errors import McpChatError, UsageError
from mcpchat.util.paths import expand_user
from mcpchat.util.sanitize import sanitize

_REGISTRY_NAME = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+/[A-Za-z0-9._-]+(@[\w.+!-]+)?")


def read_entries(
    name: str, target: list[str], builtin: str | None, context: Callable[[], RunContext], choices: InstallChoices
) -> dict[str, dict[str, Any]]:
    """The settings of the servers to add, by name: from a URL, a command, a bundled server's name, or other words.

    These are another client's JSON or file, a known server's name, or a name of the registry, which ``choices`` are
    about. Raises UsageError, and what ``install`` raises.
    """
    if registry_name := _registry_name(name, target, builtin):
        return _install(registry_name, name if target else None, context(), choices)
    if target or builtin is not None:
        return {name: _parse_target(target, builtin, name)}
    if SERVER_NAME.fullmatch(name):
        return {name: known_entry(name)}
    found = parse_named_server(name)
    for server in found:
        if server.problem:
            sys.stderr.write(f"{sanitize(f'{server.name} is left out: {server.problem}')}\n")
    return {server.name: server.settings for server in found if not server.problem}


def _install(
    registry_name: str, own: str | None, context: RunContext, choices: InstallChoices
) -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {}

    async def ask_registry() -> int:
        name, settings = await install(context, registry_name, own, choices)
        entries[name] = settings
        return 0

    run_async(ask_registry())
    return entries


def _registry_name(name: str, target: list[str], builtin: str | None) -> str:
    """The name of a server in the registry, with its version, if the command line names one; else empty."""
    text = target[0] if len(target) == 1 else name if not target else ""
    is_name = builtin is None and _REGISTRY_NAME.fullmatch(text) is not None
    return text if is_name and not expand_user(text).exists() else ""


def _parse_target(target: list[str], builtin: str | None, name: str) -> dict[str, Any]:
    """The entry's transport: exactly one of a URL, a command, another client's JSON and a bundled server's name."""
    if bool(target) == (builtin is not None):
        raise UsageError("expected one of URL, -- COMMAND... and --builtin NAME", hint="mcpchat servers add --help")
    if builtin is not None:
        return {"builtin": builtin}
    if target[0].lstrip().startswith(("{", '"')):
        return read_client_entry(" ".join(target), name)
    if len(target) == 1 and is_address(target[0]):
        return read_address(target[0])
    if "://" in target[0]:
        raise UsageError(f"{target[0]}: expected a URL that begins with https:// or http://, or -- COMMAND...")
    return {"command": target[0], "args": target[1:]} if target[1:] else {"command": target[0]}


def check_program(entry: Mapping[str, object], cwd: str | None) -> None:
    """Raise UsageError if the entry's program does not exist."""
    command = entry.get("command")
    if not isinstance(command, str):
        return
    if os.sep in command:
        if not (expand_user(cwd or ".") / expand_user(command)).exists():
            raise UsageError(f"there is no program {command}", hint="--no-check adds the server anyway")
        return
    if shutil.which(command):
        return
    words = command.split()
    if len(words) > 1 and shutil.which(words[0]):
        raise UsageError(f"{command!r} is one word", hint=f"without the quotes: mcpchat servers add NAME -- {command}")
    raise UsageError(f"there is no program {command!r} on PATH", hint="--no-check adds the server anyway")


def move_secrets(entries: Mapping[str, dict[str, Any]], store: StoredSecrets) -> dict[str, dict[str, Any]]:
    """The entries, whose secrets in plain text are references to the keyring if the user agrees."""
    found = list(iter_literal_secrets(entries))
    moved = {name: dict(entry) for name, entry in entries.items()}
    if not found:
        return moved
    names = ", ".join(f"{name}.{table}.{key}" for name, table, key in found)
    if not typer.confirm(f"keep {names} in the keyring, and not in the file?", default=True, err=True):
        return moved

    async def move() -> int:
        for name, table, key in found:
            moved[name] = await move_secret(moved[name], name, f"{table}.{key}", store)
        return 0

    try:
        run_async(move())
    except McpChatError as error:
        sys.stderr.write(f"warning: {error.message}; what was not moved stays in the file\n")
    return moved
