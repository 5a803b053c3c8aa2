"""What a model is shown of a conversation that outgrows its window; all of it stays in the history."""

import asyncio
import json
from typing import Any

import pytest

from mcpchat.core import events as ev
from mcpchat.core.events import Event
from mcpchat.core.messages import Compaction, Image, Message, Text, ToolResult, Usage, user_message
from mcpchat.core.protocols import ModelRequest, Retrying, SelectedModel
from mcpchat.engine.context_window import SUMMARY_PROMPT, ContextWindow, message_weight, render_history
from mcpchat.engine.history import normalize_history
from mcpchat.engine.session import ActiveAgent, Session
from mcpchat.errors import ModelError
from tests.fakes import FakeToolbox, ScriptedModel, make_call, make_gate, make_tool, model_step, preload_history

TOOL = "box__echo"
OVERFLOW = ModelError("too long", kind="context")


def note(**fields: Any) -> Message:
    return Message(role="system", parts=(Compaction(**fields),))


def assistant(text: str) -> Message:
    return Message(role="assistant", parts=(Text(text=text),))


def round_of(name: str, result: str) -> list[Message]:
    call = make_call(TOOL, call_id=name)
    return [
        Message(role="assistant", parts=(call,)),
        Message(role="tool", parts=(ToolResult(call_id=name, parts=(Text(text=result),)),)),
    ]


def session(model: ScriptedModel, window: int | None = None, **more: Any) -> tuple[Session, list[Event]]:
    seen: list[Event] = []

    async def known(tokens: int) -> int | None:
        return window

    choice = SelectedModel(name="m", adapter=model, window=known)
    toolbox = more.pop("toolbox", FakeToolbox({}))
    made = Session(
        model=choice,
        toolbox=toolbox,
        agent=ActiveAgent(gate=make_gate(), instructions=more.pop("instructions", "")),
        emit=seen.append,
        **more,
    )
    return made, seen


def notices(seen: list[Event]) -> list[str]:
    return [event.text for event in seen if isinstance(event, ev.Notice)]


def test_a_summary_stands_for_what_it_replaces_and_the_users_own_words_stay() -> None:
    history = [
        user_message("one"),
        assistant("a"),
        user_message("two"),
        assistant("b"),
        user_message("three"),
        note(replaces=4, limit=99, summary="so far", keeps=(0, 2)),
        assistant("c"),
    ]
    texts = [message.text for message in render_history(history)]
    assert texts[:2] == ["one", "two"]
    assert texts[2].endswith("\n\nso far")
    assert texts[3:] == ["three", "c"]


def test_a_later_summary_replaces_an_earlier_one() -> None:
    history = [user_message("one"), assistant("a"), note(replaces=2, limit=99, summary="first"), user_message("two"), assistant("b"),
               note(replaces=5, limit=99, summary="second", keeps=(3,))]  # fmt: skip
    assert [message.text.rpartition("\n")[2] for message in render_history(history)] == ["two", "second"]


def test_earlier_results_are_shortened_and_their_pictures_named() -> None:
    picture = ToolResult(call_id="p", parts=(Text(text="x" * 500), Image(media_type="image/png", data=b"123")))
    history = [user_message("go"), *round_of("a", "y" * 500), Message(role="assistant", parts=(make_call(TOOL, call_id="p"),)),
               Message(role="tool", parts=(picture,)), *round_of("b", "z" * 500), note(replaces=5, limit=100)]  # fmt: skip
    first, second, third = (message.results[0] for message in render_history(history) if message.role == "tool")
    assert "400 of 500 characters left out here: shortened because" in first.parts[0].text  # type: ignore[union-attr]
    assert [type(part) for part in second.parts] == [Text]
    assert third.parts == (Text(text="z" * 500),)


