"""Many servers as one toolbox: started in parallel, only when needed, and each for itself."""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol

from msgspec.structs import replace

from mcpchat.adapters.schema_cache import Era, SchemaCache, identity
from mcpchat.adapters.secrets import header_value, look_up_all
from mcpchat.adapters.server_process import ServerProcess, child_environment
from mcpchat.core.config import DEFAULT_TIMEOUTS, ServerConfig, Timeouts
from mcpchat.core.errors import McpChatError, ServerError, SignInNeeded
from mcpchat.core.events import Emit, ServerChanged, ServerState
from mcpchat.core.messages import ToolResult
from mcpchat.core.ports import ServerStatus
from mcpchat.core.tools import ToolSpec


class Connection(Protocol):
    """What the hub needs of a connection: ``mcp_server`` has it, and importing that imports the SDK, a whole second."""

    @property
    def alive(self) -> bool: ...
    @property
    def era(self) -> Era: ...
    async def list_tools(self, *, timeout: float) -> tuple[tuple[ToolSpec, ...], float | None]: ...
    async def call(
        self, spec: ToolSpec, call_id: str, arguments: dict[str, Any], emit: Emit, *, timeout: float
    ) -> ToolResult: ...
    async def close(self) -> None: ...


class Connector(Protocol):
    """How connections are made: the module ``mcp_server``."""

    async def connect_stdio(self, name: str, process: ServerProcess, *, era: Era, timeout: float) -> Connection: ...
    async def connect_http(
        self, name: str, url: str, headers: dict[str, str], *, era: Era, timeout: float
    ) -> Connection: ...


_FRESH = 1.0  # seconds in which a failed start answers for those who come next


