"""What commands share that work on the servers: who is told of failures, and how a named server is found."""

import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from mcpchat.app.mcp import make_host, make_logins, open_hub
from mcpchat.auth.browser import browse
from mcpchat.cli.options import is_terminal
from mcpchat.config.run import Setup
from mcpchat.core.events import Emit, Event, Notice, ServerChanged
from mcpchat.core.protocols import Asker, Servers, SignInScreen
from mcpchat.core.tools import nearest
from mcpchat.engine.event_redaction import Discreet
from mcpchat.errors import ServerError, SignInNeeded, UsageError
from mcpchat.mcp.hub import McpHub
from mcpchat.ui.render import tool_lines
from mcpchat.util.sanitize import clean

if TYPE_CHECKING:
    from rich.table import Table


def tell(event: Event) -> None:
    """A server that is left out is said on stderr; nothing else of interest happens here."""
    if isinstance(event, ServerChanged) and event.state in {"failed", "login"}:
        sys.stderr.write(f"warning: {tool_lines.down(event)}\n")
    elif isinstance(event, Notice) and event.level == "warning":
        sys.stderr.write(f"warning: {clean(event.text)}\n")


def print_table(table: "Table") -> None:
    from rich.console import Console

    if is_terminal(sys.stdout):
        Console(highlight=False).print(table)
        return
    console = Console(width=10_000, highlight=False)  # piped, a line is a record: it is never wrapped
    with console.capture() as shown:
        console.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in shown.get().splitlines()))


def known_server(setup: Setup, name: str, *, on: bool = True) -> None:
    """Raise UsageError unless a server is named so, and switched on where that matters."""
    if name not in setup.config.servers:
        known = nearest_known(name, setup.config.servers)
        raise UsageError(f"no server is named {name!r}; {known}", hint="servers are tables in the config")
    if on and not setup.config.servers[name].enabled:
        raise UsageError(f"server {name!r} is switched off", hint=f"mcpchat servers enable {name}")


def only(setup: Setup, server: str) -> Setup:
    """The setup as if there were no other server, so that no other is started."""
    config = msgspec.structs.replace(setup.config, servers={server: setup.config.servers[server]})
    return replace(setup, config=config)


def check_up(hub: Servers) -> None:
    """Raise for the one server of this hub if it is down."""
    status = hub.status()[0]
    if status.state == "login":
        reason, *hint = status.detail.splitlines()
        raise SignInNeeded(reason, hint="\n".join(hint))
    if status.state == "failed":
        reason, *log = status.detail.splitlines()
        raise ServerError(f"{status.name} is down: {reason}", log=tuple(log))


def ignore(event: Event) -> None:
    """For one named server: its failure is the command's own error."""


def notices(event: Event) -> None:
    """For one call by hand: what is said about it goes to stderr."""
    if isinstance(event, Notice):
        sys.stderr.write(f"{'warning: ' if event.level == 'warning' else ''}{clean(event.text)}\n")


def nearest_known(name: str, known: Iterable[str]) -> str:
    """What was perhaps meant, or all that there is."""
    names = sorted(known)
    close = nearest(name, names)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(names[:50]) or 'none'}"


def person() -> tuple[Asker, SignInScreen]:
    """Who answers questions and signs in: the person at the terminal, or nobody."""
    from mcpchat.ui.prompts.sign_in import PlainScreen, TerminalScreen

    if is_terminal(sys.stdin, sys.stderr):
        from rich.console import Console

        from mcpchat.ui.prompts.dialog import TerminalAsker

        asker = TerminalAsker(Console(stderr=True, highlight=False), open_page=browse)
        return asker, TerminalScreen(sys.stderr, hold=asker.holding)
    from mcpchat.ui.render.plain import NobodyToAsk

    return NobodyToAsk(), PlainScreen(sys.stderr)


@asynccontextmanager
async def opened(
    setup: Setup, emit: Emit, *, yes: bool = False, refresh: bool = False, at: tuple[Asker, SignInScreen] | None = None
) -> AsyncIterator[McpHub]:
    """The servers, with whoever is there to ask."""
    asker, screen = at or person()
    emit = Discreet(emit, setup.secrets)
    host = make_host(setup, asker, emit, yes=yes)
    async with open_hub(setup, emit, host, logins=make_logins(setup, asker, screen), refresh=refresh) as hub:
        yield hub
