"""Remote transports: what the SDK's lose of HTTP is kept, and what arrives is bounded."""

import asyncio
import json
import math
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import anyio
import httpx2
from anyio.streams.memory import MemoryObjectReceiveStream
from mcp import types
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage

from mcpchat.mcp.message_filter import MAX_CONTAINERS, MessageFilter, error_response

_KEY_PREFIX = secrets.token_hex(8)  # what is noted under these keys is noted here: no server can know them
HTTP_STATUS = f"{_KEY_PREFIX}/httpStatus"
NOT_SENT = f"{_KEY_PREFIX}/notSent"
SESSION_LOST = f"{_KEY_PREFIX}/sessionLost"
BACKGROUND_TIMEOUT = 10.0  # seconds, for requests that nobody waits for: notifications, goodbyes
_FREE_STREAMS, _STREAM_PAUSE, _MAX_STREAM_PAUSE = 5, 0.1, 30.0
_SESSION_HEADER = "mcp-session-id"


@asynccontextmanager
async def http_transport(
    url: str,
    headers: Mapping[str, str],
    message_filter: MessageFilter,
    *,
    sse: bool,
    timeout: float,
    max_bytes: int,
    http_auth: httpx2.Auth | None = None,
) -> AsyncIterator[Any]:
    """The streams that the SDK's client reads and writes, over streamable HTTP or the older HTTP with SSE."""
    http_timeout = httpx2.Timeout(timeout, read=None)  # how long an answer may take is the caller's business
    send_error, errors = anyio.create_memory_object_stream[types.JSONRPCError](math.inf)

    def client(
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
    ) -> httpx2.AsyncClient:
        # With SSE a request's answer comes elsewhere: what its own response says of it must get there too.
        on_error = send_error.send_nowait if sse else None
        return McpHttpClient(max_bytes, on_error, headers=headers, timeout=http_timeout, auth=auth or http_auth)

    async with AsyncExitStack() as stack:
        stack.enter_context(send_error)
        if sse:
            transport = sse_client(url, dict(headers), httpx_client_factory=client)
        else:
            http = await stack.enter_async_context(client(dict(headers)))
            transport = streamable_http_client(url, http_client=http, max_sse_event_size=max_bytes)
        streams = await stack.enter_async_context(transport)
        yield await stack.enter_async_context(_pump(streams, message_filter, errors))


@asynccontextmanager
async def _pump(
    streams: Any, message_filter: MessageFilter, errors: MemoryObjectReceiveStream[types.JSONRPCError]
) -> AsyncIterator[Any]:
    """The streams with the wire between them and the session."""
    inner_read, inner_write = streams
    to_session, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, from_session = anyio.create_memory_object_stream[SessionMessage](0)

    async def read() -> None:
        async with to_session:
            try:
                async for item in inner_read:
                    if isinstance(item, Exception):
                        await to_session.send(item)
                        continue
                    filtered = message_filter.filter_incoming(item.message)
                    if filtered is not None:
                        item.message = filtered
                        await to_session.send(item)
            except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                pass

    async def forward_errors() -> None:
        async with errors:
            async for error in errors:
                if (filtered := message_filter.filter_incoming(error)) is not None:
                    with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                        await to_session.send(SessionMessage(filtered))

    async def write() -> None:
        async with from_session, inner_write:
            try:
                async for item in from_session:
                    message_filter.record_outgoing(item.message)
                    await inner_write.send(item)
            except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                await to_session.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        tasks.start_soon(write)
        tasks.start_soon(forward_errors)
        try:
            yield incoming, outgoing
        finally:
            tasks.cancel_scope.cancel()


