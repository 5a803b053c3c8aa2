"""One MCP connection, owned by one task that opens it, keeps it and closes it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from typing import Any, TypeVar

import anyio
import httpx2
from mcp import Client, MCPError, types
from mcp.client.client import ConnectMode
from mcp.client.subscriptions import SubscriptionLost
from pydantic import ValidationError

from mcpchat.core.catalog import Prompt, ResourceTemplate, ServerInfo
from mcpchat.core.events import Emit, ToolProgress
from mcpchat.core.messages import Content, Message, Text, ToolResult, error_result, result_text
from mcpchat.core.tools import ToolSpec
from mcpchat.errors import McpChatError, ServerError, SignInNeeded, ToolFailed
from mcpchat.mcp import decode, listing
from mcpchat.mcp.callbacks import ServerCallbacks
from mcpchat.mcp.catalog_cache import ProtocolMode
from mcpchat.mcp.message_filter import MessageFilter
from mcpchat.mcp.process import GRACE
from mcpchat.mcp.protocols import (
    STATELESS_REVISION,
    CatalogListing,
    ConnectionLost,
    ConnectionParams,
    HandshakeFailed,
    ProtocolChanged,
    TokenRejected,
)
from mcpchat.mcp.timeouts import RequestTimeout
from mcpchat.mcp.transports.http import HTTP_STATUS, NOT_SENT, SESSION_LOST, http_transport
from mcpchat.mcp.transports.stdio import MESSAGE_TOO_LARGE, stdio_transport
from mcpchat.util import json_schema
from mcpchat.version import __version__

_T = TypeVar("_T")
_RESUBSCRIBE_DELAYS = (1.0, 5.0, 30.0, 120.0)  # seconds, after a subscription was lost
_URL_ELICITATION_REQUIRED, _CONNECTION_CLOSED = -32042, -32000
_OVER_LIMIT_SUFFIXES = (" byte limit.", "limits.max_message")  # how the SDK's words for it end, and ours
_PROBE_TIMEOUT = 10.0  # seconds that the SDK gives a server to say whether it is a modern one
_AUTH_META_KEY = "mcpchat/auth"  # under which a server says "expired" of its provider's token
_log = logging.getLogger(__name__)


async def connect(params: ConnectionParams) -> "McpConnection":
    """Open the connection within ``dial.timeout`` seconds. Raises ServerError or SignInNeeded, with nothing left."""
    connection = McpConnection(params)
    try:
        await connection.open()
    except BaseException:  # a cancellation too: nobody else knows of the process
        if params.process is not None:
            await params.process.stop()
        raise
    return connection


class McpConnection:
    """A live session with one server; single use."""

    def __init__(self, params: ConnectionParams) -> None:
        self.info = params.info or ServerInfo()
        self.mode: ProtocolMode = params.mode
        self._params = params
        self._filter = MessageFilter(on_log=params.on_log, on_change=params.on_change, revision=params.revision)
        self._client: Client | None = None
        self._unconfirmed = params.mode == "modern"  # its protocol is taken on trust until an answer confirms it
        self._broken = False
        self._protocol_changed = False
        self._failure: BaseException | None = None
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._subscription: asyncio.Task[None] | None = None
        self._active_timeouts: set[RequestTimeout] = set()
        self._subscribed_uris: set[str] = set()

    @property
    def is_alive(self) -> bool:
        process = self._params.process
        is_gone = self._broken or self._filter.closed or (process is not None and process.exit_code is not None)
        return self._client is not None and not is_gone

    async def open(self) -> None:
        if self._params.http_auth is not None:
            self._params.http_auth.challenge = None  # what it hears from now on is about this connection
        self._task = asyncio.create_task(self._run(), name=f"mcp {self._params.name}")
        try:
            async with asyncio.timeout(self._params.timeout + GRACE):
                await self._ready.wait()
        except asyncio.CancelledError:
            await self.close()
            raise
        except TimeoutError as error:  # it does not even let itself be given up
            self._failure = error
            await self._stop_task(self._task)
        if self._client is None:
            await asyncio.wait({self._task}, timeout=GRACE)
            raise await self._startup_error()

    def _open_transport(self) -> AbstractAsyncContextManager[Any]:
        params = self._params
        if params.process is not None:
            return stdio_transport(params.process, self._filter, max_bytes=params.max_message_bytes)
        assert params.url is not None
        return http_transport(
            params.url,
            params.headers,
            self._filter,
            sse=params.sse,
            timeout=params.timeout,
            max_bytes=params.max_message_bytes,
            http_auth=params.http_auth,
        )

    async def _run(self) -> None:
        params = self._params
        callbacks = ServerCallbacks(params, self._pause_timeouts)
        mode: ConnectMode = STATELESS_REVISION if params.mode == "modern" else params.mode
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(params.timeout):
                    client = await stack.enter_async_context(
                        Client(
                            self._open_transport(),
                            mode=mode,
                            client_info=types.Implementation(name="mcpchat", version=__version__),
                            elicitation_callback=callbacks.elicit if params.elicitation else None,
                            sampling_callback=callbacks.sample if params.sampling else None,
                            list_roots_callback=callbacks.list_roots if params.roots else None,
                            log_level="info",
                            cache=None,
                        )
                    )
                self._read_handshake(client)
                self._client = client
                self._ready.set()
                await self._stopping.wait()
        except asyncio.CancelledError as error:
            self._failure = self._failure or error
            raise
        except Exception as error:  # noqa: BLE001 - whatever the SDK lets out is reported by _failed, to whoever waits
            self._failure = _innermost_error(error)
        finally:
            self._client = None
            self._ready.set()

    def _read_handshake(self, client: Client) -> None:
        """Note who the server is, and what it speaks."""
        session = client.session
        # What it would check is checked here, in bounded time, and without losing the text of what does not fit.
        session.validate_tool_result = _skip_validation  # type: ignore[method-assign]  # the SDK has no setting for it
        if self._unconfirmed:
            return
        handshake = session.discover_result or session.initialize_result
        assert handshake is not None
        self.mode = "modern" if session.discover_result is not None else "legacy"
        capabilities = handshake.capabilities.model_dump(exclude_none=True)
        self.info = decode.parse_server_info(
            self._filter.take_result(handshake.meta), client.protocol_version, capabilities
        )

    async def _startup_error(self) -> McpChatError:
        """Why the connection could not be opened, in words."""
        process = self._params.process
        log = await process.final_log() if process else ()
        if process is not None and process.exit_code is not None:
            return HandshakeFailed(f"it left at once, with exit code {process.exit_code}", exited=True, log=log)
        if isinstance(self._failure, McpChatError):
            return self._failure
        if isinstance(self._failure, TimeoutError):
            message = f"it did not answer within {self._params.timeout:g} s"
            if self._params.mode == "auto" and self._params.timeout <= _PROBE_TIMEOUT:
                return HandshakeFailed(message, exited=True, log=log)  # perhaps it only ignores the first question
            return ServerError(message, hint="raise timeouts.start", log=log)
        if self._params.http_auth is not None and self._params.http_auth.challenge is not None:
            return self._sign_in_needed(401)  # whatever was made of the SDK's next greeting
        return self._handshake_error(self._failure, log)

    def _handshake_error(self, failure: BaseException | None, log: tuple[str, ...]) -> McpChatError:
        """What an answer that is no handshake means."""
        match failure:
            case MCPError() as error if _error_data(error, NOT_SENT) is not None:
                return ServerError(error.message, hint="check url in the config")
            case MCPError() as error:
                status, reason = _error_data(error, HTTP_STATUS), error.message
            case httpx2.HTTPStatusError() as error:
                status, reason = error.response.status_code, error.response.reason_phrase
            case httpx2.TransportError() as error:
                return ServerError(f"cannot be reached: {error}", hint="check url in the config")
            case ValidationError():
                status, reason = None, "its answer is not the protocol's"
            case error:
                status, reason = None, str(error)
        if status in {401, 403}:
            return self._sign_in_needed(status)
        if status and status >= 500:
            return ServerError(f"it answered HTTP {status}: {reason}", log=log)
        message = f"it answered HTTP {status}: {reason}" if status else f"the handshake failed: {reason}"
        return HandshakeFailed(message, exited=False, log=log)

    def _sign_in_needed(self, status: int) -> SignInNeeded:
        reason = "wants a sign-in" if status == 401 else "does not allow that to this login"
        return SignInNeeded(f"{self._params.name} {reason}", hint=self._params.sign_in_hint())

    async def list_all(self, timeout: RequestTimeout, *, tools_only: bool = False) -> CatalogListing:
        """All pages of all that the server lists, or of its tools. Raises ServerError."""

        async def send(work: Coroutine[Any, Any, _T]) -> _T:
            return await self._request(work, timeout)

        return await listing.list_all(
            self._params.name, self.info, self._require_client(), self._filter, send, tools_only=tools_only
        )

    async def call(
        self, spec: ToolSpec, call_id: str, arguments: dict[str, Any], emit: Emit, timeout: RequestTimeout
    ) -> ToolResult:
        """Run the tool. Raises ServerError when the server cannot answer."""

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            timeout.touch()
            emit(ToolProgress(call_id=call_id, done=progress, total=total, note=message or ""))

        try:
            work = self._require_client().call_tool(spec.name, arguments, progress_callback=on_progress)
            response = await self._request(work, timeout)
        except MCPError as error:
            return error_result(call_id, await self._describe_error(error, "call"))
        raw = self._filter.take_result(response.meta)
        result = decode.parse_tool_result(call_id, raw)
        meta = raw.get("_meta")
        if result.is_error and isinstance(meta, dict) and meta.get(_AUTH_META_KEY) == "expired":
            raise TokenRejected(f"the login of {self._params.name} is no longer taken", result)
        return _check_structured_result(spec, result)

    async def _describe_error(self, error: MCPError, action: str) -> str:
        """What to say of an error that the server answered with."""
        if error.code == MESSAGE_TOO_LARGE:
            return error.message
        if error.message.endswith(_OVER_LIMIT_SUFFIXES):
            return "the answer is larger than limits.max_message and was thrown away"
        elicitations = error.data.get("elicitations") if isinstance(error.data, dict) else None
        if error.code == _URL_ELICITATION_REQUIRED and isinstance(elicitations, list):
            return await self._open_requested_urls(
                [elicitation for elicitation in elicitations if isinstance(elicitation, dict)]
            )
        return f"the server refused the {action}: {error.message} (code {error.code})"

    async def _open_requested_urls(self, elicitations: Sequence[Mapping[str, Any]]) -> str:
        """A server that wants addresses opened before the call: the old way of asking."""
        for elicitation in elicitations:
            request = decode.parse_url_request(self._params.name, elicitation)
            if not self._params.elicitation or (await self._params.request_handler.elicit(request)).action != "accept":
                return "the server first wants an address opened, and the user did not agree"
        return "the server first wants something done at an address, which the user opened; call again once it is done"

    async def read_resource(self, uri: str, timeout: RequestTimeout) -> Sequence[Content]:
        try:
            response = await self._request(self._require_client().read_resource(uri), timeout)
        except MCPError as error:
            raise ToolFailed(f"{self._params.name} did not read {uri}: {error.message} (code {error.code})") from error
        contents = self._filter.take_result(response.meta).get("contents")
        return (
            [decode.parse_resource_contents(content) for content in contents if isinstance(content, dict)]
            if isinstance(contents, list)
            else []
        )

    async def get_prompt(self, name: str, arguments: Mapping[str, str], timeout: RequestTimeout) -> Sequence[Message]:
        try:
            response = await self._request(self._require_client().get_prompt(name, dict(arguments)), timeout)
        except MCPError as error:
            raise ToolFailed(f"{self._params.name} refused its prompt {name}: {error.message}") from error
        return decode.parse_prompt_messages(self._filter.take_result(response.meta))

    async def complete(
        self,
        target: Prompt | ResourceTemplate,
        argument: str,
        value: str,
        context: Mapping[str, str],
        timeout: RequestTimeout,
    ) -> Sequence[str]:
        if "completions" not in self.info.capabilities:
            return ()
        reference: types.PromptReference | types.ResourceTemplateReference = (
            types.PromptReference(name=target.name)
            if isinstance(target, Prompt)
            else types.ResourceTemplateReference(uri=target.uri)
        )
        work = self._require_client().complete(reference, {"name": argument, "value": value}, dict(context) or None)
        try:
            return decode.parse_completions(self._filter.take_result((await self._request(work, timeout)).meta))
        except MCPError:
            return ()

    async def subscribe(self, uris: Sequence[str] = ()) -> None:
        """Have the server tell of changes of its lists, and of these resources."""
        client = self._require_client()
        if self.mode == "modern":
            if self._subscription is not None:
                self._subscription.cancel()
            self._subscription = asyncio.create_task(self._listen_for_changes(client, tuple(uris)))
            return
        if "resources.subscribe" not in self.info.capabilities:
            return  # of its lists an older server tells unasked
        for uri in uris:
            if uri not in self._subscribed_uris:
                self._subscribed_uris.add(uri)
                request = types.SubscribeRequest(params=types.SubscribeRequestParams(uri=uri))
                with contextlib.suppress(MCPError, ServerError):
                    work = client.session.send_request(request, types.EmptyResult)
                    await self._request(work, RequestTimeout(idle=_PROBE_TIMEOUT, total=_PROBE_TIMEOUT))

    async def _listen_for_changes(self, client: Client, uris: Sequence[str]) -> None:
        losses = 0
        while losses < len(_RESUBSCRIBE_DELAYS):
            started = time.monotonic()
            try:
                async with client.listen(
                    tools_list_changed=True,
                    prompts_list_changed=True,
                    resources_list_changed=True,
                    resource_subscriptions=uris,
                ) as changes:
                    async for _ in changes:
                        pass  # the wire has told already
            except SubscriptionLost:
                pass
            except (MCPError, ValidationError, RuntimeError, TimeoutError):
                return  # it does not offer this
            if self._stopping.is_set():
                return
            losses = 1 if time.monotonic() - started > _RESUBSCRIBE_DELAYS[-1] else losses + 1
            await asyncio.sleep(_RESUBSCRIBE_DELAYS[losses - 1])
            for change in ("tools", "prompts", "resources"):  # nothing is said twice: what was missed must be asked
                self._params.on_change(change, "")

    async def _request(self, work: Coroutine[Any, Any, _T], timeout: RequestTimeout) -> _T:
        """Do this, as long as patience lasts. An error that the server sent stays MCPError; all else is ours."""
        name = self._params.name
        self._active_timeouts.add(timeout)
        try:
            async with timeout:
                result = await self._run_while_alive(work)
            self._unconfirmed = False
            return result
        except TimeoutError as error:
            if self._unconfirmed:  # perhaps it speaks another protocol now, and does not know what it was asked
                self._broken = True
                raise ConnectionLost(f"{name} {timeout.reason}", may_have_run=True, never_answered=True) from error
            raise ServerError(f"{name} {timeout.reason}", hint=f"raise servers.{name}.timeouts") from error
        except MCPError as error:
            await self._raise_transport_error(error)
            raise
        except (ValidationError, anyio.ClosedResourceError, anyio.BrokenResourceError, RuntimeError) as error:
            if not self.is_alive:
                raise await self._connection_lost() from error
            raise ServerError(f"{name} answered in a form that the protocol does not know") from error
        except (httpx2.HTTPError, OSError) as error:
            raise await self._connection_lost() from error
        finally:
            self._active_timeouts.discard(timeout)

    async def _raise_transport_error(self, error: MCPError) -> None:
        """Raise what an error means where it is not the server's answer to the request."""
        name = self._params.name
        if error.code == _CONNECTION_CLOSED and error.message == "Connection closed":  # servers use the code too
            raise await self._connection_lost() from error
        if _error_data(error, SESSION_LOST):
            self._broken = True
            raise ConnectionLost(f"{name} has ended the session", may_have_run=False) from error
        if (not_sent := _error_data(error, NOT_SENT)) is not None:  # this request alone: others may be on their way
            raise ConnectionLost(f"{name} {error.message}", may_have_run=not not_sent) from error
        if (
            error.code == _CONNECTION_CLOSED
            and error.message.startswith("SSE stream")
            and not error.message.endswith(_OVER_LIMIT_SUFFIXES)
        ):
            raise ConnectionLost(f"{name} broke its answer off", may_have_run=True) from error
        status = _error_data(error, HTTP_STATUS)
        if status in {401, 403}:
            raise self._sign_in_needed(status) from error
        if self._unconfirmed and not await self._still_stateless():
            self._broken = self._protocol_changed = True
            raise ProtocolChanged(f"{name} speaks another protocol than before: {error.message}") from error
        if status and error.code == types.INTERNAL_ERROR:
            raise ServerError(f"{name} answered HTTP {status}: {error.message}") from error

    @contextmanager
    def _pause_timeouts(self) -> Iterator[None]:
        """While somebody answers, no request of this server grows old."""
        timeouts = list(self._active_timeouts)
        for timeout in timeouts:
            timeout.pause()
        try:
            yield
        finally:
            for timeout in timeouts:
                timeout.resume()

    async def _still_stateless(self) -> bool:
        """Whether the server, which answered the first request with an error, still speaks what it spoke before."""
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT):
                await self._run_while_alive(self._require_client().session.send_discover(STATELESS_REVISION))
        except (MCPError, TimeoutError, ServerError, ValidationError, anyio.ClosedResourceError):
            return False
        self._unconfirmed = False
        return True

    async def close(self) -> None:
        """End the session and the process. Safe to call twice."""
        self._stopping.set()
        try:
            if self._subscription is not None:
                self._subscription.cancel()
                await asyncio.wait({self._subscription})
            if self._task is not None:
                await self._stop_task(self._task)
        finally:
            if self._params.process is not None:
                await self._params.process.stop()

    async def _stop_task(self, task: "asyncio.Task[None]") -> None:
        if not self._ready.is_set():
            task.cancel()
        done, _ = await asyncio.wait({task}, timeout=GRACE)
        if not done:  # a remote server that does not even answer a goodbye
            task.cancel()
            await asyncio.wait({task}, timeout=GRACE)

    def _require_client(self) -> Client:
        if self._client is None:
            raise ConnectionLost(f"{self._params.name} is not connected", may_have_run=False)
        return self._client

    async def _run_while_alive(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of the work, or an error as soon as the owner ends: a dead server fails at once."""
        assert self._task is not None
        task = asyncio.create_task(work)
        try:
            await asyncio.wait({task, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise await self._connection_lost()
            return task.result()
        except ExceptionGroup as group:
            raise _innermost_error(group) from group
        finally:
            if not task.done():
                task.cancel()  # the SDK tells the server
                await asyncio.wait({task})

    async def _connection_lost(self) -> ServerError:
        self._broken = True
        if self._protocol_changed:
            return ProtocolChanged(f"{self._params.name} speaks another protocol than before")
        process = self._params.process
        log = await process.final_log() if process else ()
        code = process.exit_code if process else None
        exit_note = f" with exit code {code}" if code is not None else ""
        reason = f": {self._failure}" if self._failure is not None and process is None else ""
        return ConnectionLost(
            f"{self._params.name} went away{exit_note} before it answered{reason}",
            may_have_run=True,
            never_answered=self._unconfirmed,
            log=log,
        )


async def _skip_validation(name: str, result: types.CallToolResult) -> None:
    """Any structure passes here; ``_checked`` judges it."""


def _check_structured_result(spec: ToolSpec, result: ToolResult) -> ToolResult:
    """The result; where its structure breaks the tool's own schema, a note of that stands in the structure's place."""
    if result.structured is None or spec.output_schema is None or result.is_error:
        return result
    problem = json_schema.find_error(spec.output_schema, result.structured)
    if not problem:
        return result
    note = Text(text=f"[the structured form of this result breaks the tool's own schema: {problem}]")
    parts = result.parts or (Text(text=result_text(result)),)
    return ToolResult(call_id=result.call_id, parts=(*parts, note))


def _error_data(error: MCPError, key: str) -> Any:
    """What the transport noted in an error's data."""
    return error.data.get(key) if isinstance(error.data, dict) else None


def _innermost_error(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
