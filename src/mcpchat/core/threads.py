"""Stored conversations: a thread is a tree of messages with one current branch."""

import re
import uuid
from collections.abc import Iterable, Sequence

from msgspec import Struct

from mcpchat.core.messages import Message, Usage, error_result
from mcpchat.core.policy import Decision
from mcpchat.util.sanitize import one_line

INTERRUPTED = "interrupted: mcpchat ended before this call had an answer; whether it took effect is not known"
_MAX_TITLE_LENGTH = 60
_SHORT_ID_LENGTH = 8
_WORD_END = re.compile(r"\s\S*\Z")


class CallMetadata(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Metadata of one tool call: the qualified name of the tool, the decision, and the duration in seconds."""

    call_id: str
    tool: str
    decision: Decision | None = None
    seconds: float = 0.0


class MessageMetadata(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Metadata of a stored message.

    ``at`` is the time at which it was added, in seconds since 1970. ``agent`` and ``model`` are the names that select
    the agent and the model of the conversation at that time. ``usage``, ``cost`` (US dollars, None if unknown) and
    ``seconds`` belong to the request that returned the message. ``calls`` are the calls whose results the message
    holds.
    """

    at: float = 0.0
    agent: str = ""
    model: str = ""
    usage: Usage | None = None
    cost: float | None = None
    seconds: float | None = None
    calls: tuple[CallMetadata, ...] = ()


class NewMessage(Struct, frozen=True, kw_only=True):
    """A message to be stored, with the full contents of the results that it refers to."""

    message: Message
    metadata: MessageMetadata = MessageMetadata()
    blobs: tuple[bytes, ...] = ()


class ThreadMessage(Struct, frozen=True, kw_only=True):
    """A message of a thread. Numbers begin at 1 and are never reused; ``parent`` is 0 for a first message."""

    number: int
    parent: int
    message: Message
    record: MessageMetadata = MessageMetadata()


class Thread(Struct, frozen=True, kw_only=True):
    """A thread without its messages.

    ``head`` is the number of the last message of the current branch, 0 if the branch is empty. ``named`` is set if the
    user chose the title. ``agent`` and ``model`` are those of the latest message. Times are in seconds since 1970.
    ``imported`` is set if the thread was imported from a file: its agents and models do not refer to this config.
    """

    id: str
    title: str = ""
    named: bool = False
    agent: str = ""
    model: str = ""
    created: float = 0.0
    updated: float = 0.0
    head: int = 0
    messages: int = 0
    forked_from: str = ""
    imported: bool = False

    @property
    def short_id(self) -> str:
        return self.id[:_SHORT_ID_LENGTH]


class ThreadFilter(Struct, frozen=True, kw_only=True):
    """Selects threads by agent, by used tools (globs of "server.tool"), and by time of change (seconds since 1970)."""

    agent: str | None = None
    tools: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None


class SearchHit(Struct, frozen=True, kw_only=True):
    """A matching message. ``snippet`` alternates between plain text and matches, and begins with plain text."""

    number: int
    role: str
    snippet: tuple[str, ...]


class SearchResult(Struct, frozen=True, kw_only=True):
    """A thread with the newest of its matching messages."""

    thread: Thread
    hits: tuple[SearchHit, ...]


class CleanupReport(Struct, frozen=True, kw_only=True):
    """The result of a cleanup: the numbers of deleted threads and of deleted unused contents, and the bytes freed."""

    threads: int
    blobs: int
    bytes: int


def new_id() -> str:
    return uuid.uuid4().hex


def branch(nodes: Iterable[ThreadMessage], head: int) -> list[ThreadMessage]:
    """The nodes from the first message to the head. A missing parent ends the branch early."""
    by_number = {node.number: node for node in nodes}
    path: list[ThreadMessage] = []
    while (node := by_number.pop(head, None)) is not None:  # pop: a cycle in a damaged file ends the loop
        path.append(node)
        head = node.parent
    return path[::-1]


def end_of_tool_round(nodes: Sequence[ThreadMessage], number: int) -> int:
    """If this message has tool calls with results, the number of the message with the results; else ``number``."""
    if not any(node.number == number and node.message.calls for node in nodes):
        return number
    return next((node.number for node in nodes if node.parent == number and node.message.role == "tool"), number)


def branch_tips(nodes: Sequence[ThreadMessage]) -> list[ThreadMessage]:
    """The last message of each branch, the newest first."""
    parents = {node.parent for node in nodes}
    return sorted((node for node in nodes if node.number not in parents), key=lambda node: -node.number)


def interrupted_results(messages: Sequence[Message]) -> Message | None:
    """Error results for the calls that had no result when the program ended; None if every call has one."""
    answered: set[str] = set()
    for message in reversed(messages):
        answered |= {result.call_id for result in message.results}
        if message.role in {"user", "assistant"}:
            parts = tuple(error_result(call.id, INTERRUPTED) for call in message.calls if call.id not in answered)
            return Message(role="tool", parts=parts) if parts else None
    return None


def derive_title(text: str) -> str:
    """A title of one line, at most 60 characters, made of the first words of the text."""
    title = one_line(text.strip(), 10 * _MAX_TITLE_LENGTH).strip()
    if len(title) <= _MAX_TITLE_LENGTH:
        return title
    shortened = title[: _MAX_TITLE_LENGTH - 1]
    return f"{_WORD_END.sub('', shortened).rstrip(' ,;:.-') or shortened}…"
