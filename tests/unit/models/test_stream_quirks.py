"""Streams as real servers send them: each becomes the right message or one clear error."""

import json
from typing import Any

import httpx2
import pytest

from mcpchat.core.events import ReasoningDelta, TextDelta
from mcpchat.core.messages import Usage
from mcpchat.core.protocols import ResponseDone, Retrying
from mcpchat.errors import ModelError
from mcpchat.models.openai.sse import EventTooLong, iter_events
from tests.support.fake_openai import DONE, call_item, chunk, event, message_item, reasoning_item, response
from tests.support.recorded_streams import SSE_HEADERS, RecordedTransport, collect_events, final_event, stream

TEXT_AND_END = [chunk({"content": "ok"}, "stop"), DONE]


def data(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def call_chunk(arguments: Any = None, **fields: Any) -> bytes:
    """Return one delta of a call with the given index, id and name."""
    function = {
        key: value for key, value in (("name", fields.pop("name", None)), ("arguments", arguments)) if value is not None
    }
    return chunk({"tool_calls": [{**fields, "function": function}]})


END_CALLS = [chunk({}, "tool_calls"), DONE]

# The pieces sent, then the expected text, calls (name and arguments) and stop.
CHAT: dict[str, tuple[list[bytes], str, list[tuple[str, Any]], str]] = {
    "null choices, null deltas, an unknown object first": (
        [data({"object": "prompt_filter"}), data({"choices": None}), data({"choices": [{"delta": None}]}), *TEXT_AND_END],
        "ok", [], "end",
    ),
    "comments, keep-alives, empty data, another event's name": (
        [b": OPENROUTER PROCESSING\n\n", b"data:\n\n", b"event: ping\ndata: {}\n\n", b": \n\n", *TEXT_AND_END], "ok", [], "end",
    ),
    "line ends of Windows, a byte order mark, no blank after the colon": (
        [b"\xef\xbb\xbfdata:" + chunk({"content": "ok"}, "stop")[6:].replace(b"\n\n", b"\r\n\r\n"), b"data:[DONE]\r\n\r\n"],
        "ok", [], "end",
    ),
    "separators of Unicode unescaped within the JSON": (
        [b'data: {"choices": [{"delta": {"content": "a\xe2\x80\xa8b\xc2\x85c"}, "finish_reason": "stop"}]}\n\n', DONE],
        "a\u2028b\x85c", [], "end",
    ),
    "no [DONE], and no empty line at the end": ([chunk({"content": "ok"}, "stop").rstrip()], "ok", [], "end"),
    "no finish reason, but [DONE]": ([chunk({"content": "ok"}), DONE], "ok", [], "end"),
    "finish reason tool_calls without a call": ([chunk({"content": "ok"}, "tool_calls"), DONE], "ok", [], "end"),
    "finish reason stop with a call": ([call_chunk("{}", index=0, id="a", name="f"), *TEXT_AND_END], "ok", [("f", {})], "end"),
    "content as a list of parts": ([chunk({"content": [{"type": "text", "text": "ok"}]}, "stop"), DONE], "ok", [], "end"),
    "index from 1": ([call_chunk("{}", index=1, id="a", name="f"), *END_CALLS], "", [("f", {})], "end"),
    "type null in later pieces": (
        [call_chunk('{"a"', index=0, id="a", name="f"), call_chunk(": 1}", index=0, type=None), *END_CALLS], "", [("f", {"a": 1})], "end",
    ),
    "arguments null, then text": (
        [call_chunk(index=0, id="a", name="f"), chunk({"tool_calls": [{"index": 0, "function": {"arguments": None}}]}),
         call_chunk('{"a": 1}', index=0), *END_CALLS],
        "", [("f", {"a": 1})], "end",
    ),
    "the name after the arguments": (
        [call_chunk('{"a": 1}', index=0, id="a"), call_chunk("", index=0, name="f"), *END_CALLS], "", [("f", {"a": 1})], "end",
    ),
    "two calls interleaved by id, without an index": (
        [call_chunk('{"a"', id="a", name="f"), call_chunk('{"b"', id="b", name="g"), call_chunk(": 1}", id="a"), call_chunk(": 2}", id="b"), *END_CALLS],
        "", [("f", {"a": 1}), ("g", {"b": 2})], "end",
    ),
    "two whole calls of one name, no ids, the same index": (
        [call_chunk('{"a": 1}', index=0, name="f"), call_chunk('{"a": 2}', index=0, name="f"), *END_CALLS],
        "", [("f", {"a": 1}), ("f", {"a": 2})], "end",
    ),
    "two whole calls of one name, no ids, no index": (
        [call_chunk('{"a": 1}', name="f"), call_chunk('{"a": 2}', name="f"), *END_CALLS],
        "", [("f", {"a": 1}), ("f", {"a": 2})], "end",
    ),
    "the name in each piece, and once more at the end": (
        [call_chunk('{"a"', index=0, id="a", name="f"), call_chunk(": 1}", index=0, name="f"), call_chunk("", index=0, name="f"), *END_CALLS],
        "", [("f", {"a": 1})], "end",
    ),
    "all calls whole in one delta": (
        [chunk({"tool_calls": [{"id": name, "function": {"name": name, "arguments": "{}"}} for name in "fg"]}, "tool_calls"), DONE],
        "", [("f", {}), ("g", {})], "end",
    ),
    "a call before version 1's time": (
        [chunk({"function_call": {"name": "f", "arguments": '{"a"'}}), chunk({"function_call": {"arguments": ": 1}"}}),
         chunk({}, "function_call"), DONE],
        "", [("f", {"a": 1})], "end",
    ),
    "calls of a filtered answer do not run": (
        [chunk({"content": "a"}), call_chunk("{}", index=0, id="a", name="f"), chunk({}, "content_filter"), DONE], "a", [], "filter",
    ),
    "calls of a refusal do not run": (
        [chunk({"refusal": "No."}), call_chunk("{}", index=0, id="a", name="f"), *END_CALLS], "No.", [], "refusal",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAT)
@pytest.mark.parametrize("torn", [False, True], ids=["whole", "torn into single bytes"])
async def test_a_chat_stream_becomes_the_expected_message(name: str, torn: bool) -> None:
    pieces, text, calls, stop = CHAT[name]

    async def send_chunks() -> Any:
        body = b"".join(pieces)
        for start in range(0, len(body), 1 if torn else len(body)):
            yield body[start : start + 1] if torn else body

    final = await final_event(
        RecordedTransport(httpx2.Response(200, headers=SSE_HEADERS, content=send_chunks())).chat_model()
    )
    calls_made = [(call.name, json.loads(call.arguments)) for call in final.message.calls]
    assert (final.message.text, calls_made, final.stop) == (text, calls, stop)
    ids = [call.id for call in final.message.calls]
    assert all(ids)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("pieces", "usage"),
    [
        ([*TEXT_AND_END[:1], data({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}), DONE], Usage(input=7, output=2)),
        ([chunk({"content": "ok"}, "stop", usage={"prompt_tokens": 7, "completion_tokens": 2}), DONE], Usage(input=7, output=2)),
        ([chunk({"content": "o"}, usage=None), *TEXT_AND_END], Usage()),
        ([*TEXT_AND_END[:1], data({"choices": [{"usage": {"prompt_tokens": 7, "cached_tokens": 3}}]}), DONE], Usage(input=7, cached=3)),
        ([*TEXT_AND_END[:1], data({"x_groq": {"usage": {"prompt_tokens": 7}}}), DONE], Usage(input=7)),
        ([*TEXT_AND_END[:1], data({"usage": {"prompt_tokens": "7", "completion_tokens": None, "prompt_tokens_details": 3}}), DONE], Usage()),
        (
            [*TEXT_AND_END[:1], data({"usage": {"prompt_tokens": 9, "completion_tokens": 4, "prompt_cache_hit_tokens": 5,
                                      "completion_tokens_details": {"reasoning_tokens": 3}}}), DONE],
            Usage(input=9, output=4, cached=5, reasoning=3),
        ),
    ],
    ids=["own chunk", "with the finish", "null", "in the choice", "groq's", "nonsense", "deepseek's cache"],
)  # fmt: skip
async def test_usage_is_read_from_any_place(pieces: list[bytes], usage: Usage) -> None:
    assert (await final_event(RecordedTransport(stream(*pieces)).chat_model())).usage == usage


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "reasoning_text"])
async def test_reasoning_fields_are_known(key: str) -> None:
    events = await collect_events(RecordedTransport(stream(chunk({key: "Hm"}), *TEXT_AND_END)).chat_model())
    assert events[:2] == [ReasoningDelta(text="Hm"), TextDelta(text="ok")]


