"""The live lines of a command without an input line, while its window is resized."""

import io

from rich.console import Console
from rich.segment import Segment

from mcpchat.ui.terminal.screen import RESIZE_PAUSE, LiveScreen


def test_nothing_is_drawn_while_the_window_is_resized() -> None:
    now, out = 0.0, io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, height=24)
    screen = LiveScreen(console, clock=lambda: now)
    screen.show([[Segment("one")]])
    shown = out.getvalue()
    for now, width in enumerate((40, 60, 30)):
        console.width = width
        screen.write("final\n")
        screen.show([[Segment(f"live {now}")]])
        now += RESIZE_PAUSE / 2
        screen.show([[Segment("later")]])
    assert out.getvalue() == shown
    now += RESIZE_PAUSE
    screen.show([[Segment("two")]])
    assert out.getvalue().count("final") == 3
    assert "live" not in out.getvalue()
    assert out.getvalue().endswith("two\n")


def test_the_last_text_is_written_in_any_case() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, height=24)
    screen = LiveScreen(console, clock=lambda: 0.0)
    screen.show([[Segment("one")]])
    console.width = 40
    screen.write("final\n")
    assert "final" not in out.getvalue()
    screen.show([])
    assert out.getvalue().endswith("final\n")
