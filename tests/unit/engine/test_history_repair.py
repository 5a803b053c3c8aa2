"""What is repaired in a history, and what stays as it is."""

import string
from typing import Any

import pytest

from mcpchat.core.messages import (
    AgentSwitch,
    Compaction,
    Image,
    Message,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    user_message,
)
from mcpchat.engine.history import is_json_object, normalize_history
from tests.support.fakes import make_call

TOOL = "box__echo"
IMAGE = Image(media_type="image/png", data=b"\x89P")
NOTE = Message(role="system", parts=(AgentSwitch(agent="mail", model="m"),))


def assistant(*parts: Any) -> Message:
    return Message(role="assistant", parts=parts)


def results(*pairs: tuple[str, str]) -> Message:
    parts = (ToolResult(call_id=call_id, parts=(Text(text=text),)) for call_id, text in pairs)
    return Message(role="tool", parts=tuple(parts))


def normalize_call(call: ToolCall) -> ToolCall:
    return normalize_history([assistant(call)])[0].calls[0]


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        (string.ascii_letters, string.ascii_letters),
        (f"{string.digits}_-", f"{string.digits}_-"),
        ("a.b c/é{", "a_b_c___"),
        (":;<=>?@[\\]^`", "_" * 12),
        ("x" * 64, "x" * 64),
        ("x" * 65, "x" * 64),
        ("", "unknown"),
    ],
)
def test_a_name_has_at_most_64_letters_digits_dashes_and_underscores(name: str, sent: str) -> None:
    assert normalize_call(make_call(name)).name == sent


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ('{"a":1}', '{"a":1}'),
        ("[1]", "{}"),
        ("", "{}"),
        ('{"a": Infinity}', "{}"),
        ('{"a":' * 100_000, "{}"),
    ],
    ids=range(5),
)  # fmt: skip
def test_arguments_are_sent_as_written_if_they_are_a_json_object(arguments: str, sent: str) -> None:
    assert normalize_call(make_call(TOOL, arguments)).arguments == sent
    assert is_json_object(arguments) is (arguments == sent)


def test_a_new_id_is_none_that_is_used() -> None:
    history = [
        user_message("go"),
        assistant(make_call(TOOL, call_id="mended001")),
        results(("mended001", "one")),
        assistant(make_call(TOOL, call_id="")),
        results(("", "two")),
    ]
    assert normalize_history(history)[3:] == (
        assistant(make_call(TOOL, call_id="mended002")),
        results(("mended002", "two")),
    )


def test_results_are_in_the_order_of_the_calls() -> None:
    calls = assistant(make_call(TOOL, call_id="a"), make_call(TOOL, call_id="b"))
    assert normalize_history([calls, results(("b", "two"), ("a", "one"))]) == (
        calls,
        results(("a", "one"), ("b", "two")),
    )


def test_calls_with_the_same_id_have_a_result_each() -> None:
    calls = assistant(make_call(TOOL, call_id="a"), make_call(TOOL, call_id="a"))
    assert normalize_history([calls, results(("a", "one"), ("a", "two"))]) == (
        assistant(make_call(TOOL, call_id="a"), make_call(TOOL, call_id="mended001")),
        results(("a", "one"), ("mended001", "two")),
    )


def test_a_note_between_a_call_and_its_result_is_removed() -> None:
    call = assistant(make_call(TOOL, call_id="a"))
    assert normalize_history([call, NOTE, results(("a", "one"))]) == (call, results(("a", "one")))


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        (Message(role="user", parts=(IMAGE,)), [Message(role="user", parts=(IMAGE,))]),
        (Message(role="user", parts=(Text(text=""), IMAGE)), [Message(role="user", parts=(Text(text=""), IMAGE))]),
        (Message(role="user", parts=(Text(text=""),)), []),
        (Message(role="user", parts=(Text(text="a"), make_call(TOOL))), [user_message("a")]),
        (Message(role="user", parts=(make_call(TOOL),)), []),
        (assistant(Text(text=""), Reasoning(text="hm")), []),
        (assistant(Text(text="a"), Reasoning(text="hm")), [assistant(Text(text="a"), Reasoning(text="hm"))]),
        (assistant(Text(text="a"), Compaction(replaces=1, limit=9)), [assistant(Text(text="a"))]),
        (NOTE, []),
        (results(("a", "one")), []),
    ],
    ids=range(10),
)
def test_a_message_is_sent_with_the_parts_of_its_role_if_it_has_content(message: Message, sent: list[Message]) -> None:
    assert list(normalize_history([message])) == sent
