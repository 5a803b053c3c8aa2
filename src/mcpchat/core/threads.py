"""Conversations as they are kept: a thread is a tree of messages, and one branch of it is the current one."""

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
    """What is known of one call besides its result: the ``tool`` for people, who decided, how long it took (s)."""

    call_id: str
    tool: str
    decision: Decision | None = None
    seconds: float = 0.0


class MessageMetadata(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of a message besides its words.

    ``at`` is when it was added (seconds since 1970), ``agent`` and ``model`` who was talked to, by the names that
    choose them. ``usage``, ``cost`` (US dollars, None where nobody knows) and ``seconds`` are of the request that
    brought the message; ``calls`` are those that a message of results answers.
    """

    at: float = 0.0
    agent: str = ""
    model: str = ""
    usage: Usage | None = None
    cost: float | None = None
    seconds: float | None = None
    calls: tuple[CallMetadata, ...] = ()


class NewMessage(Struct, frozen=True, kw_only=True):
    """A message that is to be kept, with the whole results that it points to."""

    message: Message
    metadata: MessageMetadata = MessageMetadata()
    blobs: tuple[bytes, ...] = ()


class ThreadMessage(Struct, frozen=True, kw_only=True):
    """A message of a thread. Numbers begin at 1 and are given once; ``parent`` is 0 for a first message."""

    number: int
    parent: int
    message: Message
    record: MessageMetadata = MessageMetadata()


class Thread(Struct, frozen=True, kw_only=True):
    """A thread without its messages.

    ``head`` is the number of the last message of the current branch, 0 where that is empty. ``named``: the title was
    given by a person. ``agent`` and ``model`` are those of the latest message; times are in seconds since 1970.
    ``imported``: it came in a file, and what it says of agents and models is not for this config.
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
    """Which threads: of an agent, that used a tool (globs of "server.tool"), changed in a span of time."""

    agent: str | None = None
    tools: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None


class SearchHit(Struct, frozen=True, kw_only=True):
    """A message that was found. ``snippet`` alternates between plain text and what matched, beginning with plain."""

    number: int
    role: str
    snippet: tuple[str, ...]


class SearchResult(Struct, frozen=True, kw_only=True):
    """A thread with the newest of its messages that were found."""

    thread: Thread
    hits: tuple[SearchHit, ...]


class CleanupReport(Struct, frozen=True, kw_only=True):
    """What tidying up threw away: threads, contents that nothing uses any more; and the bytes that were given back."""

    threads: int
    blobs: int
    bytes: int


def new_id() -> str:
    return uuid.uuid4().hex


def branch(nodes: Iterable[ThreadMessage], head: int) -> list[ThreadMessage]:
    """The nodes from the first message to the head. What is missing on the way ends the branch there."""
    by_number = {node.number: node for node in nodes}
    path: list[ThreadMessage] = []
    while (node := by_number.pop(head, None)) is not None:  # popped: no circle of a damaged file is walked twice
        path.append(node)
        head = node.parent
    return path[::-1]


def end_of_tool_round(nodes: Sequence[ThreadMessage], number: int) -> int:
    """The number of the results where this message is calls of tools that were answered; else its own."""
    if not any(node.number == number and node.message.calls for node in nodes):
        return number
    return next((node.number for node in nodes if node.parent == number and node.message.role == "tool"), number)


def branch_tips(nodes: Sequence[ThreadMessage]) -> list[ThreadMessage]:
    """The last message of each branch, the newest first."""
    parents = {node.parent for node in nodes}
    return sorted((node for node in nodes if node.number not in parents), key=lambda node: -node.number)


def interrupted_results(messages: Sequence[Message]) -> Message | None:
    """The results of the calls that were open when the program ended; None where there were none."""
    answered: set[str] = set()
    for message in reversed(messages):
        answered |= {result.call_id for result in message.results}
        if message.role in {"user", "assistant"}:
            parts = tuple(error_result(call.id, INTERRUPTED) for call in message.calls if call.id not in answered)
            return Message(role="tool", parts=parts) if parts else None
    return None


def derive_title(text: str) -> str:
    """The first words, as a title on one line."""
    title = one_line(text.strip(), 10 * _MAX_TITLE_LENGTH).strip()
    if len(title) <= _MAX_TITLE_LENGTH:
        return title
    shortened = title[: _MAX_TITLE_LENGTH - 1]
    return f"{_WORD_END.sub('', shortened).rstrip(' ,;:.-') or shortened}…"
