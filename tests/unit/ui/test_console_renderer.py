"""What the console renderer draws, and when."""

import io

import pyte
import pytest
from rich.console import Console

from mcpchat.core.events import MessageAdded, TextDelta, ToolFinished, ToolStarted, TurnFinished, TurnStarted
from mcpchat.core.messages import Message, Text, ToolCall, ToolResult, Usage
from mcpchat.ui.render import console as console_module
from mcpchat.ui.render.console import ConsoleRenderer
from mcpchat.ui.terminal.screen import LiveScreen

CALL = ToolCall(id="1", name="box__echo", arguments='{"text": "hi"}')
STARTED = ToolStarted(call=CALL, tool="box.echo")
FINISHED = ToolFinished(
    call=CALL, tool="box.echo", result=ToolResult(call_id="1", parts=(Text(text="hi"),)), seconds=0.5
)


def make_renderer(*, show_summary: bool = False) -> tuple[ConsoleRenderer, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=False)
    return ConsoleRenderer(LiveScreen(console), show_summary=show_summary), out


async def test_a_call_that_ends_during_a_question_is_shown_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "_RESULT_SECONDS", 0.01)
    render, out = make_renderer()
    render(STARTED)
    async with render.exclusive():
        render(FINISHED)
        assert "✓ box.echo" not in out.getvalue()
    assert "✓ box.echo" in out.getvalue()


async def test_a_question_waits_a_moment_for_results() -> None:
    render, out = make_renderer()
    render(STARTED)
    render(FINISHED)
    async with render.exclusive():
        assert "✓ box.echo" in out.getvalue()


async def test_an_answer_is_apart_from_the_tool_lines_above_it() -> None:
    render, out = make_renderer(show_summary=True)
    message = Message(role="assistant", parts=(Text(text="It is 2."),))
    render(TurnStarted(thread_id="", model="m"))
    render(STARTED)
    render(FINISHED)
    render(TextDelta(text="It is 2."))
    render(MessageAdded(message=message))
    usage = Usage(input=1000, output=204)
    render(TurnFinished(stop="end", usage=usage, steps=2, cost=0.0125, seconds=4.21))
    screen = pyte.Screen(80, 10)
    pyte.Stream(screen).feed(out.getvalue().replace("\n", "\r\n"))
    assert [line.rstrip() for line in screen.display[:5]] == [
        '  ✓ box.echo  text="hi"  hi  0.5 s',
        "",
        "It is 2.",
        "  1 tool · 4.2 s · 1,204 tokens · $0.0125",
        "",
    ]
