"""Reads single keys and short lines for questions to the user."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, TextIO

from mcpchat.core.elicitation import ElicitationResult
from mcpchat.ui.prompts.choices import Choice, format_labels, format_menu
from mcpchat.ui.terminal import tty
from mcpchat.ui.terminal.glyphs import select_glyphs
from mcpchat.ui.terminal.typed_ahead import TypedAhead

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.document import Document
    from prompt_toolkit.formatted_text import AnyFormattedText
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
    from prompt_toolkit.validation import Validator

QUIET_SECONDS = 0.4  # seconds without a key before a question accepts one
POLL_INTERVAL = 0.05  # seconds
_DECLINED, _CANCELLED = "\0declined", "\0cancelled"  # cannot be typed


class KeyInput(Protocol):
    """The user's input for questions."""

    hint: str  # how to accept the default of a line, and how to decline

    def hold_input(self) -> AbstractContextManager[None]:
        """While inside, keep keys typed between two prompts for the next prompt."""
        ...

    async def wait_until_idle(self) -> None:
        """Wait until no key was typed for a moment, so that a user who is typing text does not answer the question."""
        ...

    async def read_key(self, prompt: str, keys: str, *, allow_enter: bool = False) -> str:
        """Read one of the keys; "escape" for Escape and Ctrl-D, "cancel" for Ctrl-C, "enter" if ``allow_enter``."""
        ...

    async def choose(self, choices: Sequence[Choice], *, columns: int, rows: int) -> str:
        """Let the user choose. Returns the choice's key; "escape" and "cancel" as ``read_key``.

        ``columns`` and ``rows`` are the space for the choices.
        """
        ...

    async def read_line(
        self, prompt: str, default: str, find_problem: Callable[[str], str] | None = None
    ) -> str | ElicitationResult:
        """Read a line for which ``find_problem`` returns no message. Escape and Ctrl-D decline, Ctrl-C cancels."""
        ...

    def take_typed_ahead(self) -> TypedAhead:
        """Return and forget the text typed before the question; it belongs to the chat's input line."""
        ...


