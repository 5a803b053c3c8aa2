"""The progress of one tool call without a model."""

import io

from mcpchat.core.events import Notice, ToolProgress
from mcpchat.ui.render.progress import CallProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_that_is_erased_at_the_end() -> None:
    err = Terminal()
    progress = CallProgress(err)
    progress(ToolProgress(call_id="c", done=1, total=3, note="one\n"))
    progress(Notice(level="info", text="not shown here"))
    progress(ToolProgress(call_id="c", done=2.5))
    progress.clear()
    progress.clear()
    assert err.getvalue() == "\r\x1b[K· 1 of 3 one\r\x1b[K· 2.5\r\x1b[K"


def test_without_a_terminal_nothing_is_written() -> None:
    progress = CallProgress(err := io.StringIO())
    progress(ToolProgress(call_id="c", done=1))
    progress.clear()
    assert err.getvalue() == ""
