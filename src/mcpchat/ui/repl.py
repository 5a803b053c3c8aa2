"""The chat: read a line, send it or run its command, and again."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
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
from mcpchat.core.templates import variables
from mcpchat.ui import commands, keyboard
from mcpchat.ui.complete import asked_value, suggest
from mcpchat.ui.interrupt import cancelled_by
from mcpchat.ui.room import Room
from mcpchat.ui.transcripts import when

_LONGEST_HELP = 80
_MOST_THREADS = 100
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
        key_bindings=_keys(room),
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
                        draft = room.take_draft() + typed_ahead()
                        line = await prompt.prompt_async(ANSI("\x1b[1m> \x1b[0m"), default=draft)
                except KeyboardInterrupt:
                    room.editing = None
                    presses += 1
                    if presses == 1:
                        room.say("  Ctrl-C again, or Ctrl-D, leaves", "dim")
                    continue
                except EOFError:
                    return
                presses = 0
                if not line.strip():
                    room.editing = None
                else:
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


def _keys(room: Room) -> KeyBindings:
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
            room.editing = None
        else:
            event.app.exit(exception=KeyboardInterrupt())

    return keys


class _Commands(Completer):
    def __init__(self, room: Room) -> None:
        self._room = room

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        line = document.text_before_cursor
        command = line.partition(" ")[0]
        found = suggest(
            line, commands.help_by_name(), {command: self._values(command, line)}, self._room.servers.catalogs()
        )
        for one in found:
            yield Completion(
                clean(one.text), start_position=-one.replaces, display_meta=one_line(one.help, _LONGEST_HELP)
            )

    def _values(self, command: str, line: str) -> Mapping[str, str]:
        """What the command takes, each with what it is."""
        room = self._room
        match command:
            case "/tools" | "/resources" | "/prompts" | "/logs":
                return {status.name: status.state for status in room.servers.status()}
            case "/model":
                return dict.fromkeys((*room.models.tables, *room.known_models, "demo", room.session.model.name), "")
            case "/login":
                return dict.fromkeys(room.logins.login_names(), "")
            case "/agent":
                return room.agents.agents
            case "/threads" | "/resume":
                return self._threads()
            case "/template":
                return _of_templates(room, line)
            case _:
                return {}

    def _threads(self) -> Mapping[str, str]:
        try:
            known = self._room.threads.recent()[:_MOST_THREADS]
        except McpChatError:
            return {}
        return {thread.short_id: f"{when(thread.updated)}  {thread.title}" for thread in known}

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


def _of_templates(room: Room, line: str) -> Mapping[str, str]:
    """The names of templates; after a name, the variables of that one."""
    name, space, typed = line.partition(" ")[2].partition(" ")
    if not space:
        return dict.fromkeys(room.templates.templates(), "")
    try:
        takes = variables(room.templates.template(name))
    except McpChatError:
        return {}
    before = typed.rpartition(" ")[0]
    given = {word.partition("=")[0] for word in before.split()}
    begun = f"{name} {before} " if before else f"{name} "
    return {f"{begun}{one.name}=": one.default or "" for one in takes if one.name not in given}
