"""Redaction of events: what is held back of one stream is shown before the next event."""

import pytest

from mcpchat.core.events import Event, MessageAdded, Notice, ReasoningDelta, TextDelta, TurnFailed
from mcpchat.core.messages import user_message
from mcpchat.engine.event_redaction import RedactingEmitter
from mcpchat.util.redaction import SecretRegistry


@pytest.fixture
def secrets() -> SecretRegistry:
    registry = SecretRegistry()
    registry.add("very-secret-value")
    return registry


def emitted(secrets: SecretRegistry, *events: Event) -> list[Event]:
    seen: list[Event] = []
    emit = RedactingEmitter(seen.append, secrets)
    for event in events:
        emit(event)
    return seen


def test_a_secret_split_across_events_is_redacted(secrets: SecretRegistry) -> None:
    for delta in (TextDelta, ReasoningDelta):
        events = [delta(text=text) for text in ("it is very-", "secret-", "value, keep it", " well")]
        assert emitted(secrets, *events) == [
            delta(text="it is "),
            delta(text="[secret], keep it"),
            delta(text=" well"),
        ]


def test_what_is_held_back_is_shown_before_the_other_stream(secrets: SecretRegistry) -> None:
    assert emitted(
        secrets,
        ReasoningDelta(text="a very-"),
        TextDelta(text="so very-"),
        ReasoningDelta(text="very-"),
        TextDelta(text="secret-value"),
    ) == [
        ReasoningDelta(text="a "),
        ReasoningDelta(text="very-"),
        TextDelta(text="so "),
        TextDelta(text="very-"),
        ReasoningDelta(text="very-"),
        TextDelta(text="secret-value"),
    ]


@pytest.mark.parametrize("last", [MessageAdded(message=user_message("x")), TurnFailed(kind="network", message="down")])
def test_what_is_held_back_is_shown_before_the_end(secrets: SecretRegistry, last: Event) -> None:
    assert emitted(secrets, ReasoningDelta(text="very-"), last) == [ReasoningDelta(text="very-"), last]
    assert emitted(secrets, TextDelta(text="very-"), last) == [TextDelta(text="very-"), last]


def test_other_events_are_redacted_and_end_no_stream(secrets: SecretRegistry) -> None:
    notice = Notice(level="info", text="very-secret-value")
    assert emitted(secrets, TextDelta(text="very-"), notice, TextDelta(text="secret-value")) == [
        Notice(level="info", text="[secret]"),
        TextDelta(text="[secret]"),
    ]
