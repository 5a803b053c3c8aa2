"""Parses server-sent events: from chunks of bytes to the data of each event."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import NamedTuple

MAX_EVENT_SIZE = 64 * 2**20  # bytes
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventTooLong(ValueError):
    """An event is larger than the limit."""


async def skip_leading_blanks(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The chunks, joined at the beginning so that the first contains more than blanks and a byte order mark.

    Yields nothing if there is nothing else.
    """
    buffer: bytes | None = b""
    async for chunk in chunks:
        if buffer is None:
            yield chunk
            continue
        buffer += chunk
        if (content := buffer.removeprefix(_BYTE_ORDER_MARK)).strip() and not _BYTE_ORDER_MARK.startswith(buffer):
            yield content
            buffer = None


class ServerEvent(NamedTuple):
    """An event of a stream: its data, with its lines joined, and its name, empty if it has none."""

    data: bytes
    name: bytes = b""


async def iter_events(
    chunks: AsyncIterator[bytes], initial: bytes = b"", max_size: int = MAX_EVENT_SIZE
) -> AsyncGenerator[ServerEvent, None]:
    """The events of a stream. Skips comments, ids and events without data.

    ``initial`` is what was already read from the stream. Only line feeds split lines: JSON may contain Unicode's other
    line separators. The last event needs no empty line after it. Raises EventTooLong for an event of more than
    ``max_size`` bytes.
    """
    data: list[bytes] = []
    name, size = b"", 0
    async with aclosing(_iter_lines(chunks, initial, max_size)) as lines:
        async for line in lines:
            if not line:
                if text := b"\n".join(data).strip():
                    yield ServerEvent(text, name)
                data, name, size = [], b"", 0
            elif line.startswith(b"event:"):
                name = line[6:].strip()
            elif line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
                size += len(line)
                _check_size(size, max_size)
    if text := b"\n".join(data).strip():
        yield ServerEvent(text, name)


async def _iter_lines(chunks: AsyncIterator[bytes], initial: bytes, max_size: int) -> AsyncGenerator[bytes, None]:
    *complete, last = initial.split(b"\n")
    for line in complete:
        yield line.removesuffix(b"\r")
    partial, size = [last], len(last)
    async for chunk in chunks:
        *complete, last = chunk.split(b"\n")
        for line in complete:
            yield b"".join((*partial, line)).removesuffix(b"\r")
            partial, size = [], 0
        partial.append(last)
        size += len(last)
        _check_size(size, max_size)
    if line := b"".join(partial):
        yield line.removesuffix(b"\r")


def _check_size(size: int, max_size: int) -> None:
    if size > max_size:
        raise EventTooLong(f"an event of more than {max_size:,} bytes")
