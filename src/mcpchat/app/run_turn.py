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
    denials_from: int | None = None,
) -> TurnOutcome:
    """Send the messages, or with ``retry`` ask the model again, and wait for the end of the turn.

    ``timeout`` is in seconds. ``denials_from`` is the index of this request's first denial among those of the session;
    by default only new ones count. The error of the outcome has no secrets. Raises ModelError, which includes an answer
    that does not fit the session's schema, and LimitReached when the time is up.
    """
    first_denial = len(session.denials) if denials_from is None else denials_from
    value: Any = UNSET
    async with time_limit(timeout):
        finished = await (session.retry() if retry else session.send(*messages))
        if session.has_schema:
            finished, text = await session.validate_answer(finished)
            value = secrets.redact_value(json.loads(text)) if text else UNSET
    error = outcomes.exit_error(finished, session.denials[first_denial:], session.run_usage)
    if error is not None:
        error.message, error.hint = secrets.redact(error.message), secrets.redact(error.hint)
    return TurnOutcome(finished=finished, value=value, error=error)
