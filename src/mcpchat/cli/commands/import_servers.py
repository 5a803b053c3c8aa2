"""mcpchat import: the servers of other MCP clients."""

import difflib
import getpass
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from mcpchat.cli.options import TextOrJson, config_file, with_options
from mcpchat.cli.output import is_terminal, print_table, write_json
from mcpchat.cli.runtime import current_run, load_user_config, run_async
from mcpchat.config import edit
from mcpchat.config.clients.files import CLIENT_NAMES, CLIENTS, find_client_files
from mcpchat.config.clients.plan import (
    TRANSPORT_KEYS,
    PlannedFile,
    PlannedServer,
    plan_import,
    plan_source,
    settings_to_write,
)
from mcpchat.config.run import default_paths, working_directory
from mcpchat.config.stored_secrets import StoredSecrets, move_secret
from mcpchat.errors import Denied, UsageError
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
        _import(config, selected, yes=yes)
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
        for planned in plan_import(find_client_files((client,), folder, os.environ, with_project=True), user_config)
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
    after = _change(before, [(server, settings_to_write(server)) for server in selected])
    name = one_line(str(path), 500)
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), name, name, lineterm="")
    print_table(format_diff(list(lines)))
    sys.stdout.flush()


def _change(text: str, servers: Iterable[tuple[PlannedServer, Mapping[str, Any]]]) -> str:
    """Add the servers to the text of the config file; of one that is there, the user's other settings stay."""
    for server, settings in servers:
        if edit.has_server(text, server.name):
            text = edit.merge_server(text, server.name, settings, TRANSPORT_KEYS)
        else:
            text = edit.add_server(text, server.name, settings)
    return text


def _import(config: Path | None, selected: Sequence[PlannedServer], *, yes: bool) -> None:
    """Write the servers. Raises UsageError or Denied, and writes nothing, if a secret in plain text may not move."""
    if not selected:
        return
    paths = default_paths(os.environ)
    path = config or paths.config
    moved = [f"{server.name}.{key}" for server in selected for key in server.moved_secrets]
    if moved and not yes:
        names = ", ".join(moved)
        if not is_terminal(sys.stdin, sys.stderr):
            raise UsageError(f"{names}: secrets in plain text", hint="--yes moves them into the keyring")
        if not typer.confirm(f"move {names} into the keyring?", default=True, err=True):
            raise Denied("nothing was imported: secrets never go into the file", hint="name the other servers")
    answers = {name: secret for server in selected for name, secret in _ask_secrets(server)}
    run_async(_write(path, selected, answers, StoredSecrets(paths.state)))
    sys.stderr.write(f"{one_line(str(path), 500)}: added {', '.join(server.name for server in selected)}\n")
    for server in selected:
        for name, description in server.asked_secrets.items():
            if name not in answers:
                sys.stderr.write(f"mcpchat secret set {name} stores its secret: {one_line(description, 100)}\n")
        if server.omitted:
            omitted = ", ".join(server.omitted)
            sys.stderr.write(f"{server.name}: {omitted} is not taken over; mcpchat asks before its calls\n")
    sys.stderr.write("mcpchat servers starts them and shows how they are\n")


def _ask_secrets(server: PlannedServer) -> Iterator[tuple[str, str]]:
    """What the user enters for the secrets that the other client asks for or keeps; nothing without a terminal."""
    for name, description in server.asked_secrets.items() if is_terminal(sys.stdin, sys.stderr) else ():
        text = one_line(description, 100)
        if secret := getpass.getpass(f"{server.name}: {text} (Enter: later): ", sys.stderr).strip():
            current_run().secrets.add(secret)
            yield name, secret


async def _write(
    path: Path, selected: Sequence[PlannedServer], answers: Mapping[str, str], store: StoredSecrets
) -> int:
    written = []
    for server in selected:
        settings = server.settings
        for key in server.moved_secrets:
            settings = await move_secret(settings, server.name, key, store)
        for name in server.asked_secrets:
            stored_name = await store.store_new(name, answers[name]) if name in answers else name
            settings = _rename(settings, name, stored_name)
        written.append((server, settings))
    edit.update(path, lambda text: _change(text, written))
    return 0


def _rename(value: Any, name: str, stored_name: str) -> Any:
    """The settings with the name under which a secret was stored."""
    if isinstance(value, dict):
        return {key: _rename(inner, name, stored_name) for key, inner in value.items()}
    references = {f"{prefix}keyring:{name}": f"{prefix}keyring:{stored_name}" for prefix in ("", "Bearer ")}
    return references.get(value, value) if isinstance(value, str) else value


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
