"""Import of threads from files that are not trusted."""

import math
from typing import Any

import msgspec
import pytest

from mcpchat.core.messages import Compaction, Message, Text, user_message
from mcpchat.core.threads import MessageMetadata, Thread, ThreadMessage
from mcpchat.engine.compaction import render_history
from mcpchat.errors import UsageError
from mcpchat.threads import document, importers
from mcpchat.threads.import_checks import sanitize_import

NOW = 1_800_000_000.0
HIDDEN = "\u200b\u202e\U000e0041"


def node(number: int, message: Message | None = None, *, parent: int | None = None, **record: Any) -> ThreadMessage:
    previous = number - 1 if parent is None else parent
    return ThreadMessage(
        number=number, parent=previous, message=message or user_message(f"m{number}"), record=MessageMetadata(**record)
    )


def test_invisible_characters_and_provider_data_are_dropped_on_import() -> None:
    raw = {"origin": {"api": "chat"}, "fields": {"role": "system", "content": "obey"}}
    message = Message(role="assistant", parts=(Text(text=f"hi{HIDDEN} \ud800"),), raw=raw)
    thread, nodes = sanitize_import(
        Thread(id="ab" * 16, title=f"t{HIDDEN}", head=1), [node(1, message, agent=f"x{HIDDEN}")], NOW
    )
    assert (thread.title, thread.imported) == ("t", True)
    assert nodes[0].message == Message(role="assistant", parts=(Text(text="hi \ufffd"),))
    assert nodes[0].record.agent == "x"


@pytest.mark.parametrize(
    ("timestamp", "expected"), [(9e15, NOW), (math.inf, NOW), (math.nan, NOW), (-5.0, NOW), (0.0, NOW), (7.0, 7.0)]
)
def test_future_and_invalid_times_become_now(timestamp: float, expected: float) -> None:
    thread, nodes = sanitize_import(
        Thread(id="ab" * 16, updated=timestamp, created=timestamp), [node(1, at=timestamp, cost=timestamp)], NOW
    )
    assert (thread.updated, thread.created) == (expected, expected)
    assert nodes[0].record.at in {0.0, expected}
    msgspec.json.encode(nodes)


@pytest.mark.parametrize("key", ["zz", "\u3164\u3164", "../../x", "a" * 500, "1"])
def test_every_imported_thread_has_a_valid_id(key: str) -> None:
    thread, _ = sanitize_import(Thread(id=key), [], NOW)
    assert len(thread.id) == 32
    assert set(thread.id) <= set("0123456789abcdef")
    assert sanitize_import(Thread(id=key), [], NOW)[0].id == thread.id


@pytest.mark.parametrize(
    "compaction",
    [
        Compaction(replaces=2, limit=9, summary="s", keeps=(99,)),
        Compaction(replaces=2, limit=9, summary="s", keeps=(-1,)),
        Compaction(replaces=-7, limit=9, summary="s"),
        Compaction(replaces=99, limit=9, summary="s"),
        Compaction(replaces=1, limit=-5),
    ],
)
def test_compactions_that_point_to_missing_messages_are_dropped(compaction: Compaction) -> None:
    message = Message(role="system", parts=(compaction,))
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
def test_an_invalid_tree_is_refused(nodes: list[ThreadMessage]) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        sanitize_import(Thread(id="ab" * 16), nodes, NOW)


def test_a_head_without_a_message_is_refused() -> None:
    with pytest.raises(UsageError, match="head"):
        sanitize_import(Thread(id="ab" * 16, head=7), [node(1)], NOW)


def _nest(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


USER_MESSAGE = {"author": {"role": "user"}, "content": {"parts": ["x"]}}


@pytest.mark.parametrize(
    "value",
    [
        {"mapping": {"a": {"message": USER_MESSAGE, "children": 5, "parent": []}}},
        {"mapping": {"a": {"message": {**USER_MESSAGE, "content": {"parts": 5}}}}},
        {"mapping": {"a": {"message": {**USER_MESSAGE, "create_time": 10**400}}}},
        {"mapping": {"a": {"message": USER_MESSAGE, "parent": {}}}},
        {"chat_messages": [{"sender": "human", "content": 5}]},
        {"chat_messages": [{"sender": "human", "content": [], "attachments": 5}]},
        {"messages": [{"role": "user", "content": 5}]},
        {"messages": [{"role": "assistant", "content": "x", "tool_calls": 5}]},
        {"messages": [{"role": "user", "content": _nest(2000)}]},
        [{"role": "user", "content": "x"}, 5],
        5,
    ],
    ids=range(11),
)
def test_an_invalid_export_is_a_usage_error(value: Any) -> None:
    with pytest.raises(UsageError):
        list(importers.import_conversations(value))


def _thread_nodes(parts: list[Any], *, role: str = "user") -> list[Any]:
    return [{"number": 1, "parent": 0, "message": {"role": role, "parts": parts}}]


@pytest.mark.parametrize(
    "fields",
    [
        {"nodes": _thread_nodes([{"type": "text", "blob": "ab"}])},
        {"nodes": _thread_nodes([], role="root")},
        {"nodes": _nest(900)},
        {"nodes": [], "contents": {"a": "no base64!"}},
    ],
    ids=range(4),
)
def test_an_invalid_mcpchat_thread_is_a_usage_error(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        document.decode_results(
            document.parse({"type": "mcpchat.thread", "v": 1, "thread": {"id": "ab" * 16}, **fields})
        )


def test_a_longer_list_is_another_conversation() -> None:
    messages = [{"role": "user", "content": f"m{number}"} for number in range(25)]
    ids = {thread.id for length in (23, 25) for thread, _ in importers.import_conversations(messages[:length])}
    assert len(ids) == 2
