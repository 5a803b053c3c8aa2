"""Protocols and values between the hub, its connections and the credentials.

Imports no SDK: importing the MCP SDK takes a second.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from msgspec import Struct

from mcpchat.config.schema import ServerConfig
from mcpchat.core.catalog import Catalog, Prompt, ResourceTemplate, ServerInfo
from mcpchat.core.events import Emit
from mcpchat.core.messages import Content, Message, ToolResult
from mcpchat.core.protocols import ServerRequests
from mcpchat.core.tools import ToolSpec
from mcpchat.errors import McpChatError, ServerError
from mcpchat.mcp.catalog_cache import ProtocolMode
from mcpchat.mcp.tasks import TaskState
from mcpchat.mcp.timeouts import RequestTimeout

STATELESS_REVISION = "2026-07-28"
ChangeKind = Literal["tools", "prompts", "resources", "updated"]


class ConnectionLost(ServerError):
    """The connection is lost. ``may_have_run`` is False if the request certainly never reached the server.

    ``never_answered`` is True if the server never answered on it and the protocol was the remembered one, unconfirmed.
    ``session_lost`` is True if the server no longer knows the session.
    """

    def __init__(
        self,
        message: str,
        *,
        may_have_run: bool,
        never_answered: bool = False,
        session_lost: bool = False,
        hint: str = "",
        log: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, hint=hint, log=log)
        self.may_have_run = may_have_run
        self.never_answered = never_answered
        self.session_lost = session_lost


class TokenRejected(ServerError):
    """A tool reports that its provider rejects the server's token. Nothing has run. ``result`` is the tool's result."""

    def __init__(self, message: str, result: ToolResult) -> None:
        super().__init__(message)
        self.result = result


class HandshakeFailed(ServerError):
    """The server was reached, but the handshake failed. ``exited`` is True if the server may have ended over it.

    ``status`` is its HTTP status; None if it answered without an error, or not over HTTP.
    """

    def __init__(
        self, message: str, *, exited: bool, status: int | None = None, hint: str = "", log: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message, hint=hint, log=log)
        self.exited = exited
        self.status = status


class ProtocolChanged(ServerError):
    """The server no longer speaks the remembered protocol. Nothing has run; the protocol must be detected again."""


@dataclass(frozen=True, kw_only=True)
class ServerSpec:
    """What a connection to one server needs to know, the same for every attempt.

    ``timeout`` is the time to connect, in seconds. ``on_log`` receives the server's stderr and log messages.
    ``on_change`` is called if one of its lists changes, and with the URI if a watched resource does.
    """

    name: str
    config: ServerConfig
    timeout: float
    request_handler: ServerRequests
    sign_in_hint: Callable[[], str]
    on_log: Callable[[str], None]
    on_change: Callable[[ChangeKind, str], None]


class CatalogListing(Struct, frozen=True, kw_only=True):
    """Everything that the server lists. ``ttl`` is its validity in seconds, None if the server does not say."""

    catalog: Catalog
    ttl: float | None = None


class TaskConnection(Protocol):
    """The requests about tasks on one connection. They raise ServerError, SignInNeeded, TaskLost, TaskRefused.

    ``spec`` is the tool that the task runs, None if it is no longer known.
    """

    async def get(self, spec: ToolSpec | None, call_id: str, task_id: str, timeout: RequestTimeout) -> TaskState: ...
    async def fetch_result(
        self, spec: ToolSpec | None, call_id: str, task_id: str, timeout: RequestTimeout
    ) -> ToolResult: ...
    async def answer(self, task_id: str, requests: Mapping[str, Any], timeout: RequestTimeout) -> None: ...
    async def cancel(self, task_id: str, timeout: RequestTimeout) -> None: ...


class Connection(Protocol):
    """A live session with one server. Requests raise ServerError, SignInNeeded, and ToolFailed if it refuses one."""

    @property
    def is_alive(self) -> bool: ...
    @property
    def mode(self) -> ProtocolMode: ...
    @property
    def info(self) -> ServerInfo: ...
    async def list_all(self, part: Literal["tools", "others", "all"] = "all") -> CatalogListing: ...
    async def call(
        self, spec: ToolSpec, call_id: str, arguments: dict[str, Any], emit: Emit, timeout: RequestTimeout
    ) -> ToolResult | TaskState: ...
    @property
    def tasks(self) -> TaskConnection: ...
    async def read_resource(self, uri: str, timeout: RequestTimeout) -> Sequence[Content]: ...
    async def get_prompt(
        self, name: str, arguments: Mapping[str, str], timeout: RequestTimeout
    ) -> Sequence[Message]: ...
    async def complete(
        self,
        target: Prompt | ResourceTemplate,
        argument: str,
        value: str,
        context: Mapping[str, str],
        timeout: RequestTimeout,
    ) -> Sequence[str]: ...
    async def subscribe(self, uris: Sequence[str] = ()) -> None: ...
    async def close(self) -> None: ...


class ServerAuth(Protocol):
    """What one connection of a server authenticates with."""

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variables with the token, for the server's process."""
        ...

    @property
    def http_auth(self) -> Any:
        """The HTTP library's Auth object that signs requests to a remote server; None if they are not signed."""
        ...

    @property
    def renewal(self) -> Literal["no", "soon", "now"]:
        """Whether the process needs a new token: not yet, soon, or now because its token has expired."""
        ...

    @property
    def error(self) -> McpChatError | None:
        """Why requests to a remote server could not be signed, if the reason is not a missing login."""
        ...

    def reject(self) -> None:
        """Report that the provider rejected the token: it is not used again."""
        ...


class ServerLogin(Protocol):
    """The login that a server uses, as far as it is known without asking anyone."""

    @property
    def state(self) -> str:
        """Its state, for display."""
        ...

    @property
    def hint(self) -> str:
        """The command that signs in to the server."""
        ...

    @property
    def identity(self) -> Sequence[str]:
        """The settings that decide who the login is, which may be references to secrets."""
        ...

    @property
    def version(self) -> float:
        """When the user last signed in, in epoch seconds; 0 if never. A new sign-in changes it."""
        ...


class Credentials(Protocol):
    """The credentials of each server, by the server's name."""

    async def authenticate(self, server: str) -> ServerAuth:
        """Get what the next connection authenticates with; a token is renewed if needed.

        Raises SignInNeeded if the user must sign in, ServerError if the token's issuer cannot be reached, ConfigError,
        StoreError.
        """
        ...

    async def sign_in(self, server: str) -> bool:
        """Ask the user to sign in. True if they did."""
        ...

    def describe(self, server: str) -> ServerLogin:
        """Describe the login that the server uses."""
        ...
