"""Chat Completions: recorded streams become one message; messages are converted to the API's format."""

import json
from collections.abc import Sequence
from typing import Any

import httpx2
import pytest

from mcpchat.core.events import Notice, ReasoningDelta, TextDelta
from mcpchat.core.messages import (
    Image,
    Message,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    error_result,
    user_message,
)
from mcpchat.core.protocols import ModelEvent, ModelOptions, ModelRequest, ResponseDone, Retrying, ToolCallStarted
from mcpchat.errors import ModelError
from mcpchat.models.openai.chat_completions import to_chat_messages
from tests.support.fake_openai import DONE, chunk
from tests.support.fakes import make_tool
from tests.support.recorded_streams import REQUEST, RecordedTransport, error_response, stream


async def play(*pieces: bytes, request: ModelRequest = REQUEST) -> list[ModelEvent]:
    return [event async for event in RecordedTransport(stream(*pieces)).chat_model().stream(request)]


async def finish(*pieces: bytes) -> ResponseDone:
    response = (await play(*pieces))[-1]
    assert isinstance(response, ResponseDone)
    return response


def call(arguments: Any = "{}", **fields: Any) -> dict[str, Any]:
    function = {
        key: value for key, value in (("name", fields.pop("name", None)), ("arguments", arguments)) if value is not None
    }
    return {"tool_calls": [{**fields, "function": function}]}


END_STOP = chunk({}, "stop") + DONE
END_CALLS = chunk({}, "tool_calls") + DONE


async def test_text_is_streamed_and_becomes_one_message() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
    usage_chunk = b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"
    assert await play(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        chunk({}, "stop"),
        usage_chunk,
        DONE,
    ) == [
        TextDelta(text="Hel"),
        TextDelta(text="lo"),
        ResponseDone(
            message=Message(role="assistant", parts=(Text(text="Hello"),)),
            usage=Usage(input=10, output=5, cached=4),
            stop="end",
        ),
    ]


