"""The turn loop with fakes; complete event lists are compared."""

import asyncio
import json
from typing import Any

import pytest

from mcpchat.core import events as ev
from mcpchat.core.events import Event
from mcpchat.core.messages import Message, Text, Usage, error_result, user_message
from mcpchat.core.policy import Decision, Policy, parse_rules
from mcpchat.core.protocols import Retrying, SelectedModel, ToolCallStarted
from mcpchat.core.threads import MessageMetadata
from mcpchat.engine.session import ActiveAgent, Session
from mcpchat.engine.turn import TurnLimits
from mcpchat.errors import ModelError, ServerError
from tests.support.fakes import (
    ALLOW,
    DENY,
    FakeToolbox,
    ScriptedDialog,
    ScriptedModel,
    counts,
    make_call,
    make_gate,
    make_tool,
    model_step,
    unanswered_calls,
)

TOOL = "box__echo"
ASSISTANT_HI = Message(role="assistant", parts=(Text(text="Hi."),))


def new_session(
    model: ScriptedModel, toolbox: FakeToolbox | None = None, **options: Any
) -> tuple[Session, list[Event]]:
    seen_events: list[Event] = []
    gate = make_gate(options.pop("policy", None), options.pop("asker", None))
    choice = SelectedModel(name="m", adapter=model, notice=options.pop("notice", ""))
    if steps := options.pop("max_steps", None):
        options["limits"] = TurnLimits(max_steps=steps)
    session = Session(
        model=choice,
        toolbox=toolbox or FakeToolbox(),
        agent=ActiveAgent(gate=gate, instructions=options.pop("instructions", "")),
        emit=seen_events.append,
        **options,
    )
    return session, seen_events


def without_durations(seen_events: list[Event]) -> list[Event]:
    """Return the events with each duration set to zero, and without what the input was."""
    import msgspec

    timed = (ev.ToolFinished, ev.TurnFinished)
    events = [
        msgspec.structs.replace(event, seconds=0.0) if isinstance(event, timed) else event for event in seen_events
    ]
    events = [
        msgspec.structs.replace(event, usage=counts(event.usage)) if isinstance(event, ev.TurnFinished) else event
        for event in events
    ]
    return [
        msgspec.structs.replace(event, record=MessageMetadata()) if isinstance(event, ev.MessageAdded) else event
        for event in events
    ]


async def test_an_answer_without_tools_gives_these_events() -> None:
    session, seen_events = new_session(ScriptedModel(model_step("Hi.")))
    finished = await session.send("hello")
    assert without_durations(seen_events) == [
        ev.TurnStarted(thread_id="", model="m"),
        ev.MessageAdded(message=user_message("hello")),
        ev.TextDelta(text="H"),
        ev.TextDelta(text="i."),
        ev.MessageAdded(message=ASSISTANT_HI),
        ev.TurnFinished(stop="end", usage=Usage(input=1, output=1), steps=1),
    ]
    assert finished == seen_events[-1]
    assert session.history == [user_message("hello"), ASSISTANT_HI]


async def test_a_call_is_decided_run_and_its_result_sent_back() -> None:
    call = make_call(TOOL, '{"text": "x"}')
    model = ScriptedModel([ToolCallStarted(name=TOOL), *model_step("", call)], model_step("Hi."))
    toolbox = FakeToolbox({"echo": lambda a: f"got {a['text']}"})
    session, seen_events = new_session(model, toolbox)
    await session.send("go")
    result = error_result("c1", "got x")
    result = type(result)(call_id="c1", parts=result.parts)
    rule = "default: read-only tools of trusted servers are allowed"
    assert without_durations(seen_events)[2:] == [
        ev.MessageAdded(message=Message(role="assistant", parts=(call,))),
        ev.ToolDecided(call=call, tool="box.echo", decision=Decision(allowed=True, by="policy", reason=rule)),
        ev.ToolStarted(call=call, tool="box.echo"),
        ev.ToolFinished(call=call, tool="box.echo", result=result, seconds=0.0),
        ev.MessageAdded(message=Message(role="tool", parts=(result,))),
        ev.TextDelta(text="H"),
        ev.TextDelta(text="i."),
        ev.MessageAdded(message=ASSISTANT_HI),
        ev.TurnFinished(stop="end", usage=Usage(input=2, output=2), steps=2),
    ]
    assert toolbox.prestarted == ["echo"]
    assert model.requests[1].messages == tuple(session.history[:3])


