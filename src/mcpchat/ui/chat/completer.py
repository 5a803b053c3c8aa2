"""Suggestions at the prompt, from what the room knows and what servers say."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterable
from pathlib import Path

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from mcpchat.core.templates import variables
from mcpchat.errors import McpChatError
from mcpchat.ui.chat import commands
from mcpchat.ui.chat.completion import asked_value, suggest
from mcpchat.ui.chat.context import Room
from mcpchat.ui.chat.thread_commands import OF_THIS
from mcpchat.ui.render.transcripts import when
from mcpchat.util.sanitize import clean, one_line

_LONGEST_HELP = 80
_MOST_THREADS = 100
_MOST_FILES = 50
_LOOKED_AT = 2000  # entries of a folder
_PATIENCE = 3.0  # seconds, for a server's suggestions


class RoomCompleter(Completer):
    """Commands, and what each of them takes; server prompts, templates; files and resources after an @."""

    def __init__(self, room: Callable[[], Room | None]) -> None:
        """``room`` gives None as long as there is none yet."""
        self._find_room = room

    @property
    def _room(self) -> Room:
        room = self._find_room()
        assert room is not None
        return room

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        if self._find_room() is None:
            return
        line = document.text_before_cursor
        command = line.partition(" ")[0]
        taken = {command: self._values(command, line)} if command.startswith("/") and " " in line else {}
        names = commands.help_by_name() | self._templates() if line.startswith("/") else {}
        for one in suggest(line, names, taken, self._room.servers.catalogs(), files):
            yield Completion(
                clean(one.text), start_position=-one.replaces, display_meta=one_line(one.help, _LONGEST_HELP)
            )

    def _templates(self) -> dict[str, str]:
        return {f"/{commands.TEMPLATES}:{name}": "a template of yours" for name in self._room.templates.templates()}

    def _values(self, command: str, line: str) -> dict[str, str]:
        """What the command takes, each with what it is."""
        room = self._room
        servers: dict[str, str] = {status.name: status.state for status in room.servers.status()}
        match command:
            case "/tools":
                return servers | self._tools()
            case "/servers":
                return servers | {"refresh": "ask every server anew, those that failed too"}
            case "/logs":
                return servers
            case "/model":
                here = room.session.model
                offered = dict.fromkeys(room.known_models, f"at {here.at}")
                tables = dict.fromkeys(room.models.tables, "a table of the config")
                return offered | {here.name: "in use"} | tables | {"demo": "no language model: it shows the tools"}
            case "/login":
                return dict.fromkeys(room.logins.login_names(), "")
            case "/agent":
                return dict(room.agents.agents)
            case "/threads" | "/resume":
                return OF_THIS | self._threads()
            case "/copy":
                return {"code": "the last code block alone"}
            case "/attach":
                return dict.fromkeys(files(line.partition(" ")[2]), "")
            case _ if command.startswith(f"/{commands.TEMPLATES}:"):
                return self._variables(command.partition(":")[2], line.partition(" ")[2])
            case _:
                return {}

    def _tools(self) -> dict[str, str]:
        known = self._room.servers.catalogs().items()
        return {spec.label: spec.description or spec.title for _, catalog in known for spec in catalog.tools}

    def _threads(self) -> dict[str, str]:
        try:
            known = self._room.threads.recent()[:_MOST_THREADS]
        except McpChatError:
            return {}
        return {thread.short_id: f"{when(thread.updated)}  {thread.title}" for thread in known}

    def _variables(self, name: str, typed: str) -> dict[str, str]:
        """The variables of a template that have no value yet."""
        try:
            takes = variables(self._room.templates.template(name))
        except McpChatError:
            return {}
        before = typed.rpartition(" ")[0]
        given = {word.partition("=")[0] for word in before.split()}
        begun = f"{before} " if before else ""
        return {f"{begun}{one.name}=": one.default or "" for one in takes if one.name not in given}

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        if self._find_room() is None:
            return
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


def files(typed: str) -> list[str]:
    """The files and folders whose names begin so, folders with a slash; hidden ones only where a dot is typed."""
    folder, slash, begun = typed.rpartition("/")
    found = []
    try:
        at = Path(f"{folder}{slash}" or ".").expanduser()
        with os.scandir(at) as entries:
            for _, entry in zip(range(_LOOKED_AT), entries, strict=False):
                hidden = entry.name.startswith(".") and not begun.startswith(".")
                if entry.name.casefold().startswith(begun.casefold()) and not hidden and entry.name.isprintable():
                    found.append(f"{folder}{slash}{entry.name}{'/' * entry.is_dir()}")
    except (OSError, ValueError, RuntimeError):  # no such folder, no such user
        return []
    return sorted(found)[:_MOST_FILES]
