"""Sessions and the threads that they are kept in: branches, forks, failures, what a resumed one is."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcpchat.core import events as ev
from mcpchat.core.events import Event
from mcpchat.core.messages import AgentSwitch, Compaction, Image, Message, Text, Usage, user
from mcpchat.core.policy import Decision
from mcpchat.core.protocols import ModelChoice
from mcpchat.core.threads import INTERRUPTED, CallRecord, Thread, Wanted, branch, leaves, title_of
from mcpchat.engine.session import Role, Session
from mcpchat.engine.tool_results import BoundedToolbox
from mcpchat.engine.transcript import Transcript
from mcpchat.errors import ModelError, StoreError, UsageError
from mcpchat.threads import sqlite
from mcpchat.threads.result_store import Results
from mcpchat.threads.sql_store import SqlThreads
from mcpchat.util.redaction import Secrets
from tests.fakes import NO, FakeToolbox, ScriptedAsker, ScriptedModel, calls, make_gate, says, tool

TOOL = "box__echo"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlThreads]:
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
        model=ModelChoice(name="m", chosen="m@table", adapter=model, price=more.pop("price", None)),
        toolbox=toolbox or FakeToolbox({"echo": lambda a: "result"}, tool("echo")),
        role=Role(gate=make_gate(asker=more.pop("asker", None)), name=more.pop("agent", "")),
        emit=heard.append,
        transcript=transcript,
        **more,
    )
    return made, model


def kept(store: SqlThreads, made: Session) -> list[str]:
    """The texts of the current branch, as another program would load them."""
    thread = store.find(made.transcript.thread.id)
    return [node.message.text for node in branch(store.nodes(thread), thread.head)]


def said(made: Session) -> list[str]:
    return [message.text for message in made.history]


async def test_each_message_is_on_the_disk_before_anybody_hears_of_it(store: SqlThreads) -> None:
    there: list[tuple[int, bool]] = []
    made, _ = session(store, says("", calls(TOOL, '{"text": "x"}')), says("Hi."))

    def emit(event: Event) -> None:
        if isinstance(event, ev.MessageAdded):
            numbers = {node.number for node in store.nodes(made.transcript.thread)}
            there.append((event.number, event.number in numbers))

    made.transcript._emit = emit
    await made.send("hello")
    assert there == [(1, True), (2, True), (3, True), (4, True)]


async def test_what_a_message_took_and_who_decided_on_its_calls_is_kept_with_it(store: SqlThreads) -> None:
    refused = tool("write", read_only=False)
    toolbox = FakeToolbox({"echo": lambda a: "ok", "write": lambda a: "never"}, tool("echo"), refused)
    made, _ = session(
        store,
        says("", calls(TOOL, '{"text": "x"}', "a"), calls("box__write", '{"text": "x"}', "b"), usage=Usage(input=7, output=2)),
        says("Hi.", usage=Usage(input=9)),
        toolbox=toolbox,
        asker=ScriptedAsker(NO),
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
    assert isinstance(ran, CallRecord)
    assert ran.decision is not None
    assert (ran.call_id, ran.tool, ran.decision.allowed, ran.decision.by) == ("a", "box.echo", True, "policy")
    assert (denied.tool, denied.decision) == ("box.write", NO)


async def test_undo_takes_back_an_exchange_and_leaves_it_as_another_branch(store: SqlThreads) -> None:
    made, model = session(store, says("first"), says("second"), says("third"))
    await made.send("one")
    await made.send("two")
    assert await made.undo() == "two"
    assert said(made) == kept(store, made) == ["one", "first"]
    await made.send("another two")
    assert [message.text for message in model.requests[-1].messages] == ["one", "first", "another two"]
    assert kept(store, made) == ["one", "first", "another two", "third"]
    nodes = store.nodes(made.transcript.thread)
    assert [[n.message.text for n in branch(nodes, leaf.number)][-1] for leaf in leaves(nodes)] == ["third", "second"]
    await made.undo()
    await made.undo()
    with pytest.raises(UsageError, match="nothing was said yet"):
        await made.undo()
    assert kept(store, made) == []


async def test_a_retry_is_another_branch_and_one_that_fails_changes_nothing(store: SqlThreads) -> None:
    failing = ModelError("down", kind="overloaded")
    made, _ = session(store, says("first"), says("better"), [failing])
    await made.send("one")
    await made.retry()
    assert kept(store, made) == ["one", "better"]
    with pytest.raises(ModelError):
        await made.retry()
    assert said(made) == kept(store, made) == ["one", "better"]
    assert len(leaves(store.nodes(made.transcript.thread))) == 2


async def test_a_retry_that_fails_after_another_agent_was_chosen_loses_nothing(store: SqlThreads) -> None:
    made, _ = session(store, says("first"), [ModelError("down", kind="overloaded")])
    await made.send("one")
    made.switch_agent(Role(gate=make_gate(), name="math"), made.model)
    with pytest.raises(ModelError):
        await made.retry()
    assert [text for text in said(made) if text] == ["one", "first"]
    made.switch_agent(Role(gate=make_gate(), name="mail"), made.model)
    assert [message.role for message in made.history].count("system") == 1  # nothing was said to the other


async def test_an_edit_says_it_in_other_words_from_there_on(store: SqlThreads) -> None:
    made, model = session(store, says("first"), says("second"), says("anew"))
    await made.send("one")
    await made.send("two")
    await made.edit(user("two, but better"), made.last_said())
    assert kept(store, made) == ["one", "first", "two, but better", "anew"]
    assert [message.text for message in model.requests[-1].messages] == ["one", "first", "two, but better"]


async def test_every_change_of_the_branch_is_an_event(store: SqlThreads) -> None:
    seen: list[Event] = []
    made, _ = session(store, says("first"), seen=seen)
    await made.send("one")
    await made.undo()
    changes = [event for event in seen if isinstance(event, ev.BranchChanged)]
    assert changes == [ev.BranchChanged(thread_id=made.transcript.thread.id, head=0, messages=0)]


async def test_a_summary_is_a_node_and_undoing_it_brings_everything_back(store: SqlThreads) -> None:
    made, model = session(store, says("first"), says("SUMMARY"), says("second"), says("third"))
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


async def test_a_resumed_thread_goes_on_as_if_it_had_never_stopped(store: SqlThreads) -> None:
    made, _ = session(store, says("", calls(TOOL, '{"text": "x"}')), says("first"), says("SUM"))
    await made.send("one")
    await made.compact()
    again, model = session(store, says("second"))
    thread = store.find(made.transcript.thread.id)
    again.resume(thread, store.nodes(thread))
    assert list(again.history) == list(made.history)
    await again.send("two")
    assert "SUM" in model.requests[0].messages[-2].text
    assert model.requests[0].cache_key == thread.id
    assert kept(store, again)[-2:] == ["two", "second"]


async def test_a_call_that_was_running_when_mcpchat_died_is_told_as_interrupted(store: SqlThreads) -> None:
    made, _ = session(store)
    made.transcript.add(user("go"))
    made.transcript.add(Message(role="assistant", parts=(calls(TOOL, '{"text": "x"}', "a"), calls(TOOL, "{}", "b"))))
    again, model = session(store, says("I do not know whether it ran."))
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


async def test_two_that_go_on_with_one_thread_fork_it(store: SqlThreads, tmp_path: Path) -> None:
    first, _ = session(store, says("a"), says("b"), says("c"))
    await first.send("begin")
    other_store = sqlite.open_threads(tmp_path / "threads.db")
    seen: list[Event] = []
    second, _ = session(other_store, says("elsewhere"), says("more"), seen=seen)
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
    assert len(store.recent(Wanted(), 9)) == 2
    other_store.close()


async def test_a_thread_that_was_deleted_meanwhile_is_saved_anew(store: SqlThreads) -> None:
    made, _ = session(store, says("a"), says("b"))
    await made.send("one")
    store.delete(made.transcript.thread)
    await made.send("two")
    assert kept(store, made) == ["one", "a", "two", "b"]


async def test_what_could_not_be_written_goes_along_with_the_next_message(store: SqlThreads) -> None:
    seen: list[Event] = []
    made, _ = session(store, says("a"), says("b " * 50_000), says("c"), seen=seen)
    await made.send("one")
    (pages,) = store._db.run("PRAGMA page_count")[0]
    store._db.run(f"PRAGMA max_page_count = {pages}")
    await made.send("two " * 50_000)
    assert made.transcript.unsaved == 2
    assert [e.number for e in seen if isinstance(e, ev.MessageAdded)] == [1, 2, 0, 0]
    store._db.run("PRAGMA max_page_count = 1000000")
    await made.send("three")
    assert made.transcript.unsaved == 0
    assert kept(store, made) == said(made)
    notices = [(event.level, event.text) for event in seen if isinstance(event, ev.Notice)]
    assert [level for level, _ in notices] == ["warning", "info"]
    assert "not being saved" in notices[0][1]
    assert "disk is full" in notices[0][1]
    assert "saved again" in notices[1][1]


async def test_without_a_store_everything_works_and_nothing_is_kept() -> None:
    made, _ = session(None, says("a"), says("b"), says("c"))
    await made.send("one")
    await made.retry()
    await made.undo()
    await made.send("two")
    assert said(made) == ["two", "c"]
    assert made.transcript.unsaved == 0


async def test_no_secret_is_written(store: SqlThreads) -> None:
    secrets = Secrets()
    secrets.add("very-secret-value")
    denied = Decision(allowed=False, by="user", reason="not very-secret-value")
    made, _ = session(
        store,
        says("it is very-secret-value"),
        says("", calls("box__write", '{"text": "x"}')),
        says("ok"),
        kept={"clean": secrets.redact_value},
        asker=ScriptedAsker(denied),
        toolbox=FakeToolbox({"write": lambda a: "never"}, tool("write", read_only=False)),
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


async def test_another_agent_in_mid_thread_is_recorded_and_a_branch_knows_its_own(store: SqlThreads) -> None:
    made, model = session(store, says("a"), says("b"), says("c"))
    await made.send("one")
    made.switch_agent(Role(gate=make_gate(), name="math", instructions="Count."), made.model)
    await made.send("two")
    assert model.requests[-1].system == "Count."
    assert [message.role for message in model.requests[-1].messages] == ["user", "assistant", "user"]
    nodes = store.nodes(made.transcript.thread)
    assert nodes[2].message.parts == (AgentSwitch(agent="math", model="m@table"),)
    assert [node.record.agent for node in nodes] == ["", "", "math", "math", "math"]
    assert store.find(made.transcript.thread.id).agent == "math"
    await made.undo()
    made.transcript.cut(2)  # before the switch
    await made.send("three")
    assert [m.role for m in made.history] == ["user", "assistant", "system", "user", "assistant"]


async def test_a_thread_is_called_by_its_first_words_or_as_the_person_said(store: SqlThreads) -> None:
    made, _ = session(store, says("a"))
    await made.send("  Which spreadsheet\nhas the numbers of the third quarter, and what is the total of them?")
    thread = store.find(made.transcript.thread.id)
    assert (thread.title, thread.named) == ("Which spreadsheet has the numbers of the third quarter…", False)
    made, _ = session(store, says("a"), kept={"title": "Q3"})
    await made.send("hello")
    assert store.find("Q3").named


async def test_a_model_names_a_thread_once_and_never_over_a_persons_name(store: SqlThreads) -> None:
    made, model = session(store, says("Here they are."), says('"Numbers of Q3"\n'), says("b"), says("More."))
    await made.send("which numbers?")
    await made.name_thread()
    assert store.find(made.transcript.thread.id).title == "Numbers of Q3"
    assert "which numbers?" in model.requests[1].messages[0].text
    assert model.requests[1].tools == ()
    assert made.spent.usage == Usage(input=2, output=2)
    await made.name_thread()
    assert len(model.requests) == 2
    made.transcript.rename("mine")
    made._named = ""
    await made.name_thread()
    assert store.find(made.transcript.thread.id).title == "mine"


async def test_a_title_that_fails_is_let_be(store: SqlThreads) -> None:
    made, _ = session(store, says("a"), [ModelError("down", kind="server")])
    await made.send("hello")
    await made.name_thread()
    assert store.find(made.transcript.thread.id).title == "hello"


async def test_a_large_result_can_be_read_on_in_a_resumed_thread_and_in_no_other(store: SqlThreads) -> None:
    long = "\n".join(f"line {number}" for number in range(2000))
    results = Results(store, thread=lambda: made.transcript.thread)
    toolbox = BoundedToolbox(FakeToolbox({"echo": lambda a: long}, tool("echo")), limit=1000, store=results)
    steps = (says("", calls(TOOL, '{"text": "x"}')), says("a"))
    made, _ = session(store, *steps, toolbox=toolbox, kept={"fresh": results.fresh})
    await made.send("go")
    told = made.history[2].results[0].parts[0]
    assert isinstance(told, Text)
    key = told.text.split('read_result(id="')[1].split('"')[0]
    assert results.fresh == {}  # it went with its message
    assert results.load(key) == long
    store.tidy()
    thread = store.find(made.transcript.thread.id)
    assert Results(store, thread=lambda: thread).load(key) == long
    other, _ = session(store, says("b"))
    await other.send(f'mcpchat__read_result(id="{key}"')
    assert Results(store, thread=lambda: other.transcript.thread).load(key) is None


async def test_a_result_that_could_not_be_written_goes_with_its_message_later(store: SqlThreads) -> None:
    long = "word " * 20_000
    results = Results(store, thread=lambda: made.transcript.thread)
    toolbox = BoundedToolbox(FakeToolbox({"echo": lambda a: long}, tool("echo")), limit=1000, store=results)
    steps = (says("zero"), says("", calls(TOOL, '{"text": "x"}')), says("a"), says("b"))
    made, _ = session(store, *steps, toolbox=toolbox, kept={"fresh": results.fresh})
    await made.send("begin")
    (pages,) = store._db.run("PRAGMA page_count")[0]
    store._db.run(f"PRAGMA max_page_count = {pages}")
    await made.send("go")
    (key,) = results.fresh
    assert results.load(key) == long
    store._db.run("PRAGMA max_page_count = 1000000")
    await made.send("on")
    assert store.content(key, made.transcript.thread) == long.encode()


def test_results_without_a_database_stay_in_memory(tmp_path: Path) -> None:
    os.symlink("/nowhere", tmp_path / "threads.db")
    broken = sqlite.open_threads(tmp_path / "threads.db")
    results = Results(broken, thread=lambda: Thread(id="x"))
    key = results.save("kept for now")
    assert key is not None
    assert results.load(key) == "kept for now"
    assert results.load("0" * 16) is None
    with pytest.raises(StoreError):
        broken.latest()


def test_pictures_come_back_for_the_model(store: SqlThreads) -> None:
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
    assert title_of(text) == title
