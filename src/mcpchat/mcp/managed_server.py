"""One configured server: its state, its connection, and the rules for starting, restarting and repeating calls."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from msgspec.structs import replace

from mcpchat.config.known_secrets import is_harmless
from mcpchat.config.references import find_references
from mcpchat.config.schema import DEFAULT_TIMEOUTS, ServerConfig, Timeouts
from mcpchat.config.secret_refs import read_references
from mcpchat.core.catalog import Catalog, Prompt, ResourceTemplate, rename_catalog
from mcpchat.core.events import Emit, Notice, ServerChanged, ServerState, ToolProgress
from mcpchat.core.messages import Content, Message, ToolResult, error_result
from mcpchat.core.protocols import ServerStatus
from mcpchat.core.server_task import ServerTask, TaskEnded
from mcpchat.core.tools import ToolSpec, drop_null_arguments
from mcpchat.errors import Denied, McpChatError, ServerError, SignInNeeded
from mcpchat.mcp.catalog_cache import CatalogCache, ProtocolMode, cache_key
from mcpchat.mcp.connector import ServerConnector
from mcpchat.mcp.limits import ToolLimits, enforce_tool_limits
from mcpchat.mcp.process import RunningServer
from mcpchat.mcp.protocols import (
    CatalogListing,
    ChangeKind,
    Connection,
    ConnectionLost,
    Credentials,
    ProtocolChanged,
    ServerAuth,
    ServerSpec,
    TokenRejected,
)
from mcpchat.mcp.rate_limit import RateLimit
from mcpchat.mcp.server_log import ServerLog
from mcpchat.mcp.server_tasks import ServerTasks
from mcpchat.mcp.tasks import TaskState
from mcpchat.mcp.timeouts import RequestTimeout
from mcpchat.util.sanitize import strip_invisible
from mcpchat.util.structures import map_strings

_T = TypeVar("_T")
FAILURE_CACHE_SECONDS = 1.0  # seconds for which a failed start is the answer to every other caller
MAX_FAILURES = 3  # crashes in a row after which a server is paused
BACKOFF_SECONDS = 0.25  # seconds before the second attempt; doubled for the third
COOLDOWN_SECONDS = 60.0  # seconds for which a server is paused; after that one more failure pauses it again
MAX_PARALLEL_STARTS = 8  # servers that start at the same time: more only slow each other down
TOKEN_RESTART_GRACE = 60.0  # seconds to wait for running calls before a restart with a new token
OTHER_LISTS_GRACE = 1.0  # seconds that tools wait for the other lists
MAX_SIGN_INS = 2  # for one request: the first may have got too little access
CHANGE_DEBOUNCE = 0.2  # seconds in which a server's change notifications are handled as one


async def forget_task(task: ServerTask) -> None:
    """Store nothing."""


@dataclass(frozen=True, kw_only=True)
class HubContext:
    """What all servers of a hub share.

    ``timeouts`` are the defaults for servers without their own. With ``watch``, servers are asked to report changes,
    and the user decides when to sign in. ``save_task`` stores a task whenever its state has changed; ``on_task_ended``
    receives the results of the tasks that were put aside.
    """

    connector: ServerConnector
    credentials: Credentials
    timeouts: Timeouts
    tool_limits: ToolLimits
    cache: CatalogCache
    log_directory: Path
    emit: Emit
    watch: bool = False
    save_task: Callable[[ServerTask], Awaitable[None]] = forget_task
    on_task_ended: Callable[[TaskEnded], None] | None = None
    start_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_PARALLEL_STARTS))

    def notify(self, level: Literal["info", "warning"], text: str) -> None:
        self.emit(Notice(level=level, text=text))


class ManagedServer:
    """One configured server. It is started when first needed and restarted when its connection is lost.

    ``tools`` and ``catalog`` are None while it is unknown what the server lists. ``last_error`` is why its last start
    failed; None once a start succeeds or the reason may no longer hold. ``ignore_cache`` skips the catalog on disk.
    """

    def __init__(self, name: str, config: ServerConfig, context: HubContext, *, ignore_cache: bool = False) -> None:
        self.name = name
        self.config = config
        self.log = ServerLog(context.log_directory / f"{name}.log", redact=context.connector.secrets.redact_log)
        self.catalog: Catalog | None = None
        self.tools: tuple[ToolSpec, ...] | None = None
        self.state: ServerState = "idle"
        self.connection: Connection | None = None
        self.has_started = False
        self.last_error: McpChatError | None = None
        self._context = context
        self._connector = context.connector
        self._credentials = context.credentials
        self._secrets = context.connector.secrets
        self._cache = context.cache
        self._timeouts = config.timeouts.with_fallback(context.timeouts).with_fallback(DEFAULT_TIMEOUTS)
        self._spec = self._build_spec()
        self._identity = tuple(self._credentials.describe(name).identity)
        references = find_references(
            (*config.env.values(), *config.headers.values(), config.url or "", *self._identity)
        )
        self._stored_references = [reference for reference in references if not reference.startswith("env:")]
        self._secret_values: Mapping[str, str] = {}
        self._cache_is_unread = not ignore_cache
        self._cache_key = self._compute_cache_key()
        self._mode: ProtocolMode = "auto"
        self._detail = ""
        self._start_seconds: float | None = None
        self._process: RunningServer | None = None  # started ahead of its connection
        self._lost_connection: Connection | None = None  # the last one whose loss was counted
        self._failures = 0
        self._failed_at = 0.0
        self._login_version = 0.0  # of the login that was not enough
        self._auth: ServerAuth | None = None  # of the running process or the latest connection
        self._renewed_auth: ServerAuth | None = None  # for the next connection
        self._active_calls = 0
        self._idle = asyncio.Event()
        self._lock = asyncio.Lock()  # held while connecting, listing and stopping
        self._call_slots = asyncio.Semaphore(config.max_parallel)
        calls = config.limits.calls_per_minute
        self._rate = RateLimit(calls) if calls is not None else None
        assert self._timeouts.call is not None
        self.tasks = ServerTasks(
            self,
            save=context.save_task,
            on_ended=context.on_task_ended,
            limit=self._timeouts.call,
            is_saved=context.save_task is not forget_task,
        )
        self._watched_uris: set[str] = set()
        self._catalog_dirty = False
        self._tools_listing: CatalogListing | None = None  # the latest
        self._others: tuple[Catalog, float | None] | None = None  # the other lists and their validity, once known
        self._others_pending = False
        self._other_lists: asyncio.Task[None] | None = None
        self._tools_changed = False  # announced, and not listed yet
        self._relist_task: asyncio.Task[None] | None = None
        self._background_tasks: set[asyncio.Task[None]] = set()
        if not self._stored_references:
            self._read_cache()

    def _read_cache(self) -> None:
        """Take the catalog from disk, once."""
        if self._cache_is_unread and self.tools is None and (cached := self._cache.load(self._cache_key)):
            self._mode = cached.era
            catalog = rename_catalog(cached.catalog, self.name)
            self._others = replace(catalog, tools=()), None
            self._apply_catalog(catalog, is_within=cached.limits == self._context.tool_limits)
        self._cache_is_unread = False

    async def read_cache(self) -> None:
        """Take the catalog from disk, if that needs stored secrets: they decide whose catalog it is."""
        if self._cache_is_unread:
            await self._read_identity()
            self._read_cache()

    async def _read_identity(self) -> None:
        """Read the secrets behind the server's requests again; another one can mean another user."""
        if not self._stored_references:
            return
        self._secret_values = await read_references(self._stored_references, self._connector.environ)
        self._secrets.add(*(value for value in self._secret_values.values() if not is_harmless(value)))
        self._set_cache_key()

    def _set_cache_key(self) -> None:
        """Compute the key again. With another one, the lists in memory may be another user's."""
        key = self._compute_cache_key()
        if key != self._cache_key:
            self._cache_key = key
            self._forget_lists()

    def _build_spec(self) -> ServerSpec:
        assert self._timeouts.start is not None
        return ServerSpec(
            name=self.name,
            config=self.config,
            timeout=self._timeouts.start,
            request_handler=self._connector.request_handler,
            sign_in_hint=lambda: self._credentials.describe(self.name).hint,
            on_log=self.log.write,
            on_change=self._on_change,
        )

    def status(self) -> ServerStatus:
        return ServerStatus(
            name=self.name,
            transport=self.config.effective_transport,
            state=self.state,
            detail=self._detail,
            tools=None if self.tools is None else len(self.tools),
            auth="sign-in needed" if self.state == "login" else self._credentials.describe(self.name).state,
            seconds=self._start_seconds,
        )

    def instructions(self) -> str:
        """The server's instructions for a model, without invisible characters; empty if it has none."""
        text = self.catalog.info.instructions if self.catalog is not None else ""
        return strip_invisible(text) if text.strip() else ""

    # Requests.

    async def call(self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit) -> ToolResult:
        """Run the tool, and wait for its task if the server makes one.

        Raises Denied if the server has changed the tool since it was listed, ServerError, SignInNeeded.
        """
        async with self._call_slots:
            outcome = await self._send_call(spec, call_id, arguments, emit)
            if isinstance(outcome, TaskState):
                return await self.tasks.run(spec.name, outcome, call_id, emit)
            return outcome

    async def start_call(
        self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit
    ) -> ToolResult | ServerTask:
        """Like ``call``, but without waiting for a task."""
        async with self._call_slots:
            outcome = await self._send_call(spec, call_id, arguments, emit)
        return await self.tasks.begin(spec.name, outcome) if isinstance(outcome, TaskState) else outcome

    async def _send_call(
        self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit
    ) -> ToolResult | TaskState:
        async def work(connection: Connection) -> ToolResult | TaskState:
            if self._tools_changed:  # announced: no call without a look
                try:
                    async with self._lock:
                        await self._update_catalog(connection, full=False)
                except ConnectionLost as error:
                    raise ConnectionLost(error.message, may_have_run=False, log=error.log) from error
            # A tool that was listed from disk, or before this turn, may have changed. The user approved the old one.
            current = next((tool for tool in self.tools or () if tool.name == spec.name), None)
            if current is None or current.fingerprint != spec.fingerprint:
                event = "is no longer offered" if current is None else "was changed"
                message, hint = f"{spec.qualified_name} {event} by its server, and did not run", ""
                if current is not None and not self.config.is_bundled:
                    hint = f"mcpchat trust review {self.name} shows the change"
                self._context.notify("warning", f"{message}; {hint}" if hint else message)
                raise Denied(message, hint=hint)
            return await connection.call(
                spec, call_id, drop_null_arguments(spec, arguments), emit, self._request_timeout()
            )

        if (refusal := await self._wait_for_rate(call_id, emit)) is not None:
            return refusal
        outcome = await self._call_with_sign_in(work, idempotent=spec.is_idempotent)
        return outcome if isinstance(outcome, TaskState) else self._sanitize_incoming(outcome)

    # What its tasks need.

    def find_tool(self, name: str) -> ToolSpec | None:
        return next((tool for tool in self.tools or () if tool.name == name), None)

    def new_timeout(self) -> RequestTimeout:
        return self._request_timeout()

    def sanitize(self, text: str) -> str:
        return self._secrets.redact(strip_invisible(text))

    @property
    def ends_with_us(self) -> bool:
        """Whether the server's process ends with this one, and its tasks with it."""
        return self.config.effective_transport == "stdio" and self.config.keep_seconds is None

    async def request(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        return await self._call_with_sign_in(work, idempotent=True)

    async def _wait_for_rate(self, call_id: str, emit: Emit) -> ToolResult | None:
        """Wait until the limit of calls allows one more; a result that says so if it is to be refused."""
        limits = self.config.limits
        if self._rate is None or self._rate.begin():
            return None
        calls = f"{limits.calls_per_minute} call{'s' * (limits.calls_per_minute != 1)}"
        limit = f"at most {calls} of {self.name} a minute (servers.{self.name}.limits)"
        if limits.over == "refuse":
            return error_result(call_id, f"not run: {limit}; try again in {self._rate.seconds_left:.0f} s")

        def tell(seconds: float) -> None:
            emit(ToolProgress(call_id=call_id, done=0.0, note=f"waits {seconds:.0f} s: {limit}"))

        await self._rate.wait(tell)
        return None

    async def read_resource(self, uri: str) -> Sequence[Content]:
        """The resource's contents. Raises ServerError, SignInNeeded, ToolFailed."""

        async def work(connection: Connection) -> Sequence[Content]:
            contents = await connection.read_resource(uri, self._request_timeout())
            if self._context.watch and uri not in self._watched_uris:
                self._watched_uris.add(uri)
                self._run_in_background(connection.subscribe(sorted(self._watched_uris)))
            return contents

        return [self._sanitize_incoming(part) for part in await self._call_with_sign_in(work, idempotent=True)]

    async def get_prompt(self, name: str, arguments: Mapping[str, str]) -> Sequence[Message]:
        """The prompt's messages. Raises ServerError, SignInNeeded, ToolFailed."""
        messages = await self._call_with_sign_in(
            lambda connection: connection.get_prompt(name, arguments, self._request_timeout()), idempotent=True
        )
        return [self._sanitize_incoming(message) for message in messages]

    async def complete(
        self, reference: Prompt | ResourceTemplate, argument: str, value: str, known_arguments: Mapping[str, str]
    ) -> Sequence[str]:
        """The server's completions of a value. Raises ServerError, SignInNeeded."""
        return await self._call_with_sign_in(
            lambda connection: connection.complete(
                reference, argument, value, known_arguments, self._request_timeout()
            ),
            idempotent=True,
        )

    def _sanitize_incoming(self, value: _T) -> _T:
        """The value without invisible characters in its texts, and with our secrets redacted."""
        return map_strings(value, self.sanitize)

    def _request_timeout(self) -> RequestTimeout:
        assert self._timeouts.idle is not None
        assert self._timeouts.call is not None
        return RequestTimeout(idle=self._timeouts.idle, total=self._timeouts.call)

    async def _call_with_sign_in(self, work: Callable[[Connection], Awaitable[_T]], *, idempotent: bool) -> _T:
        """The result of ``work``. A request that was refused for its login has not run: after a sign-in, or with a new
        token, it is tried once more."""
        sign_ins, renewed = 0, False
        while True:
            try:
                return await self._call_with_reconnect(work, idempotent=idempotent)
            except SignInNeeded:
                if self._auth is not None and (auth_error := self._auth.error) is not None:
                    raise ServerError(f"{self.name}: {auth_error.message}", hint=auth_error.hint) from auth_error
                if sign_ins == MAX_SIGN_INS or not await self.sign_in():
                    raise
                sign_ins += 1
            except TokenRejected as rejection:
                if renewed:
                    return cast("_T", rejection.result)  # the model reads the tool's own text about it
                renewed = True
            except McpChatError as error:
                error.message = self._secrets.redact(error.message)
                raise

    async def _call_with_reconnect(self, work: Callable[[Connection], Awaitable[_T]], *, idempotent: bool) -> _T:
        """The result of ``work`` on a live connection. A request that certainly did not run, or that may run twice, is
        tried again."""
        may_have_run = greeted_anew = False
        for is_last in (False, False, True):
            connection = await self.acquire_connection(mark_busy=True)
            try:
                result = await work(connection)
            except ProtocolChanged as error:
                self._discard_catalog()
                failure: ServerError = error
                retry = True
            except TokenRejected:
                # Another connection already has a new token.
                if self.connection is connection and self._auth is not None:
                    self._auth.reject()
                raise
            except ConnectionLost as error:
                self._record_loss(connection, error)
                failure = error
                retry = not error.may_have_run or (idempotent and not may_have_run)
                retry = retry and not (error.session_lost and greeted_anew)
                greeted_anew = greeted_anew or error.session_lost
                may_have_run = may_have_run or error.may_have_run
            else:
                self._failures = 0
                return result
            finally:
                self._end_activity()
            if is_last or not retry or self._failures >= MAX_FAILURES:
                # A model sees only the message, so the end of the log is part of it.
                log_tail = ":" * bool(failure.log) + "".join(f"\n  {line}" for line in failure.log[-5:])
                raise ServerError(failure.message + log_tail, hint=failure.hint) from failure
        raise AssertionError("the last try returns or raises")

    def _end_activity(self) -> None:
        self._active_calls -= 1
        if not self._active_calls:
            self._idle.set()

    def _record_loss(self, connection: Connection, error: ConnectionLost) -> None:
        """Count one failure for a lost connection, however many calls it had."""
        if self.connection is connection and self._lost_connection is not connection and not connection.is_alive:
            self._lost_connection = connection
            if error.never_answered:  # perhaps the server speaks another protocol now
                self._mode = "auto"
                self._cache.forget(self._cache_key)
            if error.may_have_run:
                self._failures += 1
            self._set_state("stopped", error.message)
            if self._failures >= MAX_FAILURES:
                self._disable(error)

    def _disable(self, error: McpChatError) -> None:
        """Pause the server: no attempt to start it for COOLDOWN_SECONDS."""
        log = error.log if isinstance(error, ServerError) else ()
        message = f"paused after {MAX_FAILURES} failures in a row: {error.message}"
        self.last_error = ServerError(
            f"{self.name} is {message}", hint=f"mcpchat servers logs {self.name} shows more", log=log
        )
        self._failed_at = time.monotonic()
        self._set_state("failed", "\n".join((message, *log)))

    # Signing in.

    async def sign_in(self) -> bool:
        """Let the user sign in. True if they did; a failure is a warning."""
        try:
            if not await self._credentials.sign_in(self.name):
                return False
        except McpChatError as error:
            self._context.notify("warning", self._secrets.redact(f"{self.name}: {error.message}"))
            return False
        self.last_error, self._renewed_auth = None, None
        self._discard_catalog()  # another user's list may differ
        self._cache_key = self._compute_cache_key()
        return True

    def check_new_login(self) -> None:
        """Forget the failure of a server that needed a sign-in if there has been one, perhaps in another process."""
        if self.state == "login" and self._login_version != self._credentials.describe(self.name).version:
            self.last_error = None
            self._set_cache_key()

    def _compute_cache_key(self) -> str:
        return cache_key(
            self.config,
            self._connector.environ,
            login_version=self._credentials.describe(self.name).version,
            identity=self._identity,
            secrets=self._secret_values,
        )

    # Starting and stopping.

    async def prestart_process(self) -> None:
        """Start the server's process ahead of its connection. A failure is reported when the connection is opened."""
        with suppress(McpChatError):
            self._auth = await self._credentials.authenticate(self.name)
            self._process = await self._connector.spawn(self._spec, self._auth)

    def connect_in_background(self, *, relist: bool = False) -> None:
        """Start connecting without waiting. A failure is reported by events only."""
        self._run_in_background(self.acquire_connection(relist=relist))

    async def acquire_connection(self, *, relist: bool = False, mark_busy: bool = False) -> Connection:
        """The live connection, opened if needed. ``relist`` asks the server for its lists in any case.

        ``mark_busy`` counts a call as active; the caller ends it. A server that was up before gets several attempts.
        Raises ServerError, SignInNeeded, and ConfigError or StoreError for its credentials.
        """
        async with self._lock:
            connection = await self._ensure_connected(relist=relist)
            if mark_busy:
                self._active_calls += 1
                self._idle.clear()
            return connection

    async def _ensure_connected(self, *, relist: bool) -> Connection:
        if self.connection is not None and self.connection.is_alive and not await self._needs_new_token():
            if relist or self.tools is None:
                await self._update_catalog(self.connection)
                self._set_state("ready")
            return self.connection
        if self.last_error is not None:
            cooldown = COOLDOWN_SECONDS if self._failures >= MAX_FAILURES else FAILURE_CACHE_SECONDS
            if time.monotonic() - self._failed_at < cooldown:
                raise self.last_error
        while True:
            if self.connection is not None:
                await self._stop()
            if self.has_started and self._failures:
                await asyncio.sleep(BACKOFF_SECONDS * 2 ** (self._failures - 1))
            try:
                return await self._start(relist=relist)
            except SignInNeeded:
                raise
            except ServerError as error:
                self._failures += 1
                if self._failures >= MAX_FAILURES:
                    self._disable(error)
                if not self.has_started or self._failures >= MAX_FAILURES:
                    raise

    async def _needs_new_token(self) -> bool:
        """Whether the process must be restarted to get a new token; if so, its calls have ended."""
        renewal = self._auth.renewal if self._auth is not None else "no"
        if renewal == "no" or (renewal == "soon" and self._active_calls):
            return False  # the present token is still valid
        if self.tasks.is_busy:
            return False  # they would end with the process
        try:
            self._renewed_auth = await self._credentials.authenticate(self.name)
        except SignInNeeded:
            raise
        except McpChatError as error:
            if renewal == "now":
                raise ServerError(f"{self.name}: {error.message}", hint=error.hint) from error
            return False  # the present token is still valid
        if self._active_calls:
            with suppress(TimeoutError):
                async with asyncio.timeout(TOKEN_RESTART_GRACE):
                    await self._idle.wait()
        if self._active_calls:
            self._renewed_auth = None
            return False  # do not end a long call for this: a request that the provider rejects is repeated
        self._context.notify("info", f"renewed the {self.config.auth} login of {self.name}")
        return True

    async def _start(self, *, relist: bool) -> Connection:
        started = time.monotonic()
        self._set_state("starting")
        try:
            async with self._context.start_slots:
                connection = await self._connect_and_list(relist=relist)
                if self._context.watch:
                    self._run_in_background(connection.subscribe(sorted(self._watched_uris)))
        except SignInNeeded as error:
            self._login_version = self._credentials.describe(self.name).version
            await self._record_failure(error)
            self._set_state("login", "\n".join(filter(None, (error.message, error.hint))))
            raise
        except McpChatError as error:
            error.message = self._secrets.redact(error.message)
            log = error.log if isinstance(error, ServerError) else ()
            failure = ServerError(f"{self.name}: {error.message}", hint=error.hint, log=log)
            await self._record_failure(failure)
            self._set_state("failed", "\n".join(filter(None, (error.message, *log, error.hint))))
            raise failure from error
        self._start_seconds = time.monotonic() - started
        self.has_started, self.last_error = True, None
        self._set_state("ready")
        return connection

    async def _connect_and_list(self, *, relist: bool) -> Connection:
        """Open a new connection and list the tools: the program may be another one than before."""
        connection = self.connection = await self._connect()
        try:
            await self._update_catalog(connection, full=relist or self.catalog is None or self._others_pending)
        except (ProtocolChanged, ConnectionLost) as error:
            if isinstance(error, ConnectionLost) and error.session_lost:
                self._context.notify("info", f"{self.name} has ended the session, with its state; a new one begins")
            elif self._mode == "auto" or (isinstance(error, ConnectionLost) and not error.never_answered):
                raise
            else:
                self._discard_catalog()  # the remembered protocol no longer holds
            await self._stop()
            connection = self.connection = await self._connect()
            await self._update_catalog(connection)
        return connection

    async def _connect(self) -> Connection:
        await self._read_identity()
        process, self._process = self._process, None
        if process is None or self._auth is None:
            renewed, self._renewed_auth = self._renewed_auth, None
            self._auth = renewed or await self._credentials.authenticate(self.name)
        info = self.catalog.info if self.catalog is not None else None
        return await self._connector.connect(
            self._spec, self._auth, mode=self._initial_mode(), info=info, process=process, key=self._cache_key
        )

    async def end_session(self) -> None:
        """End the session that was kept after an earlier command. Raises as ``acquire_connection``."""
        await self._read_identity()
        auth = await self._credentials.authenticate(self.name)
        await self._connector.end_session(self._spec, auth, self._cache_key)

    def _initial_mode(self) -> ProtocolMode:
        """The protocol to start with: the configured one, else the remembered one, else "auto"."""
        # "modern" skips the exchange in which a server describes itself, so its description must be known already.
        cached_mode = "auto" if self._mode == "modern" and self.catalog is None else self._mode
        match self.config.protocol:
            case "auto":
                return cached_mode
            case "2026-07-28":
                return "modern" if cached_mode == "modern" else "auto"
            case _:
                return "legacy"

    async def _record_failure(self, failure: McpChatError) -> None:
        """Remember the failure for callers that wait for the same start, and stop what is left running."""
        self.last_error, self._failed_at = failure, time.monotonic()
        await self._stop()

    async def restart(self) -> None:
        """Stop the server and forget what it lists and its failures; it is started again when next needed."""
        async with self._lock:
            self._discard_catalog()
            self._cache_key = self._compute_cache_key()
            self._failures, self.last_error, self._renewed_auth = 0, None, None
            await self._end_own_tasks()
            await self._stop()

    async def suspend(self) -> None:
        """Stop the server because it is no longer in use; what it lists stays known."""
        async with self._lock:
            self._renewed_auth = None
            await self._end_own_tasks()
            await self._stop()
            self.state, self._detail = "idle", ""

    async def close(self) -> None:
        """Cancel the background work and stop the server for good."""
        for task in self._background_tasks:
            task.cancel()
        await asyncio.gather(*self._background_tasks, return_exceptions=True)
        await self.tasks.aclose()
        await self._stop()
        self.log.close()

    async def _end_own_tasks(self) -> None:
        """Wait no longer for tasks that end with the server's process."""
        if self.ends_with_us:
            await self.tasks.aclose()

    async def _stop(self) -> None:
        process, self._process = self._process, None
        connection, self.connection = self.connection, None
        if connection is not None:
            await connection.close()
        elif process is not None:
            await process.stop()

    def _set_state(self, state: ServerState, detail: str = "") -> None:
        detail = self._secrets.redact(detail)
        self.state, self._detail = state, detail
        self._context.emit(ServerChanged(server=self.name, state=state, detail=detail))

    # The catalog.

    async def _update_catalog(self, connection: Connection, *, full: bool = True) -> None:
        """Ask the server for its lists; without ``full`` for its tools only, the other lists stay as they are.

        The tools can be used at once: other lists that take long are awaited in the background.
        """
        was_changed, self._tools_changed = self._tools_changed, False
        others = asyncio.ensure_future(connection.list_all("others")) if full else None
        if full and self._other_lists is not None:
            self._other_lists.cancel()
        try:
            tools = await connection.list_all("tools")
            self._mode = connection.mode
            if others is not None:
                await asyncio.wait({others}, timeout=OTHER_LISTS_GRACE)
                self._others_pending = not others.done()
                if others.done():
                    self._take_others(others.result())
            self._take_tools(tools, save=full)
        except BaseException:
            self._tools_changed = self._tools_changed or was_changed  # the look at an announced change failed
            if others is not None:
                others.cancel()
                await asyncio.gather(others, return_exceptions=True)
            raise
        if others is not None and self._others_pending:
            self._other_lists = self._run_in_background(self._await_others(connection, others))

    async def _await_others(self, connection: Connection, others: "asyncio.Future[CatalogListing]") -> None:
        try:
            listing = await others
            if self.connection is connection and self._tools_listing is not None:
                self._others_pending = False
                self._take_others(listing)
                self._take_tools(self._tools_listing, save=True)
        finally:
            others.cancel()

    async def wait_for_lists(self) -> None:
        """Wait for the lists that are still awaited in the background."""
        if self._other_lists is not None:
            await asyncio.wait({self._other_lists})

    def _take_others(self, listing: CatalogListing) -> None:
        """Keep what the server lists besides tools; ``_take_tools`` makes the catalog of both."""
        known = self._others[0].notices if self._others is not None else ()
        self._others = self._secrets.redact_value(listing.catalog), listing.ttl
        for notice in self._others[0].notices:
            if notice not in known:
                self._context.notify("warning", f"{self.name}: {notice}")

    def _take_tools(self, listing: CatalogListing, *, save: bool) -> None:
        """Keep the server's tools, together with its other lists as far as they are known.

        With ``save``, the catalog is saved even if it has not changed.
        """
        is_new, self._tools_listing = listing is not self._tools_listing, listing
        raw = listing.catalog
        redacted = self._secrets.redact_value(raw)
        # Leave out a tool whose name was redacted: the server does not know the new name, and another tool may have it.
        pairs = zip(raw.tools, redacted.tools, strict=True)
        tools = tuple(tool for original, tool in pairs if original.name == tool.name)
        others, others_ttl = self._others or (redacted, None)
        notices = tuple(dict.fromkeys((*redacted.notices, *others.notices)))
        catalog = replace(others, info=redacted.info, tools=tools, notices=notices)
        if not self._others_pending and (catalog != self.catalog or save):
            ttls = [ttl for ttl in (listing.ttl, others_ttl) if ttl is not None]
            accepted, _ = enforce_tool_limits(tools, self._context.tool_limits)
            limits = self._context.tool_limits if accepted == tools else None
            self._cache.save(
                self._cache_key, mode=self._mode, catalog=catalog, limits=limits, ttl=min(ttls, default=None)
            )
        if is_new:
            for notice in redacted.notices if self.catalog is None or self.catalog.tools != tools else ():
                self._context.notify("warning", f"{self.name}: {notice}")
        if self.catalog is not None and self.tools is not None and self.catalog.tools == tools:
            is_same_server = self.catalog.info == catalog.info
            self.catalog = catalog
            if is_same_server:
                return
        self._apply_catalog(catalog)

    def _apply_catalog(self, catalog: Catalog, *, is_within: bool = False) -> None:
        """Keep the catalog; its tools that the config exposes get this server's name, trust and account.

        ``is_within`` tells that it is known to be within the limits.
        """
        trusted = self.config.trust or self.config.is_bundled
        own = (self.name, trusted, self.config.account or "", catalog.info.title)
        exposed = [
            tool
            if (tool.server, tool.trusted, tool.account, tool.server_title) == own
            else replace(tool, server=own[0], trusted=own[1], account=own[2], server_title=own[3])
            for tool in catalog.tools
            if self.config.exposes(tool.name)
        ]
        exposed.sort(key=lambda spec: spec.name)
        self.catalog = catalog
        if is_within:
            self.tools = tuple(exposed)
            return
        self.tools, notices = enforce_tool_limits(exposed, self._context.tool_limits)
        for notice in notices:
            self._context.notify("warning", f"{self.name}: {notice}")

    def _discard_catalog(self) -> None:
        self._cache.forget(self._cache_key)
        self._forget_lists()

    def _forget_lists(self) -> None:
        """Forget what the server listed, in memory."""
        self._mode, self.catalog, self.tools = "auto", None, None
        self._others = self._tools_listing = None
        self._others_pending = False
        if self._other_lists is not None:
            self._other_lists.cancel()

    def _on_change(self, change: ChangeKind, uri: str) -> None:
        """Handle a change notification. The tools that a model sees change with its next turn."""
        if change == "updated":
            if uri in self._watched_uris:
                self._context.notify("info", f"{self.name}: {uri} has changed")
            return
        self._catalog_dirty = True
        self._tools_changed = self._tools_changed or change == "tools"
        if self._relist_task is None or self._relist_task.done():
            self._relist_task = self._run_in_background(self._relist())

    async def _relist(self) -> None:
        while self._catalog_dirty:
            await asyncio.sleep(CHANGE_DEBOUNCE)
            self._catalog_dirty = False
            async with self._lock:
                if self.connection is not None and self.connection.is_alive:
                    await self._update_catalog(self.connection)

    def _run_in_background(self, work: Coroutine[Any, Any, object]) -> "asyncio.Task[None]":
        """Run ``work`` as a task that ``close`` cancels. Its errors are dropped: events have reported them."""

        async def run() -> None:
            with suppress(McpChatError):
                await work

        task = asyncio.create_task(run())
        self._background_tasks.add(task)
        task.add_done_callback(self._background_tasks.discard)
        return task
