"""Asks the user at the terminal: approvals, forms, addresses to open."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, TextIO, cast

from msgspec.structs import replace
from rich.console import Console
from rich.text import Text

from mcpchat.core.elicitation import ElicitationResult, Field, Form, InvalidValue, UrlRequest, format_value, read_value
from mcpchat.core.policy import ApprovalRequest, Decision
from mcpchat.core.tools import InvalidArguments, parse_arguments
from mcpchat.ui.prompts import approval_view
from mcpchat.ui.prompts.keys import KeyInput, TerminalKeyInput
from mcpchat.ui.terminal import external
from mcpchat.ui.terminal.glyphs import select_glyphs
from mcpchat.ui.terminal.screen import HangingIndent
from mcpchat.ui.terminal.typed_ahead import TypedAhead
from mcpchat.util.sanitize import escape_unsafe_json, one_line, sanitize, show_invisible
from mcpchat.util.urls import parse_web_url

_MAX_CHOICES = 8  # rows that the choices of an approval take
_MIN_QUESTION_ROWS = 8  # rows of the question above its choices; a smaller terminal shows the choices on one line
_MAX_NUMBERED_CHOICES = 9  # choices that can be picked with a single digit


def raise_interrupt() -> bool:
    """Raise SIGINT, unless the parent process made us ignore it. Returns whether it was raised."""
    enabled = signal.getsignal(signal.SIGINT) != signal.SIG_IGN
    if enabled:
        signal.raise_signal(signal.SIGINT)
    return enabled


class TerminalDialog:
    """Asks the user with single keys. Ctrl-C at a question cancels the whole turn.

    Text typed before the question appeared does not answer it; it is passed to ``restore_typed`` after the question.
    ``exclusive`` gives the terminal to one question at a time. ``open_page`` starts a browser and returns whether that
    worked. ``interrupt`` cancels the running turn and returns whether there was one.
    """

    def __init__(
        self,
        err: Console,
        keys: KeyInput | None = None,
        *,
        exclusive: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
        open_page: Callable[[str], bool] = lambda url: False,
        restore_typed: Callable[[TypedAhead], None] = lambda typed_ahead: None,
        interrupt: Callable[[], bool] = raise_interrupt,
    ) -> None:
        self._err = err
        self._open_page = open_page
        self._exclusive = exclusive
        self._prompt_lock = asyncio.Lock()
        self._keys: KeyInput = keys or TerminalKeyInput(cast("TextIO", err.file))
        self._restore_typed = restore_typed
        self._interrupt = interrupt

    async def confirm_continue(self, rounds: int) -> bool:
        async with self._hold_terminal():
            self._err.print(Text(f"  {rounds} round{'s' * (rounds != 1)} of tool calls so far", style="yellow"))
            await self._keys.wait_until_idle()
            key = await self._keys.read_key("  continue? [y]es  [n]o, answer now ", "yn")
            self._print_answer("go on" if key == "y" else "no more calls", is_yes=key == "y", key=key)
        if key == "cancel":
            await self._cancel_turn()
        return key == "y"

    async def approve(self, request: ApprovalRequest) -> Decision:
        async with self._hold_terminal():
            decision = await self._ask_approval(request)
            if decision is None:
                self._print_answer("", is_yes=False, key="cancel")
            elif not decision.arguments:  # edited arguments are shown, and asked about again
                text = approval_view.describe_decision(request, decision)
                self._print_answer(text, is_yes=decision.allowed)
        if decision is None:
            await self._cancel_turn()
            return Decision(allowed=False, by="user")
        return decision

    async def _ask_approval(self, request: ApprovalRequest) -> Decision | None:
        """The decision; None for Ctrl-C. A decision with edited arguments must be asked about again."""
        text, truncated = approval_view.format_request(
            request, width=self._err.width, lines=max(6, self._err.height - _MAX_CHOICES - 6)
        )
        self._err.print(HangingIndent(text))
        choices = approval_view.decision_choices(request, truncated=truncated)
        await self._keys.wait_until_idle()
        while True:
            key = await self._keys.choose(choices, columns=self._err.width, rows=self._err.height - _MIN_QUESTION_ROWS)
            match key:
                case "cancel":
                    return None
                case "v":
                    await external.show_in_pager(
                        approval_view.full_arguments(request), lambda message: self._err.print(Text(message))
                    )
                case "e":
                    result = await self._edit_arguments(request)
                    if isinstance(result, str):
                        return Decision(allowed=False, by="user", arguments=result)
                    if result.action == "cancel":
                        return None
                case "r":
                    reason = await self._keys.read_line("  why not? ", "")
                    if isinstance(reason, str):
                        return Decision(allowed=False, by="user", reason=reason.strip())
                    if reason.action == "cancel":
                        return None
                case _:
                    remember = {"a": "always", "s": "session", "A": "step"}.get(key, "")
                    allowed = key in {"y", "a", "s", "A"}
                    return Decision(allowed=allowed, by="user", remember=remember)  # type: ignore[arg-type]

    def _print_answer(self, text: str, *, is_yes: bool, key: str = "") -> None:
        """Print the answer to a question where its keys were."""
        glyphs = select_glyphs(self._err.encoding)
        mark, style = (glyphs.done, "green") if is_yes else (glyphs.failed, "red")
        line = Text("  ").append(mark, style=style).append(f" {'cancelled' if key == 'cancel' else text}", style="dim")
        self._err.print(line)

    async def _edit_arguments(self, request: ApprovalRequest) -> str | ElicitationResult:
        """Let the user edit the arguments. Returns them as JSON, or how the user left without a change."""
        arguments = request.arguments
        if command := external.find_editor():
            return await self._edit_json(json.dumps(arguments, ensure_ascii=False, indent=2) + "\n", command)
        self._err.print(Text(f"  {self._keys.hint} and changes nothing", style="dim"))
        new_arguments: dict[str, Any] = {}
        for name, value in arguments.items():
            current = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            typed = await self._keys.read_line(f"    {one_line(name, 40)}: ", show_invisible(current))
            if not isinstance(typed, str):
                return typed
            new_arguments[name] = (
                value if typed == show_invisible(current) else approval_view.parse_value(request, name, typed)
            )
        return json.dumps(new_arguments, ensure_ascii=False)

    async def _edit_json(self, text: str, command: list[str]) -> str | ElicitationResult:
        """Let the user edit JSON in their editor, again if it is not valid."""
        text = escape_unsafe_json(text)
        while True:
            new_text = await external.edit_text(text, command, suffix=".json")
            if new_text is None or not new_text.strip():
                self._err.print(Text("  the editor returned no text; nothing is changed", style="yellow"))
                return ElicitationResult(action="decline")
            try:
                return json.dumps(parse_arguments(new_text), ensure_ascii=False)
            except InvalidArguments as error:
                self._err.print(Text(f"  {sanitize(str(error))}", style="yellow"))
            key = await self._keys.read_key("  [e]dit it again  [b]ack to the question, nothing changed ", "eb")
            if key != "e":
                return ElicitationResult(action="cancel" if key == "cancel" else "decline")
            text = new_text

    async def ask_yes_no(self, text: str) -> bool:
        """Ask a yes-or-no question of mcpchat itself; Ctrl-C means no."""
        async with self._hold_terminal():
            await self._keys.wait_until_idle()
            self._err.print(Text(text))
            key = await self._keys.read_key("  [y]es  [n]o ", "yn")
            self._print_answer("yes" if key == "y" else "no", is_yes=key == "y", key=key)
            return key == "y"

    async def elicit(self, request: Form | UrlRequest, problem: str) -> ElicitationResult:
        async with self._hold_terminal():
            heading = Text("  ").append(one_line(request.server, 40), style="bold").append(" asks you: ")
            heading.append(sanitize(request.message).replace("\n", "\n  "))
            self._err.print(heading)
            if problem:
                self._err.print(Text(f"  invalid answer: {sanitize(problem)}", style="yellow"))
            await self._keys.wait_until_idle()
            answer = await (self._ask_to_open(request) if isinstance(request, UrlRequest) else self._fill_form(request))
            accepted = "accepted" if isinstance(request, UrlRequest) else "sent"
            is_yes = answer.action == "accept"
            self._print_answer(accepted if is_yes else "declined", is_yes=is_yes, key=answer.action)
        if answer.action == "cancel":
            self._interrupt()
        return answer

    async def confirm(self, server: str, action: str, details: str) -> bool:
        async with self._hold_terminal():
            text = Text("  ").append(one_line(server, 40), style="bold").append(f" wants to {one_line(action, 200)}")
            for line in sanitize(details).splitlines():
                text.append(f"\n    {line}")
            self._err.print(text)
            await self._keys.wait_until_idle()
            key = await self._keys.read_key("  [y]es  [n]o ", "yn")
            self._print_answer("yes" if key == "y" else "no", is_yes=key == "y", key=key)
        if key == "cancel":
            self._interrupt()
        return key == "y"

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Hold the terminal for longer than a question; nothing else is asked or drawn while inside."""
        async with self._hold_terminal():
            yield

    @asynccontextmanager
    async def _hold_terminal(self) -> AsyncIterator[None]:
        """Hold the terminal for one question, even while the input line is active."""
        async with self._prompt_lock:
            try:
                async with self._exclusive():
                    with self._keys.hold_input():
                        yield
            finally:
                if (typed_ahead := self._keys.take_typed_ahead()).text.strip("\n"):
                    self._restore_typed(typed_ahead)

    async def _cancel_turn(self) -> None:
        """End the turn after Ctrl-C at its question, without a decision."""
        if self._interrupt():
            await asyncio.Event().wait()  # until the cancellation arrives

    async def _ask_to_open(self, request: UrlRequest) -> ElicitationResult:
        safe_url = parse_web_url(request.url)
        prefix, _, suffix = safe_url.url.partition(safe_url.host)
        line = Text(f"    {prefix}", style="dim").append(safe_url.host, style="bold").append(suffix, style="dim")
        self._err.print(line, soft_wrap=True)
        if safe_url.warning:
            self._err.print(Text(f"    {safe_url.warning}", style="yellow"))
        key = await self._keys.read_key("  [o]pen it in the browser  [d]ecline ", "od")
        if key == "o" and not self._open_page(safe_url.url):
            self._err.print(Text("  no browser could be started; open the address yourself", style="yellow"))
        return ElicitationResult(action={"o": "accept", "cancel": "cancel"}.get(key, "decline"))  # type: ignore[arg-type]

    async def _fill_form(self, form: Form) -> ElicitationResult:
        """Ask for the form's fields one by one, then show all values before they are sent."""
        self._err.print(Text(f"  {self._keys.hint}", style="dim"))
        content: dict[str, Any] = {}
        while True:
            for field in form.fields:
                value = await self._ask_field(field, content.get(field.name, field.default))
                if isinstance(value, ElicitationResult):
                    return value
                content[field.name] = value
            values = {name: value for name, value in content.items() if value is not None}
            for field in form.fields:
                line = Text(f"    {one_line(field.title or field.name, 40)}  ", style="dim")
                self._err.print(line.append(sanitize(format_value(field, content[field.name])), style="default"))
            key = await self._keys.read_key(f"  [s]end to {one_line(form.server, 40)}  [e]dit  [d]ecline ", "sed")
            if key == "e":
                continue
            if key == "s":
                return ElicitationResult(action="accept", content=values)
            return ElicitationResult(action="cancel" if key == "cancel" else "decline")

    async def _ask_field(self, field: Field, default: object) -> Any:
        """The field's value, or the ElicitationResult that ends the form."""
        label = Text("    ").append(one_line(field.title or field.name, 60), style="bold")
        is_choice = field.kind in {"choice", "choices", "boolean"}  # its default is shown, not prefilled
        notes = [
            "required" if field.required else "optional",
            *([field.input_hint] if field.input_hint else []),
        ]
        if is_choice and default is not None:
            notes = [*notes[1:], f"Enter: {format_value(field, default)}"]
        elif is_choice and not field.required:
            notes = [*notes[1:], "Enter: empty"]
        label.append(f"  ({one_line(', '.join(notes), 120)})" if notes else "", style="dim")
        label.append(f"\n      {one_line(field.description, 300)}" if field.description else "", style="dim")
        for number, choice in enumerate(field.choices, 1):
            title = f"  {one_line(choice.title, 80)}" if choice.title else ""
            label.append(f"\n      {number}. {one_line(choice.value, 80)}{title}")
        self._err.print(label)
        if field.kind == "boolean":
            return await self._ask_choice(field, {"y": True, "n": False}, default, "    [y]es  [n]o ")
        if field.kind == "choice" and 0 < len(field.choices) <= _MAX_NUMBERED_CHOICES:
            values = {str(number): choice.value for number, choice in enumerate(field.choices, 1)}
            return await self._ask_choice(field, values, default, "    its number: ")
        initial = "" if is_choice else format_value(field, default)

        def parse(typed: str) -> Any:
            typed = initial if typed == show_invisible(initial) else typed
            # If the user clears the prefilled default, the value is empty.
            return read_value(replace(field, default=default if is_choice else None), typed)

        def find_problem(typed: str) -> str:
            try:
                parse(typed)
            except InvalidValue as error:
                return sanitize(str(error))
            return ""

        typed = await self._keys.read_line("    : ", show_invisible(initial), find_problem)
        return typed if isinstance(typed, ElicitationResult) else parse(typed)

    async def _ask_choice(self, field: Field, values: dict[str, Any], default: object, prompt: str) -> Any:
        """Read a value with one key. Enter takes the default; without one, no value, if the field is optional.

        An optional field that has a default can be emptied with a hyphen.
        """
        if default is not None and not field.required:
            values, prompt = {**values, "-": None}, f"{prompt} [-] empty "
        enter = default is not None or not field.required
        key = await self._keys.read_key(prompt, "".join(values), allow_enter=enter)
        if key in {"cancel", "escape"}:
            return ElicitationResult(action="cancel" if key == "cancel" else "decline")
        value = default if key == "enter" else values[key]
        self._err.print(Text(f"    : {sanitize(format_value(field, value))}"))
        return value
