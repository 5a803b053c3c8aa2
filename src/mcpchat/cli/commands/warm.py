"""mcpchat warm: a process that waits for the next command, so that it is there at once."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from mcpchat.cli.lazy_group import CommandGroup
from mcpchat.cli.options import TextOrJson, config_file, with_options
from mcpchat.cli.output import write_json
from mcpchat.cli.runtime import build_context, current_run
from mcpchat.config.run import RunContext
from mcpchat.core.accounts import format_duration
from mcpchat.errors import UsageError
from mcpchat.util.dates import parse_duration
from mcpchat.warm import control

app = typer.Typer(cls=CommandGroup, add_completion=False, rich_markup_mode=None)


@app.command("status", hidden=True)
@app.callback(invoke_without_command=True)
@with_options(config=config_file)
def show_status(config: Path | None, output: TextOrJson = "text") -> int:
    """Show whether a warm process waits for the next command.

    The process has loaded everything. For each command it makes a copy of itself (a fork), which runs the command as
    usual. It holds no secrets and opens no connection. MCPCHAT_NO_WARM=1 turns it off for one command. Only on Linux.

    \b
      mcpchat warm on
      mcpchat warm on 2h
      mcpchat warm off
    """
    context = build_context(config, quiet=True)
    wanted, status = current_run().warm, control.read_status(context.environ)
    if output == "json":
        write_json({
            "supported": control.is_supported(context.environ), "idle": wanted or None,
            "process": msgspec.to_builtins(status),
        })  # fmt: skip
        return 0
    lines = [f"{'on' if wanted else 'off'}{_describe_source(context)}"]
    if status is not None:
        since, idle = format_duration(time.time() - status.since), format_duration(status.idle)
        count = f"{status.commands} command{'s' * (status.commands != 1)}"
        lines.append(f"process {status.pid} waits: for {since}, {count} so far, ends after {idle} idle")
    elif (pid := control.find_process(context.environ)) is not None:
        lines.append(f"process {pid} does not answer; mcpchat warm off ends it")
    elif wanted:
        lines.append("no process waits: the next command starts one")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


@app.command()
@with_options(config=config_file)
def on(
    config: Path | None,
    idle: Annotated[
        str | None,
        typer.Argument(metavar="[TIME]", help="Until it was idle for so long, as in 15m.", show_default=False),
    ] = None,
) -> int:
    """Keep a warm process from now on; it is started again when a command finds none."""
    context = build_context(config, quiet=True)
    if not control.is_supported(context.environ):
        raise UsageError("there is no warm process here", hint="it needs Linux and a folder for its socket")
    seconds = parse_duration(idle) if idle else context.config.start.warm_seconds or control.DEFAULT_IDLE
    if seconds is None:
        raise UsageError(f"{idle}: expected a duration such as 15m, 90s or 2h")
    control.remember_choice(context.paths.state, seconds)
    control.stop(context.environ)
    control.start(context.environ, seconds)
    control.wait_for_start(context.environ)
    sys.stderr.write(f"on: commands start warm, until none came for {format_duration(seconds)}\n")
    return 0


@app.command()
@with_options(config=config_file)
def off(config: Path | None) -> int:
    """End the warm process, and start none. Commands that run in it go on."""
    context = build_context(config, quiet=True)
    control.remember_choice(context.paths.state, 0.0 if context.config.start.warm else None)
    current_run().warm = 0.0
    stopped = control.stop(os.environ)
    sys.stderr.write(f"off: commands start cold{'' if stopped else '; no process was waiting'}\n")
    return 0


def _describe_source(context: RunContext) -> str:
    """Who says so."""
    if not control.is_supported(context.environ):
        return " (only on Linux)"
    if os.environ.get(control.NO_WARM):
        return f", but {control.NO_WARM} is set: this command starts cold"
    if control.has_choice(context.paths.state):
        return " (mcpchat warm)"
    return f" ([start] warm in {context.paths.config})" if context.config.start.warm else ""
