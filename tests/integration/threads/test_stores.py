"""Thread stores: the same tests for both databases, with a real file and a real server."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mcpchat.core.messages import (
    Message,
    Text,
    ToolResult,
    user_message,
)
from mcpchat.core.threads import (
    CallMetadata,
    MessageMetadata,
    NewMessage,
    Thread,
    ThreadFilter,
    ThreadMessage,
    branch,
    branch_tips,
    new_id,
)
from mcpchat.errors import StoreError, ThreadConflict, UsageError
from mcpchat.threads import postgres, sqlite
from mcpchat.threads.sql_store import SqlThreadStore
from tests.support.example_thread import EVERYTHING, EXAMPLE_TASK, PICTURE, RECORD
from tests.support.kill_loop import kill_repeatedly
from tests.support.paths import DATABASES
from tests.support.postgres import Postgres
from tests.support.stores import open_sqlite

Open = Callable[[], SqlThreadStore]


@pytest.fixture(params=["sqlite", "postgres"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Return a function that opens the same store again, as several programs do."""
    stores: list[SqlThreadStore] = []
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.url(server.create_database())

        def opened() -> SqlThreadStore:
            stores.append(postgres.open_threads(url))
            return stores[-1]
    else:

        def opened() -> SqlThreadStore:
            stores.append(open_sqlite(tmp_path / "data" / "threads.db"))
            return stores[-1]

    yield opened
    for store in stores:
        store.close()


@pytest.fixture
def store(open_store: Open) -> SqlThreadStore:
    return open_store()


def entry(text: str, *, role: Any = "user", **record: Any) -> NewMessage:
    return NewMessage(
        message=Message(role=role, parts=(Text(text=text),)), metadata=MessageMetadata(**{"at": time.time(), **record})
    )


def new_thread(store: SqlThreadStore, *texts: str, title: str = "a talk", agent: str = "", **record: Any) -> Thread:
    thread = Thread(id=new_id(), title=title, agent=agent)
    return store.append(thread, 0, [entry(text, **record) for text in texts or ("hello",)])


def texts(store: SqlThreadStore, thread: Thread) -> list[str]:
    saved = store.find(thread.id)
    return [node.message.text for node in branch(store.nodes(saved), saved.head)]


def test_every_message_type_is_restored_with_its_metadata(open_store: Open) -> None:
    thread = open_store().append(
        Thread(id=new_id(), title="x"), 0, [NewMessage(message=message, metadata=RECORD) for message in EVERYTHING]
    )
    nodes = open_store().nodes(thread)
    assert [node.message for node in nodes] == list(EVERYTHING)
    assert [(node.number, node.parent, node.record) for node in nodes] == [(n, n - 1, RECORD) for n in range(1, 6)]
    assert (thread.head, thread.messages) == (5, 5)


def test_unstorable_values_are_stored_as_far_as_possible(store: SqlThreadStore) -> None:
    deep: Any = 1
    for _ in range(3000):
        deep = [deep]
    odd_messages = (
        Message(role="user", parts=(Text(text="half \ud800 done"),)),
        Message(role="tool", parts=(ToolResult(call_id="c", parts=(Text(text="t"),), structured=deep),)),
    )
    thread = store.append(Thread(id=new_id()), 0, [NewMessage(message=message) for message in odd_messages])
    stored = [node.message for node in store.nodes(thread)]
    assert stored[0].text == "half \ufffd done"
    assert stored[1].results[0].parts == (Text(text="t"),)


def test_large_contents_are_stored_once_while_they_are_used(store: SqlThreadStore) -> None:
    pictures = [NewMessage(message=Message(role="user", parts=(PICTURE,))) for _ in range(2)]
    first_thread = store.append(Thread(id=new_id()), 0, pictures)
    second_thread = store.append(Thread(id=new_id()), 0, pictures[:1])
    stored = store._db.run("SELECT length(data) FROM blobs")
    assert [int(row[0]) for row in stored] == [len(PICTURE.data)]
    store.delete(first_thread)
    assert store.nodes(second_thread)[0].message.parts == (PICTURE,)
    store.delete(second_thread)
    assert store._db.run("SELECT hash FROM blobs") == []


