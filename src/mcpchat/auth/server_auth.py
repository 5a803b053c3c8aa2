"""What a connection of a server authenticates with: nothing, a token in its environment, or signed requests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mcpchat.auth.providers.oauth import Token
from mcpchat.config.schema import ServerConfig
from mcpchat.errors import McpChatError

if TYPE_CHECKING:
    from mcpchat.auth.mcp.accounts import McpAccounts


class NoAuth:
    """For a server without a login."""

    environment: Mapping[str, str] = {}
    http_auth: Any = None
    renewal: Literal["no", "soon", "now"] = "no"
    error: McpChatError | None = None

    def reject(self) -> None:
        """Does nothing: there is no token."""


@dataclass(frozen=True)
class TokenAuth:
    """A provider's token in the environment of the server's process. ``rejected`` collects rejected tokens."""

    variable: str
    token: Token
    rejected: set[str]
    http_auth: Any = None
    error: McpChatError | None = None

    @property
    def environment(self) -> Mapping[str, str]:
        expires = self.token.expires
        expiry = {} if expires is None else {f"{self.variable}_EXPIRES_AT": f"{expires:.0f}"}
        return {self.variable: self.token.value, **expiry}

    @property
    def renewal(self) -> Literal["no", "soon", "now"]:
        if self.token.expired or self.token.value in self.rejected:
            return "now"
        return "soon" if self.token.expires_soon else "no"

    def reject(self) -> None:
        self.rejected.add(self.token.value)


@dataclass(frozen=True)
class OAuthAuth:
    """Signed requests to a remote server. The accounts are created at first use, because they import the MCP SDK."""

    server: str
    config: ServerConfig
    accounts: "Callable[[], McpAccounts]"
    environment: Mapping[str, str] = field(default_factory=dict)
    renewal: Literal["no", "soon", "now"] = "no"

    @property
    def http_auth(self) -> Any:
        return self.accounts().http_auth(self.server, self.config)

    @property
    def error(self) -> McpChatError | None:
        return self.accounts().last_error(self.server)

    def reject(self) -> None:
        """Does nothing: a rejected token is renewed within the request."""
