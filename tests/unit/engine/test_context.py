"""Tests of compaction: what the model gets of a conversation that exceeds its window; the history stays whole."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from mcpchat.core import events as ev
from mcpchat.core.events import Event
from mcpchat.core.messages import (
    AgentSwitch,
    Compaction,
    File,
    Image,
    Link,
    Message,
    Part,
    Text,
    ToolResult,
    Usage,
    result_text,
    user_message,
)
from mcpchat.core.protocols import ModelEvent, ModelOptions, ModelRequest, Retrying, SelectedModel
from mcpchat.engine.compaction import render_history
from mcpchat.engine.context_window import SUMMARY_PROMPT, ContextWindow
from mcpchat.engine.history import normalize_history
from mcpchat.engine.session import ActiveAgent, Session
from mcpchat.engine.token_estimate import message_weight
from mcpchat.errors import ModelError
from tests.support.fakes import (
    FakeToolbox,
    LimitedModel,
    ScriptedModel,
    counts,
    make_call,
    make_gate,
    make_tool,
    model_step,
    preload_history,
)

TOOL = "box__echo"
OVERFLOW = ModelError("too long", kind="context")
UNCOUNTED = Usage(output=1)  # of a server that does not count the input


def compaction_note(**fields: Any) -> Message:
    return Message(role="system", parts=(Compaction(**fields),))


def assistant(text: str) -> Message:
    return Message(role="assistant", parts=(Text(text=text),))


def tool_round(name: str, result: str) -> list[Message]:
    call = make_call(TOOL, call_id=name)
    return [
        Message(role="assistant", parts=(call,)),
        Message(role="tool", parts=(ToolResult(call_id=name, parts=(Text(text=result),)),)),
    ]


def make_session(
    model: ScriptedModel | LimitedModel, window: int | None = None, **options: Any
) -> tuple[Session, list[Event]]:
    events: list[Event] = []

    async def find_window(tokens: int) -> int | None:
        return window

    choice = SelectedModel(name="m", adapter=model, window=find_window)
    toolbox = options.pop("toolbox", FakeToolbox({}))
    session = Session(
        model=choice,
        toolbox=toolbox,
        agent=ActiveAgent(gate=make_gate(), instructions=options.pop("instructions", "")),
        emit=events.append,
        **options,
    )
    return session, events


def levels(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.level, event.text) for event in events if isinstance(event, ev.Notice)]


def notices(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, ev.Notice)]


def test_a_summary_replaces_messages_and_the_users_words_stay() -> None:
    history = [
        user_message("one"),
        assistant("a"),
        user_message("two"),
        assistant("b"),
        user_message("three"),
        compaction_note(replaces=4, limit=99, summary="so far", keeps=(0, 2)),
        assistant("c"),
    ]
    texts = [message.text for message in render_history(history)]
    assert texts[:2] == ["one", "two"]
    assert texts[2].endswith("\n\nso far")
    assert texts[3:] == ["three", "c"]


def test_a_later_summary_replaces_an_earlier_one() -> None:
    history = [user_message("one"), assistant("a"), compaction_note(replaces=2, limit=99, summary="first"), user_message("two"), assistant("b"),
               compaction_note(replaces=5, limit=99, summary="second", keeps=(3,))]  # fmt: skip
    assert [message.text.rpartition("\n")[2] for message in render_history(history)] == ["two", "second"]


def test_earlier_results_are_shortened_and_images_are_named() -> None:
    picture = ToolResult(call_id="p", parts=(Text(text="x" * 500), Image(media_type="image/png", data=b"123")))
    history = [user_message("go"), *tool_round("a", "y" * 500), Message(role="assistant", parts=(make_call(TOOL, call_id="p"),)),
               Message(role="tool", parts=(picture,)), *tool_round("b", "z" * 500), compaction_note(replaces=5, limit=100)]  # fmt: skip
    first, second, third = (message.results[0] for message in render_history(history) if message.role == "tool")
    assert "400 of 500 characters left out here: shortened because" in first.parts[0].text  # type: ignore[union-attr]
    assert [type(part) for part in second.parts] == [Text]
    assert third.parts == (Text(text="z" * 500),)


async def test_the_window_is_checked_before_each_request_with_one_warning() -> None:
    model = ScriptedModel(*(model_step("ok", usage=Usage(input=100, output=1)) for _ in range(3)))
    session, events = make_session(model, window=1000)
    await session.send("x" * 3230)
    await session.send("and?")
    assert [text.partition(";")[0] for text in notices(events)] == [
        "the conversation takes 81% of the model's window (812 of 1,000 tokens)"
    ]


async def test_at_the_threshold_results_are_shortened_without_a_request() -> None:
    toolbox = FakeToolbox({"echo": lambda a: "y" * 24_000})
    steps = [
        model_step("", make_call(TOOL, call_id="a")),
        model_step("read", usage=Usage(input=7600, output=1)),
        model_step("done"),
    ]
    model = ScriptedModel(*steps)
    session, events = make_session(model, window=8000, toolbox=toolbox)
    await session.send("go")
    await session.send("and?")
    assert notices(events)[-1] == "earlier tool results were shortened to make room"
    assert len(model.requests) == 3
    assert len(session.history[2].results[0].parts[0].text) == 24_000  # type: ignore[union-attr]
    assert message_weight(model.requests[-1].messages[2]) < 2000
    assert any(isinstance(part, Compaction) for message in session.history for part in message.parts)


async def test_if_shortening_is_not_enough_the_same_model_summarizes_between_rounds() -> None:
    messages = [
        message for turn in range(6) for message in (user_message(f"question {turn}"), assistant("word " * 200))
    ]
    model = ScriptedModel(model_step("all that was said", usage=Usage(input=50, output=5)), model_step("ok"))
    session, events = make_session(model, window=1500, instructions="Be brief.")
    preload_history(session, list(messages))
    finished = await session.send("and now?")
    summary_request, request = model.requests
    assert (summary_request.tool_choice, summary_request.system, summary_request.messages[-1]) == (
        "none",
        "Be brief.",
        user_message(SUMMARY_PROMPT),
    )
    assert summary_request.messages[:-1] == tuple(
        messages[: len(summary_request.messages) - 1]
    )  # a prefix of the conversation, so the prompt cache applies
    texts = [message.text for message in request.messages]
    assert texts[:5] == [f"question {turn}" for turn in range(5)]
    assert texts[5].endswith("all that was said")
    assert texts[-1] == "and now?"
    assert session.history[:12] == messages
    assert counts(finished.usage) == Usage(input=51, output=6)
    assert [type(event) for event in events if isinstance(event, ev.MessageAdded)] == [ev.MessageAdded] * 3


async def test_an_overflow_causes_one_compaction_and_the_request_is_retried() -> None:
    model = ScriptedModel([OVERFLOW], model_step("so far"), model_step("ok"))
    session, _ = make_session(model)
    preload_history(session, [user_message("one"), assistant("a" * 5000), user_message("two"), assistant("b")])
    finished = await session.send("three")
    assert finished.stop == "end"
    assert [request.messages[-1].text for request in model.requests] == ["three", SUMMARY_PROMPT, "three"]


async def test_a_conversation_whose_every_form_is_refused_ends_in_an_error() -> None:
    model = LimitedModel(1, len)
    session, _ = make_session(model)
    preload_history(session, [user_message("one"), assistant("a" * 900)])
    with pytest.raises(ModelError):
        await session.send("two")
    assert len(model.requests) < 15
    assert normalize_history(render_history(session.history)) == render_history(session.history)


async def test_an_overflow_that_cannot_be_compacted_is_an_error() -> None:
    model = ScriptedModel([OVERFLOW])
    session, events = make_session(model)
    with pytest.raises(ModelError):
        await session.send("x" * 10_000)
    assert (len(model.requests), notices(events)) == (1, [])


async def test_the_window_is_read_from_the_error() -> None:
    refusal = ModelError("too long", kind="context", window=4096)
    model = ScriptedModel([refusal], model_step("so far"), model_step("ok"))
    session, _ = make_session(model)
    preload_history(session, [user_message("one"), assistant("a" * 900)])
    await session.send("two")
    assert session.context_window.size == 4096


async def test_a_summary_that_is_too_long_is_retried_with_half() -> None:
    model = ScriptedModel([OVERFLOW], [OVERFLOW], model_step("so far"), model_step("ok"))
    session, events = make_session(model)
    preload_history(
        session, [message for turn in range(8) for message in (user_message(f"{turn}"), assistant("a" * 900))]
    )
    await session.send("and?")
    lengths = [len(request.messages) for request in model.requests]
    assert lengths[2] < lengths[1]
    assert model.requests[-1].messages[-1] == user_message("and?")
    assert "its oldest part was too long" in notices(events)[-1]


async def test_a_failed_summary_is_reported_and_the_request_is_sent() -> None:
    model = ScriptedModel([ModelError("no", kind="server")], model_step("ok"))
    session, events = make_session(model, window=300)
    preload_history(session, [user_message("one"), assistant("a" * 1100)])
    finished = await session.send("two")
    assert finished.stop == "end"
    assert notices(events)[-1] == "the conversation could not be summarized: no"


async def test_tools_that_fill_the_window_are_named_as_the_reason() -> None:
    model = ScriptedModel(model_step("ok", usage=UNCOUNTED), model_step("ok", usage=UNCOUNTED))
    specs = [make_tool(f"tool{number}", description="word " * 40) for number in range(20)]
    session, events = make_session(model, window=500, toolbox=FakeToolbox({}, *specs))
    await session.send("one")
    await session.send("two")
    assert len(notices(events)) == 1
    assert "the tools and instructions alone fill the model's window" in notices(events)[0]
    assert len(model.requests) == 2


async def test_manual_compaction_summarizes_everything() -> None:
    model = ScriptedModel(model_step("Hi."), model_step("we said hello"), model_step("ok"))
    session, events = make_session(model)
    assert await session.compact() is False
    await session.send("hello")
    assert await session.compact() is True
    await session.send("and?")
    assert [message.text.rpartition("\n")[2] for message in model.requests[-1].messages] == [
        "hello",
        "we said hello",
        "and?",
    ]
    assert session.thread_usage.usage.total == 6
    assert sum(isinstance(event, ev.MessageAdded) for event in events) == len(session.history)


async def test_tokens_are_estimated_without_usage() -> None:
    session, _ = make_session(ScriptedModel(model_step("ok", usage=Usage())))
    finished = await session.send("x" * 4000)
    assert finished.usage.estimated
    assert 900 < finished.usage.input < 1100


async def test_bytes_per_token_are_derived_from_usage() -> None:
    async def find_window(tokens: int) -> int | None:
        return None

    model = ScriptedModel(model_step("ok", usage=Usage(input=2000, output=1)))
    context = ContextWindow(SelectedModel(name="m", adapter=model, window=find_window))
    request = ModelRequest(model="m", messages=(user_message("x" * 4000),))
    assert context.estimate_tokens(request, request.messages) == 1005
    async for _ in context.stream(request):
        pass
    assert context.estimate_tokens(request, request.messages) == 2000


async def test_a_cancelled_summary_leaves_the_history_unchanged() -> None:
    model = ScriptedModel([60.0])
    session, _ = make_session(model, window=300)
    preload_history(session, [user_message("one"), assistant("a" * 1100)])
    task = asyncio.create_task(session.send("two"))
    while not model.requests:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert session.history == [user_message("one"), assistant("a" * 1100), user_message("two")]


# --- regressions --------------------------------------------------------------------------------------------------


def long_history(turns: int = 6, words: int = 200) -> list[Message]:
    return [
        message for turn in range(turns) for message in (user_message(f"question {turn}"), assistant("word " * words))
    ]


async def test_the_pending_question_is_never_truncated() -> None:
    model = ScriptedModel(model_step("so far"), model_step("ok"))
    session, _ = make_session(model, window=4000)
    preload_history(session, long_history(4, 300))
    question = "the newest question " * 500
    await session.send(question)
    assert question not in [message.text for message in model.requests[0].messages]
    assert model.requests[1].messages[-1].text == question


async def test_the_model_gets_the_latest_results() -> None:
    toolbox = FakeToolbox({"echo": lambda a: "fetched " * 800})
    model = ScriptedModel(model_step("", make_call(TOOL, call_id="a")), model_step("so far"), model_step("ok"))
    session, _ = make_session(model, window=4000, toolbox=toolbox)
    preload_history(session, long_history(3, 500))
    await session.send("go")
    assert model.requests[-1].messages[-1].results[0].parts[0].text == "fetched " * 800  # type: ignore[union-attr]


async def test_useless_compaction_is_not_repeated() -> None:
    numbers = iter(range(100))
    toolbox = FakeToolbox({"echo": lambda a: f"result {next(numbers)}"})
    steps = [
        model_step("", make_call(TOOL, call_id=f"c{number}"), usage=Usage(input=960, output=1)) for number in range(6)
    ]
    empty = model_step("", usage=Usage(input=900, output=1))
    model = ScriptedModel(steps[0], *(event for note in steps[1:] for event in (empty, note)), model_step("done"))
    session, events = make_session(model, window=1000, toolbox=toolbox)
    preload_history(session, [user_message("x" * 3000)])
    try:
        await session.send("go")
    except IndexError:
        pytest.fail("it asked for more summaries than make sense")
    finally:
        summaries = [request for request in model.requests if request.messages[-1] == user_message(SUMMARY_PROMPT)]
    assert len(summaries) < 4
    assert "could not be summarized" in " ".join(notices(events)) or not summaries


async def test_a_small_prompt_sets_no_ratio() -> None:
    model = ScriptedModel(model_step("hi", usage=Usage(input=40, output=1)), model_step("ok", usage=Usage(input=7050)))
    session, events = make_session(model, window=32_000)
    await session.send("hi")
    await session.send("x" * 28_000)
    assert notices(events) == []
    assert 6000 < (await session.window_usage())[0] < 8000


async def test_a_second_summary_includes_the_first_one() -> None:
    model = ScriptedModel([OVERFLOW], [OVERFLOW], [OVERFLOW], model_step("all of it"), model_step("ok"))
    session, _ = make_session(model)
    preload_history(
        session,
        [user_message("zero"), compaction_note(replaces=1, limit=50, summary="THE FIRST SUMMARY"), *long_history()],
    )
    await session.send("and?")
    assert all("THE FIRST SUMMARY" in request.messages[0].text for request in model.requests[1:4])


async def test_raw_of_a_cut_message_is_removed() -> None:
    raw = {"origin": {}, "items": [{"type": "message"}]}
    message = Message(role="assistant", parts=(Text(text="x" * 9000),), raw=raw)
    model = ScriptedModel([OVERFLOW], model_step("so far"), model_step("ok"))
    session, _ = make_session(model)
    preload_history(session, [user_message("one"), message])
    await session.send("two")
    assert [request.messages[1].raw for request in model.requests[:2]] == [raw, None]


def test_a_shortened_result_keeps_the_id_of_the_full_one() -> None:
    result = (
        "x" * 400
        + '[… 9 characters left out here: mcpchat__read_result(id="0123456789ab", offset=..., grep=...) reads the rest …]'
        + "y" * 400
    )
    messages = render_history([user_message("go"), *tool_round("a", result), compaction_note(replaces=3, limit=100)])
    assert 'mcpchat__read_result(id="0123456789ab"' in messages[2].results[0].parts[0].text  # type: ignore[union-attr]


def test_the_last_summary_and_the_farthest_shortening_apply() -> None:
    history = [
        user_message("go"),
        *tool_round("a", "y" * 500),
        compaction_note(replaces=3, limit=100),
        *tool_round("b", "z" * 500),
        compaction_note(replaces=6, limit=100),
    ]
    assert all(
        "left out" in message.results[0].parts[0].text for message in render_history(history) if message.role == "tool"
    )  # type: ignore[union-attr]


def test_user_words_are_cut_to_the_limit_and_images_are_named() -> None:
    message = Message(role="user", parts=(Text(text="x" * 500), Image(media_type="image/png", data=b"123")))
    messages = render_history(
        [message, assistant("a"), compaction_note(replaces=2, limit=100, summary="so far", keeps=(0,))]
    )
    assert [type(part) for part in messages[0].parts] == [Text, Text]
    assert "400 of 500 characters left out" in messages[0].text


async def test_the_newest_user_messages_stay_if_they_fit() -> None:
    model = ScriptedModel(model_step("so far"), model_step("ok"))
    session, _ = make_session(model, window=2000)
    preload_history(
        session, [message for turn in range(6) for message in (user_message(f"{turn}" * 900), assistant("word " * 100))]
    )
    await session.send("and?")
    digits = [message.text[0] for message in model.requests[-1].messages if message.text[:1].isdigit()]
    assert digits
    assert digits == [str(turn) for turn in range(6 - len(digits), 6)]
    assert len(digits) < 6


async def test_a_long_turn_is_cut_between_complete_rounds() -> None:
    numbers = iter(range(100))
    toolbox = FakeToolbox({"echo": lambda a: f"{next(numbers)} " + "word " * 8})
    arguments = json.dumps({"text": "x" * 500})
    counts = [Usage(input=150 + 190 * number, output=1) for number in range(4)]
    steps = [
        model_step("", make_call(TOOL, arguments, f"c{number}"), usage=count) for number, count in enumerate(counts)
    ]
    model = ScriptedModel(*steps, model_step("so far", usage=Usage(input=600)), model_step("done"))
    session, _ = make_session(model, window=1000, toolbox=toolbox)
    await session.send("go")
    for request in model.requests:
        assert normalize_history(request.messages) == request.messages
        assert request.messages[0] == user_message("go")
    assert model.requests[4].schema is None
    notes = [
        part for message in session.history for part in message.parts if isinstance(part, Compaction) and part.summary
    ]
    assert notes
    assert all(session.history[note.replaces].role == "assistant" for note in notes)


async def test_retries_and_usage_of_summaries_count() -> None:
    retrying = Retrying(seconds=60.0, reason="slow down")
    model = ScriptedModel([retrying, *model_step("", usage=Usage(input=5900, output=1))])
    session, events = make_session(model)
    preload_history(session, long_history())
    with pytest.raises(ModelError, match="wrote no summary"):
        await session.compact()
    assert ev.Notice(level="warning", text="slow down; trying again in 60 s") in events
    assert session.thread_usage.usage.total == 5901


async def test_a_new_model_or_conversation_resets_the_window() -> None:
    session, _ = make_session(ScriptedModel(model_step("ok")))
    session.context_window.size = 99
    session.clear()
    assert session.context_window.size is None
    session.context_window.size = 99
    session.switch_model(session.model)
    assert session.context_window.size is None


async def test_a_question_that_is_too_long_does_not_end_the_chat() -> None:
    refusal = ModelError("too long", kind="context", window=4000, requested_tokens=12_000)
    model = ScriptedModel([refusal], [refusal], model_step("there was a long text"), model_step("ok"))
    session, _ = make_session(model)
    with pytest.raises(ModelError):
        await session.send("far too long " * 3000)
    finished = await session.send("never mind")
    assert finished.stop == "end"
    assert model.requests[-1].messages[-1].text == "never mind"
    assert sum(message_weight(message) for message in model.requests[-1].messages) < 8000
    assert len(session.history[0].text) == 39_000


# --- estimates, and requests that do not fit ------------------------------------------------------------------------


def test_notes_take_no_room_and_media_a_fixed_share() -> None:
    parts: list[Part] = [
        Compaction(replaces=1, limit=1, summary="long " * 100),
        AgentSwitch(agent="mail", model="m"),
        Link(uri="x:y"),
        Image(media_type="image/png", data=b"x" * 9999),
        File(media_type="application/pdf", data=b"x" * 20_000),
        Text(text="ä"),
    ]
    weights = [message_weight(Message(role="user", parts=(part,))) for part in parts]
    assert weights == [20, 20, 120, 4020, 5020, 22]


async def test_a_count_of_output_alone_is_no_estimate() -> None:
    session, _ = make_session(ScriptedModel(model_step("ok", usage=Usage(output=5))))
    finished = await session.send("x" * 4000)
    assert finished.usage == Usage(output=5)


async def test_a_window_that_fills_up_is_mentioned_once() -> None:
    model = ScriptedModel(
        model_step("ok", usage=Usage(input=812, output=1)), model_step("ok", usage=Usage(input=825, output=1))
    )
    session, events = make_session(model, window=1000)
    await session.send("x" * 3230)
    await session.send("and?")
    assert (await session.window_usage())[0] >= 825
    assert notices(events) == [
        "the conversation takes 81% of the model's window (812 of 1,000 tokens); at 85% it is summarized"
    ]


async def test_a_refusal_changes_only_what_was_estimated_wrong() -> None:
    refusal = ModelError("too long", kind="context", window=100, requested_tokens=150)
    session, _ = make_session(
        ScriptedModel([refusal], model_step("so far", usage=UNCOUNTED), model_step("ok", usage=UNCOUNTED))
    )
    preload_history(session, [user_message("one"), assistant("a" * 900)])
    await session.send("two")
    weight = sum(message_weight(message) for message in render_history(session.history))
    refused = sum(
        message_weight(message) for message in (user_message("one"), assistant("a" * 900), user_message("two"))
    )
    assert await session.window_usage() == (int(weight * 150 / refused), 100)  # as dense as the server said


async def test_a_refusal_without_numbers_keeps_a_known_window() -> None:
    model = ScriptedModel(
        [ModelError("busy", kind="server")], [OVERFLOW], model_step("so far"), model_step("ok", usage=UNCOUNTED)
    )
    session, events = make_session(model, window=300)
    preload_history(session, [user_message("one"), assistant("a" * 1300)])
    await session.send("two")
    assert (await session.window_usage())[1] == 300
    assert [text.partition(":")[0] for text in notices(events)] == [
        "summarizing the conversation",
        "the conversation could not be summarized",
        "summarizing the conversation",
        "the conversation was summarized",
    ]


async def test_a_refusal_of_a_request_that_fits_is_reported() -> None:
    refusal = ModelError("too long", kind="context", window=100_000, requested_tokens=100)
    model = ScriptedModel([refusal])
    session, events = make_session(model)
    preload_history(session, [user_message("one"), assistant("a" * 900)])
    with pytest.raises(ModelError, match="too long"):
        await session.send("two")
    assert (len(model.requests), notices(events)) == (1, [])


async def test_a_summary_follows_if_shortened_results_are_not_enough() -> None:
    model = ScriptedModel(model_step("so far", usage=UNCOUNTED), model_step("ok"))
    session, events = make_session(model, window=2000)
    preload_history(session, [user_message("one"), *tool_round("a", "y" * 4000), assistant("word " * 1100)])
    await session.send("two")
    assert notices(events) == [
        "earlier tool results were shortened to make room",
        "summarizing the conversation",
        "the conversation was summarized: about 1,837 tokens became 45",
    ]
    assert [message.text.rpartition("\n")[2] for message in model.requests[-1].messages] == ["one", "so far", "two"]


async def test_a_large_result_is_shortened_without_a_summary_of_the_question() -> None:
    toolbox = FakeToolbox({"echo": lambda a: "y" * 8000})
    model = ScriptedModel(model_step("", make_call(TOOL, call_id="a"), usage=UNCOUNTED), model_step("ok"))
    session, events = make_session(model, window=1000, toolbox=toolbox)
    await session.send("go")
    assert notices(events) == ["the latest tool results were shortened: they fill the window"]
    (shortened,) = model.requests[-1].messages[-1].results[0].parts
    assert isinstance(shortened, Text)
    head, mark, tail = shortened.text.split("\n")
    assert (900 < len(head) + len(tail) < 1200, set(head + tail)) == (True, {"y"})
    assert mark.endswith(
        "of 8,000 characters left out here: shortened because the conversation was too long: call the tool "
        "again if you need it …]"
    )
    assert session.history[2].results[0].parts == (Text(text="y" * 8000),)


async def test_a_question_stays_whole_if_its_request_is_compacted_twice() -> None:
    model = ScriptedModel([OVERFLOW], model_step("so far"), model_step("ok"))
    session, events = make_session(model, window=8000)
    preload_history(session, [user_message("one"), *tool_round("a", "y" * 28_000), assistant("read")])
    question = "two " * 150
    await session.send(question)
    assert [text.partition(":")[0] for text in notices(events)] == [
        "earlier tool results were shortened to make room",
        "summarizing the conversation",
        "the conversation was summarized",
    ]
    assert model.requests[1].messages[:-1] == model.requests[0].messages[:-2]  # all but the latest answer
    texts = [message.text.rpartition("\n")[2] for message in model.requests[-1].messages]
    assert texts == ["one", "so far", "read", question]


async def test_a_summary_that_never_fits_is_asked_for_in_smaller_and_smaller_pieces() -> None:
    model = LimitedModel(1, len)
    session, events = make_session(model)
    history = [user_message("one"), assistant("a" * 8000)]
    preload_history(session, history)
    with pytest.raises(ModelError) as raised:
        await session.compact()
    assert (raised.value.message, raised.value.kind) == ("the model wrote no summary of the conversation", "context")
    sizes = [model.count(request) for request in model.requests]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 1000
    assert list(session.history) == history
    assert notices(events) == ["summarizing the conversation"]


async def test_a_summary_that_fails_midway_is_counted() -> None:
    model = ScriptedModel([ev.TextDelta(text="they sa"), OVERFLOW], model_step("so far", usage=UNCOUNTED))
    session, _ = make_session(model)
    preload_history(session, [user_message("one"), assistant("a" * 8000)])
    assert await session.compact()
    sent = sum(message_weight(message) for message in model.requests[0].messages)
    assert session.thread_usage.usage == Usage(input=sent // 4, output=2, estimated=True)


# --- dense text in small windows ------------------------------------------------------------------------------------

STATED = "request (%d tokens) exceeds the available context size (%d tokens), try increasing it"
WORDINGS = {
    "numbers": lambda requested, window: ModelError(
        STATED % (requested, window), kind="context", window=window, requested_tokens=requested
    ),
    "window": lambda requested, window: ModelError("too long", kind="context", window=window),
    "count": lambda requested, window: ModelError("too long", kind="context", requested_tokens=requested),
    "nothing": lambda requested, window: ModelError("too long", kind="context"),
}
TEXTS = {
    "numbers": "3141592653 58979 " * 2000,
    "prose": "The moon is far away. " * 1600,
    "hashes": "9f86d081884c7d65 " * 2000,
    "chinese": "月亮离地球很远。" * 1500,
}


def count_bytes(text: str) -> int:
    """The most tokens that a text can have: one for each byte."""
    return len(text.encode())


def count_words(text: str) -> int:
    return len(text) // 5


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("wording", WORDINGS)
@pytest.mark.parametrize("count_tokens", [count_bytes, count_words])
@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("window", [2048, 8192, 32_768])
async def test_a_short_question_is_answered_after_any_answer_or_result(
    window: int, kind: str, count_tokens: Callable[[str], int], wording: str, known: bool
) -> None:
    content = TEXTS[kind]
    model = LimitedModel(window, count_tokens, overhead=200, wording=WORDINGS[wording])
    session, events = make_session(model, window=window if known else None)
    preload_history(
        session, [user_message("What is it?"), assistant(content), user_message("And?"), *tool_round("a", content)]
    )
    finished = await session.send("hello")
    assert finished.stop == "end"
    assert model.requests[-1].messages[-1] == user_message("hello")
    assert all(level != "warning" or "fill" not in text for level, text in levels(events))
    refused = model.refused
    await session.send("and now?")
    assert model.refused - refused <= 1  # what was learnt stays


@pytest.mark.parametrize("wording", WORDINGS)
@pytest.mark.parametrize("kind", TEXTS)
async def test_a_result_is_shortened_as_often_as_it_takes(kind: str, wording: str) -> None:
    model = LimitedModel(8192, count_bytes, overhead=200, wording=WORDINGS[wording])
    session, _ = make_session(model, window=8192)
    preload_history(session, [user_message("What is it?"), *tool_round("a", TEXTS[kind])[:1]])
    history = [*session.history, tool_round("a", TEXTS[kind])[1]]
    request = ModelRequest(model="m", messages=tuple(history))
    async for _ in session.context_window.stream(request):
        pass
    (result,) = model.requests[-1].messages[-1].results
    assert len(result_text(result)) >= 600  # not more is lost than needs be
    assert SUMMARY_PROMPT not in [message.text for sent in model.requests for message in sent.messages]
    assert model.refused <= 3


async def test_a_server_that_leaves_the_tools_out_is_noticed_once() -> None:
    model = ScriptedModel(*(model_step("ok", usage=Usage(input=70, output=1)) for _ in range(2)))
    specs = [make_tool(f"tool{number}", description="word " * 40) for number in range(20)]
    session, events = make_session(model, toolbox=FakeToolbox({}, *specs))
    await session.send("one")
    await session.send("two")
    (notice,) = notices(events)
    assert notice.startswith("the model's server counted 70 tokens for a request whose tools alone take about 1,")


@pytest.mark.parametrize("words", ["all", "prompt", "window"])
async def test_a_limit_of_output_that_fills_the_window_is_lowered(words: str) -> None:
    class Server(LimitedModel):
        """Refuses a request whose limit of output has no room beside the prompt, as vLLM does."""

        async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
            prompt, output = self.count(request), request.options.max_output_tokens or 0
            if prompt + output > self.window:
                self.requests.append(request)
                self.refused += 1
                requested = {"all": prompt + output, "prompt": prompt, "window": None}[words]
                raise ModelError("too long", kind="context", window=self.window, requested_tokens=requested)
            async for event in super().stream(request):
                yield event

    model = Server(8192, count_words)
    session, events = make_session(model)
    preload_history(session, long_history(4, 100))
    request = ModelRequest(
        model="m", messages=(*session.history, user_message("and?")), options=ModelOptions(max_output_tokens=8000)
    )
    async for _ in session.context_window.stream(request):
        pass
    assert (model.refused, notices(events)) == (1, [])
    assert len(model.requests[-1].messages) == len(request.messages)
    assert 256 <= (model.requests[-1].options.max_output_tokens or 0) < 8000
