"""The result of a run as one JSON object, for scripts: an answer or an error."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from mcpchat.core import events
from mcpchat.core.events import Event, StopReason, TurnFinished
from mcpchat.core.messages import ToolResult, Usage, decode_arguments
from mcpchat.errors import McpChatError


class ErrorReport(Struct, frozen=True, kw_only=True, tag="error"):
    """Why a run failed: ``code`` is the exit code, ``hint`` says what the user can type or change."""

    kind: str = msgspec.field(name="class")
    code: int
    message: str
    hint: str = ""


def error_report(error: McpChatError) -> ErrorReport:
    return ErrorReport(kind=error.kind, code=error.exit_code, message=error.message, hint=error.hint)


class CallReport(Struct, frozen=True, kw_only=True):
    """One tool call. ``tool`` is the qualified name (``server.tool``), ``seconds`` its duration."""

    tool: str
    arguments: dict[str, Any]
    result: ToolResult
    seconds: float


class Report(Struct, kw_only=True, tag="answer"):
    """The result of a run. ``value`` is the answer as JSON if a schema was given; ``error`` is set if the run failed.

    ``usage``, ``cost`` (US dollars, None if a price is unknown), ``steps`` (requests to the model) and ``seconds`` are
    totals over all turns. ``stop`` is None if no turn finished.
    """

    answer: str = ""
    value: Any = UNSET
    tools: list[CallReport] = []
    model: str = ""
    thread_id: str = ""
    stop: StopReason | None = None
    usage: Usage = Usage()
    cost: float | None = None
    steps: int = 0
    seconds: float = 0.0
    error: ErrorReport | UnsetType = UNSET


class ReportBuilder:
    """Builds a Report from the events of a run, and passes each event on to ``emit``."""

    def __init__(self, emit: Callable[[Event], None] = lambda event: None) -> None:
        self.report = Report()
        self._emit = emit
        self._turns = 0

    def set_value(self, value: Any) -> None:
        """Set the answer to this JSON value."""
        self.report.answer, self.report.value = json.dumps(value, ensure_ascii=False), value

    def __call__(self, event: Event) -> None:
        self._update(event)
        self._emit(event)

    def _update(self, event: Event) -> None:
        report = self.report
        match event:
            case events.TurnStarted(thread_id=thread_id, model=model):
                report.thread_id, report.model = thread_id, model
            case events.BranchChanged(thread_id=thread_id):
                report.thread_id = thread_id  # if the run continues in a fork, report the fork
            case events.MessageAdded(message=message) if message.role == "assistant" and not message.calls:
                report.answer = message.text
            case events.ToolFinished(call=call, tool=tool, result=result, seconds=seconds):
                rounded = round(seconds, 3)
                report.tools.append(
                    CallReport(tool=tool, arguments=decode_arguments(call), result=result, seconds=rounded)
                )
            case TurnFinished():
                self._add_turn(event)
            case _:
                pass

    def _add_turn(self, turn: TurnFinished) -> None:
        """Add a turn to the totals. A run has several turns if an invalid answer had to be requested again."""
        report = self.report
        cost_before = report.cost if self._turns else 0.0
        self._turns += 1
        report.stop = turn.stop
        report.usage += turn.usage
        report.cost = cost_before + turn.cost if cost_before is not None and turn.cost is not None else None
        report.steps += turn.steps
        report.seconds = round(report.seconds + turn.seconds, 3)
