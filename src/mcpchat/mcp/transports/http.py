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

from mcpchat.mcp.message_filter import MOST_NESTED, Wire, refusal

_OURS = secrets.token_hex(8)  # what is noted under these keys is noted here: no server can know them
HTTP_STATUS = f"{_OURS}/httpStatus"
NOT_SENT = f"{_OURS}/notSent"
SESSION_LOST = f"{_OURS}/sessionLost"
_ASIDE = 10.0  # seconds, for requests that nobody waits for: notifications, goodbyes
_FREE_STREAMS, _STREAM_PAUSE, _LONGEST_PAUSE = 5, 0.1, 30.0
_SESSION = "mcp-session-id"


@asynccontextmanager
async def over_http(
    url: str,
    headers: Mapping[str, str],
    wire: Wire,
    *,
    sse: bool,
    timeout: float,
    most_bytes: int,
    signer: httpx2.Auth | None = None,
) -> AsyncIterator[Any]:
    """The streams that the SDK's client reads and writes, over streamable HTTP or the older HTTP with SSE."""
    patience = httpx2.Timeout(timeout, read=None)  # how long an answer may take is the caller's business
    send_refusal, refusals = anyio.create_memory_object_stream[types.JSONRPCError](math.inf)

    def client(
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
    ) -> httpx2.AsyncClient:
        # With SSE a request's answer comes elsewhere: what its own response says of it must get there too.
        refused = send_refusal.send_nowait if sse else None
        return _Http(most_bytes, refused, headers=headers, timeout=patience, auth=auth or signer)

    async with AsyncExitStack() as stack:
        stack.enter_context(send_refusal)
        if sse:
            opened = sse_client(url, dict(headers), httpx_client_factory=client)
        else:
            http = await stack.enter_async_context(client(dict(headers)))
            opened = streamable_http_client(url, http_client=http, max_sse_event_size=most_bytes)
        streams = await stack.enter_async_context(opened)
        yield await stack.enter_async_context(_through(streams, wire, refusals))


