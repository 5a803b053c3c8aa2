"""The servers of a run, and who answers what they ask."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from mcpchat.auth.service import Logins
from mcpchat.config.run import RunContext, sdk_import
from mcpchat.config.schema import AgentConfig
from mcpchat.core.events import Emit
from mcpchat.core.messages import Usage
from mcpchat.core.patterns import matches
from mcpchat.core.protocols import Asker, Host, ModelChoice, SignInScreen
from mcpchat.core.tools import ToolSpec
from mcpchat.engine.server_requests import AskingHost
from mcpchat.mcp.catalog_cache import SchemaCache
from mcpchat.mcp.connector import Dialler
from mcpchat.mcp.hub import McpHub
from mcpchat.mcp.limits import Budget
from mcpchat.mcp.protocols import Connector
from mcpchat.util import json_schema


def load_sdk() -> Connector:
    """The adapter that imports the mcp SDK."""
    with sdk_import():
        from mcpchat.mcp import connection

    return connection


@asynccontextmanager
async def open_hub(
    context: RunContext,
    emit: Emit,
    host: Host,
    *,
    logins: Logins,
    agent: AgentConfig | None = None,
    refresh: bool = False,
    watch: bool = False,
) -> AsyncIterator[McpHub]:
    """The configured servers, of which an agent may choose some; those that nothing is known of are starting.

    ``watch`` has them tell of their changes.
    """
    agent = agent or AgentConfig()
    dialler = Dialler(
        environ=context.environ,
        host=host,
        load_sdk=load_sdk,
        most_bytes=context.config.limits.max_message,
        credentials=logins,
        secrets=context.secrets,
        own_folders=(context.paths.config.parent, context.paths.state, context.paths.cache),
    )
    hub = McpHub(
        context.config.servers,
        chosen=agent.servers,
        dialler=dialler,
        credentials=logins,
        secrets=context.secrets,
        timeouts=context.config.timeouts,
        budget=Budget(
            tools=context.config.limits.max_tools,
            description=context.config.limits.max_description,
            schema=context.config.limits.max_schema,
        ),
        cache=SchemaCache(context.paths.cache / "servers"),
        logs=context.paths.state / "logs",
        emit=emit,
        visible=offered_to(agent),
        refresh=refresh,
        watch=watch,
    )
    try:
        await hub.spawn_unknown()
        yield hub
    finally:
        # To the end: a second Ctrl-C must not leave servers behind, nor lose a token that is on its way.
        closing = asyncio.create_task(hub.aclose())
        while not closing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({closing})
        await logins.settle()
        closing.result()


def offered_to(agent: AgentConfig) -> Callable[[ToolSpec], bool]:
    """Whether the agent's globs let a tool through."""
    return lambda spec: any(matches(glob, spec.label) for glob in agent.tools)


def make_logins(context: RunContext, asker: Asker, screen: SignInScreen, *, in_chat: bool = False) -> Logins:
    """The logins of a run; whoever answers questions is asked before a server has anybody sign in."""
    return Logins(context, screen, agree=asker.confirm, in_chat=in_chat)


def make_host(
    context: RunContext,
    asker: Asker,
    emit: Emit,
    *,
    yes: bool = False,
    model: Callable[[], ModelChoice | None] = lambda: None,
    charge: Callable[[Usage], None] = lambda usage: None,
) -> Host:
    """Who answers what servers ask: the asker, and the model where there is one."""
    return AskingHost(
        asker,
        emit=emit,
        check=json_schema.problem,
        model=model,
        charge=charge,
        yes=yes,
        clean=context.secrets.redact_value,
    )
