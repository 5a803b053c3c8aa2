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
    StopReason,
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
    Compacted,
    ExtraUsage,
    Model,
    ModelRequest,
    ResponseDone,
    Retrying,
    SelectedModel,
    Toolbox,
    ToolCallStarted,
)
from mcpchat.core.threads import CallMetadata, MessageMetadata
from mcpchat.core.tools import InvalidArguments, ToolSpec, describe_arguments, parse_arguments
from mcpchat.core.usage import UsageTotals
from mcpchat.engine.approval_gate import ApprovalGate
from mcpchat.engine.history import is_json_object
from mcpchat.engine.loop_detection import LoopDetector
from mcpchat.engine.transcript import Transcript
from mcpchat.errors import Denied, McpChatError, ModelError, ServerError, SignInNeeded
from mcpchat.util.text import closest_matches

_OUTPUT_LIMIT_REACHED = "the call was cut off at the model's output limit and did not run: send less in one call"


class TurnLimits(Struct, frozen=True, kw_only=True):
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
    choice: SelectedModel
    agent: str
    build_request: Callable[[], Awaitable[ModelRequest]]
    toolbox: Toolbox
    gate: ApprovalGate
    transcript: Transcript
    emit: Emit
    limits: TurnLimits
    thread_usage: UsageTotals
    run_usage: UsageTotals
    take_partial_usage: Callable[[], Usage | None] = lambda: None
    notice: str = ""
    steps: int = 0
    call_count: int = 0
    over_limit: set[str] = field(default_factory=set)  # calls of this step that are over the limit
    started_at: float = field(default_factory=time.monotonic)
    loop_detector: LoopDetector = field(default_factory=LoopDetector)
    call_records: dict[str, CallMetadata] = field(default_factory=dict)  # of this step's calls, by their ids
    pending_usage: Usage = field(default_factory=Usage)  # of requests that brought no message yet

    def __post_init__(self) -> None:
        self.turn_usage = UsageTotals(self.thread_usage)

    async def run(self, *messages: Message) -> TurnFinished:
        """Say these and run to the end.

        Emits exactly one of turn.finished and turn.failed, last. Errors and cancellations are raised again.
        """
        self.emit(TurnStarted(thread_id=self.transcript.thread.id, model=self.choice.name))
        if self.notice:
            self.emit(Notice(level="info", text=self.notice))
        self.transcript.close_open_calls()
        for message in messages:
            self.add(message)
        try:
            finished = self._finished_event(await self._loop())
        except asyncio.CancelledError:
            self.emit(self._finished_event("cancelled"))
            raise
        except McpChatError as error:
            self.emit(TurnFailed(kind=error.kind, message=error.message, hint=error.hint))
            raise
        except Exception as error:
            self.emit(TurnFailed(kind="internal", message=f"{type(error).__name__}: {error}"))
            raise
        self.emit(finished)
        return finished

    def _finished_event(self, stop: StopReason) -> TurnFinished:
        cost = self.turn_usage.cost if self.choice.price is not None else None
        seconds = round(time.monotonic() - self.started_at, 3)
        return TurnFinished(stop=stop, usage=self.turn_usage.usage, steps=self.steps, cost=cost, seconds=seconds)

    async def _loop(self) -> StopReason:
        # Once for the whole turn: the list that the model sees does not change under its hands.
        request = await self.build_request()
        tools = {tool.model_name: tool for tool in request.tools}
        rounds, max_rounds = 0, self.limits.max_steps
        while True:
            if stop := self._budget_exhausted():
                return stop
            if self.loop_detector.is_looping:
                return await self._final_answer_without_tools(request, "repeats")
            if rounds == max_rounds:
                if not await self.gate.confirm_more_steps(rounds):
                    return await self._final_answer_without_tools(request, "steps")
                max_rounds += self.limits.max_steps
            started_at = time.monotonic()
            done = await self._ask_model(request, tools)
            message, problems = _validate_arguments(done)
            self.add(message, usage=done.usage, started_at=started_at)
            if not message.calls:
                if not message.text and done.stop == "end":
                    self.emit(Notice(level="warning", text="the model answered with nothing"))
                return done.stop
            await self._run_calls(message.calls, tools, problems | self._reject_over_limit(message.calls))
            if self.call_count > self.limits.max_calls:
                return await self._final_answer_without_tools(request, "calls")
            rounds += 1

    def _reject_over_limit(self, calls: Sequence[ToolCall]) -> dict[str, str]:
        """Count the calls; by call id, why those do not run that are over the limit."""
        remaining = max(0, self.limits.max_calls - self.call_count)
        self.call_count += len(calls)
        self.over_limit = {call.id for call in calls[remaining:]}
        return dict.fromkeys(self.over_limit, f"the limit of {self.limits.max_calls} calls in one turn is reached")

    def _budget_exhausted(self) -> StopReason | None:
        if self.limits.max_tokens is not None and self.run_usage.usage.total >= self.limits.max_tokens:
            return "tokens"
        if self.limits.max_dollars is not None and self.run_usage.dollars >= self.limits.max_dollars:
            return "cost"
        return None

    async def _final_answer_without_tools(self, request: ModelRequest, stop: StopReason) -> StopReason:
        """No more tools: let the model answer with what it has. What it calls all the same is dropped."""
        started_at = time.monotonic()
        done = await self._ask_model(replace(request, tool_choice="none"), {})
        parts = tuple(part for part in done.message.parts if not isinstance(part, ToolCall))
        message = done.message if parts == done.message.parts else replace(done.message, parts=parts, raw=None)
        self.add(message, usage=done.usage, started_at=started_at)
        return stop if done.stop == "end" else done.stop

    def add(
        self,
        message: Message,
        *,
        usage: Usage | None = None,
        started_at: float | None = None,
        calls: tuple[CallMetadata, ...] = (),
    ) -> None:
        price = self.choice.price
        metadata = MessageMetadata(
            at=time.time(),
            agent=self.agent,
            model=self.choice.selector or self.choice.name,
            usage=usage,
            cost=price(usage) if usage is not None and price is not None else None,
            seconds=round(time.monotonic() - started_at, 3) if started_at is not None else None,
            calls=calls,
        )
        self.transcript.add(message, metadata)

    async def _ask_model(self, request: ModelRequest, tools: Mapping[str, ToolSpec]) -> ResponseDone:
        chunks: list[str] = []
        self.steps += 1
        try:
            full_request = replace(request, messages=tuple(self.transcript.messages))
            async with aclosing(self.model.stream(full_request)) as events:
                async for event in events:
                    match event:
                        case TextDelta(text=text):
                            chunks.append(text)
                            self.emit(event)
                        case ReasoningDelta() | Notice():
                            self.emit(event)
                        case ToolCallStarted(name=name):
                            if name in tools:
                                self.toolbox.prestart(tools[name])
                        case Retrying():
                            self.emit(Notice(level="warning", text=event.text))
                        case Compacted(message=message):
                            self.add(message, usage=self.pending_usage if self.pending_usage.total else None)
                            self.pending_usage = Usage()
                        case ExtraUsage(usage=usage):
                            self.pending_usage += usage
                            self.turn_usage.add(usage, self.choice.price)
                        case ResponseDone(usage=usage):
                            self.turn_usage.add(usage, self.choice.price)
                            return event
                        case _:
                            assert_never(event)
        except asyncio.CancelledError:
            self._add_partial_message(chunks, "cancelled")
            self._add_partial_usage()
            raise
        except ModelError as error:
            self._add_partial_usage()
            connection_lost = error.kind in {"network", "broken_stream"}
            self._add_partial_message(chunks, "connection lost" if connection_lost else "the model's server failed")
            raise
        raise AssertionError("a model's stream ends in Done or raises ModelError")

    def _add_partial_usage(self) -> None:
        if usage := self.take_partial_usage():
            self.turn_usage.add(usage, self.choice.price)

    def _add_partial_message(self, chunks: Sequence[str], reason: str) -> None:
        if text := "".join(chunks):
            self.add(Message(role="assistant", parts=(Text(text=text),), cut=reason))

    async def _run_calls(
        self, calls: Sequence[ToolCall], tools: Mapping[str, ToolSpec], problems: Mapping[str, str]
    ) -> None:
        """Run all calls of one step at once; their results join the history in the calls' order, come what may.

        ``faults`` holds, by call id, what was wrong with the arguments of calls that cannot run.
        """
        results: dict[str, ToolResult] = {}
        started_at = time.monotonic()
        self.call_records.clear()

        async def run(call: ToolCall) -> None:
            results[call.id] = await self._run_call(call, tools, problems.get(call.id, ""))

        try:
            async with asyncio.TaskGroup() as group:
                for call in calls:
                    group.create_task(run(call))
        finally:
            placeholder = "cancelled by the user"
            pairs = ((call, results.get(call.id) or error_result(call.id, placeholder)) for call in calls)
            message = Message(
                role="tool", parts=tuple(self.loop_detector.annotate(call, result) for call, result in pairs)
            )
            call_records = tuple(self.call_records[call.id] for call in calls if call.id in self.call_records)
            self.add(message, started_at=started_at, calls=call_records)

    async def _run_call(self, call: ToolCall, tools: Mapping[str, ToolSpec], problem: str) -> ToolResult:
        spec = tools.get(call.name)
        label = spec.qualified_name if spec else call.name
        if spec is None:
            close = closest_matches(call.name, tools)
            suggestion = (
                f"The nearest: {', '.join(close)}." if close else f"There are {len(tools)} tools, none like it."
            )
            return self._not_run(call, label, f"no tool is named {call.name!r}. {suggestion}")
        arguments = parse_arguments(call.arguments)
        if problem := problem or self.toolbox.validate_arguments(spec, arguments):
            return self._not_run(
                call, label, problem if call.id in self.over_limit else f"{problem}; {describe_arguments(spec)}"
            )
        decision = await self.gate.decide(spec, call)
        self.call_records[call.id] = CallMetadata(call_id=call.id, tool=label, decision=decision)
        self.emit(ToolDecided(call=call, tool=label, decision=decision))
        if not decision.allowed:
            return self._not_run(call, label, _format_denial(decision))
        if decision.arguments:
            call, arguments = replace(call, arguments=decision.arguments), parse_arguments(decision.arguments)
        self.emit(ToolStarted(call=call, tool=label, title=spec.title, account=spec.account))
        started_at = time.monotonic()
        result = error_result(call.id, "cancelled by the user")
        try:
            result = await self.toolbox.call(spec, call.id, arguments, self.emit)
        except (ServerError, SignInNeeded, Denied) as error:
            hint = f" ({error.hint})" if error.hint else ""
            result = error_result(call.id, f"{error.message}{hint}")
        else:
            result = _note_edited_arguments(result, decision)
        finally:
            seconds = round(time.monotonic() - started_at, 3)
            self.call_records[call.id] = replace(self.call_records[call.id], seconds=seconds)
            self.emit(
                ToolFinished(
                    call=call, tool=label, result=result, seconds=seconds, title=spec.title, account=spec.account
                )
            )
        return result

    def _not_run(self, call: ToolCall, label: str, reason: str) -> ToolResult:
        """The result of a call that never ran; shown like any other."""
        result = error_result(call.id, reason)
        self.call_records.setdefault(call.id, CallMetadata(call_id=call.id, tool=label))
        self.emit(ToolStarted(call=call, tool=label))
        self.emit(ToolFinished(call=call, tool=label, result=result, seconds=0.0))
        return result


