"""OpenAI Responses: builds requests and reads streamed responses. Keeps the model's items unchanged, to send back."""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from mcpchat.core.events import ReasoningDelta, StopReason, TextDelta
from mcpchat.core.messages import (
    Audio,
    File,
    Image,
    Link,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    decode_arguments,
    result_text,
)
from mcpchat.core.protocols import ModelEvent, ModelRequest, ResponseDone, ToolCallStarted
from mcpchat.core.search_tools import CALL_TOOL, SEARCH_TOOLS
from mcpchat.core.tools import ToolSpec, openai_function
from mcpchat.errors import ModelError
from mcpchat.models.context_sizes import read_token_count
from mcpchat.models.openai import wire
from mcpchat.models.openai.compatibility import Compatibility, adapt_tools
from mcpchat.models.openai.errors import error_from_body
from mcpchat.models.openai.think_tags import Piece, ThinkTags, split_unopened
from mcpchat.models.openai.wire import END_OF_STREAM, Chunk
from mcpchat.util.text import replace_surrogates

_DEFAULT_COMPATIBILITY = Compatibility(limit_keys=("max_output_tokens",))
_OPENAI_COMPATIBILITY = replace(_DEFAULT_COMPATIBILITY, tool_search="known")
_SEARCH_PAIR = frozenset({SEARCH_TOOLS.model_name, CALL_TOOL.model_name})
_TOOL_SEARCH = {
    "type": "tool_search",
    "execution": "client",
    "description": "Find tools by what they do. Describe that in a few words, not the data of the task.",
    "parameters": SEARCH_TOOLS.schema,
}
_MAX_REASON = 500  # characters of why a search failed
_TEXT_DELTA = "response.output_text.delta"
_REFUSAL_DELTA = "response.refusal.delta"
_REASONING_DELTAS = ("response.reasoning_summary_text.delta", "response.reasoning_text.delta")


class Responses:
    """The WireApi of ``/responses``. Nothing is stored at the server."""

    name = "responses"
    path = "/responses"

    def __init__(self) -> None:
        self._tool_schemas = wire.ToolSchemaCache(_function_tool)

    def default_compatibility(self, *, is_openai: bool) -> Compatibility:
        return _OPENAI_COMPATIBILITY if is_openai else _DEFAULT_COMPATIBILITY

    def create_accumulator(self, used_ids: set[str], limit: int | None) -> "ResponsesAccumulator":
        return ResponsesAccumulator(used_ids=used_ids, limit=limit)

    def build_body(
        self, request: ModelRequest, compatibility: Compatibility, origin: Mapping[str, str]
    ) -> dict[str, Any]:
        options = request.options
        parameters: dict[str, Any] = {
            "model": request.model,
            "stream": True,
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "temperature": options.temperature,
            "reasoning": {"effort": options.reasoning_effort} if options.reasoning_effort else None,
            "prompt_cache_key": request.cache_key or None,
            "text": _text_format(request.schema),
            **dict.fromkeys(compatibility.limit_keys[:1], options.max_output_tokens),
        }
        searches = _find_searches(request, origin) if _has_tool_search(request, compatibility) else None
        items = [
            item for message in request.messages for item in to_input_items(message, origin, compatibility, searches)
        ]
        conversation = {"instructions": request.system, "input": items} if request.system else {"input": items}
        tools = adapt_tools(self._tool_schemas.get(request.tools), request.messages, compatibility)
        if searches is not None:
            tools = [*(tool for tool in tools if tool["name"] not in _SEARCH_PAIR), _TOOL_SEARCH]
        return wire.build_body(parameters, request, conversation, tools=tools, omitted=compatibility.omitted)


def _function_tool(tool: ToolSpec) -> dict[str, Any]:
    # Without this key the server makes the schema strict if it can, which changes what "optional" means.
    return {"type": "function", **openai_function(tool)["function"], "strict": False}


def _has_tool_search(request: ModelRequest, compatibility: Compatibility) -> bool:
    """Whether the model gets the provider's own tool search in place of the two tools that search and call."""
    if SEARCH_TOOLS not in request.tools or compatibility.tool_search == "refused":
        return False
    known = compatibility.tool_search == "known" and _has_searching_version(request.model)
    return request.native_search or known