TWO_CALLS = [("a1", "f", '{"x": 1}'), ("b1", "g", '{"y": 2}')]
CALL_STREAMS: dict[str, tuple[Sequence[bytes], list[tuple[str | None, str, str]]]] = {
    "in pieces": (
        [
            chunk(call("", index=0, id="a1", name="f")),
            chunk(call('{"x"', index=0)),
            chunk(call(": 1}", index=0)),
            chunk(call('{"y": 2}', index=1, id="b1", name="g")),
            END_CALLS,
        ],
        TWO_CALLS,
    ),
    "interleaved": (
        [
            chunk(call('{"x"', index=0, id="a1", name="f")),
            chunk(call('{"y"', index=1, id="b1", name="g")),
            chunk(call(": 1}", index=0)),
            chunk(call(": 2}", index=1)),
            END_CALLS,
        ],
        TWO_CALLS,
    ),
    "whole in one delta, no index": (
        [chunk(call('{"x": 1}', id="a1", name="f")), chunk(call('{"y": 2}', id="b1", name="g")), END_CALLS],
        TWO_CALLS,
    ),
    "both with index 0": (
        [chunk(call('{"x": 1}', index=0, id="a1", name="f")), chunk(call('{"y": 2}', index=0, id="b1", name="g")), END_CALLS],
        TWO_CALLS,
    ),
    "id and name repeated in each piece": (
        [
            chunk(call('{"x"', index=0, id="a1", name="f")),
            chunk(call(": 1}", index=0, id="a1", name="f")),
            chunk(call('{"y": 2}', index=1, id="b1", name="g")),
            END_CALLS,
        ],
        TWO_CALLS,
    ),
    "empty id and name in later pieces": (
        [
            chunk(call('{"x"', index=0, id="a1", name="f")),
            chunk(call(": 1}", index=0, id="", name="")),
            chunk(call('{"y": 2}', index=1, id="b1", name="g")),
            END_CALLS,
        ],
        TWO_CALLS,
    ),
    "arguments as an object": (
        [chunk(call({"x": 1}, index=0, id="a1", name="f")), chunk(call({"y": 2}, index=1, id="b1", name="g")), END_CALLS],
        TWO_CALLS,
    ),
    "finish reason stop": (
        [chunk(call('{"x": 1}', index=0, id="a1", name="f")), chunk(call('{"y": 2}', index=1, id="b1", name="g")), END_STOP],
        TWO_CALLS,
    ),
    "no ids": (
        [chunk(call('{"x": 1}', index=0, name="f")), chunk(call('{"y": 2}', index=1, name="g")), END_CALLS],
        [(None, "f", '{"x": 1}'), (None, "g", '{"y": 2}')],
    ),
    "the same id twice": (
        [chunk(call('{"x": 1}', index=0, id="a1", name="f")), chunk(call('{"y": 2}', index=1, id="a1", name="g")), END_CALLS],
        [("a1", "f", '{"x": 1}'), (None, "g", '{"y": 2}')],
    ),
    "no index, in pieces": (
        [chunk(call('{"x"', id="a1", name="f")), chunk(call(": 1}")), chunk(call('{"y": 2}', id="b1", name="g")), END_CALLS],
        TWO_CALLS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CALL_STREAMS)
async def test_calls_are_assembled_from_any_format(name: str) -> None:
    pieces, expected = CALL_STREAMS[name]
    calls = (await finish(*pieces)).message.calls
    assert [(c.name, json.loads(c.arguments)) for c in calls] == [(n, json.loads(a)) for _, n, a in expected]
    ids = [c.id for c in calls]
    assert len(set(ids)) == len(ids)
    for call_id, (expected_id, _, _) in zip(ids, expected, strict=True):
        assert call_id == expected_id if expected_id else (len(call_id) == 9 and call_id.isalnum())


async def test_a_call_id_used_in_the_history_is_replaced() -> None:
    history = (
        user_message("hi"),
        Message(role="assistant", parts=(ToolCall(id="call_0", name="f", arguments="{}"),)),
        Message(role="tool", parts=(error_result("call_0", "x"),)),
    )
    events = await play(
        chunk(call("{}", index=0, id="call_0", name="f")), END_CALLS, request=ModelRequest(model="m", messages=history)
    )
    assert isinstance(events[-1], ResponseDone)
    assert events[-1].message.calls[0].id != "call_0"


async def test_the_start_of_a_call_is_reported_once() -> None:
    events = await play(
        chunk(call('{"x"', index=0, id="a", name="f")), chunk(call(": 1}", index=0, name="f")), END_CALLS
    )
    assert [event for event in events if isinstance(event, ToolCallStarted)] == [ToolCallStarted(name="f")]


async def test_nulls_comments_and_empty_choices_are_skipped() -> None:
    null = b'data: {"choices": null}\n\ndata: {"choices": [{"delta": null}]}\n\ndata: {"choices": []}\n\n'
    response = await finish(
        b": OPENROUTER PROCESSING\n\n", null, chunk({"content": None}), chunk({"content": "ok"}), END_STOP
    )
    assert response.message.text == "ok"


async def test_invalid_chunks_are_skipped() -> None:
    invalid_chunks = b'data: {"choices": [null, 3, {"delta": "hi"}, {"delta": {"tool_calls": [null, {"function": 3}]}}]}\n\ndata: []\n\n'
    assert (await finish(invalid_chunks, chunk({"content": "ok"}), END_STOP)).message.parts == (Text(text="ok"),)


async def test_split_surrogates_are_joined_or_replaced() -> None:
    events = await play(
        chunk({"content": "a\ud83d"}), chunk({"content": "\ude00b"}), chunk({"content": "\udc00c"}), END_STOP
    )
    assert events[:3] == [TextDelta(text="a"), TextDelta(text="😀b"), TextDelta(text="\ufffdc")]


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (httpx2.Response(200, json={"error": {"message": "model not loaded"}}), "reported: model not loaded"),
        (httpx2.Response(200, json=[]), "sent JSON that is no answer"),
        (httpx2.Response(200, html="<p>Welcome</p>"), "answers with a web page"),
    ],
)
async def test_an_invalid_success_response_is_reported(response: httpx2.Response, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        [event async for event in RecordedTransport(*[response] * 9).chat_model().stream(REQUEST)]


async def test_a_server_that_ignores_stream_is_supported() -> None:
    body = {"choices": [{"message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}]}
    wire = RecordedTransport(httpx2.Response(200, json=body))
    events = [event async for event in wire.chat_model().stream(REQUEST)]
    assert events[0] == TextDelta(text="whole")
    assert isinstance(events[-1], ResponseDone)


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
async def test_reasoning_is_separate_and_echoed_only_to_its_origin(key: str) -> None:
    events = await play(chunk({key: "Hmm"}), chunk({"content": "ok"}), END_STOP)
    assert events[0] == ReasoningDelta(text="Hmm")
    assert isinstance(events[-1], ResponseDone)
    message = events[-1].message
    assert message.parts == (Reasoning(text="Hmm"), Text(text="ok"))
    origin = {"api": "chat", "base_url": "http://127.0.0.1:1/v1/", "model": "m"}
    assert next(to_chat_messages(message, origin)) == {"role": "assistant", "content": "ok", key: "Hmm"}
    assert next(to_chat_messages(message, {**origin, "model": "n"})) == {"role": "assistant", "content": "ok"}


async def test_extra_content_of_a_call_is_sent_back() -> None:
    signature = {"google": {"thought_signature": "s"}}
    response = await finish(chunk(call("{}", id="a", name="f", extra_content=signature)), END_CALLS)
    origin = {"api": "chat", "base_url": "http://127.0.0.1:1/v1/", "model": "m"}
    wire = next(to_chat_messages(response.message, origin))
    assert wire["tool_calls"][0]["extra_content"] == signature


async def test_a_length_stop_keeps_the_text_and_the_partial_call() -> None:
    length_chunk = chunk({}, "length")
    response = await finish(
        chunk({"content": "so"}), chunk(call('{"x": "lon', index=0, id="a", name="f")), length_chunk, DONE
    )
    assert (response.message.text, response.message.calls[0].arguments, response.stop) == ("so", '{"x": "lon', "length")
    response = await finish(chunk({"content": "so"}), length_chunk, DONE)
    assert (response.message.text, response.stop, response.message.cut) == ("so", "length", "length")


async def test_filter_and_refusal_are_reported() -> None:
    assert (await finish(chunk({"content": "a"}), chunk({}, "content_filter"), DONE)).stop == "filter"
    assert (await finish(chunk({"refusal": "No."}), END_STOP)).stop == "refusal"


@pytest.mark.parametrize(
    ("pieces", "kind", "message"),
    [
        ((chunk({"content": "half"}),), "broken_stream", "broke off"),
        ((), "broken_stream", "broke off"),
        ((b"data: {broken\n\n",), "broken_stream", "broken data"),
        ((b'data: {"error": {"message": "the engine died"}}\n\n',), "server", "the engine died"),
        ((b'data: {"error": {"message": "maximum context length is 10"}}\n\n',), "context", "maximum context"),
    ],
)
async def test_a_broken_stream_is_one_clear_error(pieces: Sequence[bytes], kind: str, message: str) -> None:
    wire = RecordedTransport(*(stream(*pieces) for _ in range(9)))
    with pytest.raises(ModelError, match=message) as error_info:
        [event async for event in wire.chat_model().stream(REQUEST)]
    assert error_info.value.kind == kind


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (error_response(401), "auth"),
        (error_response(402), "quota"),
        (error_response(429, code="insufficient_quota"), "quota"),
        (error_response(400, "bad"), "bad_request"),
        (error_response(400, "prompt is too long: maximum context length is 8"), "context"),
        (error_response(404, "no such model"), "bad_request"),
        (error_response(429, **{"retry-after": "600"}), "rate"),
        (httpx2.Response(400, json=[{"error": {"message": "a list, as Gemini sends"}}]), "bad_request"),
    ],
)
async def test_permanent_errors_fail_at_once(response: httpx2.Response, kind: str) -> None:
    wire = RecordedTransport(response)
    with pytest.raises(ModelError) as error_info:
        [event async for event in wire.chat_model().stream(REQUEST)]
    assert (error_info.value.kind, len(wire.bodies)) == (kind, 1)
    assert str(response.status_code) in error_info.value.message


async def test_temporary_errors_are_reported_and_retried() -> None:
    responses = (
        error_response(429, "slow", **{"retry-after": "7"}),
        error_response(503),
        httpx2.ConnectError("refused"),
    )
    wire = RecordedTransport(*responses, stream(chunk({"content": "ok"}), END_STOP))
    events = [event async for event in wire.chat_model().stream(REQUEST)]
    waits = [event.seconds for event in events if isinstance(event, Retrying)]
    assert waits == [7.0, 1.0, 2.0]
    assert isinstance(events[-1], ResponseDone)


async def test_there_is_no_retry_after_text() -> None:
    wire = RecordedTransport(stream(chunk({"content": "half"}), b'data: {"error": {"message": "overloaded"}}\n\n'))
    with pytest.raises(ModelError):
        [event async for event in wire.chat_model().stream(REQUEST)]
    assert len(wire.bodies) == 1


async def test_retries_are_limited() -> None:
    wire = RecordedTransport(*(error_response(503) for _ in range(9)))
    with pytest.raises(ModelError):
        [event async for event in wire.chat_model().stream(REQUEST)]
    assert len(wire.bodies) == 5


@pytest.mark.parametrize(
    "words", ["Loading model", "Model org/name is currently loading", "The model is still loading, try again later"]
)
async def test_a_model_that_loads_is_waited_for(words: str) -> None:
    wire = RecordedTransport(
        *(error_response(503, words) for _ in range(40)), stream(chunk({"content": "ok"}), END_STOP)
    )
    events = [event async for event in wire.chat_model().stream(REQUEST)]
    assert [event.text for event in events if isinstance(event, Notice)] == [
        "the model's server is loading the model; waiting up to 600 s"
    ]
    assert isinstance(events[-1], ResponseDone)


async def test_a_model_that_loads_for_ever_is_an_error() -> None:
    wire = RecordedTransport(*(error_response(503, "Loading model") for _ in range(700)))
    with pytest.raises(ModelError, match="Loading model"):
        [event async for event in wire.chat_model().stream(REQUEST)]
    assert 590 < len(wire.bodies) <= 605


@pytest.mark.parametrize("words", ["Error loading model: file not found", "Failed loading the model: out of memory"])
async def test_a_model_that_cannot_be_loaded_is_not_waited_for(words: str) -> None:
    wire = RecordedTransport(*(error_response(503, words) for _ in range(9)))
    with pytest.raises(ModelError, match=words):
        [event async for event in wire.chat_model().stream(REQUEST)]
    assert len(wire.bodies) == 5


async def test_the_request_has_the_apis_format() -> None:
    history = (
        user_message("hi"),
        Message(role="assistant", parts=(ToolCall(id="c", name="box__echo", arguments='{"text": "x"}'),)),
        Message(
            role="tool",
            parts=(
                ToolResult(call_id="c", parts=(Text(text="see"), Image(media_type="image/png", data=b"\x89PNG"))),
                error_result("d", "it broke"),
            ),
        ),
    )
    wire = RecordedTransport(stream(chunk({"content": "ok"}), END_STOP))
    request = ModelRequest(
        model="m",
        system="Be brief.",
        messages=history,
        tools=(make_tool(),),
        tool_choice="none",
        options=ModelOptions(max_output_tokens=9, temperature=0.5, reasoning_effort="low", extra_body={"top_k": 3}),
        cache_key="t",
    )
    [event async for event in wire.chat_model().stream(request)]
    # Changing fields come last: the messages, which only grow, and the tool_choice of a last step.
    assert list(wire.bodies[0])[-3:] == ["tools", "messages", "tool_choice"]
    assert wire.bodies[0] == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 9,
        "temperature": 0.5,
        "reasoning_effort": "low",
        "top_k": 3,
        "tool_choice": "none",
        "tools": [
            {"type": "function", "function": {"name": "box__echo", "description": "", "parameters": make_tool().schema}}
        ],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hi"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "box__echo", "arguments": '{"text": "x"}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "c", "content": "see\n[image/png, 4 bytes]"},
            {"role": "tool", "tool_call_id": "d", "content": "Error: it broke"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "From tool call c:"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
                ],
            },
        ],
    }


async def test_openai_gets_max_completion_tokens() -> None:
    wire = RecordedTransport(stream(chunk({"content": "ok"}), END_STOP))
    request = ModelRequest(model="m", messages=(user_message("hi"),), options=ModelOptions(max_output_tokens=9))
    [event async for event in wire.chat_model("https://api.openai.com/v1").stream(request)]
    assert wire.bodies[0]["max_completion_tokens"] == 9
    assert "tools" not in wire.bodies[0]
