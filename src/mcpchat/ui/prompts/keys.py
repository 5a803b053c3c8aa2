"""Single keys and short lines from the person, where a question waits for them."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TextIO

from mcpchat.core.elicitation import Answer
from mcpchat.ui.terminal import tty

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.document import Document
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
    from prompt_toolkit.validation import Validator

QUIET = 0.4  # seconds without a key before a question takes one
POLL = 0.05
_DECLINED, _CANCELLED = "\0declined", "\0cancelled"  # which nobody can type


class Keys(Protocol):
    """How a person answers."""

    hint: str  # how a line is taken as it stands, and how it is declined

    def held(self) -> AbstractContextManager[None]:
        """While inside, what is typed between two prompts waits for the next one."""
        ...

    async def quiet(self) -> None:
        """Wait until nobody has typed for a moment: who is in the middle of a sentence answers no question by it."""
        ...

    async def key(self, prompt: str, keys: str, *, enter: bool = False) -> str:
        """One of the keys; "escape" for that and Ctrl-D, "cancel" for Ctrl-C, and, where it counts, "enter"."""
        ...

    async def line(self, prompt: str, default: str, problem: Callable[[str], str] | None = None) -> str | Answer:
        """A line of text, one that ``problem`` says nothing of; Escape and Ctrl-D decline, Ctrl-C cancels."""
        ...

    def take_early(self) -> "Early":
        """What was typed too early for a question, for the next line of the chat."""
        ...


@dataclass
class Early:
    """A line as it was typed where nobody read it: its text, and what of it was pasted."""

    text: str = ""
    pasted: list[str] = field(default_factory=list)

    def add(self, key: str, data: str) -> None:
        """One key more; those that write nothing are let go."""
        match key:
            case "<bracketed-paste>":
                text = data.replace("\r\n", "\n").replace("\r", "\n")
                self.pasted.append(text)
                self.text += text
            case "c-h":
                self.text = self.text[:-1]
            case "c-u" | "c-c":
                self.text = ""
            case "c-m" | "c-j":
                self.text += "\n"
            case _ if len(key) == 1 and key.isprintable():
                self.text += key


class TerminalKeys:
    """Keys as they are pressed, and lines that can be edited, drawn on ``out``."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._early = Early()

    hint = "Enter takes what stands there, Esc declines"

    def held(self) -> AbstractContextManager[None]:
        return tty.held()

    def take_early(self) -> "Early":
        self._set_aside()  # what came in one burst with the answer too
        early, self._early = self._early, Early()
        return early

    async def quiet(self) -> None:
        with tty.held():
            left = QUIET
            while left > 0:
                left = QUIET if self._set_aside() else left - POLL
                await asyncio.sleep(POLL)

    def _set_aside(self) -> bool:
        """Keep what was typed and belongs to no question; whether anything was."""
        from prompt_toolkit.input import create_input
        from prompt_toolkit.input.typeahead import get_typeahead
        from prompt_toolkit.input.vt100_parser import Vt100Parser

        presses = get_typeahead(create_input())
        if raw := tty.typed_ahead():
            parser = Vt100Parser(presses.append)
            parser.feed(raw)
            parser.flush()
        for press in presses:
            self._early.add(press.key, press.data)
        return bool(presses)

    async def line(self, prompt: str, default: str, problem: Callable[[str], str] | None = None) -> str | Answer:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.key_binding import KeyBindings
        from prompt_toolkit.output import create_output

        bindings = KeyBindings()

        @bindings.add("enter")
        @bindings.add("c-j")  # what Enter is where it was typed before the prompt was there
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

        _suspends(bindings)
        session: PromptSession[str] = PromptSession(
            key_bindings=bindings, output=create_output(stdout=self._out), multiline="\n" in default
        )
        _at_once(session)
        check = _validator(problem) if problem is not None else None
        typed = await session.prompt_async(prompt, default=default, validator=check, validate_while_typing=False)
        return {_DECLINED: Answer(action="decline"), _CANCELLED: Answer(action="cancel")}.get(typed, typed)

    async def key(self, prompt: str, keys: str, *, enter: bool = False) -> str:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.key_binding import KeyBindings
        from prompt_toolkit.output import create_output

        bindings = KeyBindings()

        def answer(event: "KeyPressEvent", value: str) -> None:
            event.app.exit(result=value)

        for key in keys:
            for case in (key, key.upper()):
                bindings.add(case)(lambda event, key=key: answer(event, key))
        for key in ("escape", "c-d"):
            bindings.add(key, eager=True)(lambda event: answer(event, "escape"))
        bindings.add("c-c")(lambda event: answer(event, "cancel"))
        bindings.add("<any>")(lambda event: None)
        bindings.add("enter")(lambda event: answer(event, "enter") if enter else None)
        _suspends(bindings)
        session: PromptSession[str] = PromptSession(key_bindings=bindings, output=create_output(stdout=self._out))
        _at_once(session)
        self._set_aside()
        return await session.prompt_async(prompt)


def _validator(problem: Callable[[str], str]) -> "Validator":
    """Tells beside the field what is wrong with what was typed."""
    from prompt_toolkit.validation import ValidationError, Validator

    class Check(Validator):
        def validate(self, document: "Document") -> None:
            if told := problem(document.text):
                raise ValidationError(cursor_position=len(document.text), message=told)

    return Check()


def _at_once(session: "PromptSession[str]") -> None:
    """Escape is a key of its own, and not the beginning of another for a second."""
    session.app.ttimeoutlen, session.app.timeoutlen = 0.05, 0.2


def _suspends(bindings: "KeyBindings") -> None:
    bindings.add("c-z")(lambda event: event.app.suspend_to_background())
