"""OpenAI Responses: our messages out as items, one stream of events in, every item of the model kept as it came."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcpchat.core.events import ReasoningDelta, Stop, TextDelta
from mcpchat.core.messages import Audio, File, Image, Link, Message, Part, Reasoning, Text, ToolCall, ToolResult, Usage
from mcpchat.core.protocols import CallStarted, Done, ModelEvent, ModelRequest
from mcpchat.core.tool_schema import fits_strict
from mcpchat.core.tools import ToolSpec, openai_function
from mcpchat.errors import ModelError
from mcpchat.models.openai import wire
from mcpchat.models.openai.client import END, Chunk, reported
from mcpchat.models.openai.compatibility import Manners

_USUAL = Manners(limit_keys=("max_output_tokens",))
_TEXT = "response.output_text.delta"
_REFUSAL = "response.refusal.delta"
_REASONING = ("response.reasoning_summary_text.delta", "response.reasoning_text.delta")


class Responses:
    """The Api of ``/responses``, without any state at the server."""

    name = "responses"
    path = "/responses"

    def __init__(self) -> None:
        self._offer = wire.Offer(_function)

    def manners(self, *, is_openai: bool) -> Manners:
        return _USUAL

    def answer(self, used_ids: set[str], limit: int | None) -> "ResponsesAnswer":
        return ResponsesAnswer(used_ids=used_ids, limit=limit)

    def body(self, request: ModelRequest, manners: Manners, here: Mapping[str, str]) -> dict[str, Any]:
        options = request.options
        parameters: dict[str, Any] = {
            "model": request.model,
            "stream": True,
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "temperature": options.temperature,
            "reasoning": {"effort": options.reasoning_effort} if options.reasoning_effort else None,
            "prompt_cache_key": request.cache_key or None,
            "text": _answer_format(request.schema),
            **dict.fromkeys(manners.limit_keys[:1], options.max_output_tokens),
        }
        items = [item for message in request.messages for item in to_items(message, here, manners)]
        conversation = {"instructions": request.system, "input": items} if request.system else {"input": items}
        tools = self._offer.of(request.tools) if manners.tools else ()
        return wire.body(parameters, request, conversation, tools=tools, without=manners.without)


def _function(tool: ToolSpec) -> dict[str, Any]:
    # Without the key the server tries to make any schema a strict one, which changes what "optional" means.
    return {"type": "function", **openai_function(tool)["function"], "strict": False}


def _answer_format(schema: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if schema is None or not fits_strict(schema):
        return None
    return {"format": {"type": "json_schema", "name": "answer", "strict": True, "schema": schema}}


def to_items(message: Message, here: Mapping[str, str], manners: Manners = _USUAL) -> Iterator[dict[str, Any]]:
    """Our message as items of the API's input: the model's own as they came, where they came from here."""
    match message.role:
        case "tool":
            for result in message.results:
                yield {"type": "function_call_output", "call_id": result.call_id, "output": _output(result, manners)}
        case "assistant":
            if items := wire.echoed(message, here).get("items"):
                yield from _as_they_came(items, message.calls, manners)
                return
            if message.text:
                yield {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": message.text}],
                }
            for call in message.calls:
                yield {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
        case _:
            yield {"type": "message", "role": message.role, "content": _content(message.parts, manners)}


def _as_they_came(
    items: Sequence[dict[str, Any]], calls: Sequence[ToolCall], manners: Manners
) -> Iterator[dict[str, Any]]:
    """The model's items in their order; its calls with the ids and arguments that our history has for them."""
    waiting = list(calls)
    for item in items:
        if item.get("type") == "function_call":
            if waiting:
                call = waiting.pop(0)
                yield {**item, "call_id": call.id, "name": call.name, "arguments": call.arguments}
        elif item.get("type") != "reasoning" or manners.echo != "never":
            yield item


def _content(parts: Sequence[Part], manners: Manners) -> list[dict[str, Any]]:
    return [item for part in parts if (item := _part(part, manners)) is not None]


def _part(part: Part, manners: Manners) -> dict[str, Any] | None:
    match part:
        case Text(text=text):
            return {"type": "input_text", "text": text}
        case Image(media_type=media_type) if media_type in wire.PICTURES and manners.images:
            return {"type": "input_image", "detail": "auto", "image_url": wire.data_url(part)}
        case File(name=name) if manners.files:
            return {"type": "input_file", "filename": name or "file.pdf", "file_data": wire.data_url(part)}
        case Link(uri=uri, title=title):
            return {"type": "input_text", "text": f"{title} {uri}".strip()}
        case Image() | Audio() | File():
            return {"type": "input_text", "text": wire.named(part)}
        case _:
            return None


