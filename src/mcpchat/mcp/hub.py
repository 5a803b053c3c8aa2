"""Many servers as one toolbox: started in parallel, only when needed, and each for itself."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from msgspec.structs import replace

from mcpchat.config.schema import DEFAULT_TIMEOUTS, ServerConfig, Timeouts
from mcpchat.core.catalog import Catalog, Prompt, Template
from mcpchat.core.events import Emit, Notice, ServerChanged, ServerState
from mcpchat.core.messages import Content, Message, ToolResult
from mcpchat.core.protocols import ServerStatus
from mcpchat.core.tools import ToolSpec, given
from mcpchat.errors import Denied, McpChatError, ServerError, SignInNeeded
from mcpchat.mcp.catalog_cache import Era, SchemaCache, identity
from mcpchat.mcp.connector import Dialler, Line
from mcpchat.mcp.limits import Budget, within
from mcpchat.mcp.process import ServerProcess
from mcpchat.mcp.protocols import Change, Connection, ConnectionLost, Credentials, StaleDiscovery, TokenRefused
from mcpchat.mcp.server_log import ServerLog
from mcpchat.mcp.timeouts import Patience
from mcpchat.util import json_schema
from mcpchat.util.redaction import Secrets
from mcpchat.util.sanitize import visible
from mcpchat.util.structures import mapped

_T = TypeVar("_T")
_FRESH = 1.0  # seconds in which a failed start answers for those who come next
_TRIES = 3  # of a server that crashes, until it is left alone
_BACKOFF = 0.25  # seconds before the second try; doubled for the third
_REST = 60.0  # seconds for which it is left alone; then one more try is enough to tell
_STARTS = 8  # servers that boot at the same time: more only slow each other down
_QUIET = 60.0  # seconds that a server's calls are waited for, before it is given a new token all the same
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
    signed: float = 0.0  # the stamp of the login that was not enough
    engaged: int = 0  # what is going on at it
    quiet: asyncio.Event = field(default_factory=asyncio.Event)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    slots: asyncio.Semaphore = field(default_factory=asyncio.Semaphore)


class McpHub:
    """A Toolbox and Servers over the configured servers.

    ``chosen`` names those that are used, None for all; ``visible`` says which tools are on offer at all; ``refresh``
    leaves the disk cache unread; ``watch`` has servers tell of their changes, and leaves it to the person when to sign
    in.
    """

    def __init__(
        self,
        servers: Mapping[str, ServerConfig],
        *,
        dialler: Dialler,
        credentials: Credentials,
        secrets: Secrets,
        timeouts: Timeouts,
        budget: Budget,
        cache: SchemaCache,
        logs: Path,
        emit: Emit,
        chosen: Sequence[str] | None = None,
        visible: Callable[[ToolSpec], bool] = lambda spec: True,
        refresh: bool = False,
        watch: bool = False,
    ) -> None:
        self._dialler = dialler
        self._credentials = credentials
        self._secrets = secrets
        self._budget = budget
        self._cache = cache
        self._emit = emit
        self._visible = visible
        self._watch = watch
        self._starting = asyncio.Semaphore(_STARTS)
        self._offer: tuple[ToolSpec, ...] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._all: dict[str, _Server] = {}
        for name, config in servers.items():
            if config.enabled:
                limits = config.timeouts.over(timeouts).over(DEFAULT_TIMEOUTS)
                log = ServerLog(logs / f"{name}.log", redact=secrets.redact_log)
                server = _Server(name, config, limits, self._key(name, config), log)
                server.slots = asyncio.Semaphore(config.max_parallel)
                if not refresh and (kept := cache.load(server.key)):
                    server.era = kept.era
                    self._learn(server, kept.catalog)
                self._all[name] = server
        self._servers = self._among(chosen)

    def _among(self, chosen: Sequence[str] | None) -> dict[str, _Server]:
        return {name: server for name, server in self._all.items() if chosen is None or name in chosen}

    async def choose(self, chosen: Sequence[str] | None, visible: Callable[[ToolSpec], bool]) -> None:
        """Use these servers from now on, None for all, and offer these of their tools. The others are stopped."""
        before, self._servers = self._servers, self._among(chosen)
        self._visible = visible
        self._offer = None
        for server in before.values():
            if server.name not in self._servers:
                async with server.lock:
                    await self._stop(server)
                    server.state, server.detail = "idle", ""

    def view(self, chosen: Sequence[str] | None, visible: Callable[[ToolSpec], bool]) -> "HubView":
        """A Toolbox over some of the servers, None for all, and these of their tools: beside what ``choose`` chose."""
        return HubView(self, chosen, visible)

    # The Toolbox.

    async def tools(self) -> Sequence[ToolSpec]:
        """The tools on offer, in a stable order. A server that cannot be started is left out, and told.

        Raises ServerError or SignInNeeded for a server that is required.
        """
        await self.have_up(self._servers)
        if self._offer is None:
            self._offer = self.offered(self._servers, self._visible)
        return self._offer

    async def have_up(self, servers: Iterable[str]) -> None:
        """Start those of these servers whose tools nothing knows. Raises as ``tools`` does."""
        wanted = [self._all[name] for name in servers]
        for server in wanted:
            if server.state == "login" and server.signed != self._credentials.stamp(server.name):
                server.failure = None  # somebody signed in meanwhile, perhaps elsewhere
                server.key = self._key(server.name, server.config)
        await self._start_all([s for s in wanted if s.tools is None and not s.failure and not s.config.required])
        if not self._watch:
            for server in [s for s in wanted if s.state == "login"]:
                if await self._signed_in(server):
                    await self._start_all([server])
        required = [s for s in wanted if s.config.required and not s.was_up]
        try:
            await self._start_all(required, anew=True)
        except SignInNeeded:
            wanting = [s for s in required if s.state == "login"]
            if self._watch or not all([await self._signed_in(server) for server in wanting]):
                raise
            await self._start_all(required, anew=True)

    def offered(self, servers: Iterable[str], visible: Callable[[ToolSpec], bool]) -> tuple[ToolSpec, ...]:
        """The tools of these servers, as far as they are known."""
        offer: dict[str, ToolSpec] = {}
        for spec in (spec for name in servers for spec in self._all[name].tools or ()):
            if visible(spec) and offer.setdefault(spec.exposed, spec) is not spec:
                self._tell("warning", f"{spec.label} is left out: it looks the same as another to a model")
        return tuple(offer.values())

    def expect(self, spec: ToolSpec) -> None:
        """Start the tool's server now, while the model still writes the call."""
        server = self._all[spec.server]
        if server.connection is None and server.state == "idle":
            self._run(self._quietly(self._connected(server)))  # the call itself tries again, and tells

    def check(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> str:
        return json_schema.problem(spec.schema, given(spec, arguments))

    async def call(self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit) -> ToolResult:
        server = self._all[spec.server]

        async def work(connection: Connection) -> ToolResult:
            # What was listed from disk, or before a turn, may be another tool by now: nobody agreed to that one.
            now = next((one for one in server.tools or () if one.name == spec.name), None)
            if now is None or now.fingerprint != spec.fingerprint:
                told, hint = f"{spec.label} was changed by its server, and did not run", ""
                if server.config.builtin is None:
                    hint = f"mcpchat trust review {server.name} shows the change"
                self._tell("warning", f"{told}; {hint}" if hint else told)
                raise Denied(told, hint=hint)
            return await connection.call(spec, call_id, given(spec, arguments), emit, self._patience(server))

        async with server.slots:
            return self._received(await self._on(server, work, repeatable=spec.repeatable))

    def _received(self, value: _T) -> _T:
        """What a server sent, as it goes on: without what hides in its texts, and without secrets of ours."""
        return mapped(value, lambda text: self._secrets.redact(visible(text)))

    def instructions(self) -> Mapping[str, str]:
        return self.instructions_for(self._offer or ())

    def instructions_for(self, tools: Sequence[ToolSpec]) -> Mapping[str, str]:
        """What the servers of these tools want a model to know, by their names."""
        offering = {spec.server for spec in tools}
        return {
            server.name: visible(server.catalog.info.instructions)
            for server in self._all.values()
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
                auth="sign-in needed" if server.state == "login" else self._credentials.state(server.name),
                seconds=server.seconds,
            )
            for server in self._servers.values()
        ]

    def catalogs(self) -> Mapping[str, Catalog]:
        return self.catalogs_of(self._servers)

    def catalogs_of(self, servers: Iterable[str]) -> Mapping[str, Catalog]:
        """What these servers list, as far as it is known."""
        return {name: kept for name in servers if (kept := self._all[name].catalog) is not None}

    def log(self, server: str) -> str:
        return self._servers[server].log.text()

    async def refresh(self) -> Sequence[ToolSpec]:
        """The tools on offer, asked anew of every server; those that were left alone are tried again."""
        for name in self._servers:
            await self.restart(name)
        return await self.tools()

    async def restart(self, server: str) -> None:
        """Forget all that is known of the server, and stop it: it is asked anew when next needed."""
        here = self._servers[server]
        async with here.lock:
            self._forget(here)
            here.key = self._key(server, here.config)
            here.strikes, here.failure = 0, None
            await self._stop(here)

    async def read(self, server: str, uri: str) -> Sequence[Content]:
        here = self._servers[server]

        async def work(connection: Connection) -> Sequence[Content]:
            found = await connection.read(uri, self._patience(here))
            if self._watch and uri not in here.watched:
                here.watched.add(uri)
                self._run(self._quietly(connection.watch(sorted(here.watched))))
            return found

        return [self._received(part) for part in await self._on(here, work, repeatable=True)]

    async def prompt(self, server: str, name: str, arguments: Mapping[str, str]) -> Sequence[Message]:
        here = self._servers[server]
        made = await self._on(here, lambda c: c.prompt(name, arguments, self._patience(here)), repeatable=True)
        return [self._received(message) for message in made]

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
            server.process = await self._dialler.spawn(self._line(server))
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
        await asyncio.gather(*(self._stop(server) for server in self._all.values()))
        for server in self._all.values():
            server.log.close()
        self._dialler.orphans.close()

    async def _stop(self, server: _Server) -> None:
        process, server.process = server.process, None
        connection, server.connection = server.connection, None
        if connection is not None:
            await connection.close()
        elif process is not None:
            await process.stop()

    async def _on(self, server: _Server, work: Callable[[Connection], Awaitable[_T]], *, repeatable: bool) -> _T:
        """The work's result. What was refused for want of a login has not run: with a new one it is tried once more."""
        signed_in = renewed = False
        while True:
            try:
                return await self._tried(server, work, repeatable=repeatable)
            except SignInNeeded:
                if (trouble := self._credentials.trouble(server.name)) is not None:
                    raise ServerError(f"{server.name}: {trouble.message}", hint=trouble.hint) from trouble
                if signed_in or not await self._signed_in(server):
                    raise
                signed_in = True
            except TokenRefused as refused:
                if renewed:
                    return cast("_T", refused.result)  # what it says of that is for the model
                renewed = True
            except McpChatError as error:
                error.message = self._secrets.redact(error.message)
                raise

    async def _signed_in(self, server: _Server) -> bool:
        try:
            if not await self._credentials.sign_in(server.name):
                return False
        except McpChatError as error:
            self._tell("warning", self._secrets.redact(f"{server.name}: {error.message}"))
            return False
        server.failure = None
        self._forget(server)  # what it lists may be another's now
        server.key = self._key(server.name, server.config)
        return True

    def _key(self, name: str, config: ServerConfig) -> str:
        return identity(config, self._dialler.environ, login=self._credentials.stamp(name))

    async def _tried(self, server: _Server, work: Callable[[Connection], Awaitable[_T]], *, repeatable: bool) -> _T:
        """The work's result on a live connection. What certainly did not run, or may run twice, is tried again."""
        ran = False
        for last in (False, False, True):
            connection = await self._connected(server, engage=True)
            try:
                result = await work(connection)
            except StaleDiscovery as stale:
                self._forget(server)
                failure: ServerError = stale
                again = True
            except TokenRefused:
                if server.connection is connection:  # else it has been given a new one meanwhile
                    self._credentials.refused(server.name)
                raise
            except ConnectionLost as lost:
                self._lost(server, connection, lost)
                failure = lost
                again = not lost.may_have_run or (repeatable and not ran)
                ran = ran or lost.may_have_run
            else:
                server.strikes = 0
                return result
            finally:
                server.engaged -= 1
                if not server.engaged:
                    server.quiet.set()
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

    async def _connected(self, server: _Server, *, anew: bool = False, engage: bool = False) -> Connection:
        """The server's live connection, opened if need be; ``anew`` asks it in any case what it lists.

        With ``engage`` it counts as busy, until the caller says otherwise. A server that was up before gets several
        tries. Raises ServerError, SignInNeeded and what else its login may raise.
        """
        async with server.lock:
            connection = await self._up(server, anew=anew)
            if engage:
                server.engaged += 1
                server.quiet.clear()
            return connection

    async def _up(self, server: _Server, *, anew: bool) -> Connection:
        if server.connection is not None and server.connection.alive and not await self._must_restart(server):
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

    async def _must_restart(self, server: _Server) -> bool:
        """Whether the server's process has to start anew, to be given a new token; its calls have ended then."""
        due = self._credentials.due(server.name)
        if due == "no" or (due == "soon" and server.engaged):
            return False  # what it has is still good
        try:
            await self._credentials.prepare(server.name)
        except SignInNeeded:
            raise
        except McpChatError as error:
            if due == "now":
                raise ServerError(f"{server.name}: {error.message}", hint=error.hint) from error
            return False  # what it has is still good
        if server.engaged:
            with suppress(TimeoutError):
                async with asyncio.timeout(_QUIET):
                    await server.quiet.wait()
        if server.engaged:
            return False  # a long call is not ended for it: what the provider refuses is repeated
        self._tell("info", f"renewed the {server.config.auth} login of {server.name}")
        return True

    async def _start(self, server: _Server, *, anew: bool) -> Connection:
        began = time.monotonic()
        self._change(server, "starting")
        try:
            async with self._starting:
                connection = await self._met(server, anew=anew)
                if self._watch:
                    self._run(self._quietly(connection.watch(sorted(server.watched))))
        except SignInNeeded as error:
            server.signed = self._credentials.stamp(server.name)
            await self._failed(server, error)
            self._change(server, "login", "\n".join(filter(None, (error.message, error.hint))))
            raise
        except McpChatError as error:
            error.message = self._secrets.redact(error.message)
            log = error.log if isinstance(error, ServerError) else ()
            failure = ServerError(f"{server.name}: {error.message}", hint=error.hint, log=log)
            await self._failed(server, failure)
            self._change(server, "failed", "\n".join(filter(None, (error.message, *log, error.hint))))
            raise failure from error
        server.seconds = time.monotonic() - began
        server.was_up, server.failure = True, None
        self._change(server, "ready")
        return connection

    async def _met(self, server: _Server, *, anew: bool) -> Connection:
        """A new connection to a server whose tools are known as they are now: it may be another program than before."""
        connection = server.connection = await self._connect(server)
        try:
            await self._list(server, connection, all_of_it=anew or server.catalog is None)
        except (StaleDiscovery, ConnectionLost) as error:
            if server.era == "auto" or (isinstance(error, ConnectionLost) and not error.unheard):
                raise
            self._forget(server)  # what was remembered of it no longer holds
            await self._stop(server)
            connection = server.connection = await self._connect(server)
            await self._list(server, connection)
        return connection

    async def _failed(self, server: _Server, failure: McpChatError) -> None:
        """Remember the failure for those who wait for the same start, and leave nothing of it running."""
        server.failure, server.failed_at = failure, time.monotonic()
        await self._stop(server)

    async def _list(self, server: _Server, connection: Connection, *, all_of_it: bool = True) -> None:
        """Ask for its lists; or for its tools alone, what else is known staying as it is."""
        start = server.timeouts.start
        assert start is not None
        listing = await connection.list_all(Patience(idle=start, total=start), tools_only=not all_of_it)
        server.era = connection.era
        catalog = self._secrets.redact_value(listing.catalog)
        # A name that holds a secret would be another than the server knows, and perhaps that of a second tool.
        named = [(raw, tool) for raw, tool in zip(listing.catalog.tools, catalog.tools, strict=True)]
        catalog = replace(catalog, tools=tuple(tool for raw, tool in named if raw.name == tool.name))
        if not all_of_it and server.catalog is not None:
            catalog = replace(server.catalog, info=catalog.info, tools=catalog.tools)
            if catalog == server.catalog:
                return
        self._cache.save(server.key, era=server.era, catalog=catalog, ttl=listing.ttl)
        if catalog != server.catalog:
            self._learn(server, catalog)
            for notice in catalog.notices:
                self._tell("warning", f"{server.name}: {notice}")

    def _learn(self, server: _Server, catalog: Catalog) -> None:
        """Keep the catalog, and of its tools those that the config lets through, under this server's name and trust."""
        trusted = server.config.trust or server.config.builtin is not None
        chosen = [
            replace(
                tool,
                server=server.name,
                trusted=trusted,
                account=server.config.account or "",
                server_title=catalog.info.title,
            )
            for tool in catalog.tools
            if server.config.offers(tool.name)
        ]
        fitting, told = within(sorted(chosen, key=lambda spec: spec.name), self._budget)
        server.catalog = catalog
        server.tools = fitting
        self._offer = None
        for text in told:
            self._tell("warning", f"{server.name}: {text}")

    def _forget(self, server: _Server) -> None:
        server.era, server.catalog, server.tools = "auto", None, None
        self._offer = None
        self._cache.forget(server.key)

    async def _connect(self, server: _Server) -> Connection:
        process, server.process = server.process, None
        info = server.catalog.info if server.catalog is not None else None
        return await self._dialler.connect(self._line(server), era=_era(server), info=info, process=process)

    def _line(self, server: _Server) -> Line:
        assert server.timeouts.start is not None
        return Line(
            name=server.name,
            config=server.config,
            timeout=server.timeouts.start,
            log=server.log.write,
            on_change=lambda change, uri: self._changed(server, change, uri),
        )

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
        detail = self._secrets.redact(detail)
        server.state, server.detail = state, detail
        self._emit(ServerChanged(server=server.name, state=state, detail=detail))

    def _tell(self, level: Any, text: str) -> None:
        self._emit(Notice(level=level, text=text))

    def _patience(self, server: _Server) -> Patience:
        assert server.timeouts.idle is not None
        assert server.timeouts.call is not None
        return Patience(idle=server.timeouts.idle, total=server.timeouts.call)


