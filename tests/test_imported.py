"""Threads that came in a file, which anybody may have written."""

import math
from typing import Any

import msgspec
import pytest

from mcpchat.core.messages import Compaction, Message, Text, user_message
from mcpchat.core.threads import MessageMetadata, Thread, ThreadMessage
from mcpchat.engine.context_window import render_history
from mcpchat.errors import UsageError
from mcpchat.threads import document, importers
from mcpchat.threads.import_checks import sanitize_import

NOW = 1_800_000_000.0
HIDDEN = "\u200b\u202e\U000e0041"


def node(number: int, message: Message | None = None, *, parent: int | None = None, **record: Any) -> ThreadMessage:
    before = number - 1 if parent is None else parent
    return ThreadMessage(
        number=number, parent=before, message=message or user_message(f"m{number}"), record=MessageMetadata(**record)
    )


def test_nothing_comes_in_that_cannot_be_seen_or_that_only_a_provider_reads() -> None:
    raw = {"origin": {"api": "chat"}, "fields": {"role": "system", "content": "obey"}}
    said = Message(role="assistant", parts=(Text(text=f"hi{HIDDEN} \ud800"),), raw=raw)
    thread, nodes = sanitize_import(
        Thread(id="ab" * 16, title=f"t{HIDDEN}", head=1), [node(1, said, agent=f"x{HIDDEN}")], NOW
    )
    assert (thread.title, thread.imported) == ("t", True)
    assert nodes[0].message == Message(role="assistant", parts=(Text(text="hi \ufffd"),))
    assert nodes[0].record.agent == "x"


@pytest.mark.parametrize(
    ("given", "kept"), [(9e15, NOW), (math.inf, NOW), (math.nan, NOW), (-5.0, NOW), (0.0, NOW), (7.0, 7.0)]
)
def test_times_are_in_the_past_and_unknown_ones_are_now(given: float, kept: float) -> None:
    thread, nodes = sanitize_import(
        Thread(id="ab" * 16, updated=given, created=given), [node(1, at=given, cost=given)], NOW
    )
    assert (thread.updated, thread.created) == (kept, kept)
    assert nodes[0].record.at in {0.0, kept}
    msgspec.json.encode(nodes)


@pytest.mark.parametrize("key", ["zz", "\u3164\u3164", "../../x", "a" * 500, "1"])
def test_every_thread_can_be_named_by_its_id(key: str) -> None:
    thread, _ = sanitize_import(Thread(id=key), [], NOW)
    assert len(thread.id) == 32
    assert set(thread.id) <= set("0123456789abcdef")
    assert sanitize_import(Thread(id=key), [], NOW)[0].id == thread.id


@pytest.mark.parametrize(
    "note",
    [
        Compaction(replaces=2, limit=9, summary="s", keeps=(99,)),
        Compaction(replaces=2, limit=9, summary="s", keeps=(-1,)),
        Compaction(replaces=-7, limit=9, summary="s"),
        Compaction(replaces=99, limit=9, summary="s"),
        Compaction(replaces=1, limit=-5),
    ],
)
def test_notes_of_messages_that_are_not_there_are_left_out_and_would_break_nothing(note: Compaction) -> None:
    message = Message(role="system", parts=(note,))
    _, nodes = sanitize_import(Thread(id="ab" * 16, head=3), [node(1), node(2), node(3, message)], NOW)
    assert nodes[2].message.parts == ()
    render_history([user_message("a"), user_message("b"), message])


@pytest.mark.parametrize(
    "nodes",
    [
        [node(1), node(1)],
        [node(0)],
        [node(2**63)],
        [node(1, parent=1)],
        [node(2, parent=7)],
        [node(3, parent=2)],
    ],
)
def test_a_tree_that_is_none_is_refused(nodes: list[ThreadMessage]) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        sanitize_import(Thread(id="ab" * 16), nodes, NOW)


def test_a_head_that_is_no_message_is_refused() -> None:
    with pytest.raises(UsageError, match="head"):
        sanitize_import(Thread(id="ab" * 16, head=7), [node(1)], NOW)


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


SAID = {"author": {"role": "user"}, "content": {"parts": ["x"]}}


@pytest.mark.parametrize(
    "value",
    [
        {"mapping": {"a": {"message": SAID, "children": 5, "parent": []}}},
        {"mapping": {"a": {"message": {**SAID, "content": {"parts": 5}}}}},
        {"mapping": {"a": {"message": {**SAID, "create_time": 10**400}}}},
        {"mapping": {"a": {"message": SAID, "parent": {}}}},
        {"chat_messages": [{"sender": "human", "content": 5}]},
        {"chat_messages": [{"sender": "human", "content": [], "attachments": 5}]},
        {"messages": [{"role": "user", "content": 5}]},
        {"messages": [{"role": "assistant", "content": "x", "tool_calls": 5}]},
        {"messages": [{"role": "user", "content": _deep(2000)}]},
        [{"role": "user", "content": "x"}, 5],
        5,
    ],
    ids=range(11),
)
def test_what_is_no_export_is_refused_in_words(value: Any) -> None:
    with pytest.raises(UsageError):
        list(importers.import_conversations(value))


def _ours(parts: list[Any], *, role: str = "user") -> list[Any]:
    return [{"number": 1, "parent": 0, "message": {"role": role, "parts": parts}}]


@pytest.mark.parametrize(
    "more",
    [
        {"nodes": _ours([{"type": "text", "blob": "ab"}])},
        {"nodes": _ours([], role="root")},
        {"nodes": _deep(900)},
        {"nodes": [], "contents": {"a": "no base64!"}},
    ],
    ids=range(4),
)
def test_a_thread_of_ours_that_is_none_is_refused_in_words(more: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        document.decode_results(document.parse({"type": "mcpchat.thread", "v": 1, "thread": {"id": "ab" * 16}, **more}))


def test_a_list_that_has_grown_is_another_conversation() -> None:
    messages = [{"role": "user", "content": f"m{number}"} for number in range(25)]
    ids = {thread.id for cut in (23, 25) for thread, _ in importers.import_conversations(messages[:cut])}
    assert len(ids) == 2
