"""The chat's loop: reads a line, then sends it as a message or runs it as a command."""

import asyncio
import re
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from mcpchat.core.server_task import TaskEnded
from mcpchat.errors import TRANSIENT_ERRORS, McpChatError, ModelError
from mcpchat.ui.chat import commands, shell
from mcpchat.ui.chat.context import CommandContext
from mcpchat.util.signals import cancel_on_signals

_COMMAND_PATTERN = re.compile(r"/[\w-]+(:\S*)?|/\?")  # not a path; a leading space or several lines: no command

_LOGIN_COMMAND = re.compile(r"mcpchat auth login (\S+)(?! --scope)")  # in the chat there is a shorter one


class Prompt(Protocol):
    """The source of input lines."""

    async def next_line(self) -> str | None:
        """Wait for the next line that the user sends; None if the user leaves."""
        ...

    def echo(self, line: str) -> None:
        """Show the line as part of the conversation."""
        ...

    def set_busy(self, busy: bool) -> None:
        """Tell whether a line is being handled; lines that are sent meanwhile are queued."""
        ...

    def prefill(self, text: str) -> None:
        """Put text before the text in the input line."""
        ...

    def recall_cancelled(self) -> None:
        """Move the lines back into the input line that were queued when the line before them was cancelled."""
        ...


async def repl(context: CommandContext, prompt: Prompt, *, on_done: Callable[[float], Awaitable[None]]) -> None:
    """Handle lines until /exit or Ctrl-D, and the results of tasks that were put aside, which go to the model.

    Errors are printed and the chat continues. ``on_done`` is called after each line or result with the seconds that it
    took.
    """
    preload = asyncio.create_task(_preload_tools(context))
    late_results = _LateResults(context)
    try:
        while not context.exit_requested:
            entry = await late_results.next_entry(prompt)
            if entry is None:
                return
            if isinstance(entry, str) and not entry.strip():
                context.editing_index = None
                continue
            if isinstance(entry, str):
                prompt.echo(entry)
                work = _handle_line(context, entry)
            else:
                work = _send_late_result(context, entry)
            prompt.set_busy(True)
            started = time.monotonic()
            try:
                if not await _run_interruptible(context, work):
                    prompt.recall_cancelled()
            finally:
                prompt.set_busy(False)
            prompt.prefill(context.take_draft())
            await on_done(time.monotonic() - started)
    finally:
        for line in context.chat.describe_open_tasks():
            context.print(f"  {line}", "yellow")
        preload.cancel()
        await asyncio.gather(preload, late_results.aclose(), return_exceptions=True)


class _LateResults:
    """Waits for the next line, or for the result of a task that was put aside, whichever is there first."""

    def __init__(self, context: CommandContext) -> None:
        self._context = context
        self._result: asyncio.Task[TaskEnded] | None = None

    async def next_entry(self, prompt: Prompt) -> str | TaskEnded | None:
        """A line, or a task that has ended; None if the user leaves."""
        if (waiting := self._context.chat.take_waiting_result()) is not None:
            return waiting
        self._result = self._result or asyncio.create_task(self._context.chat.next_ended_task())
        await asyncio.sleep(0)  # a result that is there already is taken
        line = None
        if not self._result.done():
            if self._context.plain:  # without single keys, a line that is being read cannot be left
                return await prompt.next_line()
            line = asyncio.create_task(prompt.next_line())
            try:
                await asyncio.wait({line, self._result}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not line.done():
                    line.cancel()
                    await asyncio.wait({line})
            if not line.cancelled():
                return line.result()
        result, self._result = self._result, None
        return result.result()

    async def aclose(self) -> None:
        if self._result is not None:
            self._result.cancel()
            await asyncio.gather(self._result, return_exceptions=True)


async def _send_late_result(context: CommandContext, ended: TaskEnded) -> None:
    """Send the result of a task that was put aside to the model, as a message of its own, if its call is here."""
    task, message = ended.task, context.chat.take_late_result(ended)
    status = f"  task {task.id} of {task.name}: {task.status.replace('_', ' ')}"
    if message is None:
        context.print(f"{status}; its result comes when its conversation is open again", "dim")
        return
    context.print(status, "dim")
    await context.send(message)


async def _preload_tools(context: CommandContext) -> None:
    """Start servers whose tools are not known yet, while the user types. A server's failure is shown by its status."""
    try:
        await context.toolbox.list_tools()
    except McpChatError as error:
        _print_error(context, error)


async def _run_interruptible(context: CommandContext, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work for an entry; Ctrl-C cancels it. Returns False if it was cancelled."""
    task: asyncio.Task[object] = asyncio.create_task(work)
    with cancel_on_signals(task, (signal.SIGINT,)) as signals:
        try:
            await task
        except asyncio.CancelledError:
            if not signals:
                raise  # the whole program is ending
            context.print("  cancelled", "yellow")
            return False
        except McpChatError as error:
            _print_error(context, error)
        except Exception as error:  # noqa: BLE001 - a bug of ours must not end the conversation
            context.print(f"error: internal error: {type(error).__name__}: {error}", "red")
    return True


async def _handle_line(context: CommandContext, line: str) -> None:
    await context.chat.use_changed_config()
    line = commands.BARE_WORDS.get(line.rstrip().lower(), line)
    if shell.take_shell_command(context, line):
        await shell.run_line(context, line)
        return
    if _COMMAND_PATTERN.fullmatch(line.strip().partition(" ")[0]) and "\n" not in line and not line.startswith(" "):
        context.editing_index = None
        await commands.run(context, line)
    else:
        await context.send_text(line)


def _print_error(context: CommandContext, error: McpChatError) -> None:
    context.print(f"error: {error.message}", "red")
    if isinstance(error, ModelError) and error.kind in TRANSIENT_ERRORS:
        context.print("  /retry asks again", "dim")
    elif error.hint:
        context.print("  " + _LOGIN_COMMAND.sub(r"/login \1", error.hint), "dim")
