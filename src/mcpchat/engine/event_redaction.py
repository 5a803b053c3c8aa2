"""Redacts secrets from events, including secrets that are split across chunks of a stream."""

from mcpchat.core.events import Emit, Event, MessageAdded, ReasoningDelta, TextDelta, TurnFailed, TurnFinished
from mcpchat.util.redaction import SecretRegistry, StreamRedactor


class RedactingEmitter:
    """Passes events on to ``emit`` with every secret replaced by a mark."""

    def __init__(self, emit: Emit, secrets: SecretRegistry) -> None:
        self._emit = emit
        self._secrets = secrets
        self._text = StreamRedactor(secrets)
        self._reasoning = StreamRedactor(secrets)

    def __call__(self, event: Event) -> None:
        match event:
            case TextDelta(text=text):
                if rest := self._reasoning.flush():
                    self._emit(ReasoningDelta(text=rest))
                if safe_text := self._text.feed(text):
                    self._emit(TextDelta(text=safe_text))
                return
            case ReasoningDelta(text=text):
                if rest := self._text.flush():
                    self._emit(TextDelta(text=rest))
                if safe_text := self._reasoning.feed(text):
                    self._emit(ReasoningDelta(text=safe_text))
                return
            case MessageAdded() | TurnFinished() | TurnFailed():
                if rest := self._reasoning.flush():
                    self._emit(ReasoningDelta(text=rest))
                if rest := self._text.flush():
                    self._emit(TextDelta(text=rest))
            case _:
                pass
        self._emit(self._secrets.redact_value(event))
