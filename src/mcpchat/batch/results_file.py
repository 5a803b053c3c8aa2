"""Results as lines of a file or a pipe, in the order of their requests or as they come; gone on with after a crash."""

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

from mcpchat.batch.types import read_key
from mcpchat.errors import UsageError

_BEGINNING = b'{"v":1,"type":"result"'  # of each line of ours
Key = Callable[[bytes], tuple[str, bool, int] | None]  # a line's id, whether it is one of success, its number


class ResultLines:
    """Takes one line for each request. Each is with the system once ``write`` returns: no crash of ours loses it.

    With a ``spool`` the lines go ``out`` in the order of their requests: what is finished before its turn waits there.
    ``done`` are the keys of requests that have a result already. Without ``whole`` the run stopped before its end: what
    waits for its turn goes on waiting.
    """

    def __init__(self, out: BinaryIO, *, spool: BinaryIO | None = None, done: set[str] | None = None) -> None:
        self.done = done or set()
        self.whole = True
        self._out = out
        self._spool = spool
        self._order: deque[int] = deque()
        self._waiting: dict[int, tuple[int, int]] = {}  # by number: where the line stands in the spool

    def expect(self, number: int, done: bool = False) -> None:
        """The request of this number comes next; its result, where that is ``done``, may wait in the spool."""
        if self._spool is not None and (not done or number in self._waiting):
            self._order.append(number)
            self._advance()

    def write(self, number: int, line: bytes) -> None:
        if self._spool is None:
            _put(self._out, line)
            return
        if self._order and self._order[0] == number:
            self._order.popleft()
            _put(self._out, line)
        else:
            self._keep(number, line)
        self._advance()

    def _keep(self, number: int, line: bytes) -> None:
        assert self._spool is not None
        place = self._spool.seek(0, io.SEEK_END)
        _put(self._spool, line)
        self._waiting[number] = place, len(line) + 1

    def recall(self, number: int, place: int, length: int) -> None:
        """A line that an earlier run left in the spool."""
        self._waiting[number] = place, length

    def _advance(self) -> None:
        while self._order and self._order[0] in self._waiting:
            self._release(self._order.popleft())

    def _release(self, number: int) -> None:
        assert self._spool is not None
        place, length = self._waiting.pop(number)
        self._spool.seek(place)
        self._out.write(self._spool.read(length))
        self._out.flush()

    @property
    def waits(self) -> bool:
        """Whether results wait for those before them."""
        return bool(self._waiting)

    def finish(self) -> None:
        """Put out what still waits, in order: those before it will have no result in this run."""
        for number in sorted(self._waiting):
            self._release(number)


def _put(file: BinaryIO, line: bytes) -> None:
    file.write(line + b"\n")
    file.flush()


@contextmanager
def to_stream(out: BinaryIO, *, ordered: bool) -> Iterator[ResultLines]:
    """Results to a pipe or a terminal."""
    with ExitStack() as stack:
        spool = cast("BinaryIO", stack.enter_context(tempfile.TemporaryFile())) if ordered else None
        lines = ResultLines(out, spool=spool)
        yield lines
        lines.finish()


@contextmanager
def to_file(path: Path, key: Key, *, ordered: bool, resume: bool, retry_failed: bool) -> Iterator[ResultLines]:
    """Write results to a file that only its owner can read. ``resume`` continues the results of an earlier run; with
    ``retry_failed`` without its failures, which are run again.

    What waits for its turn stands in PATH.part meanwhile. Raises UsageError for a file that is there, without
    ``resume``, and for one that another run writes.
    """
    if path.exists() and not path.is_file():  # a pipe, a device
        if resume:
            raise UsageError(f"--resume: {path} is no file that was written before")
        with path.open("wb", buffering=0) as out, to_stream(out, ordered=ordered) as lines:
            yield lines
        return
    path = path.resolve()  # one file, whatever it is called
    lock = FileLock(f"{path}.lock", timeout=0, mode=0o600)
    try:
        lock.acquire()
    except Timeout as error:
        raise UsageError(f"another batch is writing {path}", hint="wait for it, or write another file") from error
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    part = Path(f"{path}.part")
    try:
        with _opened(path, part, key, ordered=ordered, resume=resume, retry_failed=retry_failed) as lines:
            yield lines
            if lines.whole:
                lines.finish()
        if not lines.waits:
            part.unlink(missing_ok=True)
    finally:
        with suppress(OSError):
            Path(f"{path}.lock").unlink()
        lock.release()


