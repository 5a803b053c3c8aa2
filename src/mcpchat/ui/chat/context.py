"""What the slash commands work on: the session, and the people's side of it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace
from rich.console import Console
from rich.text import Text

from mcpchat.core.events import TurnFinished
from mcpchat.core.messages import Message, Part
from mcpchat.core.messages import Text as Words
from mcpchat.core.protocols import Servers, Toolbox
from mcpchat.core.threads import Node, Thread
from mcpchat.engine import outcomes
from mcpchat.engine.mentions import file_mentions, mentions, with_resources
from mcpchat.engine.session import Session
from mcpchat.ui.terminal import external
from mcpchat.ui.terminal.screen import Hanging
from mcpchat.util.sanitize import clean


class Models(Protocol):
    """The models that can be switched to."""

    @property
    def tables(self) -> Sequence[str]:
        """The names of the config's own."""
        ...

    async def switch(self, name: str) -> None:
        """Go on with this one. Raises NoModel, ConfigError."""
        ...

    async def offered(self) -> Sequence[str]:
        """What the server in use lists. Raises ModelError, NoModel, ConfigError."""
        ...


class Logins(Protocol):
    """What can be signed in to."""

    def login_names(self) -> Sequence[str]: ...

    async def login(self, name: str) -> None:
        """Have the person sign in. Raises what can go wrong."""
        ...


class Agents(Protocol):
    """The agents that can be talked to."""

    @property
    def agents(self) -> Mapping[str, str]:
        """Their names, each with what it is for."""
        ...

    async def switch_agent(self, name: str | None) -> None:
        """Go on with this one. Raises UsageError, ConfigError, NoModel."""
        ...


class Threads(Protocol):
    """The conversations that are kept. Everything raises UsageError where none are, and StoreError."""

    def recent(self) -> Sequence[Thread]:
        """The latest, the newest first."""
        ...

    async def resume(self, name: str) -> None:
        """Go on with one of them, by its id or title."""
        ...

    def nodes(self) -> Sequence[Node]:
        """All messages of the thread in use, of whatever branch."""
        ...

    def go_to(self, number: int) -> None:
        """Go on after this message."""
        ...

    def fork(self, title: str = "") -> Thread:
        """Go on in a new thread that begins as this one, perhaps under a title of its own."""
        ...

    def rename(self, title: str) -> None: ...

    async def name_thread(self) -> None:
        """Have the model name it, where that is wanted."""
        ...


class Templates(Protocol):
    """The person's prompt templates."""

    def templates(self) -> Sequence[str]:
        """Their names."""
        ...

    def template(self, name: str) -> str:
        """The text of one. Raises UsageError."""
        ...

    def values(self) -> Mapping[str, str]:
        """What they can name without being told."""
        ...


@dataclass
class Room:
    """What a command can work on.

    ``leaving`` ends the chat; ``attached`` goes with the next message; ``redact`` takes secrets out of what is said.
    ``draft`` is what the next line begins as; ``editing`` the place of the message that it will stand for.
    ``alone`` gives the terminal to somebody else for a while, ``raw`` writes to it as it is; ``thoughts`` is the latest
    reasoning; a ``plain`` one has no keys; ``find_file`` says what names a file; what was ``pasted`` names none.
    """

    session: Session
    toolbox: Toolbox
    servers: Servers
    models: Models
    logins: Logins
    agents: Agents
    threads: Threads
    templates: Templates
    read_file: Callable[[str], Sequence[Part]]
    console: Console
    leaving: bool = False
    attached: list[Part] = field(default_factory=list)
    known_models: Sequence[str] = ()
    redact: Callable[[str], str] = str
    draft: str = ""
    editing: int | None = None
    behind: set["asyncio.Task[None]"] = field(default_factory=set)
    alone: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    raw: Callable[[str], None] = lambda text: None
    thoughts: Callable[[], str] = str
    find_file: Callable[[str], bool] = lambda name: False
    pasted: list[str] = field(default_factory=list)
    plain: bool = False

    def say(self, text: str, style: str = "") -> None:
        self.console.print(Hanging(Text(clean(self.redact(text)), style=style)))

    async def page(self, text: str) -> None:
        """Show a long text in the person's pager."""
        async with self.alone():
            await external.page(clean(self.redact(text)), lambda shown: self.console.print(Text(shown)))

    async def talk(self, line: str, *, files: bool = True) -> None:
        """Send what was typed, with the resources and ``files`` that it mentions, and what was attached."""
        place, self.editing = self.editing, None
        if place is not None and line == self.session.history[place].words and not self.attached:
            self.say("  nothing was changed", "dim")
            return
        if files:
            self._attach_mentioned(line)
        message = await with_resources(line, self.servers) if place is None else await self._edited(line, place)
        message = replace(message, parts=(*message.parts, *self.attached))
        self.attached.clear()
        if place is None:
            await self.send(message)
        else:
            self.tell(await self.session.edit(message, place))

    def _attach_mentioned(self, line: str) -> None:
        """Attach the files that were named with an @; what was pasted in may be anybody's text, and names none."""
        for name in file_mentions(line):
            if not self.find_file(name):
                continue
            if any(f"@{name}" in pasted for pasted in self.pasted):
                self.say(f"  @{name} was pasted in: it is not attached (/attach {name} does)", "yellow")
                continue
            self.attached += self.read_file(name)
            self.say(f"  {name} goes with it", "dim")
        self.pasted[:] = [pasted for pasted in self.pasted if pasted not in line]  # the others are still to be sent

    async def _edited(self, line: str, place: int) -> Message:
        """The message at this place in other words, with all that was attached to it."""
        before = self.session.history[place]
        known = self.servers.catalogs()
        if mentions(line, known) == mentions(before.words, known):
            return replace(before, parts=(Words(text=line), *before.parts[1:]))
        message = await with_resources(line, self.servers)
        return replace(message, parts=(*message.parts, *(p for p in before.parts if not isinstance(p, Words))))

    async def send(self, *messages: Message) -> None:
        """Send the messages, and say how the turn ended where it did not end well."""
        self.tell(await self.session.send(*messages))
        naming = asyncio.create_task(self.threads.name_thread())
        self.behind.add(naming)
        naming.add_done_callback(self.behind.discard)

    def let_go(self) -> None:
        """Another conversation: what was attached and begun for this one is not for that."""
        if self.attached:
            self.say("  what was attached is attached no more", "dim")
        self.attached.clear()
        self.draft, self.editing = "", None

    def take_draft(self) -> str:
        draft, self.draft = self.draft, ""
        return draft

    def tell(self, finished: TurnFinished) -> None:
        if told := outcomes.told(finished.stop, self.session.run_total):
            self.say(f"  {told}" + ('; say "go on" for the rest' if finished.stop == "length" else ""), "yellow")
