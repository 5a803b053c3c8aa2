"""Benchmark of the thread store: the time of each operation with many threads, against the same with a hundred.

    python benchmarks/threads.py [THREADS [MESSAGES_PER_THREAD [FOLDER]]]

Prints milliseconds in a large database and in one with a hundred threads, measured alternately in the same loop, their
ratio, and SQLite's query plans. 100,000 threads with 50 messages each take 5 GB and half an hour to create; with FOLDER
the databases are kept there and reused.
"""

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mcpchat.core.messages import Message, Text, ToolCall, ToolResult, Usage
from mcpchat.core.threads import CallMetadata, MessageMetadata, NewMessage, Thread, ThreadFilter, ThreadMessage, new_id
from mcpchat.threads.sql_store import SqlThreadStore
from mcpchat.threads.sqlite import SqliteDatabase

ROUNDS = 15
BASELINE_THREADS = 100
TOOLS = ("gmail.search", "sheets.read_range", "drive.search_files", "calculator.calculate")
FIRST = ("ka", "lo", "mi", "nu", "re", "sta", "ti", "vo")
LAST = ("ba", "cha", "dor", "fen", "gil", "hum", "jot", "lin", "mar")
WORDS = [first + last for first in FIRST for last in LAST]
WORDS += [f"{a}{b}" for a in WORDS for b in WORDS]


def main() -> None:
    threads, messages = (int(arg) for arg in (sys.argv[1:3] + ["1000", "50"][len(sys.argv[1:3]) :]))
    folder = Path(sys.argv[3]) if len(sys.argv) > 3 else Path(tempfile.mkdtemp())
    large = _open_filled(folder / f"{threads}x{messages}.db", threads, messages)
    small = _open_filled(folder / f"{BASELINE_THREADS}x{messages}.db", BASELINE_THREADS, messages)
    print(f"{threads:,} threads of {messages} messages, {_file_size(folder / f'{threads}x{messages}.db'):,} bytes")
    print(f"{'':34}{'large':>10}{'small':>10}{'ratio':>8}   median of {ROUNDS}, and the slowest round of the large one")
    for name, operation in _operations().items():
        times: tuple[list[float], list[float]] = ([], [])
        for number in range(ROUNDS):
            for store, milliseconds in zip((large, small), times, strict=True):
                started = time.perf_counter()
                operation(store, random.Random(number))
                milliseconds.append(1000 * (time.perf_counter() - started))
        large_time, small_time = map(statistics.median, times)
        ratio = large_time / small_time
        print(f"{name:34}{large_time:8.2f}ms{small_time:8.2f}ms{ratio:7.1f}x   {max(times[0]):.1f} ms")
    _print_plans(large)


def _operations() -> dict[str, Callable[[SqlThreadStore, random.Random], object]]:
    def open_thread(store: SqlThreadStore, rng: random.Random) -> None:
        store.nodes(rng.choice(store.recent(ThreadFilter(), 20)))

    def append(store: SqlThreadStore, rng: random.Random) -> None:
        thread = rng.choice(store.recent(ThreadFilter(), 20))
        store.append(
            thread, thread.head, [NewMessage(message=_user_message(rng), metadata=MessageMetadata(at=time.time()))]
        )

    return {
        "list 20": lambda store, rng: store.recent(ThreadFilter(), 20),
        "list 20 of an agent": lambda store, rng: store.recent(ThreadFilter(agent="mail"), 20),
        "list 20 that used a tool": lambda store, rng: store.recent(ThreadFilter(tools=("sheets.*",)), 20),
        "list 20 that used a rare tool": lambda store, rng: store.recent(ThreadFilter(tools=("rare.*",)), 20),
        "the latest": lambda store, rng: store.latest(),
        "find by id": lambda store, rng: store.find(store.recent(ThreadFilter(), 1)[0].id[:12]),
        "open": open_thread,
        "list and append (on the disk)": append,
        "search a common word": lambda store, rng: store.search(ThreadFilter(), "the", 20),
        "search two words": lambda store, rng: store.search(
            ThreadFilter(), f"{rng.choice(WORDS)} {rng.choice(WORDS)}", 20
        ),
        "search a rare word": lambda store, rng: store.search(ThreadFilter(), rng.choice(WORDS), 20),
        "search the start of a word": lambda store, rng: store.search(ThreadFilter(), "stofen*", 20),
        "search without a match": lambda store, rng: store.search(ThreadFilter(), "unheardof", 20),
        "search common, of an agent": lambda store, rng: store.search(ThreadFilter(agent="mail"), "the", 20),
        "search common, used a tool": lambda store, rng: store.search(ThreadFilter(tools=("sheets.*",)), "the", 20),
        "search common, used a rare tool": lambda store, rng: store.search(ThreadFilter(tools=("rare.*",)), "the", 20),
        "search common, long ago": lambda store, rng: store.search(ThreadFilter(until=1_600_000_000.0), "the", 20),
    }


