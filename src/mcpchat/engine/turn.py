"""The agent loop: ask the model, run the tools that it calls, and repeat until it answers."""

import asyncio
import dataclasses
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
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
from mcpchat.core.search_tools import CALL_TOOL, SEARCH_TOOLS, read_wrapped_call, unwrap_arguments, wrap_arguments
from mcpchat.core.threads import CallMetadata, MessageMetadata
from mcpchat.core.tools import (
    InvalidArguments,
    ToolSpec,
    describe_arguments,
    parse_arguments,
    read_strings_by_schema,
)
from mcpchat.core.usage import UsageTotals
from mcpchat.engine.approval_gate import ApprovalGate
from mcpchat.engine.history import is_json_object
from mcpchat.engine.loop_detection import LoopDetector
from mcpchat.engine.transcript import Transcript
from mcpchat.engine.written_calls import find_written_calls, has_marker, is_quoted
from mcpchat.errors import Denied, McpChatError, ModelError, ServerError, SignInNeeded
from mcpchat.util.text import closest_matches

_MAX_COMPARED = 500  # names
_CANCELLED = "cancelled by the user"
_UNREADABLE_CALL = "the model wrote a tool call as text, and it did not run"
_PARSER_HINT = (
    "use a model that is trained for tools, or let its server parse them (llama.cpp: --jinja, vLLM: --tool-call-parser)"
)
_OUTPUT_LIMIT_REACHED = "the call was cut off at the model's output limit and did not run: send less in one call"


class TurnLimits(Struct, frozen=True, kw_only=True):
    """Where a turn stops. ``max_steps`` is rounds of tool calls, ``max_calls`` all tool calls of the turn.

    ``max_tokens`` and ``max_dollars`` limit the whole run; they are checked before each request.
    """

    max_steps: int = 25
    max_calls: int = 250
    max_tokens: int | None = None
    max_dollars: float | None = None


@dataclass(frozen=True, kw_only=True)
class PreparedCall:
    """A tool call with its tool and its parsed arguments. ``problem`` says why it cannot run; ``spec`` is None if no
    tool has the name.

    ``call`` is what the history has, ``real_call`` that of the tool itself: they differ for a call by ``call_tool``.
    """

    call: ToolCall
    real_call: ToolCall
    spec: ToolSpec | None
    arguments: Mapping[str, Any]
    problem: str = ""

    @property
    def label(self) -> str:
        """The tool's name for people."""
        return self.spec.qualified_name if self.spec is not None else self.real_call.name


