"""Events without secrets, also where a stream cuts one in two."""

from mcpchat.core.events import Emit, Event, MessageAdded, ReasoningDelta, TextDelta, TurnFailed, TurnFinished
from mcpchat.util.redaction import RedactedStream, Secrets


class Discreet:
    """Passes events on to ``emit``, every secret in them replaced by a mark."""

    def __init__(self, emit: Emit, secrets: Secrets) -> None:
        self._emit = emit
        self._secrets = secrets
        self._text = RedactedStream(secrets)
        self._reasoning = RedactedStream(secrets)

    def __call__(self, event: Event) -> None:
        match event:
            case TextDelta(text=text):
                if rest := self._reasoning.end():
                    self._emit(ReasoningDelta(text=rest))
                if shown := self._text.feed(text):
                    self._emit(TextDelta(text=shown))
                return
            case ReasoningDelta(text=text):
                if rest := self._text.end():
                    self._emit(TextDelta(text=rest))
                if shown := self._reasoning.feed(text):
                    self._emit(ReasoningDelta(text=shown))
                return
            case MessageAdded() | TurnFinished() | TurnFailed():
                if rest := self._reasoning.end():
                    self._emit(ReasoningDelta(text=rest))
                if rest := self._text.end():
                    self._emit(TextDelta(text=rest))
            case _:
                pass
        self._emit(self._secrets.redact_value(event))
