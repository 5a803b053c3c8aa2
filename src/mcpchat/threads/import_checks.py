"""Checks of imported threads. An imported file is untrusted."""

import hashlib
import math
import re
from collections.abc import Sequence

from msgspec.structs import replace

from mcpchat.core.messages import Compaction, Message
from mcpchat.core.threads import MessageMetadata, Thread, ThreadMessage
from mcpchat.errors import UsageError
from mcpchat.util.sanitize import strip_invisible
from mcpchat.util.structures import map_strings
from mcpchat.util.text import replace_surrogates

_ID = re.compile(r"[0-9a-f]{8,64}")
MAX_MESSAGE_NUMBER = 2_000_000_000  # the largest message number


def sanitize_import(thread: Thread, nodes: Sequence[ThreadMessage], now: float) -> tuple[Thread, list[ThreadMessage]]:
    """Return the thread and its messages in a form that is safe to save.

    The messages are sorted by number, times in the future become ``now`` (epoch seconds), and invisible characters are
    removed. The provider's raw data (``Message.raw``) is dropped: it would be sent to a model without the user seeing
    it. Raises UsageError if the messages do not form a tree.
    """
    _check(thread, nodes)
    depths: dict[int, int] = {0: 0}
    cleaned: list[ThreadMessage] = []
    for node in sorted(nodes, key=lambda item: item.number):
        if node.parent not in depths:
            raise UsageError("the thread cannot be read: a message refers to a parent that does not exist")
        depths[node.number] = depths[node.parent] + 1
        message = _clean_message(replace(node.message, raw=None), depths[node.parent])
        cleaned.append(replace(node, message=message, record=_clean_dates(node.record, now)))
    updated = _clean_time(thread.updated, now) or now  # of unknown age: use the time of the import
    thread_id = (
        thread.id if _ID.fullmatch(thread.id) else hashlib.sha256(thread.id.encode(errors="replace")).hexdigest()[:32]
    )
    sanitized = replace(
        map_strings(thread, _clean_text),
        id=thread_id,
        created=_clean_time(thread.created, now) or updated,
        updated=updated,
    )
    return replace(sanitized, imported=True), [map_strings(node, _clean_text) for node in cleaned]


def _check(thread: Thread, nodes: Sequence[ThreadMessage]) -> None:
    numbers = [node.number for node in nodes]
    if len(set(numbers)) != len(numbers) or any(not 0 < number <= MAX_MESSAGE_NUMBER for number in numbers):
        raise UsageError("the thread cannot be read: its message numbers are not valid")
    if any(node.parent >= node.number or node.parent < 0 for node in nodes):
        raise UsageError("the thread cannot be read: a message comes before its parent")
    if thread.head not in {0, *numbers}:
        raise UsageError("the thread cannot be read: its head is not one of its messages")


def _clean_message(message: Message, depth: int) -> Message:
    """Return the message without compactions that do not fit the ``depth`` messages before it."""
    parts = tuple(
        part for part in message.parts if not isinstance(part, Compaction) or _is_valid_compaction(part, depth)
    )  # fmt: skip
    return message if parts == message.parts else replace(message, parts=parts)


def _is_valid_compaction(compaction: Compaction, depth: int) -> bool:
    return (
        0 <= compaction.replaces <= depth
        and compaction.limit > 0
        and all(0 <= index < compaction.replaces for index in compaction.keeps)
        and all(0 <= index < depth for index in compaction.omits)
    )


def _clean_dates(metadata: MessageMetadata, now: float) -> MessageMetadata:
    cost, seconds = metadata.cost, metadata.seconds
    return replace(
        metadata,
        at=_clean_time(metadata.at, now),
        cost=cost if cost is not None and math.isfinite(cost) else None,
        seconds=seconds if seconds is not None and math.isfinite(seconds) else None,
    )


def _clean_time(seconds: float, now: float) -> float:
    return min(seconds, now) if math.isfinite(seconds) and seconds > 0 else 0.0


def _clean_text(text: str) -> str:
    return strip_invisible(replace_surrogates(text))