async def test_the_window_is_looked_at_before_each_request_and_warned_of_once() -> None:
    model = ScriptedModel(*(model_step("ok", usage=Usage(input=100, output=1)) for _ in range(3)))
    made, seen = session(model, window=1000)
    await made.send("x" * 3230)
    await made.send("and?")
    assert [text.partition(";")[0] for text in notices(seen)] == [
        "the conversation takes 81% of the model's window (812 of 1,000 tokens)"
    ]


async def test_at_the_threshold_results_are_shortened_and_no_request_is_spent_on_it() -> None:
    toolbox = FakeToolbox({"echo": lambda a: "y" * 24_000})
    steps = [
        model_step("", make_call(TOOL, call_id="a")),
        model_step("read", usage=Usage(input=7600, output=1)),
        model_step("done"),
    ]
    model = ScriptedModel(*steps)
    made, seen = session(model, window=8000, toolbox=toolbox)
    await made.send("go")
    await made.send("and?")
    assert notices(seen)[-1] == "earlier tool results were shortened to make room"
    assert len(model.requests) == 3
    assert len(made.history[2].results[0].parts[0].text) == 24_000  # type: ignore[union-attr]
    assert message_weight(model.requests[-1].messages[2]) < 2000
    assert any(isinstance(part, Compaction) for message in made.history for part in message.parts)


async def test_what_shortening_cannot_mend_is_summed_up_by_the_same_model_between_rounds() -> None:
    long = [message for turn in range(6) for message in (user_message(f"question {turn}"), assistant("word " * 200))]
    model = ScriptedModel(model_step("all that was said", usage=Usage(input=50, output=5)), model_step("ok"))
    made, seen = session(model, window=1500, instructions="Be brief.")
    preload_history(made, list(long))
    finished = await made.send("and now?")
    summing, asked = model.requests
    assert (summing.tool_choice, summing.system, summing.messages[-1]) == (
        "none",
        "Be brief.",
        user_message(SUMMARY_PROMPT),
    )
    assert summing.messages[:-1] == tuple(long[: len(summing.messages) - 1])  # a prefix, so that the cache serves it
    texts = [message.text for message in asked.messages]
    assert texts[:5] == [f"question {turn}" for turn in range(5)]
    assert texts[5].endswith("all that was said")
    assert texts[-1] == "and now?"
    assert made.history[:12] == long
    assert finished.usage == Usage(input=51, output=6)
    assert [type(event) for event in seen if isinstance(event, ev.MessageAdded)] == [ev.MessageAdded] * 3


async def test_an_overflow_is_answered_by_the_same_once_and_the_request_made_again() -> None:
    model = ScriptedModel([OVERFLOW], model_step("so far"), model_step("ok"))
    made, _ = session(model)
    preload_history(made, [user_message("one"), assistant("a" * 900), user_message("two"), assistant("b")])
    finished = await made.send("three")
    assert finished.stop == "end"
    assert [request.messages[-1].text for request in model.requests] == ["three", SUMMARY_PROMPT, "three"]
    model = ScriptedModel([OVERFLOW], model_step("so far"), [OVERFLOW])
    made, _ = session(model)
    preload_history(made, [user_message("one"), assistant("a" * 900)])
    with pytest.raises(ModelError):
        await made.send("two")
    assert normalize_history(render_history(made.history)) == render_history(made.history)


async def test_an_overflow_with_nothing_to_leave_out_is_told_at_once() -> None:
    model = ScriptedModel([OVERFLOW])
    made, seen = session(model)
    with pytest.raises(ModelError):
        await made.send("x" * 10_000)
    assert (len(model.requests), notices(seen)) == (1, [])


async def test_the_window_is_learnt_from_the_refusal() -> None:
    refusal = ModelError("too long", kind="context", window=4096)
    model = ScriptedModel([refusal], model_step("so far"), model_step("ok"))
    made, _ = session(model)
    preload_history(made, [user_message("one"), assistant("a" * 900)])
    await made.send("two")
    assert made.context_window.size == 4096


