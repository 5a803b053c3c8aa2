"""Builds the parts of a run that deal with MCP servers: the hub, authentication, and the handler of their requests."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from pathlib import Path

from mcpchat.app.server_tasks import task_saver
from mcpchat.app.tracing import load_tracing
from mcpchat.auth.service import AuthService
from mcpchat.config.project_file import verify_programs
from mcpchat.config.run import RunContext, default_paths, sdk_import
from mcpchat.config.schema import AgentConfig
from mcpchat.core.events import Emit, Notice
from mcpchat.core.messages import Usage
from mcpchat.core.patterns import glob_matches
from mcpchat.core.protocols import Embedder, SelectedModel, ServerRequests, SignInDialog, UserDialog
from mcpchat.core.server_task import TaskEnded
from mcpchat.core.tools import ToolSpec
from mcpchat.engine.server_requests import ServerRequestHandler
from mcpchat.engine.tool_search import ToolIndex
from mcpchat.errors import StoreError
from mcpchat.mcp.catalog_cache import CatalogCache
from mcpchat.mcp.connector import SdkModule, ServerConnector
from mcpchat.mcp.embedding_index import EmbeddingToolIndex
from mcpchat.mcp.hub import McpHub
from mcpchat.mcp.kept_servers import keeper_folder
from mcpchat.mcp.kept_sessions import session_folder
from mcpchat.mcp.limits import ToolLimits
from mcpchat.mcp.managed_server import HubContext, forget_task
from mcpchat.mcp.tool_index import SqliteToolIndex
from mcpchat.models.selection import ModelSelector
from mcpchat.util import json_schema
from mcpchat.util.paths import expand_user
from mcpchat.util.private_files import ensure_private_directory
from mcpchat.warm.request import find_folder


def load_sdk() -> SdkModule:
    """Import and return the module that uses the mcp SDK."""
    with sdk_import():
        from mcpchat.mcp import connection

    return connection


_TOP_LEVEL = 2  # parts of a path such as /etc, which cannot be hidden
_BUS_PATH = re.compile(r"unix:path=([^,;]+)")
_CLIENT_FILE_VARIABLE = re.compile(r"MCPCHAT_\w+_CLIENT_SECRETS_FILE")


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
    save: bool = True,
    on_task_ended: Callable[[TaskEnded], None] | None = None,
) -> AsyncIterator[McpHub]:
    """Open a hub for the configured servers, or those of the agent, and close it at the end.

    Servers without a cached catalog are started in the background; ``refresh`` ignores the cache. ``watch`` is for a
    chat: servers report changes of their lists, and the user signs in with ``login``. With ``save``, the tasks that
    servers run are remembered, if the config saves threads. ``on_task_ended`` receives the results of those that were
    put aside.
    """
    tracing = load_tracing(context)
    agent, servers = agent or AgentConfig(), context.config.servers
    own_folder = context.paths.config.absolute().parent
    connector = ServerConnector(
        environ=context.environ,
        request_handler=host,
        load_sdk=load_sdk,
        max_message_bytes=context.config.limits.max_message,
        secrets=context.secrets,
        # A chat may get a server with a sandbox later.
        protected_paths=_protected_paths(context) if watch or any(item.sandbox for item in servers.values()) else (),
        keeper_folder=keeper_folder(context.environ, context.paths.state),
        session_folder=session_folder(context.paths.state),
        check_program=lambda config: verify_programs(config, context.paths),
        # Another folder that --config names may have programs too: it is hidden unless granted, the file always.
        hidden_directories=[own_folder] if len(own_folder.parts) > _TOP_LEVEL else [],
    )
    limits = context.config.limits
    hub = McpHub(
        context.config.servers,
        HubContext(
            connector=connector,
            credentials=auth,
            timeouts=context.config.timeouts,
            tool_limits=ToolLimits(max_description=limits.max_description, max_schema=limits.max_schema),
            cache=CatalogCache(context.paths.cache / "servers"),
            log_directory=context.paths.state / "logs",
            emit=emit,
            watch=watch,
            on_task_ended=on_task_ended,
            save_task=task_saver(context, emit) if save and context.config.threads.save else forget_task,
        ),
        server_names=agent.servers,
        is_visible=tool_filter(agent),
        ignore_cache=refresh,
    )
    try:
        await hub.prestart_uncached()
        yield hub
    finally:
        # Finish closing even after a second Ctrl-C: servers must not stay running, nor a new token be lost.
        closing = asyncio.create_task(hub.aclose())
        while not closing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({closing})
        await auth.wait_for_pending()
        if tracing is not None and (problem := await asyncio.to_thread(tracing.flush)):
            emit(Notice(level="warning", text=problem))
        closing.result()


def _protected_paths(context: RunContext) -> list[Path]:
    """The folders and files that no sandboxed server may see.

    These are mcpchat's own, what has a client's secret, and the sockets of the user's session, such as the keyring's.
    """
    paths, config, environ = context.paths, context.paths.config.absolute(), context.environ
    usual = default_paths({name: value for name, value in environ.items() if name != "MCPCHAT_CONFIG"})
    folders = [usual.config.parent, paths.state, paths.cache, paths.data, keeper_folder(environ, paths.state)]
    if warm_folder := find_folder(environ):
        folders.append(Path(warm_folder))
    for folder in folders:
        with suppress(StoreError):
            ensure_private_directory(folder)  # a sandbox cannot hide what does not exist, and a server could make it
    files = [provider.client_secrets_file for provider in context.config.auth.entries.values()]
    files += [value for name, value in environ.items() if _CLIENT_FILE_VARIABLE.fullmatch(name)]
    files += [environ.get("SSH_AUTH_SOCK"), *_BUS_PATH.findall(environ.get("DBUS_SESSION_BUS_ADDRESS", ""))]
    if len(Path(runtime := environ.get("XDG_RUNTIME_DIR", "")).parts) > _TOP_LEVEL:
        files.append(runtime)
    named = [expand_user(name).absolute() for name in files if name]
    return [*folders, config, *named]


def tool_filter(agent: AgentConfig) -> Callable[[ToolSpec], bool]:
    """Return a predicate: whether the agent's globs match a tool."""
    if "*" in agent.tools:
        return lambda spec: True
    return lambda spec: any(glob_matches(glob, spec.qualified_name) for glob in agent.tools)


def build_auth_service(
    context: RunContext, asker: UserDialog, screen: SignInDialog, *, in_chat: bool = False
) -> AuthService:
    """Build the authentication of a run. The user is asked to confirm before a server starts a sign-in."""
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
    """Build the handler of server requests: ``asker`` answers elicitations, ``model`` answers sampling if it is set."""
    return ServerRequestHandler(
        asker,
        emit=emit,
        check=json_schema.find_error,
        model=model,
        add_usage=add_usage,
        yes=yes,
        redact=context.secrets.redact_value,
    )


def tool_index(context: RunContext, emit: Emit) -> ToolIndex:
    """The index of tools, beside the cached catalogs; with a model of embeddings, if the config names one."""
    folder, name = context.paths.cache / "servers", context.config.tool_search_embeddings
    index = _open_index(folder)
    if not name:
        return index
    return EmbeddingToolIndex(index, folder, lambda: _open_embedder(context, name), emit)


@asynccontextmanager
async def _open_embedder(context: RunContext, name: str) -> AsyncIterator[Embedder]:
    selector = ModelSelector(context)
    try:
        yield await selector.select_embedder(name)
    finally:
        await selector.aclose()


@lru_cache(maxsize=8)
def _open_index(folder: Path) -> SqliteToolIndex:
    """One index for all sessions of a process."""
    return SqliteToolIndex(folder)
