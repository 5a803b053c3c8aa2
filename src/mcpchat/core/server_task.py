"""Tasks: tool calls that a server runs on its own time. The client asks for their state, and gets the result later."""

import secrets
from typing import Literal

from msgspec import Struct

from mcpchat.core.messages import ToolResult

TaskStatus = Literal["working", "input_required", "completed", "failed", "cancelled"]
TERMINAL: frozenset[TaskStatus] = frozenset({"completed", "failed", "cancelled"})


class ServerTask(Struct, frozen=True, kw_only=True):
    """A task as mcpchat remembers it.

    ``id`` is ours and short, ``task_id`` the server's. ``created``, ``updated`` and ``deadline`` are in epoch seconds;
    after the deadline the server may forget the task, None is never. ``poll_interval`` is in seconds, None if the
    server does not say. ``message`` is the server's status line.
    """

    id: str
    server: str
    task_id: str
    tool: str
    status: TaskStatus = "working"
    message: str = ""
    created: float
    updated: float
    deadline: float | None = None
    poll_interval: float | None = None

    @property
    def name(self) -> str:
        """The tool's name for users, ``server.tool``."""
        return f"{self.server}.{self.tool}"

    @property
    def is_over(self) -> bool:
        return self.status in TERMINAL


class TaskPutAside(Struct, frozen=True, kw_only=True):
    """A call whose task goes on without us. ``note`` is the server's own text for the model, empty if it has none."""

    task: ServerTask
    note: str = ""


class TaskEnded(Struct, frozen=True, kw_only=True):
    """A task that was put aside has ended with this result."""

    task: ServerTask
    result: ToolResult


def new_task_id() -> str:
    """An id for a task, short enough to be typed."""
    return secrets.token_hex(3)
