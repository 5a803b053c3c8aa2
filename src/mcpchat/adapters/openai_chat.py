"""OpenAI Chat Completions: our messages out, one stream of chunks in, and every quirk of the wire format."""

import base64
import json
import random
import string
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

from mcpchat.adapters.openai_client import Chunk, OpenAIClient, with_retries
from mcpchat.core.errors import ModelError
from mcpchat.core.events import ReasoningDelta, Stop, TextDelta
from mcpchat.core.messages import (
    Audio,
    Image,
    Link,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    result_text,
)
from mcpchat.core.ports import CallStarted, Done, ModelEvent, ModelRequest
from mcpchat.core.tools import ToolSpec, openai_function

_REASONING_KEYS = ("reasoning_content", "reasoning")
_PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_STOPS: dict[str, Stop] = {"length": "length", "content_filter": "filter"}


class OpenAIChat:
    """A Model over ``/chat/completions`` of any compatible server."""

    def __init__(self, client: OpenAIClient) -> None:
        self._client = client
        self._offered: tuple[tuple[ToolSpec, ...], list[dict[str, Any]]] = ((), [])

    def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        return with_retries(lambda: self._attempt(request))

    async def _attempt(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        origin = {"api": "chat", "base_url": self._client.base_url, "model": request.model}
        used = {call.id for message in request.messages for call in message.calls}
        answer = _Answer(used_ids=used)
        chunks = self._client.stream("/chat/completions", self._body(request, origin))
        async with aclosing(cast("Any", chunks)) as received:
            async for chunk in received:
                for event in answer.feed(chunk):
                    yield event
        yield answer.done(origin)

    def _body(self, request: ModelRequest, origin: Mapping[str, str]) -> dict[str, Any]:
        options = dict(request.options)
        if (limit := options.pop("max_output_tokens", None)) is not None:
            # OpenAI's reasoning models refuse the old name; most other servers know only that one.
            options["max_completion_tokens" if self._client.is_openai else "max_tokens"] = limit
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [wire for message in request.messages for wire in to_wire(message, origin)],
            "stream": True,
            "stream_options": {"include_usage": True},
            **options,
        }
        if request.tools:
            if request.tools is not self._offered[0]:  # thousands of schemas are not cleaned anew for each request
                self._offered = request.tools, [openai_function(tool) for tool in request.tools]
            body["tools"] = self._offered[1]
            if request.tool_choice != "auto":
                body["tool_choice"] = request.tool_choice
        return body


def to_wire(message: Message, origin: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Our message as the API's; a message of tool results becomes one for each, images after them all."""
    match message.role:
        case "tool":
            yield from _results_to_wire(message.results)
        case "assistant":
            yield _assistant_to_wire(message, origin)
        case _:
            yield {"role": message.role, "content": _content_to_wire(message.parts)}


def _content_to_wire(parts: tuple[Part, ...]) -> str | list[dict[str, Any]]:
    if all(isinstance(part, Text) for part in parts):
        return "".join(part.text for part in parts if isinstance(part, Text))
    return [wire for part in parts if (wire := _part_to_wire(part)) is not None]


def _part_to_wire(part: Part) -> dict[str, Any] | None:
    match part:
        case Text(text=text):
            return {"type": "text", "text": text}
        case Image(media_type=media_type, data=data) if media_type in _PICTURES:
            url = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
            return {"type": "image_url", "image_url": {"url": url}}
        case Link(uri=uri, title=title):
            return {"type": "text", "text": f"{title} {uri}".strip()}
        case Image(media_type=media_type, data=data) | Audio(media_type=media_type, data=data):
            return {"type": "text", "text": f"[{media_type}, {len(data):,} bytes, which this model cannot be given]"}
        case _:
            return None


def _assistant_to_wire(message: Message, origin: Mapping[str, str]) -> dict[str, Any]:
    raw = message.raw or {}
    echo = raw if raw.get("origin") == origin else {}
    wire: dict[str, Any] = {"role": "assistant", "content": message.text, **echo.get("fields", {})}
    if message.calls:
        extra = echo.get("calls", {})
        wire["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
                **extra.get(call.id, {}),
            }
            for call in message.calls
        ]
    return wire


def _results_to_wire(results: tuple[ToolResult, ...]) -> Iterator[dict[str, Any]]:
    images: list[dict[str, Any]] = []
    for result in results:
        text = result_text(result)
        for part in result.parts:
            if isinstance(part, Image) and part.media_type in _PICTURES:
                images += [
                    {"type": "text", "text": f"Image from tool call {result.call_id}:"},
                    _part_to_wire(part) or {},
                ]
        if result.is_error and not text.lower().startswith("error"):
            text = f"Error: {text}"
        yield {"role": "tool", "tool_call_id": result.call_id, "content": text or "(no output)"}
    if images:
        yield {"role": "user", "content": images}


