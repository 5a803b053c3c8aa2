"""What the hub and a connection ask of each other; free of the SDK, whose import takes a whole second."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from msgspec import Struct

from mcpchat.core.catalog import Catalog, Prompt, ServerInfo, Template
from mcpchat.core.events import Emit
from mcpchat.core.messages import Content, Message, ToolResult
from mcpchat.core.protocols import Host
from mcpchat.core.tools import ToolSpec
from mcpchat.errors import McpChatError, ServerError
from mcpchat.mcp.catalog_cache import Era
from mcpchat.mcp.process import ServerProcess
from mcpchat.mcp.timeouts import Patience

MODERN = "2026-07-28"
Change = Literal["tools", "prompts", "resources", "updated"]


class ConnectionLost(ServerError):
    """The connection is gone. ``may_have_run`` is False where the request certainly never reached the server.

    ``unheard`` is set where nothing was ever heard on it, and the protocol had been taken on trust.
    """

    def __init__(
        self, message: str, *, may_have_run: bool, unheard: bool = False, hint: str = "", log: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message, hint=hint, log=log)
        self.may_have_run = may_have_run
        self.unheard = unheard


class TokenRefused(ServerError):
    """A tool says that its provider no longer takes the server's token: nothing has run. ``result`` is what it said."""

    def __init__(self, message: str, result: ToolResult) -> None:
        super().__init__(message)
        self.result = result


class HandshakeFailed(ServerError):
    """The server is there, and does not take our greeting. ``left`` is set where it ended over it."""

    def __init__(self, message: str, *, left: bool, log: tuple[str, ...] = ()) -> None:
        super().__init__(message, log=log)
        self.left = left


class StaleDiscovery(ServerError):
    """What was remembered of the server's protocol no longer holds: nothing has run, and it must be found out anew."""


@dataclass(frozen=True, kw_only=True)
class Dial:
    """All that it takes to connect to one server.

    Exactly one of ``process`` and ``url`` is set. ``era`` is what is known of its protocol: "modern" and "legacy" skip
    the finding out, and with "modern" ``info`` is what the server said of itself before. ``on_change`` hears of lists
    that changed, and of resources that did (then with the address).
    """

    name: str
    era: Era
    revision: str
    timeout: float
    most_bytes: int
    host: Host
    log: Callable[[str], None]
    on_change: Callable[[Change, str], None]
    process: ServerProcess | None = None
    url: str | None = None
    sse: bool = False
    headers: Mapping[str, str]
    signer: Any = None
    sign_in_hint: Callable[[], str] = lambda: ""
    elicitation: bool
    sampling: bool
    roots: Sequence[str]
    info: ServerInfo | None = None


class Listing(Struct, frozen=True, kw_only=True):
    """All that the server lists; ``ttl`` is how many seconds that holds, None where the server does not say."""

    catalog: Catalog
    ttl: float | None = None


class Connection(Protocol):
    @property
    def alive(self) -> bool: ...
    @property
    def era(self) -> Era: ...
    @property
    def info(self) -> ServerInfo: ...
    async def list_all(self, patience: Patience, *, tools_only: bool = False) -> Listing: ...
    async def call(
        self, spec: ToolSpec, call_id: str, arguments: dict[str, Any], emit: Emit, patience: Patience
    ) -> ToolResult: ...
    async def read(self, uri: str, patience: Patience) -> Sequence[Content]: ...
    async def prompt(self, name: str, arguments: Mapping[str, str], patience: Patience) -> Sequence[Message]: ...
    async def complete(
        self, of: Prompt | Template, argument: str, typed: str, given: Mapping[str, str], patience: Patience
    ) -> Sequence[str]: ...
    async def watch(self, uris: Sequence[str] = ()) -> None: ...
    async def close(self) -> None: ...


class Credentials(Protocol):
    """The logins that servers are given, by the servers' names. What asks for one raises SignInNeeded where a person
    must sign in, ServerError where whoever gives it cannot be reached, ConfigError, StoreError."""

    async def prepare(self, server: str) -> None:
        """Have the token that the server's next process will get at hand."""
        ...

    async def variables(self, server: str) -> Mapping[str, str]:
        """What the server's process, which is about to start, gets of its login in its environment."""
        ...

    def due(self, server: str) -> Literal["no", "soon", "now"]:
        """When the token that the server's process has must be followed by a new one."""
        ...

    def refused(self, server: str) -> None:
        """The token that the server's process has was refused: the next one must be new."""
        ...

    def signer(self, server: str) -> Any:
        """What signs the requests to a remote server, as the HTTP library has it; None where nothing does."""
        ...

    def trouble(self, server: str) -> McpChatError | None:
        """Why the requests to a remote server went unsigned, where that is not for want of a login."""
        ...

    async def sign_in(self, server: str) -> bool:
        """Have the person sign in, if they want to: whether they did."""
        ...

    def hint(self, server: str) -> str:
        """What to type, to sign in to the server."""
        ...

    def stamp(self, server: str) -> float:
        """When the server's login was made, 0 where there is none: it changes with a new one."""
        ...

    def state(self, server: str) -> str:
        """How the login of the server is, for people."""
        ...


class Connector(Protocol):
    """How connections are made: the module ``mcp_server``."""

    async def connect(self, dial: Dial) -> Connection: ...
