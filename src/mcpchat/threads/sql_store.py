"""Threads in a database that speaks SQL: what is kept, what is found again."""

import re
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import msgspec

from mcpchat.core.messages import Message
from mcpchat.core.patterns import matches
from mcpchat.core.threads import Entry, Found, Hit, Node, Record, Thread, Tidied, Wanted
from mcpchat.engine.message_codec import KEY, UNREADABLE, digest, encoded, keys_in, packed, spoken, unpacked
from mcpchat.errors import StoreError, ThreadMoved, UsageError
from mcpchat.threads.search import Phrase, folded, phrases, snippet
from mcpchat.util.text import did_you_mean

Row = tuple[Any, ...]
_THREAD = "t.id, t.title, t.named, t.agent, t.model, t.created, t.updated, t.head, t.last, t.forked_from, t.imported"
_PAGE = 200  # rows of a search that are read at once
_HITS = 3  # messages that are shown of one thread
_BEGINS = "WHERE hash >= ? AND hash < ? LIMIT 1"
_LONGEST_NAME = 500  # characters of a name: no index takes them without end
_ID = re.compile(r"[0-9a-f]{4,32}")
_NEAR = 1000  # titles among which a nearest one is looked for
_FEW = 1000  # threads, whose messages are looked through one by one
_AT_ONCE = 30_000  # values that one statement takes


class Repaired(StoreError):
    """The database was damaged and is whole again: what was to be done can be tried once more."""


class Matching(NamedTuple):
    """``nodes`` is a table expression with the nodes as ``n``; ``number`` is the nodes' own, by which it is ordered."""

    nodes: str
    number: str
    condition: str
    values: Sequence[Any]


class Database(Protocol):
    """What differs between databases. Placeholders are question marks. Everything raises StoreError."""

    def run(self, sql: str, *values: Any) -> list[Row]:
        """The rows of a statement."""
        ...

    def many(self, sql: str, rows: Sequence[Row]) -> None:
        """A statement for each of the rows."""
        ...

    def writing(self) -> AbstractContextManager[None]:
        """All that is done inside is done as one, with nobody else in between; or none of it."""
        ...

    def insert(self, table: str, columns: str, *values: Any) -> int:
        """Insert a row of a table that numbers its rows by itself; its number."""
        ...

    def index(self, node: int, text: str) -> None:
        """Have the node found by these words."""
        ...

    def unindex(self, nodes: Sequence[int]) -> None: ...

    def matching(self, wanted: Sequence[Phrase], *, few: bool) -> "Matching":
        """How nodes are found that say all of this; ``few``: of not many threads, which are named."""
        ...

    def scrub(self) -> None:
        """See that what was deleted can be read by nobody, as far as that is quick."""
        ...

    def shrink(self) -> int:
        """Give back the space that is not needed; in bytes."""
        ...

    def check(self) -> None:
        """Look at all of it, and repair what can be repaired."""
        ...

    def close(self) -> None: ...


