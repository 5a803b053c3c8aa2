"""mcpchat approvals: tools that are always allowed."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mcpchat.cli.lazy_group import CommandGroup
from mcpchat.cli.options import TextOrJson, config_file, with_options
from mcpchat.cli.output import write_json
from mcpchat.cli.runtime import build_context
from mcpchat.core.patterns import glob_matches
from mcpchat.errors import UsageError
from mcpchat.permissions.factory import ServerFingerprints, approval_store
from mcpchat.util.sanitize import one_line

app = typer.Typer(cls=CommandGroup, add_completion=False, rich_markup_mode=None)


@app.command("list", hidden=True)
@app.callback(invoke_without_command=True)
@with_options(config=config_file)
def list_approvals(config: Path | None, output: TextOrJson = "text") -> int:
    """List the tools that you answered "always" for.

    Each approval is for one server and one definition of the tool. A rule for many tools belongs in the config, under
    [approvals].

    \b
      mcpchat approvals
      mcpchat approvals revoke files.write
      mcpchat approvals revoke --all
    """
    context = build_context(config)
    approvals, current = approval_store(context).read_all(), set(ServerFingerprints(context).values())
    if output == "json":
        write_json([{"tool": a.tool, "since": a.since, "in_use": a.identity in current} for a in approvals])
        return 0
    for approval in approvals:
        old = "" if approval.identity in current else "  (of a server whose configuration changed)"
        sys.stdout.write(f"{one_line(approval.tool, 200)}  since {approval.date}{old}\n")
    if not approvals:
        sys.stderr.write('you answered "always" for no tool\n')
    return 0


@app.command()
@with_options(config=config_file)
def revoke(
    config: Path | None,
    tools: Annotated[list[str] | None, typer.Argument(metavar="[SERVER.TOOL]...", help="Tools, or globs.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
) -> int:
    """Ask again before these tools run."""
    globs = ["*"] if everything else tools or []
    if not globs:
        raise UsageError("name a tool, or --all", hint="mcpchat approvals lists what can be revoked")
    store = approval_store(build_context(config))
    approvals = store.read_all()
    revoked = {a for a in approvals if any(glob_matches(glob, a.tool) for glob in globs)}
    unmatched = [glob for glob in globs if not any(glob_matches(glob, a.tool) for a in approvals)]
    if unmatched and not everything:
        raise UsageError(f'there is no "always" for {unmatched[0]}', hint="mcpchat approvals lists them")
    store.revoke(revoked)
    for approval in sorted(revoked, key=lambda approval: approval.tool):
        sys.stderr.write(f"{one_line(approval.tool, 200)} asks again\n")
    return 0
