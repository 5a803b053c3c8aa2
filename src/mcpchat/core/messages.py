"""Values of a conversation: messages, their parts, token usage."""

import json
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

Role = Literal["system", "user", "assistant", "tool"]


class Text(Struct, frozen=True, kw_only=True, tag="text"):
    text: str


class Reasoning(Struct, frozen=True, kw_only=True, tag="reasoning"):
    text: str


class Image(Struct, frozen=True, kw_only=True, tag="image"):
    """``data`` holds the raw bytes of the file; base64 in JSON."""

    media_type: str
    data: bytes


class Audio(Struct, frozen=True, kw_only=True, tag="audio"):
    media_type: str
    data: bytes


class File(Struct, frozen=True, kw_only=True, tag="file"):
    """A document that a model can read directly (a PDF). ``data`` holds the raw bytes of the file; base64 in JSON."""

    media_type: str
    data: bytes
    name: str = ""


class Link(Struct, frozen=True, kw_only=True, tag="link"):
    uri: str
    title: str = ""
    media_type: str = ""


Content = Text | Image | Audio | File | Link


class ToolCall(Struct, frozen=True, kw_only=True, tag="tool_call"):
    """``name`` is the model name of the tool (``server__tool``); ``arguments`` is the text of a valid JSON object."""

    id: str
    name: str
    arguments: str


class ToolResult(Struct, frozen=True, kw_only=True, tag="tool_result"):
    """The result of a tool call. ``stored_as`` is the id under which the whole text of a shortened result is stored."""

    call_id: str
    parts: tuple[Content, ...] = ()
    structured: Any = None
    is_error: bool = False
    stored_as: str | UnsetType = UNSET


class Compaction(Struct, frozen=True, kw_only=True, tag="compaction"):
    """A note in the history: how earlier messages are shortened for the model. It is the only part of its message.

    With a ``summary``, the summary replaces the first ``replaces`` messages; those at the indexes ``keeps`` (the user's
    own messages) are still sent. Without a summary, the tool results among the first ``replaces`` messages are
    shortened. ``limit`` is the number of characters sent of one kept message or one result. The messages at the
    indexes ``omits`` were refused by the model's server; it only gets a note in their place. The history itself is not
    changed.
    """

    replaces: int
    limit: int
    summary: str = ""
    keeps: tuple[int, ...] = ()
    omits: tuple[int, ...] = ()


class AgentSwitch(Struct, frozen=True, kw_only=True, tag="agent_switch"):
    """A note in the history: the user switched to this agent and model. It is the only part of its message."""

    agent: str
    model: str


Part = Text | Reasoning | Image | Audio | File | Link | ToolCall | ToolResult | Compaction | AgentSwitch


class Message(Struct, frozen=True, kw_only=True):
    """One entry of the history. The role "system" marks a note of mcpchat (Compaction, AgentSwitch), which is never
    sent to a model as a message.

    ``raw`` is provider data that must be sent back; only the adapter of that provider reads it. ``cut`` says why the
    text is incomplete ("cancelled", "connection lost", "length"); it is empty if the text is complete.
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
        """The text that the user typed: the first part. Resources and attached files follow it."""
        return next((part.text for part in self.parts[:1] if isinstance(part, Text)), "")

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    @property
    def results(self) -> tuple[ToolResult, ...]:
        return tuple(part for part in self.parts if isinstance(part, ToolResult))


class InputSplit(Struct, frozen=True, kw_only=True):
    """What the input tokens of requests were: the instructions, the definitions of tools, the tools' results by server,
    and ``history``, which is everything else.

    The sum is what the model's server counted; the shares are estimated from the lengths of the texts.
    """

    instructions: int = 0
    tools: int = 0
    history: int = 0
    results: dict[str, int] = {}

    def __add__(self, other: "InputSplit") -> "InputSplit":
        servers = dict.fromkeys((*self.results, *other.results))
        return InputSplit(
            instructions=self.instructions + other.instructions,
            tools=self.tools + other.tools,
            history=self.history + other.history,
            results={name: self.results.get(name, 0) + other.results.get(name, 0) for name in servers},
        )


class Usage(Struct, frozen=True, kw_only=True):
    """Numbers of tokens. ``input`` includes ``cached`` and ``written`` (to the provider's cache), ``output`` includes
    ``reasoning``. ``input_split`` says what the input was, if that is known.

    ``estimated`` is set if the server reported no usage; the numbers are then estimated from the length of the text.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0
    written: int = 0
    estimated: bool = False
    input_split: InputSplit | UnsetType = UNSET

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
            input_split=_add_splits(self.input_split, other.input_split),
        )


def _add_splits(first: InputSplit | UnsetType, second: InputSplit | UnsetType) -> InputSplit | UnsetType:
    if isinstance(first, UnsetType) or isinstance(second, UnsetType):
        return second if isinstance(first, UnsetType) else first
    return first + second


def user_message(text: str) -> Message:
    return Message(role="user", parts=(Text(text=text),))


def error_result(call_id: str, text: str) -> ToolResult:
    return ToolResult(call_id=call_id, parts=(Text(text=text),), is_error=True)


def decode_arguments(call: ToolCall) -> dict[str, Any]:
    """The arguments of the call; ``{"arguments": text}`` if redaction has made the JSON invalid."""
    try:
        value = json.loads(call.arguments)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"arguments": call.arguments}


def result_text(result: ToolResult) -> str:
    """The result as text: its parts, with a description of each part that is not text; else its structured value."""
    parts = [_describe_part(part) for part in result.parts]
    if not parts and result.structured is not None:
        return _encode_value(result.structured)
    return "\n".join(parts)


def _encode_value(value: object) -> str:
    """The value as JSON. Lone surrogates, infinite numbers and extreme nesting from a server cause no error."""
    try:
        return msgspec.json.encode(value).decode()
    except (ValueError, TypeError, OverflowError, RecursionError):
        try:
            return json.dumps(value, ensure_ascii=False, default=str)
        except (ValueError, RecursionError):
            return "[a value that JSON cannot express]"


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
