"""Renderers without a terminal: text, JSON, JSON lines; and the answer to questions that nobody can be asked."""

import re
from collections.abc import Callable
from typing import Any, TextIO, assert_never

import msgspec

from mcpchat.core import events
from mcpchat.core.elicitation import Answer, Form, Visit
from mcpchat.core.events import Event
from mcpchat.core.policy import Decision, Question
from mcpchat.core.report import Collector, fault
from mcpchat.errors import McpChatError
from mcpchat.ui.render import stats, tool_lines
from mcpchat.util.sanitize import clean, one_line, spelt_out


class TextRenderer:
    """The final answer to ``out``, all else to ``err``, as plain text.

    What the model says on the way to its tools is no answer, and only the whole message tells: so the answer is
    written when it is complete.
    """

    def __init__(
        self, out: TextIO, err: TextIO, *, quiet: bool = False, stats: bool = False, answers: bool = True
    ) -> None:
        self._out = out
        self._err = err
        self._quiet = quiet
        self._stats = stats
        self._answers = answers  # or somebody else writes them
        self._shown = clean if out.isatty() else str  # to a file or a program it goes as it is

    def __call__(self, event: Event) -> None:
        match event:
            case events.MessageAdded(message=message) if message.role == "assistant":
                if not message.calls:
                    self._answer(message.text if self._answers else "", message.cut)
                elif message.text:
                    self._say(clean(message.text.strip()))
            case events.ToolFinished():
                mark = "failed" if event.result.is_error else "ok"
                self._say(f"  {mark}: {tool_lines.finished(event)}")
            case events.ServerChanged(state="failed" | "login"):
                self._warn(tool_lines.down(event))
            case events.Notice(level=level, text=text):
                (self._warn if level == "warning" else self._say)(clean(text))
            case events.TurnFinished() if self._stats and event.usage.total:
                self._err.write(f"  {stats.turn(event)}\n")
                self._err.flush()
            case (
                events.MessageAdded()
                | events.BranchChanged()
                | events.TurnStarted()
                | events.TextDelta()
                | events.ReasoningDelta()
                | events.ToolDecided()
                | events.ToolStarted()
                | events.ToolProgress()
                | events.ServerChanged()
                | events.TurnFinished()
                | events.TurnFailed()
            ):
                pass
            case _:
                assert_never(event)

    def _answer(self, text: str, cut: str) -> None:
        if text:
            self._out.write(self._shown(text if text.endswith("\n") else text + "\n"))
            self._out.flush()
        if cut and cut != "length":  # which the exit code tells
            self._warn(f"the answer ends early: {cut}")

    def _say(self, line: str) -> None:
        if not self._quiet:
            self._err.write(line + "\n")
            self._err.flush()

    def _warn(self, line: str) -> None:
        self._err.write(f"warning: {line}\n")
        self._err.flush()


class JsonLines:
    """Every event, and whatever else there is to say, as one line of JSON, as it happens."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._shown = spelt_out if out.isatty() else str

    def __call__(self, event: msgspec.Struct) -> None:
        self._out.write(self._shown(events.to_json(event).decode()) + "\n")
        self._out.flush()


class JsonSummary:
    """Collects one JSON object of the whole run; ``write`` puts it out. Warnings go to ``err``."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._write = JsonLines(out)
        self._err = err
        self._collector = Collector()

    def __call__(self, event: Event) -> None:
        self._collector(event)
        match event:
            case events.Notice(level="warning", text=text):
                self._err.write(f"warning: {clean(text)}\n")
            case events.ServerChanged(state="failed" | "login"):
                self._err.write(f"warning: {tool_lines.down(event)}\n")
            case _:
                pass

    @property
    def partial(self) -> bool:
        """Whether there is an answer, or a part of one."""
        return bool(self._collector.report.answer)

    def write(self, verdict: McpChatError | None, *, answer: str | None = None, value: Any = msgspec.UNSET) -> None:
        """Put the object out, with what the exit code will say as its ``error``."""
        report = self._collector.report
        report.value = value
        if answer is not None:
            report.answer = answer
        if verdict is not None:
            report.error = fault(verdict)
        self._write(report)


def say_to(err: TextIO) -> Callable[[str], None]:
    def say(text: str) -> None:
        err.write(f"{clean(text)}\n")
        err.flush()

    return say


class Explaining:
    """Passes events on, and says what they do not show: the model, the servers, who decided on a call, what it took."""

    def __init__(self, emit: events.Emit, say: Callable[[str], None]) -> None:
        self._emit = emit
        self._say = say

    def __call__(self, event: Event) -> None:
        match event:
            case events.TurnStarted(model=model, thread_id=thread_id):
                self._say(f"model {one_line(model, 100)}, thread {thread_id}")
            case events.ServerChanged(server=server, state=state) if state not in {"failed", "login"}:
                self._say(f"server {server}: {state}")
            case events.ToolDecided(tool=tool, decision=decision):
                verdict = "allowed" if decision.allowed else "denied"
                self._say(f"{one_line(tool, 100)}: {verdict} by {decision.by} ({decision.reason or 'no reason given'})")
            case _:
                pass
        self._emit(event)
        if isinstance(event, events.TurnFinished):
            self._say(f"{event.stop} after {event.steps} requests: {stats.turn(event)}")


class NobodyToAsk:
    """The Asker of a script: what would ask is denied, with the flag that would allow it."""

    async def go_on(self, rounds: int) -> bool:
        return False

    async def approve(self, question: Question) -> Decision:
        label = question.tool.label
        way = f"; allow it with --allow '{label}'" if re.fullmatch(r"[\w.-]+", label) else ""
        reason = f"{question.rule}, and there is nobody to ask{way}"
        return Decision(allowed=False, by="policy", reason=reason)

    async def elicit(self, question: Form | Visit, problem: str) -> Answer:
        return Answer(action="decline")

    async def confirm(self, server: str, wish: str, details: str) -> bool:
        return False
