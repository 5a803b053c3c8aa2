"""An SQLite file that can be made again: what cannot be used is replaced, or kept in memory."""

import sqlite3
import threading
import weakref
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from mcpchat.errors import StoreError
from mcpchat.util.private_files import ensure_private_directory

_BUSY_TIMEOUT = 2.0  # seconds
# ValueError: of text that a damaged file has; IndexError: of a position that it has.
_UNUSABLE = (sqlite3.Error, OSError, StoreError, ValueError, IndexError, TypeError)
T = TypeVar("T")


class CacheDatabase:
    """A database in a private folder. ``schema`` creates its tables; ``check`` is SQL that fails if it is damaged.

    It is opened when it is first used, and closed when this object is dropped.
    """

    def __init__(self, folder: Path, name: str, schema: str, *, check: str = "") -> None:
        self._path = folder / name
        self._schema = schema
        self._check = check
        self._database: sqlite3.Connection | None = None
        self._lock = threading.Lock()  # work that was cancelled may still run in its thread

    def run(self, work: Callable[[sqlite3.Connection], T], default: T) -> T:
        """Run ``work`` on the database and return its result.

        A damaged file is replaced. If the file cannot be used, a database in memory takes its place. Returns
        ``default`` if that fails too. ``work`` may be called again after an error.
        """
        with self._lock:
            for open_database in (self._open_file, self._open_again, self._open_memory):
                try:
                    self._database = self._database or open_database()
                    return work(self._database)
                except _UNUSABLE:
                    if self._database is not None:
                        self._database.close()
                    self._database = None
            return default

    def _open_file(self) -> sqlite3.Connection:
        ensure_private_directory(self._path.parent)
        return self._create(_connect(self._path))

    def _open_again(self) -> sqlite3.Connection:
        """Open a new file in the place of a damaged one. Raises sqlite3.OperationalError for a busy or full disk."""
        with closing(_connect(self._path)) as database:
            try:
                damaged = database.execute("PRAGMA quick_check").fetchone() != ("ok",)
                if self._check:
                    database.execute(self._check)
            except sqlite3.OperationalError:
                raise
            except (sqlite3.Error, ValueError):
                damaged = True
        if not damaged:
            raise sqlite3.OperationalError("the file is not damaged")
        for name in (self._path.name, f"{self._path.name}-journal"):
            self._path.with_name(name).unlink(missing_ok=True)
        return self._open_file()

    def _open_memory(self) -> sqlite3.Connection:
        return self._create(_connect(":memory:"))

    def _create(self, database: sqlite3.Connection) -> sqlite3.Connection:
        weakref.finalize(self, database.close)
        try:
            database.executescript(self._schema)
        except sqlite3.Error:
            database.close()  # before the file is removed
            raise
        return database


def _connect(path: Path | str) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_BUSY_TIMEOUT, check_same_thread=False, isolation_level=None)
