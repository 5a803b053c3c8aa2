"""The events of a turn: one closed union with one JSON form and one JSON Schema."""

from collections.abc import Callable
from typing import Literal

import msgspec
from msgspec import Struct

from mcpchat.core.messages import Message, ToolCall, ToolResult, Usage
from mcpchat.core.policy import Decision
from mcpchat.core.server_task import TaskStatus
from mcpchat.core.threads import MessageMetadata

VERSION = 1
ServerState = Literal["idle", "starting", "ready", "login", "failed", "stopped"]
StopReason = Literal[
    "end", "steps", "calls", "repeats", "tokens", "cost", "length", "window", "filter", "refusal", "cancelled"
]


class TurnStarted(Struct, frozen=True, kw_only=True, tag="turn.started"):
    thread_id: str
    model: str


class TextDelta(Struct, frozen=True, kw_only=True, tag="text.delta"):
    text: str


class ReasoningDelta(Struct, frozen=True, kw_only=True, tag="reasoning.delta"):
    text: str


class MessageAdded(Struct, frozen=True, kw_only=True, tag="message.added"):
    """A message was added to the history. This is the message that is displayed, logged and saved.

    ``number`` is its number in the thread, 0 if it is not saved; ``record`` is its metadata.
    """

    message: Message
    number: int = 0
    record: MessageMetadata = MessageMetadata()


class BranchChanged(Struct, frozen=True, kw_only=True, tag="branch.changed"):
    """The history was replaced by another branch with this number of messages.

    ``head`` is the number of its last message, 0 if it is empty. The other messages of the thread stay as other
    branches.
    """

    thread_id: str
    head: int
    messages: int


class ToolDecided(Struct, frozen=True, kw_only=True, tag="tool.decided"):
    """The decision on a call. ``tool`` is its qualified name (``server.tool``), as in the other tool events."""

    call: ToolCall
    tool: str
    decision: Decision


class ToolStarted(Struct, frozen=True, kw_only=True, tag="tool.started"):
    """A call has started. ``title`` is the tool's title, ``account`` the account that the server uses."""

    call: ToolCall
    tool: str
    title: str = ""
    account: str = ""


class ToolFinished(Struct, frozen=True, kw_only=True, tag="tool.finished"):
    """A call has finished. ``seconds`` is its duration."""

    call: ToolCall
    tool: str
    result: ToolResult
    seconds: float
    title: str = ""
    account: str = ""


class ToolProgress(Struct, frozen=True, kw_only=True, tag="tool.progress"):
    """The progress of a call: ``done`` of ``total``, in the server's unit; ``total`` is None if unknown."""

    call_id: str
    done: float
    total: float | None = None
    note: str = ""


class ToolTask(Struct, frozen=True, kw_only=True, tag="tool.task"):
    """The server runs the call as a task, or the task has another status. ``task`` is our id of it, for mcpchat tasks.

    ``message`` is the server's status line.
    """

    call_id: str
    task: str
    tool: str
    status: TaskStatus
    message: str = ""


class ServerChanged(Struct, frozen=True, kw_only=True, tag="server.changed"):
    server: str
    state: ServerState
    detail: str = ""


class Notice(Struct, frozen=True, kw_only=True, tag="notice"):
    """A message to the user. ``topic`` is "retry" if a request is sent again; its text says why and when."""

    level: Literal["info", "warning"]
    text: str
    topic: Literal["", "retry"] = ""


class TurnFinished(Struct, frozen=True, kw_only=True, tag="turn.finished"):
    """The last event of a turn that finished. ``steps`` is the number of requests to the model.

    ``cost`` is in US dollars; None if the price of a request is unknown or prices are not looked up.
    """

    stop: StopReason
    usage: Usage
    steps: int
    cost: float | None = None
    seconds: float = 0.0


class TurnFailed(Struct, frozen=True, kw_only=True, tag="turn.failed"):
    """The last event of a turn that failed."""

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
    | ToolTask
    | ServerChanged
    | Notice
    | TurnFinished
    | TurnFailed
)
Emit = Callable[[Event], None]


def to_json(value: Struct) -> bytes:
    """Encode an event as one line of the stream, without its newline: ``{"v":1,"type":"text.delta",...}``."""
    return b'{"v":%d,' % VERSION + msgspec.json.encode(value)[1:]