def _has_searching_version(model: str) -> bool:
    """Whether it is one of OpenAI's models from GPT-5.4 on."""
    version = re.match(r"gpt-(\d+)(?:\.(\d+))?(?![\da-z])", model)
    # gpt-35-turbo is Azure's name for GPT-3.5.
    return version is not None and version[1] != "35" and (int(version[1]), int(version[2] or 0)) >= (5, 4)


def _find_searches(request: ModelRequest, origin: Mapping[str, str]) -> Collection[str]:
    """The ids of the calls that were made by the provider's tool search."""
    return {
        call.id
        for message in request.messages
        if message.role == "assistant"
        for item, call in _pair_calls(wire.provider_data(message, origin).get("items", ()), message.calls)
        if call is not None and item.get("type") == "tool_search_call"
    }


def _pair_calls(
    items: Sequence[dict[str, Any]], calls: Sequence[ToolCall]
) -> Iterator[tuple[dict[str, Any], ToolCall | None]]:
    """The model's items in their order, each call with ours. Calls that our history has no more are left out."""
    remaining = iter(calls)
    for item in items:
        if not _is_call(item):
            yield item, None
        elif (call := next(remaining, None)) is not None:
            yield item, call


def _text_format(schema: Mapping[str, Any] | None) -> dict[str, Any] | None:
    answer = wire.answer_format(schema)
    return {"format": {"type": "json_schema", **answer}} if answer is not None else None


def to_input_items(
    message: Message,
    origin: Mapping[str, str],
    compatibility: Compatibility = _DEFAULT_COMPATIBILITY,
    searches: Collection[str] | None = None,
) -> Iterator[dict[str, Any]]:
    """The API's input items for one of our messages: the original items of the model if they came from this origin.

    ``searches`` are the ids of calls by the provider's tool search; None if this request has none.
    """
    match message.role:
        case "tool":
            for result in message.results:
                if result.call_id in (searches or ()):
                    yield from _search_output(result, compatibility)
                    continue
                yield {
                    "type": "function_call_output",
                    "call_id": result.call_id,
                    "output": _build_output(result, compatibility),
                }
        case "assistant":
            if items := wire.provider_data(message, origin).get("items"):
                yield from _replay_items(items, message.calls, compatibility, with_search=searches is not None)
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
            yield {"type": "message", "role": message.role, "content": _build_content(message.parts, compatibility)}


def _replay_items(
    items: Sequence[dict[str, Any]], calls: Sequence[ToolCall], compatibility: Compatibility, *, with_search: bool
) -> Iterator[dict[str, Any]]:
    """The model's items in their order; its calls with the ids, names and arguments from our history."""
    for item, call in _pair_calls(items, calls):
        if call is not None and item["type"] == "tool_search_call" and with_search:
            yield {**item, "call_id": call.id, "arguments": decode_arguments(call)}
        elif call is not None:
            replayed = item if item["type"] == "function_call" else {"type": "function_call"}
            yield {**replayed, "call_id": call.id, "name": call.name, "arguments": call.arguments}
        elif item.get("type") != "reasoning" or compatibility.reasoning_echo != "never":
            yield item


def _search_output(result: ToolResult, compatibility: Compatibility) -> Iterator[dict[str, Any]]:
    """The tools that were found, which the model can call from now on; of a search that failed, also why."""
    text = result_text(result)
    try:
        answer, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):  # it was shortened, or an error
        answer = {}
    found = wire.filter_dicts(answer.get("tools") if isinstance(answer, dict) else None)
    tools = [
        {
            "type": "function",
            "name": tool.get("name"),
            "description": tool.get("description"),
            # A schema that was left out for its length: the arguments are checked anyway.
            "parameters": schema if isinstance(schema := tool.get("input_schema"), dict) else {"type": "object"},
            "strict": False,
        }
        for tool in found
    ]
    yield {
        "type": "tool_search_output",
        "call_id": result.call_id,
        "execution": "client",
        "status": "completed",
        "tools": list(adapt_tools(tools, (), replace(compatibility, max_tools=None))),
    }
    if not answer:
        reason = {"type": "input_text", "text": f"[tool search] {text[:_MAX_REASON]}"}
        yield {"type": "message", "role": "user", "content": [reason]}


