"""mcpchat calls: which tools ran, who allowed them, and what came of it."""

import csv
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from mcpchat.cli.lazy_group import CommandGroup
from mcpchat.cli.options import DeleteOption, choice, config_file, with_options
from mcpchat.cli.output import format_json, print_table, require_confirmation, write_json
from mcpchat.cli.runtime import build_context
from mcpchat.core.call_record import CallRecord
from mcpchat.core.patterns import glob_matches
from mcpchat.threads.call_log import CallLog
from mcpchat.ui.render import tables
from mcpchat.util.dates import parse_time
from mcpchat.util.sanitize import sanitize

app = typer.Typer(cls=CommandGroup, add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True, kw_only=True)
class CallFilter:
    """Which calls to list."""

    server: str | None = None
    tools: tuple[str, ...] = ()
    thread: str | None = None
    since: float | None = None
    denied: bool = False
    failed: bool = False

    def matches(self, record: CallRecord) -> bool:
        return (
            (self.server is None or record.server == self.server)
            and (not self.tools or any(glob_matches(glob, record.tool) for glob in self.tools))
            and (self.thread is None or record.thread.startswith(self.thread))
            and (self.since is None or record.at >= self.since)
            and (not self.denied or not record.allowed)
            and (not self.failed or (record.allowed and bool(record.error)))
        )


def call_filter(
    server: Annotated[str | None, typer.Option("--server", metavar="NAME", help="Only of this server.")] = None,
    tool: Annotated[
        list[str] | None, typer.Option("--tool", metavar="GLOB", help="Only of this tool (SERVER.TOOL). Repeatable.")
    ] = None,
    thread: Annotated[str | None, typer.Option("--thread", metavar="ID", help="Only of this thread.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="Only since then: a date, yesterday, 7d, 2h.")
    ] = None,
    denied: Annotated[bool, typer.Option("--denied", help="Only what did not run.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Only what ran and failed.")] = False,
) -> CallFilter:
    """Which calls to list. Raises UsageError for a time that cannot be read."""
    return CallFilter(
        server=server,
        tools=tuple(tool or ()),
        thread=thread,
        since=parse_time(since, option="--since") if since else None,
        denied=denied,
        failed=failed,
    )


@app.command("list", hidden=True)
@app.callback(invoke_without_command=True)
@with_options(calls=call_filter, config=config_file)
def list_calls(
    calls: CallFilter,
    config: Path | None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, max=1_000_000, help="The latest N.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with each call as it ends, until Ctrl-C.")] = False,
    output: Annotated[str, choice("--output", "-o", of=("text", "json", "csv"))] = "text",
) -> int:
    """List the latest tool calls of the chat, ask, call and batch: when, what, who allowed it, what came of it.

    Arguments are without secrets. Runs with --no-save, and save = false under [threads], leave nothing here.

    \b
      mcpchat calls --since 1d
      mcpchat calls --server mail --denied
      mcpchat calls --failed -o json | jq '.[].error'
      mcpchat calls --follow
    """
    log = CallLog(build_context(config, quiet=True).paths.state)
    listed, added = log.read_and_follow()
    records = deque(filter(calls.matches, listed), maxlen=limit)
    if output == "json" and not follow:
        write_json(msgspec.to_builtins(list(records)))
    elif output == "json":
        _write_each(iter(records), follow_with=filter(calls.matches, added))
    elif output == "csv":
        _write_csv(records, filter(calls.matches, added) if follow else iter(()))
    else:
        if records:
            print_table(tables.call_table(list(records)))
        elif not follow:
            sys.stderr.write("no calls\n")
        for record in filter(calls.matches, added) if follow else ():
            sys.stdout.write(f"{sanitize(tables.format_call(record))}\n")
            sys.stdout.flush()
    return 0


def _write_each(records: Iterator[CallRecord], follow_with: Iterator[CallRecord]) -> None:
    for part in (records, follow_with):
        for record in part:
            sys.stdout.write(format_json(msgspec.to_builtins(record)) + "\n")
            sys.stdout.flush()


def _write_csv(records: "deque[CallRecord]", added: Iterator[CallRecord]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(CallRecord.__struct_fields__)
    for part in (iter(records), added):
        for record in part:
            fields = msgspec.structs.astuple(record)
            writer.writerow([sanitize(field) if isinstance(field, str) else field for field in fields])
            sys.stdout.flush()


@app.command()
@with_options(config=config_file)
def clear(config: Path | None, yes: DeleteOption = False) -> int:
    """Forget all calls. Threads keep theirs."""
    log = CallLog(build_context(config, quiet=True).paths.state)
    require_confirmation("forget all calls?", yes=yes)
    log.delete()
    return 0
