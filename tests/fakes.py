"""One fake for each port of the core."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Literal, cast

from mcpchat.core.elicitation import Answer, Form, Visit
from mcpchat.core.events import Emit, Stop, TextDelta
from mcpchat.core.messages import Message, Text, ToolCall, ToolResult, Usage
from mcpchat.core.policy import Decision, Policy, Question
from mcpchat.core.protocols import Done, ModelEvent, ModelRequest
from mcpchat.core.threads import Record
from mcpchat.core.tools import Annotations, ToolSpec
from mcpchat.engine.approval_gate import Gate
from mcpchat.engine.session import Session
from mcpchat.errors import McpChatError
from mcpchat.permissions.pins import Pins

Step = Sequence[ModelEvent | Exception | float]  # a float is a pause, in seconds


class ScriptedModel:
    """Plays one step for each request, and keeps the requests."""

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


def says(text: str, *calls: ToolCall, stop: Stop = "end", usage: Usage | None = None) -> list[ModelEvent]:
    """A step: the text in two pieces, then the message with its calls."""
    half = len(text) // 2
    deltas = [TextDelta(text=piece) for piece in (text[:half], text[half:]) if piece]
    parts = (*((Text(text=text),) if text else ()), *calls)
    message = Message(role="assistant", parts=parts)
    return [*deltas, Done(message=message, usage=usage or Usage(input=1, output=1), stop=stop)]


def tool(name: str = "echo", *, server: str = "box", read_only: bool = True, **more: Any) -> ToolSpec:
    return ToolSpec(
        server=server,
        name=name,
        schema={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        annotations=Annotations(read_only=read_only),
        trusted=True,
        **more,
    )


def calls(name: str, arguments: str = "{}", call_id: str = "c1") -> ToolCall:
    return ToolCall(id=call_id, name=name, arguments=arguments)


class FakeToolbox:
    """Tools as plain functions from the arguments to text; an exception they raise is the machinery's."""

    def __init__(self, tools: Mapping[str, Callable[[dict[str, Any]], Any]] | None = None, *specs: ToolSpec) -> None:
        self._run = dict(tools or {})
        self._specs = specs or tuple(tool(name) for name in self._run)
        self.faults: dict[str, str] = {}
        self.words: dict[str, str] = {}
        self.expected: list[str] = []
        self.called: list[tuple[str, dict[str, Any]]] = []

    async def tools(self) -> Sequence[ToolSpec]:
        return self._specs

    def expect(self, spec: ToolSpec) -> None:
        self.expected.append(spec.name)

    def check(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> str:
        return self.faults.get(spec.name, "")

    def instructions(self) -> Mapping[str, str]:
        return self.words

    async def call(self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit) -> ToolResult:
        self.called.append((spec.name, dict(arguments)))
        answer = self._run[spec.name](dict(arguments))
        if asyncio.iscoroutine(answer):
            answer = await answer
        return ToolResult(call_id=call_id, parts=(Text(text=answer),))


class ScriptedAsker:
    """Gives the prepared answers, and keeps what was asked."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[Any, ...]] = []
        self.questions: list[Question] = []

    async def go_on(self, rounds: int) -> bool:
        self.asked.append(("go on", rounds))
        return bool(self._answers.pop(0)) if self._answers else False

    async def approve(self, question: Question) -> Decision:
        self.asked.append((question.tool.label, question.rule))
        self.questions.append(question)
        await asyncio.sleep(0)
        return cast("Decision", self._answers.pop(0))

    async def elicit(self, question: Form | Visit, problem: str) -> Answer:
        self.asked.append((question.server, question.message, problem))
        return cast("Answer", self._answers.pop(0))

    async def confirm(self, server: str, wish: str, details: str) -> bool:
        self.asked.append((server, wish, details))
        return bool(self._answers.pop(0))


class MemoryApprovals:
    """Approvals that last as long as the test; ``refuses`` is what keeping one raises."""

    def __init__(self, refuses: McpChatError | None = None) -> None:
        self.kept: dict[tuple[str, str], str] = {}
        self._refuses = refuses

    def given(self, tool: ToolSpec) -> str:
        return self.kept.get((tool.label, tool.fingerprint), "")

    def give(self, tool: ToolSpec) -> None:
        if self._refuses:
            raise self._refuses
        self.kept[tool.label, tool.fingerprint] = "2026-11-26"


def make_gate(policy: Policy | None = None, asker: Any = None, **more: Any) -> Gate:
    """A gate with nobody's approvals, that finds nothing wrong with any arguments; ``more`` says otherwise."""
    keeping = {"approvals": MemoryApprovals(), "check": lambda spec, arguments: "", **more}
    return Gate(policy or Policy(), asker or ScriptedAsker(), **keeping)


class MemoryPins:
    """A PinStore in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, Pins] = {}

    def load(self, server: str) -> Pins | None:
        return self.kept.get(server)

    def save(self, server: str, pins: Pins) -> None:
        self.kept[server] = pins


class NoCredentials:
    """Credentials where no server has a login."""

    async def prepare(self, server: str) -> None:
        pass

    def stamp(self, server: str) -> float:
        return 0.0

    async def variables(self, server: str) -> Mapping[str, str]:
        return {}

    def due(self, server: str) -> Literal["no", "soon", "now"]:
        return "no"

    def refused(self, server: str) -> None:
        pass

    def signer(self, server: str) -> Any:
        return None

    def trouble(self, server: str) -> McpChatError | None:
        return None

    async def sign_in(self, server: str) -> bool:
        return False

    def hint(self, server: str) -> str:
        return "set its headers in the config"

    def state(self, server: str) -> str:
        return "none"


class MemoryResults:
    """A ResultStore in memory; with no room it keeps nothing."""

    def __init__(self, room: int = 100) -> None:
        self.kept: dict[str, str] = {}
        self._room = room

    def save(self, text: str) -> str | None:
        if len(self.kept) >= self._room:
            return None
        key = f"r{len(self.kept)}"
        self.kept[key] = text
        return key

    def load(self, key: str) -> str | None:
        return self.kept.get(key)


YES = Decision(allowed=True, by="user")
NO = Decision(allowed=False, by="user", reason="not now")


def remember(session: Session, messages: Sequence[Message]) -> None:
    """Have the session begin with these messages, as if they had been said."""
    for message in messages:
        session.transcript.messages.append(message)
        session.transcript.records.append(Record())


def open_calls(messages: Sequence[Message]) -> tuple[ToolCall, ...]:
    """The calls of the history that no result answers yet, in order."""
    answered = {result.call_id for message in messages for result in message.results}
    return tuple(call for message in messages for call in message.calls if call.id not in answered)
