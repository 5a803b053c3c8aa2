"""mcpchat servers: their state; add, remove, enable and disable them."""

import os
import shlex
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from mcpchat.app.server_entries import check_program
from mcpchat.cli.lazy_group import CommandGroup
from mcpchat.cli.mcp_session import discard, open_servers, require_running, require_server, restrict_to
from mcpchat.cli.options import TextOrJson, choice, config_file, with_options
from mcpchat.cli.output import is_terminal, print_table, tool_to_json, write_json
from mcpchat.cli.registry_install import InstallChoices, search_servers
from mcpchat.cli.runtime import build_context, literal_secret_warnings, load_user_config, run_async
from mcpchat.cli.server_entries import move_secrets, read_entries
from mcpchat.config import edit
from mcpchat.config.builtin_servers import BUILTIN_SERVERS
from mcpchat.config.run import RunContext, default_paths
from mcpchat.config.schema import ServerConfig
from mcpchat.config.stored_secrets import StoredSecrets
from mcpchat.config.validation import semantic_problems
from mcpchat.core.accounts import format_duration
from mcpchat.core.catalog import describe_offers
from mcpchat.core.protocols import ServerStatus
from mcpchat.errors import McpChatError, ServerError, SignInNeeded, UsageError
from mcpchat.mcp.kept_servers import KeptServer, keeper_folder, list_kept, stop_kept
from mcpchat.mcp.kept_sessions import forget_session, list_sessions, session_folder
from mcpchat.mcp.server_log import read_log
from mcpchat.registry.options import KINDS
from mcpchat.ui.render import tables
from mcpchat.ui.render.registry import found_table
from mcpchat.util.paths import expand_user
from mcpchat.util.sanitize import one_line, sanitize, sanitize_message

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
        kept = [server for _, server in _list_all_kept(context)]
        disabled = [
            ServerStatus(
                name=name, transport=server.effective_transport, state="stopped", detail="disabled in the config"
            )
            for name, server in context.config.servers.items()
            if not server.enabled
        ]
        if output == "json":
            kept_by_name = {server.name: server for server in kept}
            write_json([
                msgspec.to_builtins(status) | {"kept": msgspec.to_builtins(kept_by_name.get(status.name))}
                for status in (*statuses, *disabled)
            ])  # fmt: skip
        else:
            print_table(tables.server_table([*statuses, *disabled]))
            for server in kept:
                sys.stdout.write(f"{format_kept(server)}\n")
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
def search(
    config: Path | None,
    words: Annotated[list[str] | None, typer.Argument(metavar="WORDS...", help="What it is about.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="At most N servers.")] = 20,
    output: TextOrJson = "text",
) -> int:
    """Search the MCP registry, and the known remote servers; without words, list the known ones.

    \b
      mcpchat servers search weather
      mcpchat servers add io.github.OWNER/NAME     shows the exact command and its source, then asks
      mcpchat servers add notion
    """
    return run_async(_search(build_context(config), " ".join(words or ()), limit, output))


async def _search(context: RunContext, words: str, limit: int, output: str) -> int:
    found, error = await search_servers(context, words, limit)
    if output == "json":
        write_json(found)
    elif found:
        print_table(found_table(found))
    sys.stdout.flush()
    if error is not None:
        if not found:
            raise error
        sys.stderr.write(f"warning: {sanitize_message(error.message)}; these are the known servers\n")
    elif not found:
        sys.stderr.write("no server was found; the registry compares the names of servers\n")
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
    kind: Annotated[
        str | None,
        choice("--as", of=KINDS, metavar="KIND", help="Of a server of the registry: remote, npm, pypi, oci or nuget."),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=VALUE", help="A value that its publisher asks for. Repeatable."),
    ] = None,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Hide your files from a package of the registry (Linux, bubblewrap).")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Add a server of the registry without asking.")] = False,
) -> int:
    """Add a server to the config file; its comments and order stay. Then start it once and say what it offers.

    Instead of a command or a URL, it takes the JSON of another client: an entry, or a table of them; the name of a
    server in the MCP registry, with @VERSION if not the latest; or that of a known server: mcpchat servers search.

    Values of --env and --header may be references: env:NAME, keyring:NAME, "Bearer env:NAME".

    \b
      mcpchat servers add notes -- npx -y @modelcontextprotocol/server-filesystem ~/notes
      mcpchat servers add company https://mcp.example.com/mcp --header "Authorization=Bearer env:TOKEN"
      mcpchat servers add mail --builtin gmail --read-only
      mcpchat servers add company=https://mcp.example.com/mcp
      mcpchat servers add notes '{"command": "npx", "args": ["-y", "PACKAGE"]}'
      mcpchat servers add io.github.OWNER/NAME --input TOKEN=keyring:mine
    """
    path, asked = _path(config), name

    def check_name(name: str) -> None:
        text = edit.current_text(path)
        if not replace and edit.has_server(text, name):
            what = " ".join(target) if target else asked
            hint = f"choose another: mcpchat servers add OTHER {shlex.quote(what)}, or --replace"
            raise UsageError(f"there is a server named {name!r} already", hint=hint)
        for _, problem in semantic_problems({"servers": {name: {"command": name}}}):
            raise UsageError(f"{name}: {problem}", hint="choose a name: mcpchat servers add NAME REGISTRY-NAME")

    choices = InstallChoices(
        kind=kind, values=_pairs("--input", given), sandbox=sandbox, yes=yes, check_name=check_name
    )
    entries = read_entries(name, target or [], builtin, lambda: build_context(config, quiet=True), choices)
    for entry in entries.values() if not no_check else ():
        check_program(entry, cwd, hint="--no-check adds the server anyway")
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
        sys.stderr.write(f"  {sanitize(error.hint)}\n" if error and error.hint else "")
        sys.stderr.write(f"  mcpchat servers logs {name} shows more; mcpchat servers remove {name} removes it\n")
    else:
        sys.stderr.write(f"it offers {describe_offers(catalog) or 'nothing'}; mcpchat tools {name} lists them\n")
    return 0


