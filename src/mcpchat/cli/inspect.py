"""tools, servers and call: what the servers offer, how they are, and one tool by hand."""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from mcpchat.app import Setup, Wishes, make_policy, open_hub
from mcpchat.cli.common import is_terminal
from mcpchat.core.errors import Denied, ServerError, SignInNeeded, ToolFailed, UsageError
from mcpchat.core.events import Event, ServerChanged
from mcpchat.core.gate import Gate
from mcpchat.core.messages import ToolCall, ToolResult, result_text
from mcpchat.core.ports import Asker, Servers, ServerStatus, Toolbox
from mcpchat.core.sanitize import clean
from mcpchat.core.tools import (
    BadArguments,
    ToolSpec,
    explain_arguments,
    missing_arguments,
    nearest,
    openai_function,
    parse_arguments,
    typed_arguments,
)
from mcpchat.ui import tool_lines

if TYPE_CHECKING:
    from rich.table import Table

FORMATS = ("text", "json")
TOOL_FORMATS = ("table", "json", "openai")


def _tell(event: Event) -> None:
    """A server that is left out is said on stderr; nothing else of interest happens here."""
    if isinstance(event, ServerChanged) and event.state in {"failed", "login"}:
        sys.stderr.write(f"warning: {tool_lines.down(event)}\n")


def _write_json(value: object) -> None:
    sys.stdout.write(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False) + "\n")


def _print_table(table: "Table") -> None:
    from rich.console import Console

    # Piped, a line is a record: it is never wrapped.
    Console(width=None if is_terminal(sys.stdout) else 10_000, highlight=False).print(table)


def _known_server(setup: Setup, name: str) -> None:
    if name not in setup.config.servers:
        close = nearest(name, setup.config.servers)
        known = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(setup.config.servers) or 'none'}"
        raise UsageError(f"no server is named {name!r}; {known}", hint="servers are tables in the config")
    if not setup.config.servers[name].enabled:
        raise UsageError(f"server {name!r} is switched off", hint="set enabled = true in the config")


def _only(setup: Setup, server: str) -> Setup:
    """The setup as if there were no other server, so that no other is started."""
    config = msgspec.structs.replace(setup.config, servers={server: setup.config.servers[server]})
    return Setup(config=config, environ=setup.environ, paths=setup.paths)


def _check_up(hub: Servers) -> None:
    """Raise for the one server of this hub if it is down."""
    status = hub.status()[0]
    if status.state == "login":
        raise SignInNeeded(f"{status.name}: {status.detail}", hint="set its headers in the config")
    if status.state == "failed":
        reason, *log = status.detail.splitlines()
        raise ServerError(f"{status.name} is down: {reason}", log=tuple(log))


async def tools(setup: Setup, server: str | None, form: str, *, refresh: bool) -> int:
    if server is not None:
        _known_server(setup, server)
        setup = _only(setup, server)
    async with open_hub(setup, _tell if server is None else _ignore, refresh=refresh) as hub:
        specs = await hub.tools()
        if server is not None:
            _check_up(hub)
        _show_tools(specs, form)  # before the servers are stopped: nobody waits for that
    return 0


def _show_tools(specs: Sequence[ToolSpec], form: str) -> None:
    if form == "openai":
        _write_json([openai_function(spec) for spec in specs])
    elif form == "json":
        _write_json([_described(spec) for spec in specs])
    elif specs:
        from mcpchat.ui import tables

        _print_table(tables.tools(specs))
    else:
        sys.stderr.write("no tools\n")
    sys.stdout.flush()


def _ignore(event: Event) -> None:
    """For one named server: its failure is the command's own error."""


def _described(spec: ToolSpec) -> dict[str, Any]:
    return {"tool": spec.label, "exposed": spec.exposed, **msgspec.to_builtins(spec)}


