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
from mcpchat.core.catalog import Catalog, Prompt, ResourceTemplate
from mcpchat.core.events import Emit, Notice, ServerChanged, ServerState
from mcpchat.core.messages import Content, Message, ToolResult
from mcpchat.core.protocols import ServerStatus
from mcpchat.core.tools import ToolSpec, drop_null_arguments
from mcpchat.errors import Denied, McpChatError, ServerError, SignInNeeded
from mcpchat.mcp.catalog_cache import CatalogCache, ProtocolMode, cache_key
from mcpchat.mcp.connector import ServerConnector, ServerSpec
from mcpchat.mcp.limits import ToolLimits, enforce_tool_limits
from mcpchat.mcp.process import ServerProcess
from mcpchat.mcp.protocols import ChangeKind, Connection, ConnectionLost, Credentials, ProtocolChanged, TokenRejected
from mcpchat.mcp.server_log import ServerLog
from mcpchat.mcp.timeouts import RequestTimeout
from mcpchat.util import json_schema
from mcpchat.util.redaction import SecretRegistry
from mcpchat.util.sanitize import strip_invisible
from mcpchat.util.structures import map_strings

_T = TypeVar("_T")
FAILURE_CACHE_SECONDS = 1.0  # seconds in which a failed start answers for those who come next
MAX_FAILURES = 3  # of a server that crashes, until it is left alone
BACKOFF_SECONDS = 0.25  # seconds before the second try; doubled for the third
COOLDOWN_SECONDS = 60.0  # seconds for which it is left alone; then one more try is enough to tell
MAX_PARALLEL_STARTS = 8  # servers that boot at the same time: more only slow each other down
TOKEN_RESTART_GRACE = 60.0  # seconds that a server's calls are waited for, before it is given a new token all the same
CHANGE_DEBOUNCE = 0.2  # seconds in which a server's changes are taken as one


