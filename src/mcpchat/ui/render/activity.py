"""What a turn is doing now, and for how long: a spinner with words."""

import time

from mcpchat.core import events
from mcpchat.core.events import Event
from mcpchat.ui.terminal.glyphs import select_glyphs

FRAME_SECONDS = 0.12
_WAITING = "waiting for the model"


def spinner_frame(encoding: str) -> str:
    """The spinner's current frame, in characters that the encoding has."""
    frames = select_glyphs(encoding).spinner
    return frames[int(time.monotonic() / FRAME_SECONDS) % len(frames)]


class Activity:
    """Follows the events of a turn. ``encoding`` is that of the terminal."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._started_at = 0.0
        self._label = ""
        self._running: set[str] = set()  # call ids
        self._tasks: set[str] = set()  # ids of the calls that their servers run as tasks

    @property
    def seconds(self) -> float:
        """How long the turn has taken; 0 between turns."""
        return time.monotonic() - self._started_at if self._started_at else 0.0

    def update(self, event: Event) -> None:
        """Take an event of the turn."""
        match event:
            case events.TurnStarted():
                self._started_at, self._label = time.monotonic(), _WAITING
            case events.TextDelta():
                self._label = "answering"
            case events.ReasoningDelta():
                self._label = "thinking"
            case events.ToolStarted(call=call):
                self._running.add(call.id)
            case events.ToolTask(call_id=call_id):
                self._tasks.add(call_id)
            case events.ToolFinished(call=call):
                self._running.discard(call.id)
                self._tasks.discard(call.id)
                self._label = _WAITING
            case events.TurnFinished() | events.TurnFailed():
                self._started_at = 0.0
                self._running.clear()
                self._tasks.clear()
            case _:
                pass

    def __str__(self) -> str:
        """The spinner, what happens, and the seconds; empty between turns."""
        if not self._started_at:
            return ""
        count = len(self._running)
        label = ("1 tool runs" if count == 1 else f"{count} tools run") if count else self._label
        if count and self._tasks >= self._running:
            label += " as a task" if count == 1 else " as tasks"
        return f"{spinner_frame(self._encoding)} {label} · {self.seconds:.0f} s"