def _build_content(parts: Sequence[Part], compatibility: Compatibility) -> list[dict[str, Any]]:
    return [item for part in parts if (item := _build_part(part, compatibility)) is not None]


def _build_part(part: Part, compatibility: Compatibility) -> dict[str, Any] | None:
    match part:
        case Text(text=text):
            return {"type": "input_text", "text": text}
        case Image() if compatibility.images and (url := wire.media_url(part, compatibility.refused_media)):
            return {"type": "input_image", "detail": "auto", "image_url": url}
        case File(name=name) if compatibility.files and (url := wire.media_url(part, compatibility.refused_media)):
            return {"type": "input_file", "filename": name or "file.pdf", "file_data": url}
        case Link(uri=uri, title=title):
            return {"type": "input_text", "text": f"{title} {uri}".strip()}
        case Image() | Audio() | File():
            return {"type": "input_text", "text": wire.describe_part(part)}
        case _:
            return None


def _build_output(result: ToolResult, compatibility: Compatibility) -> str | list[dict[str, Any]]:
    """The output of a tool call: text, or a list of parts if it contains images or files."""
    content = _build_content(result.parts, compatibility)
    if all(item["type"] == "input_text" for item in content):
        return wire.format_tool_result(result)
    return [{"type": "input_text", "text": "Error:"}, *content] if result.is_error else content


@dataclass
class PartialItem:
    """An item while it arrives: the texts already yielded, and the fragments of its arguments."""

    item: dict[str, Any]
    is_done: bool = False
    shown_text: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)

    @property
    def kind(self) -> object:
        return self.item.get("type")


