"""Sessions and their stored threads: branches, forks, failures and resumed threads."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mcpchat.core import events as ev
from mcpchat.core.events import Event
from mcpchat.core.messages import AgentSwitch, Compaction, Image, Message, Text, Usage, user_message
from mcpchat.core.policy import Decision
from mcpchat.core.protocols import SelectedModel
from mcpchat.core.threads import (
    INTERRUPTED,
    CallMetadata,
    NewMessage,
    Thread,
    ThreadFilter,
    branch,
    branch_tips,
    derive_title,
)
from mcpchat.engine.session import ActiveAgent, Session
from mcpchat.engine.tool_results import TruncatingToolbox
from mcpchat.engine.transcript import Transcript
from mcpchat.errors import ModelError, StoreError, UsageError
from mcpchat.threads.result_store import ToolResultStore
from mcpchat.threads.sql_store import SqlThreadStore
from mcpchat.util.redaction import SecretRegistry
from tests.support.fakes import (
    DENY,
    FakeToolbox,
    ScriptedDialog,
    ScriptedModel,
    counts,
    make_call,
    make_gate,
    make_tool,
    model_step,
)
from tests.support.stores import open_sqlite

TOOL = "box__echo"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlThreadStore]:
    thread_store = open_sqlite(tmp_path / "threads.db")
    yield thread_store
    thread_store.close()


def new_session(
    store: Any, *steps: Any, seen_events: list[Event] | None = None, toolbox: Any = None, **options: Any
) -> tuple[Session, ScriptedModel]:
    event_list: list[Event] = [] if seen_events is None else seen_events
    model = ScriptedModel(*steps)
    transcript = Transcript(event_list.append, store, **options.pop("kept", {}))
    session = Session(
        model=SelectedModel(name="m", selector="m@table", adapter=model, price=options.pop("price", None)),
        toolbox=toolbox or FakeToolbox({"echo": lambda a: "result"}, make_tool("echo")),
        agent=ActiveAgent(gate=make_gate(dialog=options.pop("asker", None)), name=options.pop("agent", "")),
        emit=event_list.append,
        transcript=transcript,
        **options,
    )
    return session, model


def stored_texts(store: SqlThreadStore, session: Session) -> list[str]:
    """Return the texts of the current branch, as another program loads them."""
    thread = store.find(session.transcript.thread.id)
    return [node.message.text for node in branch(store.nodes(thread), thread.head)]


def history_texts(session: Session) -> list[str]:
    return [message.text for message in session.history]


async def test_each_message_is_stored_before_its_event(store: SqlThreadStore) -> None:
    stored: list[tuple[int, bool]] = []
    session, _ = new_session(store, model_step("", make_call(TOOL, '{"text": "x"}')), model_step("Hi."))

    def emit(event: Event) -> None:
        if isinstance(event, ev.MessageAdded):
            numbers = {node.number for node in store.nodes(session.transcript.thread)}
            stored.append((event.number, event.number in numbers))

    session.transcript._emit = emit
    await session.send("hello")
    assert stored == [(1, True), (2, True), (3, True), (4, True)]


async def test_a_message_is_stored_with_usage_and_decisions(store: SqlThreadStore) -> None:
    write_tool = make_tool("write", read_only=False)
    toolbox = FakeToolbox({"echo": lambda a: "ok", "write": lambda a: "never"}, make_tool("echo"), write_tool)
    session, _ = new_session(
        store,
        model_step("", make_call(TOOL, '{"text": "x"}', "a"), make_call("box__write", '{"text": "x"}', "b"), usage=Usage(input=7, output=2)),
        model_step("Hi.", usage=Usage(input=9)),
        toolbox=toolbox,
        asker=ScriptedDialog(DENY),
        agent="mail",
        price=lambda usage: usage.input / 100,
    )  # fmt: skip
    await session.send("hello")
    question, call_record, results, answer = (node.record for node in store.nodes(session.transcript.thread))
    assert (question.agent, question.usage, question.cost) == ("mail", None, None)
    assert (call_record.model, counts(call_record.usage), call_record.cost) == (
        "m@table",
        Usage(input=7, output=2),
        0.07,
    )
    assert answer.cost == 0.09
    assert all(record.at > 1e9 for record in (question, call_record, results, answer))
    assert call_record.seconds is not None
    (execution, denied_call) = results.calls
    assert isinstance(execution, CallMetadata)
    assert execution.decision is not None
    assert (execution.call_id, execution.tool, execution.decision.allowed, execution.decision.by) == (
        "a",
        "box.echo",
        True,
        "policy",
    )
    assert (denied_call.tool, denied_call.decision) == ("box.write", DENY)


async def test_undo_removes_an_exchange_but_keeps_it_as_a_branch(store: SqlThreadStore) -> None:
    session, model = new_session(store, model_step("first"), model_step("second"), model_step("third"))
    await session.send("one")
    await session.send("two")
    assert await session.undo() == "two"
    assert history_texts(session) == stored_texts(store, session) == ["one", "first"]
    await session.send("another two")
    assert [message.text for message in model.requests[-1].messages] == ["one", "first", "another two"]
    assert stored_texts(store, session) == ["one", "first", "another two", "third"]
    nodes = store.nodes(session.transcript.thread)
    assert [[node.message.text for node in branch(nodes, leaf.number)][-1] for leaf in branch_tips(nodes)] == [
        "third",
        "second",
    ]
    await session.undo()
    await session.undo()
    with pytest.raises(UsageError, match="there is no message yet"):
        await session.undo()
    assert stored_texts(store, session) == []


async def test_a_retry_is_a_branch_and_a_failed_one_changes_nothing(store: SqlThreadStore) -> None:
    failing = ModelError("down", kind="overloaded")
    session, _ = new_session(store, model_step("first"), model_step("better"), [failing])
    await session.send("one")
    await session.retry()
    assert stored_texts(store, session) == ["one", "better"]
    with pytest.raises(ModelError):
        await session.retry()
    assert history_texts(session) == stored_texts(store, session) == ["one", "better"]
    assert len(branch_tips(store.nodes(session.transcript.thread))) == 2


async def test_a_failed_retry_after_an_agent_switch_loses_nothing(store: SqlThreadStore) -> None:
    session, _ = new_session(store, model_step("first"), [ModelError("down", kind="overloaded")])
    await session.send("one")
    session.switch_agent(ActiveAgent(gate=make_gate(), name="math"), session.model)
    with pytest.raises(ModelError):
        await session.retry()
    assert [text for text in history_texts(session) if text] == ["one", "first"]
    session.switch_agent(ActiveAgent(gate=make_gate(), name="mail"), session.model)
    assert [message.role for message in session.history].count("system") == 1  # no message was sent to the other agent


async def test_an_edit_replaces_a_message_in_a_new_branch(store: SqlThreadStore) -> None:
    session, model = new_session(store, model_step("first"), model_step("second"), model_step("anew"))
    await session.send("one")
    await session.send("two")
    await session.edit(user_message("two, but better"), session.last_user_index())
    assert stored_texts(store, session) == ["one", "first", "two, but better", "anew"]
    assert [message.text for message in model.requests[-1].messages] == ["one", "first", "two, but better"]


async def test_every_branch_change_is_an_event(store: SqlThreadStore) -> None:
    seen_events: list[Event] = []
    session, _ = new_session(store, model_step("first"), seen_events=seen_events)
    await session.send("one")
    await session.undo()
    changes = [event for event in seen_events if isinstance(event, ev.BranchChanged)]
    assert changes == [ev.BranchChanged(thread_id=session.transcript.thread.id, head=0, messages=0)]


async def test_a_summary_is_a_node_that_can_be_undone(store: SqlThreadStore) -> None:
    session, model = new_session(
        store, model_step("first"), model_step("SUMMARY"), model_step("second"), model_step("third")
    )
    await session.send("one")
    assert await session.compact()
    thread = store.find(session.transcript.thread.id)
    (summary,) = (node for node in store.nodes(thread) if node.message.role == "system")
    assert isinstance(summary.message.parts[0], Compaction)
    assert counts(summary.record.usage) == Usage(input=1, output=1)
    await session.send("two")
    sent_texts = [message.text for message in model.requests[-1].messages]
    assert sent_texts[-1] == "two"
    assert "SUMMARY" in sent_texts[-2]
    await session.undo()
    assert "the summary" in await session.undo()
    await session.send("three")
    assert [message.text for message in model.requests[-1].messages] == ["one", "first", "three"]


async def test_undo_removes_all_summaries_at_the_end(store: SqlThreadStore) -> None:
    session, model = new_session(
        store, model_step("first"), model_step("SUMMARY"), model_step("ANOTHER"), model_step("second")
    )
    await session.send("one")
    assert await session.compact()
    assert await session.compact()
    assert len(session.history) == 4
    assert await session.undo() == "the summary: the model sees the whole conversation again"
    assert history_texts(session) == stored_texts(store, session) == ["one", "first"]
    await session.send("two")
    assert [message.text for message in model.requests[-1].messages] == ["one", "first", "two"]


async def test_a_resumed_thread_continues_unchanged(store: SqlThreadStore) -> None:
    session, _ = new_session(
        store, model_step("", make_call(TOOL, '{"text": "x"}')), model_step("first"), model_step("SUM")
    )
    await session.send("one")
    await session.compact()
    resumed, model = new_session(store, model_step("second"))
    thread = store.find(session.transcript.thread.id)
    resumed.resume(thread, store.nodes(thread))
    assert list(resumed.history) == list(session.history)
    await resumed.send("two")
    assert "SUM" in model.requests[0].messages[-2].text
    assert model.requests[0].cache_key == thread.id
    assert stored_texts(store, resumed)[-2:] == ["two", "second"]


async def test_a_call_that_ran_during_a_crash_is_interrupted(store: SqlThreadStore) -> None:
    session, _ = new_session(store)
    session.transcript.add(user_message("go"))
    session.transcript.add(
        Message(role="assistant", parts=(make_call(TOOL, '{"text": "x"}', "a"), make_call(TOOL, "{}", "b")))
    )
    resumed, model = new_session(store, model_step("I do not know whether it ran."))
    thread = store.find(session.transcript.thread.id)
    resumed.resume(thread, store.nodes(thread))
    assert store.find(thread.id).head == 2  # loading writes nothing: the thread may be running in another process
    await resumed.send("and?")
    results = model.requests[0].messages[2].results
    assert [(result.call_id, result.is_error, result.parts) for result in results] == [
        ("a", True, (Text(text=INTERRUPTED),)),
        ("b", True, (Text(text=INTERRUPTED),)),
    ]
    assert [node.message.role for node in store.nodes(thread)] == ["user", "assistant", "tool", "user", "assistant"]


async def test_two_sessions_that_continue_one_thread_fork_it(store: SqlThreadStore, tmp_path: Path) -> None:
    first_session, _ = new_session(store, model_step("a"), model_step("b"), model_step("c"))
    await first_session.send("begin")
    other_store = open_sqlite(tmp_path / "threads.db")
    seen_events: list[Event] = []
    second_session, _ = new_session(other_store, model_step("elsewhere"), model_step("more"), seen_events=seen_events)
    thread = other_store.find(first_session.transcript.thread.id)
    second_session.resume(thread, other_store.nodes(thread))
    await first_session.send("here")
    await second_session.send("there")
    await second_session.send("again")
    await first_session.send("here too")
    assert stored_texts(store, first_session) == ["begin", "a", "here", "b", "here too", "c"]
    assert stored_texts(store, second_session) == ["begin", "a", "there", "elsewhere", "again", "more"]
    assert second_session.transcript.thread.forked_from == first_session.transcript.thread.id
    (notice,) = (event.text for event in seen_events if isinstance(event, ev.Notice))
    assert "continued elsewhere" in notice
    assert len(store.recent(ThreadFilter(), 9)) == 2
    other_store.close()


async def test_a_thread_deleted_meanwhile_is_saved_again(store: SqlThreadStore) -> None:
    session, _ = new_session(store, model_step("a"), model_step("b"))
    await session.send("one")
    store.delete(session.transcript.thread)
    await session.send("two")
    assert stored_texts(store, session) == ["one", "a", "two", "b"]


async def test_an_unsaved_message_is_saved_with_the_next(store: SqlThreadStore) -> None:
    seen_events: list[Event] = []
    session, _ = new_session(
        store, model_step("a"), model_step("b " * 50_000), model_step("c"), seen_events=seen_events
    )
    await session.send("one")
    (pages,) = store._db.run("PRAGMA page_count")[0]
    store._db.run(f"PRAGMA max_page_count = {pages}")
    await session.send("two " * 50_000)
    assert session.transcript.unsaved_count == 2
    assert [e.number for e in seen_events if isinstance(e, ev.MessageAdded)] == [1, 2, 0, 0]
    store._db.run("PRAGMA max_page_count = 1000000")
    await session.send("three")
    assert session.transcript.unsaved_count == 0
    assert stored_texts(store, session) == history_texts(session)
    notices = [(event.level, event.text) for event in seen_events if isinstance(event, ev.Notice)]
    assert [level for level, _ in notices] == ["warning", "info"]
    assert "not being saved" in notices[0][1]
    assert "disk is full" in notices[0][1]
    assert "saved again" in notices[1][1]


def notices(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, ev.Notice)]


async def test_a_fork_that_cannot_be_saved_is_saved_later(store: SqlThreadStore, tmp_path: Path) -> None:
    first_session, _ = new_session(store, model_step("a"), model_step("b"))
    await first_session.send("begin")
    other_store = open_sqlite(tmp_path / "threads.db")
    seen_events: list[Event] = []
    session, _ = new_session(other_store, model_step("c"), model_step("d"), seen_events=seen_events)
    thread = other_store.find(first_session.transcript.thread.id)
    session.resume(thread, other_store.nodes(thread))
    await first_session.send("here")
    (pages,) = other_store._db.run("PRAGMA page_count")[0]
    other_store._db.run(f"PRAGMA max_page_count = {pages}")
    await session.send("there " * 50_000)
    assert session.transcript.unsaved_count == 4
    (failure,) = notices(seen_events)
    assert failure.startswith("this conversation is not being saved: ")
    assert "disk is full" in failure
    other_store._db.run("PRAGMA max_page_count = 1000000")
    await session.send("again")
    assert session.transcript.unsaved_count == 0
    assert session.transcript.thread.forked_from == thread.id
    assert stored_texts(other_store, session) == ["begin", "a", "there " * 50_000, "c", "again", "d"]
    assert stored_texts(store, first_session) == ["begin", "a", "here", "b"]
    other_store.close()


async def test_undo_in_a_thread_that_was_continued_elsewhere_forks_with_the_next_message(
    store: SqlThreadStore, tmp_path: Path
) -> None:
    seen_events: list[Event] = []
    session, _ = new_session(store, model_step("a"), model_step("b"), model_step("new b"), seen_events=seen_events)
    await session.send("begin")
    await session.send("more")
    other_store = open_sqlite(tmp_path / "threads.db")
    other_session, _ = new_session(other_store, model_step("elsewhere"))
    thread = other_store.find(session.transcript.thread.id)
    other_session.resume(thread, other_store.nodes(thread))
    await other_session.send("there")
    assert await session.undo() == "more"
    assert notices(seen_events) == []
    assert stored_texts(other_store, other_session) == ["begin", "a", "more", "b", "there", "elsewhere"]
    await session.send("instead")
    assert stored_texts(store, session) == ["begin", "a", "instead", "new b"]
    assert session.transcript.thread.forked_from == thread.id
    (notice,) = notices(seen_events)
    assert notice.endswith(
        f" meanwhile: this conversation continues as {session.transcript.thread.short_id}, with all messages"
    )
    other_store.close()


async def test_an_undo_that_cannot_be_saved_is_reported(store: SqlThreadStore, tmp_path: Path) -> None:
    seen_events: list[Event] = []
    session, _ = new_session(store, model_step("a"), model_step("b"), seen_events=seen_events)
    await session.send("one")
    store._db.run("PRAGMA query_only = ON")
    assert await session.undo() == "one"
    failure = (
        f"this conversation is not being saved: cannot use {tmp_path}/threads.db: attempt to write a readonly database; "
        "check the permissions of the file and its folder, or use --no-save"
    )
    assert notices(seen_events) == [failure]
    assert (history_texts(session), stored_texts(store, session)) == ([], ["one", "a"])
    store._db.run("PRAGMA query_only = OFF")
    await session.send("two")
    assert notices(seen_events)[1:] == ["the conversation is being saved again, with all messages"]
    assert stored_texts(store, session) == ["two", "b"]


async def test_messages_that_are_lost_at_the_end_of_a_conversation_are_reported(store: SqlThreadStore) -> None:
    seen_events: list[Event] = []
    session, _ = new_session(store, model_step("a"), model_step("b"), model_step("c"), seen_events=seen_events)
    await session.send("one")
    store._db.run("PRAGMA query_only = ON")
    await session.send("two")
    old = session.transcript.thread
    session.clear()
    assert notices(seen_events)[1:] == [f"the last 2 messages of {old.short_id} could not be saved"]
    store._db.run("PRAGMA query_only = OFF")
    await session.send("three")
    assert stored_texts(store, session) == ["three", "c"]
    assert len(notices(seen_events)) == 2
    assert [node.message.text for node in store.nodes(old)] == ["one", "a"]


class SlowStore:
    """A store whose every attempt to append takes two seconds; it fails while ``is_down`` is set."""

    def __init__(self, store: SqlThreadStore) -> None:
        self._store = store
        self.now = 1000.0
        self.is_down = True
        self.attempts: list[float] = []

    def append(self, thread: Thread, parent: int, messages: Sequence[NewMessage]) -> Thread:
        self.attempts.append(self.now)
        self.now += 2.0
        if self.is_down:
            raise StoreError("the database does not answer", hint="check the network")
        return self._store.append(thread, parent, messages)


def test_a_slow_store_is_not_tried_for_every_message(store: SqlThreadStore, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_store = SlowStore(store)
    monkeypatch.setattr("time.monotonic", lambda: slow_store.now)
    seen_events: list[Event] = []
    transcript = Transcript(seen_events.append, slow_store)  # type: ignore[arg-type]
    transcript.add(user_message("one"))
    transcript.add(user_message("two"))  # within twenty seconds: ten times as long as the failure took
    assert slow_store.attempts == [1000.0]
    transcript.flush()
    assert slow_store.attempts == [1000.0, 1002.0]
    slow_store.is_down = False
    slow_store.now = 1023.0
    transcript.add(user_message("three"))
    assert transcript.unsaved_count == 3
    slow_store.now = 1024.0
    transcript.add(user_message("four"))
    assert (slow_store.attempts, transcript.unsaved_count) == ([1000.0, 1002.0, 1024.0], 0)
    assert notices(seen_events) == [
        "this conversation is not being saved: the database does not answer; check the network",
        "the conversation is being saved again, with all messages",
    ]
    assert [node.message.text for node in store.nodes(transcript.thread)] == ["one", "two", "three", "four"]


async def test_without_a_store_nothing_is_saved() -> None:
    session, _ = new_session(None, model_step("a"), model_step("b"), model_step("c"))
    await session.send("one")
    await session.retry()
    await session.undo()
    await session.send("two")
    assert history_texts(session) == ["two", "c"]
    assert session.transcript.unsaved_count == 0


async def test_no_secret_is_written(store: SqlThreadStore) -> None:
    secrets = SecretRegistry()
    secrets.add("very-secret-value")
    denial = Decision(allowed=False, by="user", reason="not very-secret-value")
    session, _ = new_session(
        store,
        model_step("it is very-secret-value"),
        model_step("", make_call("box__write", '{"text": "x"}')),
        model_step("ok"),
        kept={"redact": secrets.redact_value},
        asker=ScriptedDialog(denial),
        toolbox=FakeToolbox({"write": lambda a: "never"}, make_tool("write", read_only=False)),
    )
    await session.send("what is very-secret-value?")
    assert stored_texts(store, session) == ["what is [secret]?", "it is [secret]"]
    assert store.find(session.transcript.thread.id).title == "what is [secret]?"
    assert history_texts(session)[1] == "it is very-secret-value"
    await session.send("write it")
    session.transcript.rename("of very-secret-value")
    (records,) = store._db.run("SELECT group_concat(record) || (SELECT title FROM threads) FROM nodes")[0]
    assert "not [secret]" in records
    assert "very-secret-value" not in records


async def test_an_agent_switch_is_recorded_for_each_branch(store: SqlThreadStore) -> None:
    session, model = new_session(store, model_step("a"), model_step("b"), model_step("c"))
    await session.send("one")
    session.switch_agent(ActiveAgent(gate=make_gate(), name="math", instructions="Count."), session.model)
    await session.send("two")
    assert model.requests[-1].system == "Count."
    assert [message.role for message in model.requests[-1].messages] == ["user", "assistant", "user"]
    nodes = store.nodes(session.transcript.thread)
    assert nodes[2].message.parts == (AgentSwitch(agent="math", model="m@table"),)
    assert [node.record.agent for node in nodes] == ["", "", "math", "math", "math"]
    assert store.find(session.transcript.thread.id).agent == "math"
    await session.undo()
    session.transcript.truncate(2)  # before the switch
    await session.send("three")
    assert [entry.role for entry in session.history] == ["user", "assistant", "system", "user", "assistant"]


async def test_a_title_is_the_first_words_or_the_users(store: SqlThreadStore) -> None:
    session, _ = new_session(store, model_step("a"))
    await session.send("  Which spreadsheet\nhas the numbers of the third quarter, and what is the total of them?")
    thread = store.find(session.transcript.thread.id)
    assert (thread.title, thread.named) == ("Which spreadsheet has the numbers of the third quarter…", False)
    session, _ = new_session(store, model_step("a"), kept={"title": "Q3"})
    await session.send("hello")
    assert store.find("Q3").named


async def test_a_model_sets_a_title_once_and_never_over_the_users(store: SqlThreadStore) -> None:
    session, model = new_session(
        store, model_step("Here they are."), model_step('"Numbers of Q3"\n'), model_step("b"), model_step("More.")
    )
    await session.send("which numbers?")
    await session.name_thread()
    assert store.find(session.transcript.thread.id).title == "Numbers of Q3"
    assert "which numbers?" in model.requests[1].messages[0].text
    assert model.requests[1].tools == ()
    assert counts(session.thread_usage.usage) == Usage(input=2, output=2)
    await session.name_thread()
    assert len(model.requests) == 2
    session.transcript.rename("mine")
    session._titled_thread = ""
    await session.name_thread()
    assert store.find(session.transcript.thread.id).title == "mine"


async def test_a_model_that_finds_no_title_changes_none(store: SqlThreadStore) -> None:
    session, model = new_session(store, model_step("a"), model_step(' "*" '), price=lambda usage: 0.5)
    await session.send("hello")
    await session.name_thread()
    assert len(model.requests) == 2
    assert store.find(session.transcript.thread.id).title == "hello"
    assert session.thread_usage.cost == 1.0


async def test_a_title_that_the_user_gives_meanwhile_is_kept(store: SqlThreadStore) -> None:
    session, model = new_session(store, model_step("a"), [0.0, *model_step("The model's title")])
    await session.send("hello")
    naming = asyncio.create_task(session.name_thread())
    while len(model.requests) < 2:
        await asyncio.sleep(0)
    session.transcript.rename("mine")
    await naming
    assert (session.transcript.thread.title, store.find(session.transcript.thread.id).title) == ("mine", "mine")


async def test_a_title_can_come_before_the_first_message(store: SqlThreadStore) -> None:
    session, _ = new_session(store, model_step("a"))
    session.transcript.rename("plans")
    await session.send("hello")
    thread = store.find("plans")
    assert (thread.id, thread.title, thread.named) == (session.transcript.thread.id, "plans", True)


async def test_a_failed_title_is_ignored(store: SqlThreadStore) -> None:
    session, _ = new_session(store, model_step("a"), [ModelError("down", kind="server")])
    await session.send("hello")
    await session.name_thread()
    assert store.find(session.transcript.thread.id).title == "hello"


async def test_a_large_result_is_readable_only_in_its_thread(store: SqlThreadStore) -> None:
    long = "\n".join(f"line {number}" for number in range(2000))
    results = ToolResultStore(store, current_thread=lambda: session.transcript.thread)
    toolbox = TruncatingToolbox(FakeToolbox({"echo": lambda a: long}, make_tool("echo")), limit=1000, store=results)
    steps = (model_step("", make_call(TOOL, '{"text": "x"}')), model_step("a"))
    session, _ = new_session(store, *steps, toolbox=toolbox, kept={"pending_results": results.pending})
    await session.send("go")
    result_part = session.history[2].results[0].parts[0]
    assert isinstance(result_part, Text)
    key = result_part.text.split('read_result(id="')[1].split('"')[0]
    assert results.pending == {}  # it was stored with its message
    assert results.load(key) == long
    store.clean_up()
    thread = store.find(session.transcript.thread.id)
    assert ToolResultStore(store, current_thread=lambda: thread).load(key) == long
    other_session, _ = new_session(store, model_step("b"))
    await other_session.send(f'mcpchat__read_result(id="{key}"')
    assert ToolResultStore(store, current_thread=lambda: other_session.transcript.thread).load(key) is None


async def test_an_unsaved_result_is_saved_later_with_its_message(store: SqlThreadStore) -> None:
    long = "word " * 20_000
    results = ToolResultStore(store, current_thread=lambda: session.transcript.thread)
    toolbox = TruncatingToolbox(FakeToolbox({"echo": lambda a: long}, make_tool("echo")), limit=1000, store=results)
    steps = (model_step("zero"), model_step("", make_call(TOOL, '{"text": "x"}')), model_step("a"), model_step("b"))
    session, _ = new_session(store, *steps, toolbox=toolbox, kept={"pending_results": results.pending})
    await session.send("begin")
    (pages,) = store._db.run("PRAGMA page_count")[0]
    store._db.run(f"PRAGMA max_page_count = {pages}")
    await session.send("go")
    (key,) = results.pending
    assert results.load(key) == long
    store._db.run("PRAGMA max_page_count = 1000000")
    await session.send("on")
    assert store.get_blob(key, session.transcript.thread) == long.encode()


def test_results_without_a_database_stay_in_memory(tmp_path: Path) -> None:
    os.symlink("/nowhere", tmp_path / "threads.db")
    closed_store = open_sqlite(tmp_path / "threads.db")
    results = ToolResultStore(closed_store, current_thread=lambda: Thread(id="x"))
    key = results.save("kept for now")
    assert key is not None
    assert results.load(key) == "kept for now"
    assert results.load("0" * 16) is None
    with pytest.raises(StoreError):
        closed_store.latest()


def test_images_are_restored_for_the_model(store: SqlThreadStore) -> None:
    session, _ = new_session(store)
    picture = Image(media_type="image/png", data=b"\x89PNG" * 3000)
    session.transcript.add(Message(role="user", parts=(Text(text="look"), picture)))
    resumed, _ = new_session(store)
    thread = store.find(session.transcript.thread.id)
    resumed.resume(thread, store.nodes(thread))
    assert resumed.history[0].parts == (Text(text="look"), picture)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("short", "short"),
        ("", ""),
        ("x" * 100, "x" * 59 + "…"),
        ("a \x1b[31mb\n\n c", "a ␛[31mb c"),
    ],
)
def test_titles_fit_a_line(text: str, title: str) -> None:
    assert derive_title(text) == title
