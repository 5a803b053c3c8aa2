"""What lets an application of prompt_toolkit live at the bottom of a terminal that is written to above it."""

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
    """An application at the bottom of the screen that is drawn well after its window has become narrower too.

    ``reflows``: the terminal breaks what is drawn anew.
    """

    rewraps_on_resize = True
    _last_width = 0  # of the window when it was last drawn

    def erase_after_resize(self) -> None:
        """Erase what was drawn in a wider window: the terminal has broken its lines, and there are more of them now."""
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
    """One that erases what is below so that no terminal keeps it."""

    def erase_down(self) -> None:
        self.write_raw(CLEAR_BELOW)


def terminal_output() -> Output:
    """The terminal, as an application that shares it with what is above it is to write to it."""
    if sys.platform == "win32":
        return create_output(sys.stdout)
    terminal = _TerminalOutput.from_pty(sys.stdout, term=os.environ.get("TERM"))
    terminal.enable_cpr = False  # asked where its cursor is, a slow terminal would answer amid what is typed
    return terminal