@dataclass
class ResponsesAccumulator:
    """The ResponseAccumulator of Responses."""

    used_ids: set[str]
    limit: int | None = None
    items: list[PartialItem] = field(default_factory=list)
    items_by_key: dict[int | str, PartialItem] = field(default_factory=dict)  # by output index and by id
    reasoning: list[str] = field(default_factory=list)
    final_response: dict[str, Any] | None = None
    usage: Usage = field(default_factory=Usage)
    surrogates: wire.SurrogateJoiner = field(default_factory=wire.SurrogateJoiner)
    think_tags: ThinkTags = field(default_factory=ThinkTags)

    def feed(self, chunk: Chunk) -> Iterator[ModelEvent]:
        if chunk is END_OF_STREAM:
            return
        declared = chunk.get("type")
        kind = declared if isinstance(declared, str) else ""
        if chunk.get("object") == "response":  # a server that ignores ``stream``
            yield from self._on_completed(chunk, str(chunk.get("status") or "completed"))
        elif kind == "response.output_item.added":
            yield from self._on_item_added(chunk)
        elif kind in {_TEXT_DELTA, _REFUSAL_DELTA} or kind in _REASONING_DELTAS:
            yield from self._on_delta(kind, chunk)
        elif kind == "response.function_call_arguments.delta":
            self._item_for(chunk).arguments.append(wire.content_text(chunk.get("delta")))
        elif kind == "response.function_call_arguments.done" and wire.content_text(chunk.get("arguments")):
            self._item_for(chunk).arguments = [wire.content_text(chunk.get("arguments"))]
        elif kind == "response.output_item.done" and isinstance(item := chunk.get("item"), dict):
            yield from self._complete_item(
                item, self._find_item(chunk, item) or self._latest_open_item(item) or self._add_item(chunk, item)
            )
        elif kind in {"response.completed", "response.incomplete", "response.failed", "response.done"}:
            yield from self._on_completed(chunk.get("response"), str(kind).removeprefix("response."))
        elif kind == "error":
            raise error_from_body({key: value for key, value in chunk.items() if key != "type"})

    def _find_item(self, chunk: Mapping[str, Any], item: Mapping[str, Any]) -> PartialItem | None:
        """The item that an event refers to, by output index or id."""
        keys = (chunk.get("output_index"), chunk.get("item_id"), item.get("id"))
        return next(
            (self.items_by_key[key] for key in keys if isinstance(key, int | str) and key in self.items_by_key), None
        )

    def _latest_open_item(self, item: Mapping[str, Any]) -> PartialItem | None:
        """The latest item that is not done, of the same kind if it is known: for events that refer to no item."""
        kind = item.get("type")
        open_items = (
            partial for partial in reversed(self.items) if not partial.is_done and kind in {None, partial.kind}
        )
        return next(open_items, None)

    def _item_for(self, chunk: Mapping[str, Any]) -> PartialItem:
        return self._find_item(chunk, {}) or self._latest_open_item({}) or self._add_item(chunk, {})

    def _add_item(self, chunk: Mapping[str, Any], item: dict[str, Any]) -> PartialItem:
        partial = PartialItem(item=item)
        self.items.append(partial)
        for key in (chunk.get("output_index"), chunk.get("item_id"), item.get("id")):
            if isinstance(key, int | str):
                self.items_by_key[key] = partial
        return partial

    def _on_item_added(self, chunk: Mapping[str, Any]) -> Iterator[ModelEvent]:
        if isinstance(item := chunk.get("item"), dict):
            self._add_item(chunk, item)
            if item.get("type") == "function_call" and isinstance(name := item.get("name"), str) and name:
                yield ToolCallStarted(name=name)

    def _on_delta(self, kind: str, chunk: Mapping[str, Any]) -> Iterator[ModelEvent]:
        if text := self.surrogates.feed(wire.content_text(chunk.get("delta"))):
            item, is_reasoning = self._item_for(chunk), kind in _REASONING_DELTAS
            pieces = [(text, is_reasoning)] if kind != _TEXT_DELTA else self.think_tags.feed(text)
            for piece, inside in pieces:
                yield from self._emit_text(piece, item, reasoning=inside)

    def _emit_text(self, text: str, partial: PartialItem, *, reasoning: bool) -> Iterator[ModelEvent]:
        if reasoning:
            self.reasoning.append(text)
            partial.shown_text.append("")
            yield ReasoningDelta(text=text)
            return
        previous = next(
            (other for other in reversed(self.items) if any(other.shown_text) and other is not partial), None
        )
        # A response may contain two messages, commentary and the answer: separate them.
        if previous is not None and not any(partial.shown_text):
            previous.shown_text.append("\n\n")
            yield TextDelta(text="\n\n")
        partial.shown_text.append(text)
        yield TextDelta(text=text)

    def _complete_item(self, item: dict[str, Any], partial: PartialItem) -> Iterator[ModelEvent]:
        """Replace the partial item with the server's final one, to send back later; yield its text if none was yet."""
        if partial.is_done:
            return
        for piece, is_reasoning in self.think_tags.flush() if partial.kind == "message" else ():
            yield from self._emit_text(piece, partial, reasoning=is_reasoning)
        if item.get("type") == "function_call" and not item.get("arguments"):
            item = {**item, "arguments": "".join(partial.arguments)}
        partial.item, partial.is_done = item, True
        if partial.shown_text or partial.kind not in {"message", "reasoning"}:
            return
        for part in wire.filter_dicts(item.get("content")) + wire.filter_dicts(item.get("summary")):
            text = part.get("text") or part.get("refusal")
            if isinstance(text, str) and text:
                tags = ThinkTags()
                whole = (Piece(text, is_reasoning=True),)
                pieces = whole if partial.kind == "reasoning" else (*tags.feed(text), *tags.flush())
                for piece, is_reasoning in pieces:
                    yield from self._emit_text(replace_surrogates(piece), partial, reasoning=is_reasoning)

    def _on_completed(self, response: object, status: str) -> Iterator[ModelEvent]:
        """Read the final response. It may contain items that no event announced.

        Items are matched by their kind and their position among that kind.
        """
        self.final_response = {"status": status, **(response if isinstance(response, dict) else {})}
        if not isinstance(self.final_response["status"], str):
            self.final_response["status"] = status
        if isinstance(usage := self.final_response.get("usage"), Mapping):
            self.usage = _parse_usage(usage)
        counts: dict[object, int] = {}
        for item in wire.filter_dicts(self.final_response.get("output")):
            kind = item.get("type")
            position = counts[kind] = counts.get(kind, 0) + 1
            same_kind = [partial for partial in self.items if partial.kind == kind]
            yield from self._complete_item(
                item, same_kind[position - 1] if position <= len(same_kind) else self._add_item({}, item)
            )
        for partial in self.items:
            if not partial.is_done and partial.item:
                yield from self._complete_item(partial.item, partial)

    def finish(self, origin: Mapping[str, str]) -> ResponseDone:
        if self.final_response is None:
            raise ModelError(
                "connection lost: the model's answer broke off before its end", kind="broken_stream", hint="try again"
            )
        if self.final_response.get("status") == "failed":
            raise error_from_body(self.final_response.get("error") or "the response failed")
        stop = self._stop_reason()
        items = [
            partial.item
            for partial in self.items
            if partial.is_done and (partial.kind != "function_call" or _is_call(partial.item))
        ]
        while items and items[-1].get("type") == "reasoning":
            items.pop()  # the server refuses reasoning without the item that follows it
        calls = (
            [] if stop in {"refusal", "filter"} else [self._build_tool_call(item) for item in items if _is_call(item)]
        )
        parts: list[Part] = []
        texts = [text for partial in self.items if (text := "".join(partial.shown_text))]
        reasoning = "".join(self.reasoning)
        if not reasoning and texts:
            reasoning, texts[0] = split_unopened(texts[0])
        if reasoning:
            parts.append(Reasoning(text=reasoning))
        parts += [Text(text=text) for text in texts if text]
        is_replayable = stop == "end" and bool(items)  # of an incomplete response, only the text is sent back
        message = Message(
            role="assistant",
            parts=(*parts, *calls),
            raw={"origin": dict(origin), "items": items} if is_replayable else None,
            cut="length" if stop == "length" and not calls else "",
        )
        return ResponseDone(message=message, usage=self.usage, stop=stop)

    def _stop_reason(self) -> StopReason:
        response = self.final_response or {}
        if response.get("status") == "incomplete":
            details = response.get("incomplete_details")
            reason = details.get("reason") if isinstance(details, dict) else ""
            return "filter" if reason == "content_filter" else "length"
        if self.limit is not None and self.usage.output >= self.limit:
            return "length"  # some servers report a truncated response as "completed"
        refused = any(
            part.get("refusal") for partial in self.items for part in wire.filter_dicts(partial.item.get("content"))
        )
        return "refusal" if refused else "end"

    def _build_tool_call(self, item: Mapping[str, Any]) -> ToolCall:
        call_id = item.get("call_id")
        if not isinstance(call_id, str) or not call_id or call_id in self.used_ids:
            call_id = wire.new_call_id()
        self.used_ids.add(call_id)
        arguments = item.get("arguments")
        arguments_text = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
        name = SEARCH_TOOLS.model_name if item["type"] == "tool_search_call" else str(item["name"])
        return ToolCall(
            id=call_id,
            name=replace_surrogates(name),
            arguments=replace_surrogates(arguments_text),
        )


def _is_call(item: Mapping[str, Any]) -> bool:
    if item.get("type") == "tool_search_call":
        return item.get("execution") != "server"  # the provider has answered it
    return item.get("type") == "function_call" and isinstance(item.get("name"), str) and bool(item["name"])


def _parse_usage(usage: Mapping[str, Any]) -> Usage:
    return Usage(
        input=read_token_count(usage, "input_tokens"),
        output=read_token_count(usage, "output_tokens"),
        cached=read_token_count(usage, "input_tokens_details", "cached_tokens"),
        reasoning=read_token_count(usage, "output_tokens_details", "reasoning_tokens"),
        written=read_token_count(usage, "input_tokens_details", "cache_write_tokens"),
    )
