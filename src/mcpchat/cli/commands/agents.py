"""mcpchat agents: the roles to talk in, tables of the config."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mcpchat.cli.options import ConfigOption, DebugOption, JsonOutput, bad_choice, make_setup, pass_on, write_json
from mcpchat.config.validation import ENTRY_NAME
from mcpchat.errors import UsageError
from mcpchat.util.sanitize import clean, one_line

app = typer.Typer(rich_markup_mode=None)
_FORMATS = ("text", "json")
_ACTIONS = ("deny", "ask", "allow")


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context, output: JsonOutput = "text", config: ConfigOption = None, debug: DebugOption = False
) -> int:
    """List the agents of the config.

    \b
      mcpchat agents
      mcpchat agents new mail --description "my letters" --server gmail --model gpt-5.5
      mcpchat --agent mail
    """
    if ctx.invoked_subcommand is not None:
        pass_on(ctx)
        return 0
    return show_list(output, config, debug)


@app.command("list")
def show_list(output: JsonOutput = "text", config: ConfigOption = None, debug: DebugOption = False) -> int:
    """List them, as mcpchat agents does."""
    if output not in _FORMATS:
        bad_choice("--output", output, _FORMATS)
    found = make_setup(config).config.agents
    if output == "json":
        write_json(found)
    elif found:
        from mcpchat.cli.mcp_session import print_table
        from mcpchat.ui.render import tables

        print_table(tables.agents(found))
    else:
        sys.stderr.write("no agents; mcpchat agents new NAME makes one\n")
    return 0


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The agent.")],
    output: JsonOutput = "text",
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> int:
    """Show an agent as it would be used now: with all variables of its instructions put in."""
    import msgspec

    from mcpchat.app.agents import instructions
    from mcpchat.config.run import choose_agent

    if output not in _FORMATS:
        bad_choice("--output", output, _FORMATS)
    setup = make_setup(config)
    agent = choose_agent(setup.config, name)
    told = instructions(setup, name)
    if output == "json":
        write_json({"name": name, **msgspec.to_builtins(agent), "instructions": told})
        return 0
    lines = [one_line(name, 60) + (f"  {one_line(agent.description, 200)}" if agent.description else "")]
    lines.append(f"  model    {one_line(agent.model, 80) if agent.model else 'the usual one'}")
    lines.append(f"  servers  {'all' if agent.servers is None else ', '.join(agent.servers) or 'none'}")
    lines.append(f"  tools    {one_line(', '.join(agent.tools), 400)}")
    rules = msgspec.to_builtins(agent.approvals)
    lines += [f"  {action:<8} {one_line(', '.join(rules[action]), 400)}" for action in _ACTIONS if rules[action]]
    lines += [f"  default  {agent.approvals.default}"] if agent.approvals.default else []
    options = msgspec.to_builtins(agent.options)
    lines += [f"  {key:<8} {one_line(str(value), 200)}" for key, value in options.items() if value not in (None, {})]
    lines += ["", *clean(told).splitlines()] if told else []
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called.")],
    description: Annotated[str, typer.Option("--description", "-d", metavar="TEXT", help="What it is for.")] = "",
    instructions: Annotated[
        str, typer.Option("--instructions", "-i", metavar="TEXT", help="What its model is told; - is stdin.")
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
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> int:
    """Write a new agent into the config; everything can be changed there afterwards."""
    import os

    from mcpchat.config import edit
    from mcpchat.config.run import default_paths
    from mcpchat.util.stdin import read_text

    if not ENTRY_NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for an agent", hint="letters, digits, and . _ / -")
    path = config or default_paths(os.environ).config
    told = read_text("--instructions -").strip() if instructions == "-" else instructions
    if instructions_file is not None:
        instructions_file = _found(instructions_file, path.parent)
    entry = {
        "description": description,
        "instructions": told,
        "instructions_file": instructions_file,
        "model": model,
        "servers": server,
        "tools": tool,
    }
    values = {key: value for key, value in entry.items() if value}
    edit.update(path, lambda text: edit.add_agent(text, name, values))
    sys.stderr.write(f"added to {one_line(str(path), 500)}; mcpchat --agent {one_line(name, 60)} talks to it\n")
    return 0


def _found(name: str, beside: Path) -> str:
    """The file's path as the config can name it, from wherever mcpchat is started."""
    here = Path(name).expanduser()
    if here.is_file():
        return str(here.absolute())
    if (beside / here).is_file():
        return name
    raise UsageError(f"--instructions-file {name}: there is no such file, neither here nor beside the config")


NAMES = ("list", "show", "new")
