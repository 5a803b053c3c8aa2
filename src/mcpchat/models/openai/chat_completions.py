"""OpenAI Chat Completions: builds requests and reads streamed responses, with the quirks of compatible servers."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcpchat.core.events import ReasoningDelta, StopReason, TextDelta
from mcpchat.core.messages import Audio, File, Image, Link, Message, Part, Reasoning, Text, ToolCall, ToolResult, Usage
from mcpchat.core.protocols import ModelEvent, ModelRequest, ResponseDone, ToolCallStarted
from mcpchat.core.tools import openai_function
from mcpchat.engine.history import is_json_object
from mcpchat.errors import ModelError
from mcpchat.models.context_sizes import read_token_count
from mcpchat.models.openai import wire
from mcpchat.models.openai.compatibility import Compatibility, adapt_tools
from mcpchat.models.openai.think_tags import Piece, ThinkTags, split_unopened
from mcpchat.models.openai.wire import END_OF_STREAM, Chunk
from mcpchat.util.text import replace_surrogates

_REASONING_KEYS = ("reasoning_content", "reasoning", "reasoning_text")
_STOP_REASONS: dict[str, StopReason] = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "filter",
    "safety": "filter",
}
_FAILED_REASONS = frozenset({"error", "malformed_function_call", "insufficient_system_resource"})
_DEFAULT_COMPATIBILITY = Compatibility()
_PLACEHOLDER_SIGNATURE = "skip_thought_signature_validator"  # Gemini's signature for calls of other models
_ASSISTANT_BRIDGE = "(The tools have answered; see above.)"


class ChatCompletions:
    """The WireApi of ``/chat/completions``."""

    name = "chat"
    path = "/chat/completions"

    def __init__(self) -> None:
        self._tool_schemas = wire.ToolSchemaCache(openai_function)

    def default_compatibility(self, *, is_openai: bool) -> Compatibility:
        """The settings for OpenAI or for a compatible server.

        Most servers only know ``max_tokens``, which OpenAI's reasoning models refuse. Only OpenAI has a cache key.
        """
        if is_openai:
            return Compatibility(limit_keys=("max_completion_tokens", "max_tokens"))
        return Compatibility(omitted=frozenset({"prompt_cache_key"}))

    def create_accumulator(self, used_ids: set[str], limit: int | None) -> "ChatAccumulator":
        return ChatAccumulator(used_ids=used_ids)

    def build_body(
        self, request: ModelRequest, compatibility: Compatibility, origin: Mapping[str, str]
    ) -> dict[str, Any]:
        options = request.options
        parameters: dict[str, Any] = {
            "model": request.model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": options.temperature,
            "reasoning_effort": options.reasoning_effort,
            "prompt_cache_key": request.cache_key or None,
            "response_format": _response_format(request.schema),
            **dict.fromkeys(compatibility.limit_keys[:1], options.max_output_tokens),
        }
        conversation = {"messages": list(_build_messages(request, compatibility, origin))}
        tools = adapt_tools(self._tool_schemas.get(request.tools), request.messages, compatibility)
        return wire.build_body(parameters, request, conversation, tools=tools, omitted=compatibility.omitted)


def _response_format(schema: Mapping[str, Any] | None) -> dict[str, Any] | None:
    answer = wire.answer_format(schema)
    return {"type": "json_schema", "json_schema": answer} if answer is not None else None


def _build_messages(
    request: ModelRequest, compatibility: Compatibility, origin: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """The system prompt and the conversation, in the form that this server accepts."""
    if request.system and compatibility.system != "user":
        yield {"role": compatibility.system, "content": request.system}
    previous: dict[str, Any] | None = None
    if request.system and compatibility.system == "user":
        previous = {"role": "user", "content": request.system}
    for message in request.messages:
        for current in to_chat_messages(message, origin, compatibility):
            if previous is not None and _can_merge(previous, current, compatibility):
                previous["content"] = _join_content(previous["content"], current["content"])
                continue
            if previous is not None:
                yield previous
                if compatibility.assistant_bridge and previous["role"] == "tool" and current["role"] == "user":
                    yield {"role": "assistant", "content": _ASSISTANT_BRIDGE}
            previous = current
    if previous is not None:
        yield previous


def _can_merge(previous: Mapping[str, Any], current: Mapping[str, Any], compatibility: Compatibility) -> bool:
    return previous["role"] == current["role"] == "user" and (
        compatibility.merge_user_messages or compatibility.system == "user"
    )


def _join_content(first: Any, second: Any) -> Any:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    part_lists = (
        [{"type": "text", "text": content}] if isinstance(content, str) else content for content in (first, second)
    )
    return [part for parts in part_lists for part in parts]


def to_chat_messages(
    message: Message, origin: Mapping[str, str], compatibility: Compatibility = _DEFAULT_COMPATIBILITY
) -> Iterator[dict[str, Any]]:
    """The API's messages for one of ours.

    Tool results become one message each, followed by one user message with all their images and files.
    """
    match message.role:
        case "tool":
            yield from _tool_messages(message.results, compatibility)
        case "assistant":
            yield _assistant_message(message, origin, compatibility)
        case _:
            yield {"role": message.role, "content": _build_content(message.parts, compatibility)}


def _build_content(parts: Sequence[Part], compatibility: Compatibility) -> str | list[dict[str, Any]]:
    content = [item for part in parts if (item := _build_part(part, compatibility)) is not None]
    if all(item["type"] == "text" for item in content):
        return "".join(item["text"] for item in content)
    return content


def _build_part(part: Part, compatibility: Compatibility) -> dict[str, Any] | None:
    match part:
        case Text(text=text):
            return {"type": "text", "text": text}
        case Image() if compatibility.images and (url := wire.media_url(part, compatibility.refused_media)):
            return {"type": "image_url", "image_url": {"url": url}}
        case File(name=name) if compatibility.files and (url := wire.media_url(part, compatibility.refused_media)):
            return {"type": "file", "file": {"filename": name or "file.pdf", "file_data": url}}
        case Link(uri=uri, title=title):
            return {"type": "text", "text": f"{title} {uri}".strip()}
        case Image() | Audio() | File():
            return {"type": "text", "text": wire.describe_part(part)}
        case _:
            return None


def _assistant_message(message: Message, origin: Mapping[str, str], compatibility: Compatibility) -> dict[str, Any]:
    provider_data = wire.provider_data(message, origin) if compatibility.reasoning_echo != "never" else {}
    chat_message: dict[str, Any] = {"role": "assistant", "content": message.text}
    chat_message |= {name: value for name, value in provider_data.get("fields", {}).items() if name not in chat_message}
    if compatibility.reasoning_echo == "always":
        chat_message.setdefault("reasoning_content", "")
    default_extra = (
        {"extra_content": {"google": {"thought_signature": _PLACEHOLDER_SIGNATURE}}}
        if compatibility.call_signatures
        else {}
    )
    if calls := message.calls:
        extras = provider_data.get("calls", [])
        chat_message["tool_calls"] = [
            {
                "id": _adapt_call_id(call.id, compatibility),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
                **((extras[index] if index < len(extras) else {}) or default_extra),
            }
            for index, call in enumerate(calls)
        ]
    return chat_message


def _adapt_call_id(call_id: str, compatibility: Compatibility) -> str:
    """The id in the form that the server accepts; a shortened id is always the same for the same call."""
    if not compatibility.short_ids or (len(call_id) == 9 and call_id.isalnum()):
        return call_id
    return hashlib.sha256(call_id.encode()).hexdigest()[:9]


def _tool_messages(results: Sequence[ToolResult], compatibility: Compatibility) -> Iterator[dict[str, Any]]:
    attachments: list[dict[str, Any]] = []
    for result in results:
        for part in result.parts:
            content = _build_part(part, compatibility) if isinstance(part, Image | File) else None
            if content is not None and content["type"] != "text":
                attachments += [
                    {"type": "text", "text": f"From tool call {_adapt_call_id(result.call_id, compatibility)}:"},
                    content,
                ]
        yield {
            "role": "tool",
            "tool_call_id": _adapt_call_id(result.call_id, compatibility),
            "content": wire.format_tool_result(result),
        }
    if attachments:
        yield {"role": "user", "content": attachments}


@dataclass
class PartialToolCall:
    """A tool call while it arrives. Its first id and name are used, and its argument fragments are joined."""

    index: object = None
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether the arguments are a complete JSON object. Checks the last character first, to decode rarely."""
        return bool(self.arguments) and self.arguments[-1].endswith("}") and is_json_object("".join(self.arguments))


