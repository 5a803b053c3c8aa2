"""A prompt that picks a thread by a few letters of its title."""

from collections.abc import Iterable, Sequence

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from mcpchat.core.threads import Thread
from mcpchat.errors import UsageError
from mcpchat.ui.chat.completion import is_subsequence
from mcpchat.ui.render.transcripts import format_time
from mcpchat.util.sanitize import one_line

_MAX_SHOWN = 50
_MIN_ID_LENGTH = 4
_CANCELLED = "\x1b"


async def pick_thread(threads: Sequence[Thread]) -> str | None:
    """Let the user pick a thread. Returns its id; None if the user cancels.

    Raises UsageError if no thread matches the typed text.
    """
    bindings = KeyBindings()

    @bindings.add("escape", eager=True)
    @bindings.add("c-c")
    @bindings.add("c-d")
    def cancel(event: KeyPressEvent) -> None:
        event.app.exit(result=_CANCELLED)

    prompt: PromptSession[str] = PromptSession(
        completer=_ThreadCompleter(threads),
        complete_while_typing=True,
        key_bindings=bindings,
        reserve_space_for_menu=10,
    )
    typed = await prompt.prompt_async(
        "  which? ",
        pre_run=lambda: get_app().current_buffer.start_completion(select_first=False),
    )
    if typed == _CANCELLED or not typed.strip():
        return None
    matches = match_threads(typed, threads)
    if not matches:
        raise UsageError(f"no conversation matches {typed.strip()!r}")
    return matches[0].id


class _ThreadCompleter(Completer):
    def __init__(self, threads: Sequence[Thread]) -> None:
        self._threads = threads

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        typed = document.text_before_cursor
        for thread in match_threads(typed.strip(), self._threads)[:_MAX_SHOWN]:
            details = " · ".join(
                filter(None, (format_time(thread.updated), one_line(thread.agent, 20), thread.short_id))
            )
            title = one_line(thread.title, 60) or "(untitled)"
            yield Completion(thread.short_id, start_position=-len(typed), display=title, display_meta=details)


def match_threads(typed: str, threads: Sequence[Thread]) -> list[Thread]:
    """The threads whose id begins with ``typed``, or whose title contains all its words, or its letters in order.

    Better matches come first; equal matches keep the order of ``threads``.
    """
    words = typed.lower().split()
    ranked: list[tuple[int, int, Thread]] = []
    for index, thread in enumerate(threads):
        title = thread.title.lower()
        if len(typed.strip()) >= _MIN_ID_LENGTH and thread.id.startswith(typed.strip().lower()):
            ranked.append((0, index, thread))
        elif all(word in title for word in words):
            ranked.append((1, index, thread))
        elif is_subsequence("".join(words), title):
            ranked.append((2, index, thread))
    return [thread for _, _, thread in sorted(ranked, key=lambda item: item[:2])]
