"""The progress of a long run: a bar with the rate and the remaining time."""

from contextlib import AbstractContextManager, nullcontext
from typing import TextIO

from mcpchat.core.events import Event, ToolProgress
from mcpchat.ui.render.tool_lines import format_progress
from mcpchat.util.sanitize import sanitize


class CallProgress:
    """The progress of one tool call, as a line on ``err`` that is written again; nothing without a terminal."""

    def __init__(self, err: TextIO) -> None:
        self._err = err
        self._is_shown = False
        self._is_terminal = err.isatty()

    def __call__(self, event: Event) -> None:
        if isinstance(event, ToolProgress) and self._is_terminal:
            self._err.write(f"\r\x1b[K{format_progress(event).strip()}")
            self._err.flush()
            self._is_shown = True

    def clear(self) -> None:
        """Erase the line."""
        if self._is_shown:
            self._err.write("\r\x1b[K")
            self._err.flush()
        self._is_shown = False


class ProgressBar:
    """A progress bar on ``err``; nothing if ``err`` is not a terminal, or if ``quiet`` is set.

    ``total`` is None if it is unknown. Printed lines appear above the bar.
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

    def update(self, completed: int, failed: int, *, note: str = "") -> None:
        """Set the number of completed items, how many of them failed, and what else there is to say."""
        if self._progress is not None:
            description = ", ".join(filter(None, (f"{failed:,} failed" if failed else "", note)))
            self._progress.update(self._task, completed=completed, description=description)

    def print_line(self, line: str) -> None:
        if self._progress is not None:
            self._progress.console.print(sanitize(line), markup=False)
        else:
            self._err.write(f"{sanitize(line)}\n")
            self._err.flush()
