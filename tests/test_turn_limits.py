"""Where a turn stops: rounds, repeats, tokens, money, the model's output, refusals; and asking again."""

import json
from typing import Any

import pytest

from mcpchat.core import events as ev
from mcpchat.core.events import Event
from mcpchat.core.messages import Image, Message, Text, ToolResult, Usage, user_message
from mcpchat.core.protocols import ResponseDone, SelectedModel
from mcpchat.core.usage import UsageTotals
from mcpchat.engine.loop_detection import LoopDetector
from mcpchat.engine.session import ActiveAgent, Session
from mcpchat.engine.structured_output import AnswerSchema
from mcpchat.engine.turn import TurnLimits
from mcpchat.errors import ModelError, UsageError
from tests.fakes import FakeToolbox, ScriptedDialog, ScriptedModel, make_call, make_gate, make_tool, model_step

TOOL = "box__echo"


def session(model: ScriptedModel, *answers: Any, price: Any = None, **more: Any) -> tuple[Session, list[Event]]:
    seen: list[Event] = []
    numbers = iter(range(1000))
    toolbox = more.pop("toolbox", None) or FakeToolbox({"echo": lambda a: f"result {next(numbers)}"})
    made = Session(
        model=SelectedModel(name="m", adapter=model, price=price),
        toolbox=toolbox,
        agent=ActiveAgent(gate=make_gate(dialog=ScriptedDialog(*answers)), instructions=more.pop("instructions", "")),
        emit=seen.append,
        **more,
    )
    return made, seen


def step(call_id: str, **more: Any) -> Any:
    return model_step("", make_call(TOOL, call_id=call_id), **more)


async def test_at_the_limit_of_rounds_the_person_may_let_it_go_on() -> None:
    model = ScriptedModel(step("a"), step("b"), step("c"), model_step("done"))
    made, _ = session(model, True, limits=TurnLimits(max_steps=2))
    finished = await made.send("go")
    assert (finished.stop, finished.steps) == ("end", 4)
    assert made.agent.gate._asker.prompts == [("go on", 2)]  # type: ignore[attr-defined]


async def test_a_no_at_the_limit_has_it_answer_without_tools() -> None:
    model = ScriptedModel(step("a"), model_step("what I have"))
    made, _ = session(model, False, limits=TurnLimits(max_steps=1))
    assert (await made.send("go")).stop == "steps"
    assert model.requests[-1].tool_choice == "none"
    assert model.requests[-1].tools == model.requests[0].tools  # the prompt begins alike: the cache still serves


async def test_the_same_call_with_the_same_result_is_noted_and_then_stopped() -> None:
    model = ScriptedModel(*(step(f"c{number}") for number in range(5)), model_step("I give up"))
    made, _ = session(model, toolbox=FakeToolbox({"echo": lambda a: "same"}))
    finished = await made.send("go")
    assert (finished.stop, finished.steps) == ("repeats", 6)
    noted = [len(message.results[0].parts) for message in made.history if message.role == "tool"]
    assert noted == [1, 1, 2, 2, 2]
    assert "made 3 times" in made.history[6].results[0].parts[1].text  # type: ignore[union-attr]


async def test_calls_that_bring_something_new_are_no_repeats() -> None:
    model = ScriptedModel(*(step(f"c{number}") for number in range(12)), model_step("done"))
    made, _ = session(model)
    assert (await made.send("go")).stop == "end"


def test_the_same_arguments_in_another_spelling_are_the_same() -> None:
    repeats = LoopDetector()
    for spelled in ('{"a": 1, "b": 2}', '{"b":2,"a":1}') * 3:
        repeats.annotate(make_call(TOOL, spelled), ToolResult(call_id="c", parts=(Text(text="x"),)))
    assert repeats.is_looping


async def test_tokens_are_counted_over_the_run_and_stop_it_before_the_next_request() -> None:
    model = ScriptedModel(step("a", usage=Usage(input=60, output=50)), model_step("never"))
    made, _ = session(model, limits=TurnLimits(max_tokens=100))
    finished = await made.send("go")
    assert (finished.stop, finished.usage.total, len(model.requests)) == ("tokens", 110, 1)
    assert [message.role for message in made.history] == ["user", "assistant", "tool"]
    assert (await made.send("more")).stop == "tokens"


async def test_money_is_counted_too() -> None:
    model = ScriptedModel(step("a", usage=Usage(input=60, output=50)), model_step("never"))
    made, _ = session(model, price=lambda usage: usage.total / 100, limits=TurnLimits(max_dollars=1.0))
    finished = await made.send("go")
    assert (finished.stop, finished.cost) == ("cost", 1.1)


