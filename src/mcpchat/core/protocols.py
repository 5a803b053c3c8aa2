"""The protocols between packages: models, toolboxes, dialogs with the user, thread stores, servers."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from msgspec import Struct

from mcpchat.core.catalog import Catalog, Prompt, ResourceTemplate
from mcpchat.core.elicitation import ElicitationResult, Form, SamplingRequest, SamplingResult, UrlRequest
from mcpchat.core.events import Emit, Notice, ReasoningDelta, ServerState, StopReason, TextDelta
from mcpchat.core.messages import Content, Message, ToolResult, Usage
from mcpchat.core.policy import ApprovalRequest, Decision
from mcpchat.core.server_task import ServerTask
from mcpchat.core.threads import CleanupReport, NewMessage, SearchResult, Thread, ThreadFilter, ThreadMessage
from mcpchat.core.tools import ToolSpec
from mcpchat.core.usage_report import UsageEntry
from mcpchat.errors import McpChatError, ServerError, SignInNeeded


class ModelOptions(Struct, frozen=True, kw_only=True):
    """Options of a model; None leaves the choice to its server. ``extra_body`` is added to the request unchanged."""

    temperature: float | None = None
    max_output_tokens: int | None = None
    reasoning_effort: str | None = None
    extra_body: dict[str, Any] = {}


class ModelRequest(Struct, frozen=True, kw_only=True):
    """One request to a model.

    ``system`` is the system prompt; ``schema`` is the JSON Schema that the final answer must match; ``cache_key`` is
    the same for requests that share a prefix. ``native_search``: search tools with the provider's own tool search, if
    its API has one.
    """

    model: str
    messages: tuple[Message, ...] = ()
    system: str = ""
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: Literal["auto", "none"] = "auto"
    options: ModelOptions = ModelOptions()
    schema: dict[str, Any] | None = None
    cache_key: str = ""
    native_search: bool = False


class ToolCallStarted(Struct, frozen=True, kw_only=True):
    """The model has started a call of this tool. The arguments follow."""

    name: str


class Retrying(Struct, frozen=True, kw_only=True):
    """The request failed with a transient error and is repeated after ``seconds``."""

    seconds: float
    reason: str

    @property
    def text(self) -> str:
        return f"{self.reason}; trying again in {self.seconds:.{0 if self.seconds >= 1 else 1}f} s"


class Compacted(Struct, frozen=True, kw_only=True):
    """The conversation was compacted to fit the context window. ``message`` must be added to the history."""

    message: Message


class ExtraUsage(Struct, frozen=True, kw_only=True):
    """The usage of a request that added no answer to the conversation: a summary, or an interrupted answer."""

    usage: Usage


class ResponseDone(Struct, frozen=True, kw_only=True):
    """The complete assistant message: the last event, exactly once.

    ``stop`` is derived from the received content, not from the reason that the server reports.
    """

    message: Message
    usage: Usage
    stop: StopReason


ModelEvent = TextDelta | ReasoningDelta | ToolCallStarted | Retrying | Notice | Compacted | ExtraUsage | ResponseDone


class Model(Protocol):
    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Stream the events of one answer; the last one is ResponseDone. Raises ModelError if the request fails."""
        ...


class Embedder(Protocol):
    """A model that turns texts into vectors. ``name`` names it and its server: only its own vectors can be compared."""

    @property
    def name(self) -> str: ...

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """The vector of each text, in their order, all of one length. Raises ModelError."""
        ...


async def _unknown_window(tokens: int) -> int | None:
    return None


async def _cannot_count(request: ModelRequest) -> int | None:
    return None


@dataclass(frozen=True, kw_only=True)
class SelectedModel:
    """A model by name, its adapter, and the options for each request.

    ``selector`` is the name by which it was selected. ``notice`` is shown to the user once, before the first request.
    ``endpoint`` says where the model runs, for display. ``window`` finds the context window in tokens, None if it is
    unknown; its argument is the size of the next request in tokens, so that it can skip the lookup for small requests.
    ``price`` returns the cost of a request in US dollars, None if it is unknown. ``max_tools`` returns how many tools
    the model's server takes, None if it has not refused a number of tools yet. ``count_tokens`` lets the server count
    the input of a request without an answer; None if it cannot.
    """

    name: str
    adapter: Model
    options: ModelOptions = field(default_factory=ModelOptions)
    selector: str = ""
    notice: str = ""
    endpoint: str = ""
    window: Callable[[int], Awaitable[int | None]] = _unknown_window
    price: Callable[[Usage], float | None] | None = None
    max_tools: Callable[[], int | None] = lambda: None
    count_tokens: Callable[[ModelRequest], Awaitable[int | None]] = _cannot_count


