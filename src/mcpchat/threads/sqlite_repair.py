"""Repair of a damaged SQLite thread database: copies the readable rows into a new file and keeps the damaged one."""

import itertools
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from mcpchat.engine.message_codec import decode_message, searchable_text
from mcpchat.errors import StoreError
from mcpchat.threads.database import Row
from mcpchat.threads.search import normalize
from mcpchat.util.private_files import open_to_append

FILE_SUFFIXES = ("", "-wal", "-shm")  # the files of a SQLite database, by what is appended to its name
FileIdentity = tuple[int, int]  # device and inode

_REPAIR_TIMEOUT = 120.0  # seconds to wait for another mcpchat that is repairing the file
_MAX_LOOKUPS = 2_000_000  # missing rows of a table that are looked up one by one
_MAGIC = b"SQLite format 3\0"
_COLUMNS = {
    "threads": "no, id, title, named, agent, model, created, updated, head, last, forked_from, imported",
    "nodes": "id, thread, number, parent, role, at, body, record",
    "blobs": "hash, data",
    "uses": "hash, node",
    "tools": "no, name",
    "tool_uses": "tool, thread",
    "words": "rowid, text",
    "tasks": "id, updated, record",
}


def repair(
    path: Path,
    damaged_id: FileIdentity | None,
    damage: Exception,
    *,
    connect: Callable[[Path], sqlite3.Connection],
    warn: Callable[[str], None],
) -> None:
    """Copy the readable rows into a new file and put it in the place of the damaged one, which is kept as a backup.

    ``damaged_id`` is the file that turned out to be damaged; if ``path`` names another file by now, another process has
    repaired it, and nothing is done. ``connect`` opens a new file and creates the schema. ``warn`` receives the result.

    If the process is killed, either the damaged file or the new one is at ``path``. Raises StoreError if the repair
    fails, as on a full disk: the damaged file is then unchanged.
    """
    from filelock import FileLock, Timeout

    try:
        with FileLock(path.with_suffix(".lock"), mode=0o600, timeout=_REPAIR_TIMEOUT):
            if damaged_id is not None and damaged_id != file_identity(path):
                return  # another process has repaired it meanwhile
            _replace_damaged(path, damage, connect, warn)
    except Timeout as error:
        raise StoreError(f"{path} is damaged; another mcpchat is repairing it") from error


def _replace_damaged(
    path: Path, damage: Exception, connect: Callable[[Path], sqlite3.Connection], warn: Callable[[str], None]
) -> None:
    new_path = sidecar(path, f".new-{os.getpid()}")
    try:
        os.close(open_to_append(new_path))
        with closing(connect(new_path)) as connection:
            threads, messages = _copy_readable(path, connection)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        backup = _backup_path(path)
        os.link(path, backup)
        for suffix in FILE_SUFFIXES[1:]:
            if sidecar(path, suffix).exists():  # they belong to the damaged file, not to the new one
                sidecar(path, suffix).replace(sidecar(backup, suffix))
        new_path.replace(path)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(
            f"{path} is damaged ({damage}) and cannot be repaired: {error}",
            hint="nothing was changed; free some disk space, then run mcpchat threads gc",
        ) from error
    finally:
        for file in database_files(new_path):
            file.unlink(missing_ok=True)
    warn(
        f"the thread database was damaged ({damage}): {threads:,} threads with {messages:,} messages were saved"
        f" from it; the damaged file is kept as {backup}"
    )


def set_aside_orphan_wal(path: Path, warn: Callable[[str], None]) -> None:
    """Rename a write-ahead log whose database file is empty; SQLite would delete it. ``warn`` receives the new name."""
    wal = sidecar(path, "-wal")
    if path.stat().st_size == 0 and wal.exists() and wal.stat().st_size:
        backup_wal = sidecar(_backup_path(path), "-wal")
        wal.replace(backup_wal)
        warn(f"the thread database is gone; the latest changes to it are kept as {backup_wal}")


# Files of a database.


