"""A transport over a process's pipes: a message a line, linear in a line's length and bounded in memory."""

import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
from mcp import types
from mcp.shared.message import SessionMessage

from mcpchat.mcp.message_filter import MAX_CONTAINERS, MessageFilter, error_response, parse_messages
from mcpchat.mcp.process import ServerProcess

_CHUNK = 2**16
_EDGE_BYTES = 4096  # bytes of a thrown-away message that are kept to find out which request it answered
_MAX_OVERSIZE_FACTOR = 64  # times the longest message: a line that goes on beyond that never ends
_log = logging.getLogger(__name__)

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_ID_FIRST = re.compile(rb'^\s*\{(?:\s*"jsonrpc"\s*:\s*"2\.0"\s*,)?\s*"id"\s*:\s*(\d+|"[^"\\]{0,100}")')
_ID_LAST = re.compile(rb'[}\],]\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(\d+|"[^"\\]{0,100}")[^{}\[\]]*\}\s*$')


class OversizedLine:
    """What is left of a line that was too long: its two ends."""

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.tail = b""
        self.size = len(head)


@asynccontextmanager
async def stdio_transport(
    process: ServerProcess, message_filter: MessageFilter, *, max_bytes: int
) -> AsyncIterator[Any]:
    """The streams that the SDK's client reads and writes.

    A message of more than ``most_bytes`` is thrown away as it arrives, and its request answered with an error.
    """
    to_session, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, from_session = anyio.create_memory_object_stream[SessionMessage](0)

    async def deliver(message: types.JSONRPCMessage) -> None:
        filtered = message_filter.filter_incoming(message)
        if filtered is not None:
            await to_session.send(SessionMessage(filtered))

    async def read() -> None:
        async with to_session:
            try:
                async for line in _read_lines(process, max_bytes):
                    for message in (
                        _parse_line(line) if isinstance(line, bytes) else _errors_for(line, message_filter, max_bytes)
                    ):
                        await deliver(message)
            except (anyio.ClosedResourceError, anyio.BrokenResourceError, ConnectionError):
                pass  # one side has gone, which the session sees as the stream's end
            finally:
                message_filter.closed = True

    async def write() -> None:
        async with from_session:
            try:
                async for item in from_session:
                    message_filter.record_outgoing(item.message)
                    text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                    process.stdin.write(text.encode() + b"\n")
                    await process.stdin.drain()
            except (anyio.ClosedResourceError, ConnectionError):
                await to_session.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        tasks.start_soon(write)
        try:
            yield incoming, outgoing
        finally:
            tasks.cancel_scope.cancel()


async def _read_lines(process: ServerProcess, max_bytes: int) -> AsyncIterator[bytes | OversizedLine]:
    """The lines of stdout. Of one that is too long, its ends: once when that shows, and again when it is over."""
    line = bytearray()
    oversized: OversizedLine | None = None
    while chunk := await process.stdout.read(_CHUNK):
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            if oversized is not None:
                oversized.tail = (oversized.tail + chunk[start:end])[-_EDGE_BYTES:]
                yield oversized
                oversized = None
            else:
                line += chunk[start:end]
                if len(line) > max_bytes or line.count(b"{") + line.count(b"[") > MAX_CONTAINERS:
                    oversized_line = OversizedLine(bytes(line[:_EDGE_BYTES]))
                    oversized_line.tail = bytes(line[-_EDGE_BYTES:])
                    yield oversized_line
                else:
                    yield bytes(line)
            line.clear()
            start = end + 1
        remainder = chunk[start:]
        if oversized is not None:
            oversized.tail = (oversized.tail + remainder)[-_EDGE_BYTES:]
            oversized.size += len(remainder)
            if oversized.size > _MAX_OVERSIZE_FACTOR * max_bytes:
                _log.warning("a message without end: the connection is closed")
                return
        else:
            line += remainder
            if len(line) > max_bytes:
                oversized = OversizedLine(bytes(line[:_EDGE_BYTES]))
                oversized.size = len(line)
                line = bytearray()
                yield oversized


def _parse_line(line: bytes) -> list[types.JSONRPCMessage]:
    if not line.strip():
        return []
    try:
        if _SURROGATE_ESCAPE.search(line):
            return parse_messages(json.loads(replace_surrogates(json.dumps(json.loads(line), ensure_ascii=False))))
        return parse_messages(msgspec.json.decode(line))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:  # numbers that JSON does not know, and bytes that are no UTF-8: most of it can be saved
        return parse_messages(json.loads(replace_surrogates(line.decode(errors="replace"))))
    except (ValueError, RecursionError):
        _log.debug("not a message: %r", line[:200])
        return []


def replace_surrogates(text: str) -> str:
    """The text with halves of characters replaced: JSON can spell them, and nothing can keep or send them."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _errors_for(oversized: OversizedLine, message_filter: MessageFilter, max_bytes: int) -> list[types.JSONRPCMessage]:
    """The answer to the request that a thrown-away message was for; to all that are open, where nothing tells."""
    match = _ID_FIRST.match(oversized.head) or (_ID_LAST.search(oversized.tail) if oversized.tail else None)
    request_ids = [json.loads(match[1])] if match else message_filter.open_requests
    if not match and len(request_ids) > 1 and not oversized.tail:
        return []  # its end will tell
    message = f"the answer is larger than {max_bytes:,} bytes (limits.max_message) and was thrown away"
    return [error_response(request_id, message, code=MESSAGE_TOO_LARGE) for request_id in request_ids]


MESSAGE_TOO_LARGE = -31999  # a code of ours, in nobody's range