def test_a_full_result_is_kept_while_a_message_names_it(store: SqlThreadStore) -> None:
    key = hashlib.sha256(b"whole").hexdigest()[:16]
    pointing = Message(
        role="tool",
        parts=(ToolResult(call_id="c", parts=(Text(text=f'mcpchat__read_result(id="{key}", offset=...'),)),),
    )
    thread = store.append(Thread(id=new_id()), 0, [NewMessage(message=pointing, blobs=(b"whole",))])
    # Text that only names the result in another thread gets nothing; a fork has the results of its source.
    naming = store.append(Thread(id=new_id()), 0, [NewMessage(message=pointing)])
    fork = store.append(Thread(id=new_id(), forked_from=thread.id), 0, [NewMessage(message=pointing)])
    assert [store.get_blob(key, owner) for owner in (thread, naming, fork)] == [b"whole", None, b"whole"]
    assert store.clean_up().blobs == 0
    store.delete(thread)
    assert store.get_blob(key, fork) == b"whole"
    store.delete(fork)
    assert store.get_blob(key, None) is None
    assert store.get_blob("../../etc/passwd", None) is None


def test_a_thread_is_a_tree_whose_head_ends_the_current_branch(store: SqlThreadStore) -> None:
    thread = new_thread(store, "one", "two", "three")
    thread = store.append(thread, 1, [entry("other two"), entry("other three")])
    assert texts(store, thread) == ["one", "other two", "other three"]
    nodes = store.nodes(thread)
    assert [leaf.number for leaf in branch_tips(nodes)] == [5, 3]
    thread = store.move(thread, 3)
    assert texts(store, thread) == ["one", "two", "three"]
    assert store.append(store.move(thread, 0), 0, [entry("anew")]).head == 6
    assert texts(store, thread) == ["anew"]


def test_a_write_with_an_old_head_is_refused(open_store: Open) -> None:
    own_store, other_store = open_store(), open_store()
    thread = new_thread(own_store)
    updated_thread = other_store.append(thread, thread.head, [entry("elsewhere")])
    with pytest.raises(ThreadConflict):
        own_store.append(thread, thread.head, [entry("here")])
    with pytest.raises(ThreadConflict):
        own_store.move(thread, 0)
    assert texts(own_store, updated_thread) == ["hello", "elsewhere"]
    other_store.delete(updated_thread)
    with pytest.raises(ThreadConflict):
        own_store.append(updated_thread, updated_thread.head, [entry("to nobody")])


def test_a_thread_is_found_by_id_id_prefix_or_title(store: SqlThreadStore) -> None:
    first, second = new_thread(store, title="Quarterly numbers"), new_thread(store, title="same")
    new_thread(store, title="same")
    assert store.find(first.id) == store.find(first.id[:8]) == store.find("Quarterly numbers")
    assert store.find(second.id[:12]).id == second.id
    with pytest.raises(UsageError, match="several threads match"):
        store.find("same")
    with pytest.raises(UsageError, match="no thread is named") as error_info:
        store.find("Quarterly number")
    assert "Quarterly numbers" in error_info.value.hint


def test_threads_are_paged_latest_first(store: SqlThreadStore) -> None:
    threads = [new_thread(store, title=f"t{number}") for number in range(5)]
    updated = store.append(threads[1], threads[1].head, [entry("again")])
    page = store.recent(ThreadFilter(), 3)
    assert [thread.title for thread in page] == ["t1", "t4", "t3"]
    assert [thread.title for thread in store.recent(ThreadFilter(), 3, page[-1])] == ["t2", "t0"]
    assert store.latest() == updated


