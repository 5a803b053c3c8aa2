"""mcpchat servers: their state; add, remove, enable and disable them."""

import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from mcpchat.cli.lazy_group import CommandGroup
from mcpchat.cli.mcp_session import discard, open_servers, require_running, require_server, restrict_to
from mcpchat.cli.options import TextOrJson, choice, config_file, with_options
from mcpchat.cli.output import is_terminal, print_table, tool_to_json, write_json
from mcpchat.cli.runtime import build_context, literal_secret_warnings, load_user_config, run_async
from mcpchat.config import edit
from mcpchat.config.builtin_servers import BUILTIN_SERVERS
from mcpchat.config.clients.entries import read_client_entry
from mcpchat.config.named_servers import is_address, parse_named_server, read_address
from mcpchat.config.run import default_paths
from mcpchat.config.schema import ServerConfig
from mcpchat.config.stored_secrets import StoredSecrets, move_secret
from mcpchat.config.validation import SERVER_NAME, iter_literal_secrets
from mcpchat.core.protocols import ServerStatus
from mcpchat.errors import McpChatError, ServerError, SignInNeeded, UsageError
from mcpchat.mcp.server_log import read_log
from mcpchat.ui.render import tables
from mcpchat.util.paths import expand_user
from mcpchat.util.sanitize import sanitize

app = typer.Typer(cls=CommandGroup, add_completion=False, rich_markup_mode=None)

ServerArgument = Annotated[str, typer.Argument(metavar="NAME", help="The server, a table of the config.")]


@app.command("list", hidden=True)
@app.callback(invoke_without_command=True)
@with_options(config=config_file)
def list_servers(config: Path | None, output: TextOrJson = "text") -> int:
    """Start each configured server and show its state: transport, tools, sign-in.

    Ends with exit code 4 if a required server is down (3 if it only needs a sign-in).

    \b
      mcpchat servers
      mcpchat servers add notes -- npx -y @modelcontextprotocol/server-filesystem ~/notes
      mcpchat servers add company https://mcp.example.com/mcp
    """
    context = build_context(config)

    async def work() -> int:
        async with open_servers(context, discard) as hub:
            with suppress(ServerError, SignInNeeded):  # a required server: raised after the table
                await hub.start_all()
            statuses = hub.status()
        disabled = [
            ServerStatus(
                name=name, transport=server.effective_transport, state="stopped", detail="disabled in the config"
            )
            for name, server in context.config.servers.items()
            if not server.enabled
        ]
        if output == "json":
            write_json([*statuses, *disabled])
        else:
            print_table(tables.server_table([*statuses, *disabled]))
        down = [s for s in statuses if s.state in {"failed", "login"} and context.config.servers[s.name].required]
        if down:
            message = f"required, and down: {', '.join(s.name for s in down)}"
            raise SignInNeeded(message) if all(s.state == "login" for s in down) else ServerError(message)
        return 0

    return run_async(work())


@app.command()
@with_options(config=config_file)
def show(config: Path | None, name: ServerArgument, output: TextOrJson = "text") -> int:
    """Start one server and show what it reports: protocol, capabilities, lists, instructions, timing."""
    context = build_context(config)
    require_server(context, name)
    context = restrict_to(context, name)

    async def work() -> int:
        async with open_servers(context, discard) as hub:
            with suppress(ServerError, SignInNeeded):  # raised by require_running
                await hub.start_all()
            require_running(hub)
            await hub.wait_for_lists()
            status, catalog = hub.status()[0], hub.catalogs()[name]
            server = context.config.servers[name]
            reach = server.url or " ".join([server.command or f"(bundled) {server.builtin}", *server.args])
            log = str(context.paths.state / "logs" / f"{name}.log")
            if output == "json":
                lists = {key: value for key, value in msgspec.to_builtins(catalog).items() if key != "info"}
                state = msgspec.to_builtins(status) | {"reach": reach, "log": log, "info": catalog.info}
                write_json({**state, **lists, "tools": [tool_to_json(spec) for spec in await hub.list_tools()]})
            else:
                print_table(
                    tables.server_details(status, catalog, endpoint=reach, tool_globs=_tool_globs(server), log=log)
                )
            sys.stdout.flush()
        return 0

    return run_async(work())


def _tool_globs(server: ServerConfig) -> str:
    excluded = f", without {', '.join(server.exclude)}" if server.exclude else ""
    return "" if server.tools == ("*",) and not excluded else f"{', '.join(server.tools)}{excluded}"


