"""The servers that a command line names to be added: URLs, commands, other clients' entries, names of the registry."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import typer

from mcpchat.app.server_entries import find_registry_name, parse_entries
from mcpchat.cli.registry_install import InstallChoices, install
from mcpchat.cli.runtime import run_async
from mcpchat.config.run import RunContext
from mcpchat.config.stored_secrets import StoredSecrets, move_secret
from mcpchat.config.validation import iter_literal_secrets
from mcpchat.errors import McpChatError
from mcpchat.util.sanitize import sanitize, sanitize_message


def read_entries(
    name: str, target: list[str], builtin: str | None, context: Callable[[], RunContext], choices: InstallChoices
) -> dict[str, dict[str, Any]]:
    """The settings of the servers to add, by name: from a URL, a command, a bundled server's name, or other words.

    These are another client's JSON or file, a known server's name, or a name of the registry, which ``choices`` are
    about. Raises UsageError, and what ``install`` raises.
    """
    if registry_name := find_registry_name(name, target, builtin):
        own, settings = install(context(), registry_name, name if target else None, choices)
        return {own: settings}
    entries, notices = parse_entries(name, target, builtin)
    sys.stderr.write("".join(f"{sanitize(notice)}\n" for notice in notices))
    return entries


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
        sys.stderr.write(f"warning: {sanitize_message(error.message)}; what was not moved stays in the file\n")
    return moved