def test_threads_are_filtered_by_agent_tool_and_time(store: SqlThreadStore) -> None:
    call_metadata = (CallMetadata(call_id="c", tool="gmail.send"),)
    new_thread(store, "a word", title="mail", agent="post", calls=call_metadata)
    new_thread(store, "a word", title="plain")
    store.import_thread(
        Thread(id=new_id(), title="old", created=100.0, updated=200.0, head=1),
        [ThreadMessage(number=1, parent=0, message=user_message("a word"), record=MessageMetadata(at=150.0))],
    )

    def select_titles(**criteria: Any) -> tuple[list[str], list[str]]:
        thread_filter = ThreadFilter(**criteria)
        matches = store.search(thread_filter, "word", 9)
        return [thread.title for thread in store.recent(thread_filter, 9)], [match.thread.title for match in matches]

    assert select_titles(agent="post") == (["mail"], ["mail"])
    assert select_titles(tools=("gmail.*",)) == select_titles(tools=("gmail",)) == (["mail"], ["mail"])
    assert select_titles(tools=("drive.*",)) == ([], [])
    assert select_titles(until=1000.0) == (["old"], ["old"])
    assert select_titles(since=1000.0)[1] == ["plain", "mail"]
    assert select_titles(since=1000.0, agent="post", tools=("gmail.send",)) == (["mail"], ["mail"])


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("cafe", [1]),
        ("CAFÉ schon", [1]),
        ("numb*", [3, 2]),
        ("numbers", [2]),
        ('"number of things"', [3]),
        ('"things number"', []),
        ("number things", [3]),
        ("東京", [4]),
        ("京東", []),
        ("ann@example.com", [5]),
        ("it's", [6]),
        ("drop OR NOT (near) col:x^2*", []),
        ("snake_case", [6]),
        ("gesucht", [7]),
        ("9e12f0aa", [8]),
        ("f0aa", []),
        ("f0*", []),
    ],
)
def test_a_search_finds_messages_by_words(store: SqlThreadStore, query: str, numbers: list[int]) -> None:
    new_thread(
        store,
        "Das Café ist schön",
        "the numbers",
        "a number of things",
        "今日は東京に行きます",
        "write to Ann@Example.com!",
        'it\'s "snake_case" 100%',
        "GESUCHT wird",
        "commit 9e12f0aa, -5.3e7x, http://example.com/a/b.html",
    )
    matches = store.search(ThreadFilter(), query, 5)
    assert [hit.number for match in matches for hit in match.hits] == numbers
    filtered = store.search(ThreadFilter(since=1.0), query, 5)  # searched with LIKE instead of the index
    assert [hit.number for match in filtered for hit in match.hits] == numbers


def test_a_hit_has_a_snippet_around_the_match(store: SqlThreadStore) -> None:
    new_thread(store, "before " * 30 + "the Café on the corner" + " after" * 30)
    (thread_match,) = store.search(ThreadFilter(), "cafe", 1)
    before_match, match, after_match = thread_match.hits[0].snippet
    assert (before_match[:1], match, after_match[-1:]) == ("…", "Café", "…")
    assert after_match.startswith(" on the corner")


def test_a_search_continues_until_it_has_enough_threads(store: SqlThreadStore) -> None:
    for number in range(3):
        new_thread(store, *["common"] * 150, title=f"t{number}")
    matches = store.search(ThreadFilter(), "common", 3)
    assert [(match.thread.title, len(match.hits)) for match in matches] == [("t2", 3), ("t1", 3), ("t0", 3)]
    assert len(store.search(ThreadFilter(), "common", 2)) == 2
    with pytest.raises(UsageError, match="contains no word"):
        store.search(ThreadFilter(), "?!", 2)


def test_deleted_threads_are_not_found(store: SqlThreadStore) -> None:
    call_metadata = (CallMetadata(call_id="c", tool="gmail.send"),)
    thread = new_thread(store, "secretword", calls=call_metadata)
    store.delete(thread)
    assert store.search(ThreadFilter(), "secretword", 5) == []
    assert store.recent(ThreadFilter(), 5) == store.recent(ThreadFilter(tools=("*",)), 5) == []
    for table in ("nodes", "uses", "tool_uses"):
        assert store._db.run(f"SELECT count(*) FROM {table}") == [(0,)]
    with pytest.raises(UsageError):
        store.find(thread.id)


