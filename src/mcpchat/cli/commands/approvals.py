"""mcpchat approvals: what runs without a question because somebody answered "always"."""

import sys
from typing import Annotated

import typer

from mcpchat.cli.options import ConfigOption, DebugOption, JsonOutput, bad_choice, make_setup, write_json
from mcpchat.core.patterns import matches
from mcpchat.errors import UsageError
from mcpchat.util.sanitize import one_line

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context, output: JsonOutput = "text", config: ConfigOption = None, debug: DebugOption = False
) -> int:
    """List the tools that you said "always" to when you were asked.

    Each holds for one server and one definition of the tool; a rule for many is written into the config, under
    [approvals].

    \b
      mcpchat approvals
      mcpchat approvals revoke files.write
      mcpchat approvals revoke --all
    """
    if ctx.invoked_subcommand is not None:
        return 0
    return show(output, config, debug)


@app.command("list")
def show(output: JsonOutput = "text", config: ConfigOption = None, debug: DebugOption = False) -> int:
    """List them, as mcpchat approvals does."""
    from mcpchat.permissions.factory import approval_file, identities

    if output not in {"text", "json"}:
        bad_choice("--output", output, ("text", "json"))
    setup = make_setup(config)
    kept, current = approval_file(setup).all(), set(identities(setup).values())
    if output == "json":
        write_json([{"tool": one.tool, "since": one.since, "in_use": one.identity in current} for one in kept])
        return 0
    for one in kept:
        old = "" if one.identity in current else "  (of a server that is configured otherwise now)"
        sys.stdout.write(f"{one_line(one.tool, 200)}  since {one.date}{old}\n")
    if not kept:
        sys.stderr.write('no tool was answered with "always"\n')
    return 0


@app.command()
def revoke(
    tools: Annotated[list[str] | None, typer.Argument(metavar="[SERVER.TOOL]...", help="Tools, or globs.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> int:
    """Have these tools ask again."""
    from mcpchat.permissions.factory import approval_file

    globs = ["*"] if everything else tools or []
    if not globs:
        raise UsageError("name a tool, or --all", hint="mcpchat approvals lists what can be revoked")
    store = approval_file(make_setup(config))
    kept = store.all()
    gone = {one for one in kept if any(matches(glob, one.tool) for glob in globs)}
    idle = [glob for glob in globs if not any(matches(glob, one.tool) for one in kept)]
    if idle and not everything:
        raise UsageError(f'no "always" is kept for {idle[0]}', hint="mcpchat approvals lists them")
    store.revoke(gone)
    for one in sorted(gone, key=lambda one: one.tool):
        sys.stderr.write(f"{one_line(one.tool, 200)} asks again\n")
    return 0


NAMES = tuple(command.callback.__name__ for command in app.registered_commands if command.callback)
