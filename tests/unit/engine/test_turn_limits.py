"""Limits of a turn: steps, repeats, tokens, cost, output length and refusals; and retries."""

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
from tests.support.fakes import FakeToolbox, ScriptedDialog, ScriptedModel, make_call, make_gate, make_tool, model_step

TOOL = "box__echo"


def new_session(model: ScriptedModel, *replies: Any, price: Any = None, **options: Any) -> tuple[Session, list[Event]]:
    seen_events: list[Event] = []
    numbers = iter(range(1000))
    toolbox = options.pop("toolbox", None) or FakeToolbox({"echo": lambda a: f"result {next(numbers)}"})
    session = Session(
        model=SelectedModel(name="m", adapter=model, price=price),
        toolbox=toolbox,
        agent=ActiveAgent(
            gate=make_gate(dialog=ScriptedDialog(*replies)), instructions=options.pop("instructions", "")
        ),
        emit=seen_events.append,
        **options,
    )
    return session, seen_events


def step(call_id: str, **options: Any) -> Any:
    return model_step("", make_call(TOOL, call_id=call_id), **options)


async def test_the_user_may_continue_at_the_step_limit() -> None:
    model = ScriptedModel(step("a"), step("b"), step("c"), model_step("done"))
    session, _ = new_session(model, True, limits=TurnLimits(max_steps=2))
    finished = await session.send("go")
    assert (finished.stop, finished.steps) == ("end", 4)
    assert session.agent.gate._asker.prompts == [("go on", 2)]  # type: ignore[attr-defined]


async def test_a_refusal_at_the_limit_forces_an_answer() -> None:
    model = ScriptedModel(step("a"), model_step("what I have"))
    session, _ = new_session(model, False, limits=TurnLimits(max_steps=1))
    assert (await session.send("go")).stop == "steps"
    assert model.requests[-1].tool_choice == "none"
    assert (
        model.requests[-1].tools == model.requests[0].tools
    )  # the prompt has the same beginning, so the prompt cache is used


async def test_a_repeated_call_is_noted_and_then_stopped() -> None:
    model = ScriptedModel(*(step(f"c{number}") for number in range(5)), model_step("I give up"))
    session, _ = new_session(model, toolbox=FakeToolbox({"echo": lambda a: "same"}))
    finished = await session.send("go")
    assert (finished.stop, finished.steps) == ("repeats", 6)
    part_counts = [len(message.results[0].parts) for message in session.history if message.role == "tool"]
    assert part_counts == [1, 1, 2, 2, 2]
    assert "made 3 times" in session.history[6].results[0].parts[1].text  # type: ignore[union-attr]


async def test_calls_with_new_results_are_not_repeats() -> None:
    model = ScriptedModel(*(step(f"c{number}") for number in range(12)), model_step("done"))
    session, _ = new_session(model)
    assert (await session.send("go")).stop == "end"


def test_equivalent_arguments_are_equal() -> None:
    repeats = LoopDetector()
    for arguments in ('{"a": 1, "b": 2}', '{"b":2,"a":1}') * 3:
        repeats.annotate(make_call(TOOL, arguments), ToolResult(call_id="c", parts=(Text(text="x"),)))
    assert repeats.is_looping


async def test_the_token_limit_stops_before_the_next_request() -> None:
    model = ScriptedModel(step("a", usage=Usage(input=60, output=50)), model_step("never"))
    session, _ = new_session(model, limits=TurnLimits(max_tokens=100))
    finished = await session.send("go")
    assert (finished.stop, finished.usage.total, len(model.requests)) == ("tokens", 110, 1)
    assert [message.role for message in session.history] == ["user", "assistant", "tool"]
    assert (await session.send("more")).stop == "tokens"


async def test_cost_is_counted() -> None:
    model = ScriptedModel(step("a", usage=Usage(input=60, output=50)), model_step("never"))
    session, _ = new_session(model, price=lambda usage: usage.total / 100, limits=TurnLimits(max_dollars=1.0))
    finished = await session.send("go")
    assert (finished.stop, finished.cost) == ("cost", 1.1)


async def test_an_unknown_price_is_not_zero() -> None:
    session, _ = new_session(ScriptedModel(model_step("a"), model_step("b")), price=lambda usage: None)
    assert (await session.send("go")).cost is None
    totals = UsageTotals()
    totals.add(Usage(input=1), lambda usage: 2.0)
    totals.add(Usage(input=1), lambda usage: None)
    assert (totals.dollars, totals.cost, totals.unpriced_requests) == (2.0, None, 1)


