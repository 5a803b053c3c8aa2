"""SQLite thread stores that are closed after the test that opens them."""

from pathlib import Path
from typing import Any

from mcpchat.threads import sqlite
from mcpchat.threads.sql_store import SqlThreadStore

_opened: list[SqlThreadStore] = []


def open_sqlite(path: Path, *options: Any) -> SqlThreadStore:
    """Open a store that ``close_stores`` closes."""
    _opened.append(sqlite.open_threads(path, *options))
    return _opened[-1]


def close_stores() -> None:
    """Close all stores: tests/conftest.py does so after each test."""
    while _opened:
        _opened.pop().close()
