"""mcpchat tools: the tools of the servers."""

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from mcpchat.app.mcp import tool_index
from mcpchat.app.tool_costs import ToolCosts, measure_tool_costs
from mcpchat.cli.mcp_session import (
    discard,
    open_servers,
    print_warnings,
    require_running,
    require_server,
    restrict_to,
)
from mcpchat.cli.options import RefreshOption, choice, config_and_servers, with_options
from mcpchat.cli.output import print_table, tool_page_to_json, tool_to_json, write_json
from mcpchat.cli.runtime import build_context, build_context_at, run_async
from mcpchat.config.named_servers import find_named_server, is_address
from mcpchat.config.run import ConfigChoice, RunContext, RunOptions
from mcpchat.core.tools import ToolSpec, openai_function
from mcpchat.errors import UsageError
from mcpchat.permissions.factory import build_policy, pinned_on, pinned_toolbox
from mcpchat.ui.render import stats, tables
from mcpchat.ui.render.plain import NonInteractiveDialog
from mcpchat.ui.render.tool_page import format_signatures, format_tool_page
from mcpchat.util.text import suggest

app = typer.Typer(add_completion=False, rich_markup_mode=None)
_MAX_FOUND = 20


@app.command()
@with_options(config=config_and_servers)
def tools(
    config: ConfigChoice,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SERVER | URL | SERVER.TOOL | WORDS]...", help="A server, a tool, or what to search for."
        ),
    ] = None,
    form: Annotated[str, choice("--format", "--output", "-o", of=("table", "json", "openai"))] = "table",
    cost: Annotated[
        bool, typer.Option("--cost", help="What the definitions take of each request to the model: tokens, money.")
    ] = False,
    refresh: RefreshOption = False,
) -> int:
    """List the tools of the configured servers, show one, or search them.

    \b
      mcpchat tools calculator              each with its parameters and result
      mcpchat tools calculator.calculate    what it takes and returns, and whether it asks
      mcpchat tools send an email           the tools about these words
      mcpchat tools https://mcp.example.com/mcp
      mcpchat tools --format openai     as the model gets them
      mcpchat tools --cost              the largest first, with the sum of each server
    """
    if cost and form == "openai":
        raise UsageError("--cost needs --format table or json")
    words = words or []
    if words and is_address(words[0]):
        context, words[0] = build_context_at(config, words[0])
    else:
        context = build_context(config)
    return run_async(_list_tools(context, config.servers, words, form, cost=cost, refresh=refresh))


async def _list_tools(
    context: RunContext, named: Sequence[str], words: Sequence[str], form: str, *, cost: bool, refresh: bool
) -> int:
    """List the tools of the words. ``named`` are the servers that the command line adds."""
    server, _, tool = words[0].partition(".") if len(words) == 1 else ("", "", "")
    server = find_named_server(context.config, named, server)
    if server not in context.config.servers:
        server = tool = ""
    if server:
        require_server(context, server)
        context = restrict_to(context, server)
    async with open_servers(context, discard if server else print_warnings, refresh=refresh) as hub:
        specs = await hub.list_tools()
        if server:
            require_running(hub)
        await pinned_toolbox(
            context, hub, NonInteractiveDialog(), print_warnings
        ).list_tools()  # warns of withheld tools
        if tool:
            specs = [_find_tool(f"{server}.{tool}", specs)]
        elif words and not server:
            specs = await _search_tools(context, words, specs, hub.instructions())
        # Before the servers are stopped, which takes time.
        if tool and not cost and form != "openai":
            _print_page(context, specs[0], form)
        elif server and not tool and not cost and form == "table":
            print_table(format_signatures(specs))
        else:
            costs = await measure_tool_costs(context, specs, hub.instructions()) if cost else None
            _print_tools(specs, form, costs)
        sys.stdout.flush()
    return 0


async def _search_tools(
    context: RunContext, words: Sequence[str], specs: Sequence[ToolSpec], notes: Mapping[str, str]
) -> Sequence[ToolSpec]:
    """The tools about the words. Raises UsageError for one word that is about none and names no server."""
    found = await tool_index(context, print_warnings).search([" ".join(words)], specs, notes, _MAX_FOUND)
    if not found and len(words) == 1:
        names = sorted(context.config.servers)
        raise UsageError(f"no tool is about {words[0]!r}, and no server has this name; {suggest(words[0], names)}")
    return found


def _print_page(context: RunContext, spec: ToolSpec, form: str) -> None:
    decision, pinned = build_policy(context, RunOptions()).evaluate(spec, {}), pinned_on(context, spec)
    if form == "json":
        write_json([tool_page_to_json(spec, decision, pinned)])
    else:
        print_table(format_tool_page(spec, decision, pinned))


def _find_tool(name: str, specs: Sequence[ToolSpec]) -> ToolSpec:
    """Raises UsageError if no tool has the name."""
    for spec in specs:
        if spec.qualified_name == name:
            return spec
    raise UsageError(f"no tool {name}; {suggest(name, [spec.qualified_name for spec in specs])}")


def _print_tools(specs: Sequence[ToolSpec], form: str, costs: ToolCosts | None) -> None:
    if costs is not None:
        _print_costs(costs, form)
    elif form == "openai":
        write_json([openai_function(spec) for spec in specs])
    elif form == "json":
        write_json([tool_to_json(spec) for spec in specs])
    elif specs:
        print_table(tables.tool_table(specs))
    else:
        sys.stderr.write("no tools\n")


def _print_costs(costs: ToolCosts, form: str) -> None:
    """Print the tokens of each tool, the largest first, of each server, and what a request takes."""
    if form == "json":
        tools = [
            {"tool": spec.qualified_name, "tokens": tokens, "deferred": spec.qualified_name in costs.deferred}
            for spec, tokens in costs.tools
        ]
        total = sum(costs.servers.values())
        write_json(
            {
                "tools": tools,
                "servers": costs.servers,
                "sent": costs.sent,
                "tokens": total,
                "estimated": True,
                "request": costs.request,
            }
        )
        return
    rows = [(spec.qualified_name, tokens) for spec, tokens in costs.tools]
    print_table(tables.tool_cost_table(rows, costs.servers, costs.sent, costs.deferred))
    if costs.request is not None:
        print_table("\n".join(stats.format_tool_usage(costs.request)))
    else:
        sys.stderr.write(f"the share of a model's window and the price are left out: {costs.problem}\n")
