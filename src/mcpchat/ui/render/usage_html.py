"""The usage of saved threads as an HTML page with charts. It is self-contained, and has no scripts."""

import html
import math
from collections.abc import Sequence
from datetime import date, timedelta

from mcpchat.core.usage_report import Dimension, UsageReport, UsageRow, measure
from mcpchat.ui.render.stats import format_cost
from mcpchat.ui.render.usage_tables import format_row_cost, row_label, size
from mcpchat.util.page_style import html_page
from mcpchat.util.sanitize import sanitize

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 760, 220, 64, 24, 10  # of a chart, in its own units
_MAX_DAYS = 100  # bars; longer spans are shown by month
_MAX_ROWS = 15  # of one table
_TITLES: dict[Dimension, str] = {"model": "By model", "agent": "By agent", "thread": "By thread", "server": "By server"}
Bar = tuple[str, tuple[float, ...], str]  # its label, the sizes of its parts from below, and what it says


def to_html(report: UsageReport, heading: str) -> str:
    """The page; ``heading`` says which requests it is about."""
    total = report.total
    sections = [f'<div class="tiles">{"".join(_tile(name, value) for name, value in _facts(total))}</div>']
    days = _fill_gaps(report.rows["day"])
    if days:
        span = "day" if len(days) <= _MAX_DAYS else "month"
        days = days if span == "day" else _by_month(days)
        if total.cost:
            bars = [(row.key, (row.cost,), f"{row.key}: {format_row_cost(row)}") for row in days]
            sections.append(_chart(f"Cost per {span}", bars, ("cost",), money=True))
        token_bars = [
            (row.key, (row.input - row.cached, row.cached, row.output), f"{row.key}: {_describe_tokens(row)}")
            for row in days
        ]
        sections.append(_chart(f"Tokens per {span}", token_bars, ("input", "cached input", "output"), money=False))
    for dimension, title in _TITLES.items():
        if rows := report.rows[dimension]:
            sections.append(_bar_table(dimension, title, rows))
    return html_page(title="Usage", about=_escape(heading), body="\n".join(sections), style=_STYLE)


def _facts(total: UsageRow) -> list[tuple[str, str]]:
    return [
        ("cost", format_row_cost(total)),
        ("tokens", f"{total.tokens:,}"),
        ("of the input cached", f"{total.cached_share:.0%}"),
        ("requests", f"{total.requests:,}"),
        ("tool calls", f"{total.calls:,}"),
    ]


def _tile(name: str, value: str) -> str:
    return f"<div><b>{_escape(value)}</b><span>{_escape(name)}</span></div>"


def _describe_tokens(row: UsageRow) -> str:
    return f"{row.input:,} in ({row.cached:,} cached), {row.output:,} out"


def _fill_gaps(days: Sequence[UsageRow]) -> list[UsageRow]:
    """A row for each day from the first to the last."""
    if not days:
        return []
    known = {row.key: row for row in days}
    first, last = date.fromisoformat(days[0].key), date.fromisoformat(days[-1].key)
    names = ((first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1))
    return [known.get(name) or UsageRow(key=name) for name in names]


def _by_month(days: Sequence[UsageRow]) -> list[UsageRow]:
    months: dict[str, UsageRow] = {}
    for day in days:
        month = months.setdefault(day.key[:7], UsageRow(key=day.key[:7]))
        month.input += day.input
        month.cached += day.cached
        month.output += day.output
        month.cost += day.cost
        month.requests += day.requests
        month.unpriced += day.unpriced
    return list(months.values())


def _chart(title: str, bars: Sequence[Bar], names: Sequence[str], *, money: bool) -> str:
    """A chart of stacked bars, with a scale and a word on each bar."""
    step = _nice_step(max(sum(parts) for _, parts, _ in bars) / 4)
    top = step * max(1, math.ceil(max(sum(parts) for _, parts, _ in bars) / step - 1e-9))
    plot_height, slot = _HEIGHT - _TOP - _BOTTOM, (_WIDTH - _LEFT) / len(bars)
    shapes = []
    for number in range(round(top / step) + 1):
        y = _TOP + plot_height * (1 - number * step / top)
        label = format_cost(number * step) if money and number else f"{_short(number * step)}"
        shapes.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        shapes.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    every = max(1, math.ceil(len(bars) / 8))
    for index, (label, parts, words) in enumerate(bars):
        x, y = _LEFT + index * slot, float(_TOP + plot_height)
        width = max(1.0, min(slot * 0.8, 36.0))
        rectangles = []
        for part, value in enumerate(parts):
            height = plot_height * value / top
            y -= height
            if value:
                rectangles.append(
                    f'<rect class="part{part}" x="{x + (slot - width) / 2:.1f}" y="{y:.1f}" width="{width:.1f}"'
                    f' height="{height:.1f}"/>'
                )
        hover = f'<rect class="hover" x="{x:.1f}" y="{_TOP}" width="{slot:.1f}" height="{plot_height}"/>'
        shapes.append(f"<g>{''.join(rectangles)}{hover}<title>{_escape(words)}</title></g>")
        if index % every == 0:
            word = _escape(label[len("2026-") :] if len(label) == len("2026-11-30") else label)
            shapes.append(f'<text x="{x + slot / 2:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{word}</text>')
    legend = "".join(f'<span class="key part{part}"></span>{name} ' for part, name in enumerate(names))
    legend = f'<p class="legend">{legend}</p>' if len(names) > 1 else ""
    return (
        f"<section><h2>{title}</h2>{legend}"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">{"".join(shapes)}</svg></section>'
    )


