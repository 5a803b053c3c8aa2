"""Server-sent events: bytes in, the data of each event out."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

LONGEST_EVENT = 64 * 2**20  # bytes


_MARK = b"\xef\xbb\xbf"


class EventTooLong(ValueError):
    """An event that does not end within any reason."""


async def begun(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The pieces, of which the first holds more than blanks and a byte order mark, where there is more at all."""
    first: bytes | None = b""
    async for piece in pieces:
        if first is None:
            yield piece
            continue
        first += piece
        if (read := first.removeprefix(_MARK)).strip() and not _MARK.startswith(first):
            yield read
            first = None


async def event_data(
    pieces: AsyncIterator[bytes], first: bytes = b"", longest: int = LONGEST_EVENT
) -> AsyncGenerator[bytes, None]:
    """The data of each event, its lines joined; comments, names, ids and events without data are passed over.

    ``first`` is what was read already. Bytes are split at line feeds alone: other separators of Unicode may stand
    within JSON. What the stream ends on without an empty line counts as an event. Raises EventTooLong for more than
    ``longest`` bytes.
    """
    data: list[bytes] = []
    size = 0
    async with aclosing(_lines(pieces, first, longest)) as lines:
        async for line in lines:
            if not line:
                if event := b"\n".join(data).strip():
                    yield event
                data, size = [], 0
            elif line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
                size += len(line)
                _bounded(size, longest)
    if event := b"\n".join(data).strip():
        yield event


async def _lines(pieces: AsyncIterator[bytes], first: bytes, longest: int) -> AsyncGenerator[bytes, None]:
    *ended, last = first.split(b"\n")
    for line in ended:
        yield line.removesuffix(b"\r")
    rest, size = [last], len(last)
    async for piece in pieces:
        *ended, last = piece.split(b"\n")
        for line in ended:
            yield b"".join((*rest, line)).removesuffix(b"\r")
            rest, size = [], 0
        rest.append(last)
        size += len(last)
        _bounded(size, longest)
    if line := b"".join(rest):
        yield line.removesuffix(b"\r")


def _bounded(size: int, longest: int) -> None:
    if size > longest:
        raise EventTooLong(f"an event of more than {longest:,} bytes")