async def test_a_summary_that_is_too_long_itself_is_made_of_half_as_much() -> None:
    model = ScriptedModel([OVERFLOW], [OVERFLOW], [OVERFLOW], model_step("so far"), model_step("ok"))
    made, seen = session(model)
    preload_history(made, [message for turn in range(8) for message in (user_message(f"{turn}"), assistant("a" * 400))])
    await made.send("and?")
    lengths = [len(request.messages) for request in model.requests]
    assert lengths[3] < lengths[2]
    assert model.requests[-1].messages[-1] == user_message("and?")
    assert "its oldest part was too long" in notices(seen)[-1]


async def test_a_summary_that_fails_is_told_and_the_question_asked_all_the_same() -> None:
    model = ScriptedModel([ModelError("no", kind="server")], model_step("ok"))
    made, seen = session(model, window=300)
    preload_history(made, [user_message("one"), assistant("a" * 1100)])
    finished = await made.send("two")
    assert finished.stop == "end"
    assert notices(seen)[-1] == "the conversation could not be summarized: no"


async def test_tools_that_fill_the_window_alone_are_named_as_the_reason() -> None:
    model = ScriptedModel(model_step("ok"), model_step("ok"))
    specs = [make_tool(f"tool{number}", description="word " * 40) for number in range(20)]
    made, seen = session(model, window=500, toolbox=FakeToolbox({}, *specs))
    await made.send("one")
    await made.send("two")
    assert len(notices(seen)) == 1
    assert "the tools and instructions alone fill the model's window" in notices(seen)[0]
    assert len(model.requests) == 2


async def test_compacting_by_hand_sums_up_all_and_goes_on_from_there() -> None:
    model = ScriptedModel(model_step("Hi."), model_step("we said hello"), model_step("ok"))
    made, seen = session(model)
    assert await made.compact() is False
    await made.send("hello")
    assert await made.compact() is True
    await made.send("and?")
    assert [message.text.rpartition("\n")[2] for message in model.requests[-1].messages] == [
        "hello",
        "we said hello",
        "and?",
    ]
    assert made.thread_usage.usage.total == 6
    assert sum(isinstance(event, ev.MessageAdded) for event in seen) == len(made.history)


async def test_a_server_that_counts_nothing_is_counted_for() -> None:
    made, _ = session(ScriptedModel(model_step("ok", usage=Usage())))
    finished = await made.send("x" * 4000)
    assert finished.usage.estimated
    assert 900 < finished.usage.input < 1100


async def test_how_many_bytes_make_a_token_is_learnt_from_the_server() -> None:
    async def known(tokens: int) -> int | None:
        return None

    model = ScriptedModel(model_step("ok", usage=Usage(input=2000, output=1)))
    context = ContextWindow(SelectedModel(name="m", adapter=model, window=known))
    request = ModelRequest(model="m", messages=(user_message("x" * 4000),))
    assert context.estimate_tokens(request, request.messages) == 1005
    async for _ in context.stream(request):
        pass
    assert context.estimate_tokens(request, request.messages) == 2000


async def test_a_cancel_while_summing_up_leaves_the_history_as_it_was() -> None:
    model = ScriptedModel([60.0])
    made, _ = session(model, window=300)
    preload_history(made, [user_message("one"), assistant("a" * 1100)])
    task = asyncio.create_task(made.send("two"))
    while not model.requests:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert made.history == [user_message("one"), assistant("a" * 1100), user_message("two")]


# --- found by reviewers -------------------------------------------------------------------------------------------


def long_history(turns: int = 6, words: int = 200) -> list[Message]:
    return [
        message for turn in range(turns) for message in (user_message(f"question {turn}"), assistant("word " * words))
    ]


