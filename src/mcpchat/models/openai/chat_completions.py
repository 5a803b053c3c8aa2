"""OpenAI Chat Completions: our messages out, one stream of chunks in, and every quirk of the wire format."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcpchat.core.events import ReasoningDelta, Stop, TextDelta
from mcpchat.core.messages import Audio, File, Image, Link, Message, Part, Reasoning, Text, ToolCall, ToolResult, Usage
from mcpchat.core.protocols import CallStarted, Done, ModelEvent, ModelRequest
from mcpchat.core.tool_schema import fits_strict
from mcpchat.core.tools import openai_function
from mcpchat.engine.history import is_object
from mcpchat.errors import ModelError
from mcpchat.models.openai import wire
from mcpchat.models.openai.client import END, Chunk
from mcpchat.models.openai.compatibility import Manners

_REASONING_KEYS = ("reasoning_content", "reasoning", "reasoning_text")
_STOPS: dict[str, Stop] = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "filter",
    "safety": "filter",
}
_FAILED = frozenset({"error", "malformed_function_call", "insufficient_system_resource"})
_USUAL = Manners()
_UNSIGNED = "skip_thought_signature_validator"  # Gemini's own word for calls that another model made
_BRIDGE = "(The tools have answered; see above.)"


class ChatCompletions:
    """The Api of ``/chat/completions``."""

    name = "chat"
    path = "/chat/completions"

    def __init__(self) -> None:
        self._offer = wire.Offer(openai_function)

    def manners(self, *, is_openai: bool) -> Manners:
        """Most know ``max_tokens`` alone, which OpenAI's reasoning models refuse; the cache's key is OpenAI's own."""
        if is_openai:
            return Manners(limit_keys=("max_completion_tokens", "max_tokens"))
        return Manners(without=frozenset({"prompt_cache_key"}))

    def answer(self, used_ids: set[str], limit: int | None) -> "ChatAnswer":
        return ChatAnswer(used_ids=used_ids)

    def body(self, request: ModelRequest, manners: Manners, here: Mapping[str, str]) -> dict[str, Any]:
        options = request.options
        parameters: dict[str, Any] = {
            "model": request.model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": options.temperature,
            "reasoning_effort": options.reasoning_effort,
            "prompt_cache_key": request.cache_key or None,
            "response_format": _answer_format(request.schema),
            **dict.fromkeys(manners.limit_keys[:1], options.max_output_tokens),
        }
        conversation = {"messages": list(_messages(request, manners, here))}
        tools = self._offer.of(request.tools) if manners.tools else ()
        return wire.body(parameters, request, conversation, tools=tools, without=manners.without)


