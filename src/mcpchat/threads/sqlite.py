"""The local database of threads: one private SQLite file, which survives crashes, and damage as far as it can."""

import itertools
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from mcpchat.engine.message_codec import decode_message, searchable_text
from mcpchat.errors import StoreError, UsageError
from mcpchat.threads.search import Phrase, normalize
from mcpchat.threads.sql_store import DatabaseRepaired, Row, SqlThreadStore, TextMatch, clean_values
from mcpchat.util.private_files import open_to_append

_REPAIR_TIMEOUT = 120.0  # seconds that another mcpchat may take to repair it
_MAX_LOOKUPS = 2_000_000  # rows that are looked for one by one
_MAX_MESSAGES_TO_OPTIMIZE = 200_000  # messages, whose index is merged in a second or two
_BUSY_TIMEOUT = 10_000  # milliseconds that others may take to write
_FILE_SUFFIXES = ("", "-wal", "-shm")  # what SQLite keeps with a database, by what it appends to the name


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


# One step from each version of the file to the next; the version is how many were taken. A step that was shipped is
# never changed.
MIGRATIONS: Sequence[Callable[[Callable[[str], object]], None]] = (_create_schema,)


class SqliteDatabase:
    """A Database in one file. ``warn`` is told when it was damaged, and what became of it.

    It is opened when it is first needed.
    """

    def __init__(self, path: Path, warn: Callable[[str], None] = lambda text: None) -> None:
        self._path = path
        self._warn = warn
        self._connection: sqlite3.Connection | None = None
        self._file_id: tuple[int, int] | None = None  # which file the connection is to
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
                raise  # all of the transaction has to be done again
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
        if per_thread:  # the index would be gone through for each of their messages
            condition = " AND ".join("instr(' ' || w.text || ' ', ?) > 0" for _ in terms)
            values = [f" {' '.join(phrase.words)}{'' if phrase.is_prefix else ' '}" for phrase in terms]
            return TextMatch("nodes n CROSS JOIN words w ON w.rowid = n.id", "n.id", condition, values)
        query = " ".join(f'"{" ".join(phrase.words)}"{"*" if phrase.is_prefix else ""}' for phrase in terms)
        return TextMatch("words w CROSS JOIN nodes n ON n.id = w.rowid", "w.rowid", "words MATCH ?", [query])

    def erase_deleted(self) -> None:
        """The words of what was deleted stay in the index until it is merged: at once while that is quick."""
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
        return sum(file.stat().st_size for file in self._files() if file.exists())

    def _files(self) -> list[Path]:
        return [self._path.with_name(self._path.name + suffix) for suffix in _FILE_SUFFIXES]

    def _begin(self) -> sqlite3.Connection:
        """A connection that nobody else can write beside, to the file that is there now."""
        while True:
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            if self._file_id == _file_identity(self._path):
                return connection
            connection.execute("ROLLBACK")  # somebody has repaired it meanwhile, and put another in its place

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and not self._in_transaction and self._file_id != _file_identity(self._path):
            self.close()
        if self._connection is None:
            os.close(open_to_append(self._path))  # made for its owner alone; no link, nobody else's
            self._set_aside_orphan_wal()
            self._file_id = _file_identity(self._path)
            try:
                self._connection = self._connect(self._path)
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                self._repair(error)
                self._file_id = _file_identity(self._path)
                self._connection = self._connect(self._path)
        return self._connection

    def _set_aside_orphan_wal(self) -> None:
        """A log of changes whose database is gone would be thrown away by SQLite: it is set aside."""
        wal = self._sidecar(self._path, "-wal")
        if self._path.stat().st_size == 0 and wal.exists() and wal.stat().st_size:
            backup = _free_name(self._path)
            wal.replace(self._sidecar(backup, "-wal"))
            self._warn(f"the database of threads is gone; what was last written to it is kept as {backup}-wal")

    @staticmethod
    def _sidecar(path: Path, suffix: str) -> Path:
        return path.with_name(path.name + suffix)

    def _connect(self, path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT / 1000, isolation_level=None, check_same_thread=False)
        try:
            connection.text_factory = _decode_text  # one damaged letter is no reason to read nothing
            _enable_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")  # what was said is on the disk, also when the power fails
            connection.execute("PRAGMA secure_delete = ON")  # what is deleted can be read by nobody
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
            version = _read_version(connection)  # somebody else may just have done it
            if version > len(MIGRATIONS):
                raise StoreError(
                    f"{self._path} was written by a newer mcpchat (format {version}; this one knows {len(MIGRATIONS)})",
                    hint="update mcpchat; until then --no-save",
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
            if _is_damage(error) and self._connection is not None:
                self.close()
                self._repair(error)
                raise DatabaseRepaired(f"{self._path} was damaged, and was repaired", hint="try again") from error
            raise StoreError(f"cannot use {self._path}: {error}", hint=_error_hint(error)) from error
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"cannot use {self._path}: {error}") from error

    def check(self) -> None:
        """Look at all of the file, and repair what is damaged: what can be read goes into a new one."""
        with self._translate_errors():
            connection = self._open()
            try:
                problems = [row[0] for row in connection.execute("PRAGMA integrity_check(10)")]
            except sqlite3.DatabaseError as error:
                problems = [str(error)]
        if problems != ["ok"]:
            self.close()
            lines = problems[0].strip().splitlines() or ["it is not whole"]
            self._repair(sqlite3.DatabaseError(lines[-1]))

    def _repair(self, damage: Exception) -> None:
        """Make a new file of what can be read of the damaged one, then put it in its place; that one is kept.

        Killed at any point, the damaged file is still there, or the new one is. Raises StoreError where there is no
        room for it: then nothing was changed.
        """
        from filelock import FileLock, Timeout

        damaged_id = self._file_id
        try:
            with FileLock(self._path.with_suffix(".lock"), mode=0o600, timeout=_REPAIR_TIMEOUT):
                if damaged_id is not None and damaged_id != _file_identity(self._path):
                    return  # somebody else has done it meanwhile
                self._swap_in(damage)
        except Timeout as error:
            raise StoreError(f"{self._path} is damaged, and being repaired by another mcpchat") from error

    def _swap_in(self, damage: Exception) -> None:
        new_path = self._sidecar(self._path, f".new-{os.getpid()}")
        try:
            os.close(open_to_append(new_path))
            with closing(self._connect(new_path)) as connection:
                counts = _copy_readable(self._path, connection)
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            backup = _free_name(self._path)
            os.link(self._path, backup)
            for suffix in _FILE_SUFFIXES[1:]:
                if self._sidecar(self._path, suffix).exists():  # of the new file they are not
                    self._sidecar(self._path, suffix).replace(self._sidecar(backup, suffix))
            new_path.replace(self._path)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"{self._path} is damaged ({damage}), and cannot be repaired: {error}",
                hint="nothing was changed; make room on the disk, then mcpchat threads gc",
            ) from error
        finally:
            for suffix in _FILE_SUFFIXES:
                self._sidecar(new_path, suffix).unlink(missing_ok=True)
        self._warn(
            f"the thread database was damaged ({damage}): {counts[0]:,} threads with {counts[1]:,} messages were saved"
            f" from it; the damaged file is kept as {backup}"
        )


