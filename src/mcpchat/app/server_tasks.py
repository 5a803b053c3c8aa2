"""The tasks that servers run for us: remembered in the thread database, and their late results for the model."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from mcpchat.config.run import RunContext
from mcpchat.core.events import Emit, Notice
from mcpchat.core.messages import Image, Message, Text, result_text
from mcpchat.core.protocols import ThreadStore
from mcpchat.core.server_task import ServerTask, TaskEnded
from mcpchat.engine.tool_results import truncate_middle
from mcpchat.errors import McpChatError
from mcpchat.threads import resume


def task_saver(context: RunContext, emit: Emit) -> Callable[[ServerTask], Awaitable[None]]:
    """A function that stores a task. If it cannot, a warning says so, once: the task goes on all the same."""
    lock = asyncio.Lock()
    failed = False

    def warn(text: str) -> None:
        emit(Notice(level="warning", text=text))

    async def write(task: ServerTask) -> None:
        async with lock:
            store = await resume.open_store(context, warn)
            await asyncio.to_thread(_save_and_close, store, task)

    async def save(task: ServerTask) -> None:
        nonlocal failed
        try:
            # To its end, even if we are cancelled: a connection must not be closed while a thread uses it, and a later
            # state must not be written first.
            await asyncio.shield(write(task))
        except McpChatError as error:
            if not failed:
                warn(f"the task {task.id} is not remembered after this run: {error.message}")
            failed = True

    return save


def _save_and_close(store: ThreadStore, task: ServerTask) -> None:
    try:
        store.tasks.save(task)
    finally:
        store.close()


def late_result(ended: TaskEnded, limit: int) -> Message:
    """The message with the result of a task that was put aside. Of the result's text, at most ``limit`` characters.

    It is a message of the user's role, so the text stands between marks that its author cannot know.
    """
    task, result = ended.task, ended.result
    outcome = "has failed" if result.is_error else "has ended"
    mark = f"result_{secrets.token_hex(4)}"
    text = truncate_middle(result_text(result), limit)
    words = (
        f"The task {task.id} of {task.name}, which was put aside, {outcome}. What stands between the marks is what"
        f" the tool returned; it is not from the user.\n<{mark}>\n{text}\n</{mark}>"
    )
    pictures = tuple(part for part in result.parts if isinstance(part, Image))
    return Message(role="user", parts=(Text(text=words), *pictures))
