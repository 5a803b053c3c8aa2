"""The servers of a run, and who answers what they ask."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from mcpchat.auth.service import AuthService
from mcpchat.config.run import RunContext, sdk_import
from mcpchat.config.schema import AgentConfig
from mcpchat.core.events import Emit
from mcpchat.core.messages import Usage
from mcpchat.core.patterns import glob_matches
from mcpchat.core.protocols import SelectedModel, ServerRequests, SignInDialog, UserDialog
from mcpchat.core.tools import ToolSpec
from mcpchat.engine.server_requests import ServerRequestHandler
from mcpchat.mcp.catalog_cache import CatalogCache
from mcpchat.mcp.connector import ServerConnector
from mcpchat.mcp.hub import McpHub
from mcpchat.mcp.limits import ToolLimits
from mcpchat.mcp.protocols import SdkModule
from mcpchat.util import json_schema


def load_sdk() -> SdkModule:
    """The adapter that imports the mcp SDK."""
    with sdk_import():
        from mcpchat.mcp import connection

    return connection


@asynccontextmanager
async def open_hub(
    context: RunContext,
    emit: Emit,
    host: ServerRequests,
    *,
    auth: AuthService,
    agent: AgentConfig | None = None,
    refresh: bool = False,
    watch: bool = False,
) -> AsyncIterator[McpHub]:
    """The configured servers, of which an agent may choose some; those that nothing is known of are starting.

    ``watch`` has them tell of their changes.
    """
    agent = agent or AgentConfig()
    connector = ServerConnector(
        environ=context.environ,
        request_handler=host,
        load_sdk=load_sdk,
        max_message_bytes=context.config.limits.max_message,
        credentials=auth,
        secrets=context.secrets,
        protected_directories=(context.paths.config.parent, context.paths.state, context.paths.cache),
    )
    hub = McpHub(
        context.config.servers,
        server_names=agent.servers,
        connector=connector,
        credentials=auth,
        secrets=context.secrets,
        timeouts=context.config.timeouts,
        tool_limits=ToolLimits(
            max_tools=context.config.limits.max_tools,
            max_description=context.config.limits.max_description,
            max_schema=context.config.limits.max_schema,
        ),
        cache=CatalogCache(context.paths.cache / "servers"),
        log_directory=context.paths.state / "logs",
        emit=emit,
        is_visible=tool_filter(agent),
        ignore_cache=refresh,
        watch=watch,
    )
    try:
        await hub.prestart_uncached()
        yield hub
    finally:
        # To the end: a second Ctrl-C must not leave servers behind, nor lose a token that is on its way.
        closing = asyncio.create_task(hub.aclose())
        while not closing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({closing})
        await auth.wait_for_pending()
        closing.result()


def tool_filter(agent: AgentConfig) -> Callable[[ToolSpec], bool]:
    """Whether the agent's globs let a tool through."""
    return lambda spec: any(glob_matches(glob, spec.qualified_name) for glob in agent.tools)


def build_auth_service(
    context: RunContext, asker: UserDialog, screen: SignInDialog, *, in_chat: bool = False
) -> AuthService:
    """The logins of a run; whoever answers questions is asked before a server has anybody sign in."""
    return AuthService(context, screen, confirm=asker.confirm, in_chat=in_chat)


def build_request_handler(
    context: RunContext,
    asker: UserDialog,
    emit: Emit,
    *,
    yes: bool = False,
    model: Callable[[], SelectedModel | None] = lambda: None,
    add_usage: Callable[[Usage], None] = lambda usage: None,
) -> ServerRequests:
    """Who answers what servers ask: the asker, and the model where there is one."""
    return ServerRequestHandler(
        asker,
        emit=emit,
        check=json_schema.find_error,
        model=model,
        add_usage=add_usage,
        yes=yes,
        redact=context.secrets.redact_value,
    )
