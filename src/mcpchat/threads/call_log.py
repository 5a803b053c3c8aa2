"""The log of tool calls: one JSON object a line, in a private file of limited size."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from mcpchat.core.call_record import CallRecord
from mcpchat.errors import StoreError
from mcpchat.util.private_files import open_to_append

MAX_BYTES = 20_000_000
_POLL_INTERVAL = 0.2  # seconds


class CallLog:
    """The calls in the folder for state. Several processes may add to it.

    The file has at most ``max_bytes`` bytes; one older file of this size is kept.
    """

    def __init__(self, state: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.path = state / "calls.jsonl"
        self._older = state / "calls.1.jsonl"
        self._max_bytes = max_bytes

    def add(self, record: CallRecord) -> None:
        """Append the record. Raises StoreError if that is not possible."""
        data = msgspec.json.encode(record) + b"\n"
        descriptor = open_to_append(self.path)
        try:
            if os.fstat(descriptor).st_size + len(data) > self._max_bytes and self._is_current(descriptor):
                self.path.replace(self._older)
                os.close(descriptor)
                descriptor = open_to_append(self.path)
            os.write(descriptor, data)
        except OSError as error:
            raise StoreError(f"cannot write {self.path}: {error.strerror}") from error
        finally:
            os.close(descriptor)

    def _is_current(self, descriptor: int) -> bool:
        """Whether no other process has put a new file in its place."""
        with suppress(OSError):
            return self.path.stat().st_ino == os.fstat(descriptor).st_ino
        return False

    def read(self) -> list[CallRecord]:
        """All records, the oldest first. Damaged lines are left out."""
        return self.read_and_follow()[0]

    def read_and_follow(self) -> tuple[list[CallRecord], Iterator[CallRecord]]:
        """All records, the oldest first; and, without end, those that are added later. None is lost in between."""
        older, _, _ = _read_from(self._older, 0)
        records, inode, offset = _read_from(self.path, 0)
        return older + records, self._follow(inode, offset)

    def _follow(self, inode: int, offset: int) -> Iterator[CallRecord]:
        """The records after the offset of the file with this inode, and those of files that take its place."""
        while True:
            records, current, end = _read_from(self.path, offset)
            if current != inode:  # another file: first what was added to ours
                records, previous, _ = _read_from(self._older, offset)
                yield from records if previous == inode else ()
                inode, offset = current, 0
                continue
            yield from records
            offset = end
            time.sleep(_POLL_INTERVAL)

    def delete(self) -> None:
        """Forget all calls. Raises StoreError."""
        try:
            for path in (self._older, self.path):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"cannot delete {error.filename}: {error.strerror}") from error


def _read_from(path: Path, offset: int) -> tuple[list[CallRecord], int, int]:
    """The records in the file after the offset, its inode, and the offset of the first line that is not complete.

    A file that is missing has the inode 0.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            *lines, rest = file.read().split(b"\n")
            records = [record for line in lines if (record := _parse(line)) is not None]
            return records, os.fstat(file.fileno()).st_ino, file.tell() - len(rest)
    except OSError:
        return [], 0, 0


def _parse(line: bytes) -> CallRecord | None:
    try:
        return msgspec.json.decode(line, type=CallRecord)
    except msgspec.MsgspecError:
        return None
