"""Suggestions at the prompt, from what the room knows and what servers say."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterable
from pathlib import Path

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from mcpchat.core.templates import find_variables
from mcpchat.errors import McpChatError
from mcpchat.ui.chat import commands
from mcpchat.ui.chat.completion import prompt_value_at_cursor, suggest
from mcpchat.ui.chat.context import CommandContext
from mcpchat.ui.chat.thread_commands import THREAD_ACTIONS
from mcpchat.ui.render.transcripts import format_time
from mcpchat.util.sanitize import one_line, sanitize

_MAX_HELP_LENGTH = 80
_MAX_THREADS = 100
_MAX_FILES = 50
_MAX_SCANNED_ENTRIES = 2000  # entries of a folder
_COMPLETION_TIMEOUT = 3.0  # seconds, for a server's suggestions


class ChatCompleter(Completer):
    """Commands, and what each of them takes; server prompts, templates; files and resources after an @."""

    def __init__(self, find_context: Callable[[], CommandContext | None]) -> None:
        """``room`` gives None as long as there is none yet."""
        self._find_context = find_context

    @property
    def _context(self) -> CommandContext:
        context = self._find_context()
        assert context is not None
        return context

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        if self._find_context() is None:
            return
        line = document.text_before_cursor
        command = line.partition(" ")[0]
        values = {command: self._argument_completions(command, line)} if command.startswith("/") and " " in line else {}
        names = commands.help_by_name() | self._complete_templates() if line.startswith("/") else {}
        for suggestion in suggest(line, names, values, self._context.servers.catalogs(), complete_path):
            yield Completion(
                sanitize(suggestion.text),
                start_position=-suggestion.replaces,
                display_meta=one_line(suggestion.help, _MAX_HELP_LENGTH),
            )

    def _complete_templates(self) -> dict[str, str]:
        return {
            f"/{commands.TEMPLATE_PREFIX}:{name}": "a template of yours"
            for name in self._context.templates.template_names()
        }

    def _argument_completions(self, command: str, line: str) -> dict[str, str]:
        """What the command takes, each with what it is."""
        context = self._context
        servers: dict[str, str] = {status.name: status.state for status in context.servers.status()}
        match command:
            case "/tools":
                return servers | self._complete_tools()
            case "/servers":
                return servers | {"refresh": "ask every server anew, those that failed too"}
            case "/logs":
                return servers
            case "/model":
                model = context.session.model
                listed = dict.fromkeys(context.known_models, f"at {model.endpoint}")
                configured = dict.fromkeys(context.models.configured_models, "a table of the config")
                return listed | {model.name: "in use"} | configured | {"demo": "no language model: it shows the tools"}
            case "/login":
                return dict.fromkeys(context.logins.login_names(), "")
            case "/agent":
                return dict(context.agents.agents)
            case "/threads" | "/resume":
                return THREAD_ACTIONS | self._complete_threads()
            case "/copy":
                return {"code": "the last code block alone"}
            case "/attach":
                return dict.fromkeys(complete_path(line.partition(" ")[2]), "")
            case _ if command.startswith(f"/{commands.TEMPLATE_PREFIX}:"):
                return self._complete_variables(command.partition(":")[2], line.partition(" ")[2])
            case _:
                return {}

    def _complete_tools(self) -> dict[str, str]:
        catalogs = self._context.servers.catalogs().items()
        return {
            spec.qualified_name: spec.description or spec.title for _, catalog in catalogs for spec in catalog.tools
        }

    def _complete_threads(self) -> dict[str, str]:
        try:
            threads = self._context.threads.recent_threads()[:_MAX_THREADS]
        except McpChatError:
            return {}
        return {thread.short_id: f"{format_time(thread.updated)}  {thread.title}" for thread in threads}

    def _complete_variables(self, name: str, typed: str) -> dict[str, str]:
        """The variables of a template that have no value yet."""
        try:
            template_variables = find_variables(self._context.templates.read_template(name))
        except McpChatError:
            return {}
        previous = typed.rpartition(" ")[0]
        assigned = {token.partition("=")[0] for token in previous.split()}
        prefix = f"{previous} " if previous else ""
        return {
            f"{prefix}{variable.name}=": variable.default or ""
            for variable in template_variables
            if variable.name not in assigned
        }

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        if self._find_context() is None:
            return
        query = prompt_value_at_cursor(document.text_before_cursor, self._context.servers.catalogs())
        if query is None:
            for completion in self.get_completions(document, complete_event):
                yield completion
            return
        prompt, argument, typed, other_values = query
        try:
            async with asyncio.timeout(_COMPLETION_TIMEOUT):
                values = await self._context.servers.complete(prompt.server, prompt, argument, typed, other_values)
        except (McpChatError, TimeoutError):
            return  # a suggestion less; the line can be typed without
        for value in values:
            yield Completion(sanitize(value), start_position=-len(typed))


def complete_path(typed: str) -> list[str]:
    """The files and folders whose names begin so, folders with a slash; hidden ones only where a dot is typed."""
    directory, slash, prefix = typed.rpartition("/")
    matches = []
    try:
        path = Path(f"{directory}{slash}" or ".").expanduser()
        with os.scandir(path) as entries:
            for _, entry in zip(range(_MAX_SCANNED_ENTRIES), entries, strict=False):
                hidden = entry.name.startswith(".") and not prefix.startswith(".")
                if entry.name.casefold().startswith(prefix.casefold()) and not hidden and entry.name.isprintable():
                    matches.append(f"{directory}{slash}{entry.name}{'/' * entry.is_dir()}")
    except (OSError, ValueError, RuntimeError):  # no such folder, no such user
        return []
    return sorted(matches)[:_MAX_FILES]
