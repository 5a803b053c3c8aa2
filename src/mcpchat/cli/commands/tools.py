"""tools and servers: what the servers offer, how they are, what they say of themselves and log."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from mcpchat.cli.mcp_session import check_up, ignore, known_server, only, opened, print_table, tell
from mcpchat.cli.options import is_terminal, write_json
from mcpchat.config.run import Setup
from mcpchat.config.schema import ServerConfig
from mcpchat.core.protocols import ServerStatus
from mcpchat.core.tools import ToolSpec, openai_function
from mcpchat.errors import ServerError, SignInNeeded
from mcpchat.models.selection import Models
from mcpchat.permissions.factory import pinned
from mcpchat.util.sanitize import clean

FORMATS = ("text", "json")
TOOL_FORMATS = ("table", "json", "openai")


async def tools(setup: Setup, server: str | None, form: str, *, refresh: bool) -> int:
    if server is not None:
        known_server(setup, server)
        setup = only(setup, server)
    told = tell if server is None else ignore
    async with opened(setup, told, refresh=refresh) as hub:
        specs = await hub.tools()
        if server is not None:
            check_up(hub)
        from mcpchat.ui.render.plain import NobodyToAsk

        await pinned(setup, hub, NobodyToAsk(), tell).tools()  # what of them is withheld is said
        _show_tools(specs, form)  # before the servers are stopped: nobody waits for that
    return 0


def _show_tools(specs: Sequence[ToolSpec], form: str) -> None:
    if form == "openai":
        write_json([openai_function(spec) for spec in specs])
    elif form == "json":
        write_json([_described(spec) for spec in specs])
    elif specs:
        from mcpchat.ui.render import tables

        print_table(tables.tools(specs))
    else:
        sys.stderr.write("no tools\n")
    sys.stdout.flush()


def _described(spec: ToolSpec) -> dict[str, Any]:
    told = msgspec.to_builtins(spec)
    del told["origin"]
    return {"tool": spec.label, "exposed": spec.exposed, **told}


async def models(setup: Setup, table: str | None, output: str) -> int:
    """List models. Raises UsageError, NoModel, ModelError; what the config names is shown all the same."""
    rows, problem = await Models(setup).listed(table)
    if output == "json":
        write_json(rows)
    else:
        from mcpchat.ui.render import tables

        print_table(tables.models([(row.model, row.at, row.window, row.note) for row in rows]))
    sys.stdout.flush()
    if problem is not None:
        problem.answered = output == "json"
        raise problem
    return 0


async def servers(setup: Setup, output: str) -> int:
    async with opened(setup, ignore) as hub:
        with suppress(ServerError, SignInNeeded):  # a required server: told below, after the table
            await hub.start_all()
        statuses = hub.status()
    off = [
        ServerStatus(name=name, transport=server.reached_by, state="stopped", detail="switched off in the config")
        for name, server in setup.config.servers.items()
        if not server.enabled
    ]
    if output == "json":
        write_json([*statuses, *off])
    else:
        from mcpchat.ui.render import tables

        print_table(tables.servers([*statuses, *off]))
    down = [s for s in statuses if s.state in {"failed", "login"} and setup.config.servers[s.name].required]
    if down:
        named = f"required, and down: {', '.join(s.name for s in down)}"
        raise SignInNeeded(named) if all(s.state == "login" for s in down) else ServerError(named)
    return 0


async def show(setup: Setup, name: str, output: str) -> int:
    """Start one server and tell all that it says of itself. Raises ServerError, SignInNeeded."""
    known_server(setup, name)
    async with opened(only(setup, name), ignore) as hub:
        with suppress(ServerError, SignInNeeded):  # told by check_up
            await hub.start_all()
        check_up(hub)
        status, catalog = hub.status()[0], hub.catalogs()[name]
        config = setup.config.servers[name]
        reach = config.url or " ".join([config.command or f"(bundled) {config.builtin}", *config.args])
        log = str(setup.paths.state / "logs" / f"{name}.log")
        if output == "json":
            rest = {key: value for key, value in msgspec.to_builtins(catalog).items() if key != "info"}
            told = msgspec.to_builtins(status) | {"reach": reach, "log": log, "info": catalog.info} | rest
            write_json({**told, "tools": [_described(spec) for spec in await hub.tools()]})
        else:
            from mcpchat.ui.render import tables

            print_table(tables.server(status, catalog, reach=reach, globs=_globs(config), log=log))
        sys.stdout.flush()
    return 0


def _globs(config: ServerConfig) -> str:
    left_out = f", without {', '.join(config.exclude)}" if config.exclude else ""
    return "" if config.tools == ("*",) and not left_out else f"{', '.join(config.tools)}{left_out}"


def logs(setup: Setup, name: str, lines: int) -> int:
    """The end of the server's log file. Raises UsageError for a server that there is none of."""
    from mcpchat.mcp.server_log import read_log

    known_server(setup, name, on=False)
    text = read_log(setup.paths.state, name)
    shown = "".join(text.splitlines(keepends=True)[-lines:] if lines else [text])
    sys.stdout.write(clean(shown) if is_terminal(sys.stdout) else shown)
    if not text:
        sys.stderr.write(f"{name} has logged nothing\n")
    return 0