class SqlThreads:
    """A ThreadStore. Every change is one transaction, on the disk when the call returns."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # Keeping.

    def append(self, thread: Thread, parent: int, entries: Sequence[Entry]) -> Thread:
        try:
            return self._append(thread, parent, entries)
        except Repaired:
            return self._append(thread, parent, entries)

    def _append(self, thread: Thread, parent: int, entries: Sequence[Entry]) -> Thread:
        now = time.time()
        with self._db.writing():
            known = self._db.run("SELECT no, head, last, title, named, created FROM threads WHERE id = ?", thread.id)
            if known:
                no, head, last, title, named, created = known[0]
                if head != thread.head and self._is_there(no, last, thread, entries):
                    return msgspec.structs.replace(thread, head=head, messages=last)  # only the word of it was lost
                if head != thread.head:
                    raise ThreadMoved(f"the thread {thread.short_id} was continued elsewhere")
                thread = msgspec.structs.replace(thread, title=title, named=bool(named), created=created)
            elif thread.head:
                raise ThreadMoved(f"the thread {thread.short_id} was deleted elsewhere")
            else:
                thread = msgspec.structs.replace(thread, created=thread.created or now)
                no, last = self._insert(thread), 0
            nodes = _chained(entries, last + 1, parent)
            contents = [data for entry in entries for data in entry.contents]
            self._write_nodes(no, nodes, contents, thread.forked_from)
            head = nodes[-1].number if nodes else thread.head
            thread = msgspec.structs.replace(thread, head=head, messages=last + len(nodes), updated=now)
            self._db.run(
                "UPDATE threads SET head = ?, last = ?, updated = ?, agent = ?, model = ? WHERE no = ?",
                *(head, thread.messages, now, name_of(thread.agent), name_of(thread.model), no),
            )
        return thread

    def _is_there(self, no: int, last: int, thread: Thread, entries: Sequence[Entry]) -> bool:
        """Whether the thread differs from what is known of it by these very entries."""
        if last != thread.messages + len(entries):
            return False
        rows = self._db.run(
            "SELECT body FROM nodes WHERE thread = ? AND number > ? ORDER BY number", no, thread.messages
        )
        return [row[0] for row in rows] == [packed(entry.message)[0].decode() for entry in entries]

    def _insert(self, thread: Thread) -> int:
        return self._db.insert(
            "threads",
            "id, title, named, agent, model, created, updated, head, last, forked_from, imported",
            *(thread.id, name_of(thread.title), int(thread.named), name_of(thread.agent), name_of(thread.model)),
            *(thread.created, thread.updated, thread.head, thread.messages, thread.forked_from, int(thread.imported)),
        )

    def _write_nodes(self, thread: int, nodes: Iterable[Node], contents: Sequence[bytes], source: str = "") -> None:
        """Write the messages with the whole results that they point to.

        Besides these they may point to what their thread has, and the one that it is forked from: what a text merely
        names is not given to it.
        """
        own = {digest(data): data for data in contents}
        for key, data in own.items():
            self._keep(key, data)
        tools: set[str] = set()
        for node in nodes:
            body, blobs = packed(node.message)
            for key, data in blobs.items():
                self._keep(key, data)
            row = self._db.insert(
                "nodes",
                "thread, number, parent, role, at, body, record",
                *(thread, node.number, node.parent, node.message.role, node.record.at),
                *(body.decode(), encoded(node.record).decode()),
            )
            self._use(row, {*blobs, *self._granted(keys_in(node.message), own, thread, source)})
            if words := folded(spoken(node.message)):
                self._db.index(row, words)
            tools |= {name_of(call.tool) for call in node.record.calls}
        for tool in sorted(tools):
            self._db.run("INSERT INTO tools (name) VALUES (?) ON CONFLICT DO NOTHING", tool)
            self._db.run(
                "INSERT INTO tool_uses (tool, thread) SELECT no, ? FROM tools WHERE name = ? ON CONFLICT DO NOTHING",
                *(thread, tool),
            )

    def _use(self, node: int, keys: Iterable[str]) -> None:
        for key in keys:
            self._db.run("INSERT INTO uses (hash, node) VALUES (?, ?) ON CONFLICT DO NOTHING", key, node)

    def _granted(self, keys: Iterable[str], own: Collection[str], thread: int, source: str) -> Iterator[str]:
        """The whole hashes of the contents that these keys begin, as far as the thread may have them."""
        for key in keys:
            for (whole,) in self._db.run(f"SELECT hash FROM blobs {_BEGINS}", key, f"{key}g"):  # noqa: S608
                if whole in own or self._has(whole, "t.no = ?", thread) or self._has(whole, "t.id = ?", source):
                    yield whole

    def _has(self, key: str, which: str, value: Any) -> bool:
        joined = "uses u JOIN nodes n ON n.id = u.node JOIN threads t ON t.no = n.thread"
        return bool(self._db.run(f"SELECT 1 FROM {joined} WHERE u.hash = ? AND {which} LIMIT 1", key, value))  # noqa: S608

    def _keep(self, key: str, data: bytes) -> None:
        self._db.run("INSERT INTO blobs (hash, data) VALUES (?, ?) ON CONFLICT DO NOTHING", key, data)

    def move(self, thread: Thread, head: int) -> Thread:
        with self._db.writing():
            known = self._db.run("SELECT no, head FROM threads WHERE id = ?", thread.id)
            if not known or known[0][1] != thread.head:
                raise ThreadMoved(f"the thread {thread.short_id} was continued elsewhere")
            self._db.run("UPDATE threads SET head = ? WHERE no = ?", head, known[0][0])
        return msgspec.structs.replace(thread, head=head)

    def put(self, thread: Thread, nodes: Sequence[Node], contents: Sequence[bytes] = ()) -> bool:
        with self._db.writing():
            if self._db.run("SELECT no FROM threads WHERE id = ?", thread.id):
                return False
            last = max((node.number for node in nodes), default=0)
            no = self._insert(msgspec.structs.replace(thread, messages=last))
            self._write_nodes(no, nodes, contents)
        return True

    def rename(self, thread: Thread, title: str, *, named: bool = True) -> None:
        only = "" if named else " AND named = 0"
        with self._db.writing():
            self._db.run(
                f"UPDATE threads SET title = ?, named = ? WHERE id = ?{only}",  # noqa: S608 - of two texts above
                *(name_of(title), int(named), thread.id),
            )

    def delete(self, thread: Thread) -> None:
        with self._db.writing():
            for (no,) in self._db.run("SELECT no FROM threads WHERE id = ?", thread.id):
                self._delete(no)
        self._db.scrub()

    def _delete(self, thread: int) -> None:
        nodes = [row[0] for row in self._db.run("SELECT id FROM nodes WHERE thread = ?", thread)]
        self._db.unindex(nodes)
        used: set[str] = set()
        for node in nodes:
            used |= {row[0] for row in self._db.run("SELECT hash FROM uses WHERE node = ?", node)}
        self._db.many("DELETE FROM uses WHERE node = ?", [(node,) for node in nodes])
        gone = "DELETE FROM blobs WHERE hash = ? AND NOT EXISTS (SELECT 1 FROM uses WHERE uses.hash = blobs.hash)"
        self._db.many(gone, [(key,) for key in used])
        self._db.run("DELETE FROM tool_uses WHERE thread = ?", thread)
        self._db.run("DELETE FROM nodes WHERE thread = ?", thread)
        self._db.run("DELETE FROM threads WHERE no = ?", thread)

    def older(self, before: float) -> int:
        return int(self._db.run("SELECT count(*) FROM threads WHERE updated < ?", before)[0][0])

    def tidy(self, *, before: float | None = None) -> Tidied:
        old = self._db.run("SELECT no FROM threads WHERE updated < ?", before) if before is not None else []
        for (no,) in old:
            with self._db.writing():  # one after the other: others get to write in between
                self._delete(no)
        with self._db.writing():
            unused = "NOT EXISTS (SELECT 1 FROM uses WHERE uses.hash = blobs.hash)"
            (contents,) = self._db.run(f"SELECT count(*) FROM blobs WHERE {unused}")[0]  # noqa: S608 - a text of ours
            self._db.run(f"DELETE FROM blobs WHERE {unused}")  # noqa: S608 - a text of ours
        return Tidied(threads=len(old), contents=contents, bytes=self._db.shrink())

    def check(self) -> None:
        self._db.check()

    def close(self) -> None:
        self._db.close()

    def content(self, key: str, thread: Thread | None) -> bytes | None:
        if not KEY.fullmatch(key):
            return None
        for whole, data in self._db.run(f"SELECT hash, data FROM blobs {_BEGINS}", key, f"{key}g"):  # noqa: S608
            if thread is None or self._has(whole, "t.id = ?", thread.id):
                return bytes(data)
        return None

    # Finding.

    def find(self, name: str) -> Thread:
        found: list[Thread] = []
        if _ID.fullmatch(name):
            found = self._threads("WHERE t.id >= ? AND t.id < ? ORDER BY t.id LIMIT 10", name, f"{name}g")
        found = found or self._threads("WHERE t.title = ? ORDER BY t.updated DESC LIMIT 10", name)
        if len(found) == 1:
            return found[0]
        if found:
            several = "; ".join(f"{thread.id[:12]} {thread.title}" for thread in found[:5])
            raise UsageError(f"{name!r} may be several threads: {several}", hint="name one by its id")
        titles = {thread.title: thread for thread in self.recent(Wanted(), _NEAR)}
        hint = did_you_mean(name, titles).removeprefix("; ") or "mcpchat threads lists them"
        raise UsageError(f"no thread is called {name!r}", hint=hint)

    def ids(self) -> Sequence[str]:
        return [row[0] for row in self._db.run("SELECT id FROM threads ORDER BY no")]

    def latest(self) -> Thread | None:
        return next(iter(self._threads("ORDER BY t.updated DESC, t.id DESC LIMIT 1")), None)

    def nodes(self, thread: Thread) -> Sequence[Node]:
        rows = self._db.run(
            "SELECT n.number, n.parent, n.body, n.record FROM nodes n JOIN threads t ON t.no = n.thread"
            " WHERE t.id = ? ORDER BY n.number",
            thread.id,
        )
        return [self._node(*row) for row in rows]

    def _node(self, number: int, parent: int, body: str, record: str) -> Node:
        message = self._message(body) or UNREADABLE  # what stands before and after it counts
        try:
            known = msgspec.json.decode(record, type=Record)
        except ValueError:
            known = Record()
        return Node(number=number, parent=parent, message=message, record=known)

    def _message(self, body: str) -> Message | None:
        try:
            return unpacked(body, lambda key: self.content(key, None))
        except (ValueError, TypeError, KeyError, AttributeError):
            return None  # damaged: what can be read counts

    def recent(self, wanted: Wanted, limit: int, before: Thread | None = None) -> Sequence[Thread]:
        conditions, values = self._conditions(wanted)
        if before is not None:
            conditions.append("(t.updated, t.id) < (?, ?)")
            values += [before.updated, before.id]
        return self._threads(f"{_where(conditions)} ORDER BY t.updated DESC, t.id DESC LIMIT ?", *values, limit)

    def search(self, wanted: Wanted, words: str, limit: int) -> Sequence[Found]:
        asked = phrases(words)
        conditions, values = self._conditions(wanted)
        where = f"{_where(conditions)} ORDER BY t.updated DESC, t.id DESC LIMIT {_FEW + 1}"
        chosen = self._db.run(f"SELECT t.no, {_THREAD} FROM threads t {where}", *values) if conditions else []  # noqa: S608
        span = [(f"n.at {sign} ?", at) for sign, at in ((">=", wanted.since), ("<", wanted.until)) if at is not None]
        conditions = [*conditions, *(condition for condition, _ in span)]
        values = [*values, *(at for _, at in span)]
        if wanted != Wanted() and len(chosen) <= _FEW:
            return self._search_in(chosen, asked, span, limit)
        match = self._db.matching(asked, few=False)
        found: dict[str, tuple[Thread, list[Hit]]] = {}
        last: list[Any] = []
        while True:
            here = [match.condition, *conditions, *([f"{match.number} < ?"] if last else [])]
            rows = self._db.run(
                f"SELECT n.id, n.number, n.role, n.body, {_THREAD} FROM {match.nodes}"  # noqa: S608 - of texts of ours
                f" JOIN threads t ON t.no = n.thread {_where(here)} ORDER BY {match.number} DESC LIMIT {_PAGE}",
                *(*match.values, *values, *last),
            )
            for row in rows:
                thread = _thread(row[4:])
                if thread.id not in found and len(found) == limit:
                    return _founds(found.values())
                hits = found.setdefault(thread.id, (thread, []))[1]
                if len(hits) < _HITS:
                    hits += self._hits([row[1:4]], asked)
            if len(rows) < _PAGE:
                return _founds(found.values())
            last = [rows[-1][0]]

    def _search_in(
        self, threads: Sequence[Row], asked: Sequence[Phrase], span: Sequence[tuple[str, float]], limit: int
    ) -> Sequence[Found]:
        """Look through these threads, one after the other: where they are not many, the common words are no trouble."""
        match = self._db.matching(asked, few=True)
        here = ["n.thread = ?", match.condition, *(condition for condition, _ in span)]
        found: list[Found] = []
        for no, *thread in threads:
            rows = self._db.run(
                f"SELECT n.number, n.role, n.body FROM {match.nodes} {_where(here)}"  # noqa: S608 - of texts of ours
                f" ORDER BY n.number DESC LIMIT {_HITS}",
                *(no, *match.values, *(at for _, at in span)),
            )
            if rows:
                found.append(Found(thread=_thread(thread), hits=tuple(self._hits(rows, asked))))
            if len(found) == limit:
                break
        return found

    def _hits(self, rows: Sequence[Row], asked: Sequence[Phrase]) -> Iterator[Hit]:
        for number, role, body in rows:
            if (message := self._message(body)) is not None:
                yield Hit(number=number, role=role, snippet=snippet(spoken(message), asked))

    def _conditions(self, wanted: Wanted) -> tuple[list[str], list[Any]]:
        conditions: list[str] = []
        values: list[Any] = []
        for condition, value in (
            ("t.agent = ?", wanted.agent),
            ("t.updated >= ?", wanted.since),
            ("t.created < ?", wanted.until),
        ):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        if wanted.tools:
            named = self._db.run("SELECT no, name FROM tools")
            chosen = [no for no, name in named if any(matches(glob, name) for glob in wanted.tools)][:_AT_ONCE]
            marks = ", ".join("?" for _ in chosen) or "NULL"
            conditions.append(f"t.no IN (SELECT thread FROM tool_uses WHERE tool IN ({marks}))")  # noqa: S608
            values += chosen
        return conditions, values

    def _threads(self, rest: str, *values: Any) -> list[Thread]:
        return [_thread(row) for row in self._db.run(f"SELECT {_THREAD} FROM threads t {rest}", *values)]  # noqa: S608


def _chained(entries: Sequence[Entry], number: int, parent: int) -> list[Node]:
    """The entries as nodes, numbered from this number on, each the child of the one before."""
    nodes: list[Node] = []
    for entry in entries:
        nodes.append(Node(number=number, parent=parent, message=entry.message, record=entry.record))
        number, parent = number + 1, number
    return nodes


def name_of(text: str) -> str:
    """A name as every database and its indexes take it."""
    return text.replace("\0", "")[:_LONGEST_NAME]


def plain(values: Sequence[Any]) -> tuple[Any, ...]:
    """The values of a statement, half characters in them replaced."""
    return tuple(one.encode(errors="replace").decode() if isinstance(one, str) else one for one in values)


def _where(conditions: Sequence[str]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def _thread(row: Sequence[Any]) -> Thread:
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


def _founds(found: Iterable[tuple[Thread, list[Hit]]]) -> list[Found]:
    return [Found(thread=thread, hits=tuple(hits)) for thread, hits in found]
