"""mcpchat read: the resources of servers."""

from pathlib import Path
from typing import Annotated

import typer

from mcpchat.cli.catalog_listing import print_listing
from mcpchat.cli.content import print_parts
from mcpchat.cli.mcp_session import open_servers, print_notices, require_server, restrict_to
from mcpchat.cli.options import FileOption, TextJsonOrRaw, TimeoutOption, config_and_servers, form_answers, with_options
from mcpchat.cli.runtime import build_context, run_async
from mcpchat.config.named_servers import find_named_server
from mcpchat.config.run import ConfigChoice, RunContext
from mcpchat.core.form_answers import FormAnswers, use_answers
from mcpchat.errors import UsageError
from mcpchat.mcp.hub import McpHub
from mcpchat.ui.render import tables
from mcpchat.util.time_limit import time_limit

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@with_options(config=config_and_servers, answers=form_answers)
def read(
    config: ConfigChoice,
    answers: FormAnswers,
    resource: Annotated[
        str | None, typer.Argument(metavar="[SERVER:URI]", help="The resource; a server's name lists its resources.")
    ] = None,
    output: TextJsonOrRaw = "text",
    file: FileOption = None,
    timeout: TimeoutOption = None,
) -> int:
    """Read a server's resource; without one, list all resources.

    In a question, @SERVER:URI includes a resource.

    \b
      mcpchat read
      mcpchat read notes:file:///todo.md
      mcpchat read notes:file:///chart.png -f chart.png
    """
    context = build_context(config)
    if resource is not None:
        server, colon, uri = resource.partition(":")
        resource = f"{find_named_server(context.config, config.servers, server)}{colon}{uri}"
    if resource is None or resource in context.config.servers:
        work = print_listing(
            context,
            resource,
            output,
            items=lambda catalog: (*catalog.resources, *catalog.templates),
            table=tables.resource_table,
            what="resources",
        )
        return run_async(work)
    with use_answers(answers):
        return run_async(_read_resource(context, resource, output, file, timeout))


async def _read_resource(
    context: RunContext, resource: str, output: str, file: Path | None, timeout: float | None
) -> int:
    """Raises UsageError, ToolFailed, ServerError, LimitReached."""
    server, _, uri = resource.partition(":")
    if server in context.config.servers:
        require_server(context, server)
        context = restrict_to(context, server)
    async with time_limit(timeout) as lift_limit, open_servers(context, print_notices) as hub:
        if server not in context.config.servers:
            server, uri = await _find_server(hub, resource), resource
        parts = await hub.read_resource(server, uri)
        lift_limit()
        print_parts(parts, output, file)
    return 0


async def _find_server(hub: McpHub, uri: str) -> str:
    """The server that lists the resource. Raises UsageError unless exactly one does."""
    await hub.list_tools()
    await hub.wait_for_lists()
    names = [name for name, catalog in hub.catalogs().items() if uri in {r.uri for r in catalog.resources}]
    if len(names) != 1:
        raise UsageError(
            f"{'several servers list' if names else 'no server lists'} {uri}",
            hint="write SERVER:URI; mcpchat read lists them",
        )
    return names[0]