def _output(result: ToolResult, manners: Manners) -> str | list[dict[str, Any]]:
    """A text where it is nothing else; with images or files, a list of parts."""
    content = _content(result.parts, manners)
    if all(item["type"] == "input_text" for item in content):
        return wire.told(result)
    return [{"type": "input_text", "text": "Error:"}, *content] if result.is_error else content


@dataclass
class _Item:
    """An item while it arrives: what was shown of it, and its arguments in pieces."""

    item: dict[str, Any]
    done: bool = False
    said: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)

    @property
    def kind(self) -> object:
        return self.item.get("type")


@dataclass
class ResponsesAnswer:
    """The Answer of Responses."""

    used_ids: set[str]
    limit: int | None = None
    found: list[_Item] = field(default_factory=list)
    known: dict[int | str, _Item] = field(default_factory=dict)  # by place and by id
    reasoning: list[str] = field(default_factory=list)
    end: dict[str, Any] | None = None
    usage: Usage = field(default_factory=Usage)
    halves: wire.Halves = field(default_factory=wire.Halves)

    def feed(self, chunk: Chunk) -> Iterator[ModelEvent]:
        if chunk is END:
            return
        kind = chunk.get("type")
        if chunk.get("object") == "response":  # a server that ignores ``stream``
            yield from self._ended(chunk, str(chunk.get("status") or "completed"))
        elif kind == "response.output_item.added":
            yield from self._added(chunk)
        elif kind in {_TEXT, _REFUSAL} or kind in _REASONING:
            yield from self._delta(str(kind), chunk)
        elif kind == "response.function_call_arguments.delta":
            self._about(chunk).arguments.append(wire.words(chunk.get("delta")))
        elif kind == "response.function_call_arguments.done" and wire.words(chunk.get("arguments")):
            self._about(chunk).arguments = [wire.words(chunk.get("arguments"))]
        elif kind == "response.output_item.done" and isinstance(item := chunk.get("item"), dict):
            yield from self._take(item, self._named(chunk, item) or self._latest(item) or self._new(chunk, item))
        elif kind in {"response.completed", "response.incomplete", "response.failed", "response.done"}:
            yield from self._ended(chunk.get("response"), str(kind).removeprefix("response."))
        elif kind == "error":
            raise reported({key: value for key, value in chunk.items() if key != "type"})

    def _named(self, chunk: Mapping[str, Any], item: Mapping[str, Any]) -> _Item | None:
        """The item that an event names, by its place or its id."""
        names = (chunk.get("output_index"), chunk.get("item_id"), item.get("id"))
        return next((self.known[name] for name in names if isinstance(name, int | str) and name in self.known), None)

    def _latest(self, item: Mapping[str, Any]) -> _Item | None:
        """The latest item that is still open, of the same kind where that is known: of events that name none."""
        kind = item.get("type")
        of_kind = (one for one in reversed(self.found) if not one.done and kind in {None, one.kind})
        return next(of_kind, None)

    def _about(self, chunk: Mapping[str, Any]) -> _Item:
        return self._named(chunk, {}) or self._latest({}) or self._new(chunk, {})

    def _new(self, chunk: Mapping[str, Any], item: dict[str, Any]) -> _Item:
        made = _Item(item=item)
        self.found.append(made)
        for name in (chunk.get("output_index"), chunk.get("item_id"), item.get("id")):
            if isinstance(name, int | str):
                self.known[name] = made
        return made

    def _added(self, chunk: Mapping[str, Any]) -> Iterator[ModelEvent]:
        if isinstance(item := chunk.get("item"), dict):
            self._new(chunk, item)
            if item.get("type") == "function_call" and isinstance(name := item.get("name"), str) and name:
                yield CallStarted(name=name)

    def _delta(self, kind: str, chunk: Mapping[str, Any]) -> Iterator[ModelEvent]:
        if text := self.halves.whole(wire.words(chunk.get("delta"))):
            yield from self._shown(text, self._about(chunk), reasoning=kind in _REASONING)

    def _shown(self, text: str, item: _Item, *, reasoning: bool) -> Iterator[ModelEvent]:
        if reasoning:
            self.reasoning.append(text)
            item.said.append("")
            yield ReasoningDelta(text=text)
            return
        before = next((one for one in reversed(self.found) if any(one.said) and one is not item), None)
        if before is not None and not any(item.said):  # two messages in one answer: commentary, then the answer
            before.said.append("\n\n")
            yield TextDelta(text="\n\n")
        item.said.append(text)
        yield TextDelta(text=text)

    def _take(self, item: dict[str, Any], of: _Item) -> Iterator[ModelEvent]:
        """The item as the server finally has it, which is what goes back."""
        if of.done:
            return
        if item.get("type") == "function_call" and not item.get("arguments"):
            item = {**item, "arguments": "".join(of.arguments)}
        of.item, of.done = item, True
        if of.said or of.kind not in {"message", "reasoning"}:
            return
        for piece in wire.dicts(item.get("content")) + wire.dicts(item.get("summary")):
            whole = piece.get("text") or piece.get("refusal")
            if isinstance(whole, str) and whole:
                yield from self._shown(wire.mended(whole), of, reasoning=of.kind == "reasoning")

    def _ended(self, response: object, status: str) -> Iterator[ModelEvent]:
        """The end, which may tell items that nothing told before: the later ones of each kind."""
        self.end = {"status": status, **(response if isinstance(response, dict) else {})}
        if not isinstance(self.end["status"], str):
            self.end["status"] = status
        if isinstance(usage := self.end.get("usage"), Mapping):
            self.usage = _usage(usage)
        seen: dict[object, int] = {}
        for item in wire.dicts(self.end.get("output")):
            kind = item.get("type")
            place = seen[kind] = seen.get(kind, 0) + 1
            same = [one for one in self.found if one.kind == kind]
            yield from self._take(item, same[place - 1] if place <= len(same) else self._new({}, item))
        for one in self.found:
            if not one.done and one.item:
                yield from self._take(one.item, one)

    def done(self, here: Mapping[str, str]) -> Done:
        if self.end is None:
            raise ModelError(
                "connection lost: the model's answer broke off before its end", kind="broken_stream", hint="ask again"
            )
        if self.end.get("status") == "failed":
            raise reported(self.end.get("error") or "the response failed")
        stop = self._stop()
        items = [one.item for one in self.found if one.done and (one.kind != "function_call" or _is_call(one.item))]
        while items and items[-1].get("type") == "reasoning":
            items.pop()  # it is refused without what it led to
        calls = [] if stop in {"refusal", "filter"} else [self._made(item) for item in items if _is_call(item)]
        parts: list[Part] = []
        if reasoning := "".join(self.reasoning):
            parts.append(Reasoning(text=reasoning))
        parts += [Text(text=text) for one in self.found if (text := "".join(one.said))]
        whole = stop == "end" and bool(items)  # of an answer that was cut, only the words go back
        message = Message(
            role="assistant",
            parts=(*parts, *calls),
            raw={"origin": dict(here), "items": items} if whole else None,
            cut="length" if stop == "length" and not calls else "",
        )
        return Done(message=message, usage=self.usage, stop=stop)

    def _stop(self) -> Stop:
        end = self.end or {}
        if end.get("status") == "incomplete":
            details = end.get("incomplete_details")
            reason = details.get("reason") if isinstance(details, dict) else ""
            return "filter" if reason == "content_filter" else "length"
        if self.limit is not None and self.usage.output >= self.limit:
            return "length"  # some servers call a cut answer completed
        refused = any(piece.get("refusal") for one in self.found for piece in wire.dicts(one.item.get("content")))
        return "refusal" if refused else "end"

    def _made(self, item: Mapping[str, Any]) -> ToolCall:
        call_id = item.get("call_id")
        if not isinstance(call_id, str) or not call_id or call_id in self.used_ids:
            call_id = wire.new_id()
        self.used_ids.add(call_id)
        arguments = item.get("arguments")
        written = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
        return ToolCall(id=call_id, name=wire.mended(str(item["name"])), arguments=wire.mended(written))


def _is_call(item: Mapping[str, Any]) -> bool:
    return item.get("type") == "function_call" and isinstance(item.get("name"), str) and bool(item["name"])


def _usage(usage: Mapping[str, Any]) -> Usage:
    return Usage(
        input=wire.count(usage, "input_tokens"),
        output=wire.count(usage, "output_tokens"),
        cached=wire.count(usage, "input_tokens_details", "cached_tokens"),
        reasoning=wire.count(usage, "output_tokens_details", "reasoning_tokens"),
        written=wire.count(usage, "input_tokens_details", "cache_write_tokens"),
    )