@dataclass(kw_only=True)
class Turn:
    """One user message and everything that follows from it.

    The ``transcript`` grows through ``add`` alone, and is valid for the next request after an error, a limit or a
    cancellation at any await. ``build_request`` makes a request without its messages, and ``reachable_tools`` are the
    tools that its model can call, by model name: those of the request, and those that it can find. ``thread_usage`` is
    the usage of the conversation and ``run_usage`` that of the run, which the limits are about; ``take_partial_usage``
    returns the estimated usage of an answer that was interrupted.
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
    reachable_tools: Callable[[], Mapping[str, ToolSpec]] = dict
    take_partial_usage: Callable[[], Usage | None] = lambda: None
    notice: str = ""
    steps: int = 0
    call_count: int = 0
    started_at: float = field(default_factory=time.monotonic)
    loop_detector: LoopDetector = field(default_factory=LoopDetector)
    call_records: dict[str, CallMetadata] = field(default_factory=dict)  # of this step, by call id
    pending_usage: Usage = field(default_factory=Usage)  # of requests that have no message yet

    def __post_init__(self) -> None:
        self.turn_usage = UsageTotals(self.thread_usage)

    async def run(self, *messages: Message) -> TurnFinished:
        """Add the messages, ask the model, run its calls, and repeat until it answers.

        The last event is turn.finished or turn.failed, exactly one of them. Errors and cancellations are raised again.
        """
        self._start(messages)
        with self._report_failure():
            # One request for the whole turn: the model's list of tools does not change in between. What it can call may
            # have grown when it has searched.
            request, tools = await self._prepare_request()
            rounds, max_rounds = 0, self.limits.max_steps
            while (stop := self._budget_exhausted()) is None:
                if self.loop_detector.is_looping:
                    stop = await self._final_answer_without_tools(request, "repeats")
                    break
                if rounds == max_rounds:
                    if not await self.gate.confirm_more_steps(rounds):
                        stop = await self._final_answer_without_tools(request, "steps")
                        break
                    max_rounds += self.limits.max_steps
                started_at = time.monotonic()
                if len(request.tools) > (self.choice.max_tools() or len(request.tools)):  # learnt by a summary
                    request, tools = await self._prepare_request()
                try:
                    done = await self._ask_model(request, tools)
                except ModelError as error:
                    if error.kind != "tool_limit":
                        raise
                    self.steps -= 1  # it was no answer
                    request, tools = await self._fit_tools(error)
                    done = await self._ask_model(request, tools)
                message, calls = _prepare_calls(self._read_written_calls(done, request, tools), tools)
                self.add(message, usage=done.usage, started_at=started_at)
                if not calls:
                    if not message.text.strip() and done.stop == "end":
                        self.emit(Notice(level="warning", text="the model answered with nothing"))
                    stop = done.stop
                    break
                await self._run_calls(self._reject_over_limit(calls))
                if any(call.spec == SEARCH_TOOLS for call in calls):
                    request, tools = await self._prepare_request()
                if self.call_count > self.limits.max_calls:
                    stop = await self._final_answer_without_tools(request, "calls")
                    break
                rounds += 1
        finished = self._finished_event(stop)
        self.emit(finished)
        return finished

    async def _prepare_request(self) -> tuple[ModelRequest, Mapping[str, ToolSpec]]:
        """A request without messages, and the tools that its model can call, by model name."""
        request = await self.build_request()
        return request, self.reachable_tools() or {tool.model_name: tool for tool in request.tools}

    async def _fit_tools(self, error: ModelError) -> tuple[ModelRequest, Mapping[str, ToolSpec]]:
        """Another request after one that had more tools than the model's server takes."""
        request, tools = await self._prepare_request()
        outcome = (
            "the model searches the others"
            if SEARCH_TOOLS in request.tools
            else "the others are left out; tool_search in the config lets the model search them"
        )
        self.emit(Notice(level="warning", text=f"{error.message}: {outcome}"))
        return request, tools

    def _start(self, messages: Sequence[Message]) -> None:
        thread_id = self.transcript.thread.id if self.transcript.is_persistent else ""  # nothing keeps the others
        self.emit(TurnStarted(thread_id=thread_id, model=self.choice.name))
        if self.notice:
            self.emit(Notice(level="info", text=self.notice))
        self.transcript.close_open_calls()
        for message in messages:
            self.add(message)

    @contextmanager
    def _report_failure(self) -> Iterator[None]:
        """Emit the last event of a turn that is cancelled or fails."""
        try:
            yield
        except asyncio.CancelledError:
            self.emit(self._finished_event("cancelled"))
            raise
        except McpChatError as error:
            self.emit(TurnFailed(kind=error.kind, message=error.message, hint=error.hint))
            raise
        except Exception as error:
            self.emit(TurnFailed(kind="internal", message=f"{type(error).__name__}: {error}"))
            raise

    def _finished_event(self, stop: StopReason) -> TurnFinished:
        cost = self.turn_usage.cost if self.choice.price is not None else None
        seconds = round(time.monotonic() - self.started_at, 3)
        return TurnFinished(stop=stop, usage=self.turn_usage.usage, steps=self.steps, cost=cost, seconds=seconds)

    def _reject_over_limit(self, calls: Sequence[PreparedCall]) -> Sequence[PreparedCall]:
        """Count the calls; those over the limit get a problem and do not run."""
        remaining = max(0, self.limits.max_calls - self.call_count)
        self.call_count += len(calls)
        problem = f"the limit of {self.limits.max_calls} calls in one turn is reached"
        return [*calls[:remaining], *(dataclasses.replace(call, problem=problem) for call in calls[remaining:])]

    def _budget_exhausted(self) -> StopReason | None:
        if self.limits.max_tokens is not None and self.run_usage.usage.total >= self.limits.max_tokens:
            return "tokens"
        if self.limits.max_dollars is not None and self.run_usage.dollars >= self.limits.max_dollars:
            return "cost"
        return None

    async def _final_answer_without_tools(self, request: ModelRequest, stop: StopReason) -> StopReason:
        """Let the model answer without tools. Calls that it makes nevertheless are dropped."""
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
                            self.emit(Notice(level="warning", text=event.text, topic="retry"))
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
        except (asyncio.CancelledError, OSError):  # OSError: the event could not be written
            self._add_partial_usage()
            self._add_partial_message(chunks, "cancelled")
            raise
        except ModelError as error:
            self._add_partial_usage()
            connection_lost = error.kind in {"network", "broken_stream"}
            self._add_partial_message(chunks, "connection lost" if connection_lost else "the model's server failed")
            raise
        raise AssertionError("a model's stream ends with ResponseDone or raises ModelError")

    def _read_written_calls(
        self, done: ResponseDone, request: ModelRequest, tools: Mapping[str, ToolSpec]
    ) -> ResponseDone:
        """The response, with calls that the model wrote as text as real calls if they are unmistakable and valid."""
        message = done.message
        if not tools or message.calls or done.stop != "end" or not (text := message.text.strip()):
            return done
        found = find_written_calls(text, only_marked=request.schema is not None)
        if found is None:
            if has_marker(text):
                self.emit(Notice(level="warning", text=f"{_UNREADABLE_CALL}; {_PARSER_HINT}"))
            return done
        calls: list[ToolCall] = []
        written = text[len(found.text) :]
        untrusted = self._untrusted_texts(request, written)
        for name, arguments in found.calls:
            forms = [written]
            if _is_wrapper(name, tools):
                name, inner = unwrap_arguments(arguments)
                arguments = inner if isinstance(inner, dict) else {}
                forms.append(wrap_arguments(name, arguments))  # a quotation may have no call_tool around it
            spec = _find_tool(name, tools)
            arguments = read_strings_by_schema(spec, arguments) if spec is not None else arguments
            problem = f"no tool is named {name!r}" if spec is None else self.toolbox.validate_arguments(spec, arguments)
            if not problem and any(is_quoted((name, arguments), form, untrusted) for form in forms):
                problem = "the conversation already has it, so it may be a quotation"
            if spec is None or problem:
                if spec is not None or has_marker(text):
                    self.emit(Notice(level="warning", text=f"{_UNREADABLE_CALL} ({problem}); {_PARSER_HINT}"))
                return done
            call_id = uuid.uuid4().hex[:9]  # nine letters and digits, as Mistral requires
            calls.append(
                ToolCall(id=call_id, name=spec.model_name, arguments=json.dumps(arguments, ensure_ascii=False))
            )
        names = ", ".join(dict.fromkeys(tools[call.name].qualified_name for call in calls))
        self.emit(Notice(level="info", text=f"the model wrote a call of {names} as text; it counts as a call"))
        kept = [part for part in message.parts if not isinstance(part, Text)]
        prose = [Text(text=found.text)] if found.text else []
        return replace(done, message=replace(message, parts=(*kept, *prose, *calls), raw=None))

    def _untrusted_texts(self, request: ModelRequest, written: str) -> list[str]:
        """The texts that a written call may be quoted from: results, instructions and descriptions.

        A message of the user is one of them only if it has the whole call. Any request names some of its values.
        """
        core = "".join(written.split())
        messages = self.transcript.messages
        texts = [result_text(result) for message in messages for result in message.results]
        texts += [json.dumps(r.structured) for m in messages for r in m.results if r.structured is not None]
        texts += [m.text for m in messages if m.role == "user" and core in "".join(m.text.split())]
        return [*texts, request.system, *(tool.description for tool in request.tools)]

    def _add_partial_usage(self) -> None:
        if usage := self.take_partial_usage():
            self.turn_usage.add(usage, self.choice.price)

    def _add_partial_message(self, chunks: Sequence[str], reason: str) -> None:
        if text := "".join(chunks):
            self.add(Message(role="assistant", parts=(Text(text=text),), cut=reason))

    async def _run_calls(self, calls: Sequence[PreparedCall]) -> None:
        """Run all calls of one step at once. Their results join the history in the calls' order, whatever happens."""
        results: dict[str, ToolResult] = {}
        started_at = time.monotonic()
        self.call_records.clear()

        async def run(prepared: PreparedCall) -> None:
            results[prepared.call.id] = await self._run_call(prepared)

        try:
            async with asyncio.TaskGroup() as group:
                for prepared in calls:
                    group.create_task(run(prepared))
        finally:
            pairs = [(p.call, results.get(p.call.id) or error_result(p.call.id, _CANCELLED)) for p in calls]
            parts = tuple(self.loop_detector.annotate(call, result) for call, result in pairs)
            records = tuple(self.call_records[call.id] for call, _ in pairs if call.id in self.call_records)
            self.add(Message(role="tool", parts=parts), started_at=started_at, calls=records)

    async def _run_call(self, prepared: PreparedCall) -> ToolResult:
        call, spec, arguments = prepared.real_call, prepared.spec, prepared.arguments
        if spec is None or prepared.problem:
            return self._not_run(prepared, prepared.problem)
        if problem := self.toolbox.validate_arguments(spec, arguments):
            return self._not_run(prepared, f"{problem}; {describe_arguments(spec)}")
        decision, arguments = await self.gate.decide(spec, arguments)
        self.call_records[call.id] = CallMetadata(call_id=call.id, tool=prepared.label, decision=decision)
        self.emit(ToolDecided(call=call, tool=prepared.label, decision=decision))
        if not decision.allowed:
            return self._not_run(prepared, _format_denial(decision))
        if decision.arguments:
            call = replace(call, arguments=decision.arguments)
        label, title, account = prepared.label, spec.title, spec.account
        self.emit(ToolStarted(call=call, tool=label, title=title, account=account))
        started_at = time.monotonic()
        result = error_result(call.id, _CANCELLED)
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
            self.emit(ToolFinished(call=call, tool=label, result=result, seconds=seconds, title=title, account=account))
        return result

    def _not_run(self, prepared: PreparedCall, reason: str) -> ToolResult:
        """The result of a call that did not run; it is shown like any other."""
        call, label = prepared.real_call, prepared.label
        result = error_result(call.id, reason)
        self.call_records.setdefault(call.id, CallMetadata(call_id=call.id, tool=label))
        self.emit(ToolStarted(call=call, tool=label))
        self.emit(ToolFinished(call=call, tool=label, result=result, seconds=0.0))
        return result


