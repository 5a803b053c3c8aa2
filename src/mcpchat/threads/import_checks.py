"""Threads that came in a file: anybody may have written it."""

import hashlib
import math
import re
from collections.abc import Sequence

from msgspec.structs import replace

from mcpchat.core.messages import Compaction, Message
from mcpchat.core.threads import Node, Record, Thread
from mcpchat.errors import UsageError
from mcpchat.util.sanitize import visible
from mcpchat.util.structures import mapped

_ID = re.compile(r"[0-9a-f]{8,64}")
_MOST = 2_000_000_000  # the largest number of a message


def adopted(thread: Thread, nodes: Sequence[Node], now: float) -> tuple[Thread, list[Node]]:
    """The thread as it can be kept: its tree in order, its times in the past, nothing in it that cannot be seen.

    What one provider wants echoed is left out: it would be sent, and shown to nobody. Raises UsageError for a tree that
    is none.
    """
    _check(thread, nodes)
    places: dict[int, int] = {0: 0}
    found: list[Node] = []
    for node in sorted(nodes, key=lambda one: one.number):
        if node.parent not in places:
            raise UsageError("the thread cannot be read: a message answers one that is not there")
        places[node.number] = places[node.parent] + 1
        message = _seen(replace(node.message, raw=None), places[node.parent])
        found.append(replace(node, message=message, record=_dated(node.record, now)))
    updated = _moment(thread.updated, now) or now  # of unknown age is as old as its coming here
    key = thread.id if _ID.fullmatch(thread.id) else hashlib.sha256(thread.id.encode(errors="replace")).hexdigest()[:32]
    made = replace(mapped(thread, _whole), id=key, created=_moment(thread.created, now) or updated, updated=updated)
    return replace(made, imported=True), [mapped(node, _whole) for node in found]


def _check(thread: Thread, nodes: Sequence[Node]) -> None:
    numbers = [node.number for node in nodes]
    if len(set(numbers)) != len(numbers) or any(not 0 < number <= _MOST for number in numbers):
        raise UsageError("the thread cannot be read: its messages are not numbered")
    if any(node.parent >= node.number or node.parent < 0 for node in nodes):
        raise UsageError("the thread cannot be read: a message comes before the one that it answers")
    if thread.head not in {0, *numbers}:
        raise UsageError("the thread cannot be read: its head is no message of it")


def _seen(message: Message, before: int) -> Message:
    """The message, of its notes those that are of messages ``before`` it."""
    parts = tuple(
        part for part in message.parts if not isinstance(part, Compaction) or _is_possible(part, before)
    )  # fmt: skip
    return message if parts == message.parts else replace(message, parts=parts)


def _is_possible(note: Compaction, before: int) -> bool:
    return 0 <= note.replaces <= before and note.limit > 0 and all(0 <= place < note.replaces for place in note.keeps)


def _dated(record: Record, now: float) -> Record:
    cost, seconds = record.cost, record.seconds
    return replace(
        record,
        at=_moment(record.at, now),
        cost=cost if cost is not None and math.isfinite(cost) else None,
        seconds=seconds if seconds is not None and math.isfinite(seconds) else None,
    )


def _moment(seconds: float, now: float) -> float:
    return min(seconds, now) if math.isfinite(seconds) and seconds > 0 else 0.0


def _whole(text: str) -> str:
    return visible(text.encode(errors="replace").decode())
