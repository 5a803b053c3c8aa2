"""The thread store on a SQL database: saving, finding, searching and deleting threads."""

import re
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from mcpchat.core.messages import Message
from mcpchat.core.patterns import glob_matches
from mcpchat.core.threads import (
    CleanupReport,
    MessageMetadata,
    NewMessage,
    SearchHit,
    SearchResult,
    Thread,
    ThreadFilter,
    ThreadMessage,
)
from mcpchat.core.usage_report import UsageEntry
from mcpchat.engine.message_codec import (
    RESULT_ID,
    UNREADABLE_MESSAGE,
    decode_message,
    digest,
    encode_json,
    encode_message,
    referenced_results,
    searchable_text,
)
from mcpchat.errors import ThreadConflict, UsageError
from mcpchat.threads.database import Database, DatabaseRepaired, Row
from mcpchat.threads.search import Phrase, normalize, parse_query, snippet
from mcpchat.threads.task_store import SqlTaskStore
from mcpchat.util.text import did_you_mean, replace_surrogates

_THREAD_COLUMNS = (
    "t.id, t.title, t.named, t.agent, t.model, t.created, t.updated, t.head, t.last, t.forked_from, t.imported"
)
_PAGE_SIZE = 200  # rows of a search that are read in one query
_USAGE_PAGE = 5000  # messages whose usage is read in one query
_MAX_HITS_PER_THREAD = 3  # messages shown per thread
_HASH_PREFIX_CLAUSE = "WHERE hash >= ? AND hash < ? LIMIT 1"
_MAX_NAME_LENGTH = 500  # characters of a name or title: indexes limit the size of a value
_ID = re.compile(r"[0-9a-f]{4,32}")
_MAX_TITLES_TO_COMPARE = 1000  # titles compared for "did you mean"
_MAX_THREADS_TO_SCAN = 1000  # at most so many threads are searched one by one, without the index
_MAX_PARAMETERS = 30_000  # parameters of one statement


