"""What both of OpenAI's APIs have in common on the wire."""

import base64
import random
import re
import string
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from mcpchat.core.messages import Audio, File, Image, Message, ToolResult, Usage, result_text
from mcpchat.core.protocols import ModelRequest
from mcpchat.core.tools import ToolSpec

IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/jpg", "image/gif", "image/webp"})
_SNAPSHOT = re.compile(r"([-@:](\d{4}-\d\d-\d\d|\d{6,8}|latest))+$")


def build_origin(api: str, base_url: str, model: str) -> dict[str, str]:
    """Where an answer comes from: what it has of its own goes back there alone, to the same family of models."""
    return {"api": api, "base_url": base_url, "model": _SNAPSHOT.sub("", model)}


def provider_data(message: Message, origin: Mapping[str, str]) -> dict[str, Any]:
    """What the message has for this origin, empty where it comes from another."""
    raw = message.raw or {}
    return raw if raw.get("origin") == origin else {}


class ToolSchemaCache:
    """Tools in an API's form, made once for as long as they are the same: there may be thousands."""

    def __init__(self, convert: Callable[[ToolSpec], dict[str, Any]]) -> None:
        self._convert = convert
        self._tools: Sequence[ToolSpec] = ()
        self._schemas: list[dict[str, Any]] = []

    def get(self, tools: Sequence[ToolSpec]) -> list[dict[str, Any]]:
        if tools is not self._tools:
            self._tools, self._schemas = tools, [self._convert(tool) for tool in tools]
        return self._schemas


def build_body(
    parameters: Mapping[str, Any],
    request: ModelRequest,
    conversation: Mapping[str, Any],
    *,
    tools: Sequence[Mapping[str, Any]],
    omitted: Collection[str],
) -> dict[str, Any]:
    """A request, in an order that changes late: parameters, tools, the conversation, whether tools may be called."""
    payload = {key: value for key, value in parameters.items() if value is not None and key not in omitted}
    payload |= request.options.extra_body
    calls_disabled = request.tool_choice != "auto" and bool(tools)
    if tools and not (calls_disabled and "tool_choice" in omitted):
        payload["tools"] = tools
    payload |= conversation
    if calls_disabled and "tools" in payload:
        payload["tool_choice"] = request.tool_choice
    return payload


def to_data_url(part: Image | File) -> str:
    media_type = "image/jpeg" if part.media_type == "image/jpg" else part.media_type  # a common slip of the pen
    return f"data:{media_type};base64,{base64.b64encode(part.data).decode()}"


def describe_part(part: Image | Audio | File) -> str:
    """The part as words, for a model that cannot be given it."""
    name = f"{part.name}: " if isinstance(part, File) and part.name else ""
    return f"[{name}{part.media_type}, {len(part.data):,} bytes, which this model cannot be given]"


def format_tool_result(result: ToolResult) -> str:
    """The result's text, never empty, an error's marked as one."""
    text = result_text(result)
    if result.is_error and not text.lower().startswith("error"):
        text = f"Error: {text}"
    return text or "(no output)"


def new_call_id() -> str:
    """Nine letters and digits: the one form of id that every server takes back."""
    return "".join(random.choices(string.ascii_letters + string.digits, k=9))  # noqa: S311 - a label, not a secret


def max_usage(first: Usage, second: Usage) -> Usage:
    """Of each count the larger: some servers tell input and output apart, or count up with every piece."""
    counts = ("input", "output", "cached", "reasoning", "written")
    return Usage(**{name: max(getattr(first, name), getattr(second, name)) for name in counts})


def replace_surrogates(text: str) -> str:
    """Surrogate pairs joined, halves without a partner replaced."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class SurrogateJoiner:
    """Joins characters that a stream cuts in two: some servers send a surrogate pair in pieces, or half of one."""

    def __init__(self) -> None:
        self._pending = ""

    def feed(self, text: str) -> str:
        """The piece in whole characters; what it begins of one more is kept for the next."""
        if not text or (text.isascii() and not self._pending):
            return text
        text, self._pending = self._pending + text, ""
        if "\ud800" <= text[-1] <= "\udbff":
            text, self._pending = text[:-1], text[-1]
        return replace_surrogates(text)


def filter_dicts(items: object) -> list[dict[str, Any]]:
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def content_text(content: object) -> str:
    """The text of a content that is a string, or a list of parts with texts."""
    if isinstance(content, str):
        return content
    return "".join(text for part in filter_dicts(content) if isinstance(text := part.get("text"), str))


def read_token_count(usage: Mapping[str, Any], *path: str) -> int:
    """A number of tokens in a server's usage, 0 where there is none."""
    value: object = usage
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e12:
        return 0
    return int(value)
