"""The chat: take a line, send it or run its command, and again."""

import asyncio
import re
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from mcpchat.errors import McpChatError, ModelError
from mcpchat.ui.chat import commands
from mcpchat.ui.chat.context import CommandContext
from mcpchat.util.signals import cancel_on_signals

_COMMAND_PATTERN = re.compile(r"/[\w-]+(:\S*)?|/\?")  # a path is none, nor is what begins with a blank, nor many lines
_TRANSIENT_ERRORS = frozenset({"network", "broken_stream", "overloaded", "rate", "server"})


class Prompt(Protocol):
    """Where lines come from."""

    async def next_line(self) -> str | None:
        """The next line that was sent, None where the person wants to leave."""
        ...

    def echo(self, line: str) -> None:
        """Show the line as part of the conversation."""
        ...

    def set_busy(self, busy: bool) -> None:
        """Whether something is being done; a line that is sent meanwhile waits."""
        ...

    def prefill(self, text: str) -> None:
        """Put text before what is typed so far."""
        ...

    def recall_queued(self) -> None:
        """Put what was sent and not yet taken back into the line."""
        ...


async def repl(context: CommandContext, prompt: Prompt, *, on_done: Callable[[float], Awaitable[None]]) -> None:
    """Talk until /exit or Ctrl-D. Errors are shown and the chat goes on.

    ``done`` is told after each line how many seconds it took.
    """
    preload = asyncio.create_task(_preload_tools(context))
    try:
        while not context.exit_requested:
            line = await prompt.next_line()
            if line is None:
                return
            if not line.strip():
                context.editing_index = None
                continue
            prompt.echo(line)
            prompt.set_busy(True)
            started = time.monotonic()
            try:
                if not await _run_interruptible(context, line):
                    prompt.recall_queued()
            finally:
                prompt.set_busy(False)
            prompt.prefill(context.take_draft())
            await on_done(time.monotonic() - started)
    finally:
        preload.cancel()
        await asyncio.gather(preload, return_exceptions=True)


async def _preload_tools(context: CommandContext) -> None:
    """Learn the tools of servers that nothing knows yet, while the first line is typed; failures show by themselves."""
    try:
        await context.toolbox.list_tools()
    except McpChatError as error:
        _print_error(context, error)


async def _run_interruptible(context: CommandContext, line: str) -> bool:
    """Do what the line says; False where that was cancelled."""
    task: asyncio.Task[object] = asyncio.create_task(_handle_line(context, line))
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
        except Exception as error:  # noqa: BLE001 - a fault of ours must not take the conversation with it
            context.print(f"error: internal error: {type(error).__name__}: {error}", "red")
    return True


async def _handle_line(context: CommandContext, line: str) -> None:
    if _COMMAND_PATTERN.fullmatch(line.strip().partition(" ")[0]) and "\n" not in line and not line.startswith(" "):
        context.editing_index = None
        await commands.run(context, line)
    else:
        await context.send_text(line)


def _print_error(context: CommandContext, error: McpChatError) -> None:
    context.print(f"error: {error.message}", "red")
    if isinstance(error, ModelError) and error.kind in _TRANSIENT_ERRORS:
        context.print("  /retry asks again", "dim")
    elif error.hint:
        context.print(f"  {error.hint}", "dim")
