"""A model's reasoning, dimmed: its lines as they come, or only that there is some."""

import time
from collections.abc import Callable

from rich.segment import Segment
from rich.text import Text

from mcpchat.ui.terminal.screen import Screen, divided, rows_of
from mcpchat.util.sanitize import clean, unfinished

_STYLE = "dim italic"
_EVERY = 1 / 12  # seconds


class Thoughts:
    """Takes reasoning in pieces. Folded, one line says how much there is; it can be folded and unfolded meanwhile."""

    def __init__(self, screen: Screen, changed: Callable[[], None], *, fold: bool) -> None:
        self._screen = screen
        self._changed = changed
        self.fold = fold
        self._whole: list[str] = []
        self._new = ""  # that is not cleaned yet
        self._line = ""  # that is not printed yet
        self._began = self._due = 0.0
        self.rows: list[list[Segment]] = []
        self.latest = ""  # all of the latest, for who wants to read it

    def feed(self, text: str) -> None:
        if not self._whole:
            self._began, self._due = time.monotonic(), 0.0
        self._whole.append(text)
        self._new += text
        self.catch_up()

    @property
    def behind(self) -> bool:
        """Whether something is to be drawn: what came, or how long it takes already."""
        return bool(self._new) or (self.fold and bool(self._whole))

    def catch_up(self) -> None:
        """Draw what is to be drawn, if it is time."""
        now = time.monotonic()
        if self.behind and now >= self._due:
            self._due = now + _EVERY
            self._draw(now)

    def finish(self) -> None:
        """It is complete: the answer begins, or a call."""
        if not self._whole:
            return
        self._draw(time.monotonic(), final=True)
        if self.fold:
            self._screen.commit(Text(f"  {self._told()}", style=_STYLE), aside=True)
        elif self._line.strip():
            self._commit(self._line)
        self.latest, self._whole = clean("".join(self._whole)).strip(), []
        self._new = self._line = ""
        self.rows = []
        self._changed()

    def toggle(self) -> None:
        """Fold it, or unfold: what was printed stays."""
        self.fold = not self.fold
        if self._whole:
            self._draw(time.monotonic())

    def _told(self) -> str:
        return f"thought for {time.monotonic() - self._began:.0f} s"

    def _draw(self, now: float, *, final: bool = False) -> None:
        held = 0 if final else unfinished(self._new)
        at = len(self._new) - held
        self._line += clean(self._new[:at])
        self._new = self._new[at:]
        if self.fold:
            self.rows = rows_of(self._screen.console, Text(f"  thinking for {now - self._began:.0f} s", style=_STYLE))
        else:
            done, newline, self._line = self._line.rpartition("\n")
            if newline and done.strip():
                self._commit(done.strip("\n"))
            self._line = self._outgrown(self._line)
            self.rows = rows_of(self._screen.console, Text(f"  {self._line}", style=_STYLE)) if self._line else []
        self._changed()

    def _outgrown(self, line: str) -> str:
        """What is left of a line without end once its whole rows are printed."""
        console = self._screen.console
        if len(line) < console.width * self._screen.room // 2:
            return line
        done, rest = divided(Text(line), console, max(1, console.width - 2), len(line))
        if done:
            self._commit("\n".join(row.plain.rstrip() for row in done))
        return rest.plain

    def _commit(self, text: str) -> None:
        lines = [f"  {line}" for line in text.split("\n")]
        self._screen.commit(Text("\n".join(lines), style=_STYLE), aside=True)