async def servers(setup: Setup, output: str) -> int:
    async with open_hub(setup, _ignore) as hub:
        with suppress(ServerError, SignInNeeded):  # a required server: told below, after the table
            await hub.start_all()
        statuses = hub.status()
    off = [
        ServerStatus(name=name, transport=server.transport, state="stopped", detail="switched off in the config")
        for name, server in setup.config.servers.items()
        if not server.enabled
    ]
    if output == "json":
        _write_json([*statuses, *off])
    else:
        from mcpchat.ui import tables

        _print_table(tables.servers([*statuses, *off]))
    down = [s for s in statuses if s.state in {"failed", "login"} and setup.config.servers[s.name].required]
    if down:
        named = f"required, and down: {', '.join(s.name for s in down)}"
        raise SignInNeeded(named) if all(s.state == "login" for s in down) else ServerError(named)
    return 0


async def call(
    setup: Setup, wishes: Wishes, tool: str, pairs: Sequence[str], arguments: str | None, output: str
) -> int:
    """Run one tool under the same policy as chat. Raises Denied, ToolFailed, ServerError."""
    server, _, name = tool.partition(".")
    if not name:
        raise UsageError(f"{tool!r} does not name a tool", hint="write SERVER.TOOL; mcpchat tools lists them")
    _known_server(setup, server)
    async with open_hub(_only(setup, server), _ignore) as hub:
        spec = await _find(hub, hub, tool)
        given = _arguments(spec, pairs, arguments)
        made = ToolCall(id="call", name=spec.exposed, arguments=json.dumps(given, ensure_ascii=False))
        decision = await Gate(make_policy(setup.config, wishes), _asker()).decide(spec, made)
        if not decision.allowed:
            raise Denied(f"{spec.label} was not run: {decision.reason or 'you said no'}")
        result = await hub.call(spec, made.id, given, _progress)
        _show_result(result, output)  # before the server is stopped: nobody waits for that
    if result.is_error:
        failed = ToolFailed(f"{spec.label} reported an error")
        failed.answered = output == "json"
        raise failed
    return 0


def _show_result(result: ToolResult, output: str) -> None:
    if output == "json":
        _write_json(result)
    else:
        stream = sys.stderr if result.is_error else sys.stdout
        text = clean(result_text(result)) if is_terminal(stream) else result_text(result)
        stream.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()


def _progress(event: Event) -> None:
    """Progress of a call by hand is not shown: its result is what is wanted."""


def _asker() -> Asker:
    if is_terminal(sys.stdin, sys.stderr):
        from rich.console import Console

        from mcpchat.ui.console import TerminalAsker

        return TerminalAsker(Console(stderr=True, highlight=False), None)
    from mcpchat.ui.plain import NobodyToAsk

    return NobodyToAsk()


async def _find(toolbox: Toolbox, servers: Servers, label: str) -> ToolSpec:
    """The tool by its name; a name that the kept list does not know is asked of the server itself."""
    by_label = {spec.label: spec for spec in await toolbox.tools()}
    _check_up(servers)
    if label not in by_label and servers.status()[0].state == "idle":
        by_label = {spec.label: spec for spec in await servers.refresh()}
        _check_up(servers)
    if label in by_label:
        return by_label[label]
    close = nearest(label, by_label)
    known = f"did you mean {close[0]}?" if close else f"it has: {', '.join(sorted(by_label)) or 'none'}"
    raise UsageError(f"no tool {label}; {known}")


def _arguments(spec: ToolSpec, pairs: Sequence[str], given: str | None) -> Mapping[str, Any]:
    split = [pair.partition("=") for pair in pairs]
    wrong = [key for key, equals, _ in split if not equals or not key]
    if wrong:
        raise UsageError(f"{wrong[0]!r} is not KEY=VALUE", hint=f"{spec.label}: {explain_arguments(spec)}")
    try:
        base = parse_arguments(given or "")
        arguments = base | typed_arguments([(key, value) for key, _, value in split], spec.schema)
    except BadArguments as error:
        raise UsageError(str(error), hint=f"{spec.label}: {explain_arguments(spec)}") from error
    if lacking := missing_arguments(spec, arguments):
        raise UsageError(lacking, hint=f"{spec.label}: {explain_arguments(spec)}")
    return arguments
