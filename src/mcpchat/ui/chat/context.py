"""The context of the slash commands: the session, the servers, the terminal, and the controls of the chat."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
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
from mcpchat.core.server_task import TaskEnded
from mcpchat.core.threads import Thread, ThreadMessage
from mcpchat.core.tools import ToolSpec
from mcpchat.engine import outcomes
from mcpchat.engine.mentions import attach_resources, find_file_mentions, find_mentions, is_pasted, keep_pasted
from mcpchat.engine.session import Session
from mcpchat.ui.terminal import external
from mcpchat.ui.terminal.screen import HangingIndent
from mcpchat.util.sanitize import one_line, sanitize


class ChatControls(Protocol):
    """What the slash commands can change or ask about the running chat: models, sign-in, agents, threads, templates.

    The thread methods raise UsageError if threads are not saved, and StoreError if the database fails.
    """

    @property
    def configured_models(self) -> Sequence[str]:
        """The names of the models in the config."""
        ...

    async def switch_model(self, name: str) -> None:
        """Use another model from now on. Raises NoModelConfigured, ConfigError."""
        ...

    async def list_models(self) -> Sequence[str]:
        """The models that the current endpoint lists. Raises ModelError, NoModelConfigured, ConfigError."""
        ...

    def login_names(self) -> Sequence[str]:
        """The names of the accounts and servers that the user can sign in to."""
        ...

    async def login(self, name: str) -> None:
        """Sign in to an account or a server. Raises McpChatError if that fails."""
        ...

    @property
    def agents(self) -> Mapping[str, str]:
        """The descriptions of the agents, by name."""
        ...

    async def switch_agent(self, name: str | None) -> None:
        """Use another agent from now on; None is no agent. Raises UsageError, ConfigError, NoModelConfigured."""
        ...

    async def use_changed_config(self) -> None:
        """Use what has changed in the config's files, if anything has. A fault in them is told, and changes nothing."""
        ...

    async def add_server(self, words: Sequence[str]) -> Sequence[str]:
        """Write the servers that the words name into the config, and use them. Returns their names.

        Raises UsageError, ConfigError.
        """
        ...

    async def remove_server(self, name: str) -> None:
        """Remove a server from the config, and stop it. Raises UsageError, ConfigError."""
        ...

    def recent_threads(self) -> Sequence[Thread]:
        """The saved threads, newest first."""
        ...

    async def resume_thread(self, name: str) -> None:
        """Continue another thread, given by its id or title."""
        ...

    def thread_messages(self) -> Sequence[ThreadMessage]:
        """All messages of the current thread, on every branch."""
        ...

    def checkout(self, number: int) -> None:
        """Continue the current thread after the message with this number."""
        ...

    def fork_thread(self, title: str = "") -> Thread:
        """Continue in a copy of the current thread, with a new title if one is given."""
        ...

    def rename_thread(self, title: str) -> None: ...

    async def name_thread(self) -> None:
        """Let the model choose the thread's title, if the config asks for it."""
        ...

    def list_approvals(self) -> Sequence[tuple[str, str]]:
        """The tools that the user allowed for this session or always, each with since when. Raises StoreError."""
        ...

    def revoke_approvals(self, glob: str) -> Sequence[str]:
        """Ask again about the tools that match the glob. Returns their names. Raises StoreError."""
        ...

    def pinned_on(self, spec: ToolSpec) -> str:
        """Since when the tool's definition is pinned, YYYY-MM-DD; empty if it is not, or not known."""
        ...

    async def search_tools(self, words: str) -> Sequence[ToolSpec]:
        """The tools on offer that the words are about, the best first."""
        ...

    async def next_ended_task(self) -> TaskEnded:
        """Wait for the next task that was put aside to end."""
        ...

    def take_late_result(self, ended: TaskEnded) -> Message | None:
        """The message with the task's result; None if its call is in another conversation: then the result waits."""
        ...

    def take_waiting_result(self) -> TaskEnded | None:
        """A result that has waited for the conversation that is open now, if there is one."""
        ...

    def describe_open_tasks(self) -> Sequence[str]:
        """A line about each task that was put aside and has not ended."""
        ...

    def describe_trust(self) -> str:
        """Whether there is a project file for this folder, and whether it is in use."""
        ...

    def template_names(self) -> Sequence[str]:
        """The names of the user's prompt templates."""
        ...

    def read_template(self, name: str) -> str:
        """The text of a template. Raises UsageError."""
        ...

    def template_variables(self) -> Mapping[str, str]:
        """The values of the built-in template variables, by name."""
        ...