@asynccontextmanager
async def _through(
    streams: Any, wire: Wire, refusals: MemoryObjectReceiveStream[types.JSONRPCError]
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
                    passed = wire.incoming(item.message)
                    if passed is not None:
                        item.message = passed
                        await to_session.send(item)
            except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                pass

    async def refuse() -> None:
        async with refusals:
            async for refused in refusals:
                if (passed := wire.incoming(refused)) is not None:
                    with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                        await to_session.send(SessionMessage(passed))

    async def write() -> None:
        async with from_session, inner_write:
            try:
                async for item in from_session:
                    wire.outgoing(item.message)
                    await inner_write.send(item)
            except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                await to_session.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        tasks.start_soon(write)
        tasks.start_soon(refuse)
        try:
            yield incoming, outgoing
        finally:
            tasks.cancel_scope.cancel()


class _Http(httpx2.AsyncClient):
    """An HTTP client for one MCP server.

    The SDK loses an answer's status, and the whole connection where one request cannot be sent. Here both become a
    JSON-RPC error, of that request alone, that says in its data what happened. Bodies are bounded, and never packed:
    a packed one could unfold without bound.
    """

    def __init__(self, most_bytes: int, refused: Callable[[types.JSONRPCError], None] | None, **options: Any) -> None:
        super().__init__(**options)
        self.headers["Accept-Encoding"] = "identity"
        self._most_bytes = most_bytes
        self._tell_refused = refused
        self._streams: list[float] = []

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        number = _request_id(request)
        if request.method == "GET":
            await self._calmly()
        elif number is None:
            timeouts = dict(request.extensions.get("timeout") or {})
            request.extensions = {**request.extensions, "timeout": {**timeouts, "read": _ASIDE}}
        try:
            response = await super().send(request, **options)
        except httpx2.TransportError as error:
            if request.method != "POST":
                raise
            if number is None:
                return httpx2.Response(202, request=request)  # a notification, lost with what it was about
            unsent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
            why = (
                "nobody answers there" if isinstance(error, httpx2.ConnectError) else str(error) or "no answer in time"
            )
            return self._error(request, number, f"cannot be reached: {why}", {NOT_SENT: unsent})
        packed = response.headers.get("content-encoding", "identity").lower() != "identity"
        refused = response.status_code >= 400
        if number is not None and (packed or refused):
            return await self._refused(request, number, response, packed)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        events = response.headers.get("content-type", "").lower().startswith("text/event-stream")
        response.stream = _Bounded(response.stream, self._most_bytes, events=events)
        return response

    async def _calmly(self) -> None:
        """Wait, where streams are asked for again and again: a server may say that nothing need lie between."""
        now = time.monotonic()
        self._streams = [at for at in self._streams if now - at < _LONGEST_PAUSE][-50:]
        surplus = len(self._streams) - _FREE_STREAMS
        if surplus >= 0:
            await asyncio.sleep(min(_STREAM_PAUSE * 2**surplus, _LONGEST_PAUSE))
        self._streams.append(time.monotonic())

    async def _refused(
        self, request: httpx2.Request, number: str | int, response: httpx2.Response, packed: bool
    ) -> httpx2.Response:
        """The answer that stands for one that the SDK would take for something else."""
        data: dict[str, Any] = {HTTP_STATUS: response.status_code}
        if packed:
            await response.aclose()
            return self._error(request, number, "it answered in a packed form that was not asked for", data)
        body = await _start_of(response)
        said = _json_error(body)
        message = str(said.get("message") or "") or f"HTTP {response.status_code} {response.reason_phrase}".strip()
        lost = response.status_code == 404 or (response.status_code == 400 and "session" in message.lower())
        if _SESSION in request.headers and lost:
            return self._error(request, number, "the server has forgotten the session", {SESSION_LOST: True})
        if isinstance(said.get("code"), int):
            if isinstance(said.get("data"), dict):
                data = {**said["data"], **data}
            elif "data" in said:
                data["data"] = said["data"]
        return self._error(request, number, message, data, code=said.get("code"))

    def _error(
        self, request: httpx2.Request, number: str | int, message: str, data: dict[str, Any], *, code: object = None
    ) -> httpx2.Response:
        refused = refusal(number, message, code=code if isinstance(code, int) else types.INTERNAL_ERROR, data=data)
        if self._tell_refused is not None:
            self._tell_refused(refused)
            return httpx2.Response(202, request=request)
        return httpx2.Response(200, json=refused.model_dump(mode="json"), request=request)


class _Bounded(httpx2.AsyncByteStream):
    """A body of at most so many bytes, and of as much structure as is good; of events, each for itself."""

    def __init__(self, inner: httpx2.AsyncByteStream, most_bytes: int, *, events: bool) -> None:
        self._inner = inner
        self._most_bytes = most_bytes
        self._events = events

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = nested = 0
        try:
            async for chunk in self._inner:
                if self._events and (b"\n\n" in chunk or b"\r\n\r\n" in chunk):
                    size = nested = 0
                size += len(chunk)
                nested += chunk.count(b"{") + chunk.count(b"[")
                if (
                    size > 2 * self._most_bytes
                    or nested > MOST_NESTED
                    or (size > self._most_bytes and not self._events)
                ):
                    raise _Unreadable("larger than limits.max_message")
                yield chunk
        except httpx2.TransportError as error:
            raise _Unreadable(f"broken off: {error}") from error

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Unreadable(httpx2.StreamError):
    """A body that ends badly: of this kind the SDK makes an error of one request; of others, the connection's end."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the answer is {why}")


async def _start_of(response: httpx2.Response) -> bytes:
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


def _json_error(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    error = value.get("error") if isinstance(value, dict) else None
    return error if isinstance(error, dict) else {}


def _request_id(request: httpx2.Request) -> str | int | None:
    """The JSON-RPC id that the request asks under; None for all but a request of the protocol."""
    if request.method != "POST":
        return None
    try:
        message = json.loads(request.content)
    except (ValueError, httpx2.RequestNotRead):
        return None
    asks = isinstance(message, dict) and isinstance(message.get("method"), str)
    number = message.get("id") if asks else None
    return number if isinstance(number, str | int) else None