async def test_a_call_cut_at_the_output_limit_gets_an_error_result() -> None:
    cut_step = model_step("", make_call(TOOL, '{"text": "long'), stop="length")
    session, _ = new_session(ScriptedModel(cut_step, model_step("ok")))
    assert (await session.send("go")).stop == "end"
    assert session.history[1].calls[0].arguments == "{}"
    assert "cut off at the model's output limit" in session.history[2].results[0].parts[0].text  # type: ignore[union-attr]


async def test_an_empty_answer_is_reported() -> None:
    session, seen_events = new_session(ScriptedModel(model_step("")))
    await session.send("go")
    assert ev.Notice(level="warning", text="the model answered with nothing") in seen_events


async def test_a_retry_requests_the_answer_without_repeating_tools() -> None:
    toolbox = FakeToolbox({"echo": lambda a: "once"})
    connection_error = ModelError("connection lost", kind="broken_stream")
    model = ScriptedModel(
        step("a"), [ev.TextDelta(text="Half"), connection_error], model_step("whole"), model_step("another")
    )
    session, _ = new_session(model, toolbox=toolbox)
    with pytest.raises(ModelError):
        await session.send("go")
    assert session.history[-1].cut == "connection lost"
    await session.retry()
    assert (toolbox.calls, session.history[-1].text, len(session.history)) == ([("echo", {})], "whole", 4)
    assert model.requests[2].messages == model.requests[1].messages
    await session.retry()
    assert session.history[-1].text == "another"


async def test_a_retry_without_a_question_is_refused() -> None:
    session, _ = new_session(ScriptedModel())
    with pytest.raises(UsageError):
        await session.retry()


# --- one prefix ----------------------------------------------------------------------------------------------------


async def test_tools_are_sorted_once_and_only_appended() -> None:
    toolbox = FakeToolbox({}, make_tool("b"), make_tool("c"))
    toolbox.server_instructions = {"box": "as it was"}
    model = ScriptedModel(*(model_step("ok") for _ in range(4)))
    session, _ = new_session(model, toolbox=toolbox, instructions="Be brief.")
    for specs in [
        (make_tool("b"), make_tool("c")),
        (make_tool("c"), make_tool("b")),
        (make_tool("a"), make_tool("c"), make_tool("b")),
        (make_tool("c"), make_tool("a")),
    ]:
        toolbox._specs = specs
        await session.send("go")
        toolbox.server_instructions = {"box": "as it has become"}
    tool_names = [[spec.name for spec in request.tools] for request in model.requests]
    assert tool_names == [["b", "c"], ["b", "c"], ["b", "c", "a"], ["c", "a"]]
    assert model.requests[0].tools is model.requests[1].tools
    assert model.requests[0].system == model.requests[1].system
    assert "as it has become" in model.requests[2].system
    assert {request.cache_key for request in model.requests} == {session.transcript.thread.id}


# --- answers that fit a schema -----------------------------------------------------------------------------------

SCHEMA = AnswerSchema(
    {"type": "object", "required": ["n"]}, lambda schema, value: "" if "n" in value else "'n' is missing"
)  # type: ignore[operator]


@pytest.mark.parametrize(
    "answer_text", ['{"n": 1}', ' {"n": 1}\n', 'Here:\n```json\n{"n": 1}\n```', '```\n{"n": 1}```']
)
def test_json_is_found_in_an_answer(answer_text: str) -> None:
    text, problem = SCHEMA.parse(answer_text)
    assert (json.loads(text), problem) == ({"n": 1}, "")


async def test_an_invalid_answer_is_requested_once_more() -> None:
    model = ScriptedModel(step("a"), model_step("It is 1."), model_step('{"n": 1}'))
    session, seen_events = new_session(model, schema=SCHEMA)
    finished, value = await session.validate_answer(await session.send("go"))
    assert (value, finished.stop) == ('{"n": 1}', "end")
    assert "does not fit the JSON Schema: it is not JSON" in model.requests[-1].messages[-1].text
    assert '{"type":"object","required":["n"]}' in model.requests[0].system
    assert model.requests[0].schema == SCHEMA.schema
    assert sum(isinstance(event, ev.Notice) for event in seen_events) == 1


async def test_a_repeatedly_invalid_answer_is_a_model_error() -> None:
    session, _ = new_session(ScriptedModel(model_step("no"), model_step('{"m": 1}')), schema=SCHEMA)
    with pytest.raises(ModelError, match="'n' is missing") as error_info:
        await session.validate_answer(await session.send("go"))
    assert error_info.value.kind == "schema"


