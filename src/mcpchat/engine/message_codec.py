"""A message as it is written down: JSON, with what is large beside it under the hash of its content."""

import hashlib
import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from mcpchat.core.messages import Message, Part, Text, ToolCall, ToolResult, result_text
from mcpchat.util.structures import mapped

LARGE = 4096  # bytes of a text, from which on it stands by itself
KEY = re.compile(r"[0-9a-f]{12,64}")  # of a whole result, as a model is told it: the beginning of a hash
_KEYS = re.compile(r'mcpchat__read_result\(id="([0-9a-f]{12,64})"')
_LOST = "[the content is lost]"
_MOST_WORDS, _MOST_OF_RESULT = 100_000, 4000  # characters that can be searched for

UNREADABLE = Message(role="system", parts=())
Load = Callable[[str], bytes | None]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def packed(message: Message) -> tuple[bytes, dict[str, bytes]]:
    """The message's JSON, and its large contents by their hashes."""
    blobs: dict[str, bytes] = {}

    def put(data: bytes) -> str:
        blobs[key := digest(data)] = data
        return key

    def without_large(part: dict[str, Any]) -> dict[str, Any]:
        if isinstance(data := part.get("data"), bytes):
            return {**{key: value for key, value in part.items() if key != "data"}, "blob": put(data)}
        if part["type"] == "text" and len(part["text"]) >= LARGE // 4:
            written = part["text"].encode()
            return {"type": "text", "blob": put(written)} if len(written) >= LARGE else part
        return part

    try:
        return _encoded(message, without_large), blobs
    except (ValueError, TypeError, OverflowError, RecursionError):
        blobs.clear()
    # Half characters, which no file can hold; or a structure that no JSON can, whose text stands beside it.
    plain = mapped(replace(message, parts=tuple(map(_plain, message.parts)), raw=None), _whole_characters)
    return _encoded(plain, without_large), blobs


def encoded(value: object) -> bytes:
    """The value's JSON, half characters in it replaced."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(mapped(value, _whole_characters))


def _plain(part: Part) -> Part:
    return replace(part, structured=None) if isinstance(part, ToolResult) else part


def _whole_characters(text: str) -> str:
    return text.encode(errors="replace").decode()


def _encoded(message: Message, change: Callable[[dict[str, Any]], dict[str, Any]]) -> bytes:
    return msgspec.json.encode(_with_parts(msgspec.to_builtins(message, builtin_types=(bytes,)), change))


def unpacked(data: bytes | str, load: Load) -> Message:
    """The message of this JSON, its large contents loaded by their hashes. Raises ValueError for what is none."""

    def whole(part: dict[str, Any]) -> dict[str, Any]:
        if (key := part.get("blob")) is None:
            return part
        content = load(key)
        rest = {name: value for name, value in part.items() if name != "blob"}
        if content is None:
            return {"type": "text", "text": _LOST}
        if part.get("type") == "text":
            return {**rest, "text": content.decode(errors="replace")}
        return {**rest, "data": content}

    tree = msgspec.json.decode(data)
    return msgspec.convert(_with_parts(tree, whole), Message, builtin_types=(bytes,))


def _with_parts(message: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """The message with each of its parts changed, and each part of a result."""

    def inside(part: dict[str, Any]) -> dict[str, Any]:
        if part.get("type") == "tool_result":
            return {**part, "parts": [change(one) for one in part["parts"]]} if part.get("parts") else part
        return change(part)

    return {**message, "parts": [inside(part) for part in message.get("parts", ())]}


def keys_in(message: Message) -> tuple[str, ...]:
    """The whole results that the message points to: what it says can be read on."""
    texts = (result_text(result) for result in message.results)
    return tuple(dict.fromkeys(key for text in texts if "mcpchat__read_result" in text for key in _KEYS.findall(text)))


def spoken(message: Message) -> str:
    """The words of the message that are searched: what was said, what was called for, how results begin."""
    pieces: list[str] = []
    for part in message.parts:
        if isinstance(part, Text):
            pieces.append(part.text)
        elif isinstance(part, ToolCall):
            pieces.append(f"{part.name} {part.arguments}"[:_MOST_OF_RESULT])
        elif isinstance(part, ToolResult):
            pieces.append(result_text(part)[:_MOST_OF_RESULT])
    return "\n".join(pieces)[:_MOST_WORDS]