async def test_instructions_come_first_and_not_in_the_history() -> None:
    model = ScriptedModel(model_step("Hi."))
    session, _ = new_session(model, instructions="Be brief.")
    await session.send("hello")
    assert model.requests[0].system == "Be brief."
    assert [message.role for message in session.history] == ["user", "assistant"]


async def test_calls_of_a_step_run_in_parallel_with_ordered_results() -> None:
    both_running = asyncio.Event()

    async def first(arguments: dict[str, Any]) -> str:
        await asyncio.wait_for(both_running.wait(), 5)
        return "first"

    async def second(arguments: dict[str, Any]) -> str:
        both_running.set()
        return "second"

    step = model_step("", make_call("box__first", call_id="a"), make_call("box__second", call_id="b"))
    session, _ = new_session(ScriptedModel(step, model_step("Hi.")), FakeToolbox({"first": first, "second": second}))
    await session.send("go")
    results = session.history[2].results
    assert [(result.call_id, result.parts) for result in results] == [
        ("a", (Text(text="first"),)),
        ("b", (Text(text="second"),)),
    ]


@pytest.mark.parametrize(
    ("name", "arguments", "stored_arguments", "message"),
    [
        ("box__ecko", "{}", "{}", "no tool is named 'box__ecko'. The nearest: box__echo."),
        (TOOL, '{"text": ', "{}", "the arguments are not valid JSON: character 10: a value was expected"),
        (TOOL, "[1]", "{}", "the arguments must be a JSON object, not list; it takes text (required)"),
    ],
)
async def test_a_call_that_cannot_run_gets_an_error_result(
    name: str, arguments: str, stored_arguments: str, message: str
) -> None:
    toolbox = FakeToolbox({"echo": lambda a: "never"})
    session, seen_events = new_session(
        ScriptedModel(model_step("", make_call(name, arguments)), model_step("Hi.")), toolbox
    )
    await session.send("go")
    assert session.history[1].calls[0].arguments == stored_arguments
    result = session.history[2].results[0]
    assert result.is_error
    assert message in result.parts[0].text  # type: ignore[union-attr]
    assert toolbox.calls == []
    event_types = [type(event) for event in seen_events]
    assert event_types.count(ev.ToolStarted) == event_types.count(ev.ToolFinished) == 1


@pytest.mark.parametrize(("arguments", "parsed"), [("", {}), ("null", {}), ('"{\\"text\\": \\"x\\"}"', {"text": "x"})])
async def test_malformed_arguments_are_repaired(arguments: str, parsed: dict[str, Any]) -> None:
    toolbox = FakeToolbox({"echo": lambda a: "ok"})
    session, _ = new_session(ScriptedModel(model_step("", make_call(TOOL, arguments)), model_step("Hi.")), toolbox)
    await session.send("go")
    assert toolbox.calls == [("echo", parsed)]
    assert json.loads(session.history[1].calls[0].arguments) == parsed


@pytest.mark.parametrize("name", ["echo", "box.echo", TOOL])
async def test_a_call_by_a_tools_own_name_is_run_if_only_one_tool_has_it(name: str) -> None:
    toolbox = FakeToolbox({"echo": lambda a: "ok"})
    session, _ = new_session(ScriptedModel(model_step("", make_call(name, "{}")), model_step("Hi.")), toolbox)
    await session.send("go")
    assert toolbox.calls == [("echo", {})]
    assert session.history[1].calls[0].name == TOOL  # as the model's server knows it