@dataclass
class _Server:
    name: str
    config: ServerConfig
    timeouts: Timeouts
    key: str
    era: Era = "auto"
    specs: tuple[ToolSpec, ...] | None = None
    state: ServerState = "idle"
    detail: str = ""
    seconds: float | None = None
    process: ServerProcess | None = None
    connection: Connection | None = None
    failure: McpChatError | None = None
    failed_at: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class McpHub:
    """A Toolbox over configured servers. ``load_sdk`` imports ``mcp_server`` when the first server is talked to.

    ``visible`` says which tools are on offer at all; ``refresh`` leaves the disk cache unread.
    """

    def __init__(
        self,
        servers: Mapping[str, ServerConfig],
        *,
        environ: Mapping[str, str],
        timeouts: Timeouts,
        cache: SchemaCache,
        load_sdk: Callable[[], Connector],
        emit: Emit,
        visible: Callable[[ToolSpec], bool] = lambda spec: True,
        refresh: bool = False,
    ) -> None:
        self._environ = environ
        self._cache = cache
        self._load_sdk = load_sdk
        self._emit = emit
        self._visible = visible
        self._offer: tuple[ToolSpec, ...] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._servers: dict[str, _Server] = {}
        for name, config in servers.items():
            if config.enabled:
                limits = config.timeouts.over(timeouts).over(DEFAULT_TIMEOUTS)
                server = _Server(name, config, limits, identity(config, environ))
                if not refresh and (listing := cache.load(server.key)):
                    server.era = listing.era
                    server.specs = self._own_specs(server, listing.tools)
                self._servers[name] = server

    async def spawn_unknown(self) -> None:
        """Start the processes of servers whose tools are not known: they boot while we import our SDKs."""
        await asyncio.gather(*(self._spawn_quietly(s) for s in self._servers.values() if s.specs is None))

    async def _spawn_quietly(self, server: _Server) -> None:
        if server.config.transport == "stdio":
            try:
                server.process = await self._spawn(server)
            except McpChatError:
                return  # tried again, and told, when the tools are asked for

    async def tools(self) -> Sequence[ToolSpec]:
        """The tools on offer, the same all along. A server that cannot be started is left out, and told.

        Raises ServerError or SignInNeeded for a server that is required.
        """
        if self._offer is None:
            unknown = [server for server in self._servers.values() if server.specs is None]
            await self._start_all(unknown)
            specs = [spec for server in self._servers.values() for spec in server.specs or ()]
            self._offer = tuple(spec for spec in specs if self._visible(spec))
        return self._offer

    async def refresh(self) -> Sequence[ToolSpec]:
        """The tools on offer, asked anew of every server."""
        self._offer = None
        for server in self._servers.values():
            server.specs = None
            await self._stop(server)
        return await self.tools()

    async def start_all(self) -> None:
        """Connect to every server, whatever is known of it; failures show in ``status``."""
        await self._start_all(list(self._servers.values()))

    async def _start_all(self, servers: Sequence[_Server]) -> None:
        outcomes = await asyncio.gather(*(self._connected(server) for server in servers), return_exceptions=True)
        for server, outcome in zip(servers, outcomes, strict=True):
            if isinstance(outcome, McpChatError):
                if server.config.required:
                    raise outcome
            elif isinstance(outcome, BaseException):
                raise outcome

    def expect(self, spec: ToolSpec) -> None:
        """Start the tool's server now, while the model still writes the call."""
        server = self._servers[spec.server]
        if server.connection is None and server.state == "idle":
            task = asyncio.create_task(self._connect_quietly(server))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def _connect_quietly(self, server: _Server) -> None:
        try:
            await self._connected(server)
        except McpChatError:
            return  # the call itself tries again, and tells

    async def call(self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit) -> ToolResult:
        server = self._servers[spec.server]
        connection = None
        try:
            connection = await self._connected(server)
            assert server.timeouts.call is not None
            return await connection.call(spec, call_id, dict(arguments), emit, timeout=server.timeouts.call)
        except ServerError as error:
            if connection is not None and not connection.alive:
                self._change(server, "stopped", error.message)
            # For a model the reason is all in the text.
            told = "".join(f"\n  {line}" for line in error.log[-5:])
            raise ServerError(error.message + told, hint=error.hint) from error

    def status(self) -> Sequence[ServerStatus]:
        return [
            ServerStatus(
                name=server.name,
                transport=server.config.transport,
                state=server.state,
                detail=server.detail,
                tools=None if server.specs is None else len(server.specs),
                auth=_auth(server),
                seconds=server.seconds,
            )
            for server in self._servers.values()
        ]

    async def aclose(self) -> None:
        """Stop everything that runs, all at once."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await asyncio.gather(*(self._stop(server) for server in self._servers.values()))

    async def _stop(self, server: _Server) -> None:
        process, server.process = server.process, None
        connection, server.connection = server.connection, None
        if connection is not None:
            await connection.close()
        elif process is not None:
            await process.stop()

    async def _connected(self, server: _Server) -> Connection:
        """The server's live connection, opened if need be. Raises ServerError or SignInNeeded."""
        async with server.lock:
            if server.connection is not None and server.connection.alive:
                return server.connection
            if server.failure is not None and time.monotonic() - server.failed_at < _FRESH:
                raise server.failure
            await self._stop_dead(server)
            began = time.monotonic()
            self._change(server, "starting")
            try:
                server.connection = await self._connect(server)
                assert server.timeouts.start is not None
                listed, ttl = await server.connection.list_tools(timeout=server.timeouts.start)
            except SignInNeeded as error:
                await self._failed(server, error)
                self._change(server, "login", error.message)
                raise
            except McpChatError as error:
                log = error.log if isinstance(error, ServerError) else ()
                failure = ServerError(f"{server.name}: {error.message}", hint=error.hint, log=log)
                await self._failed(server, failure)
                self._change(server, "failed", "\n".join((error.message, *log)))
                raise failure from error
            server.seconds = time.monotonic() - began
            server.era = server.connection.era
            server.specs = self._own_specs(server, listed)
            self._cache.save(server.key, era=server.era, tools=listed, ttl=ttl)
            self._change(server, "ready")
            return server.connection

    async def _failed(self, server: _Server, failure: McpChatError) -> None:
        """Remember the failure for those who wait for the same start, and leave nothing of it running."""
        server.failure, server.failed_at = failure, time.monotonic()
        await self._stop(server)

    async def _stop_dead(self, server: _Server) -> None:
        if server.connection is not None:
            await self._stop(server)

    async def _connect(self, server: _Server) -> Connection:
        sdk = await asyncio.to_thread(self._load_sdk)
        assert server.timeouts.start is not None
        timeout = server.timeouts.start
        if server.config.url:
            where = f"servers.{server.name}.headers"
            headers = {
                name: await header_value(text, self._environ, where=f"{where}.{name}")
                for name, text in server.config.headers.items()
            }
            return await sdk.connect_http(server.name, server.config.url, headers, era=server.era, timeout=timeout)
        process, server.process = server.process, None
        process = process or await self._spawn(server)
        try:
            return await sdk.connect_stdio(server.name, process, era=server.era, timeout=timeout)
        except ServerError:
            if server.era == "legacy" or process.exit_code is None:
                raise
            # Strict servers of the handshake era leave on the first message that is no "initialize".
            process = await self._spawn(server)
            return await sdk.connect_stdio(server.name, process, era="legacy", timeout=timeout)

    async def _spawn(self, server: _Server) -> ServerProcess:
        config = server.config
        own = await look_up_all(config.env, self._environ, where=f"servers.{server.name}.env")
        if config.builtin:
            own["PYDANTIC_DISABLE_PLUGINS"] = "1"  # a search through all installed packages, for nothing
        env = child_environment(self._environ, passed=config.env_pass, own=own)
        # -P: a folder's own files never stand in for the bundled package.
        argv = (
            [sys.executable, "-P", "-m", f"mcpchat_servers.{config.builtin}"]
            if config.builtin
            else [config.command or "", *config.args]
        )
        return await ServerProcess.spawn(argv, env=env, cwd=config.cwd)

    def _own_specs(self, server: _Server, listed: Sequence[ToolSpec]) -> tuple[ToolSpec, ...]:
        """The listed tools that the config lets through, under this server's name and trust, in a stable order."""
        trusted = server.config.trust or server.config.builtin is not None
        chosen = [tool for tool in listed if any(fnmatchcase(tool.name, glob) for glob in server.config.tools)]
        specs = [replace(tool, server=server.name, trusted=trusted) for tool in chosen]
        return tuple(sorted(specs, key=lambda spec: spec.name))

    def _change(self, server: _Server, state: ServerState, detail: str = "") -> None:
        server.state, server.detail = state, detail
        self._emit(ServerChanged(server=server.name, state=state, detail=detail))


def _auth(server: _Server) -> str:
    if server.state == "login":
        return "sign-in needed"
    return "headers" if server.config.headers else "none"