@app.command()
@with_options(config=config_file)
def logs(
    config: Path | None,
    name: ServerArgument,
    lines: Annotated[int, typer.Option("--lines", "-n", metavar="N", min=0, help="The last N lines; 0 is all.")] = 50,
) -> int:
    """Show what a server wrote to stderr and logged, over all its runs."""
    context = build_context(config)
    require_server(context, name, enabled=False)
    text = read_log(context.paths.state, name)
    shown = "".join(text.splitlines(keepends=True)[-lines:] if lines else [text])
    sys.stdout.write(sanitize(shown) if is_terminal(sys.stdout) else shown)
    if not text:
        sys.stderr.write(f"{name} has logged nothing\n")
    return 0


@app.command()
@with_options(config=config_file)
def add(
    config: Path | None,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Its name; or NAME=URL and the like, as for --mcp."),
    ],
    target: Annotated[
        list[str] | None,
        typer.Argument(metavar="[URL | -- COMMAND...]", help="Where it is, or what to start.", show_default=False),
    ] = None,
    builtin: Annotated[
        str | None,
        choice(
            "--builtin",
            of=tuple(BUILTIN_SERVERS),
            metavar="NAME",
            help=f"A server that comes with mcpchat: {', '.join(BUILTIN_SERVERS)}.",
        ),
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
    trust: Annotated[bool, typer.Option("--trust", help="Believe its marks: read-only tools run unasked.")] = False,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", metavar="TOOL", help="A tool or glob that never asks. Repeatable.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the server of this name.")] = False,
    no_check: Annotated[bool, typer.Option("--no-check", help="Neither look for the program nor start it.")] = False,
) -> int:
    """Add a server to the config file; its comments and order stay. Then start it once and say what it offers.

    Instead of a command or a URL, it takes the JSON of another client: an entry, or a table of them.

    Values of --env and --header may be references: env:NAME, keyring:NAME, "Bearer env:NAME".

    \b
      mcpchat servers add notes -- npx -y @modelcontextprotocol/server-filesystem ~/notes
      mcpchat servers add company https://mcp.example.com/mcp --header "Authorization=Bearer env:TOKEN"
      mcpchat servers add mail --builtin gmail --read-only
      mcpchat servers add company=https://mcp.example.com/mcp
      mcpchat servers add notes '{"command": "npx", "args": ["-y", "PACKAGE"]}'
    """
    if target or builtin is not None or SERVER_NAME.fullmatch(name):
        entries = {name: _parse_target(target or [], builtin, name)}
    else:
        found = parse_named_server(name)
        entries = {server.name: server.settings for server in found if not server.problem}
        for server in found:
            if server.problem:
                sys.stderr.write(f"{sanitize(f'{server.name} is left out: {server.problem}')}\n")
    for entry in entries.values() if not no_check else ():
        _check_program(entry, cwd)
    if missing := [one for one in folder or () if not expand_user(one).is_dir()]:
        raise UsageError(f"--folder {missing[0]}: there is no such folder")
    settings = (
        ("account", account),
        ("read_only", read_only),
        ("folders", [str(expand_user(one).absolute()) for one in folder or ()]),
        ("env", _pairs("--env", env)),
        ("env_pass", env_pass),
        ("cwd", cwd),
        ("headers", _pairs("--header", header)),
        ("trust", trust),
    )
    more = {key: value for key, value in settings if value}
    entries = {name: {**entry, **more} for name, entry in entries.items()}
    if is_terminal(sys.stdin, sys.stderr):
        entries = move_secrets(entries, StoredSecrets(default_paths(os.environ).state))
    path = _path(config)

    def write(text: str) -> str:
        for name, entry in entries.items():
            text = (edit.replace_server if replace else edit.add_server)(text, name, entry)
        allowed = [f"{name}.{tool.removeprefix(f'{name}.')}" for name in entries for tool in allow or ()]
        return edit.add_allowed(text, allowed)

    edit.update(path, write)
    sys.stderr.write("".join(f"{line}\n" for line in literal_secret_warnings(load_user_config(config))))
    provider = BUILTIN_SERVERS[builtin].provider if builtin else ""
    first = f"mcpchat auth login {provider} signs in, then " if provider else ""
    for name in entries:
        if no_check or provider:
            _report(path, f"added {name}; {first}mcpchat tools {name} asks what it offers")
        else:
            _report(path, f"added {name}")
            run_async(_try_server(config, name))
    return 0


