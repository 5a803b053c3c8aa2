"""A thread as a JSON document for export: all branches, and the stored tool results that the messages refer to."""

import base64
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from mcpchat.core.events import MessageAdded, to_json
from mcpchat.core.threads import Thread, ThreadMessage
from mcpchat.engine.message_codec import referenced_results
from mcpchat.errors import UsageError
from mcpchat.util.structures import MAX_RESULT_DEPTH, exceeds_depth

TYPE = "mcpchat.thread"


class Document(Struct, frozen=True, kw_only=True):
    """The exported document. ``contents`` maps the keys of stored tool results to their bytes in base64."""

    type: str = TYPE
    v: int = 1
    thread: Thread
    nodes: tuple[ThreadMessage, ...]
    contents: dict[str, str] = {}


def build(thread: Thread, nodes: Sequence[ThreadMessage], load_blob: Callable[[str], bytes | None]) -> Document:
    """Build the document of a thread. ``load_blob`` returns a stored result by its key; a missing one is left out."""
    contents: dict[str, str] = {}
    for key in (key for node in nodes for key in referenced_results(node.message)):
        if (data := load_blob(key)) is not None:
            contents[key] = base64.b64encode(data).decode()
    return Document(thread=thread, nodes=tuple(nodes), contents=contents)


def serialize(document: Document) -> str:
    """Return the document as one line of JSON."""
    return msgspec.json.encode(document).decode()


def is_native(value: object) -> bool:
    """Whether the JSON value is a thread that mcpchat exported."""
    return isinstance(value, dict) and value.get("type") == TYPE


def parse(value: Any) -> Document:
    """Return the document of a decoded JSON object.

    Raises UsageError if it has another version, is nested too deeply, or does not fit the format.
    """
    if value.get("v") != 1:
        raise UsageError(
            f"the thread has version {value.get('v')!r}; this mcpchat reads version 1", hint="update mcpchat"
        )
    if exceeds_depth(value, MAX_RESULT_DEPTH):
        raise UsageError("the thread cannot be read: it is nested too deeply")
    try:
        return msgspec.convert(value, Document)
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        raise UsageError(f"the thread cannot be read: {error}") from error


def decode_results(document: Document) -> list[bytes]:
    """Return the tool results stored in the document. Raises UsageError if one is not base64."""
    try:
        return [base64.b64decode(text, validate=True) for text in document.contents.values()]
    except ValueError as error:
        raise UsageError("the thread cannot be read: its contents are not base64") from error


def iter_event_lines(nodes: Sequence[ThreadMessage]) -> Iterator[bytes]:
    """Yield the messages as JSON lines, one ``message.added`` event each."""
    return (to_json(MessageAdded(message=node.message, number=node.number, record=node.record)) for node in nodes)
