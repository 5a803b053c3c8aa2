"""The terminal: events drawn with rich, and questions asked of the person in front of it."""

import asyncio
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from glob import escape
from typing import TYPE_CHECKING, TextIO, assert_never, cast

from rich.console import Console
from rich.text import Text

from mcpchat.core import events
from mcpchat.core.approvals import Decision
from mcpchat.core.events import Event
from mcpchat.core.messages import ToolCall
from mcpchat.core.sanitize import clean, one_line
from mcpchat.core.tools import ToolSpec
from mcpchat.ui import keyboard, tool_lines
from mcpchat.ui.live import LiveRegion
from mcpchat.ui.markdown import MarkdownStream

if TYPE_CHECKING:
    from prompt_toolkit.key_binding import KeyPressEvent


class ConsoleRenderer:
    """Markdown on ``out``, everything else on ``err``; both are the same terminal, or ``err`` is elsewhere."""

    def __init__(self, out: Console, err: Console, *, quiet: bool = False) -> None:
        self._err = err
        self._quiet = quiet
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
                if message.cut:
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
            case events.Notice(level=level, text=text):
                if level == "warning" or not self._quiet:
                    self._note(text, "yellow" if level == "warning" else "dim")
            case (
                events.MessageAdded()
                | events.TurnStarted()
                | events.ReasoningDelta()
                | events.ToolDecided()
                | events.ServerChanged()
                | events.TurnFinished()
                | events.TurnFailed()
            ):
                pass
            case _:
                assert_never(event)

    def _show_running(self) -> None:
        lines = [] if self._quiet else list(self._running.values())
        self._region.show([line for text in lines for line in self._region.lines_of(Text(text, style="dim"))])

    def _note(self, text: str, style: str) -> None:
        self._print(Text(clean(text), style=style))

    def _print(self, text: Text) -> None:
        self._region.commit(text, self._err)


class TerminalAsker:
    """Asks the person, by single keys. Ctrl-C at a question cancels the whole turn.

    What was typed before the question appeared does not answer it: ``take_typed_ahead`` has it.
    """

    def __init__(self, err: Console, renderer: ConsoleRenderer | None) -> None:
        self._err = err
        self._renderer = renderer
        self._typed_ahead = ""

    def take_typed_ahead(self) -> str:
        """What was typed too early for a question, for the next line of the chat."""
        typed, self._typed_ahead = self._typed_ahead, ""
        return typed.replace("\r", "\n").strip("\n")

    async def approve(self, spec: ToolSpec, call: ToolCall, rule: str) -> Decision:
        with self._renderer.question() if self._renderer is not None else nullcontext():
            self._err.print(self._question(spec, call, rule))
            key = await self._key("  [y]es  [n]o  [a]lways this tool, in this session ", "yna")
        if key == "cancel":
            signal.raise_signal(signal.SIGINT)
            await asyncio.Event().wait()  # here the cancellation arrives: nothing was decided
        allowed = key in {"y", "a"}
        return Decision(
            allowed=allowed,
            by="user",
            remember=escape(spec.label) if key == "a" else "",
        )

    def _question(self, spec: ToolSpec, call: ToolCall, rule: str) -> Text:
        text = Text("  ").append(one_line(spec.server, 40), style="bold").append(" wants to run ")
        text.append(one_line(spec.name, 80), style="bold").append(f"   ({one_line(rule, 80)})", style="dim")
        values = json.loads(call.arguments)
        for name, value in values.items():
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            text.append(f"\n    {one_line(name, 40)}  ", style="dim")
            text.append(clean(shown).replace("\n", "\n      "))
        return text

    async def _key(self, prompt: str, keys: str) -> str:
        """One of the keys, or "cancel" for Ctrl-C; Escape and Ctrl-D are no."""
        from prompt_toolkit import PromptSession
        from prompt_toolkit.input.typeahead import get_typeahead
        from prompt_toolkit.key_binding import KeyBindings
        from prompt_toolkit.output import create_output

        bindings = KeyBindings()

        def answer(event: "KeyPressEvent", value: str) -> None:
            event.app.exit(result=value)

        for key in keys:
            bindings.add(key)(lambda event, key=key: answer(event, key))
        for key in ("escape", "c-d"):
            bindings.add(key)(lambda event: answer(event, "n"))
        bindings.add("c-c")(lambda event: answer(event, "cancel"))
        bindings.add("<any>")(lambda event: None)
        session: PromptSession[str] = PromptSession(
            key_bindings=bindings, output=create_output(stdout=cast("TextIO", self._err.file))
        )
        early = "".join(press.data for press in get_typeahead(session.app.input))
        self._typed_ahead += early + keyboard.typed_ahead()
        return await session.prompt_async(prompt)
