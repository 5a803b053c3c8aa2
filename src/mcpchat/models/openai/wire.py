"""Wire formats that both of OpenAI's APIs share: request bodies, content parts, ids, usage and text fragments."""

import base64
import random
import re
import string
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from mcpchat.core.messages import Audio, File, Image, Message, ToolResult, Usage, result_text
from mcpchat.core.protocols import ModelRequest
from mcpchat.core.tool_schema import supports_strict_mode
from mcpchat.core.tools import ToolSpec
from mcpchat.models.openai.media import IMAGE_TYPES, digest_media, image_type
from mcpchat.util.text import replace_surrogates

Chunk = dict[str, Any]  # a JSON object of a streamed response

END_OF_STREAM: Chunk = {}  # the server's mark that the stream is complete; compared by identity
_SNAPSHOT = re.compile(r"([-@:](\d{4}-\d\d-\d\d|\d{6,8}|latest))+$")


def build_origin(api: str, base_url: str, model: str) -> dict[str, str]:
    """The source of a response: API, address and model family (the model's name without a date or "latest").

    Provider-specific data of a message is only sent back to the origin that it came from.
    """
    return {"api": api, "base_url": base_url, "model": _SNAPSHOT.sub("", model)}


def provider_data(message: Message, origin: Mapping[str, str]) -> dict[str, Any]:
    """The provider-specific data of the message, or {} if it comes from another origin."""
    raw = message.raw or {}
    return raw if raw.get("origin") == origin else {}


class ToolSchemaCache:
    """Converts tools to an API's format, again only if they changed: there may be thousands."""

    def __init__(self, convert: Callable[[ToolSpec], dict[str, Any]]) -> None:
        self._convert = convert
        self._tools: Sequence[ToolSpec] = ()
        self._schemas: list[dict[str, Any]] = []

    def get(self, tools: Sequence[ToolSpec]) -> list[dict[str, Any]]:
        if tools is not self._tools:
            self._tools, self._schemas = tools, [self._convert(tool) for tool in tools]
        return self._schemas


def answer_format(schema: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The format of an answer that must fit the schema, strict if the API can enforce it.

    None without a schema, and for one whose root is not an object, which the APIs refuse.
    """
    if schema is None or schema.get("type") != "object":
        return None
    return {"name": "answer", "strict": supports_strict_mode(schema), "schema": schema}


def build_body(
    parameters: Mapping[str, Any],
    request: ModelRequest,
    conversation: Mapping[str, Any],
    *,
    tools: Sequence[Mapping[str, Any]],
    omitted: Collection[str],
) -> dict[str, Any]:
    """The JSON body of a request: parameters, tools, the conversation, the tool choice.

    What changes between requests comes late, for prompt caching. ``omitted`` are parameters that the server refuses.
    """
    payload = {key: value for key, value in parameters.items() if value is not None and key not in omitted}
    payload |= request.options.extra_body
    calls_disabled = request.tool_choice != "auto" and bool(tools)
    if tools and not (calls_disabled and "tool_choice" in omitted):
        payload["tools"] = tools
    payload |= conversation
    if calls_disabled and "tools" in payload:
        payload["tool_choice"] = request.tool_choice
    return payload


def media_url(part: Image | File, refused: Collection[str]) -> str:
    """The part as a data URL; "" if an image's content is none that models accept, or if the server has refused it.

    An image's type is that of its content: servers of tools mislabel images, and providers refuse those.
    """
    media_type = image_type(part.data) if isinstance(part, Image) else part.media_type
    if not media_type:
        return ""
    url = f"data:{media_type};base64,{base64.b64encode(part.data).decode()}"
    return "" if refused and digest_media(url) in refused else url


def describe_part(part: Image | Audio | File) -> str:
    """A text in place of the part, for a model that does not accept it."""
    if isinstance(part, Image) and part.media_type in IMAGE_TYPES and not image_type(part.data):
        return f"[{part.media_type}, {len(part.data):,} bytes, whose content is no image that models accept]"
    name = f"{part.name}: " if isinstance(part, File) and part.name else ""
    return f"[{name}{part.media_type}, {len(part.data):,} bytes, which this model does not accept]"


def format_tool_result(result: ToolResult) -> str:
    """The text of the result, never empty; for an error, it begins with "Error"."""
    text = result_text(result)
    if result.is_error and not text.lower().startswith("error"):
        text = f"Error: {text}"
    return text or "(no output)"


def new_call_id() -> str:
    """A random id of nine letters and digits, the only format that every server accepts."""
    return "".join(random.choices(string.ascii_letters + string.digits, k=9))  # noqa: S311 - a label, not a secret


def max_usage(first: Usage, second: Usage) -> Usage:
    """The larger of each count: some servers report input and output separately, or running totals per chunk."""
    counts = ("input", "output", "cached", "reasoning", "written")
    return Usage(**{name: max(getattr(first, name), getattr(second, name)) for name in counts})


class SurrogateJoiner:
    """Joins characters that a stream splits: some servers send a surrogate pair in two chunks, or only half of one."""

    def __init__(self) -> None:
        self._pending = ""

    def feed(self, text: str) -> str:
        """The text in whole characters; a high surrogate at its end is kept for the next call."""
        if not text or (text.isascii() and not self._pending):
            return text
        text, self._pending = self._pending + text, ""
        if "\ud800" <= text[-1] <= "\udbff":
            text, self._pending = text[:-1], text[-1]
        return replace_surrogates(text)


def filter_dicts(items: object) -> list[dict[str, Any]]:
    """The objects in a JSON list; [] if it is not a list."""
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def content_text(content: object) -> str:
    """The text of a JSON content: the string itself, or the texts of its parts; "" for anything else."""
    if isinstance(content, str):
        return content
    return "".join(text for part in filter_dicts(content) if isinstance(text := part.get("text"), str))
