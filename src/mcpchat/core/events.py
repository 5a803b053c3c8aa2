"""What happens in a turn, as facts: one closed union, one JSON form, one JSON Schema."""

from collections.abc import Callable
from typing import Literal

import msgspec
from msgspec import Struct

from mcpchat.core.messages import Message, ToolCall, ToolResult, Usage
from mcpchat.core.policy import Decision
from mcpchat.core.threads import MessageMetadata

VERSION = 1
ServerState = Literal["idle", "starting", "ready", "login", "failed", "stopped"]
StopReason = Literal["end", "steps", "calls", "repeats", "tokens", "cost", "length", "filter", "refusal", "cancelled"]


class TurnStarted(Struct, frozen=True, kw_only=True, tag="turn.started"):
    thread_id: str
    model: str


class TextDelta(Struct, frozen=True, kw_only=True, tag="text.delta"):
    text: str


class ReasoningDelta(Struct, frozen=True, kw_only=True, tag="reasoning.delta"):
    text: str


class MessageAdded(Struct, frozen=True, kw_only=True, tag="message.added"):
    """The history grew. This is what is displayed, logged and saved.

    ``number`` is the message's in its thread, 0 where it is not saved; ``record`` is what is known besides its words.
    """

    message: Message
    number: int = 0
    record: MessageMetadata = MessageMetadata()


class BranchChanged(Struct, frozen=True, kw_only=True, tag="branch.changed"):
    """The history is another now: it has so many messages, the last of which has the number ``head`` (0 for none).

    What the thread has besides stays as another branch of it.
    """

    thread_id: str
    head: int
    messages: int


class ToolDecided(Struct, frozen=True, kw_only=True, tag="tool.decided"):
    """``tool`` is the name for people (``server.tool``), here and below."""

    call: ToolCall
    tool: str
    decision: Decision


class ToolStarted(Struct, frozen=True, kw_only=True, tag="tool.started"):
    """``title`` is what the server calls the tool, ``account`` whose login the server has; here and below."""

    call: ToolCall
    tool: str
    title: str = ""
    account: str = ""


class ToolFinished(Struct, frozen=True, kw_only=True, tag="tool.finished"):
    call: ToolCall
    tool: str
    result: ToolResult
    seconds: float
    title: str = ""
    account: str = ""


class ToolProgress(Struct, frozen=True, kw_only=True, tag="tool.progress"):
    """``done`` of ``total``, in the server's own unit; ``total`` is None where it gave none."""

    call_id: str
    done: float
    total: float | None = None
    note: str = ""


class ServerChanged(Struct, frozen=True, kw_only=True, tag="server.changed"):
    server: str
    state: ServerState
    detail: str = ""


class Notice(Struct, frozen=True, kw_only=True, tag="notice"):
    level: Literal["info", "warning"]
    text: str


class TurnFinished(Struct, frozen=True, kw_only=True, tag="turn.finished"):
    """The last event of a turn that ended; ``steps`` counts the model's requests.

    ``cost`` is in US dollars, None where the price of a request is not known (or nobody wanted it looked up).
    """

    stop: StopReason
    usage: Usage
    steps: int
    cost: float | None = None
    seconds: float = 0.0


class TurnFailed(Struct, frozen=True, kw_only=True, tag="turn.failed"):
    """The last event of a turn that broke."""

    kind: str
    message: str
    hint: str = ""


Event = (
    TurnStarted
    | TextDelta
    | ReasoningDelta
    | MessageAdded
    | BranchChanged
    | ToolDecided
    | ToolStarted
    | ToolFinished
    | ToolProgress
    | ServerChanged
    | Notice
    | TurnFinished
    | TurnFailed
)
Emit = Callable[[Event], None]


def to_json(value: Struct) -> bytes:
    """One line of the stream, without its newline: ``{"v":1,"type":"text.delta",...}``."""
    return b'{"v":%d,' % VERSION + msgspec.json.encode(value)[1:]
