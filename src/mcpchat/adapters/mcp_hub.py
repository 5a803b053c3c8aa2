"""Many servers as one toolbox: started in parallel, only when needed, and each for itself."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from mcpchat.adapters import schema_check
from mcpchat.adapters.mcp_link import (
    MODERN,
    Change,
    Connection,
    ConnectionLost,
    Connector,
    Dial,
    HandshakeFailed,
    StaleDiscovery,
)
from mcpchat.adapters.orphans import Orphans
from mcpchat.adapters.patience import Patience
from mcpchat.adapters.schema_cache import Era, SchemaCache, identity
from mcpchat.adapters.secrets import header_value, look_up_all
from mcpchat.adapters.server_log import ServerLog
from mcpchat.adapters.server_process import ServerProcess, child_environment
from mcpchat.core.catalog import Catalog, Prompt, Template
from mcpchat.core.config import DEFAULT_TIMEOUTS, ServerConfig, Timeouts
from mcpchat.core.errors import McpChatError, ServerError, SignInNeeded
from mcpchat.core.events import Emit, Notice, ServerChanged, ServerState
from mcpchat.core.messages import Content, Message, ToolResult
from mcpchat.core.ports import Host, ServerStatus
from mcpchat.core.tools import ToolSpec, given

_T = TypeVar("_T")
_FRESH = 1.0  # seconds in which a failed start answers for those who come next
_TRIES = 3  # of a server that crashes, until it is left alone
_BACKOFF = 0.25  # seconds before the second try; doubled for the third
_REST = 60.0  # seconds for which it is left alone; then one more try is enough to tell
_STARTS = 8  # servers that boot at the same time: more only slow each other down
_SETTLING = 0.2  # seconds in which a server's changes are taken as one


@dataclass
class _Server:
    name: str
    config: ServerConfig
    timeouts: Timeouts
    key: str
    log: ServerLog
    era: Era = "auto"
    catalog: Catalog | None = None
    tools: tuple[ToolSpec, ...] | None = None
    state: ServerState = "idle"
    detail: str = ""
    seconds: float | None = None
    process: ServerProcess | None = None
    connection: Connection | None = None
    lost: Connection | None = None
    was_up: bool = False
    strikes: int = 0
    failure: McpChatError | None = None
    failed_at: float = 0.0
    watched: set[str] = field(default_factory=set)
    stale: bool = False
    changing: asyncio.Task[None] | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    slots: asyncio.Semaphore = field(default_factory=asyncio.Semaphore)


class McpHub:
    """A Toolbox and Servers over the configured servers.

    ``load_sdk`` imports ``mcp_server`` when the first server is talked to. ``visible`` says which tools are on offer at
    all; ``refresh`` leaves the disk cache unread; ``watch`` has servers tell of their changes.
    """

    def __init__(
        self,
        servers: Mapping[str, ServerConfig],
        *,
        environ: Mapping[str, str],
        timeouts: Timeouts,
        cache: SchemaCache,
        logs: Path,
        host: Host,
        load_sdk: Callable[[], Connector],
        emit: Emit,
        most_bytes: int,
        visible: Callable[[ToolSpec], bool] = lambda spec: True,
        refresh: bool = False,
        watch: bool = False,
    ) -> None:
        self._environ = environ
        self._cache = cache
        self._host = host
        self._load_sdk = load_sdk
        self._emit = emit
        self._most_bytes = most_bytes
        self._visible = visible
        self._watch = watch
        self._orphans = Orphans()
        self._starting = asyncio.Semaphore(_STARTS)
        self._offer: tuple[ToolSpec, ...] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._servers: dict[str, _Server] = {}
        for name, config in servers.items():
            if config.enabled:
                limits = config.timeouts.over(timeouts).over(DEFAULT_TIMEOUTS)
                log = ServerLog(logs / f"{name}.log")
                server = _Server(name, config, limits, identity(config, environ), log)
                server.slots = asyncio.Semaphore(config.max_parallel)
                if not refresh and (kept := cache.load(server.key)):
                    server.era = kept.era
                    self._learn(server, kept.catalog)
                self._servers[name] = server

    # The Toolbox.

    async def tools(self) -> Sequence[ToolSpec]:
        """The tools on offer, in a stable order. A server that cannot be started is left out, and told.

        Raises ServerError or SignInNeeded for a server that is required.
        """
        await self._start_all(
            [s for s in self._servers.values() if s.tools is None and not s.failure and not s.config.required]
        )
        await self._start_all([s for s in self._servers.values() if s.config.required and not s.was_up], anew=True)
        if self._offer is None:
            offer: dict[str, ToolSpec] = {}
            for spec in (spec for server in self._servers.values() for spec in server.tools or ()):
                if self._visible(spec) and offer.setdefault(spec.exposed, spec) is not spec:
                    self._tell("warning", f"{spec.label} is left out: it looks the same as another to a model")
            self._offer = tuple(offer.values())
        return self._offer

    def expect(self, spec: ToolSpec) -> None:
        """Start the tool's server now, while the model still writes the call."""
        server = self._servers[spec.server]
        if server.connection is None and server.state == "idle":
            self._run(self._quietly(self._connected(server)))  # the call itself tries again, and tells

    def check(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> str:
        return schema_check.problem(spec.schema, given(spec, arguments))

    async def call(self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit) -> ToolResult:
        server = self._servers[spec.server]

        def work(connection: Connection) -> Awaitable[ToolResult]:
            return connection.call(spec, call_id, given(spec, arguments), emit, self._patience(server))

        async with server.slots:
            return await self._on(server, work, repeatable=spec.repeatable)

    def instructions(self) -> Mapping[str, str]:
        offering = {spec.server for spec in self._offer or ()}
        return {
            server.name: server.catalog.info.instructions
            for server in self._servers.values()
            if server.name in offering and server.catalog and server.catalog.info.instructions.strip()
        }

    # The Servers.

    def status(self) -> Sequence[ServerStatus]:
        return [
            ServerStatus(
                name=server.name,
                transport=server.config.reached_by,
                state=server.state,
                detail=server.detail,
                tools=None if server.tools is None else len(server.tools),
                auth=_auth(server),
                seconds=server.seconds,
            )
            for server in self._servers.values()
        ]

    def catalogs(self) -> Mapping[str, Catalog]:
        return {server.name: server.catalog for server in self._servers.values() if server.catalog is not None}

    def log(self, server: str) -> str:
        return self._servers[server].log.text()

    async def refresh(self) -> Sequence[ToolSpec]:
        """The tools on offer, asked anew of every server; those that were left alone are tried again."""
        for server in self._servers.values():
            async with server.lock:
                self._forget(server)
                server.strikes, server.failure = 0, None
                await self._stop(server)
        return await self.tools()

    async def read(self, server: str, uri: str) -> Sequence[Content]:
        here = self._servers[server]

        async def work(connection: Connection) -> Sequence[Content]:
            found = await connection.read(uri, self._patience(here))
            if self._watch and uri not in here.watched:
                here.watched.add(uri)
                self._run(self._quietly(connection.watch(sorted(here.watched))))
            return found

        return await self._on(here, work, repeatable=True)

    async def prompt(self, server: str, name: str, arguments: Mapping[str, str]) -> Sequence[Message]:
        here = self._servers[server]
        return await self._on(here, lambda c: c.prompt(name, arguments, self._patience(here)), repeatable=True)

    async def complete(
        self, server: str, of: Prompt | Template, argument: str, typed: str, given: Mapping[str, str]
    ) -> Sequence[str]:
        here = self._servers[server]
        return await self._on(
            here, lambda c: c.complete(of, argument, typed, given, self._patience(here)), repeatable=True
        )

    # Starting and stopping.

    async def spawn_unknown(self) -> None:
        """Start the processes of servers that nothing is known of: they boot while we import our SDKs."""
        unknown = [s for s in self._servers.values() if s.tools is None and s.config.reached_by == "stdio"]
        await asyncio.gather(*(self._spawn_quietly(server) for server in unknown[:_STARTS]))

    async def _spawn_quietly(self, server: _Server) -> None:
        try:
            server.process = await self._spawn(server)
        except McpChatError:
            return  # tried again, and told, when the tools are asked for

    async def start_all(self) -> None:
        """Connect to every server and ask it anew what it lists; failures show in ``status``."""
        await self._start_all(list(self._servers.values()), anew=True)

    def start_behind(self) -> None:
        """The same, behind whatever goes on: what is known serves until then."""
        for server in self._servers.values():
            if server.tools is not None:
                self._run(self._quietly(self._connected(server, anew=True)))

    async def _start_all(self, servers: Sequence[_Server], *, anew: bool = False) -> None:
        outcomes = await asyncio.gather(*(self._connected(s, anew=anew) for s in servers), return_exceptions=True)
        for server, outcome in zip(servers, outcomes, strict=True):
            if isinstance(outcome, McpChatError):
                if server.config.required:
                    raise outcome
            elif isinstance(outcome, BaseException):
                raise outcome

    async def aclose(self) -> None:
        """Stop everything that runs, all at once."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await asyncio.gather(*(self._stop(server) for server in self._servers.values()))
        for server in self._servers.values():
            server.log.close()
        self._orphans.close()

    async def _stop(self, server: _Server) -> None:
        process, server.process = server.process, None
        connection, server.connection = server.connection, None
        if connection is not None:
            await connection.close()
        elif process is not None:
            await process.stop()

    async def _on(self, server: _Server, work: Callable[[Connection], Awaitable[_T]], *, repeatable: bool) -> _T:
        """The work's result on a live connection. What certainly did not run, or may run twice, is tried again."""
        ran = False
        for last in (False, False, True):
            connection = await self._connected(server)
            try:
                result = await work(connection)
            except StaleDiscovery as stale:
                self._forget(server)
                failure: ServerError = stale
                again = True
            except ConnectionLost as lost:
                self._lost(server, connection, lost)
                failure = lost
                again = not lost.may_have_run or (repeatable and not ran)
                ran = ran or lost.may_have_run
            else:
                server.strikes = 0
                return result
            if last or not again or server.strikes >= _TRIES:
                # For a model the reason is all in the text.
                told = ":" * bool(failure.log) + "".join(f"\n  {line}" for line in failure.log[-5:])
                raise ServerError(failure.message + told, hint=failure.hint) from failure
        raise AssertionError("the last try returns or raises")

    def _lost(self, server: _Server, connection: Connection, lost: ConnectionLost) -> None:
        """Count one strike for a connection that broke, however many calls it had."""
        if server.connection is connection and server.lost is not connection and not connection.alive:
            server.lost = connection
            if lost.unheard:  # perhaps it speaks another protocol now
                server.era = "auto"
                self._cache.forget(server.key)
            if lost.may_have_run:
                server.strikes += 1
            self._change(server, "stopped", lost.message)
            if server.strikes >= _TRIES:
                self._give_up(server, lost)

    def _give_up(self, server: _Server, why: McpChatError) -> None:
        log = why.log if isinstance(why, ServerError) else ()
        told = f"left alone after {_TRIES} failures in a row: {why.message}"
        server.failure = ServerError(
            f"{server.name} is {told}", hint=f"mcpchat servers logs {server.name} shows more", log=log
        )
        server.failed_at = time.monotonic()
        self._change(server, "failed", "\n".join((told, *log)))

    async def _connected(self, server: _Server, *, anew: bool = False) -> Connection:
        """The server's live connection, opened if need be; ``anew`` asks it in any case what it lists.

        A server that was up before gets several tries. Raises ServerError or SignInNeeded.
        """
        async with server.lock:
            if server.connection is not None and server.connection.alive:
                if anew or server.tools is None:
                    await self._list(server, server.connection)
                    self._change(server, "ready")
                return server.connection
            if server.failure is not None:
                rest = _REST if server.strikes >= _TRIES else _FRESH
                if time.monotonic() - server.failed_at < rest:
                    raise server.failure
            while True:
                if server.connection is not None:
                    await self._stop(server)
                if server.was_up and server.strikes:
                    await asyncio.sleep(_BACKOFF * 2 ** (server.strikes - 1))
                try:
                    return await self._start(server, anew=anew)
                except SignInNeeded:
                    raise
                except ServerError as error:
                    server.strikes += 1
                    if server.strikes >= _TRIES:
                        self._give_up(server, error)
                    if not server.was_up or server.strikes >= _TRIES:
                        raise

    async def _start(self, server: _Server, *, anew: bool) -> Connection:
        began = time.monotonic()
        self._change(server, "starting")
        try:
            async with self._starting:
                connection = server.connection = await self._connect(server)
                if anew or server.tools is None or _must_list(server):
                    await self._list(server, connection)
                if self._watch:
                    self._run(self._quietly(connection.watch(sorted(server.watched))))
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
        server.was_up, server.failure = True, None
        self._change(server, "ready")
        return connection

    async def _failed(self, server: _Server, failure: McpChatError) -> None:
        """Remember the failure for those who wait for the same start, and leave nothing of it running."""
        server.failure, server.failed_at = failure, time.monotonic()
        await self._stop(server)

    async def _list(self, server: _Server, connection: Connection) -> None:
        start = server.timeouts.start
        assert start is not None
        listing = await connection.list_all(Patience(idle=start, total=start))
        server.era = connection.era
        self._cache.save(server.key, era=server.era, catalog=listing.catalog, ttl=listing.ttl)
        if listing.catalog != server.catalog:
            self._learn(server, listing.catalog)
            for notice in listing.catalog.notices:
                self._tell("warning", f"{server.name}: {notice}")

    def _learn(self, server: _Server, catalog: Catalog) -> None:
        """Keep the catalog, and of its tools those that the config lets through, under this server's name and trust."""
        trusted = server.config.trust or server.config.builtin is not None
        chosen = [
            replace(tool, server=server.name, trusted=trusted)
            for tool in catalog.tools
            if server.config.offers(tool.name)
        ]
        server.catalog = catalog
        server.tools = tuple(sorted(chosen, key=lambda spec: spec.name))
        self._offer = None

    def _forget(self, server: _Server) -> None:
        server.era, server.catalog, server.tools = "auto", None, None
        self._offer = None
        self._cache.forget(server.key)

    async def _connect(self, server: _Server) -> Connection:
        sdk = await asyncio.to_thread(self._load_sdk)
        wanted = server.config.protocol
        era = _era(server)
        try:
            connection = await self._dial(sdk, server, era)
        except HandshakeFailed as error:
            # Strict servers of the handshake era leave on the first message that is no "initialize"; and what was
            # remembered of a server may no longer hold.
            if wanted != "auto" or (era == "auto" and not error.left):
                raise
            connection = await self._dial(sdk, server, "legacy" if era == "auto" else "auto")
        if wanted == MODERN and connection.era != "modern":
            await connection.close()
            raise ServerError(f"it does not speak {wanted}, only the older {connection.info.revision}")
        return connection

    async def _dial(self, sdk: Connector, server: _Server, era: Era) -> Connection:
        config = server.config
        assert server.timeouts.start is not None
        headers: dict[str, str] = {}
        process: ServerProcess | None = None
        if config.url:
            where = f"servers.{server.name}.headers"
            headers = {
                name: await header_value(text, self._environ, where=f"{where}.{name}")
                for name, text in config.headers.items()
            }
        else:
            process, server.process = server.process, None
            process = process or await self._spawn(server)
        dial = Dial(
            name=server.name,
            era=era,
            revision="" if config.protocol == "auto" else config.protocol,
            timeout=server.timeouts.start,
            most_bytes=self._most_bytes,
            host=self._host,
            log=server.log.write,
            on_change=lambda change, uri: self._changed(server, change, uri),
            process=process,
            url=config.url,
            sse=config.reached_by == "sse",
            headers=headers,
            elicitation=config.elicitation,
            sampling=config.sampling,
            roots=config.roots,
            info=server.catalog.info if server.catalog is not None and era == "modern" else None,
        )
        return await sdk.connect(dial)

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
        return await ServerProcess.spawn(argv, env=env, cwd=config.cwd, tell=server.log.write, orphans=self._orphans)

    # Changes.

    def _changed(self, server: _Server, change: Change, uri: str) -> None:
        """A server says that something changed. The list that a model sees changes with its next turn."""
        if change == "updated":
            if uri in server.watched:
                self._tell("info", f"{server.name}: {uri} has changed")
            return
        server.stale = True
        if server.changing is None or server.changing.done():
            server.changing = self._run(self._quietly(self._relist(server)))

    async def _relist(self, server: _Server) -> Connection | None:
        while server.stale:
            await asyncio.sleep(_SETTLING)
            server.stale = False
            async with server.lock:
                if server.connection is not None and server.connection.alive:
                    await self._list(server, server.connection)
        return server.connection

    async def _quietly(self, work: Awaitable[object]) -> None:
        try:
            await work
        except McpChatError:
            return  # the events have told

    def _run(self, work: Any) -> "asyncio.Task[None]":
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def _change(self, server: _Server, state: ServerState, detail: str = "") -> None:
        server.state, server.detail = state, detail
        self._emit(ServerChanged(server=server.name, state=state, detail=detail))

    def _tell(self, level: Any, text: str) -> None:
        self._emit(Notice(level=level, text=text))

    def _patience(self, server: _Server) -> Patience:
        assert server.timeouts.idle is not None
        assert server.timeouts.call is not None
        return Patience(idle=server.timeouts.idle, total=server.timeouts.call)


def _era(server: _Server) -> Era:
    """What to greet the server with: what is configured, else what is remembered, else what finds it out."""
    # Without what it said of itself, a server that greets nobody must be asked for that.
    known = "auto" if server.era == "modern" and server.catalog is None else server.era
    match server.config.protocol:
        case "auto":
            return known
        case "2026-07-28":
            return "modern" if known == "modern" else "auto"
        case _:
            return "legacy"


def _must_list(server: _Server) -> bool:
    """Whether calls need the list itself: its schemas say which arguments go into headers too."""
    return server.config.url is not None and any("x-mcp-header" in str(spec.schema) for spec in server.tools or ())


def _auth(server: _Server) -> str:
    if server.state == "login":
        return "sign-in needed"
    return "headers" if server.config.headers else "none"
