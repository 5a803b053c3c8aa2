"""Threads by the hundred thousand: what each thing that a person does takes, beside the same with a hundred threads.

    python benchmarks/threads.py [THREADS [MESSAGES_OF_EACH [FOLDER]]]

prints milliseconds in a large database and in one of a hundred threads, measured in turns in the same loop, and their
ratio; and how SQLite looks for what it finds. 100,000 threads of 50 messages take 5 GB and half an hour to make: in a
FOLDER that is named they stay, and are found there the next time.
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
YARDSTICK = 100  # threads
TOOLS = ("gmail.search", "sheets.read_range", "drive.search_files", "calculator.calculate")
FIRST = ("ka", "lo", "mi", "nu", "re", "sta", "ti", "vo")
LAST = ("ba", "cha", "dor", "fen", "gil", "hum", "jot", "lin", "mar")
WORDS = [first + last for first in FIRST for last in LAST]
WORDS += [f"{a}{b}" for a in WORDS for b in WORDS]


def main() -> None:
    threads, messages = (int(word) for word in (sys.argv[1:3] + ["1000", "50"][len(sys.argv[1:3]) :]))
    folder = Path(sys.argv[3]) if len(sys.argv) > 3 else Path(tempfile.mkdtemp())
    large = _filled(folder / f"{threads}x{messages}.db", threads, messages)
    small = _filled(folder / f"{YARDSTICK}x{messages}.db", YARDSTICK, messages)
    print(f"{threads:,} threads of {messages} messages, {_size(folder / f'{threads}x{messages}.db'):,} bytes")
    print(f"{'':34}{'large':>10}{'small':>10}{'ratio':>8}   median of {ROUNDS}, and the slowest of the large")
    for name, work in _works().items():
        times: tuple[list[float], list[float]] = ([], [])
        for number in range(ROUNDS):
            for store, into in zip((large, small), times, strict=True):
                begun = time.perf_counter()
                work(store, random.Random(number))
                into.append(1000 * (time.perf_counter() - begun))
        ours, yardstick = (statistics.median(each) for each in times)
        print(f"{name:34}{ours:8.2f}ms{yardstick:8.2f}ms{ours / yardstick:7.1f}x   {max(times[0]):.1f} ms")
    _plans(large)


def _works() -> dict[str, Callable[[SqlThreadStore, random.Random], object]]:
    def opened(store: SqlThreadStore, dice: random.Random) -> None:
        store.nodes(dice.choice(store.recent(ThreadFilter(), 20)))

    def appended(store: SqlThreadStore, dice: random.Random) -> None:
        thread = dice.choice(store.recent(ThreadFilter(), 20))
        store.append(thread, thread.head, [NewMessage(message=_said(dice), metadata=MessageMetadata(at=time.time()))])

    return {
        "list 20": lambda store, dice: store.recent(ThreadFilter(), 20),
        "list 20 of an agent": lambda store, dice: store.recent(ThreadFilter(agent="mail"), 20),
        "list 20 that used a tool": lambda store, dice: store.recent(ThreadFilter(tools=("sheets.*",)), 20),
        "list 20 that used a rare tool": lambda store, dice: store.recent(ThreadFilter(tools=("rare.*",)), 20),
        "the latest": lambda store, dice: store.latest(),
        "find by id": lambda store, dice: store.find(store.recent(ThreadFilter(), 1)[0].id[:12]),
        "open": opened,
        "list and append (on the disk)": appended,
        "search a common word": lambda store, dice: store.search(ThreadFilter(), "the", 20),
        "search two words": lambda store, dice: store.search(
            ThreadFilter(), f"{dice.choice(WORDS)} {dice.choice(WORDS)}", 20
        ),
        "search a rare word": lambda store, dice: store.search(ThreadFilter(), dice.choice(WORDS), 20),
        "search the beginning of a word": lambda store, dice: store.search(ThreadFilter(), "stofen*", 20),
        "search nothing": lambda store, dice: store.search(ThreadFilter(), "unheardof", 20),
        "search common, of an agent": lambda store, dice: store.search(ThreadFilter(agent="mail"), "the", 20),
        "search common, used a tool": lambda store, dice: store.search(ThreadFilter(tools=("sheets.*",)), "the", 20),
        "search common, used a rare tool": lambda store, dice: store.search(ThreadFilter(tools=("rare.*",)), "the", 20),
        "search common, long ago": lambda store, dice: store.search(ThreadFilter(until=1_600_000_000.0), "the", 20),
    }


def _plans(store: SqlThreadStore) -> None:
    print("\nHow SQLite looks for it:")
    database = store._db
    asked: list[tuple[str, tuple[object, ...]]] = []
    run = database.run

    def heard(sql: str, *values: object) -> list[tuple[object, ...]]:
        asked.append((sql, values))
        return run(sql, *values)

    database.run = heard  # type: ignore[method-assign]
    for name, work in _works().items():
        asked.clear()
        work(store, random.Random(0))
        for sql, values in {sql: values for sql, values in asked if sql.startswith("SELECT")}.items():
            plan = "; ".join(str(row[3]) for row in run(f"EXPLAIN QUERY PLAN {sql}", *values))
            print(f"{name:34}{plan}")


def _filled(path: Path, threads: int, messages: int) -> SqlThreadStore:
    there = path.exists()
    database = SqliteDatabase(path)
    store = SqlThreadStore(database)
    if there:
        return store
    database.run("PRAGMA synchronous = OFF")
    dice = random.Random(7)
    began = time.monotonic()
    for number in range(threads):
        at = 1_700_000_000.0 + 600 * number
        agent = "mail" if number % 10 == 3 else ""
        made = Thread(id=new_id(), title=_words(dice, 6), agent=agent, model="m", created=at, updated=at, head=messages)
        store.import_thread(made, [_node(dice, place, at, number) for place in range(1, messages + 1)])
        if number and number % 5000 == 0:
            print(f"  {number:,} threads after {time.monotonic() - began:.0f} s", flush=True)
    database.run("PRAGMA synchronous = FULL")
    database.run("PRAGMA optimize")
    return store


def _node(dice: random.Random, number: int, at: float, thread: int) -> ThreadMessage:
    calls: tuple[CallMetadata, ...] = ()
    usage = None
    match number % 5:
        case 1:
            message = _said(dice)
        case 2:
            call = ToolCall(id=f"c{number}", name="gmail__search", arguments=f'{{"query": "{_words(dice, 3)}"}}')
            message = Message(role="assistant", parts=(call,))
            usage = Usage(input=1200, output=40)
        case 3:
            parts = (Text(text=_words(dice, 80)),)
            message = Message(role="tool", parts=(ToolResult(call_id=f"c{number - 1}", parts=parts),))
            tool = "rare.tool" if thread == 50 else TOOLS[thread % len(TOOLS)]
            calls = (CallMetadata(call_id=f"c{number - 1}", tool=tool, seconds=0.3),)
        case _:
            message = Message(role="assistant", parts=(Text(text=_words(dice, 60)),))
            usage = Usage(input=1500, output=90)
    return ThreadMessage(
        number=number,
        parent=number - 1,
        message=message,
        record=MessageMetadata(at=at + number, usage=usage, calls=calls),
    )


def _said(dice: random.Random) -> Message:
    return Message(role="user", parts=(Text(text=_words(dice, 15)),))


def _words(dice: random.Random, count: int) -> str:
    # As in a language: few words are half of the text, most are rare.
    chosen = (WORDS[min(len(WORDS) - 1, int(dice.paretovariate(0.5)))] for _ in range(count - 1))
    return " ".join(("the", *chosen))


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))


if __name__ == "__main__":
    main()
