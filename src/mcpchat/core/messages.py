"""The conversation as values: messages, their parts, token usage."""

import json
from typing import Any, Literal

import msgspec
from msgspec import Struct

Role = Literal["system", "user", "assistant", "tool"]


class Text(Struct, frozen=True, kw_only=True, tag="text"):
    text: str


class Reasoning(Struct, frozen=True, kw_only=True, tag="reasoning"):
    text: str


class Image(Struct, frozen=True, kw_only=True, tag="image"):
    """``data`` is the raw file; base64 in JSON."""

    media_type: str
    data: bytes


class Audio(Struct, frozen=True, kw_only=True, tag="audio"):
    media_type: str
    data: bytes


class File(Struct, frozen=True, kw_only=True, tag="file"):
    """A document that a model may read as it is (a PDF). ``data`` is the raw file; base64 in JSON."""

    media_type: str
    data: bytes
    name: str = ""


class Link(Struct, frozen=True, kw_only=True, tag="link"):
    uri: str
    title: str = ""
    media_type: str = ""


Content = Text | Image | Audio | File | Link


class ToolCall(Struct, frozen=True, kw_only=True, tag="tool_call"):
    """``name`` is the exposed name (``server__tool``); ``arguments`` is a JSON object as text, always valid."""

    id: str
    name: str
    arguments: str


class ToolResult(Struct, frozen=True, kw_only=True, tag="tool_result"):
    call_id: str
    parts: tuple[Content, ...] = ()
    structured: Any = None
    is_error: bool = False


class Compaction(Struct, frozen=True, kw_only=True, tag="compaction"):
    """A note in the history, alone in its message, of what a model is shown of all that stands before it.

    With a ``summary``, that stands for the first ``replaces`` messages, of which those at the places ``keeps`` (the
    user's own) are shown all the same. Without, the results of tools among the first ``replaces`` are shortened.
    ``limit`` is how many characters of one kept message, or of one result, are shown. The history itself stays whole.
    """

    replaces: int
    limit: int
    summary: str = ""
    keeps: tuple[int, ...] = ()


class AgentSwitch(Struct, frozen=True, kw_only=True, tag="agent_switch"):
    """A note in the history, alone in its message: from here on the person talks to this agent, on this model."""

    agent: str
    model: str


Part = Text | Reasoning | Image | Audio | File | Link | ToolCall | ToolResult | Compaction | AgentSwitch


class Message(Struct, frozen=True, kw_only=True):
    """One entry of the history. The role "system" is a note of our own (Compaction, AgentSwitch), which no model
    sees as such.

    ``raw`` is what one provider wants echoed, opaque to everyone but its adapter. ``cut`` says why the text ends
    early ("cancelled", "connection lost", "length"); empty when it does not.
    """

    role: Role
    parts: tuple[Part, ...]
    raw: dict[str, Any] | None = None
    cut: str = ""

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def user_text(self) -> str:
        """What a person typed: the first text. Resources and attached files come after it."""
        return next((part.text for part in self.parts[:1] if isinstance(part, Text)), "")

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    @property
    def results(self) -> tuple[ToolResult, ...]:
        return tuple(part for part in self.parts if isinstance(part, ToolResult))


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens. ``cached`` and ``written`` (to the provider's cache) are parts of ``input``, ``reasoning`` of ``output``.

    ``estimated`` where the server did not count, and we did by the length.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0
    written: int = 0
    estimated: bool = False

    @property
    def total(self) -> int:
        return self.input + self.output

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input=self.input + other.input,
            output=self.output + other.output,
            cached=self.cached + other.cached,
            reasoning=self.reasoning + other.reasoning,
            written=self.written + other.written,
            estimated=self.estimated or other.estimated,
        )


def user_message(text: str) -> Message:
    return Message(role="user", parts=(Text(text=text),))


def error_result(call_id: str, text: str) -> ToolResult:
    return ToolResult(call_id=call_id, parts=(Text(text=text),), is_error=True)


def decode_arguments(call: ToolCall) -> dict[str, Any]:
    """The call's arguments; as one text where they are no object any more, without a secret that was in them."""
    try:
        value = json.loads(call.arguments)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"arguments": call.arguments}


def result_text(result: ToolResult) -> str:
    """The result as a person or a text-only model reads it: its text, else its structured value, else what it holds."""
    parts = [_describe_part(part) for part in result.parts]
    if not parts and result.structured is not None:
        return _encode_value(result.structured)
    return "\n".join(parts)


def _encode_value(value: object) -> str:
    """The value as JSON, whatever a server made it of: half characters, numbers without end, a depth without end."""
    try:
        return msgspec.json.encode(value).decode()
    except (ValueError, TypeError, OverflowError, RecursionError):
        try:
            return json.dumps(value, ensure_ascii=False, default=str)
        except (ValueError, RecursionError):
            return "[a value that cannot be written]"


def _describe_part(part: Content) -> str:
    match part:
        case Text(text=text):
            return text
        case File(media_type=media_type, data=data, name=name):
            return f"[{name or 'file'}: {media_type}, {len(data)} bytes]"
        case Image(media_type=media_type, data=data) | Audio(media_type=media_type, data=data):
            return f"[{media_type}, {len(data)} bytes]"
        case Link(uri=uri, title=title):
            return f"[{title}]({uri})" if title else uri