@dataclass
class ManagedServer:
    name: str
    config: ServerConfig
    timeouts: Timeouts
    cache_key: str
    log: ServerLog
    mode: ProtocolMode = "auto"
    catalog: Catalog | None = None
    tools: tuple[ToolSpec, ...] | None = None
    state: ServerState = "idle"
    detail: str = ""
    start_seconds: float | None = None
    process: ServerProcess | None = None
    connection: Connection | None = None
    lost_connection: Connection | None = None
    has_started: bool = False
    failures: int = 0
    last_error: McpChatError | None = None
    failed_at: float = 0.0
    watched_uris: set[str] = field(default_factory=set)
    catalog_dirty: bool = False
    relist_task: asyncio.Task[None] | None = None
    login_version: float = 0.0  # the stamp of the login that was not enough
    active_calls: int = 0  # what is going on at it
    idle_event: asyncio.Event = field(default_factory=asyncio.Event)
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
        connector: ServerConnector,
        credentials: Credentials,
        secrets: SecretRegistry,
        timeouts: Timeouts,
        tool_limits: ToolLimits,
        cache: CatalogCache,
        log_directory: Path,
        emit: Emit,
        server_names: Sequence[str] | None = None,
        is_visible: Callable[[ToolSpec], bool] = lambda spec: True,
        ignore_cache: bool = False,
        watch: bool = False,
    ) -> None:
        self._connector = connector
        self._credentials = credentials
        self._secrets = secrets
        self._tool_limits = tool_limits
        self._cache = cache
        self._emit = emit
        self._is_visible = is_visible
        self._watch = watch
        self._start_slots = asyncio.Semaphore(MAX_PARALLEL_STARTS)
        self._visible_tools: tuple[ToolSpec, ...] | None = None
        self._background_tasks: set[asyncio.Task[None]] = set()
        self._servers: dict[str, ManagedServer] = {}
        for name, config in servers.items():
            if config.enabled:
                server_timeouts = config.timeouts.with_fallback(timeouts).with_fallback(DEFAULT_TIMEOUTS)
                log = ServerLog(log_directory / f"{name}.log", redact=secrets.redact_log)
                server = ManagedServer(name, config, server_timeouts, self._cache_key(name, config), log)
                server.slots = asyncio.Semaphore(config.max_parallel)
                if not ignore_cache and (cached := cache.load(server.cache_key)):
                    server.mode = cached.era
                    self._apply_catalog(server, cached.catalog)
                self._servers[name] = server
        self._selected = self._subset(server_names)

    def _subset(self, server_names: Sequence[str] | None) -> dict[str, ManagedServer]:
        return {name: server for name, server in self._servers.items() if server_names is None or name in server_names}

    async def select_servers(self, server_names: Sequence[str] | None, is_visible: Callable[[ToolSpec], bool]) -> None:
        """Use these servers from now on, None for all, and offer these of their tools. The others are stopped."""
        previous, self._selected = self._selected, self._subset(server_names)
        self._is_visible = is_visible
        self._visible_tools = None
        for server in previous.values():
            if server.name not in self._selected:
                async with server.lock:
                    await self._stop(server)
                    server.state, server.detail = "idle", ""

    def view(self, server_names: Sequence[str] | None, is_visible: Callable[[ToolSpec], bool]) -> "HubView":
        """A Toolbox over some of the servers, None for all, and these of their tools: beside what ``choose`` chose."""
        return HubView(self, server_names, is_visible)

    # The Toolbox.

    async def list_tools(self) -> Sequence[ToolSpec]:
        """The tools on offer, in a stable order. A server that cannot be started is left out, and told.

        Raises ServerError or SignInNeeded for a server that is required.
        """
        await self.ensure_started(self._selected)
        if self._visible_tools is None:
            self._visible_tools = self.visible_tools(self._selected, self._is_visible)
        return self._visible_tools

    async def ensure_started(self, names: Iterable[str]) -> None:
        """Start those of these servers whose tools nothing knows. Raises as ``tools`` does."""
        servers = [self._servers[name] for name in names]
        for server in servers:
            if server.state == "login" and server.login_version != self._credentials.login_version(server.name):
                server.last_error = None  # somebody signed in meanwhile, perhaps elsewhere
                server.cache_key = self._cache_key(server.name, server.config)
        await self._start_all([s for s in servers if s.tools is None and not s.last_error and not s.config.required])
        if not self._watch:
            for server in [s for s in servers if s.state == "login"]:
                if await self._sign_in(server):
                    await self._start_all([server])
        required = [s for s in servers if s.config.required and not s.has_started]
        try:
            await self._start_all(required, relist=True)
        except SignInNeeded:
            needing_sign_in = [s for s in required if s.state == "login"]
            if self._watch or not all([await self._sign_in(server) for server in needing_sign_in]):
                raise
            await self._start_all(required, relist=True)

    def visible_tools(self, names: Iterable[str], is_visible: Callable[[ToolSpec], bool]) -> tuple[ToolSpec, ...]:
        """The tools of these servers, as far as they are known."""
        tools: dict[str, ToolSpec] = {}
        for spec in (spec for name in names for spec in self._servers[name].tools or ()):
            if is_visible(spec) and tools.setdefault(spec.model_name, spec) is not spec:
                self._notify("warning", f"{spec.qualified_name} is left out: it looks the same as another to a model")
        return tuple(tools.values())

    def prestart(self, spec: ToolSpec) -> None:
        """Start the tool's server now, while the model still writes the call."""
        server = self._servers[spec.server]
        if server.connection is None and server.state == "idle":
            self._run_in_background(
                self._ignore_errors(self._acquire_connection(server))
            )  # the call itself tries again, and tells

    def validate_arguments(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> str:
        return json_schema.find_error(spec.schema, drop_null_arguments(spec, arguments))

    async def call(self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit) -> ToolResult:
        server = self._servers[spec.server]

        async def work(connection: Connection) -> ToolResult:
            # What was listed from disk, or before a turn, may be another tool by now: nobody agreed to that one.
            current = next((tool for tool in server.tools or () if tool.name == spec.name), None)
            if current is None or current.fingerprint != spec.fingerprint:
                message, hint = f"{spec.qualified_name} was changed by its server, and did not run", ""
                if server.config.builtin is None:
                    hint = f"mcpchat trust review {server.name} shows the change"
                self._notify("warning", f"{message}; {hint}" if hint else message)
                raise Denied(message, hint=hint)
            return await connection.call(
                spec, call_id, drop_null_arguments(spec, arguments), emit, self._request_timeout(server)
            )

        async with server.slots:
            return self._sanitize_incoming(await self._call_with_sign_in(server, work, idempotent=spec.is_idempotent))

    def _sanitize_incoming(self, value: _T) -> _T:
        """What a server sent, as it goes on: without what hides in its texts, and without secrets of ours."""
        return map_strings(value, lambda text: self._secrets.redact(strip_invisible(text)))

    def instructions(self) -> Mapping[str, str]:
        return self.instructions_for(self._visible_tools or ())

    def instructions_for(self, tools: Sequence[ToolSpec]) -> Mapping[str, str]:
        """What the servers of these tools want a model to know, by their names."""
        server_names = {spec.server for spec in tools}
        return {
            server.name: strip_invisible(server.catalog.info.instructions)
            for server in self._servers.values()
            if server.name in server_names and server.catalog and server.catalog.info.instructions.strip()
        }

    # The Servers.

    def status(self) -> Sequence[ServerStatus]:
        return [
            ServerStatus(
                name=server.name,
                transport=server.config.effective_transport,
                state=server.state,
                detail=server.detail,
                tools=None if server.tools is None else len(server.tools),
                auth="sign-in needed" if server.state == "login" else self._credentials.describe(server.name),
                seconds=server.start_seconds,
            )
            for server in self._selected.values()
        ]

    def catalogs(self) -> Mapping[str, Catalog]:
        return self.catalogs_of(self._selected)

    def catalogs_of(self, names: Iterable[str]) -> Mapping[str, Catalog]:
        """What these servers list, as far as it is known."""
        return {name: catalog for name in names if (catalog := self._servers[name].catalog) is not None}

    def log(self, server: str) -> str:
        return self._selected[server].log.read()

    async def refresh(self) -> Sequence[ToolSpec]:
        """The tools on offer, asked anew of every server; those that were left alone are tried again."""
        for name in self._selected:
            await self.restart(name)
        return await self.list_tools()

    async def restart(self, server: str) -> None:
        """Forget all that is known of the server, and stop it: it is asked anew when next needed."""
        managed = self._selected[server]
        async with managed.lock:
            self._discard_catalog(managed)
            managed.cache_key = self._cache_key(server, managed.config)
            managed.failures, managed.last_error = 0, None
            await self._stop(managed)

    async def read_resource(self, server: str, uri: str) -> Sequence[Content]:
        managed = self._selected[server]

        async def work(connection: Connection) -> Sequence[Content]:
            contents = await connection.read_resource(uri, self._request_timeout(managed))
            if self._watch and uri not in managed.watched_uris:
                managed.watched_uris.add(uri)
                self._run_in_background(self._ignore_errors(connection.subscribe(sorted(managed.watched_uris))))
            return contents

        return [self._sanitize_incoming(part) for part in await self._call_with_sign_in(managed, work, idempotent=True)]

    async def get_prompt(self, server: str, name: str, arguments: Mapping[str, str]) -> Sequence[Message]:
        managed = self._selected[server]
        messages = await self._call_with_sign_in(
            managed, lambda c: c.get_prompt(name, arguments, self._request_timeout(managed)), idempotent=True
        )
        return [self._sanitize_incoming(message) for message in messages]

    async def complete(
        self,
        server: str,
        reference: Prompt | ResourceTemplate,
        argument: str,
        value: str,
        known_arguments: Mapping[str, str],
    ) -> Sequence[str]:
        managed = self._selected[server]
        return await self._call_with_sign_in(
            managed,
            lambda c: c.complete(reference, argument, value, known_arguments, self._request_timeout(managed)),
            idempotent=True,
        )

    # Starting and stopping.

    async def prestart_uncached(self) -> None:
        """Start the processes of servers that nothing is known of: they boot while we import our SDKs."""
        uncached = [s for s in self._selected.values() if s.tools is None and s.config.effective_transport == "stdio"]
        await asyncio.gather(*(self._prestart(server) for server in uncached[:MAX_PARALLEL_STARTS]))

    async def _prestart(self, server: ManagedServer) -> None:
        try:
            server.process = await self._connector.spawn(self._spec(server))
        except McpChatError:
            return  # tried again, and told, when the tools are asked for

    async def start_all(self) -> None:
        """Connect to every server and ask it anew what it lists; failures show in ``status``."""
        await self._start_all(list(self._selected.values()), relist=True)

    def refresh_in_background(self) -> None:
        """The same, behind whatever goes on: what is known serves until then."""
        for server in self._selected.values():
            if server.tools is not None:
                self._run_in_background(self._ignore_errors(self._acquire_connection(server, relist=True)))

    async def _start_all(self, servers: Sequence[ManagedServer], *, relist: bool = False) -> None:
        outcomes = await asyncio.gather(
            *(self._acquire_connection(s, relist=relist) for s in servers), return_exceptions=True
        )
        for server, outcome in zip(servers, outcomes, strict=True):
            if isinstance(outcome, McpChatError):
                if server.config.required:
                    raise outcome
            elif isinstance(outcome, BaseException):
                raise outcome

    async def aclose(self) -> None:
        """Stop everything that runs, all at once."""
        for task in self._background_tasks:
            task.cancel()
        await asyncio.gather(*self._background_tasks, return_exceptions=True)
        await asyncio.gather(*(self._stop(server) for server in self._servers.values()))
        for server in self._servers.values():
            server.log.close()
        self._connector.reaper.close()

    async def _stop(self, server: ManagedServer) -> None:
        process, server.process = server.process, None
        connection, server.connection = server.connection, None
        if connection is not None:
            await connection.close()
        elif process is not None:
            await process.stop()

    async def _call_with_sign_in(
        self, server: ManagedServer, work: Callable[[Connection], Awaitable[_T]], *, idempotent: bool
    ) -> _T:
        """The work's result. What was refused for want of a login has not run: with a new one it is tried once more."""
        signed_in = renewed = False
        while True:
            try:
                return await self._call_with_reconnect(server, work, idempotent=idempotent)
            except SignInNeeded:
                if (auth_error := self._credentials.last_error(server.name)) is not None:
                    raise ServerError(f"{server.name}: {auth_error.message}", hint=auth_error.hint) from auth_error
                if signed_in or not await self._sign_in(server):
                    raise
                signed_in = True
            except TokenRejected as rejection:
                if renewed:
                    return cast("_T", rejection.result)  # what it says of that is for the model
                renewed = True
            except McpChatError as error:
                error.message = self._secrets.redact(error.message)
                raise

    async def _sign_in(self, server: ManagedServer) -> bool:
        try:
            if not await self._credentials.sign_in(server.name):
                return False
        except McpChatError as error:
            self._notify("warning", self._secrets.redact(f"{server.name}: {error.message}"))
            return False
        server.last_error = None
        self._discard_catalog(server)  # what it lists may be another's now
        server.cache_key = self._cache_key(server.name, server.config)
        return True

    def _cache_key(self, name: str, config: ServerConfig) -> str:
        return cache_key(config, self._connector.environ, login_version=self._credentials.login_version(name))

    async def _call_with_reconnect(
        self, server: ManagedServer, work: Callable[[Connection], Awaitable[_T]], *, idempotent: bool
    ) -> _T:
        """The work's result on a live connection. What certainly did not run, or may run twice, is tried again."""
        may_have_run = False
        for last in (False, False, True):
            connection = await self._acquire_connection(server, mark_busy=True)
            try:
                result = await work(connection)
            except ProtocolChanged as error:
                self._discard_catalog(server)
                failure: ServerError = error
                retry = True
            except TokenRejected:
                if server.connection is connection:  # else it has been given a new one meanwhile
                    self._credentials.reject_token(server.name)
                raise
            except ConnectionLost as error:
                self._record_loss(server, connection, error)
                failure = error
                retry = not error.may_have_run or (idempotent and not may_have_run)
                may_have_run = may_have_run or error.may_have_run
            else:
                server.failures = 0
                return result
            finally:
                server.active_calls -= 1
                if not server.active_calls:
                    server.idle_event.set()
            if last or not retry or server.failures >= MAX_FAILURES:
                # For a model the reason is all in the text.
                log_tail = ":" * bool(failure.log) + "".join(f"\n  {line}" for line in failure.log[-5:])
                raise ServerError(failure.message + log_tail, hint=failure.hint) from failure
        raise AssertionError("the last try returns or raises")

    def _record_loss(self, server: ManagedServer, connection: Connection, error: ConnectionLost) -> None:
        """Count one strike for a connection that broke, however many calls it had."""
        if server.connection is connection and server.lost_connection is not connection and not connection.is_alive:
            server.lost_connection = connection
            if error.never_answered:  # perhaps it speaks another protocol now
                server.mode = "auto"
                self._cache.forget(server.cache_key)
            if error.may_have_run:
                server.failures += 1
            self._set_state(server, "stopped", error.message)
            if server.failures >= MAX_FAILURES:
                self._disable(server, error)

    def _disable(self, server: ManagedServer, error: McpChatError) -> None:
        log = error.log if isinstance(error, ServerError) else ()
        message = f"left alone after {MAX_FAILURES} failures in a row: {error.message}"
        server.last_error = ServerError(
            f"{server.name} is {message}", hint=f"mcpchat servers logs {server.name} shows more", log=log
        )
        server.failed_at = time.monotonic()
        self._set_state(server, "failed", "\n".join((message, *log)))

    async def _acquire_connection(
        self, server: ManagedServer, *, relist: bool = False, mark_busy: bool = False
    ) -> Connection:
        """The server's live connection, opened if need be; ``anew`` asks it in any case what it lists.

        With ``engage`` it counts as busy, until the caller says otherwise. A server that was up before gets several
        tries. Raises ServerError, SignInNeeded and what else its login may raise.
        """
        async with server.lock:
            connection = await self._ensure_connected(server, relist=relist)
            if mark_busy:
                server.active_calls += 1
                server.idle_event.clear()
            return connection

    async def _ensure_connected(self, server: ManagedServer, *, relist: bool) -> Connection:
        if server.connection is not None and server.connection.is_alive and not await self._needs_new_token(server):
            if relist or server.tools is None:
                await self._update_catalog(server, server.connection)
                self._set_state(server, "ready")
            return server.connection
        if server.last_error is not None:
            cooldown = COOLDOWN_SECONDS if server.failures >= MAX_FAILURES else FAILURE_CACHE_SECONDS
            if time.monotonic() - server.failed_at < cooldown:
                raise server.last_error
        while True:
            if server.connection is not None:
                await self._stop(server)
            if server.has_started and server.failures:
                await asyncio.sleep(BACKOFF_SECONDS * 2 ** (server.failures - 1))
            try:
                return await self._start(server, relist=relist)
            except SignInNeeded:
                raise
            except ServerError as error:
                server.failures += 1
                if server.failures >= MAX_FAILURES:
                    self._disable(server, error)
                if not server.has_started or server.failures >= MAX_FAILURES:
                    raise

    async def _needs_new_token(self, server: ManagedServer) -> bool:
        """Whether the server's process has to start anew, to be given a new token; its calls have ended then."""
        renewal = self._credentials.renewal_state(server.name)
        if renewal == "no" or (renewal == "soon" and server.active_calls):
            return False  # what it has is still good
        try:
            await self._credentials.prefetch_token(server.name)
        except SignInNeeded:
            raise
        except McpChatError as error:
            if renewal == "now":
                raise ServerError(f"{server.name}: {error.message}", hint=error.hint) from error
            return False  # what it has is still good
        if server.active_calls:
            with suppress(TimeoutError):
                async with asyncio.timeout(TOKEN_RESTART_GRACE):
                    await server.idle_event.wait()
        if server.active_calls:
            return False  # a long call is not ended for it: what the provider refuses is repeated
        self._notify("info", f"renewed the {server.config.auth} login of {server.name}")
        return True

    async def _start(self, server: ManagedServer, *, relist: bool) -> Connection:
        started = time.monotonic()
        self._set_state(server, "starting")
        try:
            async with self._start_slots:
                connection = await self._connect_and_list(server, relist=relist)
                if self._watch:
                    self._run_in_background(self._ignore_errors(connection.subscribe(sorted(server.watched_uris))))
        except SignInNeeded as error:
            server.login_version = self._credentials.login_version(server.name)
            await self._record_failure(server, error)
            self._set_state(server, "login", "\n".join(filter(None, (error.message, error.hint))))
            raise
        except McpChatError as error:
            error.message = self._secrets.redact(error.message)
            log = error.log if isinstance(error, ServerError) else ()
            failure = ServerError(f"{server.name}: {error.message}", hint=error.hint, log=log)
            await self._record_failure(server, failure)
            self._set_state(server, "failed", "\n".join(filter(None, (error.message, *log, error.hint))))
            raise failure from error
        server.start_seconds = time.monotonic() - started
        server.has_started, server.last_error = True, None
        self._set_state(server, "ready")
        return connection

    async def _connect_and_list(self, server: ManagedServer, *, relist: bool) -> Connection:
        """A new connection to a server whose tools are known as they are now: it may be another program than before."""
        connection = server.connection = await self._connect(server)
        try:
            await self._update_catalog(server, connection, full=relist or server.catalog is None)
        except (ProtocolChanged, ConnectionLost) as error:
            if server.mode == "auto" or (isinstance(error, ConnectionLost) and not error.never_answered):
                raise
            self._discard_catalog(server)  # what was remembered of it no longer holds
            await self._stop(server)
            connection = server.connection = await self._connect(server)
            await self._update_catalog(server, connection)
        return connection

    async def _record_failure(self, server: ManagedServer, failure: McpChatError) -> None:
        """Remember the failure for those who wait for the same start, and leave nothing of it running."""
        server.last_error, server.failed_at = failure, time.monotonic()
        await self._stop(server)

    async def _update_catalog(self, server: ManagedServer, connection: Connection, *, full: bool = True) -> None:
        """Ask for its lists; or for its tools alone, what else is known staying as it is."""
        start_timeout = server.timeouts.start
        assert start_timeout is not None
        listing = await connection.list_all(
            RequestTimeout(idle=start_timeout, total=start_timeout), tools_only=not full
        )
        server.mode = connection.mode
        catalog = self._secrets.redact_value(listing.catalog)
        # A name that holds a secret would be another than the server knows, and perhaps that of a second tool.
        pairs = [(raw, tool) for raw, tool in zip(listing.catalog.tools, catalog.tools, strict=True)]
        catalog = replace(catalog, tools=tuple(tool for raw, tool in pairs if raw.name == tool.name))
        if not full and server.catalog is not None:
            catalog = replace(server.catalog, info=catalog.info, tools=catalog.tools)
            if catalog == server.catalog:
                return
        self._cache.save(server.cache_key, mode=server.mode, catalog=catalog, ttl=listing.ttl)
        if catalog != server.catalog:
            self._apply_catalog(server, catalog)
            for notice in catalog.notices:
                self._notify("warning", f"{server.name}: {notice}")

    def _apply_catalog(self, server: ManagedServer, catalog: Catalog) -> None:
        """Keep the catalog, and of its tools those that the config lets through, under this server's name and trust."""
        trusted = server.config.trust or server.config.builtin is not None
        exposed = [
            replace(
                tool,
                server=server.name,
                trusted=trusted,
                account=server.config.account or "",
                server_title=catalog.info.title,
            )
            for tool in catalog.tools
            if server.config.exposes(tool.name)
        ]
        tools, notices = enforce_tool_limits(sorted(exposed, key=lambda spec: spec.name), self._tool_limits)
        server.catalog = catalog
        server.tools = tools
        self._visible_tools = None
        for notice in notices:
            self._notify("warning", f"{server.name}: {notice}")

    def _discard_catalog(self, server: ManagedServer) -> None:
        server.mode, server.catalog, server.tools = "auto", None, None
        self._visible_tools = None
        self._cache.forget(server.cache_key)

    async def _connect(self, server: ManagedServer) -> Connection:
        process, server.process = server.process, None
        info = server.catalog.info if server.catalog is not None else None
        return await self._connector.connect(self._spec(server), mode=_initial_mode(server), info=info, process=process)

    def _spec(self, server: ManagedServer) -> ServerSpec:
        assert server.timeouts.start is not None
        return ServerSpec(
            name=server.name,
            config=server.config,
            timeout=server.timeouts.start,
            on_log=server.log.write,
            on_change=lambda change, uri: self._on_change(server, change, uri),
        )

    # Changes.

    def _on_change(self, server: ManagedServer, change: ChangeKind, uri: str) -> None:
        """A server says that something changed. The list that a model sees changes with its next turn."""
        if change == "updated":
            if uri in server.watched_uris:
                self._notify("info", f"{server.name}: {uri} has changed")
            return
        server.catalog_dirty = True
        if server.relist_task is None or server.relist_task.done():
            server.relist_task = self._run_in_background(self._ignore_errors(self._relist(server)))

    async def _relist(self, server: ManagedServer) -> Connection | None:
        while server.catalog_dirty:
            await asyncio.sleep(CHANGE_DEBOUNCE)
            server.catalog_dirty = False
            async with server.lock:
                if server.connection is not None and server.connection.is_alive:
                    await self._update_catalog(server, server.connection)
        return server.connection

    async def _ignore_errors(self, work: Awaitable[object]) -> None:
        try:
            await work
        except McpChatError:
            return  # the events have told

    def _run_in_background(self, work: Any) -> "asyncio.Task[None]":
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._background_tasks.add(task)
        task.add_done_callback(self._background_tasks.discard)
        return task

    def _set_state(self, server: ManagedServer, state: ServerState, detail: str = "") -> None:
        detail = self._secrets.redact(detail)
        server.state, server.detail = state, detail
        self._emit(ServerChanged(server=server.name, state=state, detail=detail))

    def _notify(self, level: Any, text: str) -> None:
        self._emit(Notice(level=level, text=text))

    def _request_timeout(self, server: ManagedServer) -> RequestTimeout:
        assert server.timeouts.idle is not None
        assert server.timeouts.call is not None
        return RequestTimeout(idle=server.timeouts.idle, total=server.timeouts.call)


class HubView:
    """A Toolbox over some of a hub's servers and tools: what one of several agents sees."""

    def __init__(self, hub: McpHub, server_names: Sequence[str] | None, is_visible: Callable[[ToolSpec], bool]) -> None:
        self._hub = hub
        self._server_names = tuple(hub._subset(server_names))
        self._is_visible = is_visible
        self._visible_tools: tuple[ToolSpec, ...] = ()
        self._last_tools: list[tuple[ToolSpec, ...] | None] = [()]

    async def list_tools(self) -> Sequence[ToolSpec]:
        """As the hub's."""
        await self._hub.ensure_started(self._server_names)
        current = [self._hub._servers[name].tools for name in self._server_names]
        if [id(tools) for tools in current] != [id(tools) for tools in self._last_tools]:
            self._last_tools = current
            self._visible_tools = self._hub.visible_tools(self._server_names, self._is_visible)
        return self._visible_tools

    def catalogs(self) -> Mapping[str, Catalog]:
        return self._hub.catalogs_of(self._server_names)

    def prestart(self, spec: ToolSpec) -> None:
        self._hub.prestart(spec)

    def validate_arguments(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> str:
        return self._hub.validate_arguments(spec, arguments)

    async def call(self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit) -> ToolResult:
        return await self._hub.call(spec, call_id, arguments, emit)

    def instructions(self) -> Mapping[str, str]:
        return self._hub.instructions_for(self._visible_tools)


def _initial_mode(server: ManagedServer) -> ProtocolMode:
    """What to greet the server with: what is configured, else what is remembered, else what finds it out."""
    # Without what it said of itself, a server that greets nobody must be asked for that.
    cached_mode = "auto" if server.mode == "modern" and server.catalog is None else server.mode
    match server.config.protocol:
        case "auto":
            return cached_mode
        case "2026-07-28":
            return "modern" if cached_mode == "modern" else "auto"
        case _:
            return "legacy"
