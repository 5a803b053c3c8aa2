"""The HTTP transports: the SDK's, with HTTP errors preserved and response sizes limited."""

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
from mcp import types
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage

from mcpchat.errors import McpChatError
from mcpchat.mcp.kept_sessions import KeptSession, SessionFile
from mcpchat.mcp.limits import MAX_CONTAINERS
from mcpchat.mcp.message_filter import MessageFilter, error_response
from mcpchat.mcp.transports.base import (
    HTTP_STATUS,
    NOT_MCP,
    NOT_SENT,
    SESSION_DOUBTED,
    SESSION_LOST,
    STANDARD_ERRORS,
    Streams,
    Transport,
    pump_messages,
)
from mcpchat.util.connection_problems import explain_connection_error
from mcpchat.util.tls import tls_context

BACKGROUND_TIMEOUT = 10.0  # seconds, for notifications and the request that ends the session
_FREE_STREAMS, _STREAM_PAUSE, _MAX_STREAM_PAUSE = 5, 0.1, 30.0
_SESSION_HEADER = "mcp-session-id"
_HANDSHAKE = frozenset({"initialize", "notifications/initialized"})
_MAX_FIRST_ID = 2**30  # leaves room for a run's requests in 32 bits
# With which servers refuse a request without running it, and which some of them use for an unknown session.
_DOUBTFUL_STATUSES = frozenset({400, 405, 409, 410, 412, 421, 422, 428, 440, 503})
_BODY_HEADERS = frozenset({"content-type", "content-length", "content-encoding", "transfer-encoding"})


