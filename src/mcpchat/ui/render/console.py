"""Events drawn on a terminal: the answer as it comes, a line for each tool call, what moves at the bottom."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import assert_never

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from mcpchat.core import events
from mcpchat.core.events import Event
from mcpchat.core.messages import Image
from mcpchat.ui.markdown.stream import MarkdownStream
from mcpchat.ui.render import images, stats, tool_lines
from mcpchat.ui.render.reasoning import Thoughts
from mcpchat.ui.terminal.screen import Hanging, Screen, rows_of
from mcpchat.util.sanitize import clean, one_line

_FRAMES, _PLAIN_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "-\\|/"
_FRAME = 0.12  # seconds
_WAITING = "waiting for the model"


def spinner(console: Console) -> str:
    """The frame that is due now."""
    frames = _FRAMES if console.encoding.lower().startswith("utf") else _PLAIN_FRAMES
    return frames[int(time.monotonic() / _FRAME) % len(frames)]


class ConsoleRenderer:
    """Draws on a screen: what is final above, the open block, reasoning and running calls below.

    ``fold`` shows of reasoning only that there is some; ``environ`` tells whether the terminal shows pictures.
    """

    def __init__(
        self,
        screen: Screen,
        *,
        quiet: bool = False,
        stats: bool = False,
        fold: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._screen = screen
        self._quiet = quiet
        self._stats = stats
        self._pictures = images.protocol(environ or {})
        self._markdown = MarkdownStream(screen, self._show)
        self.thoughts = Thoughts(screen, self._show, fold=fold)
        self._running: dict[str, tuple[events.ToolStarted, str]] = {}
        self._waiting: list[Event] | None = None
        self._began, self._what = 0.0, ""
        self._ticking = False
        unicode = screen.console.encoding.lower().startswith("utf")
        self._done, self._failed = ("✓", "✗") if unicode else ("ok", "x")

    def __call__(self, event: Event) -> None:
        if self._waiting is not None:
            self._waiting.append(event)
        else:
            self._draw(event)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """While inside, a question has the terminal: what happens meanwhile is drawn afterwards."""
        async with self._screen.alone():
            self._waiting = []
            try:
                yield
            finally:
                waiting, self._waiting = self._waiting, None
                for event in waiting:
                    self._draw(event)
        self._show()

    def doing(self) -> str:
        """What is being done, and for how long already; empty between two turns."""
        if not self._began:
            return ""
        what = self._what
        if self._running:
            what = "1 tool runs" if len(self._running) == 1 else f"{len(self._running)} tools run"
        return f"{spinner(self._screen.console)} {what} · {time.monotonic() - self._began:.0f} s"

    def _draw(self, event: Event) -> None:
        match event:
            case events.TurnStarted():
                self._began, self._what = time.monotonic(), _WAITING
            case events.TextDelta() | events.ReasoningDelta():
                self._feed(event)
            case events.MessageAdded(message=message) if message.role == "assistant":
                self._finish()
                if message.cut and message.cut not in {"length", "cancelled"}:  # which are told by how the turn ends
                    self._note(f"the answer ends early: {message.cut}", "yellow")
            case events.ToolStarted() | events.ToolProgress():
                self._run(event)
            case events.ToolFinished():
                self._settle_call(event)
            case events.ServerChanged(state="failed" | "login"):
                self._note(tool_lines.down(event), "yellow")
            case events.Notice() | events.TurnFinished() | events.TurnFailed():
                self._remark(event)
            case events.ServerChanged():
                self._show()  # the line below says how the servers are
            case events.MessageAdded() | events.BranchChanged() | events.ToolDecided():
                pass
            case _:
                assert_never(event)

    def _feed(self, event: events.TextDelta | events.ReasoningDelta) -> None:
        if isinstance(event, events.TextDelta):
            self._what = "answering"
            self.thoughts.finish()
            self._markdown.feed(event.text)
        else:
            self._what = "thinking"
            self._markdown.finish()  # what was said before stands before
            if not self._quiet:
                self.thoughts.feed(event.text)
        self._tick()

    def _finish(self) -> None:
        self.thoughts.finish()
        self._markdown.finish()

    def _run(self, event: events.ToolStarted | events.ToolProgress) -> None:
        if isinstance(event, events.ToolStarted):
            self._running[event.call.id] = event, ""
            self._show()
            self._tick()
        elif event.call_id in self._running:
            self._running[event.call_id] = self._running[event.call_id][0], _progress(event)

    def _settle_call(self, event: events.ToolFinished) -> None:
        self._running.pop(event.call.id, None)
        self._show()
        if self._quiet:
            return
        self._what = _WAITING
        mark, style = (self._failed, "red") if event.result.is_error else (self._done, "dim")
        line = tool_lines.finished(event, self._screen.console.width - 4 - (len(mark) - 1))
        self._note(f"  {mark} {line}", style)
        for part in event.result.parts:
            if isinstance(part, Image):
                self._picture(part)

    def _picture(self, image: Image) -> None:
        console = self._screen.console
        shown = images.shown(image, self._pictures, columns=console.width - 4, rows=max(1, console.height // 2))
        if shown:
            self._screen.write(shown)
        else:
            self._note(f"    {images.described(image)}", "dim")

    def _remark(self, event: events.Notice | events.TurnFinished | events.TurnFailed) -> None:
        if not isinstance(event, events.Notice):
            self._finish()
            self._began = 0.0
            if isinstance(event, events.TurnFinished) and self._stats and event.usage.total:
                self._note(f"  {stats.turn(event)}", "dim")
        elif event.level == "warning" or not self._quiet:
            self._note(event.text, "yellow" if event.level == "warning" else "dim")

    def _note(self, text: str, style: str) -> None:
        self._screen.commit(Hanging(Text(clean(text), style=style)), aside=True)

    # What moves.

    def _show(self) -> None:
        if self._waiting is None:
            self._screen.show([*self.thoughts.rows, *self._markdown.rows, *self._calls()])

    def _calls(self) -> Sequence[Sequence[Segment]]:
        if self._quiet or not self._running:
            return []
        console, frame = self._screen.console, spinner(self._screen.console)
        lines = []
        for started, progress in self._running.values():
            line = tool_lines.started(started, console.width - 5 - len(progress))
            lines.append(Text(f"  {frame} {line}{progress}", style="dim", no_wrap=True, overflow="ellipsis"))
        return [row for line in lines for row in rows_of(console, line)]

    def _tick(self) -> None:
        """Turn the spinner as long as a call runs, and draw what came when nothing more comes."""
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(_FRAME, self._tock)

    def _tock(self) -> None:
        self._ticking = False
        if self._waiting is None:
            self.thoughts.catch_up()
            self._markdown.catch_up()
        if self._running:
            self._show()
        if self._running or self._markdown.behind or self.thoughts.behind:
            self._tick()


def _progress(event: events.ToolProgress) -> str:
    amount = f"{event.done:g} of {event.total:g}" if event.total else f"{event.done:g}"
    return f"  · {amount} {one_line(event.note, 40)}".rstrip()