async def test_what_has_no_price_is_unknown_and_never_nothing() -> None:
    made, _ = session(ScriptedModel(model_step("a"), model_step("b")), price=lambda usage: None)
    assert (await made.send("go")).cost is None
    spent = UsageTotals()
    spent.add(Usage(input=1), lambda usage: 2.0)
    spent.add(Usage(input=1), lambda usage: None)
    assert (spent.dollars, spent.cost, spent.unpriced_requests) == (2.0, None, 1)


async def test_a_call_cut_at_the_output_limit_is_answered_so_that_it_can_be_made_smaller() -> None:
    cut = model_step("", make_call(TOOL, '{"text": "long'), stop="length")
    made, _ = session(ScriptedModel(cut, model_step("ok")))
    assert (await made.send("go")).stop == "end"
    assert made.history[1].calls[0].arguments == "{}"
    assert "cut off at the model's output limit" in made.history[2].results[0].parts[0].text  # type: ignore[union-attr]


async def test_an_empty_answer_is_said_to_be_one() -> None:
    made, seen = session(ScriptedModel(model_step("")))
    await made.send("go")
    assert ev.Notice(level="warning", text="the model answered with nothing") in seen


async def test_a_retry_asks_for_the_last_answer_again_and_repeats_no_tool() -> None:
    toolbox = FakeToolbox({"echo": lambda a: "once"})
    lost = ModelError("connection lost", kind="broken_stream")
    model = ScriptedModel(step("a"), [ev.TextDelta(text="Half"), lost], model_step("whole"), model_step("another"))
    made, _ = session(model, toolbox=toolbox)
    with pytest.raises(ModelError):
        await made.send("go")
    assert made.history[-1].cut == "connection lost"
    await made.retry()
    assert (toolbox.calls, made.history[-1].text, len(made.history)) == ([("echo", {})], "whole", 4)
    assert model.requests[2].messages == model.requests[1].messages
    await made.retry()
    assert made.history[-1].text == "another"


async def test_a_retry_without_a_question_is_refused() -> None:
    made, _ = session(ScriptedModel())
    with pytest.raises(UsageError):
        await made.retry()


# --- one prefix ----------------------------------------------------------------------------------------------------


async def test_tools_are_sorted_once_frozen_and_only_added_to() -> None:
    toolbox = FakeToolbox({}, make_tool("b"), make_tool("c"))
    toolbox.server_instructions = {"box": "as it was"}
    model = ScriptedModel(*(model_step("ok") for _ in range(4)))
    made, _ = session(model, toolbox=toolbox, instructions="Be brief.")
    for specs in [
        (make_tool("b"), make_tool("c")),
        (make_tool("c"), make_tool("b")),
        (make_tool("a"), make_tool("c"), make_tool("b")),
        (make_tool("c"), make_tool("a")),
    ]:
        toolbox._specs = specs
        await made.send("go")
        toolbox.server_instructions = {"box": "as it has become"}
    named = [[spec.name for spec in request.tools] for request in model.requests]
    assert named == [["b", "c"], ["b", "c"], ["b", "c", "a"], ["c", "a"]]
    assert model.requests[0].tools is model.requests[1].tools
    assert model.requests[0].system == model.requests[1].system
    assert "as it has become" in model.requests[2].system
    assert {request.cache_key for request in model.requests} == {made.transcript.thread.id}


# --- answers that fit a schema -----------------------------------------------------------------------------------

SCHEMA = AnswerSchema(
    {"type": "object", "required": ["n"]}, lambda schema, value: "" if "n" in value else "'n' is missing"
)  # type: ignore[operator]


@pytest.mark.parametrize("written", ['{"n": 1}', ' {"n": 1}\n', 'Here:\n```json\n{"n": 1}\n```', '```\n{"n": 1}```'])
def test_the_json_of_an_answer_is_found_in_it(written: str) -> None:
    text, problem = SCHEMA.parse(written)
    assert (json.loads(text), problem) == ({"n": 1}, "")


async def test_an_answer_that_does_not_fit_is_asked_for_once_more() -> None:
    model = ScriptedModel(step("a"), model_step("It is 1."), model_step('{"n": 1}'))
    made, seen = session(model, schema=SCHEMA)
    finished, value = await made.send_structured("go")
    assert (value, finished.stop) == ('{"n": 1}', "end")
    assert "does not fit the JSON Schema: it is not JSON" in model.requests[-1].messages[-1].text
    assert '{"type":"object","required":["n"]}' in model.requests[0].system
    assert model.requests[0].schema == SCHEMA.schema
    assert sum(isinstance(event, ev.Notice) for event in seen) == 1


