"""What the core asks of the outside: a model, a toolbox, somebody to ask."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct

from mcpchat.core.approvals import Decision
from mcpchat.core.events import Emit, ReasoningDelta, ServerState, Stop, TextDelta
from mcpchat.core.messages import Message, ToolCall, ToolResult, Usage
from mcpchat.core.tools import ToolSpec


class ModelRequest(Struct, frozen=True, kw_only=True):
    """One request to a model. ``options`` are the API's own parameters, passed through (temperature, ...)."""

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: Literal["auto", "none"] = "auto"
    options: Mapping[str, Any] = {}


class CallStarted(Struct, frozen=True, kw_only=True):
    """The model has begun to write a call of this tool; the arguments are still to come."""

    name: str


class Retrying(Struct, frozen=True, kw_only=True):
    seconds: float
    why: str


class Done(Struct, frozen=True, kw_only=True):
    """The whole assistant message: exactly once, last."""

    message: Message
    usage: Usage
    stop: Stop


ModelEvent = TextDelta | ReasoningDelta | CallStarted | Retrying | Done


class Model(Protocol):
    def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Events of one answer, ending in exactly one Done. Raises ModelError."""
        ...


class Toolbox(Protocol):
    async def tools(self) -> Sequence[ToolSpec]:
        """The tools on offer, in a stable order. Starts only servers whose tools nothing knows yet."""
        ...

    def expect(self, spec: ToolSpec) -> None:
        """A call of this tool is about to come: a good moment to start its server."""
        ...

    async def call(self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit) -> ToolResult:
        """Run the tool. A failing tool is a result; failing machinery raises ServerError or SignInNeeded."""
        ...


class Asker(Protocol):
    async def approve(self, spec: ToolSpec, call: ToolCall, rule: str) -> Decision:
        """Ask the person whether this call may run; ``rule`` is why it is asked."""
        ...


class ServerStatus(Struct, frozen=True, kw_only=True):
    """``tools`` is None while nobody has asked the server; ``seconds`` is how long its start took."""

    name: str
    transport: str
    state: ServerState
    detail: str = ""
    tools: int | None = None
    auth: str = "none"
    seconds: float | None = None


class Servers(Protocol):
    def status(self) -> Sequence[ServerStatus]:
        """What is known of each configured server, without starting any."""
        ...

    async def refresh(self) -> Sequence[ToolSpec]:
        """The tools on offer, asked anew of every server."""
        ...