async def test_a_dead_server_becomes_an_error_for_the_model() -> None:
    def die(arguments: dict[str, Any]) -> str:
        raise ServerError("box went away", hint="look at its log")

    session, _ = new_session(
        ScriptedModel(model_step("", make_call(TOOL)), model_step("Hi.")), FakeToolbox({"echo": die})
    )
    finished = await session.send("go")
    assert finished.stop == "end"
    assert session.history[2].results == (error_result("c1", "box went away (look at its log)"),)


async def test_at_the_step_limit_the_model_answers_without_tools() -> None:
    step = model_step("", make_call(TOOL))
    model = ScriptedModel(step, model_step("", make_call(TOOL, call_id="c2")), model_step("Hi."))
    session, _ = new_session(model, FakeToolbox({"echo": lambda a: "again"}), max_steps=2)
    finished = await session.send("go")
    assert (finished.stop, finished.steps) == ("steps", 3)
    assert [request.tool_choice for request in model.requests] == ["auto", "auto", "none"]
    assert session.history[-1] == ASSISTANT_HI


async def test_calls_after_the_step_limit_are_dropped_but_text_is_kept() -> None:
    model = ScriptedModel(model_step("", make_call(TOOL)), model_step("So far.", make_call(TOOL, call_id="c2")))
    session, _ = new_session(model, FakeToolbox({"echo": lambda a: "again"}), max_steps=1)
    await session.send("go")
    assert unanswered_calls(session.history) == ()
    assert session.history[-1] == Message(role="assistant", parts=(Text(text="So far."),))


async def test_denied_calls_are_reported_to_the_model() -> None:
    policy = Policy(rules=parse_rules("deny", ["box.*"]))
    toolbox = FakeToolbox({"echo": lambda a: "never"})
    session, seen_events = new_session(
        ScriptedModel(model_step("", make_call(TOOL)), model_step("Hi.")), toolbox, policy=policy
    )
    await session.send("go")
    assert session.history[2].results == (error_result("c1", "denied by policy: config: deny box.*"),)
    assert toolbox.calls == []
    assert [event.decision.allowed for event in seen_events if isinstance(event, ev.ToolDecided)] == [False]


async def test_a_decision_for_the_session_is_asked_once() -> None:
    allow_for_session = Decision(allowed=True, by="user", remember="session")
    asker = ScriptedDialog(allow_for_session)
    step = model_step("", make_call(TOOL, call_id="a"), make_call(TOOL, call_id="b"))
    toolbox = FakeToolbox({"echo": lambda a: "ok"}, make_tool(read_only=False))
    session, seen_events = new_session(ScriptedModel(step, model_step("Hi.")), toolbox, asker=asker)
    await session.send("go")
    assert asker.prompts == [("box.echo", "default: ask")]
    by_call = {event.call.id: event.decision for event in seen_events if isinstance(event, ev.ToolDecided)}
    assert by_call == {
        "a": allow_for_session,
        "b": Decision(allowed=True, by="policy", reason="answered: for this session"),
    }


async def test_a_decision_applies_only_to_its_call() -> None:
    step = model_step("", make_call(TOOL, call_id="a"), make_call(TOOL, call_id="b"))
    toolbox = FakeToolbox({"echo": lambda a: "ok"}, make_tool(read_only=False))
    session, _ = new_session(ScriptedModel(step, model_step("Hi.")), toolbox, asker=ScriptedDialog(DENY, ALLOW))
    await session.send("go")
    assert [result.is_error for result in session.history[2].results] == [True, False]
    assert session.history[2].results[0].parts == (Text(text="denied by the user: not now"),)


