"""Normalizes a history, so that every model API accepts it."""

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
from mcpchat.core.tools import reject_constant

NOT_RUN = "this call did not run: the conversation was interrupted here"
_INVALID_NAME_CHARS = re.compile(r"[^a-zA-Z0-9_-]")
_MAX_NAME_LENGTH = 64


def normalize_history(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages by the rules of all model APIs. A history that follows them comes back equal.

    Every call has a unique id, a name that can be sent, a JSON object as arguments, and its result right after it.
    Results without a call, messages without content and mcpchat's own notes are removed. The same history always gives
    the same result, so that a growing history stays in the provider's cache.
    """
    return tuple(_normalize(messages))


def _normalize(messages: Sequence[Message]) -> Iterator[Message]:
    used_ids: set[str] = set()
    index = 0
    while index < len(messages):
        message = messages[index]
        index += 1
        if message.role == "user":
            content = tuple(part for part in message.parts if isinstance(part, Content))
            if any(not isinstance(part, Text) or part.text for part in content):
                yield message if content == message.parts else replace(message, parts=content)
        elif message.role == "assistant":
            results: list[ToolResult] = []
            while index < len(messages) and messages[index].role in {"tool", "system"}:
                results += messages[index].results
                index += 1
            yield from _normalize_round(message, results, used_ids)


def _normalize_round(message: Message, results: list[ToolResult], used_ids: set[str]) -> Iterator[Message]:
    """An assistant message and the results of its calls, in the order of the calls."""
    parts: list[Part] = []
    call_results: list[ToolResult] = []
    for part in message.parts:
        if isinstance(part, ToolCall):
            call = _normalize_call(part, used_ids)
            matching = next((result for result in results if result.call_id == part.id), None)
            if matching is not None:
                results.remove(matching)
            used_ids.add(call.id)
            call_results.append(_result_or_placeholder(call.id, matching))
            parts.append(call)
        elif isinstance(part, Text | Reasoning):
            parts.append(part)
    if call_results or any(isinstance(part, Text) and part.text for part in parts):
        yield message if tuple(parts) == message.parts else replace(message, parts=tuple(parts))
    if call_results:
        yield Message(role="tool", parts=tuple(call_results))


def _result_or_placeholder(call_id: str, result: ToolResult | None) -> ToolResult:
    if result is None:
        return error_result(call_id, NOT_RUN)
    return result if result.call_id == call_id else replace(result, call_id=call_id)


def _normalize_call(call: ToolCall, used_ids: set[str]) -> ToolCall:
    call_id, number = call.id, len(used_ids)
    while not call_id or call_id in used_ids:
        call_id = f"mended{number:03d}"  # nine characters, as Mistral requires
        number += 1
    name = _INVALID_NAME_CHARS.sub("_", call.name)[:_MAX_NAME_LENGTH] or "unknown"
    arguments = call.arguments if is_json_object(call.arguments) else "{}"
    if (call_id, name, arguments) == (call.id, call.name, call.arguments):
        return call
    return replace(call, id=call_id, name=name, arguments=arguments)


def is_json_object(text: str) -> bool:
    """Whether the text is a JSON object by the JSON standard: no NaN, no Infinity."""
    try:
        return isinstance(json.loads(text, parse_constant=reject_constant), dict)
    except (ValueError, RecursionError):
        return False
