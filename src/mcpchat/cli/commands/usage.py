"""mcpchat usage: tokens and money, by day, model, agent, server or thread."""

import csv
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from mcpchat.app.usage import read_usage
from mcpchat.cli.options import choice, config_file, with_options
from mcpchat.cli.output import format_json, is_terminal, print_table
from mcpchat.cli.runtime import build_context, run_async
from mcpchat.core.events import VERSION
from mcpchat.core.usage_report import DIMENSIONS, Dimension, UsageReport, UsageRow
from mcpchat.errors import UsageError
from mcpchat.ui.render import usage_html
from mcpchat.ui.render.usage_tables import usage_table
from mcpchat.util.dates import parse_time
from mcpchat.util.output_files import write_file
from mcpchat.util.sanitize import escape_unsafe_json, sanitize, sanitize_message

app = typer.Typer(add_completion=False, rich_markup_mode=None)
_COLUMNS = UsageRow.__struct_fields__


@app.command()
@with_options(config=config_file)
def usage(
    config: Path | None,
    by: Annotated[str, choice("--by", of=DIMENSIONS, metavar="WHAT")] = "day",
    since: Annotated[str, typer.Option("--since", metavar="WHEN", help="From then on: a date, 7d, all.")] = "30d",
    until: Annotated[str | None, typer.Option("--until", metavar="WHEN", help="Up to then.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="The first N rows; of days the last.")
    ] = None,
    output: Annotated[str, choice("--output", "-o", of=("text", "json", "csv"))] = "text",
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with charts; - is stdout.")
    ] = None,
) -> int:
    """Show what the requests of saved threads took: tokens, the cached share, money.

    Costs are in US dollars; those that were not looked up at the time are by today's prices. A + marks requests without
    a known price. What tools returned is counted by server. Batches, runs with --no-save and what was
    imported are not in it.

    \b
      mcpchat usage
      mcpchat usage --by model --since 2026-11-01
      mcpchat usage --by server -o json
      mcpchat usage --html usage.html --since all
    """
    if html is not None and (limit is not None or output != "text"):
        raise UsageError("--html cannot be used with --limit or --output", hint="leave them out: the page has all rows")
    begin = 0.0 if since == "all" else parse_time(since, option="--since")
    end = parse_time(until, option="--until", end=True) if until is not None else time.time()
    dimension: Dimension = next(name for name in DIMENSIONS if name == by)
    context = build_context(config)

    async def work() -> int:
        report = await read_usage(context, begin, end, warn=_warn)
        if html is not None:
            page = usage_html.to_html(report, _describe_span(begin, end))
            if html == Path("-"):
                sys.stdout.write(page)
                return 0
            write_file(html, [page])
            sys.stderr.write(f"{html}: {report.total.requests:,} requests\n")
        else:
            rows = report.rows[dimension]
            _print_rows(dimension, rows[-limit:] if limit and dimension == "day" else rows[:limit], report, output)
        return 0

    return run_async(work())


def _describe_span(begin: float, end: float) -> str:
    first, last = (time.strftime("%Y-%m-%d", time.localtime(moment)) for moment in (begin, end))
    return f"Requests from {first} to {last}" if begin else f"All requests up to {last}"


def _warn(text: str) -> None:
    sys.stderr.write(f"warning: {sanitize_message(text)}\n")


def _print_rows(dimension: Dimension, rows: list[UsageRow], report: UsageReport, output: str) -> None:
    if output == "json":
        value = {"v": VERSION, "by": dimension, "rows": rows, "total": report.total}
        sys.stdout.write(escape_unsafe_json(format_json(msgspec.to_builtins(value), indent=2)) + "\n")
    elif output == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow([dimension, *_COLUMNS[1:]])
        for row in rows:
            writer.writerow(
                [sanitize(item) if isinstance(item, str) else item for item in msgspec.structs.astuple(row)]
            )
        sys.stdout.flush()
    elif rows:
        width = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None
        print_table(usage_table(dimension, rows, report.total, sys.stdout.encoding, width=width))
    else:
        sys.stderr.write("no requests\n")
