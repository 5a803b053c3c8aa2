"""Server-sent events: bytes in, the data of each event out."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

MAX_EVENT_SIZE = 64 * 2**20  # bytes


_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventTooLong(ValueError):
    """An event that does not end within any reason."""


async def skip_leading_blanks(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The pieces, of which the first holds more than blanks and a byte order mark, where there is more at all."""
    buffer: bytes | None = b""
    async for chunk in chunks:
        if buffer is None:
            yield chunk
            continue
        buffer += chunk
        if (content := buffer.removeprefix(_BYTE_ORDER_MARK)).strip() and not _BYTE_ORDER_MARK.startswith(buffer):
            yield content
            buffer = None


async def iter_event_data(
    chunks: AsyncIterator[bytes], initial: bytes = b"", max_size: int = MAX_EVENT_SIZE
) -> AsyncGenerator[bytes, None]:
    """The data of each event, its lines joined; comments, names, ids and events without data are passed over.

    ``first`` is what was read already. Bytes are split at line feeds alone: other separators of Unicode may stand
    within JSON. What the stream ends on without an empty line counts as an event. Raises EventTooLong for more than
    ``longest`` bytes.
    """
    data: list[bytes] = []
    size = 0
    async with aclosing(_iter_lines(chunks, initial, max_size)) as lines:
        async for line in lines:
            if not line:
                if event := b"\n".join(data).strip():
                    yield event
                data, size = [], 0
            elif line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
                size += len(line)
                _check_size(size, max_size)
    if event := b"\n".join(data).strip():
        yield event


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