@app.command()
@with_options(config=config_file)
def remove(config: Path | None, name: ServerArgument) -> int:
    """Remove a server from the config file."""
    path = _path(config)
    edit.update(path, lambda text: edit.remove_server(text, name))
    return _report(path, f"removed {name}")


@app.command()
@with_options(config=config_file)
def stop(
    config: Path | None,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The server.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every kept server.")] = False,
) -> int:
    """Stop a server that was kept after a command (keep = "10m"); without a name, list them.

    Of a remote server, only the session ends.
    """
    context = build_context(config, quiet=True)
    kept = _list_all_kept(context)
    if name is None and not everything:
        sys.stdout.write("".join(f"{format_kept(server)}\n" for _, server in kept))
        if not kept:
            sys.stderr.write("no server is kept\n")
        return 0
    chosen = [(path, server) for path, server in kept if everything or server.name == name]
    if not chosen and name is not None:
        raise UsageError(f"{name} is not kept", hint="mcpchat servers stop lists those that are")

    async def work() -> int:
        for path, server in chosen:
            if server.pid is None:
                await _end_session(context, server.name)
                forget_session(path)
            else:
                stop_kept(path)
            sys.stderr.write(f"stopped {server.name}\n")
        return 0

    return run_async(work())


def _list_all_kept(context: RunContext) -> list[tuple[Path, KeptServer]]:
    """The kept servers with their sockets, and the kept sessions with their files."""
    folder = keeper_folder(context.environ, context.paths.state)
    return [*list_kept(folder), *list_sessions(session_folder(context.paths.state))]


async def _end_session(context: RunContext, name: str) -> None:
    """Tell a remote server that its session has ended, if the config still has the server and it needs no sign-in."""
    if name in context.config.servers:
        async with open_servers(context, discard) as hub:
            with suppress(McpChatError):
                await hub.end_session(name)


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


def format_kept(server: KeptServer) -> str:
    """One line about a kept server."""
    age, idle = (format_duration(seconds) for seconds in (time.time() - server.since, server.idle))
    clients = f", {server.clients} connected" if server.clients else ""
    return one_line(f"{server.name} is kept for {age}, in {server.folder}, until it is idle for {idle}{clients}", 400)


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