async def test_a_turn_that_ends_early_has_no_value() -> None:
    session, _ = new_session(ScriptedModel(model_step('{"n":', stop="length")), schema=SCHEMA)
    finished, value = await session.validate_answer(
        await session.send(Message(role="user", parts=user_message("go").parts))
    )
    assert (finished.stop, value) == ("length", "")


# --- regressions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [2**100, "half \ud83d", -1.5])
async def test_a_result_with_odd_values_is_accepted(value: Any) -> None:
    class OddToolbox(FakeToolbox):
        async def call(self, spec: Any, call_id: str, arguments: Any, emit: Any) -> ToolResult:
            return ToolResult(call_id=call_id, structured={"n": value})

    model = ScriptedModel(step("a"), model_step("done"))
    session, _ = new_session(model, toolbox=OddToolbox({"echo": str}))
    assert (await session.send("go")).stop == "end"
    assert session.history[2].results[0].structured == {"n": value}


def test_a_repeated_image_is_kept_and_a_new_one_is_no_repeat() -> None:
    repeats = LoopDetector()
    for number in range(4):
        result = ToolResult(call_id="c", parts=(Image(media_type="image/png", data=bytes([number])),))
        assert repeats.annotate(make_call(TOOL), result) == result
    same = [repeats.annotate(make_call(TOOL), result) for _ in range(2)]
    assert isinstance(same[-1].parts[0], Image)
    assert len(same[-1].parts) == 2


async def test_limits_survive_clear_and_model_switches() -> None:
    model = ScriptedModel(model_step("a", usage=Usage(input=60, output=50)), model_step("never"))
    session, _ = new_session(model, limits=TurnLimits(max_tokens=100))
    await session.send("go")
    session.clear()
    assert (session.thread_usage.usage.total, session.run_usage.usage.total) == (0, 110)
    session.switch_model(SelectedModel(name="n", adapter=model))
    assert (await session.send("more")).stop == "tokens"


async def test_the_user_is_asked_again_after_more_steps() -> None:
    model = ScriptedModel(*(step(f"c{number}") for number in range(4)), model_step("done"))
    session, _ = new_session(model, True, True, limits=TurnLimits(max_steps=2))
    await session.send("go")
    assert session.agent.gate._asker.prompts == [("go on", 2), ("go on", 4)]  # type: ignore[attr-defined]


async def test_a_failed_retry_keeps_the_old_answer() -> None:
    connection_error = ModelError("no", kind="network")
    session, _ = new_session(ScriptedModel(model_step("precious"), [connection_error]))
    await session.send("go")
    with pytest.raises(ModelError):
        await session.retry()
    assert [message.text for message in session.history] == ["go", "precious"]


async def test_a_retry_after_a_summary_repeats_the_question() -> None:
    session, _ = new_session(ScriptedModel(model_step("first"), model_step("summary"), model_step("second")))
    await session.send("go")
    await session.compact()
    await session.retry()
    assert [message.text for message in session.history] == ["go", "second"]


@pytest.mark.parametrize("stop", ["refusal", "length", "filter"])
async def test_the_stop_of_the_last_answer_precedes_the_limit(stop: Any) -> None:
    model = ScriptedModel(step("a"), model_step("no", stop=stop))
    session, _ = new_session(model, limits=TurnLimits(max_steps=1))
    assert (await session.send("go")).stop == stop


def test_invalid_json_is_not_an_answer() -> None:
    schema = AnswerSchema({"type": "object"}, lambda schema, value: "")
    assert schema.parse('{"n": NaN}')[0] == ""


async def test_the_answer_may_follow_a_comment() -> None:
    answer = model_step('{"n": 1}')
    comment = Message(role="assistant", parts=(Text(text="Let me see.\n\n"), Text(text='{"n": 1}')))
    answer[-1] = ResponseDone(message=comment, usage=Usage(input=1), stop="end")
    session, _ = new_session(ScriptedModel(answer), schema=SCHEMA)
    assert (await session.validate_answer(await session.send("go")))[1] == '{"n": 1}'


async def test_tokens_of_a_broken_answer_are_estimated() -> None:
    connection_error = ModelError("no", kind="network")
    session, _ = new_session(ScriptedModel([ev.TextDelta(text="word " * 100), connection_error]))
    with pytest.raises(ModelError):
        await session.send("x" * 400)
    assert session.thread_usage.usage.estimated
    assert 100 < session.thread_usage.usage.total < 400
