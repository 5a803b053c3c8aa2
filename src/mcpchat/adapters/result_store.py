"""Whole results of tools in private files, for as long as a conversation may come back to them."""

import hashlib
import re
import time
from contextlib import suppress
from pathlib import Path

from mcpchat.adapters.private_files import private_folder, read_private, write_private
from mcpchat.core.errors import StoreError

_KEPT_FOR = 7 * 24 * 3600.0  # seconds
_MOST_BYTES = 500_000_000  # of all files together; the oldest go first
_KEY = re.compile(r"[a-z0-9]{12}")


class ResultFiles:
    """A ResultStore of one file each, which only their owner may read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, text: str) -> str | None:
        data = text.encode(errors="replace")
        key = hashlib.sha256(data).hexdigest()[:12]  # of the content: the same result has the same words for the model
        path = self._folder / f"{key}.txt"
        try:
            private_folder(self._folder)
            self._tidy()
            if path.exists():
                path.touch()
                return key
            write_private(path, data, durable=False)
        except (OSError, StoreError):
            return None
        return key

    def load(self, key: str) -> str | None:
        if not _KEY.fullmatch(key):
            return None
        try:
            data = read_private(self._folder / f"{key}.txt")
        except StoreError:
            return None
        return data.decode(errors="replace") if data is not None else None

    def _tidy(self) -> None:
        """Drop what is old, and then the oldest while all together take too much."""
        files = sorted(((path.stat(), path) for path in self._folder.glob("*.txt")), key=lambda file: file[0].st_mtime)
        total = sum(stat.st_size for stat, _ in files)
        for stat, path in files:
            if stat.st_mtime > time.time() - _KEPT_FOR and total < _MOST_BYTES:
                break
            with suppress(OSError):
                path.unlink()
            total -= stat.st_size
