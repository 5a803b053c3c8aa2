"""The loop, driven by fakes; whole lists of events are compared."""

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
from tests.fakes import (
    ALLOW,
    DENY,
    FakeToolbox,
    ScriptedDialog,
    ScriptedModel,
    make_call,
    make_gate,
    make_tool,
    model_step,
    unanswered_calls,
)

TOOL = "box__echo"
ASSISTANT_HI = Message(role="assistant", parts=(Text(text="Hi."),))


def session(model: ScriptedModel, toolbox: FakeToolbox | None = None, **more: Any) -> tuple[Session, list[Event]]:
    seen: list[Event] = []
    gate = make_gate(more.pop("policy", None), more.pop("asker", None))
    choice = SelectedModel(name="m", adapter=model, notice=more.pop("notice", ""))
    if steps := more.pop("max_steps", None):
        more["limits"] = TurnLimits(max_steps=steps)
    made = Session(
        model=choice,
        toolbox=toolbox or FakeToolbox(),
        agent=ActiveAgent(gate=gate, instructions=more.pop("instructions", "")),
        emit=seen.append,
        **more,
    )
    return made, seen


def untimed(seen: list[Event]) -> list[Event]:
    """The events with each duration set to zero."""
    import msgspec

    timed = (ev.ToolFinished, ev.TurnFinished)
    shown = [msgspec.structs.replace(e, seconds=0.0) if isinstance(e, timed) else e for e in seen]
    return [
        msgspec.structs.replace(e, record=MessageMetadata()) if isinstance(e, ev.MessageAdded) else e for e in shown
    ]


async def test_an_answer_without_tools_is_streamed_added_and_finished() -> None:
    made, seen = session(ScriptedModel(model_step("Hi.")))
    finished = await made.send("hello")
    assert untimed(seen) == [
        ev.TurnStarted(thread_id=made.transcript.thread.id, model="m"),
        ev.MessageAdded(message=user_message("hello")),
        ev.TextDelta(text="H"),
        ev.TextDelta(text="i."),
        ev.MessageAdded(message=ASSISTANT_HI),
        ev.TurnFinished(stop="end", usage=Usage(input=1, output=1), steps=1),
    ]
    assert finished == seen[-1]
    assert made.history == [user_message("hello"), ASSISTANT_HI]


