"""All configured servers as one toolbox. Servers start in parallel, and only when needed."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mcpchat.config.schema import ServerConfig
from mcpchat.core.catalog import Catalog, Prompt, ResourceTemplate
from mcpchat.core.events import Emit
from mcpchat.core.messages import Content, Message, ToolResult
from mcpchat.core.protocols import ServerStatus
from mcpchat.core.server_task import ServerTask
from mcpchat.core.tools import ToolSpec, drop_null_arguments
from mcpchat.errors import McpChatError, SignInNeeded
from mcpchat.mcp.managed_server import MAX_PARALLEL_STARTS, MAX_SIGN_INS, HubContext, ManagedServer
from mcpchat.mcp.server_tasks import ServerTasks
from mcpchat.util import json_schema

ToolFilter = Callable[[ToolSpec], bool]


class HubView:
    """A Toolbox and ServerDirectory over some of a hub's servers and tools.

    ``server_names`` selects the servers, None selects all; ``is_visible`` selects their tools.
    """

    def __init__(
        self,
        context: HubContext,
        servers: Mapping[str, ManagedServer],
        server_names: Sequence[str] | None,
        is_visible: ToolFilter,
    ) -> None:
        self._context = context
        self._servers = servers
        self._select(server_names, is_visible)

    def _select(self, server_names: Sequence[str] | None, is_visible: ToolFilter) -> None:
        self._server_names = server_names
        self._selected = {
            name: server for name, server in self._servers.items() if server_names is None or name in server_names
        }
        self._is_visible = is_visible
        self._visible_tools: tuple[ToolSpec, ...] = ()
        self._merged_tools: list[tuple[ToolSpec, ...] | None] = []  # the servers' tools that _visible_tools came from

    # The Toolbox.

    async def list_tools(self) -> Sequence[ToolSpec]:
        """The tools on offer, in a stable order. Starts servers whose tools are unknown, and may ask for a sign-in.

        A server that cannot be started is left out, and an event reports it. Raises ServerError or SignInNeeded for a
        server that is required.
        """
        await self._ensure_started()
        current = [server.tools for server in self._selected.values()]
        if [id(tools) for tools in current] != [id(tools) for tools in self._merged_tools]:
            self._merged_tools = current
            self._visible_tools = self._merge_tools()
        return self._visible_tools

    async def _ensure_started(self) -> None:
        """Start the servers whose tools are unknown, and those that are required."""
        servers = list(self._selected.values())
        await self._read_caches()
        for server in servers:
            server.check_new_login()
        await _connect_all([s for s in servers if s.tools is None and not s.last_error and not s.config.required])
        if not self._context.watch:
            for server in servers:
                for _ in range(MAX_SIGN_INS):
                    if server.state == "login" and await server.sign_in():
                        await _connect_all([server])
        required = [s for s in servers if s.config.required and not s.has_started]
        try:
            await _connect_all(required, relist=True)
        except SignInNeeded:
            needing_sign_in = [s for s in required if s.state == "login"]
            if self._context.watch or not all([await server.sign_in() for server in needing_sign_in]):
                raise
            await _connect_all(required, relist=True)

    async def _read_caches(self) -> None:
        await asyncio.gather(*(server.read_cache() for server in self._selected.values()))

    def _merge_tools(self) -> tuple[ToolSpec, ...]:
        tools: dict[str, ToolSpec] = {}
        for spec in (spec for server in self._selected.values() for spec in server.tools or ()):
            if self._is_visible(spec) and tools.setdefault(spec.model_name, spec) is not spec:
                self._context.notify(
                    "warning", f"{spec.qualified_name} is left out: another tool has the same name for a model"
                )
        return tuple(tools.values())

    def prestart(self, spec: ToolSpec) -> None:
        """Start the tool's server while the model is still writing the call. The call itself reports a failure."""
        server = self._servers[spec.server]
        if server.connection is None and server.state == "idle":
            server.connect_in_background()

    def validate_arguments(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> str:
        """What is wrong with the arguments by the tool's schema; empty if they are valid."""
        return json_schema.find_error(spec.schema, drop_null_arguments(spec, arguments))

    async def call(self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit) -> ToolResult:
        """Run the tool. Raises ServerError, SignInNeeded, and Denied if the server has changed the tool."""
        return await self._servers[spec.server].call(spec, call_id, arguments, emit)

    async def start_call(
        self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit
    ) -> ToolResult | ServerTask:
        """Like ``call``, but without waiting for a task that the server makes."""
        return await self._servers[spec.server].start_call(spec, call_id, arguments, emit)

    def tasks(self, server: str) -> ServerTasks:
        """The tasks of a server."""
        return self._servers[server].tasks

    @property
    def followed_tasks(self) -> int:
        """How many tasks calls wait for."""
        return sum(server.tasks.followed for server in self._servers.values())

    def background_tasks(self) -> Sequence[tuple[ServerTask, bool]]:
        """The tasks that were put aside and have not ended, each with whether it ends with us."""
        return [(task, server.ends_with_us) for server in self._servers.values() for task in server.tasks.in_background]

    def put_tasks_aside(self) -> int:
        """Let the tasks that calls wait for go on without them. Returns how many there are."""
        return sum(server.tasks.put_aside() for server in self._servers.values())

    def instructions(self) -> Mapping[str, str]:
        """The instructions for a model, by server, of the servers of the tools that were listed last."""
        names = {spec.server for spec in self._visible_tools}
        texts = {name: server.instructions() for name, server in self._servers.items() if name in names}
        return {name: text for name, text in texts.items() if text}

    # The ServerDirectory.

    def last_error(self, server: str) -> McpChatError | None:
        """Why the latest start of a server failed; None if it did not."""
        return self._servers[server].last_error

    def status(self) -> Sequence[ServerStatus]:
        return [server.status() for server in self._selected.values()]

    def catalogs(self) -> Mapping[str, Catalog]:
        """What the servers list, by server, as far as it is known."""
        return {name: server.catalog for name, server in self._selected.items() if server.catalog is not None}

    async def wait_for_lists(self) -> None:
        """Wait for slow lists of resources and prompts, for which tools do not wait."""
        await asyncio.gather(*(server.wait_for_lists() for server in self._selected.values()))

    def log(self, server: str) -> str:
        return self._selected[server].log.read()

    async def refresh(self) -> Sequence[ToolSpec]:
        """The tools on offer, listed again by every server. Servers that were paused after failures are tried again."""
        for name in self._selected:
            await self.restart(name)
        return await self.list_tools()

    async def end_session(self, server: str) -> None:
        """End the session with a remote server that was kept after an earlier command."""
        await self._servers[server].end_session()

    async def restart(self, server: str) -> None:
        """Stop the server and forget what it lists; it is started again when next needed."""
        await self._selected[server].restart()

    async def read_resource(self, server: str, uri: str) -> Sequence[Content]:
        return await self._selected[server].read_resource(uri)

    async def get_prompt(self, server: str, name: str, arguments: Mapping[str, str]) -> Sequence[Message]:
        return await self._selected[server].get_prompt(name, arguments)

    async def complete(
        self,
        server: str,
        reference: Prompt | ResourceTemplate,
        argument: str,
        value: str,
        known_arguments: Mapping[str, str],
    ) -> Sequence[str]:
        return await self._selected[server].complete(reference, argument, value, known_arguments)


class McpHub(HubView):
    """Owns the configured servers, and is the default view of them. Other views are independent of its selection.

    Disabled servers are left out. ``ignore_cache`` skips the catalogs on disk.
    """

    def __init__(
        self,
        servers: Mapping[str, ServerConfig],
        context: HubContext,
        *,
        server_names: Sequence[str] | None = None,
        is_visible: ToolFilter = lambda spec: True,
        ignore_cache: bool = False,
    ) -> None:
        managed = {
            name: ManagedServer(name, config, context, ignore_cache=ignore_cache)
            for name, config in servers.items()
            if config.enabled
        }
        super().__init__(context, managed, server_names, is_visible)

    async def update_servers(self, servers: Mapping[str, ServerConfig]) -> None:
        """Use these servers from now on: those that are gone or have changed are stopped, new ones start when needed.

        The selection of the default view stays. No call may be running.
        """
        enabled = {name: config for name, config in servers.items() if config.enabled}
        current = {name: server for name, server in self._servers.items() if enabled.get(name) == server.config}
        stopped = [server for name, server in self._servers.items() if name not in current]
        self._servers = {
            name: current.get(name) or ManagedServer(name, config, self._context) for name, config in enabled.items()
        }
        self._select(self._server_names, self._is_visible)
        await asyncio.gather(*(server.close() for server in stopped))

    def view(self, server_names: Sequence[str] | None, is_visible: ToolFilter) -> HubView:
        """Another view, for one of several agents."""
        return HubView(self._context, self._servers, server_names, is_visible)

    async def select_servers(self, server_names: Sequence[str] | None, is_visible: ToolFilter) -> None:
        """Change the default view to these servers and tools. Servers that it no longer has are stopped."""
        previous = self._selected
        self._select(server_names, is_visible)
        for name, server in previous.items():
            if name not in self._selected:
                await server.suspend()

    async def prestart_uncached(self) -> None:
        """Start the processes of servers whose tools are unknown: they start up while the SDKs are imported."""
        await self._read_caches()
        uncached = [s for s in self._selected.values() if s.tools is None and s.config.effective_transport == "stdio"]
        await asyncio.gather(*(server.prestart_process() for server in uncached[:MAX_PARALLEL_STARTS]))

    async def start_all(self) -> None:
        """Connect to every server and list everything again; ``status`` shows the failures."""
        await _connect_all(list(self._selected.values()), relist=True)

    def refresh_in_background(self) -> None:
        """List the known servers again in the background; the present lists are used until then."""
        for server in self._selected.values():
            if server.tools is not None:
                server.connect_in_background(relist=True)

    async def aclose(self) -> None:
        """Stop all servers in parallel."""
        await asyncio.gather(*(server.close() for server in self._servers.values()))
        self._context.connector.reaper.close()


async def _connect_all(servers: Sequence[ManagedServer], *, relist: bool = False) -> None:
    """Connect in parallel. Raises the error of a required server; events report those of the others."""
    outcomes = await asyncio.gather(
        *(server.acquire_connection(relist=relist) for server in servers), return_exceptions=True
    )
    for server, outcome in zip(servers, outcomes, strict=True):
        if isinstance(outcome, McpChatError):
            if server.config.required:
                raise outcome
        elif isinstance(outcome, BaseException):
            raise outcome
