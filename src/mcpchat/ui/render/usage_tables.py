"""The usage of saved threads as a table with bars for the terminal."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from mcpchat.core.usage_report import Dimension, UsageRow, measure
from mcpchat.ui.render.stats import format_cost
from mcpchat.ui.terminal.glyphs import select_glyphs
from mcpchat.util.sanitize import one_line

_BAR_WIDTH = 20  # cells
_UNNAMED = {"agent": "(no agent)", "model": "(unknown)", "thread": "(untitled)", "server": "(unknown)", "day": ""}


def usage_table(dimension: Dimension, rows: Sequence[UsageRow], total: UsageRow, encoding: str | None) -> Table:
    """One line for each row, with a bar that compares it with the largest; then the sums."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    is_server = dimension == "server"
    table.add_column(dimension, overflow="fold")
    headings = ("calls", "seconds", "tokens of results") if is_server else ("requests", "in", "cached", "out", "cost")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    by = "tokens" if is_server else measure(rows)
    table.add_column(by, no_wrap=True)
    largest = max((size(row, by) for row in rows), default=0.0)
    for row in rows:
        table.add_row(
            Text(row_label(dimension, row)), *_cells(row, is_server=is_server), _bar(size(row, by), largest, encoding)
        )
    if not is_server:
        table.add_row(Text("all", style="bold"), *_cells(total, is_server=False), "")
    return table


def row_label(dimension: Dimension, row: UsageRow) -> str:
    """What a row is called; a thread by its title and the beginning of its id."""
    if dimension == "thread":
        return f"{one_line(row.label, 60) or _UNNAMED['thread']}  {row.key[:8]}"
    return one_line(row.key, 60) or _UNNAMED[dimension]


def format_row_cost(row: UsageRow) -> str:
    """The cost; with a + if the price of some requests is unknown."""
    if row.unpriced == row.requests:
        return format_cost(None)
    return format_cost(row.cost) + "+" * bool(row.unpriced)


def size(row: UsageRow, by: str) -> float:
    return row.cost if by == "cost" else float(row.tokens)


def _cells(row: UsageRow, *, is_server: bool) -> list[str]:
    if is_server:
        return [f"{row.calls:,}", f"{row.seconds:,.1f}", f"{row.input:,}"]
    cached = f"{row.cached_share:.0%}" if row.cached else ""
    return [f"{row.requests:,}", f"{row.input:,}", cached, f"{row.output:,}", format_row_cost(row)]


def _bar(value: float, largest: float, encoding: str | None) -> Text:
    width = round(value / largest * _BAR_WIDTH) if largest else 0
    return Text(select_glyphs(encoding).bar * max(width, 1 if value else 0), style="cyan")
