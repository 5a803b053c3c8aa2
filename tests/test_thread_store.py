"""Threads in both databases: the same tests, on a real file and on a real server."""

import hashlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mcpchat.core.messages import (
    Compaction,
    File,
    Image,
    Link,
    Message,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    user_message,
)
from mcpchat.core.policy import Decision
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
from tests.kill_loop import kill_repeatedly
from tests.postgres import Postgres

Open = Callable[[], SqlThreadStore]
PICTURE = Image(media_type="image/png", data=b"\x89PNG" + b"\0" * 9000)
EVERYTHING = (
    Message(
        role="user", parts=(Text(text="Größe? 今日 \0 x"), PICTURE, File(media_type="application/pdf", data=b"%P"))
    ),
    Message(
        role="assistant",
        parts=(Reasoning(text="hm"), ToolCall(id="c1", name="box__echo", arguments='{"a": "\\u0000"}')),
        raw={"items": [{"id": "rs_1", "encrypted_content": "gAAAA"}]},
    ),
    Message(
        role="tool",
        parts=(
            ToolResult(
                call_id="c1",
                parts=(Text(text="long " * 3000), PICTURE, Link(uri="x:y", title="t")),
                structured={"n": [1, None, 2.5]},
            ),
        ),
    ),
    Message(role="system", parts=(Compaction(replaces=2, limit=10, summary="short", keeps=(0,)),)),
    Message(role="assistant", parts=(Text(text="done"),), cut="length"),
)
RECORD = MessageMetadata(
    at=1.5,
    agent="mail",
    model="m@table",
    usage=Usage(input=3, cached=1, estimated=True),
    cost=0.25,
    seconds=1.25,
    calls=(CallMetadata(call_id="c1", tool="box.echo", decision=Decision(allowed=True, by="user"), seconds=0.5),),
)


