"""The servers of other clients that an import found, and the change that it makes to the config file."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mcpchat.config.clients.plan import PlannedFile, PlannedServer
from mcpchat.util.sanitize import one_line, sanitize

_STYLES = {"new": "green", "same": "dim", "differs": "yellow", "cannot": "red"}


def import_tables(files: Sequence[PlannedFile]) -> Iterator[RenderableType]:
    """Each file with its servers: the state, the name, and what it is or why it cannot be used."""
    for file in files:
        heading = Text(file.client, style="bold").append(f"  {one_line(_shorten_home(file.path), 300)}", style="dim")
        if file.is_project:
            heading.append("  (of this project)", style="dim")
        if file.problem:
            yield Group(heading, Text(f"  {one_line(file.problem, 300)}", style="red"))
            continue
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for server in file.servers:
            table.add_row(
                "",
                Text(server.state, style=_STYLES[server.state]),
                Text(one_line(server.source_name, 60) + (f" → {server.name}" if _is_renamed(server) else "")),
                Text(_describe(server)),
            )
        yield Group(heading, table)


def _is_renamed(server: PlannedServer) -> bool:
    return server.state != "cannot" and server.name != server.source_name


def _describe(server: PlannedServer) -> str:
    if server.state == "cannot":
        return one_line(server.detail, 300)
    if server.state == "differs":
        return f"{server.detail} differ from yours" if "," in server.detail else f"{server.detail} differs from yours"
    settings = server.settings
    target = settings.get("url") or shlex.join([settings["command"], *settings.get("args", ())])
    secrets = f"  ({len(server.moved_secrets)} secret in plain text)" if server.moved_secrets else ""
    return one_line(target, 200) + (f"  (yours: {server.detail})" if server.detail else secrets)


def _shorten_home(path: str) -> str:
    home = str(Path.home())
    return f"~{path[len(home) :]}" if path.startswith(f"{home}/") else path


def format_diff(lines: Sequence[str]) -> Text:
    """A unified diff with its colours."""
    text = Text()
    for line in lines:
        is_header = line.startswith(("+++", "---"))
        colours = {"+": "green", "-": "red", "@": "cyan"}
        text.append(f"{sanitize(line)}\n", style="bold" if is_header else colours.get(line[:1], ""))
    text.rstrip()
    return text
