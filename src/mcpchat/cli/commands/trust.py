"""mcpchat trust: project files, and tools whose definition changed."""

import os
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from mcpchat.cli.lazy_group import CommandGroup
from mcpchat.cli.mcp_session import discard, open_servers, require_running, require_server, restrict_to, terminal_user
from mcpchat.cli.options import TextOrJson, config_and_named_servers, config_file, with_options
from mcpchat.cli.output import write_json
from mcpchat.cli.project_trust import ask_trust
from mcpchat.cli.runtime import build_context, build_context_at, run_async
from mcpchat.config import project_file
from mcpchat.config.named_servers import find_named_server, is_address
from mcpchat.config.project_file import NO_PROJECT_FILE
from mcpchat.config.run import ConfigChoice, RunContext, default_paths
from mcpchat.errors import Denied, UsageError
from mcpchat.permissions.factory import pin_store
from mcpchat.permissions.pins import accept, diff_pins, pin_catalog, set_dates
from mcpchat.util.sanitize import one_line, sanitize
from mcpchat.util.text import suggest

app = typer.Typer(cls=CommandGroup, add_completion=False, rich_markup_mode=None)

AcceptOption = Annotated[bool, typer.Option("--yes", "-y", help="Accept everything without asking.")]


@app.callback(invoke_without_command=True)
@with_options(config=config_file)
def trust(config: Path | None, yes: AcceptOption = False) -> int:
    """Show what the project file of this folder, or of one above, would run and contact; and ask to trust it.

    A project file is .mcpchat.toml, else .mcp.json and .vscode/mcp.json of other clients. mcpchat uses nothing of it
    before you trust it, and asks again after any change.

    \b
      mcpchat trust
      mcpchat trust review notes      tools of a server that have changed
      mcpchat trust show
    """
    paths = default_paths(os.environ)
    project = project_file.find_project(exclude=config or paths.config)
    if project is None:
        raise UsageError(NO_PROJECT_FILE)
    name = one_line(project.label, 500)
    if project_file.is_trusted(project, paths):
        sys.stderr.write(f"{name} is trusted already\n")
        return 0
    if not ask_trust(project, config, yes=yes):
        raise Denied(f"{name} is not trusted", hint="mcpchat trust --yes trusts it")
    project_file.trust(project, paths)
    sys.stderr.write("trusted, until it changes\n")
    return 0


@app.command()
@with_options(config=config_file)
def show(config: Path | None, output: TextOrJson = "text") -> int:
    """List the trusted project files."""
    trusted = project_file.trusted_files(default_paths(os.environ))
    if output == "json":
        write_json(trusted)
    else:
        sys.stdout.write("".join(f"{one_line(file.path, 500)}  since {file.date}\n" for file in trusted))
        if not trusted:
            sys.stderr.write("no project file is trusted\n")
    return 0


@app.command()
@with_options(config=config_file)
def revoke(
    config: Path | None,
    path: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Default: the file of this folder.", show_default=False)
    ] = None,
) -> int:
    """Stop trusting, or ignoring, a project file."""
    paths = default_paths(os.environ)
    path = path or _find_file(config)
    if not project_file.trust_store(paths).forget(project_file.canonical_path(path)):
        raise UsageError(f"{path} is neither trusted nor ignored", hint="mcpchat trust show lists the trusted files")
    sys.stderr.write(f"{one_line(str(path), 500)} is no longer trusted\n")
    return 0


@app.command()
@with_options(config=config_file)
def ignore(
    config: Path | None,
    path: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Default: the file of this folder.", show_default=False)
    ] = None,
) -> int:
    """Leave a project file out without a word from now on. mcpchat trust, or trust revoke, ends that."""
    path = project_file.canonical_path(path or _find_file(config))
    project_file.trust_store(default_paths(os.environ)).ignore(path)
    sys.stderr.write(f"{one_line(str(path), 500)} is ignored\n")
    return 0


def _find_file(config: Path | None) -> Path:
    """The project file of this folder. Raises UsageError if there is none."""
    project = project_file.find_project(exclude=config or default_paths(os.environ).config)
    if project is None:
        raise UsageError(NO_PROJECT_FILE, hint="name the file")
    return project.path


@app.command()
@with_options(config=config_and_named_servers)
def review(
    config: ConfigChoice,
    server: Annotated[str, typer.Argument(metavar="NAME | URL", help="The server.")],
    yes: AcceptOption = False,
) -> int:
    """Show what changed in a server's tools and instructions since you accepted them, and ask about each change.

    Ends with exit code 6 while a change is not accepted.
    """
    if is_address(server):
        context, server = build_context_at(config, server)
    else:
        context = build_context(config)
        server = find_named_server(context.config, config.servers, server)
    if server not in context.config.servers:
        hint = "of a server that the config does not have: mcpchat trust review URL, or with the same --mcp"
        raise UsageError(f"no server is named {server!r}; {suggest(server, sorted(context.config.servers))}", hint=hint)
    require_server(context, server)
    if context.config.servers[server].is_bundled:
        raise UsageError(f"{server} comes with mcpchat: there is nothing to review")
    return run_async(_review_changes(context, server, yes=yes))


async def _review_changes(context: RunContext, server: str, *, yes: bool) -> int:
    """Raises Denied if a change is not accepted, ServerError, StoreError."""
    user = terminal_user()
    store = pin_store(context)
    async with open_servers(restrict_to(context, server), discard, refresh=True, user=user) as hub:
        await hub.list_tools()
        require_running(hub)
        current = pin_catalog(server, hub.catalogs()[server])
    pins = store.load(server)
    if pins is None:
        store.save(server, set_dates(current))
        sys.stderr.write(f"{server}: {len(current.tools)} tool{'s' * (len(current.tools) != 1)} recorded\n")
        return 0
    if pins.title != current.title:
        pins = msgspec.structs.replace(pins, title=current.title)
        store.save(server, pins)
        sys.stderr.write(f"{server} calls itself {one_line(current.title or '', 80)!r} now; questions show this\n")
    offers = context.config.servers[server].exposes
    changes = diff_pins(pins, current, offers)
    for change in changes:
        sys.stderr.write(f"{sanitize(change.label)} {change.summary}:\n")
        sys.stderr.write("".join(f"  {line}\n" for line in change.diff_text().splitlines()))
        if not yes and not await user[0].confirm(server, f"have you accept a change: {change.label}", ""):
            continue
        pins = accept(pins, current, {change.tool})
        store.save(server, pins)
    rejected = diff_pins(pins, current, offers)
    if rejected:
        raise Denied(
            f"{len(rejected)} of {len(changes)} changes of {server} are not accepted",
            hint=f"mcpchat trust review {server} --yes accepts all",
        )
    sys.stderr.write(f"{server} has no change to review\n")
    return 0
