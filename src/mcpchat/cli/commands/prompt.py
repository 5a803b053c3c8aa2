"""mcpchat prompt: the prompts of servers."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from mcpchat.cli.catalog_listing import print_listing
from mcpchat.cli.content import print_result
from mcpchat.cli.mcp_session import open_servers, print_notices, require_running, require_server, restrict_to
from mcpchat.cli.options import TextOrJson, config_and_servers, form_answers, with_options
from mcpchat.cli.output import write_json
from mcpchat.cli.runtime import build_context, run_async
from mcpchat.config.named_servers import find_named_server
from mcpchat.config.run import ConfigChoice, RunContext
from mcpchat.core.catalog import parse_prompt_arguments
from mcpchat.core.form_answers import FormAnswers, use_answers
from mcpchat.core.messages import Content, ToolResult
from mcpchat.errors import UsageError
from mcpchat.ui.render import tables
from mcpchat.util.text import suggest

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@with_options(config=config_and_servers, answers=form_answers)
def prompt(
    config: ConfigChoice,
    answers: FormAnswers,
    name: Annotated[
        str | None, typer.Argument(metavar="[SERVER:NAME]", help="The prompt; a server's name lists its prompts.")
    ] = None,
    pairs: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Its arguments.")] = None,
    output: TextOrJson = "text",
) -> int:
    """Show the messages that a server makes of one of its prompts; without one, list all prompts.

    In a chat, /SERVER:NAME KEY=VALUE sends them.

    \b
      mcpchat prompt
      mcpchat prompt notes:summary style=short
    """
    context = build_context(config)
    name = find_named_server(context.config, config.servers, name) if name else None
    if name is None or name in context.config.servers:
        work = print_listing(
            context, name, output, items=lambda catalog: catalog.prompts, table=tables.prompt_table, what="prompts"
        )
        return run_async(work)
    server, colon, _ = name.partition(":")
    if not colon:
        raise UsageError(f"{name!r} does not name a prompt", hint="write SERVER:NAME; mcpchat prompt lists them")
    server = find_named_server(context.config, config.servers, server)
    name = f"{server}:{name.partition(':')[2]}"
    require_server(context, server)
    with use_answers(answers):
        return run_async(_print_prompt(restrict_to(context, server), name, pairs or [], output))


async def _print_prompt(context: RunContext, label: str, pairs: Sequence[str], output: str) -> int:
    """Raises UsageError, ToolFailed, ServerError."""
    async with open_servers(context, print_notices) as hub:
        await hub.list_tools()
        require_running(hub)
        await hub.wait_for_lists()
        prompts = {prompt.label: prompt for catalog in hub.catalogs().values() for prompt in catalog.prompts}
        if label not in prompts:
            raise UsageError(f"no prompt {label}; {suggest(label, sorted(prompts))}")
        prompt = prompts[label]
        messages = await hub.get_prompt(prompt.server, prompt.name, parse_prompt_arguments(prompt, pairs))
        if output == "json":
            write_json(messages)
        else:
            for message in messages:
                sys.stdout.write(f"{message.role}: ")
                parts = tuple(part for part in message.parts if isinstance(part, Content))
                print_result(ToolResult(call_id="", parts=parts), sys.stdout)
        sys.stdout.flush()
    return 0
