"""The requests of a batch: a file, or standard input, with one JSON object a line."""

import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import BinaryIO

from mcpchat.batch.types import LONGEST_LINE, Asked, Result, Shard, key_of, name_of, read_request
from mcpchat.core.report import fault
from mcpchat.errors import UsageError
from mcpchat.util import stdin


@contextmanager
def open_requests(source: str, shard: Shard) -> Iterator[tuple[BinaryIO, int | None]]:
    """The requests, and how many lines they are, where that can be counted."""
    if source == "-":
        if sys.stdin is None:
            raise UsageError("standard input is closed")
        yield sys.stdin.buffer, None
        return
    try:
        with Path(source).expanduser().open("rb") as file:
            total = None
            if file.seekable():
                total = sum(1 for number, line in enumerate(file, 1) if line.strip() and number in shard)
                file.seek(0)
            yield file, total
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise UsageError(f"cannot read {source}: {error.strerror}") from error


class RequestReader:
    """The requests of a file that are still to be run. ``known`` counts those that have a result."""

    def __init__(self, file: BinaryIO, done: set[str], expect: Callable[[int, bool], None], shard: Shard) -> None:
        self.known = 0
        self._file = file
        self._done = done
        self._expect = expect
        self._shard = shard
        self._seen: set[str] = set()

    async def read(self) -> AsyncGenerator[Asked | Result, None]:
        """Each as it is to be run; a line that is none gives its result at once."""
        async with aclosing(stdin.read_lines(self._file, LONGEST_LINE)) as lines:
            async for number, data in lines:
                if number in self._shard and (item := self._item(number, data)) is not None:
                    yield item

    def _item(self, number: int, data: bytes | None) -> Asked | Result | None:
        item: Asked | Result
        try:
            item = read_request(number, data)
        except UsageError as error:
            item = Result(id=name_of(number, data), line=number, error=fault(error))
        key = key_of(item.id, number)
        if key in self._seen:
            told = UsageError(f"the id {item.id!r} is another line's too", hint="each result is found by its id")
            item = Result(id=str(number), line=number, error=fault(told))
            key = key_of(item.id, number)
        self._seen.add(key)
        known = key in self._done
        self._expect(number, known)
        if known:
            self.known += 1
            return None
        return item