class ReadOnlyDatabase(SqliteDatabase):
    """Somebody's file, which nothing is done to: not repaired, not brought up to date, not made private."""

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            wal = self._sidecar(self._path, "-wal")
            # Without a log of changes nobody writes to it, and SQLite need not make one beside it.
            immutable = "" if wal.exists() and wal.stat().st_size else "&immutable=1"
            uri = f"{self._path.absolute().as_uri()}?mode=ro{immutable}"
            connection = sqlite3.connect(uri, uri=True, isolation_level=None)
            connection.text_factory = _decode_text
            try:
                version = _read_version(connection)
                tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name IN ('threads', 'nodes')")
                if not version or tables.fetchone() != (2,):
                    raise UsageError(f"{self._path} is no database of threads", hint="mcpchat threads import FILE")
            except sqlite3.DatabaseError as error:
                connection.close()
                message = f"{self._path} is no database of threads: {error}"
                raise UsageError(
                    message, hint="exported threads are brought in by mcpchat threads import FILE"
                ) from error
            except UsageError:
                connection.close()
                raise
            if version != len(MIGRATIONS):
                connection.close()
                raise UsageError(f"{self._path} is of format {version}; this mcpchat reads {len(MIGRATIONS)}")
            self._connection = connection
        return self._connection

    def _repair(self, damage: Exception) -> None:
        raise StoreError(f"{self._path} is damaged: {damage}; nothing was done to it")


