"""A database that can be made again closes its connections."""

import gc
import sqlite3
from pathlib import Path

import pytest

from mcpchat.mcp.cache_database import CacheDatabase


def test_a_dropped_database_is_closed(tmp_path: Path) -> None:
    cache = CacheDatabase(tmp_path, "a.db", "CREATE TABLE IF NOT EXISTS a (b)")
    connection = cache.run(lambda database: database, None)
    assert connection is not None
    assert connection.execute("SELECT count(*) FROM a").fetchone() == (0,)
    del cache
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_no_connection_of_a_file_that_cannot_be_used_stays_open(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "a.db").write_bytes(b"not a database" * 100)
    cache = CacheDatabase(tmp_path, "a.db", "CREATE TABLE IF NOT EXISTS a (b)")
    assert cache.run(lambda database: database.execute("SELECT count(*) FROM a").fetchone(), None) == (0,)
    del cache
    gc.collect()
    assert [warning for warning in recwarn if warning.category is ResourceWarning] == []
