"""The stdio transport: one message on each line, in time linear in the line's length and with limited memory.

The SDK's own stdio transport takes quadratic time for long lines.
"""

import codecs
import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import msgspec
from mcp import types
from mcp.shared.message import SessionMessage

from mcpchat.mcp.limits import MAX_CONTAINERS
from mcpchat.mcp.message_filter import MessageFilter, error_response, parse_messages
from mcpchat.mcp.process import RunningServer
from mcpchat.mcp.transports.base import MESSAGE_TOO_LARGE, Streams, Transport, pump_messages
from mcpchat.util.text import replace_surrogates

_CHUNK = 2**16
_EDGE_BYTES = 4096  # bytes kept from each end of a discarded message, to find which request it answers
_MAX_OVERSIZE_FACTOR = 64  # times max_bytes; a line longer than that closes the connection
_log = logging.getLogger(__name__)

_MESSAGE_START = re.compile(rb'\{\s*"(?:jsonrpc|id|method|result|error|params)"\s*:')
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_ID_FIRST = re.compile(rb'^\s*\{(?:\s*"jsonrpc"\s*:\s*"2\.0"\s*,)?\s*"id"\s*:\s*(\d+|"[^"\\]{0,100}")')
_ID_LAST = re.compile(rb'[}\],]\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(\d+|"[^"\\]{0,100}")[^{}\[\]]*\}\s*$')


class OversizedLine:
    """The two ends of a line that was too long, and how many bytes of it were read."""

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.tail = b""
        self.size = len(head)


class StdioTransport(Transport):
    """Messages over the stdin and stdout of a server's process, one on each line.

    A message of more than ``max_bytes`` bytes is discarded as it arrives, and its request is answered with an error.
    """

    def __init__(self, process: RunningServer, *, max_bytes: int) -> None:
        self._process = process
        self._max_bytes = max_bytes

    @property
    def process(self) -> RunningServer:
        return self._process

    def open(self, message_filter: MessageFilter) -> AbstractAsyncContextManager[Streams]:
        return pump_messages(message_filter, self._read_messages(message_filter), _StdinWriter(self._process))

    async def _read_messages(self, message_filter: MessageFilter) -> AsyncIterator[SessionMessage]:
        is_first = True
        async for line in _read_lines(self._process, self._max_bytes, message_filter.on_partial):
            if isinstance(line, bytes):
                messages = self._parse_line(line, is_first=is_first)
            else:
                messages = _errors_for(line, message_filter, self._max_bytes)
            is_first = is_first and not messages
            for message in messages:
                yield SessionMessage(message)

    def _parse_line(self, line: bytes, *, is_first: bool) -> list[types.JSONRPCMessage]:
        """The messages of a line. Words that are no message go to the log, also words before the very first message."""
        line = line.removeprefix(codecs.BOM_UTF8) if is_first else line
        if (messages := _parse_messages(line)) or not line.strip():
            return messages
        start = _MESSAGE_START.search(line) if is_first else None
        messages = _parse_messages(line[start.start() :]) if start else []
        words = line[: start.start()] if start and messages else line
        if words.strip():
            self._process.add_to_log(words)
        return messages


class _StdinWriter:
    """Writes messages to the process's stdin, which stays open: closing it asks the server to exit."""

    def __init__(self, process: RunningServer) -> None:
        self._stdin = process.stdin

    async def send(self, item: SessionMessage) -> None:
        text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
        self._stdin.write(text.encode() + b"\n")
        await self._stdin.drain()

    def close(self) -> None:
        pass


async def _read_lines(
    process: RunningServer, max_bytes: int, on_partial: Callable[[], None]
) -> AsyncIterator[bytes | OversizedLine]:
    """The lines of stdout. A line that is too long is yielded twice: when the limit is exceeded, and when it ends.

    ``on_partial`` is called when a part of a line has arrived.
    """
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
                _log.warning("a message does not end: the connection is closed")
                return
        else:
            line += remainder
            if line:
                on_partial()
            if len(line) > max_bytes:
                oversized = OversizedLine(bytes(line[:_EDGE_BYTES]))
                oversized.size = len(line)
                line = bytearray()
                yield oversized


def _parse_messages(line: bytes) -> list[types.JSONRPCMessage]:
    if not line.strip():
        return []
    try:
        if _SURROGATE_ESCAPE.search(line):
            return parse_messages(json.loads(replace_surrogates(json.dumps(json.loads(line), ensure_ascii=False))))
        return parse_messages(msgspec.json.decode(line))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:  # NaN and Infinity, or bytes that are not UTF-8: read as much as possible
        return parse_messages(json.loads(replace_surrogates(line.decode(errors="replace"))))
    except (ValueError, RecursionError):
        return []


def _errors_for(oversized: OversizedLine, message_filter: MessageFilter, max_bytes: int) -> list[types.JSONRPCMessage]:
    """Error responses for a discarded message: to its own request if the id can be found, else to all open requests."""
    match = _ID_FIRST.match(oversized.head) or (_ID_LAST.search(oversized.tail) if oversized.tail else None)
    request_ids = [json.loads(match[1])] if match else message_filter.open_requests
    if not match and len(request_ids) > 1 and not oversized.tail:
        return []  # the end of the line may have the id
    message = f"the answer is larger than {max_bytes:,} bytes (limits.max_message) and was discarded"
    return [error_response(request_id, message, code=MESSAGE_TOO_LARGE) for request_id in request_ids]
