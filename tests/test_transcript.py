"""Sessions and the threads that they are kept in: branches, forks, failures, what a resumed one is."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcpchat.core import events as ev
from mcpchat.core.events import Event
from mcpchat.core.messages import AgentSwitch, Compaction, Image, Message, Text, Usage, user_message
from mcpchat.core.policy import Decision
from mcpchat.core.protocols import SelectedModel
from mcpchat.core.threads import INTERRUPTED, CallMetadata, Thread, ThreadFilter, branch, branch_tips, derive_title
from mcpchat.engine.session import ActiveAgent, Session
from mcpchat.engine.tool_results import TruncatingToolbox
from mcpchat.engine.transcript import Transcript
from mcpchat.errors import ModelError, StoreError, UsageError
from mcpchat.threads import sqlite
from mcpchat.threads.result_store import ToolResultStore
from mcpchat.threads.sql_store import SqlThreadStore
from mcpchat.util.redaction import SecretRegistry
from tests.fakes import DENY, FakeToolbox, ScriptedDialog, ScriptedModel, make_call, make_gate, make_tool, model_step

TOOL = "box__echo"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlThreadStore]:
    made = sqlite.open_threads(tmp_path / "threads.db")
    yield made
    made.close()


def session(
    store: Any, *steps: Any, seen: list[Event] | None = None, toolbox: Any = None, **more: Any
) -> tuple[Session, ScriptedModel]:
    heard: list[Event] = [] if seen is None else seen
    model = ScriptedModel(*steps)
    transcript = Transcript(heard.append, store, **more.pop("kept", {}))
    made = Session(
        model=SelectedModel(name="m", selector="m@table", adapter=model, price=more.pop("price", None)),
        toolbox=toolbox or FakeToolbox({"echo": lambda a: "result"}, make_tool("echo")),
        agent=ActiveAgent(gate=make_gate(dialog=more.pop("asker", None)), name=more.pop("agent", "")),
        emit=heard.append,
        transcript=transcript,
        **more,
    )
    return made, model


def kept(store: SqlThreadStore, made: Session) -> list[str]:
    """The texts of the current branch, as another program would load them."""
    thread = store.find(made.transcript.thread.id)
    return [node.message.text for node in branch(store.nodes(thread), thread.head)]


def said(made: Session) -> list[str]:
    return [message.text for message in made.history]


async def test_each_message_is_on_the_disk_before_anybody_hears_of_it(store: SqlThreadStore) -> None:
    there: list[tuple[int, bool]] = []
    made, _ = session(store, model_step("", make_call(TOOL, '{"text": "x"}')), model_step("Hi."))

    def emit(event: Event) -> None:
        if isinstance(event, ev.MessageAdded):
            numbers = {node.number for node in store.nodes(made.transcript.thread)}
            there.append((event.number, event.number in numbers))

    made.transcript._emit = emit
    await made.send("hello")
    assert there == [(1, True), (2, True), (3, True), (4, True)]


async def test_what_a_message_took_and_who_decided_on_its_calls_is_kept_with_it(store: SqlThreadStore) -> None:
    refused = make_tool("write", read_only=False)
    toolbox = FakeToolbox({"echo": lambda a: "ok", "write": lambda a: "never"}, make_tool("echo"), refused)
    made, _ = session(
        store,
        model_step("", make_call(TOOL, '{"text": "x"}', "a"), make_call("box__write", '{"text": "x"}', "b"), usage=Usage(input=7, output=2)),
        model_step("Hi.", usage=Usage(input=9)),
        toolbox=toolbox,
        asker=ScriptedDialog(DENY),
        agent="mail",
        price=lambda usage: usage.input / 100,
    )  # fmt: skip
    await made.send("hello")
    question, called, results, answer = (node.record for node in store.nodes(made.transcript.thread))
    assert (question.agent, question.usage, question.cost) == ("mail", None, None)
    assert (called.model, called.usage, called.cost) == ("m@table", Usage(input=7, output=2), 0.07)
    assert answer.cost == 0.09
    assert all(record.at > 1e9 for record in (question, called, results, answer))
    assert called.seconds is not None
    (ran, denied) = results.calls
    assert isinstance(ran, CallMetadata)
    assert ran.decision is not None
    assert (ran.call_id, ran.tool, ran.decision.allowed, ran.decision.by) == ("a", "box.echo", True, "policy")
    assert (denied.tool, denied.decision) == ("box.write", DENY)


async def test_undo_takes_back_an_exchange_and_leaves_it_as_another_branch(store: SqlThreadStore) -> None:
    made, model = session(store, model_step("first"), model_step("second"), model_step("third"))
    await made.send("one")
    await made.send("two")
    assert await made.undo() == "two"
    assert said(made) == kept(store, made) == ["one", "first"]
    await made.send("another two")
    assert [message.text for message in model.requests[-1].messages] == ["one", "first", "another two"]
    assert kept(store, made) == ["one", "first", "another two", "third"]
    nodes = store.nodes(made.transcript.thread)
    assert [[n.message.text for n in branch(nodes, leaf.number)][-1] for leaf in branch_tips(nodes)] == [
        "third",
        "second",
    ]
    await made.undo()
    await made.undo()
    with pytest.raises(UsageError, match="there is no message yet"):
        await made.undo()
    assert kept(store, made) == []


async def test_a_retry_is_another_branch_and_one_that_fails_changes_nothing(store: SqlThreadStore) -> None:
    failing = ModelError("down", kind="overloaded")
    made, _ = session(store, model_step("first"), model_step("better"), [failing])
    await made.send("one")
    await made.retry()
    assert kept(store, made) == ["one", "better"]
    with pytest.raises(ModelError):
        await made.retry()
    assert said(made) == kept(store, made) == ["one", "better"]
    assert len(branch_tips(store.nodes(made.transcript.thread))) == 2


async def test_a_retry_that_fails_after_another_agent_was_chosen_loses_nothing(store: SqlThreadStore) -> None:
    made, _ = session(store, model_step("first"), [ModelError("down", kind="overloaded")])
    await made.send("one")
    made.switch_agent(ActiveAgent(gate=make_gate(), name="math"), made.model)
    with pytest.raises(ModelError):
        await made.retry()
    assert [text for text in said(made) if text] == ["one", "first"]
    made.switch_agent(ActiveAgent(gate=make_gate(), name="mail"), made.model)
    assert [message.role for message in made.history].count("system") == 1  # nothing was said to the other


async def test_an_edit_says_it_in_other_words_from_there_on(store: SqlThreadStore) -> None:
    made, model = session(store, model_step("first"), model_step("second"), model_step("anew"))
    await made.send("one")
    await made.send("two")
    await made.edit(user_message("two, but better"), made.last_user_index())
    assert kept(store, made) == ["one", "first", "two, but better", "anew"]
    assert [message.text for message in model.requests[-1].messages] == ["one", "first", "two, but better"]


async def test_every_change_of_the_branch_is_an_event(store: SqlThreadStore) -> None:
    seen: list[Event] = []
    made, _ = session(store, model_step("first"), seen=seen)
    await made.send("one")
    await made.undo()
    changes = [event for event in seen if isinstance(event, ev.BranchChanged)]
    assert changes == [ev.BranchChanged(thread_id=made.transcript.thread.id, head=0, messages=0)]


async def test_a_summary_is_a_node_and_undoing_it_brings_everything_back(store: SqlThreadStore) -> None:
    made, model = session(store, model_step("first"), model_step("SUMMARY"), model_step("second"), model_step("third"))
    await made.send("one")
    assert await made.compact()
    thread = store.find(made.transcript.thread.id)
    (note,) = (node for node in store.nodes(thread) if node.message.role == "system")
    assert isinstance(note.message.parts[0], Compaction)
    assert note.record.usage == Usage(input=1, output=1)
    await made.send("two")
    shown = [message.text for message in model.requests[-1].messages]
    assert shown[-1] == "two"
    assert "SUMMARY" in shown[-2]
    await made.undo()
    assert "the summary" in await made.undo()
    await made.send("three")
    assert [message.text for message in model.requests[-1].messages] == ["one", "first", "three"]


async def test_a_resumed_thread_goes_on_as_if_it_had_never_stopped(store: SqlThreadStore) -> None:
    made, _ = session(store, model_step("", make_call(TOOL, '{"text": "x"}')), model_step("first"), model_step("SUM"))
    await made.send("one")
    await made.compact()
    again, model = session(store, model_step("second"))
    thread = store.find(made.transcript.thread.id)
    again.resume(thread, store.nodes(thread))
    assert list(again.history) == list(made.history)
    await again.send("two")
    assert "SUM" in model.requests[0].messages[-2].text
    assert model.requests[0].cache_key == thread.id
    assert kept(store, again)[-2:] == ["two", "second"]


async def test_a_call_that_was_running_when_mcpchat_died_is_told_as_interrupted(store: SqlThreadStore) -> None:
    made, _ = session(store)
    made.transcript.add(user_message("go"))
    made.transcript.add(
        Message(role="assistant", parts=(make_call(TOOL, '{"text": "x"}', "a"), make_call(TOOL, "{}", "b")))
    )
    again, model = session(store, model_step("I do not know whether it ran."))
    thread = store.find(made.transcript.thread.id)
    again.resume(thread, store.nodes(thread))
    assert store.find(thread.id).head == 2  # looking at it writes nothing: it may be running elsewhere
    await again.send("and?")
    results = model.requests[0].messages[2].results
    assert [(result.call_id, result.is_error, result.parts) for result in results] == [
        ("a", True, (Text(text=INTERRUPTED),)),
        ("b", True, (Text(text=INTERRUPTED),)),
    ]
    assert [node.message.role for node in store.nodes(thread)] == ["user", "assistant", "tool", "user", "assistant"]


async def test_two_that_go_on_with_one_thread_fork_it(store: SqlThreadStore, tmp_path: Path) -> None:
    first, _ = session(store, model_step("a"), model_step("b"), model_step("c"))
    await first.send("begin")
    other_store = sqlite.open_threads(tmp_path / "threads.db")
    seen: list[Event] = []
    second, _ = session(other_store, model_step("elsewhere"), model_step("more"), seen=seen)
    thread = other_store.find(first.transcript.thread.id)
    second.resume(thread, other_store.nodes(thread))
    await first.send("here")
    await second.send("there")
    await second.send("again")
    await first.send("here too")
    assert kept(store, first) == ["begin", "a", "here", "b", "here too", "c"]
    assert kept(store, second) == ["begin", "a", "there", "elsewhere", "again", "more"]
    assert second.transcript.thread.forked_from == first.transcript.thread.id
    (told,) = (event.text for event in seen if isinstance(event, ev.Notice))
    assert "continued elsewhere" in told
    assert len(store.recent(ThreadFilter(), 9)) == 2
    other_store.close()


async def test_a_thread_that_was_deleted_meanwhile_is_saved_anew(store: SqlThreadStore) -> None:
    made, _ = session(store, model_step("a"), model_step("b"))
    await made.send("one")
    store.delete(made.transcript.thread)
    await made.send("two")
    assert kept(store, made) == ["one", "a", "two", "b"]


async def test_what_could_not_be_written_goes_along_with_the_next_message(store: SqlThreadStore) -> None:
    seen: list[Event] = []
    made, _ = session(store, model_step("a"), model_step("b " * 50_000), model_step("c"), seen=seen)
    await made.send("one")
    (pages,) = store._db.run("PRAGMA page_count")[0]
    store._db.run(f"PRAGMA max_page_count = {pages}")
    await made.send("two " * 50_000)
    assert made.transcript.unsaved_count == 2
    assert [e.number for e in seen if isinstance(e, ev.MessageAdded)] == [1, 2, 0, 0]
    store._db.run("PRAGMA max_page_count = 1000000")
    await made.send("three")
    assert made.transcript.unsaved_count == 0
    assert kept(store, made) == said(made)
    notices = [(event.level, event.text) for event in seen if isinstance(event, ev.Notice)]
    assert [level for level, _ in notices] == ["warning", "info"]
    assert "not being saved" in notices[0][1]
    assert "disk is full" in notices[0][1]
    assert "saved again" in notices[1][1]


async def test_without_a_store_everything_works_and_nothing_is_kept() -> None:
    made, _ = session(None, model_step("a"), model_step("b"), model_step("c"))
    await made.send("one")
    await made.retry()
    await made.undo()
    await made.send("two")
    assert said(made) == ["two", "c"]
    assert made.transcript.unsaved_count == 0


async def test_no_secret_is_written(store: SqlThreadStore) -> None:
    secrets = SecretRegistry()
    secrets.add("very-secret-value")
    denied = Decision(allowed=False, by="user", reason="not very-secret-value")
    made, _ = session(
        store,
        model_step("it is very-secret-value"),
        model_step("", make_call("box__write", '{"text": "x"}')),
        model_step("ok"),
        kept={"redact": secrets.redact_value},
        asker=ScriptedDialog(denied),
        toolbox=FakeToolbox({"write": lambda a: "never"}, make_tool("write", read_only=False)),
    )
    await made.send("what is very-secret-value?")
    assert kept(store, made) == ["what is [secret]?", "it is [secret]"]
    assert store.find(made.transcript.thread.id).title == "what is [secret]?"
    assert said(made)[1] == "it is very-secret-value"
    await made.send("write it")
    made.transcript.rename("of very-secret-value")
    (records,) = store._db.run("SELECT group_concat(record) || (SELECT title FROM threads) FROM nodes")[0]
    assert "not [secret]" in records
    assert "very-secret-value" not in records


async def test_another_agent_in_mid_thread_is_recorded_and_a_branch_knows_its_own(store: SqlThreadStore) -> None:
    made, model = session(store, model_step("a"), model_step("b"), model_step("c"))
    await made.send("one")
    made.switch_agent(ActiveAgent(gate=make_gate(), name="math", instructions="Count."), made.model)
    await made.send("two")
    assert model.requests[-1].system == "Count."
    assert [message.role for message in model.requests[-1].messages] == ["user", "assistant", "user"]
    nodes = store.nodes(made.transcript.thread)
    assert nodes[2].message.parts == (AgentSwitch(agent="math", model="m@table"),)
    assert [node.record.agent for node in nodes] == ["", "", "math", "math", "math"]
    assert store.find(made.transcript.thread.id).agent == "math"
    await made.undo()
    made.transcript.truncate(2)  # before the switch
    await made.send("three")
    assert [m.role for m in made.history] == ["user", "assistant", "system", "user", "assistant"]


async def test_a_thread_is_called_by_its_first_words_or_as_the_person_said(store: SqlThreadStore) -> None:
    made, _ = session(store, model_step("a"))
    await made.send("  Which spreadsheet\nhas the numbers of the third quarter, and what is the total of them?")
    thread = store.find(made.transcript.thread.id)
    assert (thread.title, thread.named) == ("Which spreadsheet has the numbers of the third quarter…", False)
    made, _ = session(store, model_step("a"), kept={"title": "Q3"})
    await made.send("hello")
    assert store.find("Q3").named


async def test_a_model_names_a_thread_once_and_never_over_a_persons_name(store: SqlThreadStore) -> None:
    made, model = session(
        store, model_step("Here they are."), model_step('"Numbers of Q3"\n'), model_step("b"), model_step("More.")
    )
    await made.send("which numbers?")
    await made.name_thread()
    assert store.find(made.transcript.thread.id).title == "Numbers of Q3"
    assert "which numbers?" in model.requests[1].messages[0].text
    assert model.requests[1].tools == ()
    assert made.thread_usage.usage == Usage(input=2, output=2)
    await made.name_thread()
    assert len(model.requests) == 2
    made.transcript.rename("mine")
    made._titled_thread = ""
    await made.name_thread()
    assert store.find(made.transcript.thread.id).title == "mine"


async def test_a_title_that_fails_is_let_be(store: SqlThreadStore) -> None:
    made, _ = session(store, model_step("a"), [ModelError("down", kind="server")])
    await made.send("hello")
    await made.name_thread()
    assert store.find(made.transcript.thread.id).title == "hello"


async def test_a_large_result_can_be_read_on_in_a_resumed_thread_and_in_no_other(store: SqlThreadStore) -> None:
    long = "\n".join(f"line {number}" for number in range(2000))
    results = ToolResultStore(store, current_thread=lambda: made.transcript.thread)
    toolbox = TruncatingToolbox(FakeToolbox({"echo": lambda a: long}, make_tool("echo")), limit=1000, store=results)
    steps = (model_step("", make_call(TOOL, '{"text": "x"}')), model_step("a"))
    made, _ = session(store, *steps, toolbox=toolbox, kept={"pending_results": results.pending})
    await made.send("go")
    told = made.history[2].results[0].parts[0]
    assert isinstance(told, Text)
    key = told.text.split('read_result(id="')[1].split('"')[0]
    assert results.pending == {}  # it went with its message
    assert results.load(key) == long
    store.clean_up()
    thread = store.find(made.transcript.thread.id)
    assert ToolResultStore(store, current_thread=lambda: thread).load(key) == long
    other, _ = session(store, model_step("b"))
    await other.send(f'mcpchat__read_result(id="{key}"')
    assert ToolResultStore(store, current_thread=lambda: other.transcript.thread).load(key) is None


async def test_a_result_that_could_not_be_written_goes_with_its_message_later(store: SqlThreadStore) -> None:
    long = "word " * 20_000
    results = ToolResultStore(store, current_thread=lambda: made.transcript.thread)
    toolbox = TruncatingToolbox(FakeToolbox({"echo": lambda a: long}, make_tool("echo")), limit=1000, store=results)
    steps = (model_step("zero"), model_step("", make_call(TOOL, '{"text": "x"}')), model_step("a"), model_step("b"))
    made, _ = session(store, *steps, toolbox=toolbox, kept={"pending_results": results.pending})
    await made.send("begin")
    (pages,) = store._db.run("PRAGMA page_count")[0]
    store._db.run(f"PRAGMA max_page_count = {pages}")
    await made.send("go")
    (key,) = results.pending
    assert results.load(key) == long
    store._db.run("PRAGMA max_page_count = 1000000")
    await made.send("on")
    assert store.get_blob(key, made.transcript.thread) == long.encode()


def test_results_without_a_database_stay_in_memory(tmp_path: Path) -> None:
    os.symlink("/nowhere", tmp_path / "threads.db")
    broken = sqlite.open_threads(tmp_path / "threads.db")
    results = ToolResultStore(broken, current_thread=lambda: Thread(id="x"))
    key = results.save("kept for now")
    assert key is not None
    assert results.load(key) == "kept for now"
    assert results.load("0" * 16) is None
    with pytest.raises(StoreError):
        broken.latest()


def test_pictures_come_back_for_the_model(store: SqlThreadStore) -> None:
    made, _ = session(store)
    picture = Image(media_type="image/png", data=b"\x89PNG" * 3000)
    made.transcript.add(Message(role="user", parts=(Text(text="look"), picture)))
    again, _ = session(store)
    thread = store.find(made.transcript.thread.id)
    again.resume(thread, store.nodes(thread))
    assert again.history[0].parts == (Text(text="look"), picture)


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
