"""mcpchat import: the servers of other MCP clients."""

import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from mcpchat.cli.options import TextOrJson, config_file, with_options
from mcpchat.cli.output import print_table, write_json
from mcpchat.cli.runtime import load_user_config
from mcpchat.cli.server_import import add_to_config, write_servers
from mcpchat.config import edit
from mcpchat.config.clients.files import CLIENT_NAMES, CLIENTS, find_client_files
from mcpchat.config.clients.plan import (
    PlannedFile,
    PlannedServer,
    plan_import,
    plan_source,
    settings_to_write,
)
from mcpchat.config.run import default_paths, working_directory
from mcpchat.errors import UsageError
from mcpchat.ui.render.import_plan import format_diff, import_tables
from mcpchat.util.sanitize import one_line
from mcpchat.util.text import did_you_mean

app = typer.Typer(add_completion=False, rich_markup_mode=None)


def _source(value: str | None) -> str | None:
    return value


_source.choices = CLIENT_NAMES  # type: ignore[attr-defined]  # for scripts/generate.py: completion offers them


@app.command()
@with_options(config=config_file)
def import_servers(
    config: Path | None,
    source: Annotated[
        str | None,
        typer.Argument(metavar="[SOURCE]", help="A client, or a file.", show_default=False),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Only these servers. Default: the new ones.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the change of the config file.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Also those that differ from a server of yours.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Store secrets in plain text in the keyring without asking.")
    ] = False,
    output: TextOrJson = "text",
) -> int:
    """Show the servers of other MCP clients on this machine, or copy them into the config file.

    Knows Claude Desktop, Claude Code, VS Code, Cursor, Codex, Gemini CLI, Copilot CLI, Windsurf, Zed, goose, opencode,
    Cline and LM Studio. Their files are only read.

    \b
      mcpchat import                          what was found, and what is new
      mcpchat import cursor --dry-run
      mcpchat import claude github notes
      mcpchat import ./mcp.json
    """
    planned = _plan(source, config)
    if source is None:
        if output == "json":
            write_json([_to_json(file) for file in planned])
        else:
            _show(planned, config)
        return 0
    selected = _select(planned, names or [], source, replace=replace)
    if output == "json":
        write_json([_to_json(file) for file in planned])
    if dry_run:
        if output != "json":
            _show_change(config, selected)
    else:
        write_servers(config, selected, yes=yes)
    _report_others(planned, selected, wanted=bool(names))
    return 0


def _plan(source: str | None, config: Path | None) -> tuple[PlannedFile, ...]:
    """Raises UsageError if there is no such client or file, or a file cannot be read."""
    user_config, folder = load_user_config(config), working_directory()
    if source is not None:
        return plan_source(source, user_config, folder, os.environ)
    return tuple(  # each client by itself: what one has does not make another's known
        planned
        for client in CLIENTS
        for planned in plan_import(
            find_client_files((client,), folder, os.environ, with_project=True), user_config, os.environ
        )
    )


def _select(planned: Sequence[PlannedFile], names: Sequence[str], source: str, *, replace: bool) -> list[PlannedServer]:
    """The servers to write: those that are named, else the new ones. Raises UsageError for one that cannot be."""
    servers = [server for file in planned for server in file.servers]
    selected = []
    for name in names:
        found = [server for server in servers if name in (server.source_name, server.name)]
        if not found:
            known = [server.source_name for server in servers]
            raise UsageError(
                f"{source} has no server named {one_line(name, 60)}{did_you_mean(name, known)}",
                hint=f"it has {', '.join(one_line(one, 60) for one in known)}",
            )
        server = next((server for server in found if server.state in ("new", "differs")), found[0])
        if server.state == "cannot":
            raise UsageError(f"{one_line(name, 60)} cannot be used: {server.detail}", hint=server.hint)
        if server.state == "differs" and not replace:
            raise UsageError(
                f"your config has another {server.name}: {server.detail} differ", hint="--replace replaces it"
            )
        selected.append(server)
    states = ("new", "differs") if replace else ("new",)
    return [server for server in selected or servers if server.state in states]


def _show(planned: Sequence[PlannedFile], config: Path | None) -> None:
    shown = [file for file in planned if file.servers or file.problem]
    for table in import_tables(shown):
        print_table(table)
    if not shown:
        titles = ", ".join(client.title for client in CLIENTS)
        sys.stderr.write(f"no servers of other clients were found; looked for {titles}\n")
        return
    sys.stdout.flush()
    new = [
        file.client for file in shown if not file.is_project and any(server.state == "new" for server in file.servers)
    ]
    if any(file.is_project for file in shown):
        sys.stderr.write("a project's servers: mcpchat trust uses them here, mcpchat import FILE copies them\n")
    if new:
        sys.stderr.write(f"mcpchat import {new[0]} copies the new ones; --dry-run shows the change first\n")


def _show_change(config: Path | None, selected: Sequence[PlannedServer]) -> None:
    path = config or default_paths(os.environ).config
    before = edit.current_text(path)
    after = add_to_config(before, [(server, settings_to_write(server)) for server in selected])
    name = one_line(str(path), 500)
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), name, name, lineterm="")
    print_table(format_diff(list(lines)))
    sys.stdout.flush()


def _report_others(planned: Sequence[PlannedFile], selected: Sequence[PlannedServer], *, wanted: bool) -> None:
    """Say of the other servers why they were not imported, and of unreadable files."""
    for file in planned:
        if file.problem:
            sys.stderr.write(f"{one_line(f'{file.path}: {file.problem}', 500)}\n")
        for server in () if wanted else file.servers:
            if server in selected:
                continue
            reason = {
                "same": f"is in your config{f' as {server.detail}' if server.detail else ''}",
                "differs": f"is another one in your config ({server.detail}); --replace replaces it",
            }.get(server.state, f"cannot be used: {server.detail}{f'; {server.hint}' if server.hint else ''}")
            sys.stderr.write(f"{one_line(f'{server.source_name} {reason}', 400)}\n")


def _to_json(file: PlannedFile) -> dict[str, Any]:
    servers = [
        {**msgspec.to_builtins(server), "settings": settings_to_write(server)} if server.state != "cannot" else server
        for server in file.servers
    ]
    return {**msgspec.to_builtins(file), "servers": msgspec.to_builtins(servers)}