@pytest.fixture(params=["sqlite", "postgres"])
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same threads again and again, as several programs would."""
    made: list[SqlThreadStore] = []
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.url(server.create_database())

        def opened() -> SqlThreadStore:
            made.append(postgres.open_threads(url))
            return made[-1]
    else:

        def opened() -> SqlThreadStore:
            made.append(sqlite.open_threads(tmp_path / "data" / "threads.db"))
            return made[-1]

    yield opened
    for store in made:
        store.close()


@pytest.fixture
def store(opens: Open) -> SqlThreadStore:
    return opens()


def entry(text: str, *, role: Any = "user", **record: Any) -> NewMessage:
    return NewMessage(
        message=Message(role=role, parts=(Text(text=text),)), metadata=MessageMetadata(**{"at": time.time(), **record})
    )


def begun(store: SqlThreadStore, *texts: str, title: str = "a talk", agent: str = "", **record: Any) -> Thread:
    thread = Thread(id=new_id(), title=title, agent=agent)
    return store.append(thread, 0, [entry(text, **record) for text in texts or ("hello",)])


def texts(store: SqlThreadStore, thread: Thread) -> list[str]:
    found = store.find(thread.id)
    return [node.message.text for node in branch(store.nodes(found), found.head)]


def test_every_kind_of_message_comes_back_as_it_was_with_all_that_is_known_of_it(opens: Open) -> None:
    thread = opens().append(
        Thread(id=new_id(), title="x"), 0, [NewMessage(message=one, metadata=RECORD) for one in EVERYTHING]
    )
    nodes = opens().nodes(thread)
    assert [node.message for node in nodes] == list(EVERYTHING)
    assert [(node.number, node.parent, node.record) for node in nodes] == [(n, n - 1, RECORD) for n in range(1, 6)]
    assert (thread.head, thread.messages) == (5, 5)


def test_what_no_file_can_hold_is_kept_as_far_as_it_can_be(store: SqlThreadStore) -> None:
    deep: Any = 1
    for _ in range(3000):
        deep = [deep]
    odd = (
        Message(role="user", parts=(Text(text="half \ud800 done"),)),
        Message(role="tool", parts=(ToolResult(call_id="c", parts=(Text(text="t"),), structured=deep),)),
    )
    thread = store.append(Thread(id=new_id()), 0, [NewMessage(message=one) for one in odd])
    kept = [node.message for node in store.nodes(thread)]
    assert kept[0].text == "half \ufffd done"
    assert kept[1].results[0].parts == (Text(text="t"),)


def test_large_contents_are_kept_once_and_go_with_the_last_that_holds_them(store: SqlThreadStore) -> None:
    pictures = [NewMessage(message=Message(role="user", parts=(PICTURE,))) for _ in range(2)]
    one = store.append(Thread(id=new_id()), 0, pictures)
    other = store.append(Thread(id=new_id()), 0, pictures[:1])
    kept = store._db.run("SELECT length(data) FROM blobs")
    assert [int(row[0]) for row in kept] == [len(PICTURE.data)]
    store.delete(one)
    assert store.nodes(other)[0].message.parts == (PICTURE,)
    store.delete(other)
    assert store._db.run("SELECT hash FROM blobs") == []


def test_a_whole_result_stays_as_long_as_a_message_points_to_it(store: SqlThreadStore) -> None:
    key = hashlib.sha256(b"whole").hexdigest()[:16]
    pointing = Message(
        role="tool",
        parts=(ToolResult(call_id="c", parts=(Text(text=f'mcpchat__read_result(id="{key}", offset=...'),)),),
    )
    thread = store.append(Thread(id=new_id()), 0, [NewMessage(message=pointing, blobs=(b"whole",))])
    # A text that merely names it, in another conversation, is given nothing; a fork has what its source has.
    naming = store.append(Thread(id=new_id()), 0, [NewMessage(message=pointing)])
    fork = store.append(Thread(id=new_id(), forked_from=thread.id), 0, [NewMessage(message=pointing)])
    assert [store.get_blob(key, one) for one in (thread, naming, fork)] == [b"whole", None, b"whole"]
    assert store.clean_up().blobs == 0
    store.delete(thread)
    assert store.get_blob(key, fork) == b"whole"
    store.delete(fork)
    assert store.get_blob(key, None) is None
    assert store.get_blob("../../etc/passwd", None) is None


def test_a_thread_is_a_tree_whose_head_ends_the_current_branch(store: SqlThreadStore) -> None:
    thread = begun(store, "one", "two", "three")
    thread = store.append(thread, 1, [entry("other two"), entry("other three")])
    assert texts(store, thread) == ["one", "other two", "other three"]
    nodes = store.nodes(thread)
    assert [leaf.number for leaf in branch_tips(nodes)] == [5, 3]
    thread = store.move(thread, 3)
    assert texts(store, thread) == ["one", "two", "three"]
    assert store.append(store.move(thread, 0), 0, [entry("anew")]).head == 6
    assert texts(store, thread) == ["anew"]


def test_who_does_not_know_the_latest_head_cannot_write(opens: Open) -> None:
    mine, others = opens(), opens()
    thread = begun(mine)
    moved = others.append(thread, thread.head, [entry("elsewhere")])
    with pytest.raises(ThreadConflict):
        mine.append(thread, thread.head, [entry("here")])
    with pytest.raises(ThreadConflict):
        mine.move(thread, 0)
    assert texts(mine, moved) == ["hello", "elsewhere"]
    others.delete(moved)
    with pytest.raises(ThreadConflict):
        mine.append(moved, moved.head, [entry("to nobody")])


def test_a_thread_is_found_by_its_id_the_beginning_of_it_or_its_title(store: SqlThreadStore) -> None:
    one, two = begun(store, title="Quarterly numbers"), begun(store, title="same")
    begun(store, title="same")
    assert store.find(one.id) == store.find(one.id[:8]) == store.find("Quarterly numbers")
    assert store.find(two.id[:12]).id == two.id
    with pytest.raises(UsageError, match="several threads match"):
        store.find("same")
    with pytest.raises(UsageError, match="no thread is named") as told:
        store.find("Quarterly number")
    assert "Quarterly numbers" in told.value.hint


def test_the_latest_come_first_page_by_page(store: SqlThreadStore) -> None:
    made = [begun(store, title=f"t{number}") for number in range(5)]
    first = store.append(made[1], made[1].head, [entry("again")])
    found = store.recent(ThreadFilter(), 3)
    assert [thread.title for thread in found] == ["t1", "t4", "t3"]
    assert [thread.title for thread in store.recent(ThreadFilter(), 3, found[-1])] == ["t2", "t0"]
    assert store.latest() == first


def test_threads_are_chosen_by_agent_tool_and_time(store: SqlThreadStore) -> None:
    used = (CallMetadata(call_id="c", tool="gmail.send"),)
    begun(store, "a word", title="mail", agent="post", calls=used)
    begun(store, "a word", title="plain")
    store.import_thread(
        Thread(id=new_id(), title="old", created=100.0, updated=200.0, head=1),
        [ThreadMessage(number=1, parent=0, message=user_message("a word"), record=MessageMetadata(at=150.0))],
    )

    def chosen(**wanted: Any) -> tuple[list[str], list[str]]:
        here = ThreadFilter(**wanted)
        found = store.search(here, "word", 9)
        return [thread.title for thread in store.recent(here, 9)], [one.thread.title for one in found]

    assert chosen(agent="post") == (["mail"], ["mail"])
    assert chosen(tools=("gmail.*",)) == chosen(tools=("gmail",)) == (["mail"], ["mail"])
    assert chosen(tools=("drive.*",)) == ([], [])
    assert chosen(until=1000.0) == (["old"], ["old"])
    assert chosen(since=1000.0)[1] == ["plain", "mail"]
    assert chosen(since=1000.0, agent="post", tools=("gmail.send",)) == (["mail"], ["mail"])


@pytest.mark.parametrize(
    ("asked", "numbers"),
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
def test_words_find_the_messages_that_say_them(store: SqlThreadStore, asked: str, numbers: list[int]) -> None:
    begun(
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
    found = store.search(ThreadFilter(), asked, 5)
    assert [hit.number for one in found for hit in one.hits] == numbers
    narrowed = store.search(ThreadFilter(since=1.0), asked, 5)  # looked for in another way
    assert [hit.number for one in narrowed for hit in one.hits] == numbers


def test_a_hit_shows_the_place_with_what_matched_apart(store: SqlThreadStore) -> None:
    begun(store, "before " * 30 + "the Café on the corner" + " after" * 30)
    (found,) = store.search(ThreadFilter(), "cafe", 1)
    before, match, after = found.hits[0].snippet
    assert (before[:1], match, after[-1:]) == ("…", "Café", "…")
    assert after.startswith(" on the corner")


def test_a_search_goes_on_until_it_has_enough_threads(store: SqlThreadStore) -> None:
    for number in range(3):
        begun(store, *["common"] * 150, title=f"t{number}")
    found = store.search(ThreadFilter(), "common", 3)
    assert [(one.thread.title, len(one.hits)) for one in found] == [("t2", 3), ("t1", 3), ("t0", 3)]
    assert len(store.search(ThreadFilter(), "common", 2)) == 2
    with pytest.raises(UsageError, match="contains no word"):
        store.search(ThreadFilter(), "?!", 2)


def test_what_was_deleted_is_found_by_nothing(store: SqlThreadStore) -> None:
    used = (CallMetadata(call_id="c", tool="gmail.send"),)
    thread = begun(store, "secretword", calls=used)
    store.delete(thread)
    assert store.search(ThreadFilter(), "secretword", 5) == []
    assert store.recent(ThreadFilter(), 5) == store.recent(ThreadFilter(tools=("*",)), 5) == []
    for table in ("nodes", "uses", "tool_uses"):
        assert store._db.run(f"SELECT count(*) FROM {table}") == [(0,)]
    with pytest.raises(UsageError):
        store.find(thread.id)


def test_tidying_deletes_what_is_old_and_only_that(store: SqlThreadStore) -> None:
    store.import_thread(
        Thread(id=new_id(), title="old", updated=5.0), [ThreadMessage(number=1, parent=0, message=user_message("x"))]
    )
    begun(store, title="new")
    assert store.clean_up(before=1000.0).threads == 1
    assert [thread.title for thread in store.recent(ThreadFilter(), 9)] == ["new"]
    store.check()


def test_a_title_of_a_persons_is_not_changed_by_a_models(store: SqlThreadStore) -> None:
    thread = begun(store, title="first words")
    store.rename(thread, "by the model", named=False)
    assert store.find(thread.id).title == "by the model"
    store.rename(thread, "by hand")
    store.rename(thread, "by the model again", named=False)
    renamed = store.append(store.find(thread.id), 1, [entry("more")])
    assert (renamed.title, renamed.named) == ("by hand", True)


def test_a_whole_thread_is_put_once_with_its_branches(store: SqlThreadStore) -> None:
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


def _forked(works: list[Callable[[], None]]) -> list[int]:
    """Each in a process of its own, all at once; how each ended."""
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
def test_many_programs_write_at_once_from_the_very_first_moment(opens: Open, count: int) -> None:
    def work() -> None:
        store = opens()
        for number in range(3):
            thread = begun(store, f"thread {number}")
            for place in range(6):
                thread = store.append(thread, thread.head, [entry(f"message {place}")])

    assert _forked([work] * count) == [0] * count
    store = opens()
    found = store.recent(ThreadFilter(), 1000)
    assert len(found) == 3 * count
    assert {len(store.nodes(thread)) for thread in found} == {7}
    assert len(store.search(ThreadFilter(), '"message 5"', 1000)) == 3 * count


def test_of_many_who_go_on_with_one_thread_one_writes_and_the_others_learn_of_it(opens: Open) -> None:
    thread = begun(opens())

    def work() -> None:
        try:
            opens().append(thread, thread.head, [entry(str(os.getpid()))])
        except ThreadConflict:
            os._exit(7)

    ends = [os.waitstatus_to_exitcode(status) for status in _forked([work] * 6)]
    assert sorted(ends) == [0, 7, 7, 7, 7, 7]
    assert len(opens().nodes(thread)) == 2


def test_a_newer_database_is_refused_with_both_versions(opens: Open, request: pytest.FixtureRequest) -> None:
    store = opens()
    begun(store)
    if "sqlite" in request.node.name:
        store._db.run("PRAGMA user_version = 99")
    else:
        store._db.run("UPDATE format SET version = 99")
    with pytest.raises(StoreError, match=r"newer mcpchat \(format 99; this version reads format 1\)"):
        opens().latest()


def test_a_word_that_stands_everywhere_in_a_long_message_is_found_at_once(store: SqlThreadStore) -> None:
    begun(store, "a " * 50_000)
    (found,) = store.search(ThreadFilter(), "a", 5)
    assert found.hits[0].snippet[1] == "a"


def test_what_was_written_though_its_word_was_lost_is_not_written_again(store: SqlThreadStore) -> None:
    thread = begun(store, "one")
    more = [entry("two", at=5.0), entry("three", at=6.0)]
    after = store.append(thread, 1, more)
    assert store.append(thread, 1, more).head == after.head == 3
    assert texts(store, thread) == ["one", "two", "three"]
    with pytest.raises(ThreadConflict):
        store.append(thread, 1, [entry("two"), entry("other")])


def test_names_of_any_length_and_with_half_characters_are_kept(store: SqlThreadStore) -> None:
    used = (CallMetadata(call_id="c \ud800", tool="box." + "x" * 20_000),)
    thread = begun(store, "hello", title="half \ud800 \0", agent="a" * 20_000, calls=used)
    assert store.find(thread.id).title == "half \ufffd "
    assert [one.id for one in store.recent(ThreadFilter(tools=("box.*",)), 5)] == [thread.id]


def test_every_thread_is_named_also_when_they_change_meanwhile(store: SqlThreadStore) -> None:
    made = [begun(store, title=f"t{number}") for number in range(3)]
    store.append(made[0], 1, [entry("more")])  # it is the latest now
    assert store.recent(ThreadFilter(), 1)[0].id == made[0].id
    assert store.ids() == [thread.id for thread in made]


# Of the local file alone.


def test_the_file_and_what_sqlite_keeps_beside_it_are_for_their_owner_alone(tmp_path: Path) -> None:
    store = sqlite.open_threads(tmp_path / "new" / "threads.db")
    begun(store)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()}
    assert modes == {"threads.db": 0o600, "threads.db-wal": 0o600, "threads.db-shm": 0o600}
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    store.close()
    (tmp_path / "link.db").symlink_to(tmp_path / "new" / "threads.db")
    with pytest.raises(StoreError, match="symbolic link"):
        sqlite.open_threads(tmp_path / "link.db").latest()


@pytest.mark.parametrize("version", range(1, len(sqlite.MIGRATIONS) + 1))
def test_a_file_of_every_shipped_version_is_brought_to_the_newest(tmp_path: Path, version: int) -> None:
    import sqlite3

    path = tmp_path / "threads.db"
    with sqlite3.connect(path) as old:
        old.executescript((Path(__file__).parent / "threads" / f"v{version}.sql").read_text())
    old.close()
    store = sqlite.open_threads(path)
    (thread,) = store.recent(ThreadFilter(), 9)
    assert (thread.title, thread.agent, thread.head) == ("Größe", "mail", 5)
    assert [node.message for node in store.nodes(thread)] == list(EVERYTHING)
    assert [hit.number for one in store.search(ThreadFilter(tools=("box.*",)), "grosse", 9) for hit in one.hits] == [1]
    assert store._db.run("PRAGMA user_version") == [(len(sqlite.MIGRATIONS),)]
    store.close()


def test_a_full_disk_is_told_and_nothing_is_half_written(tmp_path: Path) -> None:
    store = sqlite.open_threads(tmp_path / "threads.db")
    thread = begun(store, "kept")
    (pages,) = store._db.run("PRAGMA page_count")[0]
    store._db.run(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreError, match="full") as told:
        store.append(thread, 1, [entry("fits"), NewMessage(message=Message(role="user", parts=(PICTURE,)))] * 50)
    assert "disk is full" in told.value.hint
    assert texts(store, thread) == ["kept"]
    store._db.run("PRAGMA max_page_count = 100000")
    assert store.append(thread, 1, [entry("after")]).head == 2
    store.close()


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_file_is_set_aside_and_what_can_be_read_of_it_goes_on(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "threads.db"
    store = sqlite.open_threads(path)
    before = {begun(store, *[f"word{n} {m} " + "x" * 200 for m in range(20)], title=f"t{n}").id for n in range(30)}
    store.close()
    whole = path.read_bytes()
    dice = random.Random(seed)
    torn = bytearray(whole)
    for _ in range(3):
        at = dice.randrange(2 if seed else 0, len(torn) // 4096) * 4096
        torn[at : at + 4096] = dice.randbytes(4096)
    path.write_bytes(torn)
    told: list[str] = []
    store = sqlite.open_threads(path, told.append)
    store.check()
    found = store.recent(ThreadFilter(), 100)
    for thread in found:
        for node in store.nodes(thread):
            assert node.message.text.endswith("x" * 200)
        assert store.append(thread, thread.head, [entry("and on")]).head > thread.head
    assert len(told) == 1
    (aside,) = tmp_path.glob("threads.damaged-*.db")
    assert aside.read_bytes() == bytes(torn)
    assert str(aside) in told[0]
    saved = sum(len(store.nodes(thread)) for thread in found)
    assert saved > 400, told[0]
    assert len(store.search(ThreadFilter(), "word*", 100)) > 20
    assert len({thread.id for thread in found} & before) > 20
    store.close()
    told.clear()
    assert sqlite.open_threads(path, told.append).latest() is not None
    assert told == []


def test_a_file_that_is_no_database_is_set_aside_too(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    path.write_bytes(b"this is no database, but somebody may want it" * 500)
    told: list[str] = []
    store = sqlite.open_threads(path, told.append)
    assert begun(store).head == 1
    assert "0 threads" in told[0]
    (aside,) = tmp_path.glob("threads.damaged-*.db")
    assert aside.read_bytes().startswith(b"this is no database")
    store.close()


def _torn(path: Path, *, pages: int = 2, seed: int = 1) -> bytes:
    """Put random bytes into the file's later pages; what it is then."""
    torn = bytearray(path.read_bytes())
    dice = random.Random(seed)
    for _ in range(pages):
        at = dice.randrange(20, len(torn) // 4096) * 4096
        torn[at : at + 4096] = dice.randbytes(4096)
    path.write_bytes(torn)
    return bytes(torn)


def _many(path: Path, count: int = 40) -> set[str]:
    store = sqlite.open_threads(path)
    made = {begun(store, *[f"word{n} {m} " + "x" * 300 for m in range(20)], title=f"t{n}").id for n in range(count)}
    store.close()
    return made


def test_of_many_who_meet_the_damage_one_repairs_it_and_all_write_into_what_it_made(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    _many(path)
    torn = _torn(path)

    def work() -> None:
        store = sqlite.open_threads(path)
        for number in range(5):
            store.check()
            begun(store, f"by {os.getpid()} {number}", title="after")

    assert _forked([work] * 4) == [0] * 4
    store = sqlite.open_threads(path)
    assert len([one for one in store.recent(ThreadFilter(), 1000) if one.title == "after"]) == 20
    (aside,) = tmp_path.glob("threads.damaged-*.db")
    assert aside.read_bytes() == torn
    store.close()


def test_who_has_it_open_while_it_is_repaired_goes_on_in_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    _many(path)
    first = sqlite.open_threads(path)
    thread = begun(first, "before")
    first._db.run("PRAGMA wal_checkpoint(TRUNCATE)")
    _torn(path)
    other = sqlite.open_threads(path)
    other.check()
    first.append(first.find(thread.id), 1, [entry("after")])
    assert texts(other, thread) == ["before", "after"]
    first.close()
    other.close()


def test_killed_in_the_middle_of_a_repair_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    before = _many(path)
    _torn(path)
    dice = random.Random(3)
    for _ in range(15):
        pid = os.fork()
        if pid == 0:
            sqlite.open_threads(path).check()
            os._exit(0)
        time.sleep(dice.random() * 0.08)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    store = sqlite.open_threads(path)
    store.check()
    assert len(before & set(store.ids())) > 35
    store.close()


def test_a_repair_without_room_changes_nothing(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "threads.db"
    before = _many(path)
    torn = _torn(path)

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(torn) // 3, len(torn) // 3))
        with pytest.raises(StoreError, match="cannot be repaired"):
            sqlite.open_threads(path).check()

    assert _forked([work]) == [0]
    assert path.read_bytes() == torn
    assert not list(tmp_path.glob("*damaged*"))
    store = sqlite.open_threads(path)
    store.check()
    assert len(before & set(store.ids())) > 35
    store.close()


def test_a_flipped_bit_in_the_first_bytes_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    before = _many(path, 5)
    path.write_bytes(b"SQLitf" + path.read_bytes()[6:])
    told: list[str] = []
    store = sqlite.open_threads(path, told.append)
    assert set(store.ids()) == before
    assert "5 threads with 100 messages" in told[0]
    store.close()


def test_a_message_that_cannot_be_read_hides_none_of_the_others(tmp_path: Path) -> None:
    store = sqlite.open_threads(tmp_path / "threads.db")
    thread = begun(store, "one", "two", "three", "four")
    store._db.run("UPDATE nodes SET body = 'no JSON' WHERE number = 2")
    store._db.run("UPDATE nodes SET body = CAST(X'7B22FF' AS TEXT) WHERE number = 4")
    assert [node.message.text for node in branch(store.nodes(thread), 4)] == ["one", "", "three", ""]
    assert [hit.number for one in store.search(ThreadFilter(), "three", 5) for hit in one.hits] == [3]
    store.close()


def test_what_is_deleted_stands_nowhere_in_the_files(tmp_path: Path) -> None:
    store = sqlite.open_threads(tmp_path / "threads.db")
    begun(store, *["something else"] * 50)
    thread = begun(store, *["the xylophonequark " + "y" * 100] * 50, title="xylophonequark")
    assert any(b"xylophonequark" in file.read_bytes() for file in tmp_path.iterdir())
    store.delete(thread)
    assert not any(b"xylophonequark" in file.read_bytes() for file in tmp_path.iterdir())
    store.close()


def test_a_file_that_is_only_read_has_nothing_done_to_it(tmp_path: Path) -> None:
    path = tmp_path / "old" / "threads.db"
    store = sqlite.open_threads(path)
    thread = begun(store, "said")
    beside = sqlite.open_read_only(path)  # also while somebody talks
    assert texts(beside, thread) == ["said"]
    beside.close()
    store.close()
    path.parent.chmod(0o555)
    before = path.read_bytes()
    reading = sqlite.open_read_only(path)
    assert texts(reading, thread) == ["said"]
    reading.close()
    assert (path.read_bytes(), list(path.parent.iterdir())) == (before, [path])
    assert path.parent.stat().st_mode & 0o777 == 0o555


def test_a_log_without_its_database_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    store = sqlite.open_threads(path)
    begun(store, "in the log")
    log = (tmp_path / "threads.db-wal").read_bytes()
    store.close()
    path.write_bytes(b"")
    (tmp_path / "threads.db-wal").write_bytes(log)
    told: list[str] = []
    store = sqlite.open_threads(path, told.append)
    assert store.ids() == []
    (aside,) = tmp_path.glob("threads.damaged-*-wal")
    assert aside.read_bytes() == log
    assert "is gone" in told[0]
    store.close()


def test_damage_that_is_met_while_writing_is_repaired_and_the_message_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    store = sqlite.open_threads(path)
    for number in range(20):
        thread = begun(store, *["x" * 300] * 20, title=f"t{number}")
    store.close()
    torn = bytearray(path.read_bytes())
    for at in range(3 * 4096, len(torn), 4096):
        torn[at : at + 4096] = bytes(4096)
    path.write_bytes(torn)
    told: list[str] = []
    store = sqlite.open_threads(path, told.append)
    try:
        store.append(thread, thread.head, [entry("after")])
    except ThreadConflict:  # it could not be saved: whoever talks in it has it in memory, and forks
        begun(store, "after")
    assert len(told) == 1
    assert store.search(ThreadFilter(), "after", 5)
    store.close()


def test_killed_at_any_point_a_thread_loads_and_has_lost_at_most_the_message_in_flight(tmp_path: Path) -> None:
    kills = kill_repeatedly(tmp_path / "threads.db", times=150, seed=5)
    assert kills.lost_acknowledged == kills.invalid == 0
    assert kills.in_flight > 5
    assert kills.messages > 300


def test_a_killed_writer_blocks_nobody(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    thread = begun(sqlite.open_threads(path))
    pid = os.fork()
    if pid == 0:
        store = sqlite.open_threads(path)
        with store._db.transaction():
            store._db.run("UPDATE threads SET head = 77")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert texts(sqlite.open_threads(path), thread) == ["hello"]