async def cancel_at(session: Session, seen_events: list[Event], event_type: type[Event]) -> None:
    """Send a message, and cancel at the first event of this type."""
    task = asyncio.create_task(session.send("go"))
    while not any(isinstance(event, event_type) for event in seen_events):
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancel_during_text_keeps_the_partial_text() -> None:
    session, seen_events = new_session(ScriptedModel([ev.TextDelta(text="Once upon"), 60.0]))
    await cancel_at(session, seen_events, ev.TextDelta)
    partial = Message(role="assistant", parts=(Text(text="Once upon"),), cut="cancelled")
    assert session.history == [user_message("go"), partial]
    assert without_durations(seen_events)[-2:] == [
        ev.MessageAdded(message=partial),
        ev.TurnFinished(stop="cancelled", usage=Usage(input=5, output=2, estimated=True), steps=1),
    ]


async def test_a_cancel_during_tools_keeps_results_and_answers_all() -> None:
    async def slow(arguments: dict[str, Any]) -> str:
        await asyncio.sleep(60)
        return "never"

    step = model_step("", make_call("box__slow", call_id="a"), make_call("box__echo", call_id="b"))
    session, seen_events = new_session(ScriptedModel(step), FakeToolbox({"slow": slow, "echo": lambda a: "ok"}))
    await cancel_at(session, seen_events, ev.ToolFinished)
    assert unanswered_calls(session.history) == ()
    cancelled, finished = session.history[-1].results
    assert cancelled == error_result("a", "cancelled by the user")
    assert finished.parts == (Text(text="ok"),)
    event_types = [type(event) for event in seen_events]
    assert event_types.count(ev.ToolStarted) == event_types.count(ev.ToolFinished) == 2
    assert isinstance(seen_events[-1], ev.TurnFinished)


async def test_the_conversation_continues_after_a_cancel() -> None:
    model = ScriptedModel([60.0], model_step("Hi."))
    session, seen_events = new_session(model)
    await cancel_at(session, seen_events, ev.TurnStarted)
    await session.send("again")
    assert session.history == [user_message("go"), user_message("again"), ASSISTANT_HI]


async def test_a_model_error_fails_the_turn_once_and_keeps_the_partial_text() -> None:
    connection_error = ModelError("connection lost", kind="network", hint="try again")
    session, seen_events = new_session(ScriptedModel([ev.TextDelta(text="Half"), connection_error]))
    with pytest.raises(ModelError):
        await session.send("go")
    assert session.history[-1] == Message(role="assistant", parts=(Text(text="Half"),), cut="connection lost")
    assert seen_events[-1] == ev.TurnFailed(kind="network", message="connection lost", hint="try again")
    assert not any(isinstance(event, ev.TurnFinished) for event in seen_events)


async def test_a_bug_in_a_tool_adapter_fails_the_turn_with_a_valid_history() -> None:
    def bug(arguments: dict[str, Any]) -> str:
        raise KeyError("oops")

    session, seen_events = new_session(ScriptedModel(model_step("", make_call(TOOL))), FakeToolbox({"echo": bug}))
    with pytest.raises(ExceptionGroup):
        await session.send("go")
    assert unanswered_calls(session.history) == ()
    assert isinstance(seen_events[-1], ev.TurnFailed)
    assert seen_events[-1].kind == "internal"


async def test_retries_are_reported() -> None:
    session, seen_events = new_session(
        ScriptedModel([Retrying(seconds=2.0, reason="rate limited"), *model_step("Hi.")])
    )
    await session.send("go")
    assert ev.Notice(level="warning", text="rate limited; trying again in 2 s", topic="retry") in seen_events


async def test_the_notice_of_a_model_is_shown_once() -> None:
    session, seen_events = new_session(ScriptedModel(model_step("Hi."), model_step("Hi.")), notice="a demo")
    await session.send("one")
    await session.send("two")
    assert seen_events[1] == ev.Notice(level="info", text="a demo")
    assert sum(isinstance(event, ev.Notice) for event in seen_events) == 1


async def test_clear_starts_a_new_thread() -> None:
    session, _ = new_session(ScriptedModel(model_step("Hi.")))
    await session.send("hello")
    old_id = session.transcript.thread.id
    session.clear()
    assert session.history == []
    assert session.transcript.thread.id != old_id
