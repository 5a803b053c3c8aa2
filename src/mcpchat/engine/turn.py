"""The loop: ask the model, run the tools it calls, and again, until it answers."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, assert_never

from msgspec import Struct
from msgspec.structs import replace

from mcpchat.core.events import (
    Emit,
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
from mcpchat.core.messages import Message, Part, Text, ToolCall, ToolResult, Usage, error_result, result_text
from mcpchat.core.policy import Decision
from mcpchat.core.protocols import (
    CallStarted,
    Compacted,
    Done,
    Model,
    ModelChoice,
    ModelRequest,
    Retrying,
    Spent,
    Toolbox,
)
from mcpchat.core.threads import CallRecord, Record
from mcpchat.core.tools import BadArguments, ToolSpec, explain_arguments, parse_arguments
from mcpchat.core.usage import Spending
from mcpchat.engine.approval_gate import Gate
from mcpchat.engine.history import is_object
from mcpchat.engine.loop_detection import Repeats
from mcpchat.engine.transcript import Transcript
from mcpchat.errors import Denied, McpChatError, ModelError, ServerError, SignInNeeded
from mcpchat.util.text import closest_matches

_AT_ITS_LIMIT = "the call was cut off at the model's output limit and did not run: send less in one call"


class Limits(Struct, frozen=True, kw_only=True):
    """Where a turn stops: after so many rounds of tool calls, and so many calls in all.

    ``max_tokens`` and ``max_dollars`` are of the whole run, looked at before each request.
    """

    max_steps: int = 25
    max_calls: int = 250
    max_tokens: int | None = None
    max_dollars: float | None = None


@dataclass(kw_only=True)
class Turn:
    """One user message and all that follows from it.

    The ``transcript`` grows through ``add`` alone, and is valid for the next request whatever happens: an error, a
    cancellation at any await, a limit. ``prepare`` gives a request with all but its messages; ``spent`` is this
    turn's, ``thread`` the conversation's, ``run_total`` the run's, which the limits are about; ``uncounted`` gives what
    an answer took that broke off.
    """

    model: Model
    choice: ModelChoice
    agent: str
    prepare: Callable[[], Awaitable[ModelRequest]]
    toolbox: Toolbox
    gate: Gate
    transcript: Transcript
    emit: Emit
    limits: Limits
    thread: Spending
    run_total: Spending
    uncounted: Callable[[], Usage | None] = lambda: None
    notice: str = ""
    steps: int = 0
    called: int = 0
    beyond: set[str] = field(default_factory=set)  # calls of this step that are over the limit
    began: float = field(default_factory=time.monotonic)
    repeats: Repeats = field(default_factory=Repeats)
    decisions: dict[str, CallRecord] = field(default_factory=dict)  # of this step's calls, by their ids
    unsaid: Usage = field(default_factory=Usage)  # of requests that brought no message yet

    def __post_init__(self) -> None:
        self.spent = Spending(self.thread)

    async def run(self, *messages: Message) -> TurnFinished:
        """Say these and run to the end.

        Emits exactly one of turn.finished and turn.failed, last. Errors and cancellations are raised again.
        """
        self.emit(TurnStarted(thread_id=self.transcript.thread.id, model=self.choice.name))
        if self.notice:
            self.emit(Notice(level="info", text=self.notice))
        self.transcript.settle()
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
        cost = self.spent.cost if self.choice.price is not None else None
        seconds = round(time.monotonic() - self.began, 3)
        return TurnFinished(stop=stop, usage=self.spent.usage, steps=self.steps, cost=cost, seconds=seconds)

    async def _loop(self) -> Stop:
        # Once for the whole turn: the list that the model sees does not change under its hands.
        request = await self.prepare()
        tools = {tool.exposed: tool for tool in request.tools}
        rounds, allowed = 0, self.limits.max_steps
        while True:
            if stop := self._used_up():
                return stop
            if self.repeats.stuck:
                return await self._conclude(request, "repeats")
            if rounds == allowed:
                if not await self.gate.go_on(rounds):
                    return await self._conclude(request, "steps")
                allowed += self.limits.max_steps
            began = time.monotonic()
            done = await self._ask_model(request, tools)
            message, faults = _settle_arguments(done)
            self.add(message, usage=done.usage, began=began)
            if not message.calls:
                if not message.text and done.stop == "end":
                    self.emit(Notice(level="warning", text="the model answered with nothing"))
                return done.stop
            await self._run_calls(message.calls, tools, faults | self._too_many(message.calls))
            if self.called > self.limits.max_calls:
                return await self._conclude(request, "calls")
            rounds += 1

    def _too_many(self, calls: Sequence[ToolCall]) -> dict[str, str]:
        """Count the calls; by call id, why those do not run that are over the limit."""
        left = max(0, self.limits.max_calls - self.called)
        self.called += len(calls)
        self.beyond = {call.id for call in calls[left:]}
        return dict.fromkeys(self.beyond, f"the limit of {self.limits.max_calls} calls in one turn is reached")

    def _used_up(self) -> Stop | None:
        if self.limits.max_tokens is not None and self.run_total.usage.total >= self.limits.max_tokens:
            return "tokens"
        if self.limits.max_dollars is not None and self.run_total.dollars >= self.limits.max_dollars:
            return "cost"
        return None

    async def _conclude(self, request: ModelRequest, stop: Stop) -> Stop:
        """No more tools: let the model answer with what it has. What it calls all the same is dropped."""
        began = time.monotonic()
        done = await self._ask_model(replace(request, tool_choice="none"), {})
        said = tuple(part for part in done.message.parts if not isinstance(part, ToolCall))
        message = done.message if said == done.message.parts else replace(done.message, parts=said, raw=None)
        self.add(message, usage=done.usage, began=began)
        return stop if done.stop == "end" else done.stop

    def add(
        self,
        message: Message,
        *,
        usage: Usage | None = None,
        began: float | None = None,
        calls: tuple[CallRecord, ...] = (),
    ) -> None:
        price = self.choice.price
        record = Record(
            at=time.time(),
            agent=self.agent,
            model=self.choice.chosen or self.choice.name,
            usage=usage,
            cost=price(usage) if usage is not None and price is not None else None,
            seconds=round(time.monotonic() - began, 3) if began is not None else None,
            calls=calls,
        )
        self.transcript.add(message, record)

    async def _ask_model(self, request: ModelRequest, tools: Mapping[str, ToolSpec]) -> Done:
        shown: list[str] = []
        self.steps += 1
        try:
            asked = replace(request, messages=tuple(self.transcript.messages))
            async with aclosing(self.model.stream(asked)) as events:
                async for event in events:
                    match event:
                        case TextDelta(text=text):
                            shown.append(text)
                            self.emit(event)
                        case ReasoningDelta() | Notice():
                            self.emit(event)
                        case CallStarted(name=name):
                            if name in tools:
                                self.toolbox.expect(tools[name])
                        case Retrying():
                            self.emit(Notice(level="warning", text=event.text))
                        case Compacted(message=message):
                            self.add(message, usage=self.unsaid if self.unsaid.total else None)
                            self.unsaid = Usage()
                        case Spent(usage=usage):
                            self.unsaid += usage
                            self.spent.add(usage, self.choice.price)
                        case Done(usage=usage):
                            self.spent.add(usage, self.choice.price)
                            return event
                        case _:
                            assert_never(event)
        except asyncio.CancelledError:
            self._keep_partial(shown, "cancelled")
            self._count_partial()
            raise
        except ModelError as error:
            self._count_partial()
            lost = error.kind in {"network", "broken_stream"}
            self._keep_partial(shown, "connection lost" if lost else "the model's server failed")
            raise
        raise AssertionError("a model's stream ends in Done or raises ModelError")

    def _count_partial(self) -> None:
        if left := self.uncounted():
            self.spent.add(left, self.choice.price)

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
        began = time.monotonic()
        self.decisions.clear()

        async def run(call: ToolCall) -> None:
            results[call.id] = await self._run_call(call, tools, faults.get(call.id, ""))

        try:
            async with asyncio.TaskGroup() as group:
                for call in calls:
                    group.create_task(run(call))
        finally:
            unanswered = "cancelled by the user"
            answers = ((call, results.get(call.id) or error_result(call.id, unanswered)) for call in calls)
            message = Message(role="tool", parts=tuple(self.repeats.noted(call, answer) for call, answer in answers))
            known = tuple(self.decisions[call.id] for call in calls if call.id in self.decisions)
            self.add(message, began=began, calls=known)

    async def _run_call(self, call: ToolCall, tools: Mapping[str, ToolSpec], fault: str) -> ToolResult:
        spec = tools.get(call.name)
        label = spec.label if spec else call.name
        if spec is None:
            close = closest_matches(call.name, tools)
            known = f"The nearest: {', '.join(close)}." if close else f"There are {len(tools)} tools, none like it."
            return self._refused(call, label, f"no tool is named {call.name!r}. {known}")
        arguments = parse_arguments(call.arguments)
        if fault := fault or self.toolbox.check(spec, arguments):
            return self._refused(
                call, label, fault if call.id in self.beyond else f"{fault}; {explain_arguments(spec)}"
            )
        decision = await self.gate.decide(spec, call)
        self.decisions[call.id] = CallRecord(call_id=call.id, tool=label, decision=decision)
        self.emit(ToolDecided(call=call, tool=label, decision=decision))
        if not decision.allowed:
            return self._refused(call, label, _denial(decision))
        if decision.arguments:
            call, arguments = replace(call, arguments=decision.arguments), parse_arguments(decision.arguments)
        self.emit(ToolStarted(call=call, tool=label, title=spec.title, account=spec.account))
        began = time.monotonic()
        result = error_result(call.id, "cancelled by the user")
        try:
            result = await self.toolbox.call(spec, call.id, arguments, self.emit)
        except (ServerError, SignInNeeded, Denied) as error:
            hint = f" ({error.hint})" if error.hint else ""
            result = error_result(call.id, f"{error.message}{hint}")
        else:
            result = _with_changes(result, decision)
        finally:
            seconds = round(time.monotonic() - began, 3)
            self.decisions[call.id] = replace(self.decisions[call.id], seconds=seconds)
            self.emit(
                ToolFinished(
                    call=call, tool=label, result=result, seconds=seconds, title=spec.title, account=spec.account
                )
            )
        return result

    def _refused(self, call: ToolCall, label: str, why: str) -> ToolResult:
        """The result of a call that never ran; shown like any other."""
        result = error_result(call.id, why)
        self.decisions.setdefault(call.id, CallRecord(call_id=call.id, tool=label))
        self.emit(ToolStarted(call=call, tool=label))
        self.emit(ToolFinished(call=call, tool=label, result=result, seconds=0.0))
        return result


def _settle_arguments(done: Done) -> tuple[Message, dict[str, str]]:
    """The message with valid arguments in every call, and by call id what was wrong with the ones that had none.

    Broken text must not be stored: some servers refuse every later request that repeats it. Valid text stays as the
    model wrote it, so that the server finds in its cache what it made itself.
    """
    faults: dict[str, str] = {}
    parts: list[Part] = []
    for part in done.message.parts:
        if isinstance(part, ToolCall):
            arguments: dict[str, Any] = {}
            try:
                arguments = parse_arguments(part.arguments)
            except BadArguments as error:
                faults[part.id] = str(error)
            if done.stop == "length" and not is_object(part.arguments):
                faults[part.id] = _AT_ITS_LIMIT  # nothing written is not nothing meant
            if not is_object(part.arguments) or json.loads(part.arguments) != arguments:
                part = replace(part, arguments=json.dumps(arguments, ensure_ascii=False))
        parts.append(part)
    message = done.message if tuple(parts) == done.message.parts else replace(done.message, parts=tuple(parts))
    return message, faults


def _with_changes(result: ToolResult, decision: Decision) -> ToolResult:
    """The result of a call whose arguments the person changed, with words on that: the model reads what really ran."""
    if not decision.arguments:
        return result
    note = Text(text=f"[the user changed this call's arguments to {decision.arguments}]")
    return replace(result, parts=(note, *(result.parts or (Text(text=result_text(result)),))))


def _denial(decision: Decision) -> str:
    who = "the user" if decision.by == "user" else "policy"
    return f"denied by {who}" + (f": {decision.reason}" if decision.reason else "")