@dataclass
class ChatAccumulator:
    """The ResponseAccumulator of Chat Completions."""

    used_ids: set[str]
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    reasoning_key: str = ""
    reasoning_details: list[dict[str, Any]] = field(default_factory=list)
    refused: bool = False
    choice_index: object = None
    calls: list[PartialToolCall] = field(default_factory=list)
    finish_reason: str = ""
    has_ended: bool = False
    usage: Usage = field(default_factory=Usage)
    surrogates: wire.SurrogateJoiner = field(default_factory=wire.SurrogateJoiner)
    think_tags: ThinkTags = field(default_factory=ThinkTags)

    def feed(self, chunk: Chunk) -> Iterator[ModelEvent]:
        if chunk is END_OF_STREAM:
            self.has_ended = True
            yield from self._feed_text(self.think_tags.flush())
            return
        groq = chunk.get("x_groq")
        self._update_usage(chunk.get("usage"))
        self._update_usage(groq.get("usage") if isinstance(groq, dict) else None)
        for choice in wire.filter_dicts(chunk.get("choices")):
            index = choice.get("index")
            self.choice_index = index if self.choice_index is None else self.choice_index
            if index is not None and index != self.choice_index:
                continue  # an extra choice that was not requested
            self._update_usage(choice.get("usage"))
            delta = choice["delta"] if "delta" in choice else choice.get("message")
            if isinstance(delta, dict):
                yield from self._feed_delta(delta)
            if isinstance(reason := choice.get("finish_reason"), str) and reason:
                self.finish_reason = reason.lower()

    def _update_usage(self, usage: object) -> None:
        if isinstance(usage, Mapping):
            self.usage = wire.max_usage(self.usage, _parse_usage(usage))

    def _feed_delta(self, delta: Mapping[str, Any]) -> Iterator[ModelEvent]:
        for key in _REASONING_KEYS:
            if text := self.surrogates.feed(wire.content_text(delta.get(key))):
                self.reasoning_key = self.reasoning_key or key
                self.reasoning.append(text)
                yield ReasoningDelta(text=text)
                break  # servers that send several of the keys repeat the same text
        self.reasoning_details += wire.filter_dicts(delta.get("reasoning_details"))
        for block in wire.filter_dicts(delta.get("content")):
            if text := self.surrogates.feed(wire.content_text(block.get("thinking"))):  # Mistral's content blocks
                self.reasoning.append(text)
                yield ReasoningDelta(text=text)
        if text := self.surrogates.feed(wire.content_text(delta.get("content"))):
            yield from self._feed_text(self.think_tags.feed(text))
        if text := self.surrogates.feed(wire.content_text(delta.get("refusal"))):
            self.text.append(text)
            yield TextDelta(text=text)
        self.refused = self.refused or bool(delta.get("refusal"))
        if isinstance(legacy_call := delta.get("function_call"), dict):
            yield from self._feed_call({"index": 0, "function": legacy_call})
        for call in wire.filter_dicts(delta.get("tool_calls")):
            yield from self._feed_call(call)

    def _feed_text(self, pieces: Iterator[Piece]) -> Iterator[ModelEvent]:
        for text, is_reasoning in pieces:
            (self.reasoning if is_reasoning else self.text).append(text)
            yield ReasoningDelta(text=text) if is_reasoning else TextDelta(text=text)

    def _feed_call(self, call_delta: Mapping[str, Any]) -> Iterator[ModelEvent]:
        function = call_delta.get("function")
        if not isinstance(function, dict):
            return
        call_id, name = (
            value if isinstance(value, str) else "" for value in (call_delta.get("id"), function.get("name"))
        )
        call = self._match_call(call_delta.get("index"), call_id, name, has_arguments=bool(function.get("arguments")))
        if name and not call.name:
            yield ToolCallStarted(name=name)
        call.id = call.id or call_id
        call.name = call.name or name
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            call.arguments.append(arguments)
        elif arguments is not None:
            call.arguments.append(json.dumps(arguments))
        if isinstance(extra := call_delta.get("extra_content"), dict):
            call.extra["extra_content"] = extra

    def _match_call(self, index: object, call_id: str, name: str, *, has_arguments: bool) -> PartialToolCall:
        """The call that a fragment belongs to: by index if it has one, else by id, else the last call.

        A fragment starts a new call if it has another id and a name, if it has a name but no index, or if it has a name
        and the current call is complete.
        """
        candidates = [call for call in self.calls if call.index == index] if index is not None else self.calls[-1:]
        if index is None and call_id:
            candidates = [call for call in self.calls if call.id == call_id] or candidates
        current = candidates[-1] if candidates else None
        has_new_id = bool(call_id and current and current.id and call_id != current.id)
        if current is None or (
            (name and has_new_id and (current.is_complete or not current.arguments))
            or (index is None and name and current.name and not (call_id and call_id == current.id))
            or (name and current.name and has_arguments and not call_id and current.is_complete)
        ):
            current = PartialToolCall(index=index)
            self.calls.append(current)
        return current

    def finish(self, origin: Mapping[str, str]) -> ResponseDone:
        if self.finish_reason in _FAILED_REASONS:
            raise ModelError(f"the model's server ended the answer: {self.finish_reason}", kind="server")
        if not self.finish_reason and not (self.has_ended and (self.text or self.calls)):
            raise ModelError(
                "connection lost: the model's answer broke off before its end", kind="broken_stream", hint="try again"
            )
        for text, is_reasoning in self.think_tags.flush():  # of a stream without an end mark
            (self.reasoning if is_reasoning else self.text).append(text)
        stop: StopReason = "refusal" if self.refused else _STOP_REASONS.get(self.finish_reason, "end")
        calls = [] if stop in {"refusal", "filter"} else [call for call in self.calls if call.name]
        tool_calls = [self._finish_call(call) for call in calls]
        reasoning, text = "".join(self.reasoning), "".join(self.text)
        if not reasoning:
            reasoning, text = split_unopened(text)
        raw: dict[str, Any] = {"origin": dict(origin)}
        if self.reasoning_details:
            raw["fields"] = {"reasoning_details": _join_reasoning_details(self.reasoning_details)}
        elif reasoning and self.reasoning_key:
            raw["fields"] = {self.reasoning_key: reasoning}
        if any(call.extra for call in calls):
            raw["calls"] = [call.extra for call in calls]
        parts: list[Part] = []
        if reasoning:
            parts.append(Reasoning(text=reasoning))
        if text:
            parts.append(Text(text=text))
        message = Message(
            role="assistant",
            parts=(*parts, *tool_calls),
            raw=raw if len(raw) > 1 else None,
            cut="length" if stop == "length" and not tool_calls else "",
        )
        return ResponseDone(message=message, usage=self.usage, stop=stop)

    def _finish_call(self, call: PartialToolCall) -> ToolCall:
        call_id = call.id if call.id and call.id not in self.used_ids else wire.new_call_id()
        self.used_ids.add(call_id)
        return ToolCall(
            id=call_id,
            name=replace_surrogates(call.name),
            arguments=replace_surrogates("".join(call.arguments)),
        )


def _join_reasoning_details(fragments: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """OpenRouter's reasoning blocks, each joined from its fragments."""
    blocks: list[dict[str, Any]] = []
    for fragment in fragments:
        last = blocks[-1] if blocks else None
        if last is None or any(last.get(key) != fragment.get(key) for key in ("type", "index")) or "data" in fragment:
            blocks.append(dict(fragment))
            continue
        for key, value in fragment.items():
            if key in {"text", "summary"} and isinstance(value, str) and isinstance(last.get(key) or "", str):
                last[key] = (last.get(key) or "") + value
            elif value is not None:
                last[key] = value
    return blocks


def _parse_usage(usage: Mapping[str, Any]) -> Usage:
    cached = read_token_count(usage, "prompt_tokens_details", "cached_tokens")
    return Usage(
        input=read_token_count(usage, "prompt_tokens"),
        output=read_token_count(usage, "completion_tokens"),
        cached=cached or read_token_count(usage, "prompt_cache_hit_tokens") or read_token_count(usage, "cached_tokens"),
        reasoning=read_token_count(usage, "completion_tokens_details", "reasoning_tokens"),
        written=read_token_count(usage, "prompt_tokens_details", "cache_write_tokens"),
    )
