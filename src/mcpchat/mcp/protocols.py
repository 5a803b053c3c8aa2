"""What the hub and a connection ask of each other; free of the SDK, whose import takes a whole second."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from msgspec import Struct

from mcpchat.core.catalog import Catalog, Prompt, ResourceTemplate, ServerInfo
from mcpchat.core.events import Emit
from mcpchat.core.messages import Content, Message, ToolResult
from mcpchat.core.protocols import ServerRequests
from mcpchat.core.tools import ToolSpec
from mcpchat.errors import McpChatError, ServerError
from mcpchat.mcp.catalog_cache import ProtocolMode
from mcpchat.mcp.process import ServerProcess
from mcpchat.mcp.timeouts import RequestTimeout

STATELESS_REVISION = "2026-07-28"
ChangeKind = Literal["tools", "prompts", "resources", "updated"]


class ConnectionLost(ServerError):
    """The connection is gone. ``may_have_run`` is False where the request certainly never reached the server.

    ``unheard`` is set where nothing was ever heard on it, and the protocol had been taken on trust.
    """

    def __init__(
        self,
        message: str,
        *,
        may_have_run: bool,
        never_answered: bool = False,
        hint: str = "",
        log: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, hint=hint, log=log)
        self.may_have_run = may_have_run
        self.never_answered = never_answered


class TokenRejected(ServerError):
    """A tool says that its provider no longer takes the server's token: nothing has run. ``result`` is what it said."""

    def __init__(self, message: str, result: ToolResult) -> None:
        super().__init__(message)
        self.result = result


class HandshakeFailed(ServerError):
    """The server is there, and does not take our greeting. ``left`` is set where it ended over it."""

    def __init__(self, message: str, *, exited: bool, log: tuple[str, ...] = ()) -> None:
        super().__init__(message, log=log)
        self.exited = exited


class ProtocolChanged(ServerError):
    """What was remembered of the server's protocol no longer holds: nothing has run, and it must be found out anew."""


@dataclass(frozen=True, kw_only=True)
class ConnectionParams:
    """All that it takes to connect to one server.

    Exactly one of ``process`` and ``url`` is set. ``era`` is what is known of its protocol: "modern" and "legacy" skip
    the finding out, and with "modern" ``info`` is what the server said of itself before. ``on_change`` hears of lists
    that changed, and of resources that did (then with the address).
    """

    name: str
    mode: ProtocolMode
    revision: str
    timeout: float
    max_message_bytes: int
    request_handler: ServerRequests
    on_log: Callable[[str], None]
    on_change: Callable[[ChangeKind, str], None]
    process: ServerProcess | None = None
    url: str | None = None
    sse: bool = False
    headers: Mapping[str, str]
    http_auth: Any = None
    sign_in_hint: Callable[[], str] = lambda: ""
    elicitation: bool
    sampling: bool
    roots: Sequence[str]
    info: ServerInfo | None = None


class CatalogListing(Struct, frozen=True, kw_only=True):
    """All that the server lists; ``ttl`` is how many seconds that holds, None where the server does not say."""

    catalog: Catalog
    ttl: float | None = None


class Connection(Protocol):
    @property
    def is_alive(self) -> bool: ...
    @property
    def mode(self) -> ProtocolMode: ...
    @property
    def info(self) -> ServerInfo: ...
    async def list_all(self, timeout: RequestTimeout, *, tools_only: bool = False) -> CatalogListing: ...
    async def call(
        self, spec: ToolSpec, call_id: str, arguments: dict[str, Any], emit: Emit, timeout: RequestTimeout
    ) -> ToolResult: ...
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


class Credentials(Protocol):
    """The logins that servers are given, by the servers' names. What asks for one raises SignInNeeded where a person
    must sign in, ServerError where whoever gives it cannot be reached, ConfigError, StoreError."""

    async def prefetch_token(self, server: str) -> None:
        """Have the token that the server's next process will get at hand."""
        ...

    async def token_environment(self, server: str) -> Mapping[str, str]:
        """What the server's process, which is about to start, gets of its login in its environment."""
        ...

    def renewal_state(self, server: str) -> Literal["no", "soon", "now"]:
        """When the token that the server's process has must be followed by a new one."""
        ...

    def reject_token(self, server: str) -> None:
        """The token that the server's process has was refused: the next one must be new."""
        ...

    def http_auth(self, server: str) -> Any:
        """What signs the requests to a remote server, as the HTTP library has it; None where nothing does."""
        ...

    def last_error(self, server: str) -> McpChatError | None:
        """Why the requests to a remote server went unsigned, where that is not for want of a login."""
        ...

    async def sign_in(self, server: str) -> bool:
        """Have the person sign in, if they want to: whether they did."""
        ...

    def sign_in_hint(self, server: str) -> str:
        """What to type, to sign in to the server."""
        ...

    def login_version(self, server: str) -> float:
        """When the server's login was made, 0 where there is none: it changes with a new one."""
        ...

    def describe(self, server: str) -> str:
        """How the login of the server is, for people."""
        ...


class SdkModule(Protocol):
    """How connections are made: the module ``mcp_server``."""

    async def connect(self, params: ConnectionParams) -> Connection: ...
