"""The shared thread database: PostgreSQL, in the schema ``mcpchat``."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote

from mcpchat.errors import ConfigError, StoreError
from mcpchat.threads.database import Row, TextMatch
from mcpchat.threads.search import Phrase
from mcpchat.threads.sql_store import SqlThreadStore, clean_values

try:
    import psycopg
    from psycopg import conninfo
    from psycopg.rows import tuple_row
except ImportError as error:
    raise ConfigError(
        "threads on PostgreSQL need psycopg, which is not installed", hint="pip install 'mcpchat[postgres]'"
    ) from error

_TIMEOUT = 5  # seconds to connect, and to wait for another writer
_MIGRATION_LOCK = 7_166_350_011  # key of the advisory lock that a migration holds
_MAX_WORD_LENGTH = 1000  # characters; longer words are not indexed
_MAX_INDEXED_TEXT = 200_000  # characters of one message; PostgreSQL limits a tsvector to one megabyte


def _create_schema(run: Callable[[str], object]) -> None:
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


def _create_tasks(run: Callable[[str], object]) -> None:
    run('CREATE TABLE tasks (id text COLLATE "C" PRIMARY KEY, updated double precision NOT NULL, record text NOT NULL)')


# As in the local database: never change a step that was released.
MIGRATIONS: Sequence[Callable[[Callable[[str], object]], None]] = (_create_schema, _create_tasks)
_ID_COLUMNS = {"threads": "no", "nodes": "id", "tools": "no"}


class PostgresDatabase:
    """A Database at an address (``postgresql://...``).

    It connects on first use, and again after the connection is lost.
    """

    def __init__(self, url: str, password: str | None = None) -> None:
        self._url = url
        self._password = password
        self._connection: psycopg.Connection[Row] | None = None
        self._in_transaction = False

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def run(self, sql: str, *values: Any) -> list[Row]:
        with self._translate_errors():
            return self._run(sql, values)

    def _run(self, sql: str, values: Sequence[Any]) -> list[Row]:
        connection = self._open()
        try:
            cursor = connection.execute(_convert_placeholders(sql), clean_values(values))
        except psycopg.OperationalError:
            if not connection.broken or self._in_transaction:
                raise
            # The connection was lost while it was idle.
            cursor = self._open().execute(_convert_placeholders(sql), clean_values(values))
        return cursor.fetchall() if cursor.description else []

    def run_many(self, sql: str, rows: Sequence[Row]) -> None:
        with self._translate_errors(), self._open().cursor() as cursor:
            cursor.executemany(_convert_placeholders(sql), rows)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._translate_errors():
            self._run("SELECT 1", ())  # reconnects if the connection was lost
            with self._open().transaction():
                self._in_transaction = True
                try:
                    # One writer at a time, as in the local database: the others wait a moment instead of retrying.
                    self._run("LOCK TABLE threads IN SHARE ROW EXCLUSIVE MODE", ())
                    yield
                finally:
                    self._in_transaction = False

    def insert(self, table: str, columns: str, *values: Any) -> int:
        placeholders = ", ".join("?" for _ in values)
        statement = f"INSERT INTO {table} ({columns}) VALUES ({placeholders}) RETURNING {_ID_COLUMNS[table]}"  # noqa: S608
        return int(self.run(statement, *values)[0][0])

    def index(self, node: int, text: str) -> None:
        # Not by to_tsvector: its parser recognizes numbers and addresses where our search has words.
        words = [word for word in text[:_MAX_INDEXED_TEXT].split(" ") if len(word) < _MAX_WORD_LENGTH]
        vector = " ".join(f"'{word}':{position}" for position, word in enumerate(words, 1))
        self.run("UPDATE nodes SET words = ?::tsvector WHERE id = ?", vector, node)

    def unindex(self, nodes: Sequence[int]) -> None:
        pass  # the words are a column of the message's row

    def text_match(self, terms: Sequence[Phrase], *, per_thread: bool) -> TextMatch:
        query = " & ".join(f"({' <-> '.join(_format_lexemes(phrase))})" for phrase in terms)
        return TextMatch("nodes n", "n.id", "n.words @@ ?::tsquery", [query])

    def erase_deleted(self) -> None:
        pass  # the server maintains its own files

    def vacuum(self) -> int:
        before = self.run(_SIZE)[0][0]
        with self._translate_errors():
            self._open().execute("SET statement_timeout = 0")
            for table in ("threads", "nodes", "blobs", "uses", "tools", "tool_uses"):
                self._open().execute(f"VACUUM (ANALYZE) {table}")
        return max(0, int(before - self.run(_SIZE)[0][0]))

    def check(self) -> None:
        """Check the connection only: the server maintains its own files."""
        self.run("SELECT 1")

    def _open(self) -> "psycopg.Connection[Row]":
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> "psycopg.Connection[Row]":
        connection = psycopg.connect(
            self._url,
            autocommit=True,
            row_factory=tuple_row,
            connect_timeout=_TIMEOUT,
            application_name="mcpchat",
            tcp_user_timeout=_TIMEOUT * 1000,
            password=self._password,
        )
        try:
            connection.execute(f"SET lock_timeout = '{_TIMEOUT}s'")
            connection.execute(f"SET statement_timeout = '{6 * _TIMEOUT}s'")
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
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
        version = row[0] if row else 0
        if version > len(MIGRATIONS):
            raise StoreError(
                f"the shared thread database was written by a newer mcpchat"
                f" (format {version}; this version reads format {len(MIGRATIONS)})",
                hint="update mcpchat, or use --no-save",
            )
        if version < len(MIGRATIONS):
            for step in MIGRATIONS[version:]:
                step(connection.execute)
            connection.execute("DELETE FROM format")
            connection.execute("INSERT INTO format (version) VALUES (%s)", (len(MIGRATIONS),))

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            lines = str(error).strip().splitlines()
            disconnected = isinstance(error, psycopg.OperationalError) and (
                self._connection is None or self._connection.broken
            )
            message = f"the shared thread database cannot be {'reached' if disconnected else 'used'}"
            raise StoreError(
                f"{message}: {lines[0] if lines else type(error).__name__}",
                hint="check [threads] url, or use --no-save" if disconnected else "",
            ) from error


_SIZE = (
    "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c"
    " WHERE c.relnamespace = 'mcpchat'::regnamespace AND c.relkind = 'r'"
)


def find_passwords(url: str) -> list[str]:
    """Return every password in a database address, both decoded and percent-encoded.

    Raises ConfigError if it is not a PostgreSQL address.
    """
    try:
        parameters = conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        parameters = {}
    host = url.partition("?")[0].partition("//")[2].partition("/")[0]
    if not parameters or not re.match(r"postgres(ql)?://", url) or host.count("@") > 1:
        # psycopg's error is left out: it may contain the password.
        message = "threads.url is not a PostgreSQL address: expected postgresql://USER@HOST/DATABASE"
        raise ConfigError(message, hint="percent-encode special characters of the user and the password: @ is %40")
    secrets = [str(value) for name, value in parameters.items() if "pass" in name and value]
    return [*secrets, *(quote(secret, safe="") for secret in secrets)]


def open_threads(url: str, password: str | None = None) -> SqlThreadStore:
    """Return the threads at this address, which is connected to on first use."""
    return SqlThreadStore(PostgresDatabase(url, password))


def _convert_placeholders(sql: str) -> str:
    return sql.replace("?", "%s")


def _format_lexemes(phrase: Phrase) -> list[str]:
    words = [f"'{word}'" for word in phrase.words]
    return [*words[:-1], f"{words[-1]}:*"] if phrase.is_prefix else words
