"""The usage of saved threads as a table with bars for the terminal."""

from collections.abc import Callable, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from mcpchat.core.usage_report import Dimension, UsageRow, measure
from mcpchat.ui.render.stats import format_cost
from mcpchat.ui.terminal.glyphs import select_glyphs
from mcpchat.util.sanitize import one_line

_BAR_WIDTH, _MIN_LABEL, _PADDING = 20, 16, 2  # cells
_UNNAMED = {"agent": "(no agent)", "model": "(unknown)", "thread": "(untitled)", "server": "(unknown)", "day": ""}


def usage_table(
    dimension: Dimension, rows: Sequence[UsageRow], total: UsageRow, encoding: str | None, *, width: int | None = None
) -> Table:
    """One line for each row, with a bar that compares it with the largest; then the sums.

    What does not fit into ``width`` cells is left out: first the bars, then the share and the tokens.
    """
    is_server = dimension == "server"
    shown = [*rows] if is_server else [*rows, total]
    columns = {name: [cell(row) for row in shown] for name, cell in (_SERVER_CELLS if is_server else _CELLS).items()}
    labels = [row_label(dimension, row) for row in rows]
    least = min(max(map(len, labels), default=0), _MIN_LABEL)
    dropped = iter(() if is_server else ("cached", "in", "out"))
    has_bar = width is None or least + _natural_width(columns) + _BAR_WIDTH <= width
    while width is not None and least + _natural_width(columns) > width and (name := next(dropped, "")):
        del columns[name]
    table = Table(box=None, pad_edge=False, padding=(0, _PADDING, 0, 0), header_style="bold")
    table.add_column(dimension, overflow="fold")
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    by = "tokens" if is_server else measure(rows)
    if has_bar:
        table.add_column(by, no_wrap=True)
    largest = max((size(row, by) for row in rows), default=0.0)
    for index, row in enumerate(shown):
        label = Text(labels[index]) if index < len(rows) else Text("all", style="bold")
        bar = _bar(size(row, by), largest, encoding) if index < len(rows) else ""
        table.add_row(label, *(cells[index] for cells in columns.values()), *([bar] if has_bar else []))
    return table


def _natural_width(columns: Mapping[str, Sequence[str]]) -> int:
    return sum(_PADDING + max(map(len, (heading, *cells))) for heading, cells in columns.items())


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


_CELLS: Mapping[str, Callable[[UsageRow], str]] = {
    "requests": lambda row: f"{row.requests:,}",
    "in": lambda row: f"{row.input:,}",
    "cached": lambda row: f"{row.cached_share:.0%}" if row.cached else "",
    "out": lambda row: f"{row.output:,}",
    "cost": format_row_cost,
}
_SERVER_CELLS: Mapping[str, Callable[[UsageRow], str]] = {
    "calls": lambda row: f"{row.calls:,}",
    "seconds": lambda row: f"{row.seconds:,.1f}",
    "tokens of results": lambda row: f"{row.input:,}",
}


def _bar(value: float, largest: float, encoding: str | None) -> Text:
    width = round(value / largest * _BAR_WIDTH) if largest else 0
    return Text(select_glyphs(encoding).bar * max(width, 1 if value else 0), style="cyan")