def open_read_only(path: Path) -> SqlThreadStore:
    """The threads in this file, which is only read. Raises UsageError where it is none."""
    return SqlThreadStore(ReadOnlyDatabase(path))


def open_threads(path: Path, warn: Callable[[str], None] = lambda text: None) -> SqlThreadStore:
    """The threads in this file, which is made when there is something to keep. ``warn`` is told of damage."""
    return SqlThreadStore(SqliteDatabase(path, warn))


def _enable_wal(connection: sqlite3.Connection) -> None:
    """Several can read while one writes. SQLite does not wait for others when it first changes to that."""
    deadline = time.monotonic() + _BUSY_TIMEOUT / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def _decode_text(data: bytes) -> str:
    return data.decode(errors="replace")


def _file_identity(path: Path) -> tuple[int, int] | None:
    """The file that the path names now."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _free_name(path: Path) -> Path:
    """A name beside the file's, for what is set aside, that nothing has."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in itertools.count():
        name = f"{path.stem}.damaged-{stamp}{f'-{number}' if number else ''}{path.suffix}"
        candidate = path.with_name(name)
        if not any(candidate.with_name(candidate.name + suffix).exists() for suffix in _FILE_SUFFIXES):
            return candidate
    raise AssertionError("there is always another number")


def _read_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    name = getattr(error, "sqlite_errorname", "") or ""
    return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "malformed" in str(error)


def _error_hint(error: sqlite3.DatabaseError) -> str:
    match (getattr(error, "sqlite_errorname", "") or "").split("_")[1:2]:
        case ["FULL"] | ["IOERR"]:
            return "perhaps the disk is full: make room; what was not saved is saved with the next message"
        case ["BUSY"] | ["LOCKED"]:
            return "another program holds it: mcpchat tries again with the next message"
        case ["READONLY"] | ["CANTOPEN"]:
            return "look at who may write to it, or leave saving off: --no-save"
        case _:
            return ""


_MAGIC = b"SQLite format 3\0"
_COLUMNS = {
    "threads": "no, id, title, named, agent, model, created, updated, head, last, forked_from, imported",
    "nodes": "id, thread, number, parent, role, at, body, record",
    "blobs": "hash, data",
    "uses": "hash, node",
    "tools": "no, name",
    "tool_uses": "tool, thread",
    "words": "rowid, text",
}


def _copy_readable(damaged: Path, target: sqlite3.Connection) -> tuple[int, int]:
    """Copy what can be read of the damaged file; how many threads and messages that were.

    Raises sqlite3.Error for what goes wrong with the new file.
    """
    target.execute("BEGIN IMMEDIATE")
    for source in _open_damaged(damaged):
        for table, columns in _COLUMNS.items():
            placeholders = ", ".join("?" for _ in columns.split(","))
            statement = f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({placeholders})"  # noqa: S608 - the names above
            for row in _iter_readable_rows(source, table, columns):
                with suppress(sqlite3.IntegrityError, sqlite3.InterfaceError, OverflowError):
                    target.execute(statement, row)
    _relink(target)
    target.execute("COMMIT")
    (threads,) = target.execute("SELECT count(*) FROM threads").fetchone()
    (nodes,) = target.execute("SELECT count(*) FROM nodes").fetchone()
    return threads, nodes


