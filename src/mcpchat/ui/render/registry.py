"""Servers of a registry: what a search found, and what would be added."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct
from rich.table import Table
from rich.text import Text

from mcpchat.util.sanitize import one_line, show_invisible


class FoundServer(Struct, frozen=True, kw_only=True):
    """A server that a search found. ``name`` is what ``servers add`` takes, ``kinds`` the ways to use it."""

    name: str
    version: str
    kinds: tuple[str, ...]
    description: str


def found_table(servers: Sequence[FoundServer]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "version", "as", "description"):
        table.add_column(heading)
    for server in servers:
        cells = (server.name, server.version, ", ".join(server.kinds), server.description)
        table.add_row(*(Text(one_line(cell, 200)) for cell in cells))
    return table


def describe_install(
    name: str,
    *,
    version: str,
    repository: str,
    status: str,
    origin: str,
    settings: Mapping[str, Any],
    secret_keys: Sequence[str],
    risky: Sequence[str],
    suggests_sandbox: bool,
) -> Iterator[str]:
    """What would be added: the exact command or address, where it comes from, and what it gets. Nothing is cut."""
    yield one_line(f"{name} {version}".strip() + (f", {repository}" if repository else ""), 300)
    if status == "deprecated":
        yield "  its publisher marks it as deprecated"
    if "url" in settings:
        yield f"  contacts  {show_invisible(settings['url'])}"
    else:
        yield f"  runs      {show_invisible(shlex.join([settings['command'], *settings['args']]))}"
        yield f"  from      {origin}"
    for table in ("env", "headers"):
        for key, value in settings.get(table, {}).items():
            shown = "in the keyring" if f"{table}.{key}" in secret_keys else show_invisible(value)
            effect = "  (changes what runs, or where it connects)" if key in risky else ""
            yield f"  gives it  {show_invisible(key)} = {shown}{effect}"
    if sandbox := settings.get("sandbox"):
        yield f"  sandbox   network; of your home it writes {', '.join(sandbox['write'])} and sees nothing else"
    elif suggests_sandbox:
        yield "  it can read your files; --sandbox hides them from it"