class SqlThreadStore:
    """A ThreadStore. Every change is one transaction, which is on disk when the call returns."""

    def __init__(self, database: Database) -> None:
        self._db = database

    @property
    def tasks(self) -> SqlTaskStore:
        return SqlTaskStore(self._db)

    # Save and delete.

    def append(self, thread: Thread, parent: int, messages: Sequence[NewMessage]) -> Thread:
        try:
            return self._append(thread, parent, messages)
        except DatabaseRepaired:
            return self._append(thread, parent, messages)

    def _append(self, thread: Thread, parent: int, new_messages: Sequence[NewMessage]) -> Thread:
        now = time.time()
        with self._db.transaction():
            rows = self._db.run("SELECT no, head, last, title, named, created FROM threads WHERE id = ?", thread.id)
            if rows:
                no, head, last, title, named, created = rows[0]
                if head != thread.head and self._already_appended(no, last, thread, new_messages):
                    return msgspec.structs.replace(
                        thread, head=head, messages=last
                    )  # saved before; only the confirmation was lost
                if head != thread.head:
                    raise ThreadConflict(f"the thread {thread.short_id} was continued elsewhere")
                thread = msgspec.structs.replace(thread, title=title, named=bool(named), created=created)
            elif thread.head:
                raise ThreadConflict(f"the thread {thread.short_id} was deleted elsewhere")
            else:
                thread = msgspec.structs.replace(thread, created=thread.created or now)
                no, last = self._insert_thread(thread), 0
            nodes = _number_nodes(new_messages, last + 1, parent)
            contents = [data for item in new_messages for data in item.blobs]
            self._write_nodes(no, nodes, contents, thread.forked_from)
            head = nodes[-1].number if nodes else thread.head
            thread = msgspec.structs.replace(thread, head=head, messages=last + len(nodes), updated=now)
            self._db.run(
                "UPDATE threads SET head = ?, last = ?, updated = ?, agent = ?, model = ? WHERE no = ?",
                *(head, thread.messages, now, clean_name(thread.agent), clean_name(thread.model), no),
            )
        return thread

    def _already_appended(self, no: int, last: int, thread: Thread, new_messages: Sequence[NewMessage]) -> bool:
        """Whether exactly these messages were appended to the thread since ``thread`` was read."""
        if last != thread.messages + len(new_messages):
            return False
        rows = self._db.run(
            "SELECT body FROM nodes WHERE thread = ? AND number > ? ORDER BY number", no, thread.messages
        )
        return [row[0] for row in rows] == [encode_message(item.message)[0].decode() for item in new_messages]

    def _insert_thread(self, thread: Thread) -> int:
        return self._db.insert(
            "threads",
            "id, title, named, agent, model, created, updated, head, last, forked_from, imported",
            *(
                thread.id,
                clean_name(thread.title),
                int(thread.named),
                clean_name(thread.agent),
                clean_name(thread.model),
            ),
            *(thread.created, thread.updated, thread.head, thread.messages, thread.forked_from, int(thread.imported)),
        )

    def _write_nodes(
        self, thread: int, nodes: Iterable[ThreadMessage], contents: Sequence[bytes], source: str = ""
    ) -> None:
        """Write the messages, and link them to the stored results that they refer to.

        A message may refer to ``contents``, to results of its own thread, and to results of the thread that it was
        forked from (``source``). A key in the text of a message does not give access to any other result.
        """
        new_blobs = {digest(data): data for data in contents}
        for key, data in new_blobs.items():
            self._store_blob(key, data)
        tools: set[str] = set()
        for node in nodes:
            body, blobs = encode_message(node.message)
            for key, data in blobs.items():
                self._store_blob(key, data)
            node_id = self._db.insert(
                "nodes",
                "thread, number, parent, role, at, body, record",
                *(thread, node.number, node.parent, node.message.role, node.record.at),
                *(body.decode(), encode_json(node.record).decode()),
            )
            self._link_blobs(
                node_id, {*blobs, *self._allowed_blobs(referenced_results(node.message), new_blobs, thread, source)}
            )
            if text := normalize(searchable_text(node.message)):
                self._db.index(node_id, text)
            tools |= {clean_name(call.tool) for call in node.record.calls}
        for tool in sorted(tools):
            self._db.run("INSERT INTO tools (name) VALUES (?) ON CONFLICT DO NOTHING", tool)
            self._db.run(
                "INSERT INTO tool_uses (tool, thread) SELECT no, ? FROM tools WHERE name = ? ON CONFLICT DO NOTHING",
                *(thread, tool),
            )

    def _link_blobs(self, node: int, keys: Iterable[str]) -> None:
        for key in keys:
            self._db.run("INSERT INTO uses (hash, node) VALUES (?, ?) ON CONFLICT DO NOTHING", key, node)

    def _allowed_blobs(
        self, keys: Iterable[str], new_blobs: Collection[str], thread: int, source: str
    ) -> Iterator[str]:
        """Yield the full hashes of the stored results with these key prefixes, if the thread may read them."""
        for key in keys:
            for (blob_hash,) in self._db.run(f"SELECT hash FROM blobs {_HASH_PREFIX_CLAUSE}", key, f"{key}g"):  # noqa: S608
                if (
                    blob_hash in new_blobs
                    or self._thread_has_blob(blob_hash, "t.no = ?", thread)
                    or self._thread_has_blob(blob_hash, "t.id = ?", source)
                ):
                    yield blob_hash

    def _thread_has_blob(self, blob_hash: str, condition: str, value: Any) -> bool:
        tables = "uses u JOIN nodes n ON n.id = u.node JOIN threads t ON t.no = n.thread"
        return bool(self._db.run(f"SELECT 1 FROM {tables} WHERE u.hash = ? AND {condition} LIMIT 1", blob_hash, value))  # noqa: S608

    def _store_blob(self, key: str, data: bytes) -> None:
        self._db.run("INSERT INTO blobs (hash, data) VALUES (?, ?) ON CONFLICT DO NOTHING", key, data)

    def move(self, thread: Thread, head: int) -> Thread:
        with self._db.transaction():
            rows = self._db.run("SELECT no, head FROM threads WHERE id = ?", thread.id)
            if not rows or rows[0][1] != thread.head:
                raise ThreadConflict(f"the thread {thread.short_id} was continued elsewhere")
            self._db.run("UPDATE threads SET head = ? WHERE no = ?", head, rows[0][0])
        return msgspec.structs.replace(thread, head=head)

    def import_thread(self, thread: Thread, nodes: Sequence[ThreadMessage], blobs: Sequence[bytes] = ()) -> bool:
        with self._db.transaction():
            if self._db.run("SELECT no FROM threads WHERE id = ?", thread.id):
                return False
            last = max((node.number for node in nodes), default=0)
            no = self._insert_thread(msgspec.structs.replace(thread, messages=last))
            self._write_nodes(no, nodes, blobs)
        return True

    def rename(self, thread: Thread, title: str, *, named: bool = True) -> None:
        extra_condition = "" if named else " AND named = 0"
        with self._db.transaction():
            self._db.run(
                f"UPDATE threads SET title = ?, named = ? WHERE id = ?{extra_condition}",  # noqa: S608 - one of the two constants above
                *(clean_name(title), int(named), thread.id),
            )

    def delete(self, thread: Thread) -> None:
        with self._db.transaction():
            for (no,) in self._db.run("SELECT no FROM threads WHERE id = ?", thread.id):
                self._delete_thread(no)
        self._db.erase_deleted()

    def _delete_thread(self, thread: int) -> None:
        nodes = [row[0] for row in self._db.run("SELECT id FROM nodes WHERE thread = ?", thread)]
        self._db.unindex(nodes)
        keys: set[str] = set()
        for node in nodes:
            keys |= {row[0] for row in self._db.run("SELECT hash FROM uses WHERE node = ?", node)}
        self._db.run_many("DELETE FROM uses WHERE node = ?", [(node,) for node in nodes])
        statement = "DELETE FROM blobs WHERE hash = ? AND NOT EXISTS (SELECT 1 FROM uses WHERE uses.hash = blobs.hash)"
        self._db.run_many(statement, [(key,) for key in keys])
        self._db.run("DELETE FROM tool_uses WHERE thread = ?", thread)
        self._db.run("DELETE FROM nodes WHERE thread = ?", thread)
        self._db.run("DELETE FROM threads WHERE no = ?", thread)

    def count_older(self, before: float) -> int:
        return int(self._db.run("SELECT count(*) FROM threads WHERE updated < ?", before)[0][0])

    def clean_up(self, *, before: float | None = None) -> CleanupReport:
        expired = self._db.run("SELECT no FROM threads WHERE updated < ?", before) if before is not None else []
        for (no,) in expired:
            with self._db.transaction():  # one transaction each: other processes can write in between
                self._delete_thread(no)
        with self._db.transaction():
            is_unused = "NOT EXISTS (SELECT 1 FROM uses WHERE uses.hash = blobs.hash)"
            (contents,) = self._db.run(f"SELECT count(*) FROM blobs WHERE {is_unused}")[0]  # noqa: S608 - the constant above
            self._db.run(f"DELETE FROM blobs WHERE {is_unused}")  # noqa: S608 - the constant above
        return CleanupReport(threads=len(expired), blobs=contents, bytes=self._db.vacuum())

    def check(self) -> None:
        self._db.check()

    def close(self) -> None:
        self._db.close()

    def get_blob(self, key: str, thread: Thread | None) -> bytes | None:
        if not RESULT_ID.fullmatch(key):
            return None
        for blob_hash, data in self._db.run(f"SELECT hash, data FROM blobs {_HASH_PREFIX_CLAUSE}", key, f"{key}g"):  # noqa: S608
            if thread is None or self._thread_has_blob(blob_hash, "t.id = ?", thread.id):
                return bytes(data)
        return None

    # Find and search.

    def find(self, name: str) -> Thread:
        threads: list[Thread] = []
        if _ID.fullmatch(name):
            threads = self._select_threads("WHERE t.id >= ? AND t.id < ? ORDER BY t.id LIMIT 10", name, f"{name}g")
        threads = threads or self._select_threads("WHERE t.title = ? ORDER BY t.updated DESC LIMIT 10", name)
        if len(threads) == 1:
            return threads[0]
        if threads:
            candidates = "; ".join(f"{thread.id[:12]} {thread.title}" for thread in threads[:5])
            raise UsageError(f"several threads match {name!r}: {candidates}", hint="use the id of one")
        titles = {thread.title: thread for thread in self.recent(ThreadFilter(), _MAX_TITLES_TO_COMPARE)}
        hint = did_you_mean(name, titles).removeprefix("; ") or "mcpchat threads lists them"
        raise UsageError(f"no thread is named {name!r}", hint=hint)

    def ids(self) -> Sequence[str]:
        return [row[0] for row in self._db.run("SELECT id FROM threads ORDER BY no")]

    def latest(self) -> Thread | None:
        return next(iter(self._select_threads("ORDER BY t.updated DESC, t.id DESC LIMIT 1")), None)

    def nodes(self, thread: Thread) -> Sequence[ThreadMessage]:
        rows = self._db.run(
            "SELECT n.number, n.parent, n.body, n.record FROM nodes n JOIN threads t ON t.no = n.thread"
            " WHERE t.id = ? ORDER BY n.number",
            thread.id,
        )
        return [self._node_from_row(*row) for row in rows]

    def _node_from_row(self, number: int, parent: int, body: str, record: str) -> ThreadMessage:
        message = self._decode_message(body) or UNREADABLE_MESSAGE  # the messages before and after it are still useful
        try:
            metadata = msgspec.json.decode(record, type=MessageMetadata)
        except ValueError:
            metadata = MessageMetadata()
        return ThreadMessage(number=number, parent=parent, message=message, record=metadata)

    def _decode_message(self, body: str) -> Message | None:
        try:
            return decode_message(body, lambda key: self.get_blob(key, None))
        except (ValueError, TypeError, KeyError, AttributeError):
            return None  # damaged

    def usage(self, begin: float, end: float) -> Iterator[UsageEntry]:
        last = 0
        while True:
            rows = self._db.run(
                "SELECT n.id, n.record, t.id, t.title FROM nodes n JOIN threads t ON t.no = n.thread"
                " WHERE n.id > ? AND n.at >= ? AND n.at < ? AND n.role != 'user' AND t.imported = 0"
                " ORDER BY n.id LIMIT ?",
                last,
                begin,
                end,
                _USAGE_PAGE,
            )
            for number, record, thread, title in rows:
                last = number
                try:
                    metadata = msgspec.json.decode(record, type=MessageMetadata)
                except ValueError:
                    continue  # damaged
                yield UsageEntry(thread=thread, title=title, record=metadata)
            if len(rows) < _USAGE_PAGE:
                return

    def recent(self, thread_filter: ThreadFilter, limit: int, before: Thread | None = None) -> Sequence[Thread]:
        conditions, values = self._build_conditions(thread_filter)
        if before is not None:
            conditions.append("(t.updated, t.id) < (?, ?)")
            values += [before.updated, before.id]
        return self._select_threads(
            f"{_where_clause(conditions)} ORDER BY t.updated DESC, t.id DESC LIMIT ?", *values, limit
        )

    def search(self, thread_filter: ThreadFilter, query: str, limit: int) -> Sequence[SearchResult]:
        terms = parse_query(query)
        conditions, values = self._build_conditions(thread_filter)
        where = f"{_where_clause(conditions)} ORDER BY t.updated DESC, t.id DESC LIMIT {_MAX_THREADS_TO_SCAN + 1}"
        query = f"SELECT t.no, {_THREAD_COLUMNS} FROM threads t {where}"  # noqa: S608 - our own columns and clauses
        candidates = self._db.run(query, *values) if conditions else []
        time_conditions = [
            (f"n.at {sign} ?", at)
            for sign, at in ((">=", thread_filter.since), ("<", thread_filter.until))
            if at is not None
        ]
        conditions = [*conditions, *(condition for condition, _ in time_conditions)]
        values = [*values, *(at for _, at in time_conditions)]
        if thread_filter != ThreadFilter() and len(candidates) <= _MAX_THREADS_TO_SCAN:
            return self._search_threads(candidates, terms, time_conditions, limit)
        text_match = self._db.text_match(terms, per_thread=False)
        hits_by_thread: dict[str, tuple[Thread, list[SearchHit]]] = {}
        cursor: list[Any] = []
        while True:
            clauses = [text_match.condition, *conditions, *([f"{text_match.order_column} < ?"] if cursor else [])]
            rows = self._db.run(
                f"SELECT n.id, n.number, n.role, n.body, {_THREAD_COLUMNS} FROM {text_match.from_clause}"  # noqa: S608 - our own columns and clauses
                f" JOIN threads t ON t.no = n.thread {_where_clause(clauses)}"
                f" ORDER BY {text_match.order_column} DESC LIMIT {_PAGE_SIZE}",
                *(*text_match.values, *values, *cursor),
            )
            for row in rows:
                thread = _thread_from_row(row[4:])
                if thread.id not in hits_by_thread and len(hits_by_thread) == limit:
                    return _group_hits(hits_by_thread.values())
                hits = hits_by_thread.setdefault(thread.id, (thread, []))[1]
                if len(hits) < _MAX_HITS_PER_THREAD:
                    hits += self._build_hits([row[1:4]], terms)
            if len(rows) < _PAGE_SIZE:
                return _group_hits(hits_by_thread.values())
            cursor = [rows[-1][0]]

    def _search_threads(
        self, threads: Sequence[Row], terms: Sequence[Phrase], time_conditions: Sequence[tuple[str, float]], limit: int
    ) -> Sequence[SearchResult]:
        """Search these threads one by one. For a small number of threads this is quick even for common words."""
        text_match = self._db.text_match(terms, per_thread=True)
        clauses = ["n.thread = ?", text_match.condition, *(condition for condition, _ in time_conditions)]
        results: list[SearchResult] = []
        for no, *thread in threads:
            rows = self._db.run(
                f"SELECT n.number, n.role, n.body FROM {text_match.from_clause} {_where_clause(clauses)}"  # noqa: S608 - our own columns and clauses
                f" ORDER BY n.number DESC LIMIT {_MAX_HITS_PER_THREAD}",
                *(no, *text_match.values, *(at for _, at in time_conditions)),
            )
            if rows:
                results.append(SearchResult(thread=_thread_from_row(thread), hits=tuple(self._build_hits(rows, terms))))
            if len(results) == limit:
                break
        return results

    def _build_hits(self, rows: Sequence[Row], terms: Sequence[Phrase]) -> Iterator[SearchHit]:
        for number, role, body in rows:
            if (message := self._decode_message(body)) is not None:
                yield SearchHit(number=number, role=role, snippet=snippet(searchable_text(message), terms))

    def _build_conditions(self, thread_filter: ThreadFilter) -> tuple[list[str], list[Any]]:
        conditions: list[str] = []
        values: list[Any] = []
        for condition, value in (
            ("t.agent = ?", thread_filter.agent),
            ("t.updated >= ?", thread_filter.since),
            ("t.created < ?", thread_filter.until),
        ):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        if thread_filter.tools:
            tools = self._db.run("SELECT no, name FROM tools")
            tool_numbers = [no for no, name in tools if any(glob_matches(glob, name) for glob in thread_filter.tools)][
                :_MAX_PARAMETERS
            ]
            placeholders = ", ".join("?" for _ in tool_numbers) or "NULL"
            conditions.append(f"t.no IN (SELECT thread FROM tool_uses WHERE tool IN ({placeholders}))")  # noqa: S608
            values += tool_numbers
        return conditions, values

    def _select_threads(self, clauses: str, *values: Any) -> list[Thread]:
        query = f"SELECT {_THREAD_COLUMNS} FROM threads t {clauses}"  # noqa: S608 - our own columns and clauses
        return [_thread_from_row(row) for row in self._db.run(query, *values)]


