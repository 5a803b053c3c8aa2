"""The servers that words name to be added to the config: URLs, commands, other clients' entries, known names."""

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from mcpchat.config.clients.entries import read_client_entry
from mcpchat.config.named_servers import is_address, parse_named_server, read_address
from mcpchat.config.validation import SERVER_NAME
from mcpchat.errors import UsageError
from mcpchat.registry.known_servers import known_servers
from mcpchat.util.paths import expand_user
from mcpchat.util.sanitize import one_line
from mcpchat.util.text import suggest

_REGISTRY_NAME = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+/[A-Za-z0-9._-]+(@[\w.+!-]+)?")


def find_registry_name(name: str, target: Sequence[str], builtin: str | None) -> str:
    """The name of a server in the registry, with its version, if the words name one; else empty."""
    text = target[0] if len(target) == 1 else name if not target else ""
    is_name = builtin is None and _REGISTRY_NAME.fullmatch(text) is not None
    return text if is_name and not expand_user(text).exists() else ""


def parse_entries(name: str, target: Sequence[str], builtin: str | None) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The settings of the servers to add, by name, and a notice for each that cannot be used.

    The words are a name and a URL, a command, a bundled server's name or another client's JSON; or alone a known
    server's name, NAME=URL, NAME='COMMAND ARGS', a URL or another client's file. Raises UsageError.
    """
    if target and builtin is None and "=" in name:
        return parse_entries(f"{name} {shlex.join(target)}", (), None)  # NAME=COMMAND ARGS without quotes
    if len(target) == 1 and builtin is None and target[0].lower() in known_servers() and not shutil.which(target[0]):
        return {name: _known_entry(target[0])}, []
    if target or builtin is not None:
        return {name: _parse_target(target, builtin, name)}, []
    if SERVER_NAME.fullmatch(name):
        return {name: _known_entry(name)}, []
    found = parse_named_server(name)
    notices = [f"{server.name} is left out: {server.problem}" for server in found if server.problem]
    return {server.name: server.settings for server in found if not server.problem}, notices


def _known_entry(name: str) -> dict[str, Any]:
    """The settings of the known server of this name. Raises UsageError if there is none."""
    server = known_servers().get(name.lower())
    if server is None:
        hint = "give a URL, -- COMMAND..., or a name of the registry: mcpchat servers search WORDS"
        raise UsageError(f"no known server is named {one_line(name, 60)}; {suggest(name, known_servers())}", hint=hint)
    return server.settings


def _parse_target(target: Sequence[str], builtin: str | None, name: str) -> dict[str, Any]:
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
    return {"command": target[0], "args": list(target[1:])} if target[1:] else {"command": target[0]}


def check_program(entry: Mapping[str, object], cwd: str | None, *, hint: str) -> None:
    """Raise UsageError, with the hint, if the entry's program does not exist."""
    command = entry.get("command")
    if not isinstance(command, str):
        return
    if os.sep in command:
        if not (expand_user(cwd or ".") / expand_user(command)).exists():
            raise UsageError(f"there is no program {command}", hint=hint)
        return
    if shutil.which(command):
        return
    words = command.split()
    if len(words) > 1 and shutil.which(words[0]):
        raise UsageError(f"{command!r} is one word", hint=f"without the quotes: mcpchat servers add NAME -- {command}")
    raise UsageError(f"there is no program {command!r} on PATH", hint=hint)