async def test_the_question_that_waits_is_shown_word_for_word_however_long() -> None:
    model = ScriptedModel(model_step("so far"), model_step("ok"))
    made, _ = session(model, window=4000)
    preload_history(made, long_history(4, 300))
    question = "the newest question " * 500
    await made.send(question)
    assert question not in [message.text for message in model.requests[0].messages]
    assert model.requests[1].messages[-1].text == question


async def test_the_results_that_were_just_fetched_are_shown_to_the_model() -> None:
    toolbox = FakeToolbox({"echo": lambda a: "fetched " * 800})
    model = ScriptedModel(model_step("", make_call(TOOL, call_id="a")), model_step("so far"), model_step("ok"))
    made, _ = session(model, window=4000, toolbox=toolbox)
    preload_history(made, long_history(3, 500))
    await made.send("go")
    assert model.requests[-1].messages[-1].results[0].parts[0].text == "fetched " * 800  # type: ignore[union-attr]


async def test_what_does_not_help_is_not_done_again_at_every_step() -> None:
    numbers = iter(range(100))
    toolbox = FakeToolbox({"echo": lambda a: f"result {next(numbers)}"})
    steps = [
        model_step("", make_call(TOOL, call_id=f"c{number}"), usage=Usage(input=960, output=1)) for number in range(6)
    ]
    empty = model_step("", usage=Usage(input=900, output=1))
    model = ScriptedModel(steps[0], *(event for one in steps[1:] for event in (empty, one)), model_step("done"))
    made, seen = session(model, window=1000, toolbox=toolbox)
    preload_history(made, [user_message("x" * 3000)])
    try:
        await made.send("go")
    except IndexError:
        pytest.fail("it asked for more summaries than make sense")
    finally:
        summaries = [request for request in model.requests if request.messages[-1] == user_message(SUMMARY_PROMPT)]
    assert len(summaries) < 4
    assert "could not be summarized" in " ".join(notices(seen)) or not summaries


async def test_a_small_first_prompt_teaches_no_ratio() -> None:
    model = ScriptedModel(model_step("hi", usage=Usage(input=40, output=1)), model_step("ok", usage=Usage(input=7050)))
    made, seen = session(model, window=32_000)
    await made.send("hi")
    await made.send("x" * 28_000)
    assert notices(seen) == []
    assert 6000 < (await made.window_usage())[0] < 8000


async def test_a_summary_of_a_summary_keeps_what_the_first_one_knew() -> None:
    model = ScriptedModel([OVERFLOW], [OVERFLOW], [OVERFLOW], model_step("all of it"), model_step("ok"))
    made, _ = session(model)
    preload_history(
        made, [user_message("zero"), note(replaces=1, limit=50, summary="THE FIRST SUMMARY"), *long_history()]
    )
    await made.send("and?")
    assert all("THE FIRST SUMMARY" in request.messages[0].text for request in model.requests[1:4])


async def test_what_is_cut_is_not_echoed_whole() -> None:
    raw = {"origin": {}, "items": [{"type": "message"}]}
    long = Message(role="assistant", parts=(Text(text="x" * 9000),), raw=raw)
    model = ScriptedModel([OVERFLOW], [OVERFLOW], model_step("so far"), model_step("ok"))
    made, _ = session(model)
    preload_history(made, [user_message("one"), long])
    await made.send("two")
    assert [request.messages[1].raw for request in model.requests[1:3]] == [raw, None]


def test_a_shortened_result_still_says_where_the_whole_one_is() -> None:
    kept = (
        "x" * 400
        + '[… 9 characters left out here: mcpchat__read_result(id="abc", offset=..., grep=...) reads the rest …]'
        + "y" * 400
    )
    shown = render_history([user_message("go"), *round_of("a", kept), note(replaces=3, limit=100)])
    assert 'mcpchat__read_result(id="abc"' in shown[2].results[0].parts[0].text  # type: ignore[union-attr]


