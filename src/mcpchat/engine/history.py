"""A history made sendable: whatever happened to it, no model API refuses it."""

import json
import re
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from mcpchat.core.messages import (
    Content,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    error_result,
)
from mcpchat.core.tools import no_constant

UNANSWERED = "this call was never run: the conversation broke off here"
_NOT_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_LONGEST_NAME = 64


def sendable(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages by the rules of all model APIs; a history that keeps them comes back equal.

    Every call has an id of its own, a name that can be sent, a JSON object as arguments, and its result right after it;
    results without a call, messages without content and notes of our own are gone. Deterministic, so that a history
    that grows is repaired the same way each time.
    """
    return tuple(_repaired(messages))


def _repaired(messages: Sequence[Message]) -> Iterator[Message]:
    used: set[str] = set()
    at = 0
    while at < len(messages):
        message = messages[at]
        at += 1
        if message.role == "user":
            said = tuple(part for part in message.parts if isinstance(part, Content))
            if any(not isinstance(part, Text) or part.text for part in said):
                yield message if said == message.parts else replace(message, parts=said)
        elif message.role == "assistant":
            results: list[ToolResult] = []
            while at < len(messages) and messages[at].role in {"tool", "system"}:
                results += messages[at].results
                at += 1
            yield from _round(message, results, used)


def _round(message: Message, results: list[ToolResult], used: set[str]) -> Iterator[Message]:
    """An assistant's message, and the results of its calls in their order."""
    parts: list[Part] = []
    answers: list[ToolResult] = []
    for part in message.parts:
        if isinstance(part, ToolCall):
            call = _call(part, used)
            answer = next((result for result in results if result.call_id == part.id), None)
            if answer is not None:
                results.remove(answer)
            used.add(call.id)
            answers.append(_answering(call.id, answer))
            parts.append(call)
        elif isinstance(part, Text | Reasoning):
            parts.append(part)
    if answers or any(isinstance(part, Text) and part.text for part in parts):
        yield message if tuple(parts) == message.parts else replace(message, parts=tuple(parts))
    if answers:
        yield Message(role="tool", parts=tuple(answers))


def _answering(call_id: str, answer: ToolResult | None) -> ToolResult:
    if answer is None:
        return error_result(call_id, UNANSWERED)
    return answer if answer.call_id == call_id else replace(answer, call_id=call_id)


def _call(call: ToolCall, used: set[str]) -> ToolCall:
    call_id, number = call.id, len(used)
    while not call_id or call_id in used:
        call_id = f"mended{number:03d}"  # nine characters, which suits every server
        number += 1
    name = _NOT_A_NAME.sub("_", call.name)[:_LONGEST_NAME] or "unknown"
    arguments = call.arguments if is_object(call.arguments) else "{}"
    if (call_id, name, arguments) == (call.id, call.name, call.arguments):
        return call
    return replace(call, id=call_id, name=name, arguments=arguments)


def is_object(text: str) -> bool:
    """Whether the text is a JSON object, in JSON's own words (no NaN)."""
    try:
        return isinstance(json.loads(text, parse_constant=no_constant), dict)
    except (ValueError, RecursionError):
        return False
