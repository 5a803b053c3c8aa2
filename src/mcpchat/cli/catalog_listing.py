"""Lists of what servers offer besides tools: resources and prompts."""

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mcpchat.cli.mcp_session import (
    discard,
    open_servers,
    print_warnings,
    require_running,
    require_server,
    restrict_to,
)
from mcpchat.cli.output import print_table, write_json
from mcpchat.config.run import RunContext
from mcpchat.core.catalog import Catalog

if TYPE_CHECKING:
    from rich.console import RenderableType


async def print_listing(
    context: RunContext,
    server: str | None,
    output: str,
    *,
    items: Callable[[Catalog], Iterable[Any]],
    table: "Callable[[Sequence[Any]], RenderableType]",
    what: str,
) -> int:
    """Print the ``items`` of each server's catalog, or of one server's, as a table or as JSON."""
    if server is not None:
        require_server(context, server)
        context = restrict_to(context, server)
    async with open_servers(context, print_warnings if server is None else discard) as hub:
        await hub.list_tools()
        await hub.wait_for_lists()
        if server is not None:
            require_running(hub)
        listed = [item for catalog in hub.catalogs().values() for item in items(catalog)]
        if output == "json":
            write_json(listed)
        elif listed:
            print_table(table(listed))
        else:
            sys.stderr.write(f"no {what}\n")
        sys.stdout.flush()
    return 0