class HttpTransport(Transport):
    """Streamable HTTP, or with ``sse`` the older HTTP with server-sent events.

    ``timeout`` in seconds is for connecting and sending; how long an answer may take is decided by the caller.
    With ``kept``, the session goes on after the connection, and the next connection goes on in it.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        sse: bool,
        timeout: float,
        max_bytes: int,
        http_auth: Any = None,
        kept: SessionFile | None = None,
    ) -> None:
        self._url = url
        self._headers = dict(headers)
        self._sse = sse
        self._timeout = httpx2.Timeout(timeout, read=None)
        self._max_bytes = max_bytes
        self._http_auth = http_auth
        self._kept = kept
        self._http: McpHttpClient | None = None

    @property
    def sign_in_required(self) -> bool:
        return self._http_auth is not None and self._http_auth.challenge is not None

    @asynccontextmanager
    async def open(self, message_filter: MessageFilter) -> AsyncIterator[Streams]:
        if self._http_auth is not None:
            self._http_auth.challenge = None  # forget an earlier connection's
        send_error, errors = anyio.create_memory_object_stream[SessionMessage](math.inf)

        def client(
            headers: dict[str, str] | None = None,
            timeout: httpx2.Timeout | None = None,
            auth: httpx2.Auth | None = None,
        ) -> McpHttpClient:
            # With SSE a request's answer arrives on another stream, so an error in its own response must go there too.
            on_error = (lambda error: send_error.send_nowait(SessionMessage(error))) if self._sse else None
            return McpHttpClient(
                self._max_bytes,
                on_error,
                on_partial=message_filter.on_partial,
                headers=headers,
                timeout=self._timeout,
                auth=auth or self._http_auth,
                verify=tls_context(self._url),
                kept=self._kept,
            )

        async with AsyncExitStack() as stack:
            stack.enter_context(send_error)
            stack.enter_context(errors)
            if self._sse:
                streams = sse_client(self._url, self._headers, httpx_client_factory=client)
            else:
                self._http = await stack.enter_async_context(client(self._headers))
                streams = streamable_http_client(
                    self._url,
                    http_client=self._http,
                    max_sse_event_size=self._max_bytes,
                    terminate_on_close=self._kept is None,
                )
            source, sink = await stack.enter_async_context(streams)
            # In a session that goes on, every request needs an id of its own.
            first_id = secrets.randbelow(_MAX_FIRST_ID) if self._http is not None and self._http.session else 0
            pump = pump_messages(message_filter, source, sink, errors=errors, first_id=first_id)
            yield await stack.enter_async_context(pump)

    def record_greeting(self, greeting: Mapping[str, Any]) -> None:
        if self._kept is not None and self._http is not None and self._http.session_id and not self._http.session:
            self._kept.save(self._http.session_id, greeting)

    def forget_session(self) -> None:
        if self._kept is not None and self._http is not None:
            self._kept.forget(self._http.session_id)

    async def end_session(self) -> None:
        """Forget the kept session, and tell the server that it has ended, if it can be reached."""
        session = self._kept.load() if self._kept is not None else None
        if session is None or self._kept is None:
            return
        self._kept.forget(session.session_id)
        headers = {
            **self._headers,
            _SESSION_HEADER: session.session_id,
            "mcp-protocol-version": str(session.greeting.get("protocolVersion", "")),
        }
        timeout = httpx2.Timeout(BACKGROUND_TIMEOUT)
        with suppress(httpx2.HTTPError, McpChatError):
            async with httpx2.AsyncClient(timeout=timeout, auth=self._http_auth, verify=tls_context(self._url)) as http:
                await http.delete(self._url, headers=headers)


class McpHttpClient(httpx2.AsyncClient):
    """An HTTP client for one MCP server.

    The SDK loses a response's HTTP status, and loses the whole connection if one request cannot be sent. Here both
    become a JSON-RPC error for that request only, with the details in its data. Bodies are limited in size and must not
    be compressed: a compressed one could expand without limit.

    With a ``session`` that was kept, the handshake is answered from memory: the server has had it. ``session_id`` is
    the one that the server gave last.
    """

    def __init__(
        self,
        max_bytes: int,
        on_error: Callable[[types.JSONRPCError], None] | None,
        *,
        on_partial: Callable[[], None],
        kept: SessionFile | None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.headers["Accept-Encoding"] = "identity"
        self._max_bytes = max_bytes
        self._on_error = on_error
        self._on_partial = on_partial
        self._stream_starts: list[float] = []
        self._kept = kept
        self.session: KeptSession | None = kept.load() if kept is not None else None
        self.session_id = ""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        method, request_id = _read_method(request)
        if self.session is not None and method in _HANDSHAKE:
            return self._greet_from_memory(request, request_id, self.session)
        if self._kept is not None:
            self._kept.touch()
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
                return httpx2.Response(202, request=request)  # a lost notification
            not_sent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
            problem = explain_connection_error(error, str(request.url))
            reason = f"{problem.cause}; {problem.hint}" if problem.hint else problem.cause
            return self._error_response(request, request_id, f"cannot be reached: {reason}", {NOT_SENT: not_sent})
        self.session_id = response.headers.get(_SESSION_HEADER) or self.session_id
        if request_id is not None and (place := _find_other_server(response)):
            await response.aclose()
            return self._error_response(request, request_id, f"it redirects to {place}", {NOT_SENT: True})
        compressed = response.headers.get("content-encoding", "identity").lower() != "identity"
        is_error = response.status_code >= 400
        if request_id is not None and (compressed or is_error):
            return await self._replace_error(request, request_id, response, compressed)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        is_event_stream = response.headers.get("content-type", "").lower().startswith("text/event-stream")
        response.stream = BoundedBody(
            response.stream, self._max_bytes, is_event_stream=is_event_stream, on_partial=self._on_partial
        )
        if request_id is not None and response.status_code == 200 and not is_event_stream and self._on_error is None:
            return await self._check_message(request, request_id, response)
        return response

    def _greet_from_memory(
        self, request: httpx2.Request, request_id: str | int | None, session: KeptSession
    ) -> httpx2.Response:
        """The response to a message of the handshake in a session that goes on."""
        self.session_id = session.session_id
        if request_id is None:
            return httpx2.Response(202, request=request)
        body = {"jsonrpc": "2.0", "id": request_id, "result": session.greeting}
        return httpx2.Response(200, json=body, headers={_SESSION_HEADER: session.session_id}, request=request)

    async def _check_message(
        self, request: httpx2.Request, request_id: str | int, response: httpx2.Response
    ) -> httpx2.Response:
        """The response if its body is a JSON-RPC message, else an error: the address may be some other service's."""
        try:
            body = await response.aread()
        except UnreadableBody as error:
            data = {} if str(error).endswith("limits.max_message") else {NOT_SENT: False}
            return self._error_response(request, request_id, str(error), data)
        finally:
            await response.aclose()
        messages = _parse_messages(body)
        if not any("method" not in message for message in messages):  # nothing, or no answer
            return self._error_response(request, request_id, "it answers, but not MCP", {NOT_MCP: True})
        headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _BODY_HEADERS]
        content_type = "application/json"
        if len(messages) > 1:  # a batch of revision 2025-03-26, which the SDK does not read
            content_type = "text/event-stream"
            messages.sort(key=lambda message: "method" not in message)  # the SDK stops reading at the answer
            body = b"".join(b"event: message\ndata: %b\n\n" % json.dumps(message).encode() for message in messages)
        else:
            body = json.dumps(messages[0]).encode()
        return httpx2.Response(200, headers=[*headers, ("content-type", content_type)], content=body, request=request)

    async def _throttle_streams(self) -> None:
        """Delay streams that are opened again and again: a server may set the SDK's retry interval to zero."""
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
        """The response for the SDK in place of an HTTP error or a compressed response."""
        data: dict[str, Any] = {HTTP_STATUS: response.status_code}
        if compressed:
            await response.aclose()
            return self._error_response(
                request, request_id, "it sent a compressed response, which was not requested", data
            )
        body = await _read_error_body(response)
        error = _parse_json_error(body)
        message = str(error.get("message") or "") or f"HTTP {response.status_code} {response.reason_phrase}".strip()
        if _SESSION_HEADER in request.headers:
            if response.status_code == 404 or (response.status_code == 400 and "session" in message.lower()):
                return self._error_response(
                    request, request_id, "the server no longer knows the session", {SESSION_LOST: True}
                )
            # Servers have many words for a session that they do not know; a standard error is the answer itself.
            if response.status_code in _DOUBTFUL_STATUSES and error.get("code") not in STANDARD_ERRORS:
                data[SESSION_DOUBTED] = True
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
    """A response body with limited bytes and JSON containers. In an event stream the limits apply to each event.

    ``on_partial`` is called when a part of a message has arrived.
    """

    def __init__(
        self,
        inner: httpx2.AsyncByteStream,
        max_bytes: int,
        *,
        is_event_stream: bool,
        on_partial: Callable[[], None],
    ) -> None:
        self._inner = inner
        self._on_partial = on_partial
        self._max_bytes = max_bytes
        self._is_event_stream = is_event_stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = containers = 0
        try:
            async for chunk in self._inner:
                if self._is_event_stream and (b"\n\n" in chunk or b"\r\n\r\n" in chunk):
                    size = containers = 0
                else:
                    self._on_partial()
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
            raise UnreadableBody("broken off") from error

    async def aclose(self) -> None:
        await self._inner.aclose()


