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
from mcpchat.core.messages import Text as TextPart
from mcpchat.core.protocols import ServerDirectory, Toolbox
from mcpchat.core.threads import Thread, ThreadMessage
from mcpchat.engine import outcomes
from mcpchat.engine.mentions import attach_resources, find_file_mentions, find_mentions
from mcpchat.engine.session import Session
from mcpchat.ui.terminal import external
from mcpchat.ui.terminal.screen import HangingIndent
from mcpchat.util.sanitize import sanitize


class Models(Protocol):
    """The models that can be switched to."""

    @property
    def configured_models(self) -> Sequence[str]:
        """The names of the config's own."""
        ...

    async def switch_model(self, name: str) -> None:
        """Go on with this one. Raises NoModel, ConfigError."""
        ...

    async def list_models(self) -> Sequence[str]:
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

    def recent_threads(self) -> Sequence[Thread]:
        """The latest, the newest first."""
        ...

    async def resume_thread(self, name: str) -> None:
        """Go on with one of them, by its id or title."""
        ...

    def thread_messages(self) -> Sequence[ThreadMessage]:
        """All messages of the thread in use, of whatever branch."""
        ...

    def checkout(self, number: int) -> None:
        """Go on after this message."""
        ...

    def fork_thread(self, title: str = "") -> Thread:
        """Go on in a new thread that begins as this one, perhaps under a title of its own."""
        ...

    def rename_thread(self, title: str) -> None: ...

    async def name_thread(self) -> None:
        """Have the model name it, where that is wanted."""
        ...


class Templates(Protocol):
    """The person's prompt templates."""

    def template_names(self) -> Sequence[str]:
        """Their names."""
        ...

    def read_template(self, name: str) -> str:
        """The text of one. Raises UsageError."""
        ...

    def template_variables(self) -> Mapping[str, str]:
        """What they can name without being told."""
        ...


@dataclass
class CommandContext:
    """What a command can work on.

    ``leaving`` ends the chat; ``attached`` goes with the next message; ``redact`` takes secrets out of what is said.
    ``draft`` is what the next line begins as; ``editing`` the place of the message that it will stand for.
    ``alone`` gives the terminal to somebody else for a while, ``raw`` writes to it as it is; ``thoughts`` is the latest
    reasoning; a ``plain`` one has no keys; ``find_file`` says what names a file; what was ``pasted`` names none.
    """

    session: Session
    toolbox: Toolbox
    servers: ServerDirectory
    models: Models
    logins: Logins
    agents: Agents
    threads: Threads
    templates: Templates
    read_file: Callable[[str], Sequence[Part]]
    console: Console
    exit_requested: bool = False
    attachments: list[Part] = field(default_factory=list)
    known_models: Sequence[str] = ()
    redact: Callable[[str], str] = str
    draft: str = ""
    editing_index: int | None = None
    background: set["asyncio.Task[None]"] = field(default_factory=set)
    exclusive_terminal: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    write_raw: Callable[[str], None] = lambda text: None
    latest_reasoning: Callable[[], str] = str
    is_file: Callable[[str], bool] = lambda name: False
    pastes: list[str] = field(default_factory=list)
    plain: bool = False

    def print(self, text: str, style: str = "") -> None:
        self.console.print(HangingIndent(Text(sanitize(self.redact(text)), style=style)))

    async def show_in_pager(self, text: str) -> None:
        """Show a long text in the person's pager."""
        async with self.exclusive_terminal():
            await external.show_in_pager(sanitize(self.redact(text)), lambda line: self.console.print(Text(line)))

    async def send_text(self, text: str, *, attach_files: bool = True) -> None:
        """Send what was typed, with the resources and ``files`` that it mentions, and what was attached."""
        index, self.editing_index = self.editing_index, None
        if index is not None and text == self.session.history[index].user_text and not self.attachments:
            self.print("  nothing was changed", "dim")
            return
        if attach_files:
            self._attach_mentioned_files(text)
        message = (
            await attach_resources(text, self.servers) if index is None else await self._revise_message(text, index)
        )
        message = replace(message, parts=(*message.parts, *self.attachments))
        self.attachments.clear()
        if index is None:
            await self.send(message)
        else:
            self.report_outcome(await self.session.edit(message, index))

    def _attach_mentioned_files(self, text: str) -> None:
        """Attach the files that were named with an @; what was pasted in may be anybody's text, and names none."""
        for name in find_file_mentions(text):
            if not self.is_file(name):
                continue
            if any(f"@{name}" in paste for paste in self.pastes):
                self.print(f"  @{name} was pasted in: it is not attached (/attach {name} does)", "yellow")
                continue
            self.attachments += self.read_file(name)
            self.print(f"  {name} goes with it", "dim")
        self.pastes[:] = [paste for paste in self.pastes if paste not in text]  # the others are still to be sent

    async def _revise_message(self, text: str, index: int) -> Message:
        """The message at this place in other words, with all that was attached to it."""
        original = self.session.history[index]
        catalogs = self.servers.catalogs()
        if find_mentions(text, catalogs) == find_mentions(original.user_text, catalogs):
            return replace(original, parts=(TextPart(text=text), *original.parts[1:]))
        message = await attach_resources(text, self.servers)
        return replace(message, parts=(*message.parts, *(p for p in original.parts if not isinstance(p, TextPart))))

    async def send(self, *messages: Message) -> None:
        """Send the messages, and say how the turn ended where it did not end well."""
        self.report_outcome(await self.session.send(*messages))
        naming_task = asyncio.create_task(self.threads.name_thread())
        self.background.add(naming_task)
        naming_task.add_done_callback(self.background.discard)

    def reset_pending(self) -> None:
        """Another conversation: what was attached and begun for this one is not for that."""
        if self.attachments:
            self.print("  what was attached is attached no more", "dim")
        self.attachments.clear()
        self.draft, self.editing_index = "", None

    def take_draft(self) -> str:
        draft, self.draft = self.draft, ""
        return draft

    def report_outcome(self, event: TurnFinished) -> None:
        if message := outcomes.describe_stop(event.stop, self.session.run_usage):
            self.print(f"  {message}" + ('; say "go on" for the rest' if event.stop == "length" else ""), "yellow")