@dataclass
class CommandContext:
    """The state that slash commands read and change.

    ``exit_requested`` ends the chat. ``attachments`` are sent with the next message. ``redact`` removes secrets from
    printed text. ``draft`` is put into the input line next. ``editing_index`` is the index in the history of the
    message that the next line replaces. ``exclusive_terminal`` gives the terminal to another program while inside,
    ``ask_yes_no`` asks the user, and ``write_raw`` writes escape sequences to the terminal. ``latest_reasoning``
    returns the model's latest reasoning. ``plain`` is true on a terminal without single keys (line mode). ``is_file``
    tells whether a name is a file's. ``pastes`` are the texts that were pasted into the input line; a mention in them
    attaches nothing. ``shell_lines`` are lines that the user typed as shell commands, not handled
    yet, and ``shell_output`` is the output of the latest one.
    """

    session: Session
    toolbox: Toolbox
    servers: ServerDirectory
    chat: ChatControls
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
    ask_yes_no: Callable[[str], Awaitable[bool]] | None = None
    write_raw: Callable[[str], None] = lambda text: None
    latest_reasoning: Callable[[], str] = str
    is_file: Callable[[str], bool] = lambda name: False
    pastes: list[str] = field(default_factory=list)
    plain: bool = False
    shell_lines: list[str] = field(default_factory=list)
    shell_output: str = ""

    def print(self, text: str, style: str = "") -> None:
        self.console.print(HangingIndent(Text(sanitize(self.redact(text)), style=style)))

    async def show_in_pager(self, text: str) -> None:
        """Show a long text in the user's pager."""
        async with self.exclusive_terminal():
            await external.show_in_pager(sanitize(self.redact(text)), lambda line: self.console.print(Text(line)))

    async def send_text(self, text: str, *, attach_files: bool = True) -> None:
        """Send text as a user message, with the resources (and with ``attach_files`` the files) that it mentions.

        ``attachments`` are sent too. If a message is being edited, this one replaces it.
        """
        index, self.editing_index = self.editing_index, None
        if index is not None and text == self.session.history[index].user_text and not self.attachments:
            self.print("  nothing was changed", "dim")
            return
        if attach_files:
            if not await self._confirm_unknown_files(text):
                self.draft, self.editing_index = text, index
                return
            self._attach_mentioned_files(text)
        message = (
            await attach_resources(
                text, self.servers, is_allowed=self._may_attach if attach_files else lambda name: True
            )
            if index is None
            else await self._revise_message(text, index)
        )
        self.pastes[:] = keep_pasted(self.pastes, text)
        message = replace(message, parts=(*message.parts, *self.attachments))
        self.attachments.clear()
        if index is None:
            await self.send(message)
        else:
            self.report_outcome(await self.session.edit(message, index))

    async def _confirm_unknown_files(self, text: str) -> bool:
        """Ask before a mention of a file that does not exist is sent as text. Returns whether to send."""
        for name in find_file_mentions(text):
            is_mention = bool(find_mentions(text, self.servers.catalogs())) and ":" in name
            if self.ask_yes_no is None or is_mention or is_pasted(f"@{name}", self.pastes):
                continue
            if _looks_like_file(name) and not self.is_file(name):
                return await self.ask_yes_no(f"  there is no file {one_line(name, 200)}; send it as text?")
        return True

    def _attach_mentioned_files(self, text: str) -> None:
        """Attach the files that the text names with an @."""
        for name in find_file_mentions(text):
            mention = f'@"{name}"' if f'@"{name}"' in text else f"@{name}"
            if self.is_file(name) and self._may_attach(mention):
                self.attachments += self.read_file(name)
                self.print(f"  attached {name}", "dim")

    def _may_attach(self, mention: str) -> bool:
        """Whether the user typed the mention; if not, print why. Pasted text may come from anyone."""
        name = mention.removeprefix("@").strip('"')
        if self.plain:  # without single keys, a paste cannot be told from typing
            self.print(f"  {mention} is not attached, because it may be pasted (/attach {name} attaches it)", "yellow")
        elif is_pasted(mention, self.pastes):
            self.print(f"  {mention} was pasted in: it is not attached (/attach {name} attaches it)", "yellow")
        else:
            return True
        return False

    async def _revise_message(self, text: str, index: int) -> Message:
        """The message at this index with new text and its old attachments.

        Its resources are read again only if the mentions changed.
        """
        original = self.session.history[index]
        catalogs = self.servers.catalogs()
        if find_mentions(text, catalogs) == find_mentions(original.user_text, catalogs):
            return replace(original, parts=(TextPart(text=text), *original.parts[1:]))
        message = await attach_resources(text, self.servers, is_allowed=self._may_attach)
        return replace(message, parts=(*message.parts, *(p for p in original.parts if not isinstance(p, TextPart))))

    async def send(self, *messages: Message) -> None:
        """Send the messages, report an incomplete turn, and name the thread in the background."""
        self.report_outcome(await self.session.send(*messages))
        naming_task = asyncio.create_task(self.chat.name_thread())
        self.background.add(naming_task)
        naming_task.add_done_callback(self.background.discard)

    def reset_pending(self) -> None:
        """Drop the attachments and the draft, because the conversation is another one now."""
        if self.attachments:
            self.print("  attachments removed", "dim")
        self.attachments.clear()
        self.draft, self.editing_index = "", None

    def take_draft(self) -> str:
        draft, self.draft = self.draft, ""
        return draft

    def report_outcome(self, event: TurnFinished) -> None:
        if message := outcomes.describe_stop(event.stop, self.session.run_usage):
            self.print(
                f"  {message}" + ('; say "go on" for the rest' if event.stop in {"length", "window"} else ""), "yellow"
            )


def _looks_like_file(name: str) -> bool:
    """Whether a word after an @ is meant as a file: it has a folder or an ending, unlike a name."""
    return "/" in name or re.search(r"\.[A-Za-z][A-Za-z0-9]{0,4}$", name) is not None
