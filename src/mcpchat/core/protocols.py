"""What the core asks of the outside: a model, a toolbox, somebody to ask."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from msgspec import Struct

from mcpchat.core.catalog import Catalog, Prompt, ResourceTemplate
from mcpchat.core.elicitation import ElicitationResult, Form, SamplingRequest, SamplingResult, UrlRequest
from mcpchat.core.events import Emit, Notice, ReasoningDelta, ServerState, StopReason, TextDelta
from mcpchat.core.messages import Content, Message, ToolResult, Usage
from mcpchat.core.policy import ApprovalRequest, Decision
from mcpchat.core.threads import CleanupReport, NewMessage, SearchResult, Thread, ThreadFilter, ThreadMessage
from mcpchat.core.tools import ToolSpec
from mcpchat.errors import McpChatError, ServerError, SignInNeeded


class ModelOptions(Struct, frozen=True, kw_only=True):
    """How a model is to answer; None leaves it to the server. ``extra_body`` goes into the request as it is."""

    temperature: float | None = None
    max_output_tokens: int | None = None
    reasoning_effort: str | None = None
    extra_body: dict[str, Any] = {}


class ModelRequest(Struct, frozen=True, kw_only=True):
    """One request to a model.

    ``system`` is what it is told before the conversation; ``schema`` is the JSON Schema that its final answer must
    fit; ``cache_key`` is the same for requests that begin alike.
    """

    model: str
    messages: tuple[Message, ...] = ()
    system: str = ""
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: Literal["auto", "none"] = "auto"
    options: ModelOptions = ModelOptions()
    schema: dict[str, Any] | None = None
    cache_key: str = ""


class ToolCallStarted(Struct, frozen=True, kw_only=True):
    """The model has begun to write a call of this tool; the arguments are still to come."""

    name: str


class Retrying(Struct, frozen=True, kw_only=True):
    """The request failed in passing, and is made again after so many seconds."""

    seconds: float
    reason: str

    @property
    def text(self) -> str:
        return f"{self.reason}; trying again in {self.seconds:.{0 if self.seconds >= 1 else 1}f} s"


class Compacted(Struct, frozen=True, kw_only=True):
    """The conversation outgrew the model's window: ``message`` is the note that must join the history."""

    message: Message


class ExtraUsage(Struct, frozen=True, kw_only=True):
    """A request that brought no answer to the conversation took this: a summary, or an answer that broke off."""

    usage: Usage


class ResponseDone(Struct, frozen=True, kw_only=True):
    """The whole assistant message: exactly once, last. ``stop`` is drawn from what came, not from what was claimed."""

    message: Message
    usage: Usage
    stop: StopReason


ModelEvent = TextDelta | ReasoningDelta | ToolCallStarted | Retrying | Notice | Compacted | ExtraUsage | ResponseDone


class Model(Protocol):
    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Events of one answer, ending in exactly one Done. Raises ModelError."""
        ...


async def _unknown_window(tokens: int) -> int | None:
    return None


@dataclass(frozen=True, kw_only=True)
class SelectedModel:
    """A model by name, the adapter that speaks to it, and the options that go with each request.

    ``chosen`` is what was said to choose it. ``notice`` is what the person must know of it; said once, when it is first
    talked to. ``at`` is where it is, for people. ``window`` finds out how many tokens it can take, None where nobody
    knows; it is given the size of what is to be sent, as a reason to look or not. ``price`` is what a request cost, in
    US dollars, None where that is not known.
    """

    name: str
    adapter: Model
    options: ModelOptions = field(default_factory=ModelOptions)
    selector: str = ""
    notice: str = ""
    endpoint: str = ""
    window: Callable[[int], Awaitable[int | None]] = _unknown_window
    price: Callable[[Usage], float | None] | None = None


class Toolbox(Protocol):
    async def list_tools(self) -> Sequence[ToolSpec]:
        """The tools on offer, in a stable order. Starts only servers whose tools nothing knows yet."""
        ...

    def prestart(self, spec: ToolSpec) -> None:
        """A call of this tool is about to come: a good moment to start its server."""
        ...

    def validate_arguments(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> str:
        """What is wrong with the arguments, by the tool's own schema; empty when nothing is."""
        ...

    async def call(self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit) -> ToolResult:
        """Run the tool. A failing tool is a result; failing machinery raises ServerError or SignInNeeded."""
        ...

    def instructions(self) -> Mapping[str, str]:
        """What the servers of the tools on offer want a model to know, by their names."""
        ...


class CatalogToolbox(Toolbox, Protocol):
    """A toolbox that also knows what each server lists."""

    def catalogs(self) -> Mapping[str, Catalog]:
        """What the servers list, as far as it is known, without starting any."""
        ...


class UserDialog(Protocol):
    async def confirm_continue(self, rounds: int) -> bool:
        """Ask the person whether the model may go on, after so many rounds of tool calls."""
        ...

    async def approve(self, request: ApprovalRequest) -> Decision:
        """Ask the person whether this call may run.

        A decision with ``arguments`` is none yet: the same is asked again, with these.
        """
        ...

    async def elicit(self, request: Form | UrlRequest, problem: str) -> ElicitationResult:
        """Put a server's question to the person; ``problem`` is what was wrong with the answer before."""
        ...

    async def confirm(self, server: str, action: str, details: str) -> bool:
        """Ask the person whether this server may have what it wishes; ``details`` is all of it."""
        ...


