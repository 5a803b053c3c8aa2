"""Runs one turn to its end. Shared by ``ask``, batches, JSONL sessions and the Python API."""

import json
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET

from mcpchat.core.events import TurnFinished
from mcpchat.core.messages import Message
from mcpchat.engine import outcomes
from mcpchat.engine.session import Session
from mcpchat.errors import McpChatError
from mcpchat.util.redaction import SecretRegistry
from mcpchat.util.time_limit import time_limit


@dataclass(frozen=True, kw_only=True)
class TurnOutcome:
    """How a turn ended. ``value`` is the answer as a JSON value if the session has a schema, else UNSET.

    ``error`` is what the exit code reports about a turn that did not end well.
    """

    finished: TurnFinished
    value: Any = UNSET
    error: McpChatError | None = None


async def run_turn(
    session: Session,
    *messages: str | Message,
    secrets: SecretRegistry,
    timeout: float | None = None,
    retry: bool = False,
) -> TurnOutcome:
    """Send the messages, or with ``retry`` ask the model again, and wait for the end of the turn.

    ``timeout`` is in seconds. Raises ModelError, which includes an answer that does not fit the session's schema, and
    LimitReached when the time is up.
    """
    denials_before, value = len(session.denials), UNSET
    async with time_limit(timeout):
        finished = await (session.retry() if retry else session.send(*messages))
        if session.has_schema:
            finished, text = await session.validate_answer(finished)
            value = secrets.redact_value(json.loads(text)) if text else UNSET
    error = outcomes.exit_error(finished, session.denials[denials_before:], session.run_usage)
    return TurnOutcome(finished=finished, value=value, error=error)
