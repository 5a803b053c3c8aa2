"""Fakes for the protocols of the core."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, cast

from msgspec import UNSET
from msgspec.structs import replace

from mcpchat.auth.server_auth import NoAuth
from mcpchat.core.elicitation import ElicitationResult, Form, UrlRequest
from mcpchat.core.events import Emit, StopReason, TextDelta
from mcpchat.core.messages import Message, Text, ToolCall, ToolResult, Usage, result_text
from mcpchat.core.policy import ApprovalRequest, Decision, Policy
from mcpchat.core.protocols import ModelEvent, ModelRequest, ResponseDone
from mcpchat.core.threads import MessageMetadata
from mcpchat.core.tools import Annotations, ToolSpec
from mcpchat.engine.approval_gate import ApprovalGate
from mcpchat.engine.session import Session
from mcpchat.errors import McpChatError, ModelError
from mcpchat.mcp.protocols import ServerAuth, ServerLogin
from mcpchat.permissions.pins import PinSummary, ServerPins

Step = Sequence[ModelEvent | Exception | float]  # a float is a pause, in seconds


class ScriptedModel:
    """Plays one step for each request and records the requests."""

    def __init__(self, *steps: Step) -> None:
        self._steps = list(steps)
        self.requests: list[ModelRequest] = []

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        self.requests.append(request)
        for event in self._steps.pop(0):
            if isinstance(event, Exception):
                raise event
            if isinstance(event, float):
                await asyncio.sleep(event)
            else:
                yield event


class LimitedModel:
    """Refuses requests above its window as a server does, and answers all others with ``answer``.

    ``count_tokens`` counts the text of a message, ``overhead`` is added for the tools. ``wording`` builds the refusal
    from the request's tokens and the window.
    """

    def __init__(
        self,
        window: int,
        count_tokens: Callable[[str], int],
        *,
        overhead: int = 0,
        answer: str = "ok",
        wording: Callable[[int, int], ModelError] = lambda requested, window: ModelError("too long", kind="context"),
    ) -> None:
        self.window = window
        self.requests: list[ModelRequest] = []
        self.refused = 0
        self.answer = answer
        self._count_tokens = count_tokens
        self._overhead = overhead
        self._wording = wording

    def count(self, request: ModelRequest) -> int:
        """The tokens of the request."""
        texts = [request.system, *(m.text for m in request.messages)]
        texts += [result_text(result) for m in request.messages for result in m.results]
        texts += [call.arguments for m in request.messages for call in m.calls]
        return sum(self._count_tokens(text) + 5 for text in texts) + (self._overhead if request.tools else 0)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        self.requests.append(request)
        tokens = self.count(request)
        if tokens >= self.window:
            self.refused += 1
            raise self._wording(tokens, self.window)
        usage = Usage(input=tokens, output=min(self._count_tokens(self.answer), self.window - tokens))
        for event in model_step(self.answer, usage=usage):
            yield event


def model_step(text: str, *calls: ToolCall, stop: StopReason = "end", usage: Usage | None = None) -> list[ModelEvent]:
    """Return a step: the text in two deltas, then the message with its calls."""
    half = len(text) // 2
    deltas = [TextDelta(text=part) for part in (text[:half], text[half:]) if part]
    parts = (*((Text(text=text),) if text else ()), *calls)
    message = Message(role="assistant", parts=parts)
    return [*deltas, ResponseDone(message=message, usage=usage or Usage(input=1, output=1), stop=stop)]


def make_tool(name: str = "echo", *, server: str = "box", read_only: bool = True, **fields: Any) -> ToolSpec:
    fields.setdefault("schema", {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]})
    return ToolSpec(
        server=server,
        name=name,
        annotations=Annotations(read_only=read_only),
        trusted=True,
        **fields,
    )


def make_call(name: str, arguments: str = "{}", call_id: str = "c1") -> ToolCall:
    return ToolCall(id=call_id, name=name, arguments=arguments)


class FakeToolbox:
    """Tools as plain functions from arguments to text. An exception of a function is raised by ``call``."""

    def __init__(self, tools: Mapping[str, Callable[[dict[str, Any]], Any]] | None = None, *specs: ToolSpec) -> None:
        self._functions = dict(tools or {})
        self._specs = specs or tuple(make_tool(name) for name in self._functions)
        self.argument_errors: dict[str, str] = {}
        self.server_instructions: dict[str, str] = {}
        self.prestarted: list[str] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []

    async def list_tools(self) -> Sequence[ToolSpec]:
        return self._specs

    def prestart(self, spec: ToolSpec) -> None:
        self.prestarted.append(spec.name)

    def validate_arguments(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> str:
        return self.argument_errors.get(spec.name, "")

    def instructions(self) -> Mapping[str, str]:
        return self.server_instructions

    async def call(self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit) -> ToolResult:
        self.calls.append((spec.name, dict(arguments)))
        result = self._functions[spec.name](dict(arguments))
        if asyncio.iscoroutine(result):
            result = await result
        return ToolResult(call_id=call_id, parts=(Text(text=result),))


class ScriptedDialog:
    """Returns the prepared answers and records the prompts."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.prompts: list[tuple[Any, ...]] = []
        self.approval_requests: list[ApprovalRequest] = []

    async def confirm_continue(self, rounds: int) -> bool:
        self.prompts.append(("go on", rounds))
        return bool(self._answers.pop(0)) if self._answers else False

    async def approve(self, request: ApprovalRequest) -> Decision:
        self.prompts.append((request.tool.qualified_name, request.rule))
        self.approval_requests.append(request)
        await asyncio.sleep(0)
        return cast("Decision", self._answers.pop(0))

    async def elicit(self, request: Form | UrlRequest, problem: str) -> ElicitationResult:
        self.prompts.append((request.server, request.message, problem))
        return cast("ElicitationResult", self._answers.pop(0))

    async def confirm(self, server: str, action: str, details: str) -> bool:
        self.prompts.append((server, action, details))
        return bool(self._answers.pop(0))


