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

from mcpchat.mcp.message_filter import MOST_NESTED, Wire, parsed, refusal
from mcpchat.mcp.process import ServerProcess

_CHUNK = 2**16
_EDGE = 4096  # bytes of a thrown-away message that are kept to find out which request it answered
_FLOOD = 64  # times the longest message: a line that goes on beyond that never ends
_log = logging.getLogger(__name__)

_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_ID_FIRST = re.compile(rb'^\s*\{(?:\s*"jsonrpc"\s*:\s*"2\.0"\s*,)?\s*"id"\s*:\s*(\d+|"[^"\\]{0,100}")')
_ID_LAST = re.compile(rb'[}\],]\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(\d+|"[^"\\]{0,100}")[^{}\[\]]*\}\s*$')


class _Cut:
    """What is left of a line that was too long: its two ends."""

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.tail = b""
        self.size = len(head)


@asynccontextmanager
async def over_pipes(process: ServerProcess, wire: Wire, *, most_bytes: int) -> AsyncIterator[Any]:
    """The streams that the SDK's client reads and writes.

    A message of more than ``most_bytes`` is thrown away as it arrives, and its request answered with an error.
    """
    to_session, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, from_session = anyio.create_memory_object_stream[SessionMessage](0)

    async def deliver(message: types.JSONRPCMessage) -> None:
        passed = wire.incoming(message)
        if passed is not None:
            await to_session.send(SessionMessage(passed))

    async def read() -> None:
        async with to_session:
            try:
                async for line in _lines(process, most_bytes):
                    for message in _messages(line) if isinstance(line, bytes) else _refusals(line, wire, most_bytes):
                        await deliver(message)
            except (anyio.ClosedResourceError, anyio.BrokenResourceError, ConnectionError):
                pass  # one side has gone, which the session sees as the stream's end
            finally:
                wire.closed = True

    async def write() -> None:
        async with from_session:
            try:
                async for item in from_session:
                    wire.outgoing(item.message)
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


async def _lines(process: ServerProcess, most_bytes: int) -> AsyncIterator[bytes | _Cut]:
    """The lines of stdout. Of one that is too long, its ends: once when that shows, and again when it is over."""
    line = bytearray()
    cut: _Cut | None = None
    while chunk := await process.stdout.read(_CHUNK):
        begin = 0
        while (end := chunk.find(b"\n", begin)) >= 0:
            if cut is not None:
                cut.tail = (cut.tail + chunk[begin:end])[-_EDGE:]
                yield cut
                cut = None
            else:
                line += chunk[begin:end]
                if len(line) > most_bytes or line.count(b"{") + line.count(b"[") > MOST_NESTED:
                    over = _Cut(bytes(line[:_EDGE]))
                    over.tail = bytes(line[-_EDGE:])
                    yield over
                else:
                    yield bytes(line)
            line.clear()
            begin = end + 1
        rest = chunk[begin:]
        if cut is not None:
            cut.tail = (cut.tail + rest)[-_EDGE:]
            cut.size += len(rest)
            if cut.size > _FLOOD * most_bytes:
                _log.warning("a message without end: the connection is closed")
                return
        else:
            line += rest
            if len(line) > most_bytes:
                cut = _Cut(bytes(line[:_EDGE]))
                cut.size = len(line)
                line = bytearray()
                yield cut


def _messages(line: bytes) -> list[types.JSONRPCMessage]:
    if not line.strip():
        return []
    try:
        if _HALF_PAIR.search(line):
            return parsed(json.loads(_whole(json.dumps(json.loads(line), ensure_ascii=False))))
        return parsed(msgspec.json.decode(line))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:  # numbers that JSON does not know, and bytes that are no UTF-8: most of it can be saved
        return parsed(json.loads(_whole(line.decode(errors="replace"))))
    except (ValueError, RecursionError):
        _log.debug("not a message: %r", line[:200])
        return []


def _whole(text: str) -> str:
    """The text with halves of characters replaced: JSON can spell them, and nothing can keep or send them."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _refusals(cut: _Cut, wire: Wire, most_bytes: int) -> list[types.JSONRPCMessage]:
    """The answer to the request that a thrown-away message was for; to all that are open, where nothing tells."""
    found = _ID_FIRST.match(cut.head) or (_ID_LAST.search(cut.tail) if cut.tail else None)
    answered = [json.loads(found[1])] if found else wire.open_requests
    if not found and len(answered) > 1 and not cut.tail:
        return []  # its end will tell
    words = f"the answer is larger than {most_bytes:,} bytes (limits.max_message) and was thrown away"
    return [refusal(number, words, code=TOO_LARGE) for number in answered]


TOO_LARGE = -31999  # a code of ours, in nobody's range
