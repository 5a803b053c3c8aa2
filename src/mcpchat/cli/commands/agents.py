"""mcpchat agents: agents are tables of the config."""

import os
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from mcpchat.app.agents import render_instructions as render_instructions
from mcpchat.cli.lazy_group import CommandGroup
from mcpchat.cli.options import TextOrJson, config_file, with_options
from mcpchat.cli.output import print_table, write_json
from mcpchat.cli.runtime import build_context
from mcpchat.config import edit
from mcpchat.config.run import default_paths, get_agent
from mcpchat.config.validation import TABLE_NAME
from mcpchat.errors import UsageError
from mcpchat.ui.render import tables
from mcpchat.util.paths import expand_user
from mcpchat.util.sanitize import one_line, sanitize
from mcpchat.util.stdin import read_text

app = typer.Typer(cls=CommandGroup, add_completion=False, rich_markup_mode=None)
_ACTIONS = ("deny", "ask", "allow")


@app.command("list", hidden=True)
@app.callback(invoke_without_command=True)
@with_options(config=config_file)
def list_agents(config: Path | None, output: TextOrJson = "text") -> int:
    """List the agents of the config.

    \b
      mcpchat agents
      mcpchat agents new mail --description "my letters" --server gmail --model gpt-5.5
      mcpchat --agent mail
    """
    agents = build_context(config).config.agents
    if output == "json":
        write_json(agents)
    elif agents:
        print_table(tables.agent_table(agents))
    else:
        sys.stderr.write("no agents; mcpchat agents new NAME makes one\n")
    return 0


@app.command()
@with_options(config=config_file)
def show(
    config: Path | None,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The agent.")],
    output: TextOrJson = "text",
) -> int:
    """Show an agent as it would be used now: with all variables of its instructions filled in."""
    context = build_context(config)
    agent = get_agent(context.config, name)
    instructions = render_instructions(context, name)
    if output == "json":
        write_json({"name": name, **msgspec.to_builtins(agent), "instructions": instructions})
        return 0
    lines = [one_line(name, 60) + (f"  {one_line(agent.description, 200)}" if agent.description else "")]
    lines.append(f"  model    {one_line(agent.model, 80) if agent.model else 'the default'}")
    lines.append(f"  servers  {'all' if agent.servers is None else ', '.join(agent.servers) or 'none'}")
    lines.append(f"  tools    {one_line(', '.join(agent.tools), 400)}")
    rules = msgspec.to_builtins(agent.approvals)
    lines += [f"  {action:<8} {one_line(', '.join(rules[action]), 400)}" for action in _ACTIONS if rules[action]]
    lines += [f"  default  {agent.approvals.default}"] if agent.approvals.default else []
    options = msgspec.to_builtins(agent.options)
    lines += [f"  {key:<8} {one_line(str(value), 200)}" for key, value in options.items() if value not in (None, {})]
    lines += ["", *sanitize(instructions).splitlines()] if instructions else []
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


@app.command()
@with_options(config=config_file)
def new(
    config: Path | None,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.")],
    description: Annotated[str, typer.Option("--description", "-d", metavar="TEXT", help="What it is for.")] = "",
    instructions: Annotated[
        str, typer.Option("--instructions", "-i", metavar="TEXT", help="The instructions for its model; - is stdin.")
    ] = "",
    instructions_file: Annotated[
        str | None, typer.Option("--instructions-file", metavar="FILE", help="A file with them, read at each start.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", metavar="NAME", help="Its model.")] = None,
    server: Annotated[
        list[str] | None, typer.Option("--server", "-s", metavar="NAME", help="A server it uses. Repeatable.")
    ] = None,
    tool: Annotated[
        list[str] | None, typer.Option("--tool", metavar="GLOB", help="Tools that it is offered. Repeatable.")
    ] = None,
) -> int:
    """Add a new agent to the config; you can change everything there afterwards."""
    if not TABLE_NAME.fullmatch(name):
        raise UsageError(f"{name!r} is not a valid agent name", hint="letters, digits, and . _ / -")
    path = config or default_paths(os.environ).config
    text = read_text("--instructions -").strip() if instructions == "-" else instructions
    if instructions_file is not None:
        instructions_file = _relative_to_config(instructions_file, path.parent)
    entry = {
        "description": description,
        "instructions": text,
        "instructions_file": instructions_file,
        "model": model,
        "servers": server,
        "tools": tool,
    }
    values = {key: value for key, value in entry.items() if value}
    edit.update(path, lambda toml: edit.add_agent(toml, name, values))
    sys.stderr.write(f"added to {one_line(str(path), 500)}; mcpchat --agent {one_line(name, 60)} uses it\n")
    return 0


def _relative_to_config(name: str, beside: Path) -> str:
    """The file's path as the config can name it, from wherever mcpchat is started."""
    path = expand_user(name)
    if path.is_file():
        return str(path.absolute())
    if (beside / path).is_file():
        return name
    raise UsageError(f"--instructions-file {name}: no such file, here or beside the config file")