class Toolbox(Protocol):
    """The tools that a model can call."""

    async def list_tools(self) -> Sequence[ToolSpec]:
        """The available tools, in a stable order. Starts only servers whose tools are not known yet.

        May open a browser for a sign-in, or ask the user to approve changed tools.
        """
        ...

    def prestart(self, spec: ToolSpec) -> None:
        """Announce a call of this tool, so that its server can start early."""
        ...

    def validate_arguments(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> str:
        """Describe why the arguments do not match the tool's schema; empty if they do."""
        ...

    async def call(self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit) -> ToolResult:
        """Run the tool. If the tool itself fails, the result says so.

        Raises ServerError if the server fails, SignInNeeded if it requires a sign-in.
        """
        ...

    def instructions(self) -> Mapping[str, str]:
        """The instructions for the model from the servers of the available tools, by server name."""
        ...


class ToolboxWrapper:
    """A Toolbox around another one, which it forwards to. A subclass overrides the methods that it changes."""

    def __init__(self, inner: Toolbox) -> None:
        self._inner = inner

    async def list_tools(self) -> Sequence[ToolSpec]:
        return await self._inner.list_tools()

    def prestart(self, spec: ToolSpec) -> None:
        self._inner.prestart(spec)

    def validate_arguments(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> str:
        return self._inner.validate_arguments(spec, arguments)

    def instructions(self) -> Mapping[str, str]:
        return self._inner.instructions()

    async def call(self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit) -> ToolResult:
        return await self._inner.call(spec, call_id, arguments, emit)


class CatalogToolbox(Toolbox, Protocol):
    """A toolbox that also knows the catalog of each server."""

    def catalogs(self) -> Mapping[str, Catalog]:
        """The known catalogs by server name. Starts no server."""
        ...


class UserDialog(Protocol):
    """Questions to the user during a turn."""

    async def confirm_continue(self, rounds: int) -> bool:
        """Ask the user whether the model may continue after this number of tool rounds."""
        ...

    async def approve(self, request: ApprovalRequest) -> Decision:
        """Ask the user whether this call may run.

        If the decision has ``arguments``, it is not final: the caller asks again with the edited arguments.
        """
        ...

    async def elicit(self, request: Form | UrlRequest, problem: str) -> ElicitationResult:
        """Show a server's request to the user. ``problem`` is the error in the previous answer."""
        ...

    async def confirm(self, server: str, action: str, details: str) -> bool:
        """Ask the user whether the server may do this. ``details`` is the full text of the request."""
        ...


class TaskStore(Protocol):
    """A store for the tasks that servers run. Every method raises StoreError if the operation fails."""

    def save(self, task: ServerTask) -> None:
        """Store the task, or its new state."""
        ...

    def recent(self) -> Sequence[ServerTask]:
        """All tasks; the one that changed last is first."""
        ...

    def find(self, name: str) -> ServerTask:
        """Find a task by its id or the beginning of its id. Raises UsageError unless one matches."""
        ...


class ThreadStore(Protocol):
    """A store for threads. Every method raises StoreError if the operation fails."""

    @property
    def tasks(self) -> TaskStore: ...

    def append(self, thread: Thread, parent: int, messages: Sequence[NewMessage]) -> Thread:
        """Append messages after the message ``parent``, each after the one before. The last one becomes the head.

        Stores all messages or none. Creates the thread if it does not exist and ``thread`` has no head. Raises
        ThreadConflict if the head of the stored thread differs from the head of ``thread``.
        """
        ...

    def move(self, thread: Thread, head: int) -> Thread:
        """Make another message the head. Raises ThreadConflict if the stored head is not the head of ``thread``."""
        ...

    def import_thread(self, thread: Thread, nodes: Sequence[ThreadMessage], blobs: Sequence[bytes] = ()) -> bool:
        """Store a complete thread, with the contents that its messages refer to. Returns False if the id exists."""
        ...

    def find(self, name: str) -> Thread:
        """Find a thread by its id, the beginning of its id, or its title. Raises UsageError unless one matches."""
        ...

    def latest(self) -> Thread | None:
        """The thread that changed last; None if there are no threads."""
        ...

    def nodes(self, thread: Thread) -> Sequence[ThreadMessage]:
        """All messages in the order of their numbers. An empty note replaces a message that cannot be read."""
        ...

    def recent(self, thread_filter: ThreadFilter, limit: int, before: Thread | None = None) -> Sequence[Thread]:
        """The threads that changed last, newest first, at most ``limit``; with ``before``, only those older than it."""
        ...

    def search(self, thread_filter: ThreadFilter, query: str, limit: int) -> Sequence[SearchResult]:
        """The threads that contain the words, newest first. Raises UsageError if the query cannot be searched for."""
        ...

    def usage(self, begin: float, end: float) -> Iterable[UsageEntry]:
        """What each message took that was added between these times (seconds since 1970); not of imported threads."""
        ...

    def ids(self) -> Sequence[str]:
        """The ids of all threads, oldest first."""
        ...

    def rename(self, thread: Thread, title: str, *, named: bool = True) -> None:
        """Set the title. Without ``named``, keep a title that the user chose."""
        ...

    def delete(self, thread: Thread) -> None: ...

    def count_older(self, before: float) -> int:
        """The number of threads without changes since ``before`` (seconds since 1970)."""
        ...

    def clean_up(self, *, before: float | None = None) -> CleanupReport:
        """Delete unused contents and the threads without changes since ``before``; shrink the database."""
        ...

    def check(self) -> None:
        """Check all stored data, and repair damage."""
        ...

    def close(self) -> None: ...

    def get_blob(self, key: str, thread: Thread | None) -> bytes | None:
        """A stored content by its hash or the beginning of its hash; None if it does not exist.

        With a ``thread``, only contents that a message of that thread refers to.
        """
        ...


class Approvals(Protocol):
    """The tools that the user approved with "always", with their definitions at that time."""

    def approved_on(self, tool: ToolSpec) -> str:
        """The date of approval for display; empty if the tool is not approved or its definition has changed."""
        ...

    def approve_always(self, tool: ToolSpec) -> None:
        """Store the approval. Raises StoreError if it cannot be written."""
        ...


class ServerRequests(Protocol):
    """Answers the requests that servers send to the client."""

    async def elicit(self, request: Form | UrlRequest) -> ElicitationResult:
        """The user's answer; it matches the schema of the form."""
        ...

    async def sample(self, request: SamplingRequest) -> SamplingResult | None:
        """The model's answer; None if the user denied the request."""
        ...

    async def allow_roots(self, server: str, folders: Sequence[str]) -> bool:
        """Whether the server may receive these folders as its roots."""
        ...


class SignInDialog(Protocol):
    """The user interface of a sign-in. ``interactive`` says whether a user can answer."""

    @property
    def interactive(self) -> bool: ...

    def exclusive(self) -> AbstractAsyncContextManager[None]:
        """Reserve the terminal for the sign-in during the block."""
        ...

    def show_url(self, url: str, *, provider_name: str, warning: str, timeout: float) -> None:
        """Show the URL before a browser opens it. The sign-in times out after ``timeout`` seconds."""
        ...

    def report_browser(self, started: bool) -> None:
        """Report whether a browser was started."""
        ...

    def show_error(self, text: str) -> None:
        """Show why the pasted text is invalid."""
        ...

    def notify(self, text: str) -> None:
        """Show the progress of the sign-in."""
        ...

    async def read_pasted_url(self) -> str:
        """Wait for a line that the user pastes. Never returns if the dialog is not interactive."""
        ...


class ServerStatus(Struct, frozen=True, kw_only=True):
    """The status of a server. ``tools`` is the number of its tools, None if not listed yet.

    ``seconds`` is the time that its start took. If the server is down, the first line of
    ``detail`` is the error message, and the rest is the end of its log, or the hint if a sign-in is needed.
    """

    name: str
    transport: str
    state: ServerState
    detail: str = ""
    tools: int | None = None
    auth: str = "none"
    seconds: float | None = None

    def error(self) -> McpChatError | None:
        """The error of a server that is down; None if it is not."""
        first, *rest = self.detail.splitlines() or [""]
        if self.state == "login":
            return SignInNeeded(first, hint="\n".join(rest))
        return ServerError(f"{self.name} is down: {first}", log=tuple(rest)) if self.state == "failed" else None


class ServerDirectory(Protocol):
    """Access to the servers by name.

    The methods that send a request to a server raise ServerError if it fails, SignInNeeded if it requires a sign-in,
    and ToolFailed if it rejects the request.
    """

    def status(self) -> Sequence[ServerStatus]:
        """The status of each configured server. Starts no server."""
        ...

    def catalogs(self) -> Mapping[str, Catalog]:
        """The known catalogs by server name. Starts no server."""
        ...

    async def refresh(self) -> Sequence[ToolSpec]:
        """List the tools of all servers again, without the cache."""
        ...

    def log(self, server: str) -> str:
        """The text of the server's log file."""
        ...

    async def read_resource(self, server: str, uri: str) -> Sequence[Content]:
        """Read a resource."""
        ...

    async def get_prompt(self, server: str, name: str, arguments: Mapping[str, str]) -> Sequence[Message]:
        """Render a prompt with arguments."""
        ...

    async def complete(
        self,
        server: str,
        reference: Prompt | ResourceTemplate,
        argument: str,
        value: str,
        known_arguments: Mapping[str, str],
    ) -> Sequence[str]:
        """Ask the server for completions of a partial value. ``known_arguments`` are the other values."""
        ...