class McpHttpClient(httpx2.AsyncClient):
    """An HTTP client for one MCP server.

    The SDK loses an answer's status, and the whole connection where one request cannot be sent. Here both become a
    JSON-RPC error, of that request alone, that says in its data what happened. Bodies are bounded, and never packed:
    a packed one could unfold without bound.
    """

    def __init__(self, max_bytes: int, on_error: Callable[[types.JSONRPCError], None] | None, **options: Any) -> None:
        super().__init__(**options)
        self.headers["Accept-Encoding"] = "identity"
        self._max_bytes = max_bytes
        self._on_error = on_error
        self._stream_starts: list[float] = []

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        request_id = _read_request_id(request)
        if request.method == "GET":
            await self._throttle_streams()
        elif request_id is None:
            timeouts = dict(request.extensions.get("timeout") or {})
            request.extensions = {**request.extensions, "timeout": {**timeouts, "read": BACKGROUND_TIMEOUT}}
        try:
            response = await super().send(request, **options)
        except httpx2.TransportError as error:
            if request.method != "POST":
                raise
            if request_id is None:
                return httpx2.Response(202, request=request)  # a notification, lost with what it was about
            not_sent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
            reason = (
                "nobody answers there" if isinstance(error, httpx2.ConnectError) else str(error) or "no answer in time"
            )
            return self._error_response(request, request_id, f"cannot be reached: {reason}", {NOT_SENT: not_sent})
        compressed = response.headers.get("content-encoding", "identity").lower() != "identity"
        is_error = response.status_code >= 400
        if request_id is not None and (compressed or is_error):
            return await self._replace_error(request, request_id, response, compressed)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        is_event_stream = response.headers.get("content-type", "").lower().startswith("text/event-stream")
        response.stream = BoundedBody(response.stream, self._max_bytes, is_event_stream=is_event_stream)
        return response

    async def _throttle_streams(self) -> None:
        """Wait, where streams are asked for again and again: a server may say that nothing need lie between."""
        now = time.monotonic()
        self._stream_starts = [
            started_at for started_at in self._stream_starts if now - started_at < _MAX_STREAM_PAUSE
        ][-50:]
        excess = len(self._stream_starts) - _FREE_STREAMS
        if excess >= 0:
            await asyncio.sleep(min(_STREAM_PAUSE * 2**excess, _MAX_STREAM_PAUSE))
        self._stream_starts.append(time.monotonic())

    async def _replace_error(
        self, request: httpx2.Request, request_id: str | int, response: httpx2.Response, compressed: bool
    ) -> httpx2.Response:
        """The answer that stands for one that the SDK would take for something else."""
        data: dict[str, Any] = {HTTP_STATUS: response.status_code}
        if compressed:
            await response.aclose()
            return self._error_response(
                request, request_id, "it answered in a packed form that was not asked for", data
            )
        body = await _read_error_body(response)
        error = _parse_json_error(body)
        message = str(error.get("message") or "") or f"HTTP {response.status_code} {response.reason_phrase}".strip()
        session_lost = response.status_code == 404 or (response.status_code == 400 and "session" in message.lower())
        if _SESSION_HEADER in request.headers and session_lost:
            return self._error_response(
                request, request_id, "the server has forgotten the session", {SESSION_LOST: True}
            )
        if isinstance(error.get("code"), int):
            if isinstance(error.get("data"), dict):
                data = {**error["data"], **data}
            elif "data" in error:
                data["data"] = error["data"]
        return self._error_response(request, request_id, message, data, code=error.get("code"))

    def _error_response(
        self, request: httpx2.Request, request_id: str | int, message: str, data: dict[str, Any], *, code: object = None
    ) -> httpx2.Response:
        error = error_response(
            request_id, message, code=code if isinstance(code, int) else types.INTERNAL_ERROR, data=data
        )
        if self._on_error is not None:
            self._on_error(error)
            return httpx2.Response(202, request=request)
        return httpx2.Response(200, json=error.model_dump(mode="json"), request=request)


class BoundedBody(httpx2.AsyncByteStream):
    """A body of at most so many bytes, and of as much structure as is good; of events, each for itself."""

    def __init__(self, inner: httpx2.AsyncByteStream, max_bytes: int, *, is_event_stream: bool) -> None:
        self._inner = inner
        self._max_bytes = max_bytes
        self._is_event_stream = is_event_stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = containers = 0
        try:
            async for chunk in self._inner:
                if self._is_event_stream and (b"\n\n" in chunk or b"\r\n\r\n" in chunk):
                    size = containers = 0
                size += len(chunk)
                containers += chunk.count(b"{") + chunk.count(b"[")
                if (
                    size > 2 * self._max_bytes
                    or containers > MAX_CONTAINERS
                    or (size > self._max_bytes and not self._is_event_stream)
                ):
                    raise UnreadableBody("larger than limits.max_message")
                yield chunk
        except httpx2.TransportError as error:
            raise UnreadableBody(f"broken off: {error}") from error

    async def aclose(self) -> None:
        await self._inner.aclose()


class UnreadableBody(httpx2.StreamError):
    """A body that ends badly: of this kind the SDK makes an error of one request; of others, the connection's end."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the answer is {reason}")


async def _read_error_body(response: httpx2.Response) -> bytes:
    """The first bytes of an error's body, and the connection given back."""
    body = b""
    try:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > 65_536:
                break
    except httpx2.HTTPError:
        pass
    finally:
        await response.aclose()
    return body


def _parse_json_error(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    error = value.get("error") if isinstance(value, dict) else None
    return error if isinstance(error, dict) else {}


def _read_request_id(request: httpx2.Request) -> str | int | None:
    """The JSON-RPC id that the request asks under; None for all but a request of the protocol."""
    if request.method != "POST":
        return None
    try:
        message = json.loads(request.content)
    except (ValueError, httpx2.RequestNotRead):
        return None
    is_request = isinstance(message, dict) and isinstance(message.get("method"), str)
    request_id = message.get("id") if is_request else None
    return request_id if isinstance(request_id, str | int) else None
