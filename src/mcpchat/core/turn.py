"""The loop: ask the model, run the tools it calls, and again, until it answers."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

from msgspec.structs import replace

from mcpchat.core.approvals import Decision
from mcpchat.core.bounded import clip
from mcpchat.core.errors import McpChatError, ModelError, ServerError, SignInNeeded
from mcpchat.core.events import (
    Emit,
    MessageAdded,
    Notice,
    ReasoningDelta,
    Stop,
    TextDelta,
    ToolDecided,
    ToolFinished,
    ToolStarted,
    TurnFailed,
    TurnFinished,
    TurnStarted,
)
from mcpchat.core.gate import Gate
from mcpchat.core.messages import Message, Part, Text, ToolCall, ToolResult, Usage, error_result
from mcpchat.core.ports import CallStarted, Done, Model, ModelRequest, Retrying, Toolbox
from mcpchat.core.tools import BadArguments, ToolSpec, explain_arguments, nearest, parse_arguments

_LONGEST_WORDS = 4000  # characters of one server's instructions


@dataclass(kw_only=True)
class Turn:
    """One user message and all that follows from it.

    ``history`` grows in place, through ``add`` alone, and is valid for the next request whatever happens: an error,
    a cancellation at any await, a limit.
    """

    model: Model
    model_name: str
    options: Mapping[str, Any]
    instructions: str
    toolbox: Toolbox
    gate: Gate
    history: list[Message]
    emit: Emit
    max_steps: int
    thread_id: str
    notice: str = ""
    usage: Usage = field(default_factory=Usage)
    steps: int = 0

    async def run(self, *messages: Message) -> TurnFinished:
        """Say these and run to the end.

        Emits exactly one of turn.finished and turn.failed, last. Errors and cancellations are raised again.
        """
        self.emit(TurnStarted(thread_id=self.thread_id, model=self.model_name))
        if self.notice:
            self.emit(Notice(level="info", text=self.notice))
        for message in messages:
            self.add(message)
        try:
            finished = self._finished(await self._loop())
        except asyncio.CancelledError:
            self.emit(self._finished("cancelled"))
            raise
        except McpChatError as error:
            self.emit(TurnFailed(kind=error.kind, message=error.message, hint=error.hint))
            raise
        except Exception as error:
            self.emit(TurnFailed(kind="internal", message=f"{type(error).__name__}: {error}"))
            raise
        self.emit(finished)
        return finished

    def _finished(self, stop: Stop) -> TurnFinished:
        return TurnFinished(stop=stop, usage=self.usage, steps=self.steps)

    async def _loop(self) -> Stop:
        # Once for the whole turn: the list that the model sees does not change under its hands.
        tools = await self.toolbox.tools()
        self.instructions = with_servers_words(self.instructions, self.toolbox.instructions())
        for _ in range(self.max_steps):
            done = await self._ask_model(tools)
            message, faults = _settle_arguments(done.message)
            self.add(message)
            if not message.calls:
                return done.stop
            await self._run_calls(message.calls, {tool.exposed: tool for tool in tools}, faults)
        await self._conclude(tools)
        return "steps"

    async def _conclude(self, tools: Sequence[ToolSpec]) -> None:
        """The steps are used up: let the model answer with what it has."""
        done = await self._ask_model(tools, conclude=True)
        message, _ = _settle_arguments(done.message)
        self.add(message)
        if message.calls:
            refused = (error_result(call.id, "not run: the step limit is reached") for call in message.calls)
            self.add(Message(role="tool", parts=tuple(refused)))

    def add(self, message: Message) -> None:
        self.history.append(message)
        self.emit(MessageAdded(message=message))

    async def _ask_model(self, tools: Sequence[ToolSpec], *, conclude: bool = False) -> Done:
        system = Message(role="system", parts=(Text(text=self.instructions),))
        request = ModelRequest(
            model=self.model_name,
            messages=(system, *self.history) if self.instructions else tuple(self.history),
            tools=tuple(tools),
            tool_choice="none" if conclude else "auto",
            options=self.options,
        )
        by_name = {tool.exposed: tool for tool in tools}
        self.steps += 1
        shown: list[str] = []
        try:
            async with aclosing(cast("Any", self.model.stream(request))) as events:
                async for event in events:
                    match event:
                        case TextDelta(text=text):
                            shown.append(text)
                            self.emit(event)
                        case ReasoningDelta():
                            self.emit(event)
                        case CallStarted(name=name):
                            if name in by_name:
                                self.toolbox.expect(by_name[name])
                        case Retrying(seconds=seconds, why=why):
                            self.emit(Notice(level="warning", text=f"{why}; trying again in {seconds:.0f} s"))
                        case Done():
                            self.usage += event.usage
                            return event
        except asyncio.CancelledError:
            self._keep_partial(shown, "cancelled")
            raise
        except ModelError:
            self._keep_partial(shown, "connection lost")
            raise
        raise AssertionError("a model's stream ends in Done or raises ModelError")

    def _keep_partial(self, shown: Sequence[str], cut: str) -> None:
        if text := "".join(shown):
            self.add(Message(role="assistant", parts=(Text(text=text),), cut=cut))

    async def _run_calls(
        self, calls: Sequence[ToolCall], tools: Mapping[str, ToolSpec], faults: Mapping[str, str]
    ) -> None:
        """Run all calls of one step at once; their results join the history in the calls' order, come what may.

        ``faults`` holds, by call id, what was wrong with the arguments of calls that cannot run.
        """
        results: dict[str, ToolResult] = {}

        async def run(call: ToolCall) -> None:
            results[call.id] = await self._run_call(call, tools, faults.get(call.id, ""))

        try:
            async with asyncio.TaskGroup() as group:
                for call in calls:
                    group.create_task(run(call))
        finally:
            unanswered = "cancelled by the user"
            parts = tuple(results.get(call.id) or error_result(call.id, unanswered) for call in calls)
            self.add(Message(role="tool", parts=parts))

    async def _run_call(self, call: ToolCall, tools: Mapping[str, ToolSpec], fault: str) -> ToolResult:
        spec = tools.get(call.name)
        label = spec.label if spec else call.name
        if spec is None:
            close = nearest(call.name, tools)
            known = f"The nearest: {', '.join(close)}." if close else f"There are {len(tools)} tools, none like it."
            return self._refused(call, label, f"no tool is named {call.name!r}. {known}")
        arguments = parse_arguments(call.arguments)
        if fault := fault or self.toolbox.check(spec, arguments):
            return self._refused(call, label, f"{fault}; {explain_arguments(spec)}")
        decision = await self.gate.decide(spec, call)
        self.emit(ToolDecided(call=call, tool=label, decision=decision))
        if not decision.allowed:
            return self._refused(call, label, _denial(decision))
        self.emit(ToolStarted(call=call, tool=label))
        began = time.monotonic()
        result = error_result(call.id, "cancelled by the user")
        try:
            result = await self.toolbox.call(spec, call.id, arguments, self.emit)
        except (ServerError, SignInNeeded) as error:
            hint = f" ({error.hint})" if error.hint else ""
            result = error_result(call.id, f"{error.message}{hint}")
        finally:
            self.emit(ToolFinished(call=call, tool=label, result=result, seconds=time.monotonic() - began))
        return result

    def _refused(self, call: ToolCall, label: str, why: str) -> ToolResult:
        """The result of a call that never ran; shown like any other."""
        result = error_result(call.id, why)
        self.emit(ToolStarted(call=call, tool=label))
        self.emit(ToolFinished(call=call, tool=label, result=result, seconds=0.0))
        return result


def _settle_arguments(message: Message) -> tuple[Message, dict[str, str]]:
    """The message with valid arguments in every call, and by call id what was wrong with the ones that had none.

    Broken text must not be stored: some servers refuse every later request that repeats it.
    """
    faults: dict[str, str] = {}
    parts: list[Part] = []
    for part in message.parts:
        if isinstance(part, ToolCall):
            arguments: dict[str, Any] = {}
            try:
                arguments = parse_arguments(part.arguments)
            except BadArguments as error:
                faults[part.id] = str(error)
            part = replace(part, arguments=json.dumps(arguments, ensure_ascii=False))
        parts.append(part)
    return replace(message, parts=tuple(parts)), faults


def with_servers_words(instructions: str, words: Mapping[str, str]) -> str:
    """The instructions, and after them what servers want said of their tools, each under its name."""
    if not words:
        return instructions
    said = [f"## {server}\n{clip(text.strip(), _LONGEST_WORDS)}" for server, text in words.items()]
    heading = "# Notes of the tool servers on their own tools (not from the user)"
    return "\n\n".join([*([instructions] if instructions else []), heading, *said])


def _denial(decision: Decision) -> str:
    who = "the user" if decision.by == "user" else "policy"
    return f"denied by {who}" + (f": {decision.reason}" if decision.reason else "")
