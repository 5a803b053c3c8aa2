"""The answer on stdout without a terminal: what is written, and when."""

import asyncio
import io

import pytest

from mcpchat.core import events
from mcpchat.core.events import MessageAdded, TextDelta
from mcpchat.core.messages import Message, Text, ToolCall
from mcpchat.ui.render import plain
from mcpchat.ui.render.plain import TextRenderer

CALL = ToolCall(id="1", name="calculator__add", arguments="{}")


def make_message(text: str, *calls: ToolCall) -> MessageAdded:
    return MessageAdded(message=Message(role="assistant", parts=(Text(text=text), *calls)))


class Run:
    """A renderer, and what it wrote."""

    def __init__(self, *, stream: bool = True, may_call: bool = True, tty: bool = False) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        if tty:
            self.out.isatty = lambda: True  # type: ignore[method-assign]
        self._render = TextRenderer(self.out, self.err, stream=stream, may_call=may_call)

    def feed(self, *parts: str | events.Event) -> tuple[str, str]:
        """Pass text deltas and events on. Returns all that was written so far, to both streams."""
        for part in parts:
            self._render(TextDelta(text=part) if isinstance(part, str) else part)
        return self.out.getvalue(), self.err.getvalue()


@pytest.fixture
def short_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "HOLD_SECONDS", 0.01)


def test_without_tools_each_part_is_written_at_once() -> None:
    run = Run(may_call=False)
    assert run.feed("Hello ") == ("Hello ", "")
    assert run.feed("world") == ("Hello world", "")
    assert run.feed(make_message("Hello world")) == ("Hello world\n", "")


async def test_text_before_a_call_is_not_the_answer() -> None:
    run = Run()
    assert run.feed("I look.", make_message("I look.", CALL)) == ("", "  I look.\n")
    assert run.feed("It is 2.\n", make_message("It is 2.\n")) == ("It is 2.\n", "  I look.\n")


async def test_an_answer_is_held_back_a_moment_at_most(short_hold: None) -> None:
    run = Run()
    assert run.feed("It ", "is ") == ("", "")
    await asyncio.sleep(0.05)
    assert run.feed() == ("It is ", "")
    assert run.feed("2.") == ("It is 2.", "")
    assert run.feed(make_message("It is 2.")) == ("It is 2.\n", "")


async def test_long_text_before_a_call_is_followed_by_a_blank_line(short_hold: None) -> None:
    run = Run()
    run.feed("I look.")
    await asyncio.sleep(0.05)
    assert run.feed(make_message("I look.", CALL)) == ("I look.\n\n", "")
    assert run.feed("2", make_message("2")) == ("I look.\n\n2\n", "")


async def test_only_the_answer_is_written_once_it_is_complete(short_hold: None) -> None:
    run = Run(stream=False, may_call=False)
    run.feed("I look.")
    await asyncio.sleep(0.05)
    assert run.feed(make_message("I look.", CALL), "2") == ("", "  I look.\n")
    assert run.feed(make_message("2")) == ("2\n", "  I look.\n")


def test_a_call_that_was_written_as_text_ends_the_text() -> None:
    run = Run(may_call=False)
    run.feed('I look. {"name": "add"}')
    assert run.feed(make_message("I look.", CALL))[0] == 'I look. {"name": "add"}\n\n'


def test_an_answer_without_parts_is_written_whole() -> None:
    assert Run(may_call=False).feed(make_message("Hello")) == ("Hello\n", "")


def test_an_escape_sequence_in_parts_does_not_reach_a_terminal() -> None:
    run = Run(may_call=False, tty=True)
    assert run.feed("a\x1b[3", "1mb", make_message("a\x1b[31mb")) == ("a␛[31mb\n", "")


def test_a_file_gets_the_text_unchanged() -> None:
    assert Run(may_call=False).feed("a\x1b[3", "1mb", make_message("a\x1b[31mb")) == ("a\x1b[31mb\n", "")