def _answer_format(schema: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if schema is None or not fits_strict(schema):
        return None
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def _messages(request: ModelRequest, manners: Manners, here: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The instructions and the conversation, as this server takes them."""
    if request.system and manners.system != "user":
        yield {"role": manners.system, "content": request.system}
    before: dict[str, Any] | None = None
    if request.system and manners.system == "user":
        before = {"role": "user", "content": request.system}
    for message in request.messages:
        for sent in to_wire(message, here, manners):
            if before is not None and _merges(before, sent, manners):
                before["content"] = _joined(before["content"], sent["content"])
                continue
            if before is not None:
                yield before
                if manners.bridge and before["role"] == "tool" and sent["role"] == "user":
                    yield {"role": "assistant", "content": _BRIDGE}
            before = sent
    if before is not None:
        yield before


def _merges(before: Mapping[str, Any], sent: Mapping[str, Any], manners: Manners) -> bool:
    return before["role"] == sent["role"] == "user" and (manners.merge or manners.system == "user")


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    lists = ([{"type": "text", "text": one}] if isinstance(one, str) else one for one in (first, second))
    return [part for parts in lists for part in parts]


def to_wire(message: Message, here: Mapping[str, str], manners: Manners = _USUAL) -> Iterator[dict[str, Any]]:
    """Our message as the API's; a message of tool results becomes one for each, images after them all."""
    match message.role:
        case "tool":
            yield from _results_to_wire(message.results, manners)
        case "assistant":
            yield _assistant_to_wire(message, here, manners)
        case _:
            yield {"role": message.role, "content": _content_to_wire(message.parts, manners)}


def _content_to_wire(parts: Sequence[Part], manners: Manners) -> str | list[dict[str, Any]]:
    content = [sent for part in parts if (sent := _part_to_wire(part, manners)) is not None]
    if all(sent["type"] == "text" for sent in content):
        return "".join(sent["text"] for sent in content)
    return content


def _part_to_wire(part: Part, manners: Manners) -> dict[str, Any] | None:
    match part:
        case Text(text=text):
            return {"type": "text", "text": text}
        case Image(media_type=media_type) if media_type in wire.PICTURES and manners.images:
            return {"type": "image_url", "image_url": {"url": wire.data_url(part)}}
        case File(name=name) if manners.files:
            return {"type": "file", "file": {"filename": name or "file.pdf", "file_data": wire.data_url(part)}}
        case Link(uri=uri, title=title):
            return {"type": "text", "text": f"{title} {uri}".strip()}
        case Image() | Audio() | File():
            return {"type": "text", "text": wire.named(part)}
        case _:
            return None


def _assistant_to_wire(message: Message, here: Mapping[str, str], manners: Manners) -> dict[str, Any]:
    echo = wire.echoed(message, here) if manners.echo != "never" else {}
    sent: dict[str, Any] = {"role": "assistant", "content": message.text}
    sent |= {name: value for name, value in echo.get("fields", {}).items() if name not in sent}
    if manners.echo == "always":
        sent.setdefault("reasoning_content", "")
    unsigned = {"extra_content": {"google": {"thought_signature": _UNSIGNED}}} if manners.signatures else {}
    if calls := message.calls:
        extras = echo.get("calls", [])
        sent["tool_calls"] = [
            {
                "id": _call_id(call.id, manners),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
                **((extras[place] if place < len(extras) else {}) or unsigned),
            }
            for place, call in enumerate(calls)
        ]
    return sent


def _call_id(call_id: str, manners: Manners) -> str:
    """The id as the server takes it: where it wants short ones, always the same for the same."""
    if not manners.short_ids or (len(call_id) == 9 and call_id.isalnum()):
        return call_id
    return hashlib.sha256(call_id.encode()).hexdigest()[:9]


def _results_to_wire(results: Sequence[ToolResult], manners: Manners) -> Iterator[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    for result in results:
        for part in result.parts:
            sent = _part_to_wire(part, manners) if isinstance(part, Image | File) else None
            if sent is not None and sent["type"] != "text":
                shown += [{"type": "text", "text": f"From tool call {_call_id(result.call_id, manners)}:"}, sent]
        yield {"role": "tool", "tool_call_id": _call_id(result.call_id, manners), "content": wire.told(result)}
    if shown:
        yield {"role": "user", "content": shown}


@dataclass
class _Call:
    """A call while it arrives. The first id and name win; argument pieces are joined."""

    index: object = None
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether the arguments are whole already. Most pieces do not even look like an end."""
        return bool(self.arguments) and self.arguments[-1].endswith("}") and is_object("".join(self.arguments))


@dataclass
class ChatAnswer:
    """The Answer of Chat Completions."""

    used_ids: set[str]
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    reasoning_key: str = ""
    details: list[dict[str, Any]] = field(default_factory=list)
    refused: bool = False
    choice: object = None
    calls: list[_Call] = field(default_factory=list)
    finish: str = ""
    ended: bool = False
    usage: Usage = field(default_factory=Usage)
    halves: wire.Halves = field(default_factory=wire.Halves)

    def feed(self, chunk: Chunk) -> Iterator[ModelEvent]:
        if chunk is END:
            self.ended = True
            return
        groq = chunk.get("x_groq")
        self._count(chunk.get("usage"))
        self._count(groq.get("usage") if isinstance(groq, dict) else None)
        for choice in wire.dicts(chunk.get("choices")):
            index = choice.get("index")
            self.choice = index if self.choice is None else self.choice
            if index is not None and index != self.choice:
                continue  # another answer, which nobody asked for
            self._count(choice.get("usage"))
            delta = choice["delta"] if "delta" in choice else choice.get("message")
            if isinstance(delta, dict):
                yield from self._feed_delta(delta)
            if isinstance(finish := choice.get("finish_reason"), str) and finish:
                self.finish = finish.lower()

    def _count(self, usage: object) -> None:
        if isinstance(usage, Mapping):
            self.usage = wire.largest(self.usage, _usage(usage))

    def _feed_delta(self, delta: Mapping[str, Any]) -> Iterator[ModelEvent]:
        for key in _REASONING_KEYS:
            if text := self.halves.whole(wire.words(delta.get(key))):
                self.reasoning_key = self.reasoning_key or key
                self.reasoning.append(text)
                yield ReasoningDelta(text=text)
                break  # a server that sends both names sends the same text twice
        self.details += wire.dicts(delta.get("reasoning_details"))
        for block in wire.dicts(delta.get("content")):
            if text := self.halves.whole(wire.words(block.get("thinking"))):  # Mistral's blocks
                self.reasoning.append(text)
                yield ReasoningDelta(text=text)
        for piece in (wire.words(delta.get("content")), wire.words(delta.get("refusal"))):
            if text := self.halves.whole(piece):
                self.text.append(text)
                yield TextDelta(text=text)
        self.refused = self.refused or bool(delta.get("refusal"))
        if isinstance(old := delta.get("function_call"), dict):
            yield from self._feed_call({"index": 0, "function": old})
        for call in wire.dicts(delta.get("tool_calls")):
            yield from self._feed_call(call)

    def _feed_call(self, piece: Mapping[str, Any]) -> Iterator[ModelEvent]:
        function = piece.get("function")
        if not isinstance(function, dict):
            return
        call_id, name = (value if isinstance(value, str) else "" for value in (piece.get("id"), function.get("name")))
        call = self._call_for(piece.get("index"), call_id, name, more=bool(function.get("arguments")))
        if name and not call.name:
            yield CallStarted(name=name)
        call.id = call.id or call_id
        call.name = call.name or name
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            call.arguments.append(arguments)
        elif arguments is not None:
            call.arguments.append(json.dumps(arguments))
        if isinstance(extra := piece.get("extra_content"), dict):
            call.extra["extra_content"] = extra

    def _call_for(self, index: object, call_id: str, name: str, *, more: bool) -> _Call:
        """The call that a piece belongs to: by index where there is one, else by id, else it goes on with the last.

        Another begins with another id and a name, with a name where there is no index, and where one was complete.
        """
        same = [call for call in self.calls if call.index == index] if index is not None else self.calls[-1:]
        if index is None and call_id:
            same = [call for call in self.calls if call.id == call_id] or same
        current = same[-1] if same else None
        other = bool(call_id and current and current.id and call_id != current.id)
        if current is None or (
            (name and other and (current.complete or not current.arguments))
            or (index is None and name and current.name and not (call_id and call_id == current.id))
            or (name and current.name and more and not call_id and current.complete)
        ):
            current = _Call(index=index)
            self.calls.append(current)
        return current

    def done(self, here: Mapping[str, str]) -> Done:
        if self.finish in _FAILED:
            raise ModelError(f"the model's server ended the answer: {self.finish}", kind="server")
        if not self.finish and not (self.ended and (self.text or self.calls)):
            raise ModelError(
                "connection lost: the model's answer broke off before its end", kind="broken_stream", hint="ask again"
            )
        stop: Stop = "refusal" if self.refused else _STOPS.get(self.finish, "end")
        calls = [] if stop in {"refusal", "filter"} else [call for call in self.calls if call.name]
        made = [self._made(call) for call in calls]
        reasoning = "".join(self.reasoning)
        raw: dict[str, Any] = {"origin": dict(here)}
        if self.details:
            raw["fields"] = {"reasoning_details": _joined_details(self.details)}
        elif reasoning and self.reasoning_key:
            raw["fields"] = {self.reasoning_key: reasoning}
        if any(call.extra for call in calls):
            raw["calls"] = [call.extra for call in calls]
        parts: list[Part] = []
        if reasoning:
            parts.append(Reasoning(text=reasoning))
        if text := "".join(self.text):
            parts.append(Text(text=text))
        message = Message(
            role="assistant",
            parts=(*parts, *made),
            raw=raw if len(raw) > 1 else None,
            cut="length" if stop == "length" and not made else "",
        )
        return Done(message=message, usage=self.usage, stop=stop)

    def _made(self, call: _Call) -> ToolCall:
        call_id = call.id if call.id and call.id not in self.used_ids else wire.new_id()
        self.used_ids.add(call_id)
        return ToolCall(id=call_id, name=wire.mended(call.name), arguments=wire.mended("".join(call.arguments)))


def _joined_details(pieces: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """OpenRouter's blocks of reasoning, each put together from its pieces."""
    blocks: list[dict[str, Any]] = []
    for piece in pieces:
        last = blocks[-1] if blocks else None
        if last is None or any(last.get(key) != piece.get(key) for key in ("type", "index")) or "data" in piece:
            blocks.append(dict(piece))
            continue
        for key, value in piece.items():
            if key in {"text", "summary"} and isinstance(value, str) and isinstance(last.get(key) or "", str):
                last[key] = (last.get(key) or "") + value
            elif value is not None:
                last[key] = value
    return blocks


def _usage(usage: Mapping[str, Any]) -> Usage:
    cached = wire.count(usage, "prompt_tokens_details", "cached_tokens")
    return Usage(
        input=wire.count(usage, "prompt_tokens"),
        output=wire.count(usage, "completion_tokens"),
        cached=cached or wire.count(usage, "prompt_cache_hit_tokens") or wire.count(usage, "cached_tokens"),
        reasoning=wire.count(usage, "completion_tokens_details", "reasoning_tokens"),
        written=wire.count(usage, "prompt_tokens_details", "cache_write_tokens"),
    )
