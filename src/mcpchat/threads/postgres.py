"""Threads on a PostgreSQL that several machines share: the same store, in a schema of its own."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote

from mcpchat.errors import ConfigError, StoreError
from mcpchat.threads.search import Phrase
from mcpchat.threads.sql_store import Matching, Row, SqlThreads, plain

try:
    import psycopg
    from psycopg import conninfo
    from psycopg.rows import tuple_row
except ImportError as error:
    raise ConfigError(
        "threads on PostgreSQL need psycopg, which is not installed", hint="pip install 'mcpchat[postgres]'"
    ) from error

_PATIENCE = 5  # seconds, for a connection, and for others who write
_ONE_AT_A_TIME = 7_166_350_011  # the lock of who changes the tables
_LONGEST_WORD = 1000  # characters; a longer one is none that anybody looks for
_MOST_TEXT = 200_000  # characters of one message's words, which PostgreSQL keeps below a megabyte


def _first(run: Callable[[str], object]) -> None:
    for statement in (
        'CREATE TABLE threads (no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text COLLATE "C" NOT NULL UNIQUE,'
        " title text NOT NULL, named integer NOT NULL, agent text NOT NULL, model text NOT NULL,"
        " created double precision NOT NULL, updated double precision NOT NULL, head integer NOT NULL,"
        " last integer NOT NULL, forked_from text NOT NULL, imported integer NOT NULL)",
        "CREATE INDEX threads_updated ON threads (updated, id)",
        "CREATE INDEX threads_agent ON threads (agent, updated, id)",
        "CREATE INDEX threads_title ON threads USING hash (title)",
        "CREATE TABLE nodes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, thread bigint NOT NULL,"
        " number integer NOT NULL, parent integer NOT NULL, role text NOT NULL, at double precision NOT NULL,"
        " body text NOT NULL, record text NOT NULL, words tsvector, UNIQUE (thread, number))",
        "CREATE INDEX nodes_words ON nodes USING gin (words)",
        'CREATE TABLE blobs (hash text COLLATE "C" PRIMARY KEY, data bytea NOT NULL)',
        'CREATE TABLE uses (hash text COLLATE "C" NOT NULL, node bigint NOT NULL, PRIMARY KEY (hash, node))',
        "CREATE INDEX uses_node ON uses (node)",
        "CREATE TABLE tools (no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE)",
        "CREATE TABLE tool_uses (tool bigint NOT NULL, thread bigint NOT NULL, PRIMARY KEY (tool, thread))",
        "CREATE INDEX tool_uses_thread ON tool_uses (thread)",
    ):
        run(statement)


MIGRATIONS: Sequence[Callable[[Callable[[str], object]], None]] = (_first,)  # as in the local database
_NUMBERS = {"threads": "no", "nodes": "id", "tools": "no"}


class PostgresDatabase:
    """A Database at an address (``postgresql://...``). It is connected to when it is first needed, and again after a
    connection was lost."""

    def __init__(self, url: str, password: str | None = None) -> None:
        self._url = url
        self._password = password
        self._connection: psycopg.Connection[Row] | None = None
        self._inside = False

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def run(self, sql: str, *values: Any) -> list[Row]:
        with self._translated():
            return self._run(sql, values)

    def _run(self, sql: str, values: Sequence[Any]) -> list[Row]:
        connection = self._open()
        try:
            cursor = connection.execute(_with_marks(sql), plain(values))
        except psycopg.OperationalError:
            if not connection.broken or self._inside:
                raise
            cursor = self._open().execute(_with_marks(sql), plain(values))  # it had been lost while nobody looked
        return cursor.fetchall() if cursor.description else []

    def many(self, sql: str, rows: Sequence[Row]) -> None:
        with self._translated(), self._open().cursor() as cursor:
            cursor.executemany(_with_marks(sql), rows)

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._translated():
            self._run("SELECT 1", ())  # a connection that was lost is made anew
            with self._open().transaction():
                self._inside = True
                try:
                    # As in the local database: one writes at a time. It takes a moment; nobody has to try again.
                    self._run("LOCK TABLE threads IN SHARE ROW EXCLUSIVE MODE", ())
                    yield
                finally:
                    self._inside = False

    def insert(self, table: str, columns: str, *values: Any) -> int:
        marks = ", ".join("?" for _ in values)
        numbered = f"INSERT INTO {table} ({columns}) VALUES ({marks}) RETURNING {_NUMBERS[table]}"  # noqa: S608
        return int(self.run(numbered, *values)[0][0])

    def index(self, node: int, text: str) -> None:
        # Not by to_tsvector, whose parser sees numbers and addresses where we see words.
        words = [word for word in text[:_MOST_TEXT].split(" ") if len(word) < _LONGEST_WORD]
        placed = " ".join(f"'{word}':{place}" for place, word in enumerate(words, 1))
        self.run("UPDATE nodes SET words = ?::tsvector WHERE id = ?", placed, node)

    def unindex(self, nodes: Sequence[int]) -> None:
        pass  # a node's words are part of it

    def matching(self, wanted: Sequence[Phrase], *, few: bool) -> Matching:
        asked = " & ".join(f"({' <-> '.join(_lexemes(phrase))})" for phrase in wanted)
        return Matching("nodes n", "n.id", "n.words @@ ?::tsquery", [asked])

    def scrub(self) -> None:
        pass  # the server looks after its files itself

    def shrink(self) -> int:
        before = self.run(_SIZE)[0][0]
        with self._translated():
            self._open().execute("SET statement_timeout = 0")
            for table in ("threads", "nodes", "blobs", "uses", "tools", "tool_uses"):
                self._open().execute(f"VACUUM (ANALYZE) {table}")
        return max(0, int(before - self.run(_SIZE)[0][0]))

    def check(self) -> None:
        """The server looks after its files itself."""
        self.run("SELECT 1")

    def _open(self) -> "psycopg.Connection[Row]":
        if self._connection is None or self._connection.closed:
            self._connection = self._connected()
        return self._connection

    def _connected(self) -> "psycopg.Connection[Row]":
        connection = psycopg.connect(
            self._url,
            autocommit=True,
            row_factory=tuple_row,
            connect_timeout=_PATIENCE,
            application_name="mcpchat",
            tcp_user_timeout=_PATIENCE * 1000,
            password=self._password,
        )
        try:
            connection.execute(f"SET lock_timeout = '{_PATIENCE}s'")
            connection.execute(f"SET statement_timeout = '{6 * _PATIENCE}s'")
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_ONE_AT_A_TIME,))
                if connection.execute("SELECT to_regnamespace('mcpchat')").fetchone() == (None,):
                    connection.execute("CREATE SCHEMA mcpchat")
                connection.execute("SET search_path = mcpchat")
                self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: "psycopg.Connection[Row]") -> None:
        if connection.execute("SELECT to_regclass('mcpchat.format')").fetchone() == (None,):
            connection.execute("CREATE TABLE format (version integer NOT NULL)")
        row = connection.execute("SELECT version FROM format").fetchone()
        found = row[0] if row else 0
        if found > len(MIGRATIONS):
            raise StoreError(
                f"the shared threads are of a newer mcpchat (format {found}; this one knows {len(MIGRATIONS)})",
                hint="update mcpchat; until then --no-save",
            )
        if found < len(MIGRATIONS):
            for step in MIGRATIONS[found:]:
                step(connection.execute)
            connection.execute("DELETE FROM format")
            connection.execute("INSERT INTO format (version) VALUES (%s)", (len(MIGRATIONS),))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            said = str(error).strip().splitlines()
            lost = isinstance(error, psycopg.OperationalError) and (self._connection is None or self._connection.broken)
            told = f"the shared threads cannot be {'reached' if lost else 'used'}"
            raise StoreError(
                f"{told}: {said[0] if said else type(error).__name__}",
                hint="look at [threads] url, or leave saving off: --no-save" if lost else "",
            ) from error


_SIZE = (
    "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c"
    " WHERE c.relnamespace = 'mcpchat'::regnamespace AND c.relkind = 'r'"
)


def passwords(url: str) -> list[str]:
    """Every secret in an address, as it is written there and as it is meant. Raises ConfigError for what is none."""
    try:
        found = conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        found = {}
    host = url.partition("?")[0].partition("//")[2].partition("/")[0]
    if not found or not re.match(r"postgres(ql)?://", url) or host.count("@") > 1:
        # Its own words may be those of the password.
        told = "threads.url is no address of a PostgreSQL: expected postgresql://USER@HOST/DATABASE"
        raise ConfigError(told, hint="what is special in a user or password is written as %40 and the like")
    secrets = [str(value) for name, value in found.items() if "pass" in name and value]
    return [*secrets, *(quote(secret, safe="") for secret in secrets)]


def open_threads(url: str, password: str | None = None) -> SqlThreads:
    """The threads at this address, which is connected to when it is first needed."""
    return SqlThreads(PostgresDatabase(url, password))


def _with_marks(sql: str) -> str:
    return sql.replace("?", "%s")


def _lexemes(phrase: Phrase) -> list[str]:
    words = [f"'{word}'" for word in phrase.words]
    return [*words[:-1], f"{words[-1]}:*"] if phrase.open_end else words
