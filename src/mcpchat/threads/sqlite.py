"""The local thread database: schema, migrations, opening and searching one private SQLite file."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mcpchat.errors import StoreError, UsageError
from mcpchat.threads.database import DatabaseRepaired, Row, TextMatch
from mcpchat.threads.search import Phrase
from mcpchat.threads.sql_store import SqlThreadStore, clean_values
from mcpchat.threads.sqlite_repair import (
    FileIdentity,
    database_files,
    decode_text,
    file_identity,
    is_damage,
    repair,
    set_aside_orphan_wal,
    sidecar,
)
from mcpchat.util.private_files import ensure_private_file

_MAX_MESSAGES_TO_OPTIMIZE = 200_000  # the full-text index of this many messages is merged in a second or two
_BUSY_TIMEOUT = 10_000  # milliseconds to wait for another process that writes


def _create_schema(run: Callable[[str], object]) -> None:
    for statement in (
        "CREATE TABLE threads (no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL,"
        " named INTEGER NOT NULL, agent TEXT NOT NULL, model TEXT NOT NULL, created REAL NOT NULL,"
        " updated REAL NOT NULL, head INTEGER NOT NULL, last INTEGER NOT NULL, forked_from TEXT NOT NULL,"
        " imported INTEGER NOT NULL)",
        "CREATE INDEX threads_updated ON threads (updated, id)",
        "CREATE INDEX threads_agent ON threads (agent, updated, id)",
        "CREATE INDEX threads_title ON threads (title)",
        "CREATE TABLE nodes (id INTEGER PRIMARY KEY AUTOINCREMENT, thread INTEGER NOT NULL, number INTEGER NOT NULL,"
        " parent INTEGER NOT NULL, role TEXT NOT NULL, at REAL NOT NULL, body TEXT NOT NULL, record TEXT NOT NULL)",
        "CREATE UNIQUE INDEX nodes_number ON nodes (thread, number)",
        "CREATE TABLE blobs (hash TEXT PRIMARY KEY, data BLOB NOT NULL)",
        "CREATE TABLE uses (hash TEXT NOT NULL, node INTEGER NOT NULL, PRIMARY KEY (hash, node)) WITHOUT ROWID",
        "CREATE INDEX uses_node ON uses (node)",
        "CREATE TABLE tools (no INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        "CREATE TABLE tool_uses (tool INTEGER NOT NULL, thread INTEGER NOT NULL, PRIMARY KEY (tool, thread))"
        " WITHOUT ROWID",
        "CREATE INDEX tool_uses_thread ON tool_uses (thread)",
        "CREATE VIRTUAL TABLE words USING fts5 (text, tokenize = 'unicode61 remove_diacritics 0')",
    ):
        run(statement)


def _create_tasks(run: Callable[[str], object]) -> None:
    run("CREATE TABLE tasks (id TEXT PRIMARY KEY, updated REAL NOT NULL, record TEXT NOT NULL)")


# One step from each version of the file to the next. The version is the number of steps taken. Never change a step that
# was released.
MIGRATIONS: Sequence[Callable[[Callable[[str], object]], None]] = (_create_schema, _create_tasks)


class SqliteDatabase:
    """A Database in one file, opened on first use.

    If the file is damaged, it is repaired, and ``warn`` receives a text that says how much was recovered.
    """

    def __init__(self, path: Path, warn: Callable[[str], None] = lambda text: None) -> None:
        self._path = path
        self._warn = warn
        self._connection: sqlite3.Connection | None = None
        self._file_id: FileIdentity | None = None  # the file that the connection has open
        self._in_transaction = False

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def run(self, sql: str, *values: Any) -> list[Row]:
        try:
            with self._translate_errors():
                return self._open().execute(sql, clean_values(values)).fetchall()
        except DatabaseRepaired:
            if self._in_transaction:
                raise  # the whole transaction has to be repeated
            with self._translate_errors():
                return self._open().execute(sql, clean_values(values)).fetchall()

    def run_many(self, sql: str, rows: Sequence[Row]) -> None:
        with self._translate_errors():
            self._open().executemany(sql, [clean_values(row) for row in rows])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._translate_errors():
            connection = self._begin()
            self._in_transaction = True
            try:
                yield
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
            finally:
                self._in_transaction = False

    def insert(self, table: str, columns: str, *values: Any) -> int:
        placeholders = ", ".join("?" for _ in values)
        with self._translate_errors():
            query = f"INSERT INTO {table} ({columns}) VALUES ({placeholders})"  # noqa: S608 - our own names
            cursor = self._open().execute(query, clean_values(values))
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def index(self, node: int, text: str) -> None:
        self.run("INSERT INTO words (rowid, text) VALUES (?, ?)", node, text)

    def unindex(self, nodes: Sequence[int]) -> None:
        self.run_many("DELETE FROM words WHERE rowid = ?", [(node,) for node in nodes])

    def text_match(self, terms: Sequence[Phrase], *, per_thread: bool) -> TextMatch:
        if per_thread:  # MATCH would search the whole index for each message
            condition = " AND ".join("instr(' ' || w.text || ' ', ?) > 0" for _ in terms)
            values = [f" {' '.join(phrase.words)}{'' if phrase.is_prefix else ' '}" for phrase in terms]
            return TextMatch("nodes n CROSS JOIN words w ON w.rowid = n.id", "n.id", condition, values)
        query = " ".join(f'"{" ".join(phrase.words)}"{"*" if phrase.is_prefix else ""}' for phrase in terms)
        return TextMatch("words w CROSS JOIN nodes n ON n.id = w.rowid", "w.rowid", "words MATCH ?", [query])

    def erase_deleted(self) -> None:
        """Remove deleted words from the full-text index: they stay in it until it is merged.

        Merges now if that is quick (fewer than 200,000 messages); else ``vacuum`` does it.
        """
        with self._translate_errors():
            connection = self._open()
            (newest,) = connection.execute("SELECT coalesce(max(id), 0) FROM nodes").fetchone()
            if newest < _MAX_MESSAGES_TO_OPTIMIZE:
                connection.execute("INSERT INTO words (words) VALUES ('optimize')")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def vacuum(self) -> int:
        before = self._size()
        with self._translate_errors():
            connection = self._open()
            connection.execute("INSERT INTO words (words) VALUES ('optimize')")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("PRAGMA optimize")
        return max(0, before - self._size())

    def _size(self) -> int:
        return sum(file.stat().st_size for file in database_files(self._path) if file.exists())

    def _begin(self) -> sqlite3.Connection:
        """Begin a write transaction on the file that the path names now."""
        while True:
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            if self._file_id == file_identity(self._path):
                return connection
            connection.execute("ROLLBACK")  # another process repaired and replaced the file

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and not self._in_transaction and self._file_id != file_identity(self._path):
            self.close()
        if self._connection is None:
            ensure_private_file(self._path)
            set_aside_orphan_wal(self._path, self._warn)
            self._file_id = file_identity(self._path)
            try:
                self._connection = self._connect(self._path)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self._repair(error)
                self._file_id = file_identity(self._path)
                self._connection = self._connect(self._path)
        return self._connection

    def _connect(self, path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT / 1000, isolation_level=None, check_same_thread=False)
        try:
            connection.text_factory = decode_text  # read text with damaged bytes too
            _enable_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")  # committed messages survive a power failure
            connection.execute("PRAGMA secure_delete = ON")  # overwrite deleted content
            connection.execute("PRAGMA journal_size_limit = 16777216")
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        if _read_version(connection) == len(MIGRATIONS):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = _read_version(connection)  # another process may have migrated it meanwhile
            if version > len(MIGRATIONS):
                raise StoreError(
                    f"{self._path} was written by a newer mcpchat"
                    f" (format {version}; this version reads format {len(MIGRATIONS)})",
                    hint="update mcpchat, or use --no-save",
                )
            for step in MIGRATIONS[version:]:
                step(connection.execute)
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if is_damage(error) and self._connection is not None:
                self.close()
                self._repair(error)
                raise DatabaseRepaired(f"{self._path} was damaged and has been repaired", hint="try again") from error
            raise StoreError(f"cannot use {self._path}: {error}", hint=_error_hint(error)) from error
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"cannot use {self._path}: {error}") from error

    def check(self) -> None:
        """Check the whole file. If it is damaged, copy the readable rows into a new file.

        Raises StoreError if the file cannot be read or repaired.
        """
        with self._translate_errors():
            connection = self._open()
            try:
                problems = [row[0] for row in connection.execute("PRAGMA integrity_check(10)")]
            except sqlite3.DatabaseError as error:
                problems = [str(error)]
        if problems != ["ok"]:
            self.close()
            lines = problems[0].strip().splitlines() or ["the file is incomplete"]
            self._repair(sqlite3.DatabaseError(lines[-1]))

    def _repair(self, damage: Exception) -> None:
        repair(self._path, self._file_id, damage, connect=self._connect, warn=self._warn)


class ReadOnlyDatabase(SqliteDatabase):
    """A database file of the user's that is only read: never repaired, migrated or made private.

    Raises UsageError if the file is not a thread database or has another format version.
    """

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            wal = sidecar(self._path, "-wal")
            # No WAL means that no process writes to it; ``immutable`` then keeps SQLite from creating files beside it.
            immutable = "" if wal.exists() and wal.stat().st_size else "&immutable=1"
            uri = f"{self._path.absolute().as_uri()}?mode=ro{immutable}"
            connection = sqlite3.connect(uri, uri=True, isolation_level=None)
            connection.text_factory = decode_text
            try:
                version = _read_version(connection)
                tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name IN ('threads', 'nodes')")
                if not version or tables.fetchone() != (2,):
                    raise UsageError(f"{self._path} is not a thread database", hint="mcpchat threads import FILE")
            except sqlite3.DatabaseError as error:
                connection.close()
                message = f"{self._path} is not a thread database: {error}"
                raise UsageError(message, hint="mcpchat threads import FILE imports exported threads") from error
            except UsageError:
                connection.close()
                raise
            if version > len(MIGRATIONS):  # the threads are the same in all formats so far
                connection.close()
                raise UsageError(f"{self._path} has format {version}; this version reads format {len(MIGRATIONS)}")
            self._connection = connection
        return self._connection

    def _repair(self, damage: Exception) -> None:
        raise StoreError(f"{self._path} is damaged: {damage}; it was not changed")


def open_read_only(path: Path) -> SqlThreadStore:
    """Return the threads of a file that is only read.

    The file is opened on first use. That raises UsageError if it is not a thread database.
    """
    return SqlThreadStore(ReadOnlyDatabase(path))


def open_threads(path: Path, warn: Callable[[str], None] = lambda text: None) -> SqlThreadStore:
    """Return the threads of this file, which is opened, or created, on first use. ``warn`` receives damage reports."""
    return SqlThreadStore(SqliteDatabase(path, warn))


def _enable_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL mode, in which several processes can read while one writes.

    Repeats for up to ``_BUSY_TIMEOUT``: SQLite itself does not wait for other processes when it first switches. Raises
    sqlite3.OperationalError if the file stays locked.
    """
    deadline = time.monotonic() + _BUSY_TIMEOUT / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def _read_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _error_hint(error: sqlite3.DatabaseError) -> str:
    match (getattr(error, "sqlite_errorname", "") or "").split("_")[1:2]:
        case ["FULL"] | ["IOERR"]:
            return "perhaps the disk is full: free some space; unsaved messages are saved with the next message"
        case ["BUSY"] | ["LOCKED"]:
            return "another program has locked it; mcpchat tries again with the next message"
        case ["READONLY"] | ["CANTOPEN"]:
            return "check the permissions of the file and its folder, or use --no-save"
        case _:
            return ""