def _prepare_calls(done: ResponseDone, tools: Mapping[str, ToolSpec]) -> tuple[Message, list[PreparedCall]]:
    """Parse the arguments of every call. The message that is returned has valid JSON in all of them.

    Broken JSON must not be stored: some servers reject every later request that repeats it. Valid JSON stays as the
    model wrote it, so that the server finds it in its cache.
    """
    calls: list[PreparedCall] = []
    parts: list[Part] = []
    for part in done.message.parts:
        if isinstance(part, ToolCall):
            prepared = _prepare_call(part, tools, cut_off=done.stop in {"length", "window"})
            calls.append(prepared)
            part = prepared.call
        parts.append(part)
    message = done.message if tuple(parts) == done.message.parts else replace(done.message, parts=tuple(parts))
    return message, calls


def _prepare_call(call: ToolCall, tools: Mapping[str, ToolSpec], *, cut_off: bool) -> PreparedCall:
    is_wrapper = _is_wrapper(call.name, tools)
    call = replace(call, name=CALL_TOOL.model_name) if is_wrapper else call
    real_call, spec, arguments, problem = call, None, dict[str, Any](), ""
    try:
        real_call = read_wrapped_call(call)
        spec = _find_tool(real_call.name, tools)
        arguments = parse_arguments(real_call.arguments)
    except InvalidArguments as error:
        problem = str(error)
    if spec is not None:
        arguments = read_strings_by_schema(spec, arguments)
        real_call = replace(real_call, name=spec.model_name)
    is_valid = is_json_object(call.arguments)
    if cut_off and not is_valid:
        problem = _OUTPUT_LIMIT_REACHED  # even if nothing was written: that is not an empty object
    text = json.dumps(arguments, ensure_ascii=False)
    if is_wrapper:
        real_call = replace(real_call, arguments=text) if real_call is not call else real_call
        call = call if is_valid else replace(call, arguments=wrap_arguments(real_call.name, arguments))
    else:
        if not is_valid or json.loads(call.arguments) != arguments:
            real_call = replace(real_call, arguments=text)
        call = real_call
    if spec is None:
        problem = problem or f"no tool is named {real_call.name!r}. {_describe_known(real_call.name, tools)}"
    elif problem:
        problem = f"{problem}; {describe_arguments(spec)}"
    return PreparedCall(call=call, real_call=real_call, spec=spec, arguments=arguments, problem=problem)