def _validate_arguments(done: ResponseDone) -> tuple[Message, dict[str, str]]:
    """The message with valid arguments in every call, and by call id what was wrong with the ones that had none.

    Broken text must not be stored: some servers refuse every later request that repeats it. Valid text stays as the
    model wrote it, so that the server finds in its cache what it made itself.
    """
    problems: dict[str, str] = {}
    parts: list[Part] = []
    for part in done.message.parts:
        if isinstance(part, ToolCall):
            arguments: dict[str, Any] = {}
            try:
                arguments = parse_arguments(part.arguments)
            except InvalidArguments as error:
                problems[part.id] = str(error)
            if done.stop == "length" and not is_json_object(part.arguments):
                problems[part.id] = _OUTPUT_LIMIT_REACHED  # nothing written is not nothing meant
            if not is_json_object(part.arguments) or json.loads(part.arguments) != arguments:
                part = replace(part, arguments=json.dumps(arguments, ensure_ascii=False))
        parts.append(part)
    message = done.message if tuple(parts) == done.message.parts else replace(done.message, parts=tuple(parts))
    return message, problems


def _note_edited_arguments(result: ToolResult, decision: Decision) -> ToolResult:
    """The result of a call whose arguments the person changed, with words on that: the model reads what really ran."""
    if not decision.arguments:
        return result
    note = Text(text=f"[the user changed this call's arguments to {decision.arguments}]")
    return replace(result, parts=(note, *(result.parts or (Text(text=result_text(result)),))))


def _format_denial(decision: Decision) -> str:
    source = "the user" if decision.by == "user" else "policy"
    return f"denied by {source}" + (f": {decision.reason}" if decision.reason else "")
