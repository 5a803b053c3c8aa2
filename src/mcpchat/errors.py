"""The errors that mcpchat raises.

    McpChatError            1   any other failure
    ├── StoreError          1   stored data (logins, threads) cannot be written or read
    │   └── ThreadConflict  1   another process changed or deleted the thread
    ├── UsageError          2   the command line is wrong
    ├── ConfigError         2   the configuration cannot be used
    ├── NoModelConfigured   2   no model is configured
    ├── SignInNeeded        3   a server or provider requires a sign-in first
    ├── ServerError         4   a server cannot be started or reached, or does not respond
    ├── ToolFailed          5   a tool ran and reported an error
    ├── Denied              6   the policy or the user denied a call
    ├── LimitReached        7   a limit on steps, tokens, cost or time
    └── ModelError          8   the model's API failed; ``kind`` says how

The number is the exit code of the process. ``hint`` says what the user can type or change.
"""

from typing import ClassVar, Literal

ModelErrorKind = Literal[
    "auth",
    "quota",
    "rate",
    "overloaded",
    "context",
    "bad_request",
    "network",
    "broken_stream",
    "server",
    "refused",
    "schema",
    "tool_limit",
]
# Kinds of ModelError after which the same request may succeed.
TRANSIENT_ERRORS: frozenset[str] = frozenset({"rate", "overloaded", "network", "server", "broken_stream"})


class McpChatError(Exception):
    """An error with a message for the user, a hint how to fix it, and the exit code of the process."""

    exit_code: ClassVar[int] = 1
    kind: str = "failed"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(McpChatError):
    exit_code = 2
    kind = "usage"


class ConfigError(McpChatError):
    exit_code = 2
    kind = "config"


class NoModelConfigured(McpChatError):
    exit_code = 2
    kind = "no_model"


class StoreError(McpChatError):
    kind = "store"


class ThreadConflict(StoreError):
    """Another process continued or deleted the thread."""


class SignInNeeded(McpChatError):
    exit_code = 3
    kind = "sign_in"


class ServerError(McpChatError):
    """A server is down. ``log`` holds the last lines that the server wrote to stderr."""

    exit_code = 4
    kind = "server"

    def __init__(self, message: str, *, hint: str = "", log: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.log = log


class ToolFailed(McpChatError):
    exit_code = 5
    kind = "tool"


class Denied(McpChatError):
    exit_code = 6
    kind = "denied"


class LimitReached(McpChatError):
    exit_code = 7
    kind = "limit"


class ModelError(McpChatError):
    """The model's API failed.

    ``retry_after`` is the delay in seconds that the server asked for. If the request was too long and the server
    reports the numbers, ``window`` is the model's context window and ``requested_tokens`` the size of the request, both
    in tokens. ``server_text`` is the server's full error text; callers may look for more details in it.
    ``status`` is the HTTP status, if the server answered with one.
    """

    exit_code = 8

    def __init__(
        self,
        message: str,
        *,
        kind: ModelErrorKind,
        hint: str = "",
        retry_after: float | None = None,
        window: int | None = None,
        requested_tokens: int | None = None,
        server_text: str = "",
        status: int | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.kind = kind
        self.retry_after = retry_after
        self.window = window
        self.requested_tokens = requested_tokens
        self.server_text = server_text
        self.status = status
