"""mcpchat tools: the tools of the servers."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mcpchat.cli.mcp_session import (
    discard,
    open_servers,
    print_warnings,
    require_running,
    require_server,
    restrict_to,
)
from mcpchat.cli.options import RefreshOption, choice, config_file, with_options
from mcpchat.cli.output import print_table, tool_to_json, write_json
from mcpchat.cli.runtime import build_context, run_async
from mcpchat.config.run import RunContext
from mcpchat.core.tools import ToolSpec, openai_function
from mcpchat.permissions.factory import pinned_toolbox
from mcpchat.ui.render import tables
from mcpchat.ui.render.plain import NonInteractiveDialog

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@with_options(config=config_file)
def tools(
    config: Path | None,
    server: Annotated[str | None, typer.Argument(metavar="[SERVER]", help="Only this server's.")] = None,
    form: Annotated[str, choice("--format", "--output", "-o", of=("table", "json", "openai"))] = "table",
    refresh: RefreshOption = False,
) -> int:
    """List the tools of the configured servers.

    \b
      mcpchat tools calculator
      mcpchat tools --format openai     as the model gets them
    """
    return run_async(_list_tools(build_context(config), server, form, refresh=refresh))


async def _list_tools(context: RunContext, server: str | None, form: str, *, refresh: bool) -> int:
    if server is not None:
        require_server(context, server)
        context = restrict_to(context, server)
    async with open_servers(context, print_warnings if server is None else discard, refresh=refresh) as hub:
        specs = await hub.list_tools()
        if server is not None:
            require_running(hub)
        await pinned_toolbox(
            context, hub, NonInteractiveDialog(), print_warnings
        ).list_tools()  # warns of withheld tools
        _print_tools(specs, form)  # before the servers are stopped, which takes time
    return 0


def _print_tools(specs: Sequence[ToolSpec], form: str) -> None:
    if form == "openai":
        write_json([openai_function(spec) for spec in specs])
    elif form == "json":
        write_json([tool_to_json(spec) for spec in specs])
    elif specs:
        print_table(tables.tool_table(specs))
    else:
        sys.stderr.write("no tools\n")
    sys.stdout.flush()
