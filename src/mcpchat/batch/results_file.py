"""Writes batch results as lines to a file or pipe, ordered by request or by completion; resumes after a crash."""

import io
import os
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from filelock import FileLock, Timeout

from mcpchat.batch.types import parse_result_key
from mcpchat.errors import UsageError
from mcpchat.util.output_files import check_target, open_target
from mcpchat.util.paths import expand_user

_RESULT_PREFIX = b'{"v":1,"type":"result"'  # how each of our lines begins
KeyParser = Callable[[bytes], tuple[str, bool, int] | None]  # a result's key, whether it is a success, its line number


class ResultWriter:
    """Writes one line for each request, and flushes it: after ``write`` returns, a crash of mcpchat does not lose it.

    With a ``spool``, lines are written to ``out`` in the order of their requests; results that are finished early wait
    in the spool. ``finished_keys`` are the keys of requests that have a result already. The caller clears ``complete``
    if the run stopped early: waiting results then stay in the spool.
    """

    def __init__(self, out: BinaryIO, *, spool: BinaryIO | None = None, finished_keys: set[str] | None = None) -> None:
        self.finished_keys = finished_keys or set()
        self.complete = True
        self._out = out
        self._spool = spool
        self._order: deque[int] = deque()
        self._waiting: dict[int, tuple[int, int]] = {}  # offset and length in the spool, by line number

    def expect(self, number: int, has_result: bool = False) -> None:
        """Declare the next request, by its line number.

        With ``has_result``, it has a result already, which is in the output or waits in the spool.
        """
        if self._spool is not None and (not has_result or number in self._waiting):
            self._order.append(number)
            self._advance()

    def write(self, number: int, line: bytes) -> None:
        """Write the result of this request; ``line`` is without the newline."""
        if self._spool is None:
            _write_line(self._out, line)
            return
        if self._order and self._order[0] == number:
            self._order.popleft()
            _write_line(self._out, line)
        else:
            self._spool_line(number, line)
        self._advance()

    def _spool_line(self, number: int, line: bytes) -> None:
        assert self._spool is not None
        offset = self._spool.seek(0, io.SEEK_END)
        _write_line(self._spool, line)
        self._waiting[number] = offset, len(line) + 1

    def restore(self, number: int, offset: int, length: int) -> None:
        """Register a line that an earlier run left in the spool; ``offset`` and ``length`` are in bytes."""
        self._waiting[number] = offset, length

    def _advance(self) -> None:
        while self._order and self._order[0] in self._waiting:
            self._release(self._order.popleft())

    def _release(self, number: int) -> None:
        assert self._spool is not None
        offset, length = self._waiting.pop(number)
        self._spool.seek(offset)
        self._out.write(self._spool.read(length))
        self._out.flush()

    @property
    def has_waiting(self) -> bool:
        """Whether results wait for earlier ones."""
        return bool(self._waiting)

    def finish(self) -> None:
        """Write the waiting results in order: the earlier ones will get no result in this run."""
        for number in sorted(self._waiting):
            self._release(number)


def _write_line(file: BinaryIO, line: bytes) -> None:
    file.write(line + b"\n")
    file.flush()


@contextmanager
def open_stream_results(out: BinaryIO, *, ordered: bool) -> Iterator[ResultWriter]:
    """Write results to a pipe or a terminal."""
    with ExitStack() as stack:
        spool = cast("BinaryIO", stack.enter_context(tempfile.TemporaryFile())) if ordered else None
        writer = ResultWriter(out, spool=spool)
        yield writer
        writer.finish()


@contextmanager
def open_file_results(
    path: Path, parse_key: KeyParser, *, ordered: bool, resume: bool, retry_failed: bool
) -> Iterator[ResultWriter]:
    """Write results to a file that only its owner can read.

    ``resume`` continues the file of an earlier run; ``retry_failed`` removes its failures, so that they run again.
    Results that wait for earlier ones are in PATH.part. Raises UsageError if the file exists and ``resume`` is not set,
    if another run is writing it, if it or PATH.part is another user's, or if it cannot be written.
    """
    try:
        for name in (path, f"{path}.part", f"{path}.lock"):
            check_target(Path(name))
        if path.exists() and not path.is_file():  # a pipe, a device
            if resume:
                raise UsageError(f"--resume: {path} is not a regular file")
            stream: BinaryIO | None = open_target(path)
        else:
            stream = None
            path = path.resolve()  # one lock per file, however it is named
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    if stream is not None:
        with stream, open_stream_results(stream, ordered=ordered) as writer:
            yield writer
        return
    lock = FileLock(f"{path}.lock", timeout=0, mode=0o600)
    try:
        lock.acquire()
    except Timeout as error:
        raise UsageError(f"another batch is writing {path}", hint="wait for it, or write another file") from error
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    part = Path(f"{path}.part")
    try:
        with _open_writer(path, part, parse_key, ordered=ordered, resume=resume, retry_failed=retry_failed) as writer:
            yield writer
            if writer.complete:
                writer.finish()
        if not writer.has_waiting:
            part.unlink(missing_ok=True)
    finally:
        with suppress(OSError):
            Path(f"{path}.lock").unlink()
        lock.release()