def _print_plans(store: SqlThreadStore) -> None:
    print("\nSQLite's query plans:")
    database = store._db
    queries: list[tuple[str, tuple[object, ...]]] = []
    run = database.run

    def run_recorded(sql: str, *values: object) -> list[tuple[object, ...]]:
        queries.append((sql, values))
        return run(sql, *values)

    database.run = run_recorded  # type: ignore[method-assign]
    for name, operation in _operations().items():
        queries.clear()
        operation(store, random.Random(0))
        for sql, values in {sql: values for sql, values in queries if sql.startswith("SELECT")}.items():
            plan = "; ".join(str(row[3]) for row in run(f"EXPLAIN QUERY PLAN {sql}", *values))
            print(f"{name:34}{plan}")


def _open_filled(path: Path, threads: int, messages: int) -> SqlThreadStore:
    """Open the database; create and fill it if it does not exist."""
    exists = path.exists()
    database = SqliteDatabase(path)
    store = SqlThreadStore(database)
    if exists:
        return store
    database.run("PRAGMA synchronous = OFF")
    rng = random.Random(7)
    started = time.monotonic()
    for number in range(threads):
        at = 1_700_000_000.0 + 600 * number
        agent = "mail" if number % 10 == 3 else ""
        title = _words(rng, 6)
        thread = Thread(id=new_id(), title=title, agent=agent, model="m", created=at, updated=at, head=messages)
        store.import_thread(thread, [_message(rng, index, at, number) for index in range(1, messages + 1)])
        if number and number % 5000 == 0:
            print(f"  {number:,} threads after {time.monotonic() - started:.0f} s", flush=True)
    database.run("PRAGMA synchronous = FULL")
    database.run("PRAGMA optimize")
    return store


def _message(rng: random.Random, number: int, at: float, thread: int) -> ThreadMessage:
    calls: tuple[CallMetadata, ...] = ()
    usage = None
    match number % 5:
        case 1:
            message = _user_message(rng)
        case 2:
            call = ToolCall(id=f"c{number}", name="gmail__search", arguments=f'{{"query": "{_words(rng, 3)}"}}')
            message = Message(role="assistant", parts=(call,))
            usage = Usage(input=1200, output=40)
        case 3:
            parts = (Text(text=_words(rng, 80)),)
            message = Message(role="tool", parts=(ToolResult(call_id=f"c{number - 1}", parts=parts),))
            tool = "rare.tool" if thread == 50 else TOOLS[thread % len(TOOLS)]
            calls = (CallMetadata(call_id=f"c{number - 1}", tool=tool, seconds=0.3),)
        case _:
            message = Message(role="assistant", parts=(Text(text=_words(rng, 60)),))
            usage = Usage(input=1500, output=90)
    return ThreadMessage(
        number=number,
        parent=number - 1,
        message=message,
        record=MessageMetadata(at=at + number, usage=usage, calls=calls),
    )


def _user_message(rng: random.Random) -> Message:
    return Message(role="user", parts=(Text(text=_words(rng, 15)),))


def _words(rng: random.Random, count: int) -> str:
    # As in natural language: a few words make up half of the text, most are rare.
    chosen = (WORDS[min(len(WORDS) - 1, int(rng.paretovariate(0.5)))] for _ in range(count - 1))
    return " ".join(("the", *chosen))


def _file_size(path: Path) -> int:
    """Return the size of a database with its WAL files, in bytes."""
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))


if __name__ == "__main__":
    main()
