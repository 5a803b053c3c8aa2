"""Every error that mcpchat raises on purpose.

    McpChatError            1   failed in some other way
    ├── StoreError          1   what is to be kept cannot be, or be read: logins, threads
    │   └── ThreadMoved     1   a thread's current branch is another than it was
    ├── UsageError          2   the command line asks for something impossible
    ├── ConfigError         2   the configuration cannot be used
    ├── NoModel             2   nothing says which model to talk to
    ├── SignInNeeded        3   a server or provider wants a login first
    ├── ServerError         4   a server could not be started, reached or heard
    ├── ToolFailed          5   a tool ran and reported failure
    ├── Denied              6   policy, or the person, said no
    ├── LimitReached        7   a limit on steps, tokens, cost or time
    └── ModelError          8   the model's API failed; ``kind`` says how

The number is the exit code of the process. ``hint`` is what the user can type or change.
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
]


class McpChatError(Exception):
    """An error with a message for the user, a hint how to fix it, and an exit code."""

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
    """Somebody else went on with the thread, or deleted it."""


class SignInNeeded(McpChatError):
    exit_code = 3
    kind = "sign_in"


class ServerError(McpChatError):
    """A server is down. ``log`` holds the last lines that it wrote to stderr."""

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

    ``retry_after`` is in seconds, as the server asked; ``window`` is how many tokens the model takes, and ``needed``
    how many it was given, where a server that was given too many says so; ``said`` is all that the server said, for
    who can read more in it.
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
    ) -> None:
        super().__init__(message, hint=hint)
        self.kind = kind
        self.retry_after = retry_after
        self.window = window
        self.requested_tokens = requested_tokens
        self.server_text = server_text