@contextmanager
def _open_writer(
    path: Path, part: Path, parse_key: KeyParser, *, ordered: bool, resume: bool, retry_failed: bool
) -> Iterator[ResultWriter]:
    existing = [file for file in (path, part) if file.exists() and file.stat().st_size]
    if existing and not resume:
        raise UsageError(f"{existing[0]} exists already", hint="continue it with --resume, or name another file")
    finished_keys: set[str] = set()
    try:
        for file in existing:
            _repair_tail(file, parse_key, finished_keys, retry_failed=retry_failed)
        with _open_private(path) as out, ExitStack() as stack:
            if not (ordered or part.exists()):
                yield ResultWriter(out, finished_keys=finished_keys)
                return
            # All existing results go through the spool again, so that each is written once and in order.
            spool = stack.enter_context(_open_private(part, flags=getattr(os, "O_NOFOLLOW", 0)))
            waiting_keys = {key for key, *_ in _iter_results(spool, parse_key)}
            out.seek(0)
            for line in out:
                if (parsed := parse_key(line)) is not None and parsed[0] not in waiting_keys:
                    spool.write(line)
            spool.flush()
            os.fsync(spool.fileno())
            out.truncate(0)
            out.seek(0)
            writer = ResultWriter(out, spool=spool, finished_keys=finished_keys)
            for _, number, offset, length in _iter_results(spool, parse_key):
                writer.restore(number, offset, length)
            yield writer
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def _open_private(path: Path, *, flags: int = 0) -> BinaryIO:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)
    if sys.platform != "win32":
        os.fchmod(descriptor, 0o600)
    file = os.fdopen(descriptor, "r+b")
    file.seek(0, io.SEEK_END)
    return file


def _iter_results(file: BinaryIO, parse_key: KeyParser) -> Iterator[tuple[str, int, int, int]]:
    """Yield key, line number, offset and length (bytes) of each result in a file."""
    file.seek(0)
    offset = 0
    for line in file:
        if (parsed := parse_key(line)) is not None:
            yield parsed[0], parsed[2], offset, len(line)
        offset += len(line)
    file.seek(0, io.SEEK_END)


def _repair_tail(path: Path, parse_key: KeyParser, finished_keys: set[str], *, retry_failed: bool) -> None:
    """Add the keys of the file's results to ``finished_keys``, and remove an incomplete last line after a crash.

    ``retry_failed`` removes failures too. Raises UsageError if the file has lines that are not results.
    """
    end = failed = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n") and (line.startswith(_RESULT_PREFIX) or _RESULT_PREFIX.startswith(line)):
                break  # a crash cut it short
            parsed = parse_key(line)
            if parsed is None:
                raise UsageError(f"{path}: line {number} is not the result of a batch", hint="name another file")
            end += len(line)
            if retry_failed and not parsed[1]:
                failed += 1
            else:
                finished_keys.add(parsed[0])
    if end < path.stat().st_size:
        os.truncate(path, end)
    if failed:
        _drop_failures(path, parse_key)


def _drop_failures(path: Path, parse_key: KeyParser) -> None:
    """Replace the file by one without the failures."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".mcpchat-")
    try:
        with path.open("rb") as file, os.fdopen(descriptor, "wb") as output:
            for line in file:
                parsed = parse_key(line)
                if parsed is not None and parsed[1]:
                    output.write(line)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def open_results(target: Path | None, *, ordered: bool, resume: bool, retry_failed: bool) -> Iterator[ResultWriter]:
    """Write a batch's results to ``target``, or to stdout. Raises UsageError as ``open_file_results`` does."""
    if target is None:
        with open_stream_results(sys.stdout.buffer, ordered=ordered) as writer:
            yield writer
    else:
        path = expand_user(target)
        with open_file_results(
            path, parse_result_key, ordered=ordered, resume=resume, retry_failed=retry_failed
        ) as writer:
            yield writer
