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

MAX_BYTES = 20_000_000  # bytes of the file; one older file of this size is kept
_POLL_INTERVAL = 0.2  # seconds


class CallLog:
    """The calls in the folder for state. Several processes may add to it."""

    def __init__(self, state: Path) -> None:
        self.path = state / "calls.jsonl"
        self._older = state / "calls.1.jsonl"

    def add(self, record: CallRecord) -> None:
        """Append the record. Raises StoreError if that is not possible."""
        data = msgspec.json.encode(record) + b"\n"
        descriptor = open_to_append(self.path)
        try:
            if os.fstat(descriptor).st_size + len(data) > MAX_BYTES and self._is_current(descriptor):
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

    def read(self) -> Iterator[CallRecord]:
        """All records, the oldest first. Damaged lines are left out."""
        for path in (self._older, self.path):
            with suppress(OSError), path.open("rb") as file:
                yield from filter(None, map(_parse, file))

    def follow(self) -> Iterator[CallRecord]:
        """The records that are added from now on, without end."""
        file = None
        try:
            with suppress(OSError):
                file = self.path.open("rb")
                file.seek(0, os.SEEK_END)
            line = b""
            while True:
                line += file.readline() if file is not None else b""
                if line.endswith(b"\n"):
                    if (record := _parse(line)) is not None:
                        yield record
                    line = b""
                    continue
                time.sleep(_POLL_INTERVAL)
                with suppress(OSError):
                    if file is None or self.path.stat().st_ino != os.fstat(file.fileno()).st_ino:
                        newer = self.path.open("rb")
                        if file is not None:
                            yield from filter(None, map(_parse, file))  # what was added before it was replaced
                            file.close()
                        file = newer
        finally:
            if file is not None:
                file.close()

    def delete(self) -> None:
        """Forget all calls. Raises StoreError."""
        try:
            for path in (self._older, self.path):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"cannot delete {error.filename}: {error.strerror}") from error


def _parse(line: bytes) -> CallRecord | None:
    try:
        return msgspec.json.decode(line, type=CallRecord)
    except msgspec.MsgspecError:
        return None
