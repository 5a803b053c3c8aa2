"""Records the tool calls of a run, for ``mcpchat calls``."""

import time

from mcpchat.app.tracing import trace_events
from mcpchat.config.run import RunContext
from mcpchat.core.call_record import CallRecord, Origin
from mcpchat.core.events import Emit, Event, ToolDecided, ToolFinished, TurnStarted
from mcpchat.core.messages import result_text
from mcpchat.core.policy import Decision
from mcpchat.engine.event_redaction import RedactingEmitter
from mcpchat.engine.token_estimate import estimate_result_tokens
from mcpchat.errors import StoreError
from mcpchat.threads.call_log import CallLog

_MAX_ARGUMENTS = 4000  # characters
_MAX_ERROR = 300  # characters


class CallRecorder:
    """Passes events on, and adds each finished call to the log. A log that cannot be written loses no call."""

    def __init__(self, emit: Emit, log: CallLog, origin: Origin) -> None:
        self._emit = emit
        self._log = log
        self._origin = origin
        self._thread = ""
        self._decisions: dict[str, Decision] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case TurnStarted(thread_id=thread):
                self._thread = thread
            case ToolDecided(call=call, decision=decision):
                self._decisions[call.id] = decision
            case ToolFinished():
                self._record(event)
        self._emit(event)

    def _record(self, event: ToolFinished) -> None:
        decision = self._decisions.pop(event.call.id, None)
        text = result_text(event.result)
        record = CallRecord(
            at=round(time.time() - event.seconds, 3),
            origin=self._origin,
            thread=self._thread,
            tool=event.tool,
            arguments=event.call.arguments[:_MAX_ARGUMENTS],
            allowed=decision is not None and decision.allowed,
            by=decision.by if decision is not None else "",
            reason=decision.reason if decision is not None else "",
            seconds=event.seconds,
            characters=len(text),
            tokens=estimate_result_tokens(event.result),
            error=text[:_MAX_ERROR] if event.result.is_error else "",
        )
        try:
            self._log.add(record)
        except StoreError:
            return


def record_calls(context: RunContext, emit: Emit, origin: Origin, *, save: bool = True) -> Emit:
    """An Emit that removes secrets, records calls if the run saves anything, and makes traces if the config says so."""
    emit = trace_events(context, emit)
    if save and context.config.threads.save:
        emit = CallRecorder(emit, CallLog(context.paths.state), origin)
    return RedactingEmitter(emit, context.secrets)
