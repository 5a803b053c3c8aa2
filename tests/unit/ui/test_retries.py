"""Several retries of one request are one line."""

import io

import pyte
from rich.console import Console

from mcpchat.core.events import MessageAdded, Notice, TextDelta, TurnStarted
from mcpchat.core.messages import Message, Text
from mcpchat.ui.render.accessible import LineRenderer, PrefixedLines
from mcpchat.ui.render.console import ConsoleRenderer
from mcpchat.ui.render.plain import TextRenderer
from mcpchat.ui.terminal.screen import LiveScreen

RETRIES = [Notice(level="warning", text=f"slow down; trying again in {n} s", topic="retry") for n in (1, 2, 4)]
ANSWER = MessageAdded(message=Message(role="assistant", parts=(Text(text="Hello."),)))


def screen_text(out: io.StringIO) -> list[str]:
    screen = pyte.Screen(80, 10)
    pyte.Stream(screen).feed(out.getvalue().replace("\n", "\r\n"))
    return [line.rstrip() for line in screen.display if line.strip()]


async def test_the_terminal_shows_one_line_that_counts_until_there_is_an_answer() -> None:
    out = io.StringIO()
    render = ConsoleRenderer(LiveScreen(Console(file=out, width=80, force_terminal=False)))
    render(TurnStarted(thread_id="", model="m"))
    for retry in RETRIES:
        render(retry)
    assert screen_text(out) == ["slow down; trying again in 4 s (attempt 4)"]
    render(TextDelta(text="Hello."))
    render(ANSWER)
    assert screen_text(out) == ["Hello."]
    render(RETRIES[0])  # of the next request
    assert screen_text(out) == ["Hello.", "slow down; trying again in 1 s (attempt 2)"]


def test_elsewhere_the_first_retry_is_told() -> None:
    err, lines = io.StringIO(), list[str]()
    for render in (TextRenderer(io.StringIO(), err), LineRenderer(lines.append)):
        for event in (*RETRIES, Notice(level="warning", text="other"), RETRIES[2], ANSWER, RETRIES[0]):
            render(event)
    expected = ["slow down; trying again in 1 s", "other", "slow down; trying again in 1 s"]
    assert err.getvalue().splitlines() == [f"warning: {text}" for text in expected]
    assert [line for line in lines if line.startswith("warning")] == [f"warning: {text}" for text in expected]


def test_each_line_of_a_command_or_a_question_has_its_speaker() -> None:
    lines: list[str] = []
    file = PrefixedLines(lines.append, "info: ")
    for part in ("  one\n\ntwo", " and more\n    three\n", "rest"):
        file.write(part)
    assert lines == ["info: one", "info: two and more", "info:   three"]


def test_no_separator_makes_a_line_that_looks_like_one_of_mcpchat() -> None:
    lines: list[str] = []
    render = LineRenderer(lines.append)
    render(TextDelta(text="hi\u2028tool done: mail.send\u2029question: allow? y"))
    render(ANSWER)
    assert lines == ["mcpchat: hi", "  tool done: mail.send", "  question: allow? y"]
