"""A turn in detail: the metadata of each message, what a model reads about calls that did not run, and odd streams."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from mcpchat.core import events as ev
from mcpchat.core.messages import (
    Compaction,
    Image,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    error_result,
    user_message,
)
from mcpchat.core.policy import ApprovalRequest, Decision
from mcpchat.core.protocols import (
    Compacted,
    ExtraUsage,
    ModelEvent,
    ModelRequest,
    ResponseDone,
    SelectedModel,
    ToolCallStarted,
)
from mcpchat.core.threads import INTERRUPTED, CallMetadata, MessageMetadata
from mcpchat.core.usage import UsageTotals
from mcpchat.engine.transcript import Transcript
from mcpchat.engine.turn import Turn, TurnLimits
from mcpchat.errors import Denied, McpChatError, ModelError, ServerError, SignInNeeded
from tests.support.fakes import (
    ALLOW,
    FakeToolbox,
    ScriptedDialog,
    ScriptedModel,
    Step,
    make_call,
    make_gate,
    make_tool,
    model_step,
)

TOOL = "box__echo"
GO = user_message("go")
IMAGE = Image(media_type="image/png", data=b"\x89P")
BY_RULE = Decision(allowed=True, by="policy", reason="default: read-only tools of trusted servers are allowed")
START = 1000.0  # of every clock


class Clock:
    """A clock that only the fakes advance."""

    def __init__(self) -> None:
        self.now = START

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    monkeypatch.setattr("time.time", lambda: START)
    return clock


class TimedModel(ScriptedModel):
    """Takes 2.34567 seconds for each answer."""

    def __init__(self, clock: Clock, *steps: Step) -> None:
        super().__init__(*steps)
        self._clock = clock

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        self._clock.advance(2.34567)
        async for event in super().stream(request):
            yield event


def make_turn(
    *steps: Step,
    toolbox: FakeToolbox | None = None,
    dialog: ScriptedDialog | None = None,
    model: Any = None,
    **options: Any,
) -> tuple[Turn, list[ev.Event]]:
    events: list[ev.Event] = []
    toolbox = toolbox or FakeToolbox({"echo": lambda arguments: "ok"})
    model = model or ScriptedModel(*steps)
    choice = SelectedModel(
        name="m", adapter=model, selector=options.pop("selector", ""), price=options.pop("price", None)
    )

    async def build_request() -> ModelRequest:
        return ModelRequest(model="m", tools=tuple(await toolbox.list_tools()))

    turn = Turn(
        model=model,
        choice=choice,
        build_request=build_request,
        toolbox=toolbox,
        gate=make_gate(dialog=dialog),
        transcript=Transcript(events.append),
        emit=events.append,
        **{
            "agent": "",
            "limits": TurnLimits(),
            "thread_usage": UsageTotals(),
            "run_usage": UsageTotals(),
            **options,
        },
    )
    return turn, events


def texts(turn: Turn) -> list[str]:
    """Return the texts of all results of calls."""
    parts = [part for message in turn.transcript.messages for result in message.results for part in result.parts]
    return [part.text for part in parts if isinstance(part, Text)]


# --- metadata ----------------------------------------------------------------------------------------------------


async def test_each_message_has_its_time_usage_cost_duration_and_calls(clock: Clock) -> None:
    def run(arguments: dict[str, Any]) -> str:
        clock.advance(1.23456)
        return "ok"

    call = make_call(TOOL, '{"text":"x"}')
    used = Usage(input=3, output=1)
    model = TimedModel(clock, model_step("", call, usage=used), model_step("Hi."))
    turn, events = make_turn(
        model=model,
        toolbox=FakeToolbox({"echo": run}),
        agent="mail",
        started_at=START,
        selector="fast",
        price=lambda usage: usage.total / 8,
    )
    finished = await turn.run(GO)
    common = {"at": START, "agent": "mail", "model": "fast"}
    record = CallMetadata(call_id="c1", tool="box.echo", decision=BY_RULE, seconds=1.235)
    assert turn.transcript.metadata == [
        MessageMetadata(**common),
        MessageMetadata(usage=used, cost=0.5, seconds=2.346, **common),
        MessageMetadata(seconds=1.235, calls=(record,), **common),
        MessageMetadata(usage=Usage(input=1, output=1), cost=0.25, seconds=2.346, **common),
    ]
    assert finished == ev.TurnFinished(stop="end", usage=Usage(input=4, output=2), steps=2, cost=0.75, seconds=5.926)
    assert [event.seconds for event in events if isinstance(event, ev.ToolFinished)] == [1.235]
    assert turn.transcript.messages[1].calls == (call,)


async def test_without_a_selector_or_a_price_the_metadata_has_the_models_name_and_no_cost(clock: Clock) -> None:
    turn, _ = make_turn(model_step("Hi."))
    assert (await turn.run(GO)).cost is None
    usage = Usage(input=1, output=1)
    assert turn.transcript.metadata[1] == MessageMetadata(at=START, model="m", usage=usage, seconds=0.0)


async def test_the_final_answer_without_tools_has_its_usage_and_duration(clock: Clock) -> None:
    used = Usage(input=5, output=5)
    model = TimedModel(clock, model_step("", make_call(TOOL)), model_step("So far.", usage=used))
    turn, _ = make_turn(model=model, limits=TurnLimits(max_steps=1))
    assert (await turn.run(GO)).stop == "steps"
    assert turn.transcript.metadata[-1] == MessageMetadata(at=START, model="m", usage=used, seconds=2.346)


async def test_a_call_that_did_not_run_is_recorded_without_a_decision(clock: Clock) -> None:
    turn, events = make_turn(
        model_step("", make_call(TOOL, call_id="c")), model_step("", make_call("nope", call_id="c")), model_step("Hi.")
    )
    await turn.run(GO)
    assert [metadata.calls for metadata in turn.transcript.metadata if metadata.calls] == [
        (CallMetadata(call_id="c", tool="box.echo", decision=BY_RULE),),
        (CallMetadata(call_id="c", tool="nope"),),
    ]
    finished = [event for event in events if isinstance(event, ev.ToolFinished)]
    assert [(event.tool, event.seconds) for event in finished] == [("box.echo", 0.0), ("nope", 0.0)]


async def test_events_of_a_call_have_the_tools_title_and_account() -> None:
    toolbox = FakeToolbox({"echo": lambda arguments: "ok"}, make_tool(title="Echo", account="mail/alice"))
    turn, events = make_turn(model_step("", make_call(TOOL)), model_step("Hi."), toolbox=toolbox)
    await turn.run(GO)
    of_calls = [event for event in events if isinstance(event, ev.ToolStarted | ev.ToolFinished)]
    assert [(event.title, event.account) for event in of_calls] == [("Echo", "mail/alice")] * 2


async def test_a_turn_that_a_limit_stops_at_once_has_no_cost_without_a_price() -> None:
    turn, _ = make_turn(limits=TurnLimits(max_tokens=0))
    finished = await turn.run(GO)
    assert (finished.stop, finished.cost) == ("tokens", None)


# --- limits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [TurnLimits(max_tokens=8), TurnLimits(max_dollars=4.0)], ids=["tokens", "dollars"])
async def test_a_limit_that_is_reached_exactly_stops_the_turn(limits: TurnLimits) -> None:
    totals = UsageTotals()
    totals.add(Usage(input=4, output=4), lambda usage: usage.total / 2)
    turn, _ = make_turn(limits=limits, run_usage=totals)
    assert (await turn.run(GO)).steps == 0


def calls(count: int, prefix: str = "c") -> list[ToolCall]:
    return [make_call(TOOL, json.dumps({"text": f"{prefix}{n}"}), f"{prefix}{n}") for n in range(count)]


async def test_as_many_calls_as_the_limit_may_run() -> None:
    turn, _ = make_turn(model_step("", *calls(2)), model_step("Hi."), limits=TurnLimits(max_calls=2))
    assert (await turn.run(GO)).stop == "end"
    assert texts(turn) == ["ok", "ok"]


async def test_no_call_runs_after_as_many_as_the_limit() -> None:
    steps = (model_step("", *calls(2)), model_step("", *calls(2, "d")), model_step("Hi."))
    turn, _ = make_turn(*steps, limits=TurnLimits(max_calls=2))
    assert (await turn.run(GO)).stop == "calls"
    assert texts(turn) == ["ok", "ok", *["the limit of 2 calls in one turn is reached"] * 2]


async def test_a_turn_makes_25_rounds_of_calls_by_default_before_the_user_is_asked() -> None:
    dialog = ScriptedDialog(False)
    steps = (model_step("", *calls(1, f"{number}-")) for number in range(25))
    turn, _ = make_turn(*steps, model_step("So far."), dialog=dialog)
    assert (await turn.run(GO)).stop == "steps"
    assert dialog.prompts == [("go on", 25)]


async def test_a_turn_runs_250_calls_by_default() -> None:
    turn, _ = make_turn(model_step("", *calls(251)), model_step("Hi."))
    await turn.run(GO)
    assert texts(turn) == [*["ok"] * 250, "the limit of 250 calls in one turn is reached"]


# --- what a model reads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "stop", "message"),
    [
        (make_call("box__ecko"), "end", "no tool is named 'box__ecko'. The nearest: box__echo, box__each."),
        (make_call("zzz"), "end", "no tool is named 'zzz'. There are 2 tools, none like it."),
        (
            make_call(TOOL, '{"text": "long'),
            "length",
            "the call was cut off at the model's output limit and did not run: send less in one call; "
            "it takes text (required)",
        ),
        (make_call("box__each"), "end", "text is missing; it takes text (required)"),
        (make_call(TOOL, '{"text": "x"}'), "length", "ok"),  # complete, although the answer was cut off
    ],
)
async def test_the_model_reads_why_a_call_did_not_run(call: ToolCall, stop: ev.StopReason, message: str) -> None:
    toolbox = FakeToolbox({"echo": lambda arguments: "ok", "each": lambda arguments: "never"})
    toolbox.argument_errors["each"] = "text is missing"
    turn, _ = make_turn(model_step("", call, stop=stop), model_step("Hi."), toolbox=toolbox)
    await turn.run(GO)
    assert texts(turn) == [message]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ServerError("box went away"), "box went away"),
        (SignInNeeded("sign in first", hint="mcpchat auth login box"), "sign in first (mcpchat auth login box)"),
        (Denied("echo has changed"), "echo has changed"),
    ],
    ids=["server", "sign-in", "denied"],
)
async def test_the_model_reads_why_a_call_failed(error: McpChatError, message: str) -> None:
    def fail(arguments: dict[str, Any]) -> str:
        raise error

    turn, _ = make_turn(model_step("", make_call(TOOL)), model_step("Hi."), toolbox=FakeToolbox({"echo": fail}))
    assert (await turn.run(GO)).stop == "end"
    assert turn.transcript.messages[2].results == (error_result("c1", message),)


async def test_a_denial_without_a_reason_names_who_denied() -> None:
    toolbox = FakeToolbox({"echo": lambda arguments: "never"}, make_tool(read_only=False))
    dialog = ScriptedDialog(Decision(allowed=False, by="user"))
    turn, _ = make_turn(model_step("", make_call(TOOL)), model_step("Hi."), toolbox=toolbox, dialog=dialog)
    await turn.run(GO)
    assert texts(turn) == ["denied by the user"]


@pytest.mark.parametrize(
    ("fields", "shown"),
    [({"structured": {"n": 1}}, Text(text='{"n":1}')), ({"parts": (IMAGE,)}, IMAGE)],
    ids=["structured", "image"],
)
async def test_the_note_about_changed_arguments_precedes_the_result(fields: dict[str, Any], shown: Part) -> None:
    class Toolbox(FakeToolbox):
        async def call(self, spec: Any, call_id: str, arguments: Any, emit: Any) -> ToolResult:
            return ToolResult(call_id=call_id, **fields)

    edited = Decision(allowed=False, by="user", arguments='{"text": "b"}')
    turn, _ = make_turn(
        model_step("", make_call(TOOL, '{"text": "a"}')),
        model_step("Hi."),
        toolbox=Toolbox({"echo": str}, make_tool(read_only=False)),
        dialog=ScriptedDialog(edited, ALLOW),
    )
    await turn.run(GO)
    note = Text(text='[the user changed this call\'s arguments to {"text": "b"}]')
    assert turn.transcript.messages[2].results[0].parts == (note, shown)


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ('{"text":"x"}', '{"text":"x"}'),  # as written, so that the provider finds it in its cache
        ('"{\\"text\\": \\"\u00e9\\"}"', '{"text": "\u00e9"}'),
        ('{"text": "\\ud800"}', '{"text": "\ufffd"}'),
        ('{"text": 1e999}', "{}"),
    ],
)
async def test_arguments_are_stored_as_written_if_they_are_valid_and_as_read_if_not(written: str, stored: str) -> None:
    turn, _ = make_turn(model_step("", make_call(TOOL, written)), model_step("Hi."))
    await turn.run(GO)
    assert turn.transcript.messages[1] == Message(role="assistant", parts=(make_call(TOOL, stored),))


# --- streams -----------------------------------------------------------------------------------------------------


async def test_reasoning_and_notices_of_a_model_are_shown() -> None:
    shown = [ev.ReasoningDelta(text="hm"), ev.Notice(level="info", text="n")]
    turn, events = make_turn([*shown, *model_step("Hi.")])
    await turn.run(GO)
    assert [event for event in events if isinstance(event, ev.ReasoningDelta | ev.Notice)] == shown


async def test_a_server_starts_when_its_tool_is_named_and_not_for_an_unknown_tool() -> None:
    toolbox = FakeToolbox({"echo": lambda arguments: "ok"})
    turn, _ = make_turn([ToolCallStarted(name="nope"), ToolCallStarted(name=TOOL), *model_step("Hi.")], toolbox=toolbox)
    await turn.run(GO)
    assert toolbox.prestarted == ["echo"]


async def test_each_request_holds_the_messages_of_its_time() -> None:
    model = ScriptedModel(model_step("", make_call(TOOL)), model_step("Hi."))
    turn, _ = make_turn(model=model)
    await turn.run(GO)
    assert [request.messages for request in model.requests] == [(GO,), tuple(turn.transcript.messages[:3])]


async def test_the_usage_of_a_summary_is_that_of_its_message_and_part_of_the_turns() -> None:
    note = Message(role="system", parts=(Compaction(replaces=1, limit=9, summary="so far"),))
    extra = [ExtraUsage(usage=Usage(input=2)), ExtraUsage(usage=Usage(input=3, output=1))]
    turn, _ = make_turn(
        [*extra, Compacted(message=note), Compacted(message=note), *model_step("Hi.")], price=lambda usage: 1.0
    )
    finished = await turn.run(GO)
    assert turn.transcript.messages[1:3] == [note, note]
    assert [metadata.usage for metadata in turn.transcript.metadata] == [
        None, Usage(input=5, output=1), None, Usage(input=1, output=1),
    ]  # fmt: skip
    assert (finished.usage, finished.cost) == (Usage(input=6, output=2), 3.0)


@pytest.mark.parametrize(
    ("kind", "cut"),
    [("network", "connection lost"), ("broken_stream", "connection lost"), ("server", "the model's server failed")],
)
async def test_a_partial_answer_says_why_it_was_cut(kind: Any, cut: str) -> None:
    deltas = [ev.TextDelta(text="Ha"), ev.TextDelta(text="lf")]
    turn, _ = make_turn([*deltas, ModelError("no", kind=kind)])
    with pytest.raises(ModelError):
        await turn.run(GO)
    assert turn.transcript.messages[1:] == [Message(role="assistant", parts=(Text(text="Half"),), cut=cut)]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ([ValueError("oops")], "ValueError: oops"),
        ([ev.TextDelta(text="a")], "AssertionError: a model's stream ends with ResponseDone or raises ModelError"),
    ],
    ids=["raises", "ends early"],
)
async def test_a_bug_in_a_model_adapter_fails_the_turn(step: Step, message: str) -> None:
    turn, events = make_turn(step)
    with pytest.raises((ValueError, AssertionError)):
        await turn.run(GO)
    assert events[-1] == ev.TurnFailed(kind="internal", message=message)


@pytest.mark.parametrize("stop", ["refusal", "length", "filter"])
async def test_an_answer_that_is_empty_for_a_known_reason_causes_no_warning(stop: ev.StopReason) -> None:
    turn, events = make_turn(model_step("", stop=stop))
    await turn.run(GO)
    assert not any(isinstance(event, ev.Notice) for event in events)


@pytest.mark.parametrize("extra", [(), (make_call(TOOL, call_id="d"),)], ids=["without calls", "with a call"])
async def test_a_final_answer_keeps_provider_data_unless_a_call_was_dropped(extra: tuple[ToolCall, ...]) -> None:
    parts = (Reasoning(text="hm"), Text(text="So far."))
    answer = Message(role="assistant", parts=(*parts, *extra), raw={"id": "r1"})
    done = ResponseDone(message=answer, usage=Usage(input=1), stop="end")
    turn, _ = make_turn(model_step("", make_call(TOOL)), [done], limits=TurnLimits(max_steps=1))
    await turn.run(GO)
    raw = None if extra else {"id": "r1"}
    assert turn.transcript.messages[-1] == Message(role="assistant", parts=parts, raw=raw)


# --- interruptions -----------------------------------------------------------------------------------------------


async def test_calls_that_were_open_when_the_program_ended_are_answered_before_the_next_message() -> None:
    turn, _ = make_turn(model_step("Hi."))
    turn.add(GO)
    turn.add(Message(role="assistant", parts=(make_call(TOOL, call_id="a"),)))
    await turn.run(user_message("more"))
    assert turn.transcript.messages[2:4] == [
        Message(role="tool", parts=(error_result("a", INTERRUPTED),)),
        user_message("more"),
    ]


async def test_a_cancelled_call_ends_with_the_result_that_the_model_reads() -> None:
    started = asyncio.Event()

    async def wait(arguments: dict[str, Any]) -> str:
        started.set()
        await asyncio.Event().wait()
        return "never"

    turn, events = make_turn(model_step("", make_call(TOOL)), toolbox=FakeToolbox({"echo": wait}))
    task = asyncio.create_task(turn.run(GO))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    cancelled = error_result("c1", "cancelled by the user")
    assert [event.result for event in events if isinstance(event, ev.ToolFinished)] == [cancelled]
    assert turn.transcript.messages[-1].results == (cancelled,)
    assert [call.decision for call in turn.transcript.metadata[-1].calls] == [BY_RULE]


async def test_a_cancel_while_the_user_is_asked_leaves_a_result_without_a_record() -> None:
    asked = asyncio.Event()

    class Waiting(ScriptedDialog):
        async def approve(self, request: ApprovalRequest) -> Decision:
            asked.set()
            await asyncio.Event().wait()
            return ALLOW

    toolbox = FakeToolbox({"echo": lambda arguments: "never"}, make_tool(read_only=False))
    turn, events = make_turn(model_step("", make_call(TOOL)), toolbox=toolbox, dialog=Waiting())
    task = asyncio.create_task(turn.run(GO))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert turn.transcript.messages[-1].results == (error_result("c1", "cancelled by the user"),)
    assert turn.transcript.metadata[-1].calls == ()
    assert isinstance(events[-1], ev.TurnFinished)