class ThreadStore(Protocol):
    """Where threads are kept. Everything raises StoreError where it cannot be done."""

    def append(self, thread: Thread, parent: int, messages: Sequence[NewMessage]) -> Thread:
        """Keep the messages, each after the one before, the first after the message ``parent``; the last is the head.

        All or none are there afterwards, whatever happens. A thread without a head is made if need be. Raises
        ThreadMoved where the thread's head is not what ``thread`` says.
        """
        ...

    def move(self, thread: Thread, head: int) -> Thread:
        """Make another message the head. Raises ThreadMoved."""
        ...

    def import_thread(self, thread: Thread, nodes: Sequence[ThreadMessage], blobs: Sequence[bytes] = ()) -> bool:
        """Keep a whole thread as it is, with the results that its messages point to; False where its id is taken."""
        ...

    def find(self, name: str) -> Thread:
        """The thread by its id, the beginning of it, or its title. Raises UsageError where that is none, or several."""
        ...

    def latest(self) -> Thread | None:
        """The thread that changed last."""
        ...

    def nodes(self, thread: Thread) -> Sequence[ThreadMessage]:
        """All messages, in the order of their numbers. In the place of one that cannot be read stands an empty note."""
        ...

    def recent(self, thread_filter: ThreadFilter, limit: int, before: Thread | None = None) -> Sequence[Thread]:
        """The threads that changed last, ``before`` this one in time; the latest first."""
        ...

    def search(self, thread_filter: ThreadFilter, query: str, limit: int) -> Sequence[SearchResult]:
        """The threads that say this, the newest first. Raises UsageError for words that cannot be looked for."""
        ...

    def ids(self) -> Sequence[str]:
        """The ids of all threads, the oldest first."""
        ...

    def rename(self, thread: Thread, title: str, *, named: bool = True) -> None:
        """Give it another title; without ``named`` only where no person gave it one."""
        ...

    def delete(self, thread: Thread) -> None: ...

    def count_older(self, before: float) -> int:
        """How many threads did not change since then."""
        ...

    def clean_up(self, *, before: float | None = None) -> CleanupReport:
        """Throw away what nothing uses, and what did not change since then; make the database small again."""
        ...

    def check(self) -> None:
        """Look at all that is kept, and repair it where it is damaged."""
        ...

    def close(self) -> None: ...

    def get_blob(self, key: str, thread: Thread | None) -> bytes | None:
        """The content by its hash, or the beginning of it; None where there is none.

        With a ``thread``, only where a message of that one holds it or points to it.
        """
        ...


class Approvals(Protocol):
    """The tools that the person said "always" to, just as they were then."""

    def approved_on(self, tool: ToolSpec) -> str:
        """The date of that, for people; empty where it was not said, or of another definition."""
        ...

    def approve_always(self, tool: ToolSpec) -> None:
        """Keep it. Raises StoreError."""
        ...


class ServerRequests(Protocol):
    """What servers may ask of the one that started them."""

    async def elicit(self, request: Form | UrlRequest) -> ElicitationResult:
        """The person's answer, valid by the form's schema."""
        ...

    async def sample(self, request: SamplingRequest) -> SamplingResult | None:
        """The model's answer, or None where the person said no."""
        ...

    async def allow_roots(self, server: str, folders: Sequence[str]) -> bool:
        """Whether the server may be told of these folders."""
        ...


class SignInDialog(Protocol):
    """What a person sees of a sign-in, and can do about it. ``interactive``: somebody is there."""

    @property
    def interactive(self) -> bool: ...

    def exclusive(self) -> AbstractAsyncContextManager[None]:
        """Have the terminal for the sign-in alone, while inside."""
        ...

    def show_url(self, url: str, *, provider_name: str, warning: str, timeout: float) -> None:
        """Show the address to open, before any browser is; it is waited for ``patience`` seconds."""
        ...

    def report_browser(self, started: bool) -> None:
        """Say whether a browser was started."""
        ...

    def show_error(self, text: str) -> None:
        """Say what is wrong with what was pasted."""
        ...

    def notify(self, text: str) -> None:
        """Say what is going on."""
        ...

    async def read_pasted_url(self) -> str:
        """A line that the person pastes. Never returns where nobody is there."""
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

    def error(self) -> McpChatError | None:
        """Why the server is down; None if it is not."""
        first, *rest = self.detail.splitlines() or [""]
        if self.state == "login":
            return SignInNeeded(first, hint="\n".join(rest))
        return ServerError(f"{self.name} is down: {first}", log=tuple(rest)) if self.state == "failed" else None


class ServerDirectory(Protocol):
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

    async def read_resource(self, server: str, uri: str) -> Sequence[Content]:
        """The resource's contents."""
        ...

    async def get_prompt(self, server: str, name: str, arguments: Mapping[str, str]) -> Sequence[Message]:
        """The messages that the server makes of the prompt."""
        ...

    async def complete(
        self,
        server: str,
        reference: Prompt | ResourceTemplate,
        argument: str,
        value: str,
        known_arguments: Mapping[str, str],
    ) -> Sequence[str]:
        """The server's suggestions for a value that has been typed so far; ``given`` are the other values."""
        ...