@dataclass
class _Call:
    """A call while it arrives. The first id and name win; argument pieces are joined."""

    index: object = None
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Answer:
    """Chunks in, one message out, whatever order and shape a server chose."""

    used_ids: set[str]
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    reasoning_key: str = ""
    refused: bool = False
    calls: list[_Call] = field(default_factory=list)
    finish: str = ""
    usage: Usage = field(default_factory=Usage)
    half: str = ""

    def feed(self, chunk: Chunk) -> Iterator[ModelEvent]:
        if isinstance(usage := chunk.get("usage"), dict):
            self.usage = _usage(usage)
        for choice in _dicts(chunk.get("choices")):
            delta = choice.get("delta") or choice.get("message")
            if isinstance(delta, dict):
                yield from self._feed_delta(delta)
            if choice.get("finish_reason"):
                self.finish = choice["finish_reason"]

    def _feed_delta(self, delta: Mapping[str, Any]) -> Iterator[ModelEvent]:
        for key in _REASONING_KEYS:
            if text := self._whole(_plain(delta.get(key))):
                self.reasoning_key = key
                self.reasoning.append(text)
                yield ReasoningDelta(text=text)
                break  # a server that sends both names sends the same text twice
        for piece in (_plain(delta.get("content")), _plain(delta.get("refusal"))):
            if text := self._whole(piece):
                self.text.append(text)
                yield TextDelta(text=text)
        self.refused = self.refused or bool(delta.get("refusal"))
        for call in _dicts(delta.get("tool_calls")):
            yield from self._feed_call(call)

    def _whole(self, piece: str) -> str:
        """The piece in whole characters: some servers cut a surrogate pair in two, or send half of one."""
        if not piece or (piece.isascii() and not self.half):
            return piece
        piece, self.half = self.half + piece, ""
        if "\ud800" <= piece[-1] <= "\udbff":
            piece, self.half = piece[:-1], piece[-1]
        return _mended(piece)

    def _feed_call(self, piece: Mapping[str, Any]) -> Iterator[ModelEvent]:
        function = piece.get("function")
        if not isinstance(function, dict):
            return
        call = self._call_for(piece.get("index"), piece.get("id") or "", function.get("name") or "")
        had_name = bool(call.name)
        call.id = call.id or piece.get("id") or ""
        call.name = call.name or function.get("name") or ""
        if call.name and not had_name:
            yield CallStarted(name=call.name)
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            call.arguments.append(arguments)
        elif arguments is not None:
            call.arguments.append(json.dumps(arguments))
        if isinstance(extra := piece.get("extra_content"), dict):
            call.extra["extra_content"] = extra

    def _call_for(self, index: object, call_id: str, name: str) -> _Call:
        """The call that a piece belongs to: by index where there is one, else a new id or name begins another."""
        same = [call for call in self.calls if call.index == index] if index is not None else self.calls[-1:]
        current = same[-1] if same else None
        begins = current is None or (
            bool(call_id and current.id and call_id != current.id)
            or bool(index is None and name and current.name and not (call_id and call_id == current.id))
        )
        if current is None or begins:
            current = _Call(index=index)
            self.calls.append(current)
        return current

    def done(self, origin: Mapping[str, str]) -> Done:
        if not self.finish:
            raise ModelError(
                "the model's answer broke off before its end", kind="broken_stream", hint="ask again to retry"
            )
        calls = [self._finished(call) for call in self.calls if call.name]
        if self.finish == "length" and calls and not _is_object(calls[-1][0].arguments):
            calls = calls[:-1]  # cut in the middle of its arguments: it cannot run
        reasoning = "".join(self.reasoning)
        raw: dict[str, Any] = {"origin": dict(origin)}
        if reasoning:
            raw["fields"] = {self.reasoning_key: reasoning}
        if extras := {call.id: extra for call, extra in calls if extra}:
            raw["calls"] = extras
        parts: list[Part] = []
        if reasoning:
            parts.append(Reasoning(text=reasoning))
        if text := "".join(self.text):
            parts.append(Text(text=text))
        parts += [call for call, _ in calls]
        stop: Stop = "refusal" if self.refused else _STOPS.get(self.finish, "end")
        message = Message(
            role="assistant",
            parts=tuple(parts),
            raw=raw if len(raw) > 1 else None,
            cut="length" if stop == "length" else "",
        )
        return Done(message=message, usage=self.usage, stop=stop)

    def _finished(self, call: _Call) -> tuple[ToolCall, dict[str, Any]]:
        call_id = call.id if call.id and call.id not in self.used_ids else _new_id()
        self.used_ids.add(call_id)
        return ToolCall(id=call_id, name=_mended(call.name), arguments=_mended("".join(call.arguments))), call.extra


def _dicts(items: object) -> list[dict[str, Any]]:
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _mended(text: str) -> str:
    """Surrogate pairs joined, halves without a partner replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _new_id() -> str:
    """Nine letters and digits: the one form of id that every server takes back."""
    return "".join(random.choices(string.ascii_letters + string.digits, k=9))  # noqa: S311 - a label, not a secret


def _plain(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(piece.get("text") or "") for piece in content if isinstance(piece, dict))
    return ""


def _usage(usage: Mapping[str, Any]) -> Usage:
    return Usage(
        input=usage.get("prompt_tokens") or 0,
        output=usage.get("completion_tokens") or 0,
        cached=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        reasoning=(usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0,
    )