async def test_mistrals_thinking_blocks_are_reasoning() -> None:
    thinking = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}, {"type": "text", "text": "so"}]
    events = await collect_events(RecordedTransport(stream(chunk({"content": thinking}), *TEXT_AND_END)).chat_model())
    assert events[:3] == [ReasoningDelta(text="Hm"), TextDelta(text="so"), TextDelta(text="ok")]


BROKEN: dict[str, tuple[list[bytes], str, str]] = {
    "cut": ([], "broken_stream", "connection lost"),
    "broken JSON": ([b'data: {"choices": [{"delta"\n\n'], "broken_stream", "broken data"),
    "an error object": ([data({"error": {"message": "the engine died"}})], "server", "the engine died"),
    "an error that is a text": ([data({"error": "the engine died"})], "server", "the engine died"),
    "overloaded": ([data({"error": {"message": "busy", "type": "overloaded_error"}})], "overloaded", "busy"),
    "openrouter's": (
        [data({"error": {"code": 502, "message": "Provider disconnected"}, "choices": [{"delta": {}, "finish_reason": "error"}]})],
        "server", "Provider disconnected",
    ),
    "a rate limit in the middle": ([data({"error": {"code": 429, "message": "slow down"}})], "rate", "slow down"),
    "finish reason error": ([chunk({}, "error"), DONE], "server", "ended the answer: error"),
    "gemini's malformed call": ([chunk({}, "MALFORMED_FUNCTION_CALL"), DONE], "server", "malformed_function_call"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_chat_stream_is_retried_only_before_any_text(name: str) -> None:
    pieces, kind, message = BROKEN[name]
    wire = RecordedTransport(stream(*pieces), stream(*TEXT_AND_END))
    events = await collect_events(wire.chat_model())
    assert isinstance(events[0], Retrying)
    assert message in events[0].reason
    assert isinstance(events[-1], ResponseDone)
    wire = RecordedTransport(stream(chunk({"content": "half"}), *pieces), stream(*TEXT_AND_END))
    with pytest.raises(ModelError, match=message) as error_info:
        await collect_events(wire.chat_model())
    assert (error_info.value.kind, len(wire.bodies)) == (kind, 1)


# --- Responses ---------------------------------------------------------------------------------------------------

TEXT, CALL = message_item("ok"), call_item("f", '{"a": 1}', "c1")
ADDED, DELTA, ITEM_DONE = "response.output_item.added", "response.output_text.delta", "response.output_item.done"


def end_event(*items: Any, status: str = "completed", **fields: Any) -> bytes:
    return event(
        f"response.{status}", response={"object": "response", "status": status, "output": list(items), **fields}
    )


RESPONSES: dict[str, tuple[list[bytes], str, list[tuple[str, Any]], str]] = {
    "as OpenAI sends it": (response(reasoning_item(), TEXT, CALL), "ok", [("f", {"a": 1})], "end"),
    "no response.created": (response(TEXT)[1:], "ok", [], "end"),
    "an empty output at the end": ([*response(TEXT, CALL)[:-1], end_event()], "ok", [("f", {"a": 1})], "end"),
    "items only at the end": ([end_event(TEXT, CALL)], "ok", [("f", {"a": 1})], "end"),
    "deltas, and no end of the item": (
        [event(ADDED, output_index=0, item={**TEXT, "content": []}), event(DELTA, output_index=0, delta="ok"), end_event(TEXT)],
        "ok", [], "end",
    ),
    "deltas without an item": ([event(DELTA, delta="ok"), end_event()], "ok", [], "end"),
    "arguments only in deltas": (
        [event(ADDED, output_index=0, item={**CALL, "arguments": ""}),
         *(event("response.function_call_arguments.delta", output_index=0, delta=part) for part in ('{"a"', ": 1}")),
         event(ITEM_DONE, output_index=0, item={**CALL, "arguments": ""}), end_event()],
        "", [("f", {"a": 1})], "end",
    ),
    "two calls interleaved": (
        [event(ADDED, output_index=0, item={**CALL, "arguments": ""}),
         event(ADDED, output_index=1, item={**call_item("g", "", "c2")}),
         *(event("response.function_call_arguments.delta", output_index=index, delta=part)
           for index, part in ((0, '{"a"'), (1, '{"b"'), (0, ": 1}"), (1, ": 2}"))),
         event(ITEM_DONE, output_index=0, item={**CALL, "arguments": ""}),
         event(ITEM_DONE, output_index=1, item=call_item("g", "", "c2")), end_event()],
        "", [("f", {"a": 1}), ("g", {"b": 2})], "end",
    ),
    "items without places or ids": (
        [event(ADDED, item={**CALL, "id": None, "arguments": ""}),
         event("response.function_call_arguments.delta", delta='{"a": 1}'),
         event(ITEM_DONE, item={**CALL, "id": None, "arguments": '{"a": 1}'}), end_event()],
        "", [("f", {"a": 1})], "end",
    ),
    "a call without an id, and one with an empty one": (
        response({**CALL, "call_id": None}, call_item("g", "{}", "")), "", [("f", {"a": 1}), ("g", {})], "end",
    ),
    "the same id twice": (response(CALL, CALL), "", [("f", {"a": 1}), ("f", {"a": 1})], "end"),
    "arguments as an object": (response({**CALL, "arguments": {"a": 1}}), "", [("f", {"a": 1})], "end"),
    "a call without a name": (response({**CALL, "name": None}, TEXT), "ok", [], "end"),
    "kinds of events and items that nobody knows yet": (
        [event("response.surprise", x=1), *response({"type": "hologram", "id": "h"}, TEXT)], "ok", [], "end",
    ),
    "cut at the output's limit": (
        response(TEXT, status="incomplete", incomplete_details={"reason": "max_output_tokens"}), "ok", [], "length",
    ),
    "filtered": (
        response(TEXT, CALL, status="incomplete", incomplete_details={"reason": "content_filter"}), "ok", [], "filter",
    ),
}  # fmt: skip
_REFUSAL = {**TEXT, "content": [{"type": "refusal", "refusal": "No."}]}
RESPONSES["refused"] = (
    [event("response.refusal.delta", output_index=0, delta="No."), event(ITEM_DONE, output_index=0, item=_REFUSAL), end_event()],
    "No.", [], "refusal",
)  # fmt: skip


@pytest.mark.parametrize("name", RESPONSES)
async def test_a_response_stream_becomes_the_expected_message(name: str) -> None:
    pieces, text, calls, stop = RESPONSES[name]
    final = await final_event(RecordedTransport(stream(*pieces)).responses_model())
    calls_made = [(call.name, json.loads(call.arguments)) for call in final.message.calls]
    assert (final.message.text, calls_made, final.stop) == (text, calls, stop)
    ids = [call.id for call in final.message.calls]
    assert all(ids)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("last_events", "kind", "message"),
    [
        ([], "broken_stream", "connection lost"),
        ([end_event(status="failed", error={"code": "server_error", "message": "it burnt"})], "server", "it burnt"),
        ([end_event(status="failed", error={"code": "rate_limit_exceeded", "message": "slow"})], "rate", "slow"),
        ([event("error", code="server_error", message="it burnt", param=None)], "server", "it burnt"),
        ([event("error", error={"type": "server_error", "message": "it burnt"})], "server", "it burnt"),
        ([b"event: error\ndata: {oops\n\n"], "broken_stream", "broken data"),
    ],
)
async def test_a_broken_response_stream_is_one_clear_error(last_events: list[bytes], kind: str, message: str) -> None:
    first_event = event(DELTA, output_index=0, delta="half")
    with pytest.raises(ModelError, match=message) as error_info:
        await collect_events(RecordedTransport(stream(first_event, *last_events)).responses_model())
    assert error_info.value.kind == kind
    wire = RecordedTransport(stream(*last_events), stream(*response(TEXT)))
    assert isinstance((await collect_events(wire.responses_model()))[-1], ResponseDone)


async def test_both_apis_support_servers_that_ignore_stream() -> None:
    body = {"object": "response", "status": "completed", "output": [TEXT], "error": None, "usage": {"input_tokens": 3}}
    final = await final_event(RecordedTransport(httpx2.Response(200, json=body)).responses_model())
    assert (final.message.text, final.usage) == ("ok", Usage(input=3))
    body = {"choices": [{"message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}]}
    assert (await final_event(RecordedTransport(httpx2.Response(200, json=body)).chat_model())).message.text == "ok"


@pytest.mark.parametrize("fragment", [b"x" * 100, b"data: " + b"x" * 100 + b"\n"], ids=["a line", "lines"])
async def test_an_endless_event_is_an_error(fragment: bytes) -> None:
    async def endless() -> Any:
        for _ in range(50):
            yield fragment

    with pytest.raises(EventTooLong, match="more than 1,000 bytes"):
        [event async for event in iter_events(endless(), max_size=1000)]


# --- regressions ----------------------------------------------------------------------------------------------------


async def test_odd_values_in_a_chat_stream_are_skipped() -> None:
    odd_values = [
        {"x_groq": [1], "usage": {"prompt_tokens": 1e300, "completion_tokens": -3}},
        {"choices": [{"delta": {"reasoning_details": [{"type": "a", "text": {}}, {"type": "a", "text": "x"}]}}]},
        {"choices": [{"delta": {"content": 3, "tool_calls": {"a": 1}}}, 7, {"delta": [1]}]},
    ]
    final = await final_event(RecordedTransport(stream(*map(data, odd_values), *TEXT_AND_END)).chat_model())
    assert (final.message.text, final.usage) == ("ok", Usage())


async def test_partial_usage_is_merged_and_other_choices_ignored() -> None:
    pieces = [
        data({"choices": [], "usage": {"prompt_tokens": 7}}),
        data({"choices": [{"index": 0, "delta": {"content": "o"}}, {"index": 1, "delta": {"content": "NO"}}]}),
        data({"choices": [{"index": 0, "delta": {"content": "k"}, "usage": {}, "finish_reason": "stop"}]}),
        data({"choices": [], "usage": {"completion_tokens": 2}}),
    ]
    final = await final_event(RecordedTransport(stream(*pieces, DONE)).chat_model())
    assert (final.message.text, final.usage) == ("ok", Usage(input=7, output=2))


@pytest.mark.parametrize(
    ("pieces", "calls"),
    [
        ([call_chunk('{"a"', index=0, id="x1", name="f"), call_chunk(": 1}", index=0, id="x2")], [("f", {"a": 1})]),
        (
            [call_chunk('{"a"', index=0, id="call_A", name="f"), call_chunk(": 1}", index=0, id="CALL_a", name="f")],
            [("f", {"a": 1})],
        ),
        (
            [call_chunk('{"a": 1}', index=0, id="x1", name="f"), call_chunk('{"b": 2}', index=0, id="x2", name="g")],
            [("f", {"a": 1}), ("g", {"b": 2})],
        ),
    ],
)
async def test_a_call_id_may_change_within_a_call(pieces: list[bytes], calls: list[tuple[str, Any]]) -> None:
    final = await final_event(RecordedTransport(stream(*pieces, *END_CALLS)).chat_model())
    assert [(call.name, json.loads(call.arguments)) for call in final.message.calls] == calls


@pytest.mark.parametrize(("finish", "stop"), [("model_length", "length"), ("insufficient_system_resource", None)])
async def test_provider_specific_finish_reasons_are_known(finish: str, stop: str | None) -> None:
    wire = RecordedTransport(stream(chunk({"content": "half"}, finish), DONE))
    if stop:
        assert (await final_event(wire.chat_model())).stop == stop
    else:
        with pytest.raises(ModelError, match="insufficient_system_resource"):
            await collect_events(wire.chat_model())


async def test_missing_indexes_do_not_repeat_text_or_mix_calls() -> None:
    text_events = [event(ADDED, output_index=0, item={**TEXT, "content": []}), event(DELTA, output_index=0, delta="ok"),
            event(ITEM_DONE, item=TEXT), end_event(TEXT)]  # fmt: skip
    assert (await final_event(RecordedTransport(stream(*text_events)).responses_model())).message.text == "ok"
    first_call, second_call = call_item("f", "", "c1"), call_item("g", "", "c2")
    mixed_events = [
        event(ADDED, output_index=0, item=first_call), event(ADDED, output_index=1, item=second_call),
        event("response.function_call_arguments.delta", item_id=first_call["id"], delta='{"a": 1}'),
        event("response.function_call_arguments.delta", item_id=second_call["id"], delta='{"b": 2}'),
        event(ITEM_DONE, output_index=0, item=first_call), event(ITEM_DONE, output_index=1, item=second_call), end_event(),
    ]  # fmt: skip
    final = await final_event(RecordedTransport(stream(*mixed_events)).responses_model())
    assert [(call.name, call.arguments) for call in final.message.calls] == [("f", '{"a": 1}'), ("g", '{"b": 2}')]


async def test_content_of_the_final_event_is_used_once() -> None:
    pieces = [event(ITEM_DONE, output_index=0, item=TEXT), end_event(TEXT, CALL)]
    final = await final_event(RecordedTransport(stream(*pieces)).responses_model())
    assert (final.message.text, [call.name for call in final.message.calls]) == ("ok", ["f"])
    late_events = [
        event(ADDED, item=call_item("f", "")),
        event("response.function_call_arguments.done", arguments='{"a": 1}'),
        end_event(),
    ]
    assert (await final_event(RecordedTransport(stream(*late_events)).responses_model())).message.calls[
        0
    ].arguments == '{"a": 1}'


async def test_without_a_status_the_last_event_type_counts() -> None:
    with pytest.raises(ModelError, match="it burnt"):
        await collect_events(
            RecordedTransport(
                stream(event("response.failed", response={"error": {"message": "it burnt"}}))
            ).responses_model(retries=0)
        )
    cut_stream = [event(DELTA, delta="hal"), event("response.incomplete", response={})]
    assert (await final_event(RecordedTransport(stream(*cut_stream)).responses_model())).stop == "length"
    odd_stream = [event(DELTA, output_index=[0], item_id={}, delta="ok"), end_event()]
    assert (await final_event(RecordedTransport(stream(*odd_stream)).responses_model())).message.text == "ok"


async def test_commentary_and_answer_are_separate_texts() -> None:
    items = (
        message_item("Let me look.", "m1"),
        {"type": "hologram", "id": "h", "content": [{"text": "SECRET"}]},
        message_item('{"a": 1}', "m2"),
    )
    final = await final_event(RecordedTransport(stream(*response(*items))).responses_model())
    assert [part.text for part in final.message.parts] == ["Let me look.\n\n", '{"a": 1}']  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("text/plain", b'{"choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}]}'),
        ("application/x-ndjson", b'\n {"choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}]}'),
        ("application/json", b"".join(TEXT_AND_END)),
        ("", b"".join(TEXT_AND_END)),
    ],
)
async def test_the_first_byte_decides_the_format(content_type: str, content: bytes) -> None:
    http_response = httpx2.Response(
        200, headers={"content-type": content_type} if content_type else {}, content=content
    )
    assert (await final_event(RecordedTransport(http_response).chat_model())).message.text == "ok"


@pytest.mark.parametrize(
    ("http_response", "kind", "message"),
    [
        (httpx2.Response(200, content=b'{"error": "model loading"}'), "server", "model loading"),
        (stream(data([{"error": {"code": 429, "message": "slow"}}])), "rate", "slow"),
        (
            httpx2.Response(200, headers=SSE_HEADERS, content=b"data: " + b"[" * 100_000 + b"\n\n"),
            "broken_stream",
            "nested too deeply",
        ),
        (httpx2.Response(403, json={"error": {"code": "insufficient_quota", "message": "empty"}}), "quota", "empty"),
        (httpx2.Response(502, html="<h1>Bad gateway</h1>"), "server", "a web page"),
        (httpx2.Response(500), "server", "no error message"),
        (
            httpx2.Response(307, headers={"location": "http://127.0.0.1:2/v1"}),
            "bad_request",
            "redirects to http://127.0.0.1:2/v1",
        ),
    ],
)
async def test_unusual_error_responses_are_classified(http_response: httpx2.Response, kind: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as error_info:
        await collect_events(RecordedTransport(http_response).chat_model(retries=0))
    assert error_info.value.kind == kind


@pytest.mark.parametrize("retry_after", ["0", "-5", "NaN", "Thu, 01 Jan 2026 00:00:00 GMT", "soon"])
async def test_a_retry_after_of_zero_still_waits(retry_after: str) -> None:
    limit_response = httpx2.Response(429, json={"error": {"message": "slow"}}, headers={"retry-after": retry_after})
    wire = RecordedTransport(limit_response, limit_response, stream(*TEXT_AND_END))
    await collect_events(wire.chat_model())
    assert wire.delays[0] >= 0.5
    assert wire.delays[1] >= 1.0


@pytest.mark.parametrize(
    ("data", "message", "attempts"),
    [
        ('{"message": "the adapter is gone", "code": 400, "type": "invalid_request_error"}', "the adapter is gone", 1),
        ('{"error": {"message": "boom", "type": "invalid_request_error"}}', "boom", 1),
        ('{"detail": "no such adapter", "status": 404}', "no such adapter", 1),
        ("out of memory", "out of memory", 2),
    ],
)
async def test_an_error_event_keeps_the_servers_words(data: str, message: str, attempts: int) -> None:
    body = f"event: error\ndata: {data}\n\n"
    wire = RecordedTransport(*(httpx2.Response(200, headers=SSE_HEADERS, text=body) for _ in range(5)))
    with pytest.raises(ModelError, match=f"the model's server reported: {message}"):
        await collect_events(wire.chat_model())
    assert len(wire.bodies) == attempts
