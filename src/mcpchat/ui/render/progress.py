"""How a long run stands: a bar at a terminal, with the rate and the time that is left."""

from contextlib import AbstractContextManager, nullcontext
from typing import TextIO

from mcpchat.util.sanitize import sanitize


class ProgressBar:
    """A bar on ``err``, or nothing at all where that is no terminal or ``quiet`` is wanted.

    ``total`` is None where nobody knows it. Lines that are said go above it.
    """

    def __init__(self, err: TextIO, *, total: int | None, quiet: bool, no_color: bool) -> None:
        self._err = err
        self._progress = None
        if quiet or not err.isatty():
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            Task,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text

        class Rate(ProgressColumn):
            def render(self, task: Task) -> Text:
                return Text(f"{task.speed:.1f}/s" if task.speed else "")

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(),
            TimeRemainingColumn(compact=True),
            console=Console(file=err, stderr=True, no_color=no_color or None, highlight=False),
            transient=True,
            refresh_per_second=4,
        )
        self._task = self._progress.add_task("", total=total)

    def showing(self) -> AbstractContextManager[object]:
        return self._progress if self._progress is not None else nullcontext()

    def update(self, completed: int, failed: int) -> None:
        """So many are done, of which so many failed."""
        if self._progress is not None:
            self._progress.update(self._task, completed=completed, description=f"{failed:,} failed" if failed else "")

    def print_line(self, line: str) -> None:
        if self._progress is not None:
            self._progress.console.print(sanitize(line), markup=False)
        else:
            self._err.write(f"{sanitize(line)}\n")
            self._err.flush()