def test_cleanup_deletes_only_old_threads(store: SqlThreadStore) -> None:
    store.import_thread(
        Thread(id=new_id(), title="old", updated=5.0), [ThreadMessage(number=1, parent=0, message=user_message("x"))]
    )
    new_thread(store, title="new")
    assert store.clean_up(before=1000.0).threads == 1
    assert [thread.title for thread in store.recent(ThreadFilter(), 9)] == ["new"]
    store.check()


def test_a_models_title_does_not_replace_the_users(store: SqlThreadStore) -> None:
    thread = new_thread(store, title="first words")
    store.rename(thread, "by the model", named=False)
    assert store.find(thread.id).title == "by the model"
    store.rename(thread, "by hand")
    store.rename(thread, "by the model again", named=False)
    renamed = store.append(store.find(thread.id), 1, [entry("more")])
    assert (renamed.title, renamed.named) == ("by hand", True)


def test_a_complete_thread_is_added_once_with_branches(store: SqlThreadStore) -> None:
    nodes = [
        ThreadMessage(number=3, parent=0, message=user_message("a"), record=RECORD),
        ThreadMessage(number=5, parent=3, message=user_message("b")),
        ThreadMessage(number=9, parent=3, message=user_message("c")),
    ]
    thread = Thread(id=new_id(), title="moved", created=1.0, updated=2.0, head=5)
    assert store.import_thread(thread, nodes)
    assert not store.import_thread(thread, nodes[:1])
    assert store.nodes(thread) == nodes
    assert texts(store, thread) == ["a", "b"]
    assert store.append(store.find(thread.id), 5, [entry("d")]).head == 10


def _run_children(works: list[Callable[[], None]]) -> list[int]:
    """Run each function in a child process, all at once, and return the wait statuses."""
    pids = []
    for work in works:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                work()
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    return [os.waitpid(pid, 0)[1] for pid in pids]


@pytest.mark.parametrize("count", [2, 10])
def test_many_programs_can_write_to_a_new_store_at_once(open_store: Open, count: int) -> None:
    def work() -> None:
        store = open_store()
        for number in range(3):
            thread = new_thread(store, f"thread {number}")
            for index in range(6):
                thread = store.append(thread, thread.head, [entry(f"message {index}")])

    assert _run_children([work] * count) == [0] * count
    store = open_store()
    saved_threads = store.recent(ThreadFilter(), 1000)
    assert len(saved_threads) == 3 * count
    assert {len(store.nodes(thread)) for thread in saved_threads} == {7}
    assert len(store.search(ThreadFilter(), '"message 5"', 1000)) == 3 * count


def test_of_many_writers_to_a_thread_one_succeeds_the_others_fail(open_store: Open) -> None:
    thread = new_thread(open_store())

    def work() -> None:
        try:
            open_store().append(thread, thread.head, [entry(str(os.getpid()))])
        except ThreadConflict:
            os._exit(7)

    exit_codes = [os.waitstatus_to_exitcode(status) for status in _run_children([work] * 6)]
    assert sorted(exit_codes) == [0, 7, 7, 7, 7, 7]
    assert len(open_store().nodes(thread)) == 2


def test_a_newer_database_is_refused_with_both_versions(open_store: Open, request: pytest.FixtureRequest) -> None:
    store = open_store()
    new_thread(store)
    if "sqlite" in request.node.name:
        store._db.run("PRAGMA user_version = 99")
    else:
        store._db.run("UPDATE format SET version = 99")
    with pytest.raises(StoreError, match=r"newer mcpchat \(format 99; this version reads format 2\)"):
        open_store().latest()


