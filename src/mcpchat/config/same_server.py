"""Whether two entries of the config are the same server under different names."""

import re
import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from mcpchat.config.schema import NamedServer, ProjectServer, ServerConfig
from mcpchat.config.validation import REFERENCE
from mcpchat.util.urls import is_loopback

_RUNNERS = re.compile(
    r"(env|nice|nohup|timeout|time|stdbuf|sudo|sh|bash|zsh|dash|fish|cmd|powershell|pwsh|npx|npm|pnpm|pnpx|bun|bunx|yarn"
    r"|node|deno|tsx|ts-node|uv|uvx|pipx|python|pypy|py|docker|podman|dotnet|java|ruby|perl|php|go|cargo)"
    r"([\d.]*)(\.exe|\.cmd)?"
)
_ADDED = (ProjectServer, NamedServer)  # to the user's own config
_SUBCOMMANDS = {"run", "exec", "start", "tool", "dlx", "x", "install", "jar"}
_BUNDLED = re.compile(r"mcpchat_servers\.(\w+)")


def is_same_server(first: ServerConfig, second: ServerConfig) -> bool:
    """Whether both are the same bundled server, have URLs of the same origin, or run the same package or script."""
    if first.url or second.url:
        return bool(first.url and second.url) and _origin(first.url or "") == _origin(second.url or "")
    return _target(first) == _target(second)


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


def _target(server: ServerConfig) -> str:
    """What a command line is for: the package, script or program, without runners, options and versions."""
    if server.builtin:
        return f"builtin {server.builtin}"
    line = " ".join((server.command or "", *server.args))
    if bundled := _BUNDLED.search(line):
        return f"builtin {bundled[1]}"
    words = [PurePath(server.command or "").name, *(word for argument in server.args for word in _split(argument))]
    for position, word in enumerate(words):
        name = word if word.startswith("@") else PurePath(word).name
        is_subcommand = position > 0 and name in _SUBCOMMANDS
        if not name or word.startswith("-") or "=" in word or is_subcommand or _RUNNERS.fullmatch(name):
            continue
        return re.sub(r"(?<=.)@[\w.^~-]+$", "", name)
    return line


def _split(argument: str) -> list[str]:
    try:
        return shlex.split(argument) or [argument]
    except ValueError:
        return argument.split()


def _origin(url: str) -> tuple[str, int | None]:
    """The host and port of a URL. The scheme makes no difference: both lead to the same server."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".").encode("idna").decode().lower()
        return "this machine" if is_loopback(host) else host, parts.port if parts.port not in {80, 443} else None
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
