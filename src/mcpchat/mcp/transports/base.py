"""The transport seam: what a connection needs from a transport, and the pump that all transports share.

A new kind of transport is a module in this package and a branch in ``ServerConnector._build_transport``.
"""

import secrets
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage

from mcpchat.mcp.message_filter import MessageFilter
from mcpchat.mcp.process import RunningServer
from mcpchat.mcp.request_ids import shift_ids

# Keys in the data of an error that a transport made. The prefix is random, so that no server can set them.
_KEY_PREFIX = secrets.token_hex(8)
HTTP_STATUS = f"{_KEY_PREFIX}/httpStatus"
NOT_SENT = f"{_KEY_PREFIX}/notSent"
SESSION_LOST = f"{_KEY_PREFIX}/sessionLost"
SESSION_DOUBTED = f"{_KEY_PREFIX}/sessionDoubted"
STANDARD_ERRORS = frozenset({-32700, *range(-32603, -32599)})  # of JSON-RPC
NOT_MCP = f"{_KEY_PREFIX}/notMcp"
MESSAGE_TOO_LARGE = -31999  # error code for a message over limits.max_message; outside the protocol's ranges
_STREAM_CLOSED = (anyio.ClosedResourceError, anyio.BrokenResourceError, ConnectionError)

Streams = tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]


class Transport(Protocol):
    """One way to exchange messages with a server; single use. Subclasses override what applies to them."""

    def open(self, message_filter: MessageFilter) -> AbstractAsyncContextManager[Streams]:
        """Yield the streams that the SDK's client reads and writes; every message passes the filter."""
        ...

    @property
    def process(self) -> RunningServer | None:
        """The server's process; None if the transport starts none."""
        return None

    @property
    def sign_in_required(self) -> bool:
        """Whether the server has asked for a sign-in since the transport was opened."""
        return False

    def record_greeting(self, greeting: Mapping[str, Any]) -> None:
        """Take the server's result of the handshake, for a transport that keeps the session after the connection."""
        return

    def forget_session(self) -> None:
        """Take note that the server no longer knows the session."""
        return


class MessageSink(Protocol):
    """Where outgoing messages go."""

    async def send(self, item: SessionMessage, /) -> None: ...
    def close(self) -> None: ...


@asynccontextmanager
async def pump_messages(
    message_filter: MessageFilter,
    source: AsyncIterable[SessionMessage | Exception],
    sink: MessageSink,
    *,
    errors: AsyncIterable[SessionMessage] | None = None,
    first_id: int = 0,
) -> AsyncIterator[Streams]:
    """Yield the SDK's streams and move messages between them and the server, both ways through the filter.

    ``errors`` is a second source, for errors that arrive beside the messages. The end of ``source`` ends the
    connection; the end of ``errors`` does not. ``first_id`` is added to the id of each request.
    """
    to_session, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, from_session = anyio.create_memory_object_stream[SessionMessage](0)

    async def deliver(items: AsyncIterable[SessionMessage | Exception]) -> None:
        try:
            async for item in items:
                if not isinstance(item, Exception):
                    filtered = message_filter.filter_incoming(shift_ids(item.message, -first_id, incoming=True))
                    if filtered is None:
                        continue
                    item.message = filtered
                await to_session.send(item)
        except _STREAM_CLOSED:
            pass  # the session or the server has gone; the session sees the end of its stream

    async def read() -> None:
        async with to_session:
            try:
                await deliver(source)
            finally:
                message_filter.closed = True

    async def write() -> None:
        async with from_session:
            try:
                async for item in from_session:
                    message_filter.record_outgoing(item.message)
                    item.message = shift_ids(item.message, first_id, incoming=False)
                    await sink.send(item)
            except _STREAM_CLOSED:
                await to_session.aclose()
            finally:
                sink.close()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        tasks.start_soon(write)
        if errors is not None:
            tasks.start_soon(deliver, errors)
        try:
            yield incoming, outgoing
        finally:
            tasks.cancel_scope.cancel()
