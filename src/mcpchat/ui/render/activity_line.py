"""A line on stderr that shows what a turn is doing, for output that goes elsewhere."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TextIO, cast

from mcpchat.core.events import Event
from mcpchat.ui.render.activity import FRAME_SECONDS, Activity
from mcpchat.ui.render.plain import TextRenderer
from mcpchat.util.sanitize import one_line

_LINE_DELAY = 1.0  # seconds until the line appears: quick answers need none


class _ClearingStream:
    """A stream that calls ``clear`` before each text."""

    def __init__(self, stream: TextIO, clear: Callable[[], None]) -> None:
        self._stream = stream
        self._clear = clear

    def write(self, text: str) -> int:
        self._clear()
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class ActivityLine:
    """Passes events on, and shows the activity of a turn on the last line of a terminal: ``err``.

    For output that goes elsewhere, such as a file, while a person waits. ``stream`` is for all who write to ``err``
    themselves: it removes the line first. It also makes room for the answer, which may go to the same terminal through
    another program.
    """

    def __init__(self, emit: TextRenderer, err: TextIO) -> None:
        self._emit = emit
        emit.answer.before_write = self._clear
        self._err = err
        self.stream = cast(TextIO, _ClearingStream(err, self._clear))
        self._activity = Activity(getattr(err, "encoding", None) or "ascii")
        self._is_shown = self._is_paused = False
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, event: Event) -> None:
        self._clear()
        self._activity.update(event)
        self._emit(event)
        if str(self._activity) and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LINE_DELAY, self._draw)

    def close(self) -> None:
        """Remove the line for good."""
        self._is_paused = True
        self._clear()
        if self._timer is not None:
            self._timer.cancel()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Leave the terminal to a question while inside."""
        self._clear()
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused = False

    def _draw(self) -> None:
        self._timer = None
        if not (text := str(self._activity)):
            return
        if not (self._is_paused or self._emit.answer.is_open):
            columns = shutil.get_terminal_size().columns
            self._err.write(f"\r\x1b[K\x1b[2m{one_line(text, max(1, columns - 1))}\x1b[m")
            self._err.flush()
            self._is_shown = True
        self._timer = asyncio.get_running_loop().call_later(FRAME_SECONDS, self._draw)

    def _clear(self) -> None:
        if self._is_shown:
            self._err.write("\r\x1b[K")
            self._err.flush()
            self._is_shown = False
