"""Whether two entries of the config are the same server under different names."""

from collections.abc import Mapping
from pathlib import PurePath
from urllib.parse import urlsplit

from mcpchat.config.schema import ProjectServer, ServerConfig


def is_same_server(first: ServerConfig, second: ServerConfig) -> bool:
    """Whether both are the same bundled server, have URLs of the same origin, or run the same command line."""
    if first.builtin or second.builtin:
        return first.builtin == second.builtin
    if first.url or second.url:
        return bool(first.url and second.url) and _origin(first.url or "") == _origin(second.url or "")
    return _command_line(first) == _command_line(second)


def _origin(url: str) -> tuple[str, int | None]:
    """The host and port of a URL. The scheme makes no difference: both lead to the same server."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".").encode("idna").decode().lower()
        return host, parts.port if parts.port not in {80, 443} else None
    except ValueError:  # UnicodeError too
        return url, None


def _command_line(server: ServerConfig) -> tuple[str, ...]:
    return (PurePath(server.command or "").name, *server.args)


def find_aliases(servers: Mapping[str, ServerConfig]) -> dict[str, tuple[str, ...]]:
    """Return for each server of a project file the names under which the user's own config has the same server."""
    aliases = {
        name: tuple(
            own_name
            for own_name, own in servers.items()
            if not isinstance(own, ProjectServer) and is_same_server(own, server)
        )
        for name, server in servers.items()
        if isinstance(server, ProjectServer)
    }
    return {name: own_names for name, own_names in aliases.items() if own_names}
