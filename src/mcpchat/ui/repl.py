"""The chat: read a line, send it or run its command, and again."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable, Iterable
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.patch_stdout import patch_stdout

from mcpchat.core.errors import McpChatError, ModelError
from mcpchat.core.sanitize import clean, one_line
from mcpchat.ui import commands, keyboard
from mcpchat.ui.commands import Room
from mcpchat.ui.complete import asked_value, suggest
from mcpchat.ui.interrupt import cancelled_by

_LONGEST_HELP = 80
_PASSING = frozenset({"network", "broken_stream", "overloaded", "rate", "server"})
_PATIENCE = 3.0  # seconds, for a server's suggestions


async def repl(room: Room, *, history_file: Path | None, typed_ahead: Callable[[], str]) -> None:
    """Talk until /exit or Ctrl-D. Errors are shown and the chat goes on.

    ``typed_ahead`` gives what was typed where it did not belong: the next line begins with it.
    """
    prompt: PromptSession[str] = PromptSession(
        history=FileHistory(str(history_file)) if history_file is not None else InMemoryHistory(),
        completer=_Commands(room),
        complete_while_typing=True,
        key_bindings=_keys(),
        multiline=True,
        prompt_continuation=lambda width, line, wrapped: " " * width,
    )
    warming = asyncio.create_task(_warm(room))
    presses = 0
    try:
        # Between two prompts nobody may be there to take the signal: there, Ctrl-C is a key for the next one.
        with keyboard.interrupts(False):
            while not room.leaving and presses < 2:
                try:
                    with patch_stdout(raw=True):
                        line = await prompt.prompt_async(ANSI("\x1b[1m> \x1b[0m"), default=typed_ahead())
                except KeyboardInterrupt:
                    presses += 1
                    if presses == 1:
                        room.say("  Ctrl-C again, or Ctrl-D, leaves", "dim")
                    continue
                except EOFError:
                    return
                presses = 0
                if line.strip():
                    with keyboard.interrupts(True):
                        await _interruptible(room, line)
    finally:
        warming.cancel()
        await asyncio.gather(warming, return_exceptions=True)


async def _warm(room: Room) -> None:
    """Learn the tools of servers that nothing knows yet, while the first line is typed; failures show by themselves."""
    try:
        await room.toolbox.tools()
    except McpChatError as error:
        _show(room, error)


async def _interruptible(room: Room, line: str) -> None:
    task: asyncio.Task[object] = asyncio.create_task(_do(room, line))
    with cancelled_by(task, (signal.SIGINT,)) as caught:
        try:
            await task
        except asyncio.CancelledError:
            if not caught:
                raise  # the whole program is ending
            room.say("  cancelled", "yellow")
        except McpChatError as error:
            _show(room, error)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not take the conversation with it
            room.say(f"error: mcpchat failed in a way it should not: {type(error).__name__}: {error}", "red")


async def _do(room: Room, line: str) -> None:
    if line.startswith("/"):
        await commands.run(room, line)
    else:
        await room.talk(line)


def _show(room: Room, error: McpChatError) -> None:
    room.say(f"error: {error.message}", "red")
    if isinstance(error, ModelError) and error.kind in _PASSING:
        room.say("  /retry asks again", "dim")
    elif error.hint:
        room.say(f"  {error.hint}", "dim")


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    @keys.add("c-j")
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-c")
    def clear_or_leave(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt())

    return keys


class _Commands(Completer):
    def __init__(self, room: Room) -> None:
        self._room = room

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        servers = self._room.servers
        names = [status.name for status in servers.status()]
        of_servers = dict.fromkeys(("/tools", "/resources", "/prompts", "/logs"), names)
        models = dict.fromkeys(
            (*self._room.models.tables, *self._room.known_models, "demo", self._room.session.model.name)
        )
        arguments = {**of_servers, "/model": list(models), "/login": list(self._room.logins.login_names())}
        found = suggest(document.text_before_cursor, commands.help_by_name(), arguments, servers.catalogs())
        for one in found:
            yield Completion(
                clean(one.text), start_position=-one.replaces, display_meta=one_line(one.help, _LONGEST_HELP)
            )

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        asked = asked_value(document.text_before_cursor, self._room.servers.catalogs())
        if asked is None:
            for found in self.get_completions(document, complete_event):
                yield found
            return
        prompt, argument, typed, given = asked
        try:
            async with asyncio.timeout(_PATIENCE):
                values = await self._room.servers.complete(prompt.server, prompt, argument, typed, given)
        except (McpChatError, TimeoutError):
            return  # a suggestion less; the line can be typed without
        for value in values:
            yield Completion(clean(value), start_position=-len(typed))