def _open_damaged(damaged: Path) -> Iterator[sqlite3.Connection]:
    """The damaged file, to be read; where its first bytes are lost, a copy with those that each database has there."""
    with tempfile.TemporaryDirectory(dir=damaged.parent, prefix=".repair-") as directory:
        readable = damaged
        with damaged.open("rb") as file:
            has_magic = file.read(len(_MAGIC)) == _MAGIC
        if not has_magic:
            readable = Path(directory) / damaged.name
            for suffix in _FILE_SUFFIXES[:2]:
                source = damaged.with_name(damaged.name + suffix)
                if source.exists():
                    shutil.copyfile(source, readable.with_name(readable.name + suffix))
            with readable.open("r+b") as file:
                file.write(_MAGIC)
        with suppress(sqlite3.Error), closing(sqlite3.connect(readable, isolation_level=None)) as connection:
            connection.text_factory = _decode_text
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            yield connection


def _iter_readable_rows(source: sqlite3.Connection, table: str, columns: str) -> Iterator[Row]:
    """The rows that can be read: in order as far as that goes, then from behind, then one by one."""
    seen: set[Any] = set()
    has_rowids = table not in {"uses", "tool_uses"}
    for order in (" ORDER BY rowid", " ORDER BY rowid DESC") if has_rowids else ("",):
        rows = _iter_until_damage(source, f"SELECT {columns} FROM {table}{order}")  # noqa: S608
        for row in rows:
            if row is None:
                break
            if row[0] not in seen or not has_rowids:
                seen.add(row[0])
                yield row
        else:
            return
    if table not in {"threads", "nodes", "words"}:
        return
    numbers = sorted(number for number in seen if isinstance(number, int))
    lookups = itertools.islice(_missing_numbers(numbers), _MAX_LOOKUPS)
    for number in lookups:
        for row in _iter_until_damage(source, f"SELECT {columns} FROM {table} WHERE rowid = {number}"):  # noqa: S608
            if row is not None:
                yield row


def _missing_numbers(numbers: Sequence[int]) -> Iterator[int]:
    """The numbers that are missing between these."""
    for before, after in itertools.pairwise(numbers):
        yield from range(before + 1, after)


def _iter_until_damage(source: sqlite3.Connection, statement: str) -> Iterator[Row | None]:
    """The rows; None, last, where the rest cannot be read."""
    try:
        yield from source.execute(statement)
    except sqlite3.Error:
        yield None


def _relink(target: sqlite3.Connection) -> None:
    """Threads of what was saved: messages whose thread is lost get a new one, heads are messages that are there."""
    target.execute("DELETE FROM words WHERE rowid NOT IN (SELECT id FROM nodes)")

    def load_blob(key: str) -> bytes | None:
        row = target.execute("SELECT data FROM blobs WHERE hash = ?", (key,)).fetchone()
        return row[0] if row else None

    for number, body in target.execute(
        "SELECT id, body FROM nodes WHERE id NOT IN (SELECT rowid FROM words)"
    ).fetchall():
        with suppress(ValueError, TypeError, KeyError, AttributeError):
            if text := normalize(searchable_text(decode_message(body, load_blob))):
                target.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (number, text))
    target.execute(
        "INSERT INTO threads SELECT thread, lower(hex(randomblob(16))), 'saved from a damaged file', 0, '', '',"
        " min(at), max(at), max(number), max(number), '', 0"
        " FROM nodes WHERE thread NOT IN (SELECT no FROM threads) GROUP BY thread"
    )
    target.execute(  # what answered a message that is lost answers the one before
        "UPDATE nodes SET parent = coalesce((SELECT max(p.number) FROM nodes p WHERE p.thread = nodes.thread"
        " AND p.number < nodes.number), 0) WHERE parent != 0 AND NOT EXISTS"
        " (SELECT 1 FROM nodes p WHERE p.thread = nodes.thread AND p.number = nodes.parent)"
    )
    target.execute(
        "UPDATE threads SET head = coalesce((SELECT max(number) FROM nodes WHERE thread = no), 0)"
        " WHERE head != 0 AND NOT EXISTS (SELECT 1 FROM nodes WHERE thread = no AND number = head)"
    )
    target.execute(
        "UPDATE threads SET last = max(last, coalesce((SELECT max(number) FROM nodes WHERE thread = no), 0))"
    )
