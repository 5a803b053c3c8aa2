"""Whether two entries of the config are the same server under different names."""

import re
import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from mcpchat.config.project_programs import INTERPRETER
from mcpchat.config.schema import NamedServer, ProjectServer, ServerConfig
from mcpchat.config.validation import REFERENCE
from mcpchat.core.shell_commands import WRAPPERS
from mcpchat.util.urls import is_loopback, plain_host

# They start a package or a program that follows; so do interpreters, and what runs any command.
_PACKAGE_RUNNERS = re.compile(
    r"(npx|npm|pnpm|pnpx|bunx|yarn|uv|uvx|pipx|py|docker|podman|java|go|cargo)([\d.]*)(\.exe|\.cmd)?"
)
_ADDED = (ProjectServer, NamedServer)  # to the user's own config
_SUBCOMMANDS = {"run", "exec", "start", "tool", "dlx", "x", "install", "jar"}
_VERSION = re.compile(r"(?<=.)(?:@[\w.^~*-]+|(?:\[[\w,-]*\])?[=<>~!]=.*|\[[\w,-]*\])$|\.(?:exe|cmd|bat)$")
_NUMBER = re.compile(r"[\d.]+[smhd]?")
_ANY_ADDRESS = {"0.0.0.0", "::"}  # noqa: S104 - to connect to them is to connect to this machine
_BUNDLED = re.compile(r"mcpchat_servers\.(\w+)")


def is_same_server(first: ServerConfig, second: ServerConfig) -> bool:
    """Whether both are the same bundled server, lead to the same origin, or run the same package or script.

    What one command line is for may be anywhere in the other: behind ``timeout 99`` or in the text of ``sh -c``.
    """
    if first.url and second.url:
        return _origin(first.url) == _origin(second.url)
    if first.url or second.url:  # such as: npx mcp-remote URL
        url, other = (first.url, second) if first.url else (second.url, first)
        return _origin(url or "") in {_origin(word) for word in _words(other) if "://" in word}
    first_targets, second_targets = _targets(first), _targets(second)
    return first_targets[0] in second_targets or second_targets[0] in first_targets


def with_own_references(other: ServerConfig, own: ServerConfig, key: str) -> Any:
    """The setting ``key`` of another entry; a secret in it counts as the reference to it that the own entry has."""
    value = getattr(other, key)
    if key not in ("env", "headers"):
        return value
    return {name: _own_reference(text, getattr(own, key).get(name)) for name, text in value.items()}


def _own_reference(text: str, own: str | None) -> str:
    """The config's own value if that is a reference to the keyring, which may be the secret in the client's file."""
    reference = REFERENCE.fullmatch((own or "").removeprefix("Bearer "))
    return own if own and reference and reference[1] != "env" and not text.startswith("env:") else text


def _targets(server: ServerConfig) -> list[str]:
    """What a command line may be for: its packages, scripts and programs, without runners, options and versions.

    The likeliest is the first.
    """
    if server.builtin:
        return [f"builtin {server.builtin}"]
    line = " ".join((server.command or "", *server.args))
    if bundled := _BUNDLED.search(line):
        return [f"builtin {bundled[1]}"]
    found = []
    for position, word in enumerate(_words(server)):
        word = re.sub(r"^-[\w-]*=", "", word)  # --package=NAME
        name = word if word.startswith("@") else PurePath(word).name
        is_subcommand = position > 0 and name in _SUBCOMMANDS
        if name and not word.startswith("-") and "=" not in word.replace("==", "") and not is_subcommand:
            found.append(_VERSION.sub("", name).casefold().replace("_", "-"))
    # A command line of runners alone is compared as a whole.
    return [name for name in found if not _is_runner(name) and not _NUMBER.fullmatch(name)] or [line]


def _is_runner(name: str) -> bool:
    return any(pattern.fullmatch(name) for pattern in (_PACKAGE_RUNNERS, INTERPRETER)) or name in WRAPPERS


def _words(server: ServerConfig) -> list[str]:
    return [server.command or "", *(word for argument in server.args for word in _split(argument))]


def _split(argument: str) -> list[str]:
    try:
        return shlex.split(argument) or [argument]
    except ValueError:
        return argument.split()


def _origin(url: str) -> tuple[str, int | None]:
    """The host and port of a URL. The scheme makes no difference: both lead to the same server."""
    try:
        parts = urlsplit(url)
        host = plain_host((parts.hostname or "").rstrip(".").encode("idna").decode().lower())
        is_here = is_loopback(host) or host in _ANY_ADDRESS
        return "this machine" if is_here else host, None if parts.port in {80, 443} else parts.port
    except ValueError:  # UnicodeError too
        return url, None


def find_aliases(servers: Mapping[str, ServerConfig]) -> dict[str, tuple[str, ...]]:
    """Return for each server of a project file or a command line the names that the user's own config has for it."""
    aliases = {
        name: tuple(
            own_name for own_name, own in servers.items() if not isinstance(own, _ADDED) and is_same_server(own, server)
        )
        for name, server in servers.items()
        if isinstance(server, _ADDED)
    }
    return {name: own_names for name, own_names in aliases.items() if own_names}
