"""Server-sent events: bytes in, the data of each event out."""

from collections.abc import AsyncGenerator, AsyncIterator

LONGEST_EVENT = 64 * 2**20  # bytes


class EventTooLong(ValueError):
    """An event that does not end within any reason."""


async def event_data(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The data of each event, its lines joined; comments, names, ids and events without data are passed over.

    Bytes are split at line feeds alone: other separators of Unicode may stand within JSON. What the stream ends on
    without an empty line counts as an event. Raises EventTooLong.
    """
    data: list[bytes] = []
    first = True
    async for line in _lines(pieces):
        line, first = line.removeprefix(b"\xef\xbb\xbf") if first else line, False
        if not line:
            if event := b"\n".join(data).strip():
                yield event
            data = []
        elif line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
    if event := b"\n".join(data).strip():
        yield event


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    rest: list[bytes] = []
    size = 0
    async for piece in pieces:
        *ended, begun = piece.split(b"\n")
        for line in ended:
            yield b"".join((*rest, line)).removesuffix(b"\r")
            rest, size = [], 0
        if begun:
            rest.append(begun)
            size += len(begun)
            if size > LONGEST_EVENT:
                raise EventTooLong(f"an event of more than {LONGEST_EVENT:,} bytes")
    if rest:
        yield b"".join(rest).removesuffix(b"\r")
