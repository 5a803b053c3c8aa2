"""What the core asks of the outside: a model, a toolbox, somebody to ask."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from msgspec import Struct

from mcpchat.core.approvals import Decision
from mcpchat.core.catalog import Catalog, Prompt, Template
from mcpchat.core.elicitation import Answer, Form, Sample, SampleRequest, Visit
from mcpchat.core.events import Emit, ReasoningDelta, ServerState, Stop, TextDelta
from mcpchat.core.messages import Audio, Image, Link, Message, Text, ToolCall, ToolResult, Usage
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


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """A model by name, the adapter that speaks to it, and the options that go with each request.

    ``notice`` is what the person must know of it; said once, when it is first talked to.
    """

    name: str
    adapter: Model
    options: Mapping[str, Any] = field(default_factory=dict)
    notice: str = ""


class Toolbox(Protocol):
    async def tools(self) -> Sequence[ToolSpec]:
        """The tools on offer, in a stable order. Starts only servers whose tools nothing knows yet."""
        ...

    def expect(self, spec: ToolSpec) -> None:
        """A call of this tool is about to come: a good moment to start its server."""
        ...

    def check(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> str:
        """What is wrong with the arguments, by the tool's own schema; empty when nothing is."""
        ...

    async def call(self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit) -> ToolResult:
        """Run the tool. A failing tool is a result; failing machinery raises ServerError or SignInNeeded."""
        ...

    def instructions(self) -> Mapping[str, str]:
        """What the servers of the tools on offer want a model to know, by their names."""
        ...


class Asker(Protocol):
    async def approve(self, spec: ToolSpec, call: ToolCall, rule: str) -> Decision:
        """Ask the person whether this call may run; ``rule`` is why it is asked."""
        ...

    async def elicit(self, question: Form | Visit, problem: str) -> Answer:
        """Put a server's question to the person; ``problem`` is what was wrong with the answer before."""
        ...

    async def confirm(self, server: str, wish: str, details: str) -> bool:
        """Ask the person whether this server may have what it wishes; ``details`` is all of it."""
        ...


class Host(Protocol):
    """What servers may ask of the one that started them."""

    async def elicit(self, question: Form | Visit) -> Answer:
        """The person's answer, valid by the form's schema."""
        ...

    async def sample(self, request: SampleRequest) -> Sample | None:
        """The model's answer, or None where the person said no."""
        ...

    async def roots(self, server: str, folders: Sequence[str]) -> bool:
        """Whether the server may be told of these folders."""
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
    """The servers by their names. What asks one of them raises ServerError, SignInNeeded, or ToolFailed when it
    refuses."""

    def status(self) -> Sequence[ServerStatus]:
        """What is known of each configured server, without starting any."""
        ...

    def catalogs(self) -> Mapping[str, Catalog]:
        """What the servers list, as far as it is known, without starting any."""
        ...

    async def refresh(self) -> Sequence[ToolSpec]:
        """The tools on offer, asked anew of every server."""
        ...

    def log(self, server: str) -> str:
        """What the server has logged: the text of its file."""
        ...

    async def read(self, server: str, uri: str) -> Sequence[Text | Image | Audio | Link]:
        """The resource's contents."""
        ...

    async def prompt(self, server: str, name: str, arguments: Mapping[str, str]) -> Sequence[Message]:
        """The messages that the server makes of the prompt."""
        ...

    async def complete(
        self, server: str, of: Prompt | Template, argument: str, typed: str, given: Mapping[str, str]
    ) -> Sequence[str]:
        """The server's suggestions for a value that has been typed so far; ``given`` are the other values."""
        ...