def test_of_several_notes_the_last_summary_and_the_farthest_shortening_count() -> None:
    history = [
        user_message("go"),
        *round_of("a", "y" * 500),
        note(replaces=3, limit=100),
        *round_of("b", "z" * 500),
        note(replaces=6, limit=100),
    ]
    assert all(
        "left out" in message.results[0].parts[0].text for message in render_history(history) if message.role == "tool"
    )  # type: ignore[union-attr]


def test_kept_words_are_cut_to_their_limit_and_pictures_of_then_named() -> None:
    said = Message(role="user", parts=(Text(text="x" * 500), Image(media_type="image/png", data=b"123")))
    shown = render_history([said, assistant("a"), note(replaces=2, limit=100, summary="so far", keeps=(0,))])
    assert [type(part) for part in shown[0].parts] == [Text, Text]
    assert "400 of 500 characters left out" in shown[0].text


async def test_the_users_words_are_kept_while_there_is_room_the_newest_first() -> None:
    model = ScriptedModel(model_step("so far"), model_step("ok"))
    made, _ = session(model, window=2000)
    preload_history(
        made, [message for turn in range(6) for message in (user_message(f"{turn}" * 900), assistant("word " * 100))]
    )
    await made.send("and?")
    kept = [message.text[0] for message in model.requests[-1].messages if message.text[:1].isdigit()]
    assert kept
    assert kept == [str(turn) for turn in range(6 - len(kept), 6)]
    assert len(kept) < 6


async def test_a_cut_falls_between_complete_rounds_in_a_long_turn() -> None:
    numbers = iter(range(100))
    toolbox = FakeToolbox({"echo": lambda a: f"{next(numbers)} " + "word " * 8})
    given = json.dumps({"text": "x" * 500})
    counts = [Usage(input=150 + 190 * number, output=1) for number in range(4)]
    steps = [model_step("", make_call(TOOL, given, f"c{number}"), usage=count) for number, count in enumerate(counts)]
    model = ScriptedModel(*steps, model_step("so far", usage=Usage(input=600)), model_step("done"))
    made, _ = session(model, window=1000, toolbox=toolbox)
    await made.send("go")
    for request in model.requests:
        assert normalize_history(request.messages) == request.messages
        assert request.messages[0] == user_message("go")
    assert model.requests[4].schema is None
    notes = [
        part for message in made.history for part in message.parts if isinstance(part, Compaction) and part.summary
    ]
    assert notes
    assert all(made.history[one.replaces].role == "assistant" for one in notes)


async def test_waits_and_money_of_a_summary_are_seen() -> None:
    waits = Retrying(seconds=60.0, reason="slow down")
    model = ScriptedModel([waits, *model_step("", usage=Usage(input=5900, output=1))])
    made, seen = session(model)
    preload_history(made, long_history())
    with pytest.raises(ModelError, match="wrote no summary"):
        await made.compact()
    assert ev.Notice(level="warning", text="slow down; trying again in 60 s") in seen
    assert made.thread_usage.usage.total == 5901


async def test_a_new_model_and_a_new_conversation_forget_what_was_learnt_of_the_old() -> None:
    made, _ = session(ScriptedModel(model_step("ok")))
    made.context_window.size = 99
    made.clear()
    assert made.context_window.size is None
    made.context_window.size = 99
    made.switch_model(made.model)
    assert made.context_window.size is None


async def test_a_question_that_was_too_long_does_not_end_the_conversation() -> None:
    refusal = ModelError("too long", kind="context", window=4000, requested_tokens=12_000)
    model = ScriptedModel([refusal], [refusal], model_step("there was a long text"), model_step("ok"))
    made, _ = session(model)
    with pytest.raises(ModelError):
        await made.send("far too long " * 3000)
    finished = await made.send("never mind")
    assert finished.stop == "end"
    assert model.requests[-1].messages[-1].text == "never mind"
    assert sum(message_weight(message) for message in model.requests[-1].messages) < 8000
    assert len(made.history[0].text) == 39_000