def move_secrets(entries: Mapping[str, dict[str, Any]], store: StoredSecrets) -> dict[str, dict[str, Any]]:
    """The entries, whose secrets in plain text are references to the keyring if the user agrees."""
    found = list(iter_literal_secrets(entries))
    moved = {name: dict(entry) for name, entry in entries.items()}
    if not found:
        return moved
    names = ", ".join(f"{name}.{table}.{key}" for name, table, key in found)
    if not typer.confirm(f"keep {names} in the keyring, and not in the file?", default=True, err=True):
        return moved

    async def move() -> int:
        for name, table, key in found:
            moved[name] = await move_secret(moved[name], name, f"{table}.{key}", store)
        return 0

    try:
        run_async(move())
    except McpChatError as error:
        sys.stderr.write(f"warning: {error.message}; what was not moved stays in the file\n")
    return moved


async def _try_server(config: Path | None, name: str) -> int:
    """Start a new server once and say what it offers, or why it does not start. The entry stays in any case."""
    context = restrict_to(build_context(config, quiet=True), name)
    async with open_servers(context, discard) as hub:
        with suppress(ServerError, SignInNeeded):  # told below
            await hub.start_all()
        await hub.wait_for_lists()
        status, catalog = hub.status()[0], hub.catalogs().get(name)
    if status.state == "login":
        sys.stderr.write(f"it wants a sign-in: mcpchat auth login {name}\n")
    elif (error := status.error()) is not None or catalog is None:
        sys.stderr.write(f"warning: it does not start: {sanitize(error.message if error else 'unknown')}\n")
        sys.stderr.write(f"  mcpchat servers logs {name} shows more; mcpchat servers remove {name} removes it\n")
    else:
        sys.stderr.write(f"it offers {tables.describe_offers(catalog) or 'nothing'}; mcpchat tools {name} lists them\n")
    return 0


def _check_program(entry: Mapping[str, object], cwd: str | None) -> None:
    """Raise UsageError if the entry's program does not exist."""
    command = entry.get("command")
    if not isinstance(command, str):
        return
    if os.sep in command:
        if not (expand_user(cwd or ".") / expand_user(command)).exists():
            raise UsageError(f"there is no program {command}", hint="--no-check adds the server anyway")
        return
    if shutil.which(command):
        return
    words = command.split()
    if len(words) > 1 and shutil.which(words[0]):
        raise UsageError(f"{command!r} is one word", hint=f"without the quotes: mcpchat servers add NAME -- {command}")
    raise UsageError(f"there is no program {command!r} on PATH", hint="--no-check adds the server anyway")


@app.command()
@with_options(config=config_file)
def remove(config: Path | None, name: ServerArgument) -> int:
    """Remove a server from the config file."""
    path = _path(config)
    edit.update(path, lambda text: edit.remove_server(text, name))
    return _report(path, f"removed {name}")


@app.command()
@with_options(config=config_file)
def enable(config: Path | None, name: ServerArgument) -> int:
    """Enable a server."""
    path = _path(config)
    edit.update(path, lambda text: edit.enable_server(text, name, True))
    return _report(path, f"enabled {name}")


@app.command()
@with_options(config=config_file)
def disable(config: Path | None, name: ServerArgument) -> int:
    """Disable a server; its entry stays."""
    path = _path(config)
    edit.update(path, lambda text: edit.enable_server(text, name, False))
    return _report(path, f"disabled {name}")


def _parse_target(target: list[str], builtin: str | None, name: str) -> dict[str, Any]:
    """The entry's transport: exactly one of a URL, a command, another client's JSON and a bundled server's name."""
    if bool(target) == (builtin is not None):
        raise UsageError("expected one of URL, -- COMMAND... and --builtin NAME", hint="mcpchat servers add --help")
    if builtin is not None:
        return {"builtin": builtin}
    if target[0].lstrip().startswith(("{", '"')):
        return read_client_entry(" ".join(target), name)
    if len(target) == 1 and is_address(target[0]):
        return read_address(target[0])
    if "://" in target[0]:
        raise UsageError(f"{target[0]}: expected a URL that begins with https:// or http://, or -- COMMAND...")
    return {"command": target[0], "args": target[1:]} if target[1:] else {"command": target[0]}


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    split = [pair.partition("=") for pair in given or ()]
    if wrong := [key for key, equals, _ in split if not (key and equals)]:
        raise UsageError(f"{option} {wrong[0]}: expected NAME=VALUE")
    return {key: value for key, _, value in split}


def _path(config: Path | None) -> Path:
    return config or default_paths(os.environ).config


def _report(path: Path, done: str) -> int:
    sys.stderr.write(f"{path}: {done}\n")
    return 0