class HubView:
    """A Toolbox over some of a hub's servers and tools: what one of several agents sees."""

    def __init__(self, hub: McpHub, chosen: Sequence[str] | None, visible: Callable[[ToolSpec], bool]) -> None:
        self._hub = hub
        self._servers = tuple(hub._among(chosen))
        self._visible = visible
        self._offer: tuple[ToolSpec, ...] = ()
        self._listed: list[tuple[ToolSpec, ...] | None] = [()]

    async def tools(self) -> Sequence[ToolSpec]:
        """As the hub's."""
        await self._hub.have_up(self._servers)
        listed = [self._hub._all[name].tools for name in self._servers]
        if [id(tools) for tools in listed] != [id(tools) for tools in self._listed]:
            self._listed = listed
            self._offer = self._hub.offered(self._servers, self._visible)
        return self._offer

    def catalogs(self) -> Mapping[str, Catalog]:
        return self._hub.catalogs_of(self._servers)

    def expect(self, spec: ToolSpec) -> None:
        self._hub.expect(spec)

    def check(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> str:
        return self._hub.check(spec, arguments)

    async def call(self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit) -> ToolResult:
        return await self._hub.call(spec, call_id, arguments, emit)

    def instructions(self) -> Mapping[str, str]:
        return self._hub.instructions_for(self._offer)


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