async def test_an_answer_that_never_fits_is_the_models_failure() -> None:
    made, _ = session(ScriptedModel(model_step("no"), model_step('{"m": 1}')), schema=SCHEMA)
    with pytest.raises(ModelError, match="'n' is missing") as caught:
        await made.send_structured("go")
    assert caught.value.kind == "schema"


async def test_a_turn_that_ends_early_has_no_value() -> None:
    made, _ = session(ScriptedModel(model_step('{"n":', stop="length")), schema=SCHEMA)
    finished, value = await made.send_structured(Message(role="user", parts=user_message("go").parts))
    assert (finished.stop, value) == ("length", "")


# --- found by reviewers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [2**100, "half \ud83d", -1.5])
async def test_a_result_of_odd_values_is_answered_with_like_any_other(value: Any) -> None:
    class Odd(FakeToolbox):
        async def call(self, spec: Any, call_id: str, arguments: Any, emit: Any) -> ToolResult:
            return ToolResult(call_id=call_id, structured={"n": value})

    model = ScriptedModel(step("a"), model_step("done"))
    made, _ = session(model, toolbox=Odd({"echo": str}))
    assert (await made.send("go")).stop == "end"
    assert made.history[2].results[0].structured == {"n": value}


def test_a_repeated_picture_stays_a_picture_and_another_one_is_no_repeat() -> None:
    repeats = LoopDetector()
    for number in range(4):
        shown = ToolResult(call_id="c", parts=(Image(media_type="image/png", data=bytes([number])),))
        assert repeats.annotate(make_call(TOOL), shown) == shown
    same = [repeats.annotate(make_call(TOOL), shown) for _ in range(2)]
    assert isinstance(same[-1].parts[0], Image)
    assert len(same[-1].parts) == 2


async def test_limits_are_of_the_run_whatever_is_cleared_or_switched() -> None:
    model = ScriptedModel(model_step("a", usage=Usage(input=60, output=50)), model_step("never"))
    made, _ = session(model, limits=TurnLimits(max_tokens=100))
    await made.send("go")
    made.clear()
    assert (made.thread_usage.usage.total, made.run_usage.usage.total) == (0, 110)
    made.switch_model(SelectedModel(name="n", adapter=model))
    assert (await made.send("more")).stop == "tokens"


async def test_every_so_many_rounds_the_person_is_asked_anew() -> None:
    model = ScriptedModel(*(step(f"c{number}") for number in range(4)), model_step("done"))
    made, _ = session(model, True, True, limits=TurnLimits(max_steps=2))
    await made.send("go")
    assert made.agent.gate._asker.prompts == [("go on", 2), ("go on", 4)]  # type: ignore[attr-defined]


async def test_a_retry_that_brings_nothing_keeps_the_answer_that_was_there() -> None:
    lost = ModelError("no", kind="network")
    made, _ = session(ScriptedModel(model_step("precious"), [lost]))
    await made.send("go")
    with pytest.raises(ModelError):
        await made.retry()
    assert [message.text for message in made.history] == ["go", "precious"]


async def test_a_retry_after_summing_up_asks_the_question_again() -> None:
    made, _ = session(ScriptedModel(model_step("first"), model_step("summary"), model_step("second")))
    await made.send("go")
    await made.compact()
    await made.retry()
    assert [message.text for message in made.history] == ["go", "second"]


@pytest.mark.parametrize("stop", ["refusal", "length", "filter"])
async def test_how_the_last_answer_ended_counts_more_than_the_limit(stop: Any) -> None:
    model = ScriptedModel(step("a"), model_step("no", stop=stop))
    made, _ = session(model, limits=TurnLimits(max_steps=1))
    assert (await made.send("go")).stop == stop


def test_what_is_no_json_is_no_answer() -> None:
    schema = AnswerSchema({"type": "object"}, lambda schema, value: "")
    assert schema.parse('{"n": NaN}')[0] == ""


async def test_the_answer_may_follow_on_a_comment() -> None:
    answered = model_step('{"n": 1}')
    comment = Message(role="assistant", parts=(Text(text="Let me see.\n\n"), Text(text='{"n": 1}')))
    answered[-1] = ResponseDone(message=comment, usage=Usage(input=1), stop="end")
    made, _ = session(ScriptedModel(answered), schema=SCHEMA)
    assert (await made.send_structured("go"))[1] == '{"n": 1}'


async def test_an_answer_that_broke_off_is_counted_by_its_length() -> None:
    lost = ModelError("no", kind="network")
    made, _ = session(ScriptedModel([ev.TextDelta(text="word " * 100), lost]))
    with pytest.raises(ModelError):
        await made.send("x" * 400)
    assert made.thread_usage.usage.estimated
    assert 100 < made.thread_usage.usage.total < 400
