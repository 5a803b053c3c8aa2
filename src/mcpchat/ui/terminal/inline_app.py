"""A prompt_toolkit application at the bottom of a terminal whose other output goes above it."""

import asyncio
import io
import os
import sys
from collections.abc import Callable
from typing import Any

from prompt_toolkit.application import Application
from prompt_toolkit.data_structures import Size
from prompt_toolkit.output import Output, create_output
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.styles import Style

from mcpchat.ui.terminal.screen import CLEAR_BELOW, RESIZE_PAUSE

STYLE = Style.from_dict(
    {
        "prompt": "bold",
        "queued": "ansibrightblack italic",
        "status": "noreverse",
        "completion-menu": "bg:default",
        "completion-menu.completion": "bg:default fg:default",
        "completion-menu.completion.current": "reverse",
        "completion-menu.meta.completion": "bg:default fg:ansibrightblack",
        "completion-menu.meta.completion.current": "bg:default fg:default",
        "scrollbar.background": "bg:default",
        "scrollbar.button": "bg:ansibrightblack",
        "auto-suggestion": "ansibrightblack",
    }
)


class AboveWriter(io.TextIOBase):
    """A file whose text goes above the line being typed."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute there
        return sys.stdout.encoding

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._write(text)
        return len(text)


class InlineApp(Application[None]):
    """An application at the bottom of the screen that redraws correctly after the size of the window changed.

    While the size changes, nothing is drawn (see RESIZE_PAUSE). ``rewraps_on_resize``: the terminal rewraps its lines
    when it becomes narrower.
    """

    def __init__(self, *, rewraps_on_resize: bool, **options: Any) -> None:
        super().__init__(**options)
        self._rewraps = rewraps_on_resize
        self._size: Size | None = None  # of the window, as it was last seen
        self._drawn_width = 0  # columns of the window when it was last drawn
        self._resize_timer: asyncio.TimerHandle | None = None
        self._size_known = asyncio.Event()  # cleared while the size changes
        self._size_known.set()

    async def wait_for_size(self) -> None:
        """Wait until the size of the window does not change any more."""
        self._look_at_size()
        await self._size_known.wait()

    def erase(self) -> None:
        """Erase what is drawn. A terminal that has become narrower has rewrapped it, so it takes more rows now."""
        screen, width = self.renderer.last_rendered_screen, max(1, self.output.get_size().columns)
        if screen is not None and width < self._drawn_width and self._rewraps:
            cursor = self.renderer._cursor_pos
            extra_rows = cursor.x // width
            for y in range(cursor.y):
                cells = ((x + char.width, char.char) for x, char in screen.data_buffer.get(y, {}).items())
                used_width = max((end for end, text in cells if text.strip()), default=0)
                extra_rows += max(0, -(-used_width // width) - 1)
            if extra_rows:
                self.output.cursor_up(extra_rows)
        self.renderer.erase(leave_alternate_screen=False)

    def _look_at_size(self) -> None:
        """Notice a change before its signal arrives."""
        if self._size not in (None, self.output.get_size()):
            self._on_resize()

    def _on_resize(self) -> None:
        self._size = self.output.get_size()
        self._size_known.clear()
        if self._resize_timer is not None:
            self._resize_timer.cancel()
        self._resize_timer = asyncio.get_running_loop().call_later(RESIZE_PAUSE, self._draw_after_resize)

    def _draw_after_resize(self) -> None:
        self._size_known.set()
        self._look_at_size()
        if self._size_known.is_set() and self._is_running and not self._running_in_terminal:
            self.erase()
            super()._on_resize()

    def _redraw(self, render_as_done: bool = False) -> None:
        if self._running_in_terminal:
            return
        self._look_at_size()
        if render_as_done:
            self.erase()
        elif not self._size_known.is_set():
            return
        self._size = self.output.get_size()
        self._drawn_width = self._size.columns
        super()._redraw(render_as_done)


class _TerminalOutput(Vt100_Output):
    """Erases the screen below the cursor in a way that keeps it out of every terminal's scrollback."""

    def erase_down(self) -> None:
        self.write_raw(CLEAR_BELOW)


def terminal_output() -> Output:
    """The output of an application that shares the terminal with the text above it."""
    if sys.platform == "win32":
        return create_output(sys.stdout)
    terminal = _TerminalOutput.from_pty(sys.stdout, term=os.environ.get("TERM"))
    terminal.enable_cpr = False  # a slow terminal's cursor position report would mix with typed text
    return terminal