def test_a_frequent_word_in_a_long_message_is_found_quickly(store: SqlThreadStore) -> None:
    new_thread(store, "a " * 50_000)
    (thread_match,) = store.search(ThreadFilter(), "a", 5)
    assert thread_match.hits[0].snippet[1] == "a"


def test_a_write_whose_reply_was_lost_is_not_repeated(store: SqlThreadStore) -> None:
    thread = new_thread(store, "one")
    entries = [entry("two", at=5.0), entry("three", at=6.0)]
    retried = store.append(thread, 1, entries)
    assert store.append(thread, 1, entries).head == retried.head == 3
    assert texts(store, thread) == ["one", "two", "three"]
    with pytest.raises(ThreadConflict):
        store.append(thread, 1, [entry("two"), entry("other")])


def test_long_names_and_lone_surrogates_are_stored(store: SqlThreadStore) -> None:
    call_metadata = (CallMetadata(call_id="c \ud800", tool="box." + "x" * 20_000),)
    thread = new_thread(store, "hello", title="half \ud800 \0", agent="a" * 20_000, calls=call_metadata)
    assert store.find(thread.id).title == "half \ufffd "
    assert [match.id for match in store.recent(ThreadFilter(tools=("box.*",)), 5)] == [thread.id]


def test_every_thread_is_listed_even_during_changes(store: SqlThreadStore) -> None:
    threads = [new_thread(store, title=f"t{number}") for number in range(3)]
    store.append(threads[0], 1, [entry("more")])  # it is the latest thread now
    assert store.recent(ThreadFilter(), 1)[0].id == threads[0].id
    assert store.ids() == [thread.id for thread in threads]


# Only for the local file.


def test_the_database_files_are_private(tmp_path: Path) -> None:
    store = open_sqlite(tmp_path / "new" / "threads.db")
    new_thread(store)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()}
    assert modes == {"threads.db": 0o600, "threads.db-wal": 0o600, "threads.db-shm": 0o600}
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    store.close()
    (tmp_path / "link.db").symlink_to(tmp_path / "new" / "threads.db")
    with pytest.raises(StoreError, match="symbolic link"):
        open_sqlite(tmp_path / "link.db").latest()


@pytest.mark.parametrize("version", range(1, len(sqlite.MIGRATIONS) + 1))
def test_a_file_of_every_released_version_is_upgraded(tmp_path: Path, version: int) -> None:
    import sqlite3

    path = tmp_path / "threads.db"
    with closing(sqlite3.connect(path)) as old_database, old_database:
        old_database.executescript((DATABASES / f"v{version}.sql").read_text())
    old_database.close()
    store = open_sqlite(path)
    (thread,) = store.recent(ThreadFilter(), 9)
    assert (thread.title, thread.agent, thread.head) == ("Größe", "mail", 5)
    assert [node.message for node in store.nodes(thread)] == list(EVERYTHING)
    assert [
        hit.number for match in store.search(ThreadFilter(tools=("box.*",)), "grosse", 9) for hit in match.hits
    ] == [1]
    assert store._db.run("PRAGMA user_version") == [(len(sqlite.MIGRATIONS),)]
    assert store.tasks.recent() == ([EXAMPLE_TASK] if version > 1 else [])
    store.close()


@pytest.mark.parametrize("version", range(1, len(sqlite.MIGRATIONS) + 1))
def test_a_file_of_every_released_version_can_be_only_read(tmp_path: Path, version: int) -> None:
    import sqlite3

    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript((DATABASES / f"v{version}.sql").read_text())
    data = path.read_bytes()
    store = sqlite.open_read_only(path)
    (thread,) = store.recent(ThreadFilter(), 9)
    assert [node.message for node in store.nodes(thread)] == list(EVERYTHING)
    store.close()
    assert path.read_bytes() == data


