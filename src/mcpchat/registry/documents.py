"""The documents of the MCP registry's API, v0.1: what a publisher says of a server (``server.json``).

Source: the registry's published schema of 2025-12-11. Everything in them is untrusted text.
"""

from typing import Any

import msgspec
from msgspec import Struct, field

_OFFICIAL = "io.modelcontextprotocol.registry/official"  # the key of the official registry's own data


class Input(Struct, frozen=True, kw_only=True, rename="camel"):
    """A value that the user gives, or a fixed one. In ``value``, ``{NAME}`` stands for a variable."""

    value: Any = None
    default: Any = None
    description: str = ""
    is_required: bool = False
    is_secret: bool = False
    format: str = "string"
    choices: tuple[Any, ...] | None = None
    variables: dict[str, "Input"] | None = None
    placeholder: str = ""


class NamedInput(Input, frozen=True, kw_only=True, rename="camel"):
    """An environment variable, or an HTTP header."""

    name: str


class Argument(Input, frozen=True, kw_only=True, rename="camel"):
    """A part of a command line: positional, or an option with its ``name``."""

    type: str = "positional"
    name: str = ""
    value_hint: str = ""
    is_repeated: bool = False


class Transport(Struct, frozen=True, kw_only=True, rename="camel"):
    """How a server is reached: ``stdio``, ``streamable-http`` or ``sse``."""

    type: str = "stdio"
    url: str = ""
    headers: tuple[NamedInput, ...] | None = None
    variables: dict[str, Input] | None = None


class Package(Struct, frozen=True, kw_only=True, rename="camel"):
    """A package that contains the server. ``registry_type`` is npm, pypi, oci, nuget or another."""

    registry_type: str
    identifier: str
    version: str = ""
    registry_base_url: str = ""
    runtime_hint: str = ""
    transport: Transport = Transport()
    runtime_arguments: tuple[Argument, ...] | None = None
    package_arguments: tuple[Argument, ...] | None = None
    environment_variables: tuple[NamedInput, ...] | None = None


class Repository(Struct, frozen=True, kw_only=True):
    url: str = ""


class Server(Struct, frozen=True, kw_only=True, rename="camel"):
    """A server, in one version."""

    name: str
    version: str = ""
    title: str = ""
    description: str = ""
    status: str = "active"
    repository: Repository | None = None
    website_url: str = ""
    packages: tuple[Package, ...] | None = None
    remotes: tuple[Transport, ...] | None = None


class _Official(Struct, frozen=True, kw_only=True, rename="camel"):
    status: str = "active"
    is_latest: bool = True


class ServerResponse(Struct, frozen=True, kw_only=True):
    """A server with what the registry says of it."""

    server: Server
    meta: dict[str, msgspec.Raw] = field(default_factory=dict, name="_meta")

    @property
    def status(self) -> str:
        """``active``, ``deprecated`` or ``deleted``."""
        return self._official.status if _OFFICIAL in self.meta else self.server.status

    @property
    def is_latest(self) -> bool:
        return self._official.is_latest

    @property
    def _official(self) -> _Official:
        try:
            return msgspec.json.decode(self.meta.get(_OFFICIAL, b"{}"), type=_Official)
        except msgspec.MsgspecError:
            return _Official()


class Metadata(Struct, frozen=True, kw_only=True, rename="camel"):
    next_cursor: str | None = None


class ServerList(Struct, frozen=True, kw_only=True):
    """One page of servers, each decoded by itself: one with a fault does not hide the others."""

    servers: tuple[msgspec.Raw, ...] | None = None
    metadata: Metadata = Metadata()
