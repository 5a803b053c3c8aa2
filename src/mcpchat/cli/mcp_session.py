"""The servers, for commands that use them without a model."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec

from mcpchat.app.mcp import build_auth_service, build_request_handler, open_hub
from mcpchat.auth.browser import browse
from mcpchat.cli.output import is_terminal
from mcpchat.config.run import RunContext
from mcpchat.core.events import Emit, Event, Notice, ServerChanged
from mcpchat.core.protocols import SignInDialog, UserDialog
from mcpchat.engine.event_redaction import RedactingEmitter
from mcpchat.errors import UsageError
from mcpchat.mcp.hub import McpHub
from mcpchat.ui.prompts.sign_in import PlainSignIn, TerminalSignIn
from mcpchat.ui.render import tool_lines
from mcpchat.ui.render.plain import NonInteractiveDialog
from mcpchat.util.sanitize import sanitize_message
from mcpchat.util.text import suggest


def print_warnings(event: Event) -> None:
    """Write servers that are down, and warnings, to stderr."""
    if isinstance(event, ServerChanged) and event.state in {"failed", "login"}:
        sys.stderr.write(f"warning: {tool_lines.format_server_down(event)}\n")
    elif isinstance(event, Notice) and event.level == "warning":
        sys.stderr.write(f"warning: {sanitize_message(event.text)}\n")


def print_notices(event: Event) -> None:
    """Write notices and warnings to stderr."""
    if isinstance(event, Notice):
        sys.stderr.write(f"{'warning: ' if event.level == 'warning' else ''}{sanitize_message(event.text)}\n")


def discard(event: Event) -> None:
    """For a command about one server, whose failure is the command's own error."""


def require_server(context: RunContext, name: str, *, enabled: bool = True) -> None:
    """Raise UsageError unless the config has the server, and has it enabled if ``enabled``."""
    if name not in context.config.servers:
        raise UsageError(
            f"no server is named {name!r}; {suggest(name, sorted(context.config.servers))}",
            hint="servers are tables in the config: [servers.NAME]; mcpchat servers add writes one",
        )
    if enabled and not context.config.servers[name].enabled:
        raise UsageError(f"server {name!r} is disabled", hint=f"mcpchat servers enable {name}")


def restrict_to(context: RunContext, server: str) -> RunContext:
    """The context with this server alone, so that no other is started."""
    config = msgspec.structs.replace(context.config, servers={server: context.config.servers[server]})
    return replace(context, config=config)


def require_running(hub: McpHub) -> None:
    """Raise the error of the hub's only server if it is down."""
    if (error := hub.status()[0].error()) is not None:
        raise error


def terminal_user() -> tuple[UserDialog, SignInDialog]:
    """The dialogs with the user at the terminal; without a terminal, those that decline."""
    if not is_terminal(sys.stdin, sys.stderr):
        return NonInteractiveDialog(), PlainSignIn(sys.stderr)
    from rich.console import Console

    from mcpchat.ui.prompts.dialog import TerminalDialog

    asker = TerminalDialog(Console(stderr=True, highlight=False), open_page=browse)
    return asker, TerminalSignIn(sys.stderr, exclusive=asker.exclusive)


@asynccontextmanager
async def open_servers(
    context: RunContext,
    emit: Emit,
    *,
    yes: bool = False,
    refresh: bool = False,
    user: tuple[UserDialog, SignInDialog] | None = None,
) -> AsyncIterator[McpHub]:
    """Open the hub over the context's servers; they are stopped at the end."""
    asker, screen = user or terminal_user()
    emit = RedactingEmitter(emit, context.secrets)
    host = build_request_handler(context, asker, emit, yes=yes)
    async with open_hub(context, emit, host, auth=build_auth_service(context, asker, screen), refresh=refresh) as hub:
        yield hub
