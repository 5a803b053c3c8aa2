"""What a server writes to stderr and logs through the protocol: a file each, for its owner's eyes, of bounded size."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mcpchat.errors import StoreError
from mcpchat.util.private_files import open_to_append

MAX_BYTES = 1_000_000  # of the file; one older file of the size is kept beside it
_MAX_LINE_LENGTH = 10_000  # characters of a line


class ServerLog:
    """One server's log file. A disk that refuses costs the log, nothing else. ``redact`` goes over each text."""

    def __init__(self, path: Path, redact: Callable[[str], str] = str) -> None:
        self.path = path
        self._redact = redact
        self._descriptor: int | None = None
        self._size = 0

    def write(self, text: str) -> None:
        """Add the text's lines, each with the time."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S")
        lines = [f"{now} {line[:_MAX_LINE_LENGTH]}\n" for line in self._redact(text).splitlines() if line.strip()]
        data = "".join(lines).encode(errors="replace")[-MAX_BYTES:]
        if data:
            with suppress(OSError, StoreError):
                self._append(data)

    def _append(self, data: bytes) -> None:
        if self._descriptor is None:
            self._descriptor = open_to_append(self.path)
            self._size = os.fstat(self._descriptor).st_size
        if self._size + len(data) > MAX_BYTES and self._size:
            self.close()
            self.path.replace(_rotated_path(self.path))
            self._append(data)
            return
        self._size += os.write(self._descriptor, data)

    def read(self) -> str:
        """All that is kept, the oldest first."""
        return "".join(
            path.read_text(encoding="utf-8", errors="replace")
            for path in (_rotated_path(self.path), self.path)
            if path.is_file()
        )

    def close(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None


def _rotated_path(path: Path) -> Path:
    return path.with_suffix(".log.1")


def read_log(state: Path, server: str) -> str:
    """The text of a server's log file in the state folder, empty where there is none."""
    return ServerLog(state / "logs" / f"{server}.log").read()
