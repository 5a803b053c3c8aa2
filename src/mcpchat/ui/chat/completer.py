"""The prompt's completer: suggestions from the known names, and values that servers suggest."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from mcpchat.errors import McpChatError
from mcpchat.ui.chat import commands
from mcpchat.ui.chat.argument_completions import complete_path
from mcpchat.ui.chat.completion import prompt_value_at_cursor, suggest
from mcpchat.ui.chat.context import CommandContext
from mcpchat.util.sanitize import one_line, sanitize

_MAX_HELP_LENGTH = 80
_COMPLETION_TIMEOUT = 3.0  # seconds, for a server's suggestions


class ChatCompleter(Completer):
    """Completes slash commands and their arguments, server prompts, templates, and files and resources after an @."""

    def __init__(self, find_context: Callable[[], CommandContext | None]) -> None:
        """``find_context`` returns None until the chat has started."""
        self._find_context = find_context

    @property
    def _context(self) -> CommandContext:
        context = self._find_context()
        assert context is not None
        return context

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        if self._find_context() is None:
            return
        context, line = self._context, document.text_before_cursor
        name, space, typed = line.partition(" ")
        values = {name: commands.complete_argument(context, name, typed)} if name.startswith("/") and space else {}
        names = {**commands.help_by_name(), **commands.complete_templates(context)} if line.startswith("/") else {}
        for suggestion in suggest(line, names, values, context.servers.catalogs(), complete_path):
            yield Completion(
                sanitize(suggestion.text),
                start_position=-suggestion.replaces,
                display_meta=one_line(suggestion.help, _MAX_HELP_LENGTH),
            )

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
            return  # no suggestions; the user can type the value
        for value in values:
            yield Completion(sanitize(value), start_position=-len(typed))
