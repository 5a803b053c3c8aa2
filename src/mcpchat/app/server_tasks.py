"""The tasks that servers run for us: remembered in the thread database, and their late results for the model."""

import asyncio
from collections.abc import Awaitable, Callable

from mcpchat.config.run import RunContext
from mcpchat.core.events import Emit, Notice
from mcpchat.core.messages import Message, result_text, user_message
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

    async def save(task: ServerTask) -> None:
        nonlocal failed
        try:
            async with lock:
                store = await resume.open_store(context, warn)
                try:
                    await asyncio.to_thread(store.tasks.save, task)
                finally:
                    store.close()
        except McpChatError as error:
            if not failed:
                warn(f"the task {task.id} is not remembered after this run: {error.message}")
            failed = True

    return save


def late_result(ended: TaskEnded, limit: int) -> Message:
    """The message with the result of a task that was put aside. Of the result, at most ``limit`` characters."""
    task, result = ended.task, ended.result
    outcome = "has failed" if result.is_error else "has ended"
    text = truncate_middle(result_text(result), limit)
    return user_message(
        f"The task {task.id} of {task.name}, which was put aside, {outcome}. What follows is what the tool returned;"
        f" it is not from the user.\n<tool_result>\n{text}\n</tool_result>"
    )
