"""The chat: take a line, send it or run its command, and again."""

import asyncio
import re
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from mcpchat.errors import McpChatError, ModelError
from mcpchat.ui.chat import commands
from mcpchat.ui.chat.context import Room
from mcpchat.util.signals import cancelled_by

_COMMAND = re.compile(r"/[\w-]+(:\S*)?|/\?")  # a path is none, nor is what begins with a blank, nor many lines
_PASSING = frozenset({"network", "broken_stream", "overloaded", "rate", "server"})


class Prompt(Protocol):
    """Where lines come from."""

    async def next_line(self) -> str | None:
        """The next line that was sent, None where the person wants to leave."""
        ...

    def echo(self, line: str) -> None:
        """Show the line as part of the conversation."""
        ...

    def work(self, on: bool) -> None:
        """Whether something is being done; a line that is sent meanwhile waits."""
        ...

    def draft(self, text: str) -> None:
        """Put text before what is typed so far."""
        ...

    def take_back(self) -> None:
        """Put what was sent and not yet taken back into the line."""
        ...


async def repl(room: Room, prompt: Prompt, *, done: Callable[[float], Awaitable[None]]) -> None:
    """Talk until /exit or Ctrl-D. Errors are shown and the chat goes on.

    ``done`` is told after each line how many seconds it took.
    """
    warming = asyncio.create_task(_warm(room))
    try:
        while not room.leaving:
            line = await prompt.next_line()
            if line is None:
                return
            if not line.strip():
                room.editing = None
                continue
            prompt.echo(line)
            prompt.work(True)
            began = time.monotonic()
            try:
                if not await _interruptible(room, line):
                    prompt.take_back()
            finally:
                prompt.work(False)
            prompt.draft(room.take_draft())
            await done(time.monotonic() - began)
    finally:
        warming.cancel()
        await asyncio.gather(warming, return_exceptions=True)


async def _warm(room: Room) -> None:
    """Learn the tools of servers that nothing knows yet, while the first line is typed; failures show by themselves."""
    try:
        await room.toolbox.tools()
    except McpChatError as error:
        _show(room, error)


async def _interruptible(room: Room, line: str) -> bool:
    """Do what the line says; False where that was cancelled."""
    task: asyncio.Task[object] = asyncio.create_task(_do(room, line))
    with cancelled_by(task, (signal.SIGINT,)) as caught:
        try:
            await task
        except asyncio.CancelledError:
            if not caught:
                raise  # the whole program is ending
            room.say("  cancelled", "yellow")
            return False
        except McpChatError as error:
            _show(room, error)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not take the conversation with it
            room.say(f"error: internal error: {type(error).__name__}: {error}", "red")
    return True


async def _do(room: Room, line: str) -> None:
    if _COMMAND.fullmatch(line.strip().partition(" ")[0]) and "\n" not in line and not line.startswith(" "):
        room.editing = None
        await commands.run(room, line)
    else:
        await room.talk(line)


def _show(room: Room, error: McpChatError) -> None:
    room.say(f"error: {error.message}", "red")
    if isinstance(error, ModelError) and error.kind in _PASSING:
        room.say("  /retry asks again", "dim")
    elif error.hint:
        room.say(f"  {error.hint}", "dim")
