"""One tool call, as ``mcpchat calls`` shows it."""

from typing import Literal

from msgspec import Struct

Origin = Literal["ask", "chat", "call", "batch", "api"]


class CallRecord(Struct, frozen=True, kw_only=True):
    """One call: when (epoch seconds), from what, of which thread, the tool, its arguments as JSON without secrets.

    ``by`` and ``reason`` say who decided, and by which rule; without a decision (the arguments did not fit) ``by`` is
    empty. ``characters`` and ``tokens`` are the size of the result, ``error`` is the beginning of its text if it is an
    error.
    """

    at: float
    origin: Origin
    tool: str
    thread: str = ""
    arguments: str = ""
    allowed: bool = True
    by: Literal["policy", "user", ""] = ""
    reason: str = ""
    seconds: float = 0.0
    characters: int = 0
    tokens: int = 0
    error: str = ""

    @property
    def server(self) -> str:
        return self.tool.partition(".")[0]
