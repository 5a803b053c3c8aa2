"""Messages and events as JSON, and sanitizing of text for a terminal."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from mcpchat.core import events as ev
from mcpchat.core.events import Event
from mcpchat.core.messages import (
    AgentSwitch,
    Audio,
    File,
    Image,
    Link,
    Message,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    decode_arguments,
    result_text,
    user_message,
)
from mcpchat.core.policy import Decision
from mcpchat.core.threads import CallMetadata, MessageMetadata
from mcpchat.util.sanitize import one_line, sanitize
from tests.support.fakes import unanswered_calls

CALL = ToolCall(id="c", name="a__b", arguments="{}")
RESULT = ToolResult(
    call_id="c",
    parts=(Text(text="t"), Image(media_type="image/png", data=b"\x89P"), Link(uri="x:y", title="Y")),
    structured={"big": 2**80},
)
ALL_EVENTS: list[Event] = [
    ev.TurnStarted(thread_id="t", model="m"),
    ev.TextDelta(text="é"),
    ev.ReasoningDelta(text="r"),
    ev.MessageAdded(message=Message(role="assistant", parts=(Reasoning(text="r"), Text(text="t"), CALL))),
    ev.MessageAdded(message=Message(role="tool", parts=(RESULT,))),
    ev.MessageAdded(
        message=Message(role="system", parts=(AgentSwitch(agent="mail", model="m"),)),
        number=7,
        record=MessageMetadata(
            at=1.5, agent="mail", usage=Usage(input=1), cost=0.25, calls=(CallMetadata(call_id="c", tool="a.b"),)
        ),
    ),
    ev.BranchChanged(thread_id="t", head=3, messages=2),
    ev.ToolDecided(call=CALL, tool="a.b", decision=Decision(allowed=True, by="policy")),
    ev.ToolStarted(call=CALL, tool="a.b"),
    ev.ToolFinished(call=CALL, tool="a.b", result=RESULT, seconds=0.5),
    ev.ToolProgress(call_id="c", done=1, total=2, note="n"),
    ev.ToolTask(call_id="c", task="3fa21c", tool="box.echo", status="working", message="1 of 2"),
    ev.ServerChanged(server="a", state="failed", detail="why"),
    ev.Notice(level="info", text="n"),
    ev.TurnFinished(stop="end", usage=Usage(input=1), steps=1),
    ev.TurnFailed(kind="network", message="m"),
]


@pytest.mark.parametrize("event", ALL_EVENTS, ids=[f"{n}-{type(e).__name__}" for n, e in enumerate(ALL_EVENTS)])
def test_an_event_is_one_json_line_that_fits_the_schema(event: Event) -> None:
    line = ev.to_json(event)
    assert b"\n" not in line
    decoded = json.loads(line)
    assert list(decoded)[:2] == ["v", "type"]
    jsonschema.validate(decoded, json.loads(Path("docs/events.schema.json").read_text()))
    assert msgspec.json.decode(line, type=Event) == event


def test_every_event_type_is_tested() -> None:
    from typing import get_args

    assert {type(event) for event in ALL_EVENTS} == set(get_args(Event))


def test_result_text_is_the_text_or_the_structure() -> None:
    assert result_text(RESULT) == "t\n[image/png, 2 bytes]\n[Y](x:y)"
    assert result_text(ToolResult(call_id="c", structured={"a": 1})) == '{"a":1}'
    assert (
        result_text(ToolResult(call_id="c", parts=(Audio(media_type="audio/wav", data=b""),))) == "[audio/wav, 0 bytes]"
    )


def test_a_file_in_a_result_is_named_with_its_size() -> None:
    report = File(media_type="application/pdf", data=b"%PDF", name="report.pdf")
    parts = (report, File(media_type="application/pdf", data=b""), Link(uri="x:y"))
    assert result_text(ToolResult(call_id="c", parts=parts)) == (
        "[report.pdf: application/pdf, 4 bytes]\n[file: application/pdf, 0 bytes]\nx:y"
    )


def test_any_structure_of_a_server_becomes_text() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    values = [{"half": "\ud83d"}, {"big": 2**80}, [float("inf")], nested]
    assert [result_text(ToolResult(call_id="c", structured=value)) for value in values] == [
        '{"half": "\ud83d"}',
        '{"big":1208925819614629174706176}',
        "[null]",
        "[a value that JSON cannot express]",
    ]


@pytest.mark.parametrize(
    ("arguments", "decoded"),
    [
        ('{"a": 1}', {"a": 1}),
        ('{"a": [secret]}', {"arguments": '{"a": [secret]}'}),
        ("[1]", {"arguments": "[1]"}),
        ("[" * 100_000, {"arguments": "[" * 100_000}),
    ],
    ids=["valid", "redacted", "no object", "nested"],
)
def test_arguments_that_are_no_object_are_shown_as_text(arguments: str, decoded: dict[str, Any]) -> None:
    assert decode_arguments(ToolCall(id="c", name="a__b", arguments=arguments)) == decoded


def test_open_calls_are_those_without_a_result() -> None:
    other_call = ToolCall(id="d", name="a__b", arguments="{}")
    history = [
        user_message("x"),
        Message(role="assistant", parts=(CALL, other_call)),
        Message(role="tool", parts=(RESULT,)),
    ]
    assert unanswered_calls(history) == (other_call,)


@pytest.mark.parametrize(
    ("dirty", "expected"),
    [
        ("plain", "plain"),
        ("\x1b[2J\x1b]0;title\x07", "␛[2J␛]0;title␇"),
        ("a\x9b31mb", "a\\x9b31mb"),
        ("a\r\nb\rc", "a\nb␍c"),
        ("tab\tnew\nline", "tab\tnew\nline"),
        ("in\u202evisi\u200bble\U000e0041", "invisible"),
        ("👩\u200d👩\u200d👧 e\u0301 שלום", "👩\u200d👩\u200d👧 e\u0301 שלום"),
        ("\ud800", "\ufffd"),
    ],
)
def test_only_text_reaches_the_terminal(dirty: str, expected: str) -> None:
    assert sanitize(dirty) == expected


def test_one_line_is_limited_to_one_line() -> None:
    assert one_line("a\n  b\tc", 80) == "a b c"
    assert one_line("x" * 100, 10) == "x" * 9 + "…"
    assert len(one_line("y" * 10_000_000, 10)) == 10