class TerminalKeyInput:
    """Reads single key presses and editable lines; prompts are drawn on ``out``."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._typed_ahead = TypedAhead()

    hint = "Enter accepts the value, Esc declines"

    def hold_input(self) -> AbstractContextManager[None]:
        return tty.hold_input()

    def take_typed_ahead(self) -> TypedAhead:
        self._collect_typed_ahead()  # including keys that arrived together with the answer
        typed_ahead, self._typed_ahead = self._typed_ahead, TypedAhead()
        return typed_ahead

    async def wait_until_idle(self) -> None:
        with tty.hold_input():
            remaining = QUIET_SECONDS
            while remaining > 0:
                remaining = QUIET_SECONDS if self._collect_typed_ahead() else remaining - POLL_INTERVAL
                await asyncio.sleep(POLL_INTERVAL)

    def _collect_typed_ahead(self) -> bool:
        """Collect keys that were typed before the question. Returns whether there were any."""
        from prompt_toolkit.input import create_input
        from prompt_toolkit.input.typeahead import get_typeahead

        presses = get_typeahead(create_input())
        for press in presses:
            self._typed_ahead.add(press.key, press.data)
        return self._typed_ahead.feed(tty.read_typed_ahead()) or bool(presses)

    async def read_line(
        self, prompt: str, default: str, find_problem: Callable[[str], str] | None = None
    ) -> str | ElicitationResult:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.key_binding import KeyBindings
        from prompt_toolkit.output import create_output

        bindings = KeyBindings()

        @bindings.add("enter")
        @bindings.add("c-j")  # an Enter that was typed before the prompt appeared
        def send(event: "KeyPressEvent") -> None:
            event.current_buffer.validate_and_handle()

        @bindings.add("escape", "enter")
        def new_line(event: "KeyPressEvent") -> None:
            event.current_buffer.insert_text("\n")

        @bindings.add("escape")
        @bindings.add("c-d")
        def decline(event: "KeyPressEvent") -> None:
            event.app.exit(result=_DECLINED)

        @bindings.add("c-c")
        def cancel(event: "KeyPressEvent") -> None:
            event.app.exit(result=_CANCELLED)

        _bind_suspend(bindings)
        session: PromptSession[str] = PromptSession(
            key_bindings=bindings,
            output=create_output(stdout=self._out),
            multiline="\n" in default,
            reserve_space_for_menu=0,  # a problem appears right below its field
        )
        _shorten_escape_timeout(session)
        validator = _build_validator(find_problem) if find_problem is not None else None
        typed = await session.prompt_async(prompt, default=default, validator=validator, validate_while_typing=False)
        return {_DECLINED: ElicitationResult(action="decline"), _CANCELLED: ElicitationResult(action="cancel")}.get(
            typed, typed
        )

    async def read_key(self, prompt: str, keys: str, *, allow_enter: bool = False) -> str:
        bindings = _bind_keys(keys)
        bindings.add("enter")(lambda event: event.app.exit(result="enter") if allow_enter else None)
        return await self._prompt(prompt, bindings)

    async def choose(self, choices: Sequence[Choice], *, columns: int, rows: int) -> str:
        keys = "".join(choice.key for choice in choices)
        if len(choices) > rows:
            return await self.read_key(format_labels(choices, columns), keys)
        bindings = _bind_keys(keys)
        selected: int | None = None

        def select(number: int) -> None:
            nonlocal selected
            selected = number % len(choices)

        # The first Enter only selects: one that was meant for something else must not answer.
        bindings.add("down")(lambda event: select(0 if selected is None else selected + 1))
        bindings.add("up")(lambda event: select(-1 if selected is None else selected - 1))
        bindings.add("enter")(
            lambda event: select(0) if selected is None else event.app.exit(result=choices[selected].key)
        )
        pointer = select_glyphs(getattr(self._out, "encoding", None)).pointer
        return await self._prompt(lambda: [*format_menu(choices, selected, columns, pointer), ("", " ")], bindings)

    async def _prompt(self, message: "AnyFormattedText", bindings: "KeyBindings") -> str:
        """Show the prompt until a key ends it. It leaves no trace: who asks prints the answer."""
        from prompt_toolkit import PromptSession
        from prompt_toolkit.output import create_output
        from prompt_toolkit.styles import Style

        _bind_suspend(bindings)
        session: PromptSession[str] = PromptSession(
            key_bindings=bindings,
            output=create_output(stdout=self._out),
            style=Style.from_dict({"dim": "dim"}),
            erase_when_done=True,
        )
        _shorten_escape_timeout(session)
        self._collect_typed_ahead()
        return await session.prompt_async(message)


def _bind_keys(keys: str) -> "KeyBindings":
    """Bindings that end a prompt with one of the keys, in either case except for a and A."""
    from prompt_toolkit.key_binding import KeyBindings

    bindings = KeyBindings()

    def bind(key: str, value: str, *, eager: bool = False) -> None:
        bindings.add(key, eager=eager)(lambda event: event.app.exit(result=value))

    for key in keys:
        bind(key, key)
        # "A" allows several calls and "a" allows always: neither may be taken for the other.
        if key.isalpha() and key not in "aA":
            bind(key.swapcase(), key)
    for key in ("escape", "c-d"):
        bind(key, "escape", eager=True)
    bind("c-c", "cancel")
    bindings.add("<any>")(lambda event: None)
    return bindings


def _build_validator(find_problem: Callable[[str], str]) -> "Validator":
    """A validator that shows the problem below the field."""
    from prompt_toolkit.validation import ValidationError, Validator

    class Check(Validator):
        def validate(self, document: "Document") -> None:
            if message := find_problem(document.text):
                raise ValidationError(cursor_position=len(document.text), message=message)

    return Check()


def _shorten_escape_timeout(session: "PromptSession[str]") -> None:
    """Treat Escape as a key at once, instead of waiting a second for an escape sequence."""
    session.app.ttimeoutlen, session.app.timeoutlen = 0.05, 0.2


def _bind_suspend(bindings: "KeyBindings") -> None:
    from prompt_toolkit.application import run_in_terminal

    if sys.platform != "win32":
        bindings.add("c-z")(lambda event: run_in_terminal(tty.suspend))