@contextmanager
def _opened(
    path: Path, part: Path, key: Key, *, ordered: bool, resume: bool, retry_failed: bool
) -> Iterator[ResultLines]:
    there = [file for file in (path, part) if file.exists() and file.stat().st_size]
    if there and not resume:
        raise UsageError(f"{there[0]} is there already", hint="--resume goes on with it; or name another file")
    done: set[str] = set()
    try:
        for file in there:
            _mend(file, key, done, retry_failed=retry_failed)
        with _private(path) as out, ExitStack() as stack:
            if not (ordered or part.exists()):
                yield ResultLines(out, done=done)
                return
            # All that there is goes through the spool once more: so it comes out in order, and each line once.
            spool = stack.enter_context(_private(part, flags=getattr(os, "O_NOFOLLOW", 0)))
            waiting = {name for name, *_ in _known(spool, key)}
            out.seek(0)
            for line in out:
                if (known := key(line)) is not None and known[0] not in waiting:
                    spool.write(line)
            spool.flush()
            os.fsync(spool.fileno())
            out.truncate(0)
            out.seek(0)
            lines = ResultLines(out, spool=spool, done=done)
            for _, number, place, length in _known(spool, key):
                lines.recall(number, place, length)
            yield lines
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def _private(path: Path, *, flags: int = 0) -> BinaryIO:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)
    if sys.platform != "win32":
        os.fchmod(descriptor, 0o600)
    file = os.fdopen(descriptor, "r+b")
    file.seek(0, io.SEEK_END)
    return file


def _known(file: BinaryIO, key: Key) -> Iterator[tuple[str, int, int, int]]:
    """The results in a file: id, number, place and length."""
    file.seek(0)
    place = 0
    for line in file:
        if (known := key(line)) is not None:
            yield known[0], known[2], place, len(line)
        place += len(line)
    file.seek(0, io.SEEK_END)


def _mend(path: Path, key: Key, done: set[str], *, retry_failed: bool) -> None:
    """Collect the ids of the results. A last line that a crash cut short is removed; with
    ``retry_failed`` failures too.

    Raises UsageError for a file that is none of ours.
    """
    end = failed = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n") and (line.startswith(_BEGINNING) or _BEGINNING.startswith(line)):
                break  # a crash cut it short
            known = key(line)
            if known is None:
                raise UsageError(f"{path}: line {number} is no result of a batch", hint="name another file")
            end += len(line)
            if retry_failed and not known[1]:
                failed += 1
            else:
                done.add(known[0])
    if end < path.stat().st_size:
        os.truncate(path, end)
    if failed:
        _without_failures(path, key)


def _without_failures(path: Path, key: Key) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".mcpchat-")
    try:
        with path.open("rb") as file, os.fdopen(descriptor, "wb") as kept:
            for line in file:
                known = key(line)
                if known is not None and known[1]:
                    kept.write(line)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def open_results(target: Path | None, *, ordered: bool, resume: bool, retry_failed: bool) -> Iterator[ResultLines]:
    """Where a batch's results go: a file, or stdout. Raises UsageError."""
    if target is None:
        with to_stream(sys.stdout.buffer, ordered=ordered) as lines:
            yield lines
    else:
        path = target.expanduser()
        with to_file(path, read_key, ordered=ordered, resume=resume, retry_failed=retry_failed) as lines:
            yield lines
