"""Log file of one server: its stderr and its log messages, readable by the owner only, of limited size."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mcpchat.errors import StoreError
from mcpchat.util.private_files import open_to_append

MAX_BYTES = 1_000_000  # bytes of the file; one older file of this size is kept
_MAX_LINE_LENGTH = 10_000  # characters; the rest of a line is dropped


class ServerLog:
    """One server's log file. Write errors are ignored. ``redact`` is applied to every text."""

    def __init__(self, path: Path, redact: Callable[[str], str] = str) -> None:
        self.path = path
        self._redact = redact
        self._descriptor: int | None = None
        self._size = 0

    def write(self, text: str) -> None:
        """Append the text's lines, each with the local time."""
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
        """The text of both files, oldest first."""
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
    """The text of the server's log in the state directory; empty if there is none."""
    return ServerLog(state / "logs" / f"{server}.log").read()
