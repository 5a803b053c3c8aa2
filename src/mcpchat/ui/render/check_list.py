"""A list of checks, each with its state and what to do."""

from collections.abc import Sequence
from typing import Protocol, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mcpchat.util.sanitize import sanitize

_STYLES = {"ok": "green", "warning": "yellow", "wrong": "bold red"}
_INDENT = 24  # columns before the detail
_WIDE = 100_000  # columns of what is no terminal


class ShownCheck(Protocol):
    """A check, as ``doctor`` makes them."""

    @property
    def subject(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def detail(self) -> str: ...
    @property
    def fix(self) -> str: ...


class CheckList:
    """Prints checks as they come, under the headings of their subjects."""

    def __init__(self, stream: TextIO) -> None:
        width = None if stream.isatty() else _WIDE
        self._console = Console(file=stream, highlight=False, width=width)
        self._subject = ""

    def print(self, check: ShownCheck) -> None:
        if check.subject != self._subject:
            self._subject = check.subject
            self._console.print(Text(sanitize(check.subject), style="bold"))
        detail = Text(sanitize(check.detail))
        if check.fix:
            detail.append(f"\n→ {sanitize(check.fix)}", style="bold")
        if self._console.width == _WIDE:  # a file: every line as it is
            indent = "\n" + " " * _INDENT
            self._console.print(f"  {check.status:<9}{check.name:<13}".ljust(_INDENT), end="", markup=False)
            self._console.print(detail.plain.replace("\n", indent).rstrip(), markup=False)
            return
        grid = Table.grid()
        for width in (2, 9, 13):
            grid.add_column(width=width)
        grid.add_column(overflow="fold")
        grid.add_row("", Text(check.status, style=_STYLES[check.status]), Text(check.name), detail)
        self._console.print(grid)

    def print_summary(self, checks: Sequence[ShownCheck]) -> None:
        counts = {status: sum(check.status == status for check in checks) for status in ("wrong", "warning")}
        text = ", ".join(
            f"{count} {status}{'s' * (status == 'warning' and count != 1)}" for status, count in counts.items() if count
        )
        self._console.print(Text(text or "all is well", style="bold"))
