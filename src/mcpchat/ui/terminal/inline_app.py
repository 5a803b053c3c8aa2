"""A prompt_toolkit application at the bottom of a terminal whose other output goes above it."""

import io
import os
import sys
from collections.abc import Callable

from prompt_toolkit.application import Application
from prompt_toolkit.output import Output, create_output
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.styles import Style

from mcpchat.ui.terminal.screen import CLEAR_BELOW

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
    """An application at the bottom of the screen that redraws correctly after the window became narrower.

    ``rewraps_on_resize``: the terminal rewraps its lines when it becomes narrower.
    """

    rewraps_on_resize = True
    _last_width = 0  # columns of the window when it was last drawn

    def erase_after_resize(self) -> None:
        """Erase what was drawn in a wider window. The terminal has rewrapped it, so it takes more rows now."""
        screen, width = self.renderer.last_rendered_screen, max(1, self.output.get_size().columns)
        narrower, self._last_width = width < self._last_width, width
        if screen is None or not narrower or not self.rewraps_on_resize or self._running_in_terminal:
            return
        cursor = self.renderer._cursor_pos
        extra_rows = cursor.x // width
        for y in range(cursor.y):
            cells = ((x + char.width, char.char) for x, char in screen.data_buffer.get(y, {}).items())
            used_width = max((end for end, text in cells if text.strip()), default=0)
            extra_rows += max(0, -(-used_width // width) - 1)
        if extra_rows:
            self.output.cursor_up(extra_rows)
        self.renderer.erase(leave_alternate_screen=False)

    def _on_resize(self) -> None:
        self.erase_after_resize()
        super()._on_resize()


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