class MemoryApprovals:
    """Approvals in memory; ``error`` is raised instead of storing one."""

    def __init__(self, error: McpChatError | None = None) -> None:
        self.approved: dict[tuple[str, str], str] = {}
        self._error = error

    def approved_on(self, tool: ToolSpec) -> str:
        return self.approved.get((tool.qualified_name, tool.fingerprint), "")

    def approve_always(self, tool: ToolSpec) -> None:
        if self._error:
            raise self._error
        self.approved[tool.qualified_name, tool.fingerprint] = "2026-11-26"


def make_gate(policy: Policy | None = None, dialog: Any = None, **overrides: Any) -> ApprovalGate:
    """Return a gate with no stored approvals that accepts all arguments; ``overrides`` replaces its options."""
    options = {"approvals": MemoryApprovals(), "check": lambda spec, arguments: "", **overrides}
    return ApprovalGate(policy or Policy(), dialog or ScriptedDialog(), **options)


class MemoryPins:
    """A PinStore in memory."""

    def __init__(self) -> None:
        self.saved: dict[str, ServerPins] = {}

    def load_summary(self, server: str) -> PinSummary | None:
        pins = self.saved.get(server)
        return PinSummary(title=pins.title, catalog=pins.catalog) if pins is not None else None

    def load(self, server: str) -> ServerPins | None:
        return self.saved.get(server)

    def save(self, server: str, pins: ServerPins) -> None:
        self.saved[server] = pins


class NoCredentials:
    """Credentials for servers without a login."""

    async def authenticate(self, server: str) -> ServerAuth:
        return NoAuth()

    async def sign_in(self, server: str) -> bool:
        return False

    def describe(self, server: str) -> ServerLogin:
        return NoLogin()


class NoLogin:
    """The login of a server that has none."""

    state = "none"
    hint = "set its headers in the config"
    version = 0.0
    identity: Sequence[str] = ()


class MemoryResults:
    """A ResultStore in memory. Once ``capacity`` results are stored, ``save`` returns None."""

    def __init__(self, capacity: int = 100) -> None:
        self.saved: dict[str, str] = {}
        self._capacity = capacity

    def save(self, text: str) -> str | None:
        if len(self.saved) >= self._capacity:
            return None
        key = f"r{len(self.saved)}"
        self.saved[key] = text
        return key

    def load(self, key: str) -> str | None:
        return self.saved.get(key)


ALLOW = Decision(allowed=True, by="user")
DENY = Decision(allowed=False, by="user", reason="not now")


def preload_history(session: Session, messages: Sequence[Message]) -> None:
    """Put these messages into the session's history."""
    for message in messages:
        session.transcript.messages.append(message)
        session.transcript.metadata.append(MessageMetadata())


def counts(usage: Usage | None) -> Usage:
    """The usage as a server reports it: without what the input was."""
    assert usage is not None
    return replace(usage, input_split=UNSET)


def unanswered_calls(messages: Sequence[Message]) -> tuple[ToolCall, ...]:
    """Return the calls of the history that have no result yet, in order."""
    answered_ids = {result.call_id for message in messages for result in message.results}
    return tuple(call for message in messages for call in message.calls if call.id not in answered_ids)
