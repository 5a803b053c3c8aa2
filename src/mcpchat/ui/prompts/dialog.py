"""Questions to the person at the terminal: calls to approve, forms to fill in, addresses to open."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, TextIO, cast

from msgspec.structs import replace
from rich.console import Console
from rich.text import Text

from mcpchat.core.elicitation import Answer, BadValue, Field, Form, Visit, read_value, shown
from mcpchat.core.policy import Decision, Question
from mcpchat.core.tools import BadArguments, parse_arguments
from mcpchat.ui.prompts import approval_view
from mcpchat.ui.prompts.keys import Early, Keys, TerminalKeys
from mcpchat.ui.terminal import external
from mcpchat.util.sanitize import clean, one_line, revealed, spelt_out
from mcpchat.util.urls import web_address

_MOST_BY_KEY = 9  # choices of which one is taken by its number alone


def interrupted() -> bool:
    """Let Ctrl-C at a question end what is being done, where whoever started us has not switched that off."""
    wanted = signal.getsignal(signal.SIGINT) != signal.SIG_IGN
    if wanted:
        signal.raise_signal(signal.SIGINT)
    return wanted


class TerminalAsker:
    """Asks the person, by single keys. Ctrl-C at a question cancels the whole turn.

    What was typed before the question appeared does not answer it: ``give_back`` gets it, once the question is over.
    ``alone`` gives the terminal to one question at a time, ``open_page`` starts a browser, and says whether it could;
    ``interrupt`` ends what is being done, and says whether there was anything.
    """

    def __init__(
        self,
        err: Console,
        keys: Keys | None = None,
        *,
        alone: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
        open_page: Callable[[str], bool] = lambda url: False,
        give_back: Callable[[Early], None] = lambda early: None,
        interrupt: Callable[[], bool] = interrupted,
    ) -> None:
        self._err = err
        self._open_page = open_page
        self._alone = alone
        self._one_question = asyncio.Lock()
        self._keys: Keys = keys or TerminalKeys(cast("TextIO", err.file))
        self._give_back = give_back
        self._interrupt = interrupt

    async def go_on(self, rounds: int) -> bool:
        async with self._question():
            self._err.print(Text(f"  {rounds} round{'s' * (rounds != 1)} of tool calls so far", style="yellow"))
            await self._keys.quiet()
            key = await self._keys.key("  go on? [y]es  [n]o, let it answer now ", "yn")
        if key == "cancel":
            await self._cancelled()
        return key == "y"

    async def approve(self, question: Question) -> Decision:
        async with self._question():
            decision = await self._approved(question)
        if decision is None:
            await self._cancelled()
            return Decision(allowed=False, by="user")
        return decision

    async def _approved(self, question: Question) -> Decision | None:
        """The decision, None for Ctrl-C. A decision with arguments is to be asked about again."""
        text, cut = approval_view.asked(question, width=self._err.width, lines=max(6, self._err.height - 9))
        self._err.print(text)
        keys = approval_view.keys(question, cut=cut)
        await self._keys.quiet()
        while True:
            key = await self._keys.key(approval_view.key_line(list(keys.values()), self._err.width), "".join(keys))
            match key:
                case "cancel":
                    return None
                case "v":
                    await external.page(approval_view.whole(question), lambda told: self._err.print(Text(told)))
                case "e":
                    changed = await self._edited(question)
                    if isinstance(changed, str):
                        return Decision(allowed=False, by="user", arguments=changed)
                    if changed.action == "cancel":
                        return None
                case "r":
                    reason = await self._keys.line("  why not? ", "")
                    if isinstance(reason, str):
                        return Decision(allowed=False, by="user", reason=reason.strip())
                    if reason.action == "cancel":
                        return None
                case _:
                    remember = {"a": "always", "s": "session"}.get(key, "")
                    allowed = key in {"y", "a", "s"}
                    return Decision(allowed=allowed, by="user", remember=remember)  # type: ignore[arg-type]

    async def _edited(self, question: Question) -> str | Answer:
        """The arguments as the person would have them, as JSON; else how they left it, with nothing changed."""
        arguments = question.arguments
        if command := external.editor():
            return await self._from_editor(json.dumps(arguments, ensure_ascii=False, indent=2) + "\n", command)
        self._err.print(Text(f"  {self._keys.hint}; then nothing is changed", style="dim"))
        changed: dict[str, Any] = {}
        for name, value in arguments.items():
            stands = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            typed = await self._keys.line(f"    {one_line(name, 40)}: ", revealed(stands))
            if not isinstance(typed, str):
                return typed
            changed[name] = value if typed == revealed(stands) else approval_view.read(question, name, typed)
        return json.dumps(changed, ensure_ascii=False)

    async def _from_editor(self, text: str, command: list[str]) -> str | Answer:
        """What the person made of the JSON; what is none can be mended."""
        text = spelt_out(text)
        while True:
            edited = await external.edited(text, command, suffix=".json")
            if edited is None or not edited.strip():
                self._err.print(Text("  the editor left nothing behind: nothing is changed", style="yellow"))
                return Answer(action="decline")
            try:
                return json.dumps(parse_arguments(edited), ensure_ascii=False)
            except BadArguments as error:
                self._err.print(Text(f"  {clean(str(error))}", style="yellow"))
            key = await self._keys.key("  [e]dit it again  [b]ack to the question, nothing changed ", "eb")
            if key != "e":
                return Answer(action="cancel" if key == "cancel" else "decline")
            text = edited

    async def yes_or_no(self, text: str) -> bool:
        """A question of our own; Ctrl-C is a no."""
        async with self._question():
            await self._keys.quiet()
            return await self._keys.key(f"{text}  [y]es  [n]o ", "yn") == "y"

    async def elicit(self, question: Form | Visit, problem: str) -> Answer:
        async with self._question():
            heading = Text("  ").append(one_line(question.server, 40), style="bold").append(" asks you: ")
            heading.append(clean(question.message).replace("\n", "\n  "))
            self._err.print(heading)
            if problem:
                self._err.print(Text(f"  that did not fit: {clean(problem)}", style="yellow"))
            await self._keys.quiet()
            answer = await (self._visit(question) if isinstance(question, Visit) else self._fill(question))
        if answer.action == "cancel":
            self._interrupt()
        return answer

    async def confirm(self, server: str, wish: str, details: str) -> bool:
        async with self._question():
            text = Text("  ").append(one_line(server, 40), style="bold").append(f" wants to {one_line(wish, 200)}")
            for line in clean(details).splitlines():
                text.append(f"\n    {line}")
            self._err.print(text)
            await self._keys.quiet()
            key = await self._keys.key("  [y]es  [n]o ", "yn")
        if key == "cancel":
            self._interrupt()
        return key == "y"

    @asynccontextmanager
    async def holding(self) -> AsyncIterator[None]:
        """The terminal for something longer than a question; nothing else is asked or drawn meanwhile."""
        async with self._question():
            yield

    @asynccontextmanager
    async def _question(self) -> AsyncIterator[None]:
        """The terminal for one question at a time, also where a prompt waits on it."""
        async with self._one_question:
            try:
                async with self._alone():
                    with self._keys.held():
                        yield
            finally:
                if (early := self._keys.take_early()).text.strip("\n"):
                    self._give_back(early)

    async def _cancelled(self) -> None:
        """Ctrl-C at a turn's own question: nothing was decided, and the turn ends here."""
        if self._interrupt():
            await asyncio.Event().wait()  # here the cancellation arrives

    async def _visit(self, visit: Visit) -> Answer:
        address = web_address(visit.url)
        before, _, after = address.url.partition(address.host)
        line = Text(f"    {before}", style="dim").append(address.host, style="bold").append(after, style="dim")
        self._err.print(line, soft_wrap=True)
        if address.warning:
            self._err.print(Text(f"    {address.warning}", style="yellow"))
        key = await self._keys.key("  [o]pen it in the browser  [d]ecline ", "od")
        if key == "o" and not self._open_page(address.url):
            self._err.print(Text("  no browser could be started: open the address by hand", style="yellow"))
        return Answer(action={"o": "accept", "cancel": "cancel"}.get(key, "decline"))  # type: ignore[arg-type]

    async def _fill(self, form: Form) -> Answer:
        """The form's fields one by one, then all of them once more before they are sent."""
        self._err.print(Text(f"  {self._keys.hint}", style="dim"))
        content: dict[str, Any] = {}
        while True:
            for field in form.fields:
                value = await self._value(field, content.get(field.name, field.default))
                if isinstance(value, Answer):
                    return value
                content[field.name] = value
            filled = {name: value for name, value in content.items() if value is not None}
            for field in form.fields:
                line = Text(f"    {one_line(field.title or field.name, 40)}  ", style="dim")
                self._err.print(line.append(clean(shown(field, content[field.name])), style="default"))
            key = await self._keys.key(f"  [s]end to {one_line(form.server, 40)}  [e]dit  [d]ecline ", "sed")
            if key == "s":
                return Answer(action="accept", content=filled)
            if key != "e":
                return Answer(action="cancel" if key == "cancel" else "decline")

    async def _value(self, field: Field, default: object) -> Any:
        """The field's value, or the Answer that ends the form."""
        label = Text("    ").append(one_line(field.title or field.name, 60), style="bold")
        standing = field.kind in {"choice", "choices", "boolean"}  # shown beside, not to be typed over
        notes = ["required" if field.required else "may be left empty", *([field.expects] if field.expects else [])]
        if standing and default is not None:
            notes = [*notes[1:], f"Enter: {shown(field, default)}"]
        label.append(f"  ({one_line(', '.join(notes), 120)})" if notes else "", style="dim")
        label.append(f"\n      {one_line(field.description, 300)}" if field.description else "", style="dim")
        for number, choice in enumerate(field.choices, 1):
            title = f"  {one_line(choice.title, 80)}" if choice.title else ""
            label.append(f"\n      {number}. {one_line(choice.value, 80)}{title}")
        self._err.print(label)
        if field.kind == "boolean":
            return await self._choice(field, "yn", {"y": True, "n": False}, default, "    [y]es  [n]o ")
        if field.kind == "choice" and 0 < len(field.choices) <= _MOST_BY_KEY:
            values = {str(number): choice.value for number, choice in enumerate(field.choices, 1)}
            return await self._choice(field, "".join(values), values, default, "    its number: ")
        stands = "" if standing else shown(field, default)

        def read(typed: str) -> Any:
            typed = stands if typed == revealed(stands) else typed
            # What stood there and is now empty is meant to be empty.
            return read_value(replace(field, default=default if standing else None), typed)

        def problem(typed: str) -> str:
            try:
                read(typed)
            except BadValue as error:
                return clean(str(error))
            return ""

        typed = await self._keys.line("    : ", revealed(stands), problem)
        return typed if isinstance(typed, Answer) else read(typed)

    async def _choice(self, field: Field, keys: str, values: dict[str, Any], default: object, prompt: str) -> Any:
        """A value by one key; Enter takes what stands, or none where none is needed."""
        enter = default is not None or not field.required
        key = await self._keys.key(prompt, keys, enter=enter)
        if key in {"cancel", "escape"}:
            return Answer(action="cancel" if key == "cancel" else "decline")
        value = default if key == "enter" else values[key]
        self._err.print(Text(f"    : {clean(shown(field, value))}"))
        return value
