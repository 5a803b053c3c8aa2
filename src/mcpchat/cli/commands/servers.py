"""mcpchat servers: how each is; add, remove, switch on and off."""

import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from mcpchat.cli.options import ConfigOption, DebugOption, JsonOutput, bad_choice, make_setup, run_async
from mcpchat.config import edit
from mcpchat.config.builtin_servers import BUNDLED
from mcpchat.config.run import default_paths
from mcpchat.config.validation import did_you_mean
from mcpchat.errors import UsageError

app = typer.Typer(rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The server, a table of the config.")]


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context, output: JsonOutput = "text", config: ConfigOption = None, debug: DebugOption = False
) -> int:
    """Start each configured server and show how it is: state, transport, tools, sign-in.

    Ends with exit code 4 when a server marked as required is down (3 when it only wants a sign-in).

    \b
      mcpchat servers
      mcpchat servers add notes -- npx -y @modelcontextprotocol/server-filesystem ~/notes
      mcpchat servers add company https://mcp.example.com/mcp
    """
    if ctx.invoked_subcommand is not None:
        return 0
    return show_all(output, config, debug)


@app.command("list")
def show_all(output: JsonOutput = "text", config: ConfigOption = None, debug: DebugOption = False) -> int:
    """Start each configured server and show how it is, as mcpchat servers does."""
    from mcpchat.cli.commands import tools

    if output not in tools.FORMATS:
        bad_choice("--output", output, tools.FORMATS)
    return run_async(tools.servers(make_setup(config), output))


@app.command("show")
def show(name: Name, output: JsonOutput = "text", config: ConfigOption = None, debug: DebugOption = False) -> int:
    """Start one server and show what it says of itself: protocol, capabilities, lists, instructions, timing."""
    from mcpchat.cli.commands import tools

    if output not in tools.FORMATS:
        bad_choice("--output", output, tools.FORMATS)
    return run_async(tools.show(make_setup(config), name, output))


@app.command("logs")
def logs(
    name: Name,
    lines: Annotated[int, typer.Option("--lines", "-n", metavar="N", min=0, help="The last N lines; 0 is all.")] = 50,
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> int:
    """Show what a server wrote to stderr and logged, over all its runs."""
    from mcpchat.cli.commands import tools

    return tools.logs(make_setup(config), name, lines)


@app.command("add")
def add(
    name: Name,
    target: Annotated[
        list[str] | None,
        typer.Argument(metavar="[URL | -- COMMAND...]", help="Where it is, or what to start.", show_default=False),
    ] = None,
    builtin: Annotated[
        str | None,
        typer.Option("--builtin", metavar="NAME", help=f"A server that comes with mcpchat: {', '.join(BUNDLED)}."),
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Of a bundled server: only the tools that change nothing.")
    ] = False,
    folder: Annotated[
        list[str] | None,
        typer.Option("--folder", metavar="FOLDER", help="A folder it may save files into and send from. Repeatable."),
    ] = None,
    account: Annotated[
        str | None, typer.Option("--account", metavar="ACCOUNT", help="Whose login it gets: an address, or its name.")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="A variable for the program. Repeatable.")
    ] = None,
    env_pass: Annotated[
        list[str] | None, typer.Option("--env-pass", metavar="NAME", help="A variable of yours it may see. Repeatable.")
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", metavar="NAME=VALUE", help="An HTTP header. Repeatable.")
    ] = None,
    cwd: Annotated[str | None, typer.Option("--cwd", metavar="FOLDER", help="The folder it runs in.")] = None,
    config: ConfigOption = None,
) -> int:
    """Write a server into the config file; comments and order there are kept. Nothing is started.

    Values of --env and --header may be references: env:NAME, keyring:NAME, "Bearer env:NAME".

    \b
      mcpchat servers add notes -- npx -y @modelcontextprotocol/server-filesystem ~/notes
      mcpchat servers add company https://mcp.example.com/mcp --header "Authorization=Bearer env:TOKEN"
      mcpchat servers add mail --builtin gmail --read-only
    """
    entry = _reached(target or [], builtin)
    if missing := [one for one in folder or () if not Path(one).expanduser().is_dir()]:
        raise UsageError(f"--folder {missing[0]}: there is no such folder")
    given = (
        ("account", account),
        ("read_only", read_only),
        ("folders", [str(Path(one).expanduser().absolute()) for one in folder or ()]),
        ("env", _pairs("--env", env)),
        ("env_pass", env_pass),
        ("cwd", cwd),
        ("headers", _pairs("--header", header)),
    )
    entry |= {key: value for key, value in given if value}
    path = _path(config)
    edit.update(path, lambda text: edit.add_server(text, name, entry))
    provider = BUNDLED[builtin].provider if builtin else ""
    first = f"mcpchat auth login {provider} signs in, then " if provider else ""
    return _told(path, f"added {name}; {first}mcpchat tools {name} asks what it offers")


@app.command("remove")
def remove(name: Name, config: ConfigOption = None) -> int:
    """Take a server out of the config file."""
    path = _path(config)
    edit.update(path, lambda text: edit.remove_server(text, name))
    return _told(path, f"removed {name}")


@app.command("enable")
def enable(name: Name, config: ConfigOption = None) -> int:
    """Switch a server on."""
    path = _path(config)
    edit.update(path, lambda text: edit.enable_server(text, name, True))
    return _told(path, f"{name} is on")


@app.command("disable")
def disable(name: Name, config: ConfigOption = None) -> int:
    """Switch a server off, and keep its entry."""
    path = _path(config)
    edit.update(path, lambda text: edit.enable_server(text, name, False))
    return _told(path, f"{name} is off")


NAMES = tuple(command.name or "" for command in app.registered_commands)


def _reached(target: list[str], builtin: str | None) -> dict[str, object]:
    """How the server is reached: exactly one of an address, a command and a bundled server's name."""
    if bool(target) == (builtin is not None):
        raise UsageError("expected one of URL, -- COMMAND... and --builtin NAME", hint="mcpchat servers add --help")
    if builtin is not None:
        if builtin not in BUNDLED:
            raise UsageError(f"no bundled server is named {builtin!r}{did_you_mean(builtin, tuple(BUNDLED))}")
        return {"builtin": builtin}
    if len(target) == 1 and re.match(r"https?://", target[0]):
        return {"url": target[0]}
    if "://" in target[0]:
        raise UsageError(f"{target[0]}: expected an address that begins with https:// or http://, or -- COMMAND...")
    return {"command": target[0], "args": target[1:]} if target[1:] else {"command": target[0]}


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    split = [pair.partition("=") for pair in given or ()]
    if wrong := [key for key, equals, _ in split if not (key and equals)]:
        raise UsageError(f"{option} {wrong[0]}: expected NAME=VALUE")
    return {key: value for key, _, value in split}


def _path(config: Path | None) -> Path:
    return config or default_paths(os.environ).config


def _told(path: Path, done: str) -> int:
    sys.stderr.write(f"{path}: {done}\n")
    return 0