async def test_a_call_is_decided_run_and_its_result_fed_back() -> None:
    call = make_call(TOOL, '{"text": "x"}')
    model = ScriptedModel([ToolCallStarted(name=TOOL), *model_step("", call)], model_step("Hi."))
    toolbox = FakeToolbox({"echo": lambda a: f"got {a['text']}"})
    made, seen = session(model, toolbox)
    await made.send("go")
    result = error_result("c1", "got x")
    result = type(result)(call_id="c1", parts=result.parts)
    rule = "default: read-only tools of trusted servers are allowed"
    assert untimed(seen)[2:] == [
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
    assert model.requests[1].messages == tuple(made.history[:3])


async def test_instructions_go_first_and_are_not_part_of_the_history() -> None:
    model = ScriptedModel(model_step("Hi."))
    made, _ = session(model, instructions="Be brief.")
    await made.send("hello")
    assert model.requests[0].system == "Be brief."
    assert [message.role for message in made.history] == ["user", "assistant"]


async def test_calls_of_one_step_run_at_once_and_answer_in_their_order() -> None:
    both = asyncio.Event()

    async def first(arguments: dict[str, Any]) -> str:
        await asyncio.wait_for(both.wait(), 5)
        return "first"

    async def second(arguments: dict[str, Any]) -> str:
        both.set()
        return "second"

    step = model_step("", make_call("box__first", call_id="a"), make_call("box__second", call_id="b"))
    made, _ = session(ScriptedModel(step, model_step("Hi.")), FakeToolbox({"first": first, "second": second}))
    await made.send("go")
    results = made.history[2].results
    assert [(r.call_id, r.parts) for r in results] == [("a", (Text(text="first"),)), ("b", (Text(text="second"),))]


@pytest.mark.parametrize(
    ("name", "arguments", "stored", "told"),
    [
        ("box__ecko", "{}", "{}", "no tool is named 'box__ecko'. The nearest: box__echo."),
        (TOOL, '{"text": ', "{}", "the arguments are not valid JSON: Expecting value: line 1 column 10 (char 9)"),
        (TOOL, "[1]", "{}", "the arguments must be a JSON object, not list; it takes text (required)"),
    ],
)
async def test_a_call_that_cannot_run_is_answered_with_what_is_wrong(
    name: str, arguments: str, stored: str, told: str
) -> None:
    toolbox = FakeToolbox({"echo": lambda a: "never"})
    made, seen = session(ScriptedModel(model_step("", make_call(name, arguments)), model_step("Hi.")), toolbox)
    await made.send("go")
    assert made.history[1].calls[0].arguments == stored
    result = made.history[2].results[0]
    assert result.is_error
    assert told in result.parts[0].text  # type: ignore[union-attr]
    assert toolbox.calls == []
    kinds = [type(event) for event in seen]
    assert kinds.count(ev.ToolStarted) == kinds.count(ev.ToolFinished) == 1


@pytest.mark.parametrize(("written", "taken"), [("", {}), ("null", {}), ('"{\\"text\\": \\"x\\"}"', {"text": "x"})])
async def test_arguments_that_mean_something_are_taken(written: str, taken: dict[str, Any]) -> None:
    toolbox = FakeToolbox({"echo": lambda a: "ok"})
    made, _ = session(ScriptedModel(model_step("", make_call(TOOL, written)), model_step("Hi.")), toolbox)
    await made.send("go")
    assert toolbox.calls == [("echo", taken)]
    assert json.loads(made.history[1].calls[0].arguments) == taken


async def test_a_dead_server_becomes_an_error_for_the_model() -> None:
    def die(arguments: dict[str, Any]) -> str:
        raise ServerError("box went away", hint="look at its log")

    made, _ = session(ScriptedModel(model_step("", make_call(TOOL)), model_step("Hi.")), FakeToolbox({"echo": die}))
    finished = await made.send("go")
    assert finished.stop == "end"
    assert made.history[2].results == (error_result("c1", "box went away (look at its log)"),)


async def test_the_step_limit_lets_the_model_conclude_without_tools() -> None:
    step = model_step("", make_call(TOOL))
    model = ScriptedModel(step, model_step("", make_call(TOOL, call_id="c2")), model_step("Hi."))
    made, _ = session(model, FakeToolbox({"echo": lambda a: "again"}), max_steps=2)
    finished = await made.send("go")
    assert (finished.stop, finished.steps) == ("steps", 3)
    assert [request.tool_choice for request in model.requests] == ["auto", "auto", "none"]
    assert made.history[-1] == ASSISTANT_HI


async def test_what_a_model_calls_after_the_limit_is_dropped_and_its_words_are_the_answer() -> None:
    model = ScriptedModel(model_step("", make_call(TOOL)), model_step("So far.", make_call(TOOL, call_id="c2")))
    made, _ = session(model, FakeToolbox({"echo": lambda a: "again"}), max_steps=1)
    await made.send("go")
    assert unanswered_calls(made.history) == ()
    assert made.history[-1] == Message(role="assistant", parts=(Text(text="So far."),))


async def test_denied_calls_are_told_to_the_model_with_the_rule() -> None:
    policy = Policy(rules=parse_rules("deny", ["box.*"]))
    toolbox = FakeToolbox({"echo": lambda a: "never"})
    made, seen = session(ScriptedModel(model_step("", make_call(TOOL)), model_step("Hi.")), toolbox, policy=policy)
    await made.send("go")
    assert made.history[2].results == (error_result("c1", "denied by policy: config: deny box.*"),)
    assert toolbox.calls == []
    assert [e.decision.allowed for e in seen if isinstance(e, ev.ToolDecided)] == [False]


async def test_the_person_is_asked_once_when_the_answer_is_for_the_session() -> None:
    always = Decision(allowed=True, by="user", remember="session")
    asker = ScriptedDialog(always)
    step = model_step("", make_call(TOOL, call_id="a"), make_call(TOOL, call_id="b"))
    toolbox = FakeToolbox({"echo": lambda a: "ok"}, make_tool(read_only=False))
    made, seen = session(ScriptedModel(step, model_step("Hi.")), toolbox, asker=asker)
    await made.send("go")
    assert asker.prompts == [("box.echo", "default: ask")]
    by_call = {e.call.id: e.decision for e in seen if isinstance(e, ev.ToolDecided)}
    assert by_call == {
        "a": always,
        "b": Decision(allowed=True, by="policy", reason="answered: for this session"),
    }


async def test_a_no_and_a_yes_in_one_step_each_hold_for_their_call() -> None:
    step = model_step("", make_call(TOOL, call_id="a"), make_call(TOOL, call_id="b"))
    toolbox = FakeToolbox({"echo": lambda a: "ok"}, make_tool(read_only=False))
    made, _ = session(ScriptedModel(step, model_step("Hi.")), toolbox, asker=ScriptedDialog(DENY, ALLOW))
    await made.send("go")
    assert [result.is_error for result in made.history[2].results] == [True, False]
    assert made.history[2].results[0].parts == (Text(text="denied by the user: not now"),)


async def cancelled_when(made: Session, seen: list[Event], kind: type[Event]) -> None:
    """Send, and cancel as soon as an event of this kind is seen."""
    task = asyncio.create_task(made.send("go"))
    while not any(isinstance(event, kind) for event in seen):
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancel_while_text_streams_keeps_what_was_shown() -> None:
    made, seen = session(ScriptedModel([ev.TextDelta(text="Once upon"), 60.0]))
    await cancelled_when(made, seen, ev.TextDelta)
    partial = Message(role="assistant", parts=(Text(text="Once upon"),), cut="cancelled")
    assert made.history == [user_message("go"), partial]
    assert untimed(seen)[-2:] == [
        ev.MessageAdded(message=partial),
        ev.TurnFinished(stop="cancelled", usage=Usage(input=5, output=2, estimated=True), steps=1),
    ]


async def test_a_cancel_while_tools_run_answers_every_call_and_keeps_finished_results() -> None:
    async def slow(arguments: dict[str, Any]) -> str:
        await asyncio.sleep(60)
        return "never"

    step = model_step("", make_call("box__slow", call_id="a"), make_call("box__echo", call_id="b"))
    made, seen = session(ScriptedModel(step), FakeToolbox({"slow": slow, "echo": lambda a: "ok"}))
    await cancelled_when(made, seen, ev.ToolFinished)
    assert unanswered_calls(made.history) == ()
    first, second = made.history[-1].results
    assert first == error_result("a", "cancelled by the user")
    assert second.parts == (Text(text="ok"),)
    kinds = [type(event) for event in seen]
    assert kinds.count(ev.ToolStarted) == kinds.count(ev.ToolFinished) == 2
    assert isinstance(seen[-1], ev.TurnFinished)


async def test_after_a_cancel_the_conversation_goes_on() -> None:
    model = ScriptedModel([60.0], model_step("Hi."))
    made, seen = session(model)
    await cancelled_when(made, seen, ev.TurnStarted)
    await made.send("again")
    assert made.history == [user_message("go"), user_message("again"), ASSISTANT_HI]


async def test_a_model_error_fails_the_turn_once_and_keeps_the_partial_text() -> None:
    lost = ModelError("connection lost", kind="network", hint="try again")
    made, seen = session(ScriptedModel([ev.TextDelta(text="Half"), lost]))
    with pytest.raises(ModelError):
        await made.send("go")
    assert made.history[-1] == Message(role="assistant", parts=(Text(text="Half"),), cut="connection lost")
    assert seen[-1] == ev.TurnFailed(kind="network", message="connection lost", hint="try again")
    assert not any(isinstance(event, ev.TurnFinished) for event in seen)


async def test_a_bug_in_a_tool_adapter_fails_the_turn_with_a_valid_history() -> None:
    def bug(arguments: dict[str, Any]) -> str:
        raise KeyError("oops")

    made, seen = session(ScriptedModel(model_step("", make_call(TOOL))), FakeToolbox({"echo": bug}))
    with pytest.raises(ExceptionGroup):
        await made.send("go")
    assert unanswered_calls(made.history) == ()
    assert isinstance(seen[-1], ev.TurnFailed)
    assert seen[-1].kind == "internal"


async def test_retries_are_told() -> None:
    made, seen = session(ScriptedModel([Retrying(seconds=2.0, reason="rate limited"), *model_step("Hi.")]))
    await made.send("go")
    assert ev.Notice(level="warning", text="rate limited; trying again in 2 s") in seen


async def test_what_must_be_known_of_a_model_is_said_once() -> None:
    made, seen = session(ScriptedModel(model_step("Hi."), model_step("Hi.")), notice="a demo")
    await made.send("one")
    await made.send("two")
    assert seen[1] == ev.Notice(level="info", text="a demo")
    assert sum(isinstance(event, ev.Notice) for event in seen) == 1


async def test_clearing_begins_a_new_thread() -> None:
    made, _ = session(ScriptedModel(model_step("Hi.")))
    await made.send("hello")
    before = made.transcript.thread.id
    made.clear()
    assert made.history == []
    assert made.transcript.thread.id != before
