"""Renderers without a terminal: text, JSON, JSON lines; and the dialog of a run that is not interactive."""

import re
import textwrap
from collections.abc import Callable
from typing import Any, TextIO, assert_never

import msgspec

from mcpchat.core import events
from mcpchat.core.elicitation import ElicitationResult, Form, UrlRequest
from mcpchat.core.events import Event
from mcpchat.core.messages import Message
from mcpchat.core.policy import ApprovalRequest, Decision
from mcpchat.core.report import ReportBuilder, error_report
from mcpchat.errors import McpChatError
from mcpchat.ui.render import stats, tool_lines
from mcpchat.ui.render.answer_stream import HOLD_SECONDS, AnswerStream
from mcpchat.ui.render.retries import RetryCounter
from mcpchat.util.sanitize import escape_unsafe_json, one_line, sanitize, sanitize_message


class TextRenderer:
    """Writes the answer to ``out`` as it comes, and everything else to ``err``, as plain text."""

    def __init__(
        self,
        out: TextIO,
        err: TextIO,
        *,
        quiet: bool = False,
        show_stats: bool = False,
        write_answers: bool = True,
        stream: bool = True,
        may_call: bool = True,
    ) -> None:
        """Without ``write_answers`` the caller writes the answer. ``may_call`` tells whether tools are on offer."""
        self._err = err
        self._quiet = quiet
        self._show_stats = show_stats
        self._write_answers = write_answers
        self._retries = RetryCounter()
        hold_seconds = HOLD_SECONDS if may_call else 0.0
        self.answer = AnswerStream(out, hold_seconds if stream else None)

    def __call__(self, event: Event) -> None:
        if self._retries.update(event) <= 1:  # of several retries the first is told
            self._render(event)

    def _render(self, event: Event) -> None:
        match event:
            case events.TextDelta(text=text):
                if self._write_answers:
                    self.answer.feed(text)
            case events.MessageAdded(message=message) if message.role == "assistant":
                self._finish_message(message)
            case events.ToolFinished():
                mark = "failed" if event.result.is_error else "ok"
                self._print_info(f"  {mark}: {tool_lines.format_finished(event)}")
            case events.ServerChanged(state="failed" | "login"):
                self._warn(tool_lines.format_server_down(event))
            case events.Notice(level=level, text=text):
                (self._warn if level == "warning" else self._print_info)(sanitize_message(text))
            case events.ToolTask():
                self._print_info(tool_lines.format_task(event))
            case events.TurnFinished() if self._show_stats and event.usage.total:
                self._err.writelines(f"  {line}\n" for line in stats.format_turn(event))
                self._err.flush()
            case (
                events.MessageAdded()
                | events.BranchChanged()
                | events.TurnStarted()
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

    def _finish_message(self, message: Message) -> None:
        is_answer = not message.calls
        is_written = self._write_answers and self.answer.finish(message.text, is_answer=is_answer)
        if not is_answer and not is_written and message.text:
            self._print_info(textwrap.indent(sanitize(message.text.strip()), "  "))
        if is_answer and message.cut and message.cut not in {"length", "cancelled"}:  # the exit code reports these
            self._warn(f"the answer ends early: {message.cut}")

    def _print_info(self, line: str) -> None:
        if not self._quiet:
            self._err.write(line + "\n")
            self._err.flush()

    def _warn(self, line: str) -> None:
        self._err.write(f"warning: {line}\n")
        self._err.flush()


class JsonLines:
    """Writes each event, or any other struct, as one line of JSON."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._escape = escape_unsafe_json if out.isatty() else str

    def __call__(self, event: msgspec.Struct) -> None:
        self._out.write(self._escape(events.to_json(event).decode()) + "\n")
        self._out.flush()


class JsonSummary:
    """Collects one JSON object for the whole run, which ``write`` writes. Warnings go to ``err``."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._write = JsonLines(out)
        self._err = err
        self._collector = ReportBuilder()

    def __call__(self, event: Event) -> None:
        self._collector(event)
        match event:
            case events.Notice(level="warning", text=text):
                self._err.write(f"warning: {sanitize_message(text)}\n")
            case events.ServerChanged(state="failed" | "login"):
                self._err.write(f"warning: {tool_lines.format_server_down(event)}\n")
            case _:
                pass

    @property
    def has_answer(self) -> bool:
        """Whether there is an answer, at least a part of one."""
        return bool(self._collector.report.answer)

    def write(self, error: McpChatError | None, *, answer: str | None = None, value: Any = msgspec.UNSET) -> None:
        """Write the object; ``error`` is the error that decides the exit code."""
        report = self._collector.report
        report.value = value
        if answer is not None:
            report.answer = answer
        if error is not None:
            report.error = error_report(error)
        self._write(report)


def print_to(err: TextIO) -> Callable[[str], None]:
    def print_line(text: str) -> None:
        err.write(f"{sanitize(text)}\n")
        err.flush()

    return print_line


class VerboseEmitter:
    """Passes events on, and prints details for --verbose: model, servers, approval decisions, usage."""

    def __init__(self, emit: events.Emit, print_line: Callable[[str], None]) -> None:
        self._emit = emit
        self._print_line = print_line

    def __call__(self, event: Event) -> None:
        match event:
            case events.TurnStarted(model=model, thread_id=thread_id):
                self._print_line(f"model {one_line(model, 100)}, thread {thread_id}")
            case events.ServerChanged(server=server, state=state) if state not in {"failed", "login"}:
                self._print_line(f"server {server}: {state}")
            case events.ToolDecided(tool=tool, decision=decision):
                outcome = "allowed" if decision.allowed else "denied"
                self._print_line(
                    f"{one_line(tool, 100)}: {outcome} by {decision.by} ({decision.reason or 'no reason given'})"
                )
            case _:
                pass
        self._emit(event)
        if isinstance(event, events.TurnFinished):
            self._print_line(f"{event.stop} after {event.steps} requests: {stats.format_turn(event)[0]}")


class NonInteractiveDialog:
    """The UserDialog of a run that is not interactive: denies every question, and names the option that allows it."""

    interactive = False

    async def confirm_continue(self, rounds: int) -> bool:
        return False

    async def approve(self, request: ApprovalRequest) -> Decision:
        label = request.tool.qualified_name
        hint = f"; allow it with --allow '{label}'" if re.fullmatch(r"[\w.-]+", label) else ""
        reason = f"{request.rule}, but this run is not interactive{hint}"
        return Decision(allowed=False, by="policy", reason=reason)

    async def elicit(self, request: Form | UrlRequest, problem: str) -> ElicitationResult:
        return ElicitationResult(action="decline")

    async def confirm(self, server: str, action: str, details: str) -> bool:
        return False