def _describe_known(name: str, tools: Mapping[str, ToolSpec]) -> str:
    """The tools with the most similar names; of very many, those that share a word: comparing all takes seconds."""
    names: Collection[str] = tools
    if len(names) > _MAX_COMPARED:
        words = {word for word in re.split(r"[\W_]+", name.lower()) if len(word) > 2}
        names = [known for known in names if any(word in known.lower() for word in words)][:_MAX_COMPARED]
    close = closest_matches(name, names)
    return f"The nearest: {', '.join(close)}." if close else f"There are {len(tools)} tools, none like it."


def _is_wrapper(name: str, tools: Mapping[str, ToolSpec]) -> bool:
    """Whether a call of this name is one by ``call_tool``."""
    return name == CALL_TOOL.model_name or (tools.get(name) or _find_by_own_name(name, tools)) == CALL_TOOL


def _find_tool(name: str, tools: Mapping[str, ToolSpec]) -> ToolSpec | None:
    """The tool with this name; None if no tool has it, and for ``call_tool``."""
    spec = tools.get(name) or _find_by_own_name(name, tools)
    return None if spec == CALL_TOOL else spec


def _find_by_own_name(name: str, tools: Mapping[str, ToolSpec]) -> ToolSpec | None:
    """The only tool with this name at its server: small models leave the server's name out. None if it is not clear."""
    found = [spec for spec in tools.values() if name in {spec.name, spec.qualified_name}]
    return found[0] if len(found) == 1 else None


def _note_edited_arguments(result: ToolResult, decision: Decision) -> ToolResult:
    """Add a note to the result of a call whose arguments the user changed: the model must know what really ran."""
    if not decision.arguments:
        return result
    note = Text(text=f"[the user changed this call's arguments to {decision.arguments}]")
    return replace(result, parts=(note, *(result.parts or (Text(text=result_text(result)),))))


def _format_denial(decision: Decision) -> str:
    source = "the user" if decision.by == "user" else "policy"
    return f"denied by {source}" + (f": {decision.reason}" if decision.reason else "")
