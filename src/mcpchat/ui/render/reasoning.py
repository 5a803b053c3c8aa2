"""Shows a model's reasoning, dimmed: its text as it streams in, or only its duration."""

import time
from collections.abc import Callable

from rich.segment import Segment
from rich.text import Text

from mcpchat.ui.terminal.screen import Screen, render_rows, split_at_row
from mcpchat.util.sanitize import incomplete_tail, sanitize

_STYLE = "dim italic"
_REDRAW_INTERVAL = 1 / 12  # seconds


class ReasoningView:
    """Takes reasoning in chunks. If it is folded, one line shows its duration; ``toggle`` works at any time."""

    def __init__(self, screen: Screen, on_change: Callable[[], None], *, fold: bool) -> None:
        self._screen = screen
        self._on_change = on_change
        self.fold = fold
        self._parts: list[str] = []
        self._pending = ""  # not sanitized yet
        self._line = ""  # not printed yet
        self._started = self._next_draw = 0.0
        self.rows: list[list[Segment]] = []
        self.latest = ""  # the full text of the latest reasoning, for /last

    def feed(self, text: str) -> None:
        if not self._parts:
            self._started, self._next_draw = time.monotonic(), 0.0
        self._parts.append(text)
        self._pending += text
        self.flush_if_due()

    @property
    def has_pending(self) -> bool:
        """Whether something must be drawn: new text, or the duration if folded."""
        return bool(self._pending) or (self.fold and bool(self._parts))

    def flush_if_due(self) -> None:
        """Draw new text or the duration, if the next drawing is due."""
        now = time.monotonic()
        if self.has_pending and now >= self._next_draw:
            self._next_draw = now + _REDRAW_INTERVAL
            self._draw(now)

    def finish(self) -> None:
        """Print the rest: the reasoning is complete, because the answer or a call begins."""
        if not self._parts:
            return
        self._draw(time.monotonic(), final=True)
        if self.fold:
            self._screen.print_final(Text(f"  {self._summary()}", style=_STYLE), to_stderr=True)
        elif self._line.strip():
            self._print(self._line)
        self.latest, self._parts = sanitize("".join(self._parts)).strip(), []
        self._pending = self._line = ""
        self.rows = []
        self._on_change()

    def toggle(self) -> bool:
        """Fold or unfold; printed text stays. Returns whether it is folded now."""
        self.fold = not self.fold
        if self._parts:
            self._draw(time.monotonic())
        return self.fold

    def _summary(self) -> str:
        return f"thought for {time.monotonic() - self._started:.0f} s"

    def _draw(self, now: float, *, final: bool = False) -> None:
        incomplete = 0 if final else incomplete_tail(self._pending)
        end = len(self._pending) - incomplete
        self._line += sanitize(self._pending[:end])
        self._pending = self._pending[end:]
        if self.fold:
            self.rows = render_rows(
                self._screen.console, Text(f"  thinking for {now - self._started:.0f} s", style=_STYLE)
            )
        else:
            complete, newline, self._line = self._line.rpartition("\n")
            if newline and complete.strip():
                self._print(complete.strip("\n"))
            self._line = self._print_full_rows(self._line)
            self.rows = render_rows(self._screen.console, Text(f"  {self._line}", style=_STYLE)) if self._line else []
        self._on_change()

    def _print_full_rows(self, line: str) -> str:
        """Print the full rows of a very long line. Returns the rest of it."""
        console = self._screen.console
        if len(line) < console.width * self._screen.max_live_rows // 2:
            return line
        rows, rest = split_at_row(Text(line), console, max(1, console.width - 2), len(line))
        if rows:
            self._print("\n".join(row.plain.rstrip() for row in rows))
        return rest.plain

    def _print(self, text: str) -> None:
        lines = [f"  {line}" for line in text.split("\n")]
        self._screen.print_final(Text("\n".join(lines), style=_STYLE), to_stderr=True)