def sidecar(path: Path, suffix: str) -> Path:
    """Return the path with ``suffix`` appended to its name."""
    return path.with_name(path.name + suffix)


def database_files(path: Path) -> list[Path]:
    """Return the paths of the database file and of the files that SQLite may keep beside it."""
    return [sidecar(path, suffix) for suffix in FILE_SUFFIXES]


def file_identity(path: Path) -> FileIdentity | None:
    """Return the device and inode of the file, or None if it cannot be read."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the error means that the file is damaged, rather than locked or not writable."""
    name = getattr(error, "sqlite_errorname", "") or ""
    return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "malformed" in str(error)


def decode_text(data: bytes) -> str:
    """Decode stored text; damaged bytes are replaced."""
    return data.decode(errors="replace")


def _backup_path(path: Path) -> Path:
    """Return an unused name beside the file for a backup of it."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in itertools.count():
        name = f"{path.stem}.damaged-{stamp}{f'-{number}' if number else ''}{path.suffix}"
        candidate = path.with_name(name)
        if not any(file.exists() for file in database_files(candidate)):
            return candidate
    raise AssertionError("itertools.count() does not end")


# Copying.


def _copy_readable(damaged: Path, target: sqlite3.Connection) -> tuple[int, int]:
    """Copy the readable rows of the damaged file; return the numbers of threads and messages in the new file.

    Raises sqlite3.Error if the new file cannot be written, OSError if the damaged one cannot be opened.
    """
    target.execute("BEGIN IMMEDIATE")
    for source in _open_damaged(damaged):
        for table, columns in _COLUMNS.items():
            placeholders = ", ".join("?" for _ in columns.split(","))
            statement = f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({placeholders})"  # noqa: S608 - names from _COLUMNS
            for row in _iter_readable_rows(source, table, columns):
                with suppress(sqlite3.IntegrityError, sqlite3.InterfaceError, OverflowError):
                    target.execute(statement, row)
    _relink(target)
    target.execute("COMMIT")
    (threads,) = target.execute("SELECT count(*) FROM threads").fetchone()
    (nodes,) = target.execute("SELECT count(*) FROM nodes").fetchone()
    return threads, nodes


def _open_damaged(damaged: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection to the damaged file, or nothing if SQLite cannot open it.

    If the header's first 16 bytes are lost, opens a temporary copy that has them: they are the same in every database.
    """
    with tempfile.TemporaryDirectory(dir=damaged.parent, prefix=".repair-") as directory:
        readable = damaged
        with damaged.open("rb") as file:
            has_magic = file.read(len(_MAGIC)) == _MAGIC
        if not has_magic:
            readable = Path(directory) / damaged.name
            for suffix in FILE_SUFFIXES[:2]:
                source = sidecar(damaged, suffix)
                if source.exists():
                    shutil.copyfile(source, sidecar(readable, suffix))
            with readable.open("r+b") as file:
                file.write(_MAGIC)
        with suppress(sqlite3.Error), closing(sqlite3.connect(readable, isolation_level=None)) as connection:
            connection.text_factory = decode_text
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            yield connection


def _iter_readable_rows(source: sqlite3.Connection, table: str, columns: str) -> Iterator[Row]:
    """Yield the readable rows of a table: forwards to the damage, then backwards from the end, then single rows."""
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
    """Yield the integers missing between these sorted numbers."""
    for before, after in itertools.pairwise(numbers):
        yield from range(before + 1, after)


def _iter_until_damage(source: sqlite3.Connection, statement: str) -> Iterator[Row | None]:
    """Yield the rows of a statement, then None if the rest cannot be read."""
    try:
        yield from source.execute(statement)
    except sqlite3.Error:
        yield None


def _relink(target: sqlite3.Connection) -> None:
    """Restore the links between the copied rows.

    Messages whose thread is lost get a new thread, and every head and parent is a message that exists. The full-text
    index is completed.
    """
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
    target.execute(  # if the parent is lost, the message before becomes the parent
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
