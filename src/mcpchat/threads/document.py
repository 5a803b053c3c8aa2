"""A thread as a JSON document, for other programs and other machines: all of its branches, and what they point to."""

import base64
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from mcpchat.core.events import MessageAdded, to_json
from mcpchat.core.threads import Node, Thread
from mcpchat.engine.message_codec import keys_in
from mcpchat.errors import UsageError
from mcpchat.util.structures import DEEPEST_RESULT, too_deep

TYPE = "mcpchat.thread"


class Document(Struct, frozen=True, kw_only=True):
    """``contents`` are the whole results that messages point to, by their keys, in base64."""

    type: str = TYPE
    v: int = 1
    thread: Thread
    nodes: tuple[Node, ...]
    contents: dict[str, str] = {}


def document(thread: Thread, nodes: Sequence[Node], content: Callable[[str], bytes | None]) -> Document:
    contents: dict[str, str] = {}
    for key in (key for node in nodes for key in keys_in(node.message)):
        if (data := content(key)) is not None:
            contents[key] = base64.b64encode(data).decode()
    return Document(thread=thread, nodes=tuple(nodes), contents=contents)


def written(made: Document) -> str:
    """One line of JSON."""
    return msgspec.json.encode(made).decode()


def is_ours(value: object) -> bool:
    return isinstance(value, dict) and value.get("type") == TYPE


def read(value: Any) -> Document:
    """The document that was decoded from JSON. Raises UsageError for what is none."""
    if value.get("v") != 1:
        raise UsageError(f"the thread is of version {value.get('v')!r}; this mcpchat knows 1", hint="update mcpchat")
    if too_deep(value, DEEPEST_RESULT):
        raise UsageError("the thread cannot be read: it is nested too deeply")
    try:
        return msgspec.convert(value, Document)
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        raise UsageError(f"the thread cannot be read: {error}") from error


def whole_results(made: Document) -> list[bytes]:
    """The whole results that came with the thread. Raises UsageError for what is not base64."""
    try:
        return [base64.b64decode(text, validate=True) for text in made.contents.values()]
    except ValueError as error:
        raise UsageError("the thread cannot be read: its contents are not base64") from error


def events(nodes: Sequence[Node]) -> Iterator[bytes]:
    """The branch as the lines of an event stream."""
    return (to_json(MessageAdded(message=node.message, number=node.number, record=node.record)) for node in nodes)
