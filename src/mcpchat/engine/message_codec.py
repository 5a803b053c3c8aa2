"""Encodes messages for storage: JSON, with large contents as blobs under the hash of their bytes."""

import hashlib
import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from mcpchat.core.messages import Message, Part, Text, ToolCall, ToolResult, result_text
from mcpchat.util.structures import map_strings
from mcpchat.util.text import replace_surrogates

BLOB_THRESHOLD = 4096  # bytes of a text from which on it is a blob
RESULT_ID = re.compile(r"[0-9a-f]{12,64}")  # of a stored result: the beginning of a hash
_RESULT_REFERENCE = re.compile(r'mcpchat__read_result\(id="([0-9a-f]{12,64})"')
_MISSING_BLOB = "[the content is lost]"
_MAX_SEARCHABLE, _MAX_SEARCHABLE_PART = 100_000, 4000  # characters

UNREADABLE_MESSAGE = Message(role="system", parts=())
LoadBlob = Callable[[str], bytes | None]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def encode_message(message: Message) -> tuple[bytes, dict[str, bytes]]:
    """The message as JSON, and its large contents by their hashes."""
    blobs: dict[str, bytes] = {}

    def store_blob(data: bytes) -> str:
        blobs[key := digest(data)] = data
        return key

    def extract_blobs(part: dict[str, Any]) -> dict[str, Any]:
        if isinstance(data := part.get("data"), bytes):
            return {**{key: value for key, value in part.items() if key != "data"}, "blob": store_blob(data)}
        if part["type"] == "text" and len(part["text"]) >= BLOB_THRESHOLD // 4:
            encoded_text = part["text"].encode()
            return {"type": "text", "blob": store_blob(encoded_text)} if len(encoded_text) >= BLOB_THRESHOLD else part
        return part

    try:
        return _to_json(message, extract_blobs), blobs
    except (ValueError, TypeError, OverflowError, RecursionError):
        blobs.clear()
    # Lone surrogates, which UTF-8 cannot encode; or structured content that JSON cannot: its text is in ``parts``.
    plain = map_strings(
        replace(message, parts=tuple(map(_without_structured, message.parts)), raw=None), replace_surrogates
    )
    return _to_json(plain, extract_blobs), blobs


def encode_json(value: object) -> bytes:
    """The value as JSON, with lone surrogates replaced."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(map_strings(value, replace_surrogates))


def _without_structured(part: Part) -> Part:
    return replace(part, structured=None) if isinstance(part, ToolResult) else part


def _to_json(message: Message, change: Callable[[dict[str, Any]], dict[str, Any]]) -> bytes:
    return msgspec.json.encode(_map_parts(msgspec.to_builtins(message, builtin_types=(bytes,)), change))


def decode_message(data: bytes | str, load: LoadBlob) -> Message:
    """The message in this JSON, with its blobs loaded. Raises ValueError if it is not a message."""

    def restore_blob(part: dict[str, Any]) -> dict[str, Any]:
        if (key := part.get("blob")) is None:
            return part
        content = load(key)
        fields = {name: value for name, value in part.items() if name != "blob"}
        if content is None:
            return {"type": "text", "text": _MISSING_BLOB}
        if part.get("type") == "text":
            return {**fields, "text": content.decode(errors="replace")}
        return {**fields, "data": content}

    tree = msgspec.json.decode(data)
    return msgspec.convert(_map_parts(tree, restore_blob), Message, builtin_types=(bytes,))


def _map_parts(message: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """The message with ``change`` applied to each part, and to each part of a result."""

    def change_part(part: dict[str, Any]) -> dict[str, Any]:
        if part.get("type") == "tool_result":
            return {**part, "parts": [change(inner) for inner in part["parts"]]} if part.get("parts") else part
        return change(part)

    return {**message, "parts": [change_part(part) for part in message.get("parts", ())]}


def referenced_results(message: Message) -> tuple[str, ...]:
    """The ids of the stored results that the message's shortened results point to."""
    return tuple(dict.fromkeys(key for result in message.results if (key := stored_result_id(result))))


def stored_result_id(result: ToolResult) -> str:
    """The id under which the whole text of a shortened result is stored; empty if it is not.

    A result that was saved before ``stored_as`` existed has the id in its text only.
    """
    if isinstance(result.stored_as, str) and RESULT_ID.fullmatch(result.stored_as):
        return result.stored_as
    text = result_text(result)
    match = _RESULT_REFERENCE.search(text) if "mcpchat__read_result" in text else None
    return match[1] if match else ""


def searchable_text(message: Message) -> str:
    """The text of the message that search looks at: texts, calls, the beginnings of results."""
    texts: list[str] = []
    for part in message.parts:
        if isinstance(part, Text):
            texts.append(part.text)
        elif isinstance(part, ToolCall):
            texts.append(f"{part.name} {part.arguments}"[:_MAX_SEARCHABLE_PART])
        elif isinstance(part, ToolResult):
            texts.append(result_text(part)[:_MAX_SEARCHABLE_PART])
    return "\n".join(texts)[:_MAX_SEARCHABLE]