def _number_nodes(new_messages: Sequence[NewMessage], number: int, parent: int) -> list[ThreadMessage]:
    """Number the messages from ``number`` on; each is the child of the one before, the first of ``parent``."""
    nodes: list[ThreadMessage] = []
    for item in new_messages:
        nodes.append(ThreadMessage(number=number, parent=parent, message=item.message, record=item.metadata))
        number, parent = number + 1, number
    return nodes


def clean_name(text: str) -> str:
    """Return the name without null characters, cut to 500 characters, so that every database and index accepts it."""
    return text.replace("\0", "")[:_MAX_NAME_LENGTH]


def clean_values(values: Sequence[Any]) -> tuple[Any, ...]:
    """Return the parameters of a statement with lone surrogates replaced."""
    return tuple(replace_surrogates(value) if isinstance(value, str) else value for value in values)


def _where_clause(conditions: Sequence[str]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def _thread_from_row(row: Sequence[Any]) -> Thread:
    return Thread(
        id=row[0],
        title=row[1],
        named=bool(row[2]),
        agent=row[3],
        model=row[4],
        created=row[5],
        updated=row[6],
        head=row[7],
        messages=row[8],
        forked_from=row[9],
        imported=bool(row[10]),
    )


def _group_hits(hits_by_thread: Iterable[tuple[Thread, list[SearchHit]]]) -> list[SearchResult]:
    return [SearchResult(thread=thread, hits=tuple(hits)) for thread, hits in hits_by_thread]
