"""Choosing a thread from many by a few letters of its title."""

from collections.abc import Iterable, Sequence

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from mcpchat.core.threads import Thread
from mcpchat.errors import UsageError
from mcpchat.ui.render.transcripts import when
from mcpchat.util.sanitize import one_line

_MOST = 50
_ID_FROM = 4
_NONE = "\x1b"


async def pick(threads: Sequence[Thread]) -> str | None:
    """The id of the thread that the person chose; None where they chose none.

    Raises UsageError where none is like what they typed.
    """
    keys = KeyBindings()

    @keys.add("escape", eager=True)
    @keys.add("c-c")
    @keys.add("c-d")
    def leave(event: KeyPressEvent) -> None:
        event.app.exit(result=_NONE)

    prompt: PromptSession[str] = PromptSession(
        completer=_Titles(threads), complete_while_typing=True, key_bindings=keys, reserve_space_for_menu=10
    )
    typed = await prompt.prompt_async(
        "  which? ",
        pre_run=lambda: get_app().current_buffer.start_completion(select_first=False),
    )
    if typed == _NONE or not typed.strip():
        return None
    found = fuzzy(typed, threads)
    if not found:
        raise UsageError(f"no conversation is like {typed.strip()!r}")
    return found[0].id


class _Titles(Completer):
    def __init__(self, threads: Sequence[Thread]) -> None:
        self._threads = threads

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        typed = document.text_before_cursor
        for thread in fuzzy(typed.strip(), self._threads)[:_MOST]:
            about = " · ".join(filter(None, (when(thread.updated), one_line(thread.agent, 20), thread.short_id)))
            title = one_line(thread.title, 60) or "(untitled)"
            yield Completion(thread.short_id, start_position=-len(typed), display=title, display_meta=about)


def fuzzy(typed: str, threads: Sequence[Thread]) -> list[Thread]:
    """The threads whose id begins so, or whose titles have all of these words, or all of these letters in order.

    The better match comes first, and of equal ones the later thread.
    """
    words = typed.lower().split()
    ranked: list[tuple[int, int, Thread]] = []
    for place, thread in enumerate(threads):
        title = thread.title.lower()
        if len(typed.strip()) >= _ID_FROM and thread.id.startswith(typed.strip().lower()):
            ranked.append((0, place, thread))
        elif all(word in title for word in words):
            ranked.append((1, place, thread))
        elif _in_order("".join(words), title):
            ranked.append((2, place, thread))
    return [thread for _, _, thread in sorted(ranked, key=lambda one: one[:2])]


def _in_order(letters: str, title: str) -> bool:
    rest = iter(title)
    return all(letter in rest for letter in letters)