def test_tasks_are_found_by_the_beginning_of_their_ids(open_store: Open) -> None:
    store, other = open_store(), open_store()
    first = msgspec.structs.replace(EXAMPLE_TASK, id="3fa21c", updated=4e9)
    second = msgspec.structs.replace(EXAMPLE_TASK, id="3fb000", updated=4e9 + 1, deadline=None)
    for task in (first, second):
        store.tasks.save(task)
    assert other.tasks.recent() == [second, first]
    assert other.tasks.find("3FA") == first
    with pytest.raises(UsageError, match="the beginning of 2 ids"):
        store.tasks.find("3f")
    for name in ("x", "", "%"):
        with pytest.raises(UsageError, match="there is no task"):
            store.tasks.find(name)
    done = msgspec.structs.replace(first, status="completed", message="9 of 9", updated=4e9 + 2)
    other.tasks.save(done)
    assert store.tasks.recent() == [done, second]
    store.tasks.save(msgspec.structs.replace(EXAMPLE_TASK, id="000000", updated=time.time() - 91 * 86400))
    store.tasks.save(done)  # forgets the old one
    assert other.tasks.recent() == [done, second]


def test_a_full_disk_is_reported_without_a_partial_write(tmp_path: Path) -> None:
    store = open_sqlite(tmp_path / "threads.db")
    thread = new_thread(store, "kept")
    (pages,) = store._db.run("PRAGMA page_count")[0]
    store._db.run(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreError, match="full") as error_info:
        store.append(thread, 1, [entry("fits"), NewMessage(message=Message(role="user", parts=(PICTURE,)))] * 50)
    assert "disk is full" in error_info.value.hint
    assert texts(store, thread) == ["kept"]
    store._db.run("PRAGMA max_page_count = 100000")
    assert store.append(thread, 1, [entry("after")]).head == 2
    store.close()


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_file_is_set_aside_and_its_content_recovered(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "threads.db"
    store = open_sqlite(path)
    thread_ids = {
        new_thread(store, *[f"word{n} {m} " + "x" * 200 for m in range(20)], title=f"t{n}").id for n in range(30)
    }
    roots = {row[0] - 1 for row in store._db.run("SELECT rootpage FROM sqlite_master")}  # with one, a table is lost
    store.close()
    content = path.read_bytes()
    rng = random.Random(seed)
    damaged = bytearray(content)
    pages = [page for page in range(1, len(damaged) // 4096) if page not in roots]
    for page in rng.sample(pages, 3):
        offset = page * 4096
        damaged[offset : offset + 4096] = rng.randbytes(4096)
    path.write_bytes(damaged)
    notices: list[str] = []
    store = open_sqlite(path, notices.append)
    store.check()
    saved_threads = store.recent(ThreadFilter(), 100)
    for thread in saved_threads:
        for node in store.nodes(thread):
            assert node.message.text.endswith("x" * 200)
        assert store.append(thread, thread.head, [entry("and on")]).head > thread.head
    assert len(notices) == 1
    (damaged_copy,) = tmp_path.glob("threads.damaged-*.db")
    assert damaged_copy.read_bytes() == bytes(damaged)
    assert str(damaged_copy) in notices[0]
    message_count = sum(len(store.nodes(thread)) for thread in saved_threads)
    assert message_count > 400, notices[0]
    assert len(store.search(ThreadFilter(), "word*", 100)) > 20
    assert len({thread.id for thread in saved_threads} & thread_ids) > 20
    store.close()
    notices.clear()
    assert open_sqlite(path, notices.append).latest() is not None
    assert notices == []


def test_a_file_that_is_not_a_database_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    path.write_bytes(b"this is no database, but somebody may want it" * 500)
    notices: list[str] = []
    store = open_sqlite(path, notices.append)
    assert new_thread(store).head == 1
    assert "0 threads" in notices[0]
    (damaged_copy,) = tmp_path.glob("threads.damaged-*.db")
    assert damaged_copy.read_bytes().startswith(b"this is no database")
    store.close()


def _corrupt(path: Path, *, pages: int = 2, seed: int = 1) -> bytes:
    """Overwrite later pages of the file with random bytes and return the new content."""
    damaged = bytearray(path.read_bytes())
    rng = random.Random(seed)
    for _ in range(pages):
        offset = rng.randrange(20, len(damaged) // 4096) * 4096
        damaged[offset : offset + 4096] = rng.randbytes(4096)
    path.write_bytes(damaged)
    return bytes(damaged)


def _add_threads(path: Path, count: int = 40) -> set[str]:
    store = open_sqlite(path)
    thread_ids = {
        new_thread(store, *[f"word{n} {m} " + "x" * 300 for m in range(20)], title=f"t{n}").id for n in range(count)
    }
    store.close()
    return thread_ids


def test_one_of_many_processes_repairs_and_all_use_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    _add_threads(path)
    damaged = _corrupt(path)

    def work() -> None:
        store = open_sqlite(path)
        for number in range(5):
            store.check()
            new_thread(store, f"by {os.getpid()} {number}", title="after")

    assert _run_children([work] * 4) == [0] * 4
    store = open_sqlite(path)
    assert len([thread for thread in store.recent(ThreadFilter(), 1000) if thread.title == "after"]) == 20
    (damaged_copy,) = tmp_path.glob("threads.damaged-*.db")
    assert damaged_copy.read_bytes() == damaged
    store.close()


def test_an_open_store_continues_in_the_repaired_file(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    _add_threads(path)
    first_store = open_sqlite(path)
    thread = new_thread(first_store, "before")
    first_store._db.run("PRAGMA wal_checkpoint(TRUNCATE)")
    _corrupt(path)
    other_store = open_sqlite(path)
    other_store.check()
    first_store.append(first_store.find(thread.id), 1, [entry("after")])
    assert texts(other_store, thread) == ["before", "after"]
    first_store.close()
    other_store.close()


def test_a_kill_during_a_repair_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    thread_ids = _add_threads(path)
    _corrupt(path)
    rng = random.Random(3)
    for _ in range(15):
        pid = os.fork()
        if pid == 0:
            open_sqlite(path).check()
            os._exit(0)
        time.sleep(rng.random() * 0.08)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    store = open_sqlite(path)
    store.check()
    assert len(thread_ids & set(store.ids())) > 35
    store.close()


def test_a_repair_without_disk_space_changes_nothing(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "threads.db"
    thread_ids = _add_threads(path)
    damaged = _corrupt(path)

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(damaged) // 3, len(damaged) // 3))
        with pytest.raises(StoreError, match="cannot be repaired"):
            open_sqlite(path).check()

    assert _run_children([work]) == [0]
    assert path.read_bytes() == damaged
    assert not list(tmp_path.glob("*damaged*"))
    store = open_sqlite(path)
    store.check()
    assert len(thread_ids & set(store.ids())) > 35
    store.close()


def test_a_flipped_bit_in_the_header_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    thread_ids = _add_threads(path, 5)
    path.write_bytes(b"SQLitf" + path.read_bytes()[6:])
    notices: list[str] = []
    store = open_sqlite(path, notices.append)
    assert set(store.ids()) == thread_ids
    assert "5 threads with 100 messages" in notices[0]
    store.close()


def test_an_unreadable_message_does_not_hide_others(tmp_path: Path) -> None:
    store = open_sqlite(tmp_path / "threads.db")
    thread = new_thread(store, "one", "two", "three", "four")
    store._db.run("UPDATE nodes SET body = 'no JSON' WHERE number = 2")
    store._db.run("UPDATE nodes SET body = CAST(X'7B22FF' AS TEXT) WHERE number = 4")
    assert [node.message.text for node in branch(store.nodes(thread), 4)] == ["one", "", "three", ""]
    assert [hit.number for match in store.search(ThreadFilter(), "three", 5) for hit in match.hits] == [3]
    store.close()


def test_deleted_text_is_removed_from_the_files(tmp_path: Path) -> None:
    store = open_sqlite(tmp_path / "threads.db")
    new_thread(store, *["something else"] * 50)
    thread = new_thread(store, *["the xylophonequark " + "y" * 100] * 50, title="xylophonequark")
    assert any(b"xylophonequark" in file.read_bytes() for file in tmp_path.iterdir())
    store.delete(thread)
    assert not any(b"xylophonequark" in file.read_bytes() for file in tmp_path.iterdir())
    store.close()


def test_reading_does_not_change_a_file(tmp_path: Path) -> None:
    path = tmp_path / "old" / "threads.db"
    store = open_sqlite(path)
    thread = new_thread(store, "said")
    reader = sqlite.open_read_only(path)  # also while a chat is active
    assert texts(reader, thread) == ["said"]
    reader.close()
    store.close()
    path.parent.chmod(0o555)
    old_bytes = path.read_bytes()
    second_reader = sqlite.open_read_only(path)
    assert texts(second_reader, thread) == ["said"]
    second_reader.close()
    assert (path.read_bytes(), list(path.parent.iterdir())) == (old_bytes, [path])
    assert path.parent.stat().st_mode & 0o777 == 0o555


def test_a_wal_file_without_its_database_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    store = open_sqlite(path)
    new_thread(store, "in the log")
    log = (tmp_path / "threads.db-wal").read_bytes()
    store.close()
    path.write_bytes(b"")
    (tmp_path / "threads.db-wal").write_bytes(log)
    notices: list[str] = []
    store = open_sqlite(path, notices.append)
    assert store.ids() == []
    (damaged_copy,) = tmp_path.glob("threads.damaged-*-wal")
    assert damaged_copy.read_bytes() == log
    assert "is gone" in notices[0]
    store.close()


def test_damage_during_a_write_is_repaired_without_loss(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    store = open_sqlite(path)
    for number in range(20):
        thread = new_thread(store, *["x" * 300] * 20, title=f"t{number}")
    store.close()
    damaged = bytearray(path.read_bytes())
    for offset in range(3 * 4096, len(damaged), 4096):
        damaged[offset : offset + 4096] = bytes(4096)
    path.write_bytes(damaged)
    notices: list[str] = []
    store = open_sqlite(path, notices.append)
    try:
        store.append(thread, thread.head, [entry("after")])
    except ThreadConflict:  # not saved: the session has it in memory, and forks
        new_thread(store, "after")
    assert len(notices) == 1
    assert store.search(ThreadFilter(), "after", 5)
    store.close()


def test_a_kill_at_any_time_loses_at_most_the_current_message(tmp_path: Path) -> None:
    kills = kill_repeatedly(tmp_path / "threads.db", times=150, seed=5, in_flight=6)
    assert kills.lost_acknowledged == kills.invalid == 0
    assert kills.messages > 10


def test_a_killed_writer_blocks_no_other(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    thread = new_thread(open_sqlite(path))
    pid = os.fork()
    if pid == 0:
        store = open_sqlite(path)
        with store._db.transaction():
            store._db.run("UPDATE threads SET head = 77")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert texts(open_sqlite(path), thread) == ["hello"]


def test_a_second_store_of_the_process_leaves_the_locks_of_the_first(tmp_path: Path) -> None:
    """POSIX takes a process's locks on a file away when it closes the file, whichever connection had it open."""
    path = tmp_path / "data" / "threads.db"
    other_process = (
        "import sys; from pathlib import Path; from mcpchat.threads import sqlite;"
        "store = sqlite.open_threads(Path(sys.argv[1])); print(len(store.tasks.recent())); store.close()"
    )

    def count_elsewhere() -> int:
        command = [sys.executable, "-c", other_process, str(path)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    with closing(open_sqlite(path)) as first:
        first.tasks.save(EXAMPLE_TASK)
        with closing(open_sqlite(path)) as second:
            second.tasks.save(msgspec.structs.replace(EXAMPLE_TASK, id="second"))
        assert count_elsewhere() == 2
        first.tasks.save(msgspec.structs.replace(EXAMPLE_TASK, id="third0"))
        assert count_elsewhere() == 3
    assert count_elsewhere() == 3