def _nice_step(least: float) -> float:
    """The next of 1, 2 and 5 times a power of ten."""
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _short(number: float) -> str:
    """A number of tokens in few characters: 0, 950, 20k, 1.5M."""
    for size_, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size_:
            return f"{number / size_:g}{unit}"
    return f"{number:g}"


def _bar_table(dimension: Dimension, title: str, rows: Sequence[UsageRow]) -> str:
    is_server = dimension == "server"
    by = "tokens" if is_server else measure(rows)
    largest = max(size(row, by) for row in rows) or 1
    headings = ("calls", "seconds", "tokens of results") if is_server else ("requests", "tokens", "cached", "cost")
    head = "".join(f'<th class="number">{heading}</th>' for heading in headings)
    lines = [f'<tr><th>{dimension}</th><th class="bar">{by}</th>{head}</tr>']
    for row in rows[:_MAX_ROWS]:
        cells = (
            (f"{row.calls:,}", f"{row.seconds:,.1f}", f"{row.input:,}")
            if is_server
            else (f"{row.requests:,}", f"{row.tokens:,}", f"{row.cached_share:.0%}", format_row_cost(row))
        )
        numbers = "".join(f'<td class="number">{_escape(cell)}</td>' for cell in cells)
        width = 100 * size(row, by) / largest
        bar = (
            f'<td class="bar"><div style="width:max({width:.1f}%,2px)"></div></td>'
            if width
            else '<td class="bar"></td>'
        )
        lines.append(f"<tr><td>{_escape(row_label(dimension, row))}</td>{bar}{numbers}</tr>")
    more = f'<p class="legend">and {len(rows) - _MAX_ROWS:,} more</p>' if len(rows) > _MAX_ROWS else ""
    return f"<section><h2>{title}</h2><table>{''.join(lines)}</table>{more}</section>"


def _escape(text: str) -> str:
    return html.escape(sanitize(text))


_STYLE = """
:root { --part0: #2f6fde; --part1: #9cc0f7; --part2: #e08a2b; }
@media (prefers-color-scheme: dark) { :root { --part0: #5b93f2; --part1: #2c4a7c; --part2: #e6a04f; } }
body { max-width: 56rem; margin: 0 auto; overflow-wrap: normal; }
header p, .legend { color: var(--faint); font-size: .85rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem; }
.tiles div, section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
.tiles div { padding: .7rem 1rem; }
.tiles b { display: block; font-size: 1.35rem; } .tiles span { color: var(--faint); font-size: .85rem; }
section { margin: 1rem 0; padding: .75rem 1.1rem 1rem; overflow-x: auto; } section h2 { margin: 0 0 .4rem; }
svg { width: 100%; min-width: 32rem; height: auto; display: block; } svg text { fill: var(--faint); font-size: 11px; }
.grid { stroke: var(--line); } .hover { fill: transparent; } g:hover .hover { fill: var(--line); opacity: .35; }
.part0 { fill: var(--part0); background: var(--part0); } .part1 { fill: var(--part1); background: var(--part1); }
.part2 { fill: var(--part2); background: var(--part2); }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 3px; margin: 0 .35em 0 .9em; }
.key:first-child { margin-left: 0; } .legend { margin: 0 0 .5rem; }
table { width: 100%; border-collapse: collapse; font-size: .9rem; }
td, th { padding: .3rem .6rem .3rem 0; text-align: left; border-top: 1px solid var(--line); }
th { border: 0; color: var(--faint); font-weight: normal; }
td:first-child { overflow-wrap: anywhere; min-width: 7rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; padding: .3rem 0 .3rem .8rem; }
.bar { width: 30%; } .bar div { background: var(--part0); height: .7rem; border-radius: 4px; }
"""