class UnreadableBody(httpx2.StreamError):
    """A body that is too large or broken off. The SDK turns a StreamError into an error of one request; any other
    exception would end the connection."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the answer is {reason}")


async def _read_error_body(response: httpx2.Response) -> bytes:
    """The first 64 KiB of an error's body; closes the response."""
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


def _find_other_server(response: httpx2.Response) -> str:
    """The address that the response redirects to, without parameters, if it is not followed; else empty.

    As the SDK: a redirect is followed within the server, to https on it, and with the same method.
    """
    sent, following = response.request, response.next_request
    if following is None:
        return ""
    origins = [(url.scheme, url.host, url.port) for url in (sent.url, following.url)]
    is_upgrade = origins == [("http", sent.url.host, None), ("https", sent.url.host, None)]
    if following.method == sent.method and (origins[0] == origins[1] or is_upgrade):
        return ""
    return str(following.url.copy_with(userinfo=b"", query=None, fragment=None))


def _parse_messages(body: bytes) -> list[dict[str, Any]]:
    """The JSON-RPC message of the body, or those of its list; empty if there is anything else."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return []
    items = value if isinstance(value, list) else [value]
    are_messages = all(
        isinstance(item, dict) and item.get("jsonrpc") == "2.0" and item.keys() & {"result", "error", "method"}
        for item in items
    )
    return items if are_messages else []


def _parse_json_error(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    error = value.get("error") if isinstance(value, dict) else None
    return error if isinstance(error, dict) else {}


def _read_method(request: httpx2.Request) -> tuple[str, str | int | None]:
    """The JSON-RPC method and id of the request. A notification has no id; anything else has neither."""
    if request.method != "POST":
        return "", None
    try:
        message = json.loads(request.content)
    except (ValueError, httpx2.RequestNotRead):
        return "", None
    method = message.get("method") if isinstance(message, dict) else None
    if not isinstance(method, str):
        return "", None
    request_id = message.get("id")
    return method, request_id if isinstance(request_id, str | int) else None
