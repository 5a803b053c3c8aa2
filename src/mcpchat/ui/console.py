"""The terminal: events drawn with rich, and questions asked of the person in front of it."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TextIO, assert_never, cast

from msgspec.structs import replace
from rich.console import Console
from rich.text import Text

from mcpchat.core import events
from mcpchat.core.approvals import Decision, Question
from mcpchat.core.elicitation import Answer, BadValue, Field, Form, Visit, read_value, shown
from mcpchat.core.events import Event
from mcpchat.core.links import web_address
from mcpchat.core.sanitize import clean, one_line, revealed, spelt_out
from mcpchat.core.tools import BadArguments, parse_arguments
from mcpchat.ui import call_question, keyboard, outside, stats, tool_lines
from mcpchat.ui.live import LiveRegion
from mcpchat.ui.markdown import MarkdownStream

if TYPE_CHECKING:
    from prompt_toolkit.key_binding import KeyPressEvent


class ConsoleRenderer:
    """Markdown on ``out``, everything else on ``err``; both are the same terminal, or ``err`` is elsewhere."""

    def __init__(self, out: Console, err: Console, *, quiet: bool = False, stats: bool = False) -> None:
        self._err = err
        self._quiet = quiet
        self._stats = stats
        self._region = LiveRegion(out)
        self._markdown = MarkdownStream(self._region)
        self._running: dict[str, str] = {}
        self._waiting: list[Event] | None = None
        unicode = out.encoding.lower().startswith("utf")
        self._done, self._failed, self._busy = ("✓", "✗", "…") if unicode else ("ok", "x", "...")

    def __call__(self, event: Event) -> None:
        if self._waiting is not None:
            self._waiting.append(event)
        else:
            self._draw(event)

    @contextmanager
    def question(self) -> Iterator[None]:
        """While inside, a question has the terminal: what happens meanwhile is drawn afterwards."""
        self._region.show(())
        self._waiting = []
        try:
            yield
        finally:
            waiting, self._waiting = self._waiting, None
            for event in waiting:
                self._draw(event)
            self._show_running()

    def _draw(self, event: Event) -> None:
        match event:
            case events.TextDelta(text=text):
                self._markdown.feed(text)
            case events.MessageAdded(message=message) if message.role == "assistant":
                self._markdown.finish()
                if message.cut and message.cut not in {"length", "cancelled"}:  # which are told by how the turn ends
                    self._note(f"the answer ends early: {message.cut}", "yellow")
            case events.ToolStarted():
                self._running[event.call.id] = f"  {self._busy} {tool_lines.started(event)}"
                self._show_running()
            case events.ToolProgress(call_id=call_id, done=done, total=total, note=note):
                line = self._running.get(call_id, "").split("  · ")[0]
                amount = f"{done:g} of {total:g}" if total else f"{done:g}"
                self._running[call_id] = f"{line}  · {amount} {one_line(note, 40)}"
                self._show_running()
            case events.ToolFinished():
                self._running.pop(event.call.id, None)
                self._show_running()
                mark, style = (self._failed, "red") if event.result.is_error else (self._done, "dim")
                if not self._quiet:
                    line = tool_lines.finished(event, self._err.width - 6)
                    self._print(Text(f"  {mark} {line}", style=style))
            case events.ServerChanged(state="failed" | "login"):
                self._note(tool_lines.down(event), "yellow")
            case events.Notice() | events.TurnFinished():
                self._remark(event)
            case (
                events.MessageAdded()
                | events.BranchChanged()
                | events.TurnStarted()
                | events.ReasoningDelta()
                | events.ToolDecided()
                | events.ServerChanged()
                | events.TurnFailed()
            ):
                pass
            case _:
                assert_never(event)

    def _remark(self, event: events.Notice | events.TurnFinished) -> None:
        if isinstance(event, events.TurnFinished):
            if self._stats and event.usage.total:
                self._note(f"  {stats.turn(event)}", "dim")
        elif event.level == "warning" or not self._quiet:
            self._note(event.text, "yellow" if event.level == "warning" else "dim")

    def _show_running(self) -> None:
        lines = [] if self._quiet else list(self._running.values())
        self._region.show([line for text in lines for line in self._region.lines_of(Text(text, style="dim"))])

    def _note(self, text: str, style: str) -> None:
        self._print(Text(clean(text), style=style))

    def _print(self, text: Text) -> None:
        self._region.commit(text, self._err)


_QUIET = 0.4  # seconds without a key before a question takes one
_POLL = 0.05
_DECLINED, _CANCELLED = "\0declined", "\0cancelled"  # which nobody can type


async def _interrupted() -> None:
    """Let Ctrl-C at a question cancel the turn; where whoever started us has switched that off, it is a no."""
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.raise_signal(signal.SIGINT)
        await asyncio.Event().wait()  # here the cancellation arrives: nothing was decided


class TerminalAsker:
    """Asks the person, by single keys. Ctrl-C at a question cancels the whole turn.

    What was typed before the question appeared does not answer it: ``take_typed_ahead`` has it. ``open_page`` starts
    a browser, and says whether it could.
    """

    def __init__(
        self, err: Console, renderer: ConsoleRenderer | None, open_page: Callable[[str], bool] = lambda url: False
    ) -> None:
        self._err = err
        self._open_page = open_page
        self._renderer = renderer
        self._one_question = asyncio.Lock()
        self._typed_ahead = ""

    def take_typed_ahead(self) -> str:
        """What was typed too early for a question, for the next line of the chat."""
        typed, self._typed_ahead = self._typed_ahead, ""
        return typed.replace("\r", "\n").strip("\n")

    async def go_on(self, rounds: int) -> bool:
        async with self._question():
            self._err.print(Text(f"  {rounds} round{'s' * (rounds != 1)} of tool calls so far", style="yellow"))
            await self._quiet()
            key = await self._key("  go on? [y]es  [n]o, let it answer now ", "yn")
        if key == "cancel":
            await _interrupted()
        return key == "y"

    async def approve(self, question: Question) -> Decision:
        async with self._question():
            decision = await self._approved(question)
        if decision is None:
            await _interrupted()
            return Decision(allowed=False, by="user")
        return decision

    async def _approved(self, question: Question) -> Decision | None:
        """The decision, None for Ctrl-C. A decision with arguments is to be asked about again."""
        text, cut = call_question.asked(question, width=self._err.width, lines=max(6, self._err.height - 9))
        self._err.print(text)
        keys = call_question.keys(question, cut=cut)
        await self._quiet()
        while True:
            key = await self._key(call_question.key_line(list(keys.values()), self._err.width), "".join(keys))
            match key:
                case "cancel":
                    return None
                case "v":
                    await outside.page(call_question.whole(question), lambda told: self._err.print(Text(told)))
                case "e":
                    changed = await self._edited(question)
                    if isinstance(changed, str):
                        return Decision(allowed=False, by="user", arguments=changed)
                    if changed.action == "cancel":
                        return None
                case "r":
                    reason = await self._line("  why not? ", "")
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
        if command := outside.editor():
            return await self._from_editor(json.dumps(arguments, ensure_ascii=False, indent=2) + "\n", command)
        keys = "  Enter: as it stands   Alt-Enter: a new line   Esc: back to the question, nothing changed"
        self._err.print(Text(keys, style="dim"))
        changed: dict[str, Any] = {}
        for name, value in arguments.items():
            stands = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            typed = await self._line(f"    {one_line(name, 40)}: ", revealed(stands))
            if not isinstance(typed, str):
                return typed
            changed[name] = value if typed == revealed(stands) else call_question.read(question, name, typed)
        return json.dumps(changed, ensure_ascii=False)

    async def _from_editor(self, text: str, command: list[str]) -> str | Answer:
        """What the person made of the JSON; what is none can be mended."""
        text = spelt_out(text)
        while True:
            edited = await asyncio.to_thread(outside.edit, text, command, suffix=".json")
            if edited is None or not edited.strip():
                self._err.print(Text("  the editor left nothing behind: nothing is changed", style="yellow"))
                return Answer(action="decline")
            try:
                return json.dumps(parse_arguments(edited), ensure_ascii=False)
            except BadArguments as error:
                self._err.print(Text(f"  {clean(str(error))}", style="yellow"))
            key = await self._key("  [e]dit it again  [b]ack to the question, nothing changed ", "eb")
            if key != "e":
                return Answer(action="cancel" if key == "cancel" else "decline")
            text = edited

    async def _quiet(self) -> None:
        """Wait until nobody has typed for a moment: who is in the middle of a sentence answers no question by it."""
        with keyboard.held():
            left = _QUIET
            while left > 0:
                left = _QUIET if self._set_aside() else left - _POLL
                await asyncio.sleep(_POLL)

    def _set_aside(self) -> bool:
        """Keep what was typed and belongs to no question; whether anything was."""
        from prompt_toolkit.input import create_input
        from prompt_toolkit.input.typeahead import get_typeahead

        early = "".join(press.data for press in get_typeahead(create_input())) + keyboard.typed_ahead()
        self._typed_ahead += early
        return bool(early)

    async def yes_or_no(self, text: str) -> bool:
        """A question of our own; Ctrl-C is a no."""
        async with self._question():
            return await self._key(f"{text}  [y]es  [n]o ", "yn") == "y"

    async def elicit(self, question: Form | Visit, problem: str) -> Answer:
        async with self._question():
            heading = Text("  ").append(one_line(question.server, 40), style="bold").append(" asks you: ")
            heading.append(clean(question.message).replace("\n", "\n  "))
            self._err.print(heading)
            if problem:
                self._err.print(Text(f"  that did not fit: {clean(problem)}", style="yellow"))
            answer = await (self._visit(question) if isinstance(question, Visit) else self._fill(question))
        if answer.action == "cancel":
            signal.raise_signal(signal.SIGINT)
        return answer

    async def confirm(self, server: str, wish: str, details: str) -> bool:
        async with self._question():
            text = Text("  ").append(one_line(server, 40), style="bold").append(f" wants to {one_line(wish, 200)}")
            for line in clean(details).splitlines():
                text.append(f"\n    {line}")
            self._err.print(text)
            await self._quiet()
            key = await self._key("  [y]es  [n]o ", "yn")
        if key == "cancel":
            signal.raise_signal(signal.SIGINT)
        return key == "y"

    @asynccontextmanager
    async def holding(self) -> AsyncIterator[None]:
        """The terminal for something longer than a question; nothing else is asked or drawn meanwhile."""
        async with self._question():
            yield

    @asynccontextmanager
    async def _question(self) -> AsyncIterator[None]:
        """The terminal for one question at a time, also where a prompt waits on it."""
        from prompt_toolkit.application import in_terminal

        async with self._one_question:
            with self._renderer.question() if self._renderer is not None else nullcontext():
                async with in_terminal():
                    yield

    async def _visit(self, visit: Visit) -> Answer:
        address = web_address(visit.url)
        before, _, after = address.url.partition(address.host)
        line = Text(f"    {before}", style="dim").append(address.host, style="bold").append(after, style="dim")
        self._err.print(line, soft_wrap=True)
        if address.warning:
            self._err.print(Text(f"    {address.warning}", style="yellow"))
        key = await self._key("  [o]pen it in the browser  [d]ecline ", "od")
        if key == "o" and not self._open_page(address.url):
            self._err.print(Text("  no browser could be started: open the address by hand", style="yellow"))
        return Answer(action={"o": "accept", "cancel": "cancel"}.get(key, "decline"))  # type: ignore[arg-type]

    async def _fill(self, form: Form) -> Answer:
        """The form's fields one by one, then all of them once more before they are sent."""
        self._err.print(Text("  Enter takes what stands there, Esc declines", style="dim"))
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
            key = await self._key(f"  [s]end to {one_line(form.server, 40)}  [e]dit  [d]ecline ", "sed")
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
        while True:
            stands = "" if standing else shown(field, default)
            typed = await self._line("    : ", revealed(stands))
            if isinstance(typed, Answer):
                return typed
            typed = stands if typed == revealed(stands) else typed
            try:
                # What stood there and is now empty is meant to be empty.
                return read_value(replace(field, default=default if standing else None), typed)
            except BadValue as error:
                self._err.print(Text(f"      {clean(str(error))}", style="yellow"))
                default = typed or None

    async def _line(self, prompt: str, default: str) -> str | Answer:
        """A line of text; Escape and Ctrl-D decline, Ctrl-C cancels."""
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

        session: PromptSession[str] = PromptSession(
            key_bindings=bindings,
            output=create_output(stdout=cast("TextIO", self._err.file)),
            multiline="\n" in default,
        )
        typed = await session.prompt_async(prompt, default=default)
        return {_DECLINED: Answer(action="decline"), _CANCELLED: Answer(action="cancel")}.get(typed, typed)

    async def _key(self, prompt: str, keys: str) -> str:
        """One of the keys, or "cancel" for Ctrl-C; Escape and Ctrl-D are no."""
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
            bindings.add(key)(lambda event: answer(event, "n"))
        bindings.add("c-c")(lambda event: answer(event, "cancel"))
        for key in ("enter", "<any>"):
            bindings.add(key)(lambda event: None)
        session: PromptSession[str] = PromptSession(
            key_bindings=bindings, output=create_output(stdout=cast("TextIO", self._err.file))
        )
        self._set_aside()
        return await session.prompt_async(prompt)
