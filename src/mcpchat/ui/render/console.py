"""Draws events on a terminal: the streamed answer, a line for each tool call, live lines at the bottom."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import assert_never

from rich.segment import Segment
from rich.text import Text

from mcpchat.core import events
from mcpchat.core.events import Event
from mcpchat.core.messages import Image
from mcpchat.ui.markdown.stream import MarkdownStream
from mcpchat.ui.render import images, stats, tool_lines
from mcpchat.ui.render.activity import FRAME_SECONDS, Activity, spinner_frame
from mcpchat.ui.render.reasoning import ReasoningView
from mcpchat.ui.render.retries import RetryCounter
from mcpchat.ui.terminal.glyphs import select_glyphs
from mcpchat.ui.terminal.screen import HangingIndent, Screen, render_rows
from mcpchat.util.sanitize import sanitize

_RESULT_SECONDS = 1.0  # how long after its start a question waits for the result of a call


class ConsoleRenderer:
    """Draws on a screen: final text above; the open block, reasoning and running calls below.

    ``fold`` shows only the duration of reasoning, ``show_activity`` a live line while nothing else moves, and
    ``show_summary`` a line at the end of each turn.
    ``environ`` tells whether the terminal can show images.
    """

    def __init__(
        self,
        screen: Screen,
        *,
        quiet: bool = False,
        show_stats: bool = False,
        fold: bool = False,
        show_activity: bool = False,
        show_summary: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._screen = screen
        self._quiet = quiet
        self._show_stats = show_stats
        self._image_protocol = images.detect_protocol(environ or {})
        self._markdown = MarkdownStream(screen, self._redraw_live)
        self.reasoning = ReasoningView(screen, self._redraw_live, fold=fold)
        self._running_calls: dict[str, tuple[events.ToolStarted, str]] = {}
        self._calls_done = asyncio.Event()
        self._calls_done.set()
        self._last_start = 0.0  # of the youngest call, by the event loop's clock
        self._retries, self._retry_text = RetryCounter(), ""
        self._show_summary = show_summary
        self._call_count = 0  # of this turn
        self._follows_note = False  # whether a note, such as a tool line, was printed last
        self._deferred: list[Event] | None = None
        self._activity = Activity(screen.console.encoding)
        self._show_activity = show_activity and not quiet
        self._frame_scheduled = False
        self._glyphs = select_glyphs(screen.console.encoding)

    def __call__(self, event: Event) -> None:
        if self._deferred is not None:
            self._deferred.append(event)
        else:
            self._draw(event)

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Give the terminal to a question while inside; events in the meantime are drawn afterwards."""
        # A call that was just allowed gets its result under its own question, if it is quick.
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._last_start + _RESULT_SECONDS):
                await self._calls_done.wait()
        async with self._screen.exclusive():
            self._deferred = []
            try:
                yield
            finally:
                deferred, self._deferred = self._deferred, None
                for event in deferred:
                    self._draw(event)
        self._redraw_live()

    def activity(self) -> str:
        """The current activity and its duration; empty between turns."""
        return str(self._activity)

    def _draw(self, event: Event) -> None:
        self._activity.update(event)
        count = self._retries.update(event)
        if isinstance(event, events.Notice) and count:
            self._retry_text = f"{event.text} (attempt {count + 1})"
            self._redraw_live()
            return
        self._retry_text = ""
        self._render(event)

    def _render(self, event: Event) -> None:
        match event:
            case events.TurnStarted():
                self._call_count, self._follows_note = 0, False
                self._schedule_frame()
            case events.TextDelta() | events.ReasoningDelta():
                self._feed(event)
            case events.MessageAdded(message=message) if message.role == "assistant":
                self._finish()
                if message.cut and message.cut not in {"length", "cancelled"}:  # the end of the turn reports these
                    self._print_note(f"the answer ends early: {message.cut}", "yellow")
            case events.ToolStarted() | events.ToolProgress():
                self._update_call(event)
            case events.ToolFinished():
                self._finish_call(event)
            case events.ServerChanged(state="failed" | "login"):
                self._print_note(tool_lines.format_server_down(event), "yellow")
            case events.Notice() | events.TurnFinished() | events.TurnFailed():
                self._show_notice(event)
            case events.ServerChanged():
                self._redraw_live()  # the status line shows the servers
            case events.MessageAdded() | events.BranchChanged() | events.ToolDecided() | events.ToolTask():
                pass
            case _:
                assert_never(event)

    def _feed(self, event: events.TextDelta | events.ReasoningDelta) -> None:
        if isinstance(event, events.TextDelta):
            self.reasoning.finish()
            if self._follows_note and event.text.strip():
                self._markdown.separate()
                self._follows_note = False
            self._markdown.feed(event.text)
        else:
            self._markdown.finish()  # print the text before the reasoning
            if not self._quiet:
                self.reasoning.feed(event.text)
                self._follows_note = True
        self._schedule_frame()

    def _finish(self) -> None:
        self.reasoning.finish()
        self._markdown.finish()

    def _update_call(self, event: events.ToolStarted | events.ToolProgress) -> None:
        if isinstance(event, events.ToolStarted):
            self._running_calls[event.call.id] = event, ""
            self._calls_done.clear()
            self._last_start = asyncio.get_running_loop().time()
            self._redraw_live()
            self._schedule_frame()
        elif event.call_id in self._running_calls:
            self._running_calls[event.call_id] = (
                self._running_calls[event.call_id][0],
                tool_lines.format_progress(event),
            )

    def _finish_call(self, event: events.ToolFinished) -> None:
        self._running_calls.pop(event.call.id, None)
        self._call_count += 1
        if not self._running_calls:
            self._calls_done.set()
        self._redraw_live()
        if self._quiet:
            return
        mark, style = (self._glyphs.failed, "red") if event.result.is_error else (self._glyphs.done, "dim")
        line = tool_lines.format_finished(event, self._screen.console.width - 4 - (len(mark) - 1))
        self._print_note(f"  {mark} {line}", style)
        for part in event.result.parts:
            if isinstance(part, Image):
                self._show_image(part)

    def _show_image(self, image: Image) -> None:
        console = self._screen.console
        escapes = images.render_image(
            image, self._image_protocol, columns=console.width - 4, rows=max(1, console.height // 2)
        )
        if escapes:
            self._screen.write(escapes)
        else:
            self._print_note(f"    {images.describe_image(image)}", "dim")

    def _show_notice(self, event: events.Notice | events.TurnFinished | events.TurnFailed) -> None:
        if not isinstance(event, events.Notice):
            self._finish()
            self._redraw_live()  # without the activity
            if isinstance(event, events.TurnFinished) and event.usage.total:
                if self._show_stats:
                    for line in stats.format_turn(event):
                        self._print_note(f"  {line}", "dim")
                elif self._show_summary:
                    self._print_note(f"  {stats.format_summary(event, self._call_count)}", "dim")
        elif event.level == "warning" or not self._quiet:
            self._print_note(event.text, "yellow" if event.level == "warning" else "dim")

    def _print_note(self, text: str, style: str) -> None:
        self._follows_note = True
        self._screen.print_final(HangingIndent(Text(sanitize(text), style=style)), to_stderr=True)

    # What moves.

    def _redraw_live(self) -> None:
        if self._deferred is None:
            rows = [*self.reasoning.rows, *self._markdown.rows, *self._retry_rows(), *self._call_rows()]
            self._screen.show(rows or self._activity_rows())

    def _retry_rows(self) -> Sequence[Sequence[Segment]]:
        """One line that counts the requests that failed, until one is answered."""
        if not self._retry_text:
            return []
        return render_rows(self._screen.console, HangingIndent(Text(sanitize(self._retry_text), style="yellow")))

    def _activity_rows(self) -> Sequence[Sequence[Segment]]:
        text = self.activity() if self._show_activity else ""
        return render_rows(self._screen.console, Text(text, style="dim", no_wrap=True)) if text else []

    def _call_rows(self) -> Sequence[Sequence[Segment]]:
        if self._quiet or not self._running_calls:
            return []
        console, frame = self._screen.console, spinner_frame(self._screen.console.encoding)
        lines = []
        for event, progress in self._running_calls.values():
            line = tool_lines.format_running(event, console.width - 5 - len(progress))
            lines.append(Text(f"  {frame} {line}{progress}", style="dim", no_wrap=True, overflow="ellipsis"))
        return [row for line in lines for row in render_rows(console, line)]

    def _schedule_frame(self) -> None:
        """Turn the spinner as long as a call runs, and draw what came when nothing more comes."""
        if not self._frame_scheduled:
            self._frame_scheduled = True
            asyncio.get_running_loop().call_later(FRAME_SECONDS, self._on_frame)

    def _on_frame(self) -> None:
        self._frame_scheduled = False
        if self._deferred is None:
            self.reasoning.flush_if_due()
            self._markdown.flush_if_due()
        is_moving = bool(self._running_calls or (self._show_activity and self.activity()))
        if is_moving:
            self._redraw_live()
        if is_moving or self._markdown.has_pending or self.reasoning.has_pending:
            self._schedule_frame()
