"""Reads the requests of a batch from a file or standard input: one JSON object per line."""

import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import BinaryIO

from mcpchat.batch.types import (
    MAX_LINE_BYTES,
    BatchResult,
    PreparedRequest,
    Shard,
    parse_request,
    request_id,
    request_key,
)
from mcpchat.core.report import error_report
from mcpchat.errors import UsageError
from mcpchat.util import stdin
from mcpchat.util.paths import expand_user


@contextmanager
def open_requests(source: str, shard: Shard) -> Iterator[tuple[BinaryIO, int | None]]:
    """Open the requests; also yields their number in this shard, or None if ``source`` cannot be read twice.

    "-" is standard input. Raises UsageError if ``source`` cannot be read.
    """
    if source == "-":
        if sys.stdin is None:
            raise UsageError("standard input is closed")
        yield sys.stdin.buffer, None
        return
    try:
        with expand_user(source).open("rb") as file:
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
    """Reads the requests of a shard that have no result yet. ``finished_count`` counts those that have one.

    ``expect`` receives the line number of each request, and whether it has a result already.
    """

    def __init__(
        self, file: BinaryIO, finished_keys: set[str], expect: Callable[[int, bool], None], shard: Shard
    ) -> None:
        self.finished_count = 0
        self._file = file
        self._finished_keys = finished_keys
        self._expect = expect
        self._shard = shard
        self._seen_keys: set[str] = set()

    async def read(self) -> AsyncGenerator[PreparedRequest | BatchResult, None]:
        """Yield the requests to run; for a line that is not a valid request, its result with the error."""
        async with aclosing(stdin.read_lines(self._file, MAX_LINE_BYTES)) as lines:
            async for number, data in lines:
                if number in self._shard and (item := self._parse_line(number, data)) is not None:
                    yield item

    def _parse_line(self, number: int, data: bytes | None) -> PreparedRequest | BatchResult | None:
        item: PreparedRequest | BatchResult
        try:
            item = parse_request(number, data)
        except UsageError as error:
            item = BatchResult(id=request_id(number, data), line=number, error=error_report(error))
        key = request_key(item.id, number)
        if key in self._seen_keys:
            duplicate = UsageError(
                f"another line has the id {item.id!r} too", hint="ids must be unique: they name the results"
            )
            item = BatchResult(id=str(number), line=number, error=error_report(duplicate))
            key = request_key(item.id, number)
        self._seen_keys.add(key)
        is_finished = key in self._finished_keys
        self._expect(number, is_finished)
        if is_finished:
            self.finished_count += 1
            return None
        return item
