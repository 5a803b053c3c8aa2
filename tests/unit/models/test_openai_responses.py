"""The Responses API: stateless requests, and items that are sent back unchanged, only to their origin."""

import json
from typing import Any

import httpx2
import pytest

from mcpchat.core.messages import (
    File,
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
from mcpchat.core.protocols import ModelOptions, ModelRequest, ResponseDone, ToolCallStarted
from mcpchat.core.search_tools import CALL_TOOL, SEARCH_TOOLS
from mcpchat.errors import ModelError
from tests.support.fake_openai import call_item, event, message_item, reasoning_item, response
from tests.support.fakes import make_tool
from tests.support.recorded_streams import (
    LOCAL_URL,
    REQUEST,
    RecordedTransport,
    collect_events,
    error_response,
    final_event,
    stream,
)

OPENAI = "https://api.openai.com/v1"


async def bodies(*messages: Message, base_url: str = LOCAL_URL, **fields: Any) -> dict[str, Any]:
    wire = RecordedTransport(stream(*response(message_item("ok"))))
    await final_event(wire.responses_model(base_url), ModelRequest(model="m", messages=messages, **fields))
    return wire.bodies[0]


async def test_the_request_is_stateless_and_changes_come_last() -> None:
    wire = RecordedTransport(stream(*response(message_item("ok"))))
    options = ModelOptions(
        temperature=0.5, reasoning_effort="low", max_output_tokens=9, extra_body={"truncation": "auto"}
    )
    request = ModelRequest(
        model="m",
        system="Be brief.",
        messages=(user_message("hi"),),
        tools=(make_tool(),),
        tool_choice="none",
        options=options,
        cache_key="t",
    )
    await final_event(wire.responses_model(), request)
    assert wire.paths == ["/v1/responses"]
    assert list(wire.bodies[0].items()) == [
        ("model", "m"),
        ("stream", True),
        ("store", False),
        ("include", ["reasoning.encrypted_content"]),
        ("temperature", 0.5),
        ("reasoning", {"effort": "low"}),
        ("prompt_cache_key", "t"),
        ("max_output_tokens", 9),
        ("truncation", "auto"),
        (
            "tools",
            [
                {
                    "type": "function",
                    "name": "box__echo",
                    "description": "",
                    "parameters": make_tool().schema,
                    "strict": False,
                }
            ],
        ),
        ("instructions", "Be brief."),
        ("input", [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}]),
        ("tool_choice", "none"),
    ]


async def test_text_reasoning_and_calls_become_one_message_with_its_items() -> None:
    reasoning, text_item, call = reasoning_item(), message_item("Hello"), call_item("box__echo", '{"text": "x"}')
    usage = {
        "input_tokens": 20, "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 4},
        "output_tokens": 6, "output_tokens_details": {"reasoning_tokens": 2},
    }  # fmt: skip
    summary = event("response.reasoning_summary_text.delta", output_index=0, delta="Hm")
    first_event, *other_events = response(reasoning, text_item, call, usage=usage)
    events = await collect_events(
        RecordedTransport(stream(first_event, other_events[0], summary, *other_events[1:])).responses_model()
    )
    assert ToolCallStarted(name="box__echo") in events
    assert events[-1] == ResponseDone(
        message=Message(
            role="assistant",
            parts=(
                Reasoning(text="Hm"),
                Text(text="Hello"),
                ToolCall(id="call_1", name="box__echo", arguments='{"text": "x"}'),
            ),
            raw={
                "origin": {"api": "responses", "base_url": f"{LOCAL_URL}/", "model": "m"},
                "items": [reasoning, text_item, call],
            },
        ),
        usage=Usage(input=20, output=6, cached=8, reasoning=2, written=4),
        stop="end",
    )


async def answer_message(*items: dict[str, Any], base_url: str = LOCAL_URL, model: str = "m") -> Message:
    wire = RecordedTransport(stream(*response(*items)))
    return (
        await final_event(wire.responses_model(base_url), ModelRequest(model=model, messages=(user_message("hi"),)))
    ).message


async def test_every_item_is_sent_back_unchanged_before_its_result() -> None:
    items = [reasoning_item(), {**message_item("Let me see."), "phase": "commentary"}, call_item("box__echo", "{ }")]
    message = await answer_message(*items)
    result = Message(role="tool", parts=(ToolResult(call_id="call_1", parts=(Text(text="ok"),)),))
    body = await bodies(user_message("hi"), message, result)
    assert body["input"][1:-1] == items
    assert body["input"][-1] == {"type": "function_call_output", "call_id": "call_1", "output": "ok"}


async def test_items_are_sent_only_to_their_provider_api_and_family() -> None:
    message = await answer_message(reasoning_item(), message_item("Hello"), base_url=OPENAI, model="gpt-5.5")
    text_only = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]}]
    for base_url, model, same in [
        (OPENAI, "gpt-5.5", True),
        (OPENAI, "gpt-5.5-2026-10-01", True),
        (OPENAI, "gpt-5.5-mini", False),
        (LOCAL_URL, "gpt-5.5", False),
    ]:
        wire = RecordedTransport(stream(*response(message_item("ok"))))
        request = ModelRequest(model=model, messages=(user_message("hi"), message, user_message("more")))
        await final_event(wire.responses_model(base_url), request)
        assert (wire.bodies[0]["input"][1:-1] == [reasoning_item(), message_item("Hello")]) is same
        assert (wire.bodies[0]["input"][1:-1] == text_only) is not same
    wire = RecordedTransport(stream(b'data: {"choices": [{"delta": {"content": "ok"}, "finish_reason": "stop"}]}\n\n'))
    await final_event(
        wire.chat_model(OPENAI),
        ModelRequest(model="gpt-5.5", messages=(user_message("hi"), message, user_message("more"))),
    )
    assert wire.bodies[0]["messages"][1] == {"role": "assistant", "content": "Hello"}


async def test_changes_of_the_history_are_made_in_the_items() -> None:
    message = await answer_message(call_item("box__echo", '{"text": ', "c"), call_item("box__echo", "{}", "c"))
    fixed = Message(
        role="assistant",
        parts=tuple(ToolCall(id=call.id, name=call.name, arguments="{}") for call in message.calls),
        raw=message.raw,
    )
    body = await bodies(
        user_message("hi"), fixed, Message(role="tool", parts=tuple(error_result(c.id, "no") for c in fixed.calls))
    )
    sent_calls = [item for item in body["input"] if item["type"] == "function_call"]
    assert [item["arguments"] for item in sent_calls] == ["{}", "{}"]
    assert [item["call_id"] for item in sent_calls] == [call.id for call in message.calls]


async def test_images_and_files_are_sent_as_such() -> None:
    image, pdf = (
        Image(media_type="image/png", data=b"\x89PNG"),
        File(media_type="application/pdf", data=b"%PDF", name="a.pdf"),
    )
    call = Message(role="assistant", parts=(ToolCall(id="c", name="box__echo", arguments="{}"),))
    result = Message(role="tool", parts=(ToolResult(call_id="c", parts=(Text(text="see"), image, pdf)),))
    body = await bodies(Message(role="user", parts=(Text(text="hi"), image)), call, result)
    picture = {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,iVBORw=="}
    document = {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}
    assert body["input"][0]["content"] == [{"type": "input_text", "text": "hi"}, picture]
    assert body["input"][2]["output"] == [{"type": "input_text", "text": "see"}, picture, document]


async def test_of_a_cut_answer_only_the_text_is_sent() -> None:
    message = await answer_message(reasoning_item(), message_item("Hal"))
    cut_response = (await final_event(
        RecordedTransport(stream(*response(reasoning_item(), message_item("Hal"), status="incomplete"))).responses_model(), REQUEST
    )).message  # fmt: skip
    assert message.raw is not None
    assert (cut_response.raw, cut_response.text, cut_response.cut) == (None, "Hal", "length")
    json.dumps((await bodies(user_message("hi"), cut_response, user_message("go on")))["input"])


async def test_only_a_schema_of_the_subset_is_sent_to_the_api() -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    body = await bodies(user_message("hi"), schema=schema)
    assert body["text"] == {"format": {"type": "json_schema", "name": "answer", "strict": True, "schema": schema}}
    assert "text" not in await bodies(user_message("hi"), schema={"type": "integer"})


async def test_reasoning_without_a_result_is_not_sent_back() -> None:
    message = await answer_message(message_item("Hello"), reasoning_item(), {**call_item("f", "{}"), "name": ""})
    assert message.raw is not None
    assert message.raw["items"] == [message_item("Hello")]


SEARCH_CALL = {
    "type": "tool_search_call",
    "id": "tsc_1",
    "call_id": "call_s",
    "execution": "client",
    "status": "completed",
    "arguments": {"query": "send mail"},
}
FOUND = (
    '{"tools":[{"name":"mail__send","description":"Send.","input_schema":{"type":"object"}},'
    '{"name":"mail__big","description":"Big.","input_schema":"left out: too long"}]}\nFew tools match.'
)
SEARCHING: dict[str, Any] = {"tools": (CALL_TOOL, SEARCH_TOOLS, make_tool())}


@pytest.mark.parametrize(
    ("base_url", "model", "asked", "native"),
    [
        (OPENAI, "gpt-5.4", False, True),
        (OPENAI, "gpt-5.4-mini", False, True),
        (OPENAI, "gpt-5.5-2026-04-01", False, True),
        (OPENAI, "gpt-6", False, True),
        (OPENAI, "gpt-5.3", False, False),
        (OPENAI, "gpt-5", False, False),
        (OPENAI, "gpt-4o", False, False),
        (OPENAI, "gpt-35-turbo", False, False),
        (OPENAI, "o9", False, False),
        (LOCAL_URL, "gpt-5.5", False, False),
        (LOCAL_URL, "any", True, True),
    ],
)
async def test_the_tool_search_of_the_api_is_used_where_it_is_known(
    base_url: str, model: str, asked: bool, native: bool
) -> None:
    wire = RecordedTransport(stream(*response(message_item("ok"))))
    request = ModelRequest(model=model, messages=(user_message("hi"),), native_search=asked, **SEARCHING)
    await final_event(wire.responses_model(base_url), request)
    kinds = [tool.get("name", tool["type"]) for tool in wire.bodies[0]["tools"]]
    assert kinds == (
        ["box__echo", "tool_search"] if native else ["mcpchat__call_tool", "mcpchat__search_tools", "box__echo"]
    )


async def test_without_many_tools_there_is_no_tool_search() -> None:
    body = await bodies(user_message("hi"), base_url=OPENAI, tools=(make_tool(),), native_search=True)
    assert [tool["type"] for tool in body["tools"]] == ["function"]


async def test_a_native_search_is_a_call_and_its_tools_are_sent_back() -> None:
    message = await answer_message(reasoning_item(), SEARCH_CALL)
    assert message.calls == (ToolCall(id="call_s", name=SEARCH_TOOLS.model_name, arguments='{"query": "send mail"}'),)
    result = Message(role="tool", parts=(ToolResult(call_id="call_s", parts=(Text(text=FOUND),)),))
    body = await bodies(user_message("hi"), message, result, native_search=True, **SEARCHING)
    assert body["input"][1:3] == [reasoning_item(), SEARCH_CALL]
    tool = {"type": "function", "name": "mail__send", "description": "Send.", "parameters": {"type": "object"}}
    assert body["input"][3] == {
        "type": "tool_search_output",
        "call_id": "call_s",
        "execution": "client",
        "status": "completed",
        "tools": [{**tool, "strict": False}, {**tool, "name": "mail__big", "description": "Big.", "strict": False}],
    }
    assert len(body["input"]) == 4


async def test_a_native_search_is_an_ordinary_call_for_a_request_without_it() -> None:
    message = await answer_message(SEARCH_CALL)
    result = Message(role="tool", parts=(ToolResult(call_id="call_s", parts=(Text(text="[shortened]"),)),))
    body = await bodies(user_message("hi"), message, result, **SEARCHING)
    call = {"call_id": "call_s", "name": SEARCH_TOOLS.model_name, "arguments": '{"query": "send mail"}'}
    assert body["input"][1:] == [
        {"type": "function_call", **call},
        {"type": "function_call_output", "call_id": "call_s", "output": "[shortened]"},
    ]
    again = await bodies(user_message("hi"), message, result, native_search=True, **SEARCHING)
    assert again["input"][-2]["tools"] == []
    assert again["input"][-1]["content"] == [{"type": "input_text", "text": "[tool search] [shortened]"}]


async def test_a_server_without_tool_search_gets_the_two_tools() -> None:
    refusal = error_response(400, "Invalid value: 'tool_search'. Supported values are: 'function'.")
    wire = RecordedTransport(refusal, stream(*response(message_item("ok"))))
    request = ModelRequest(model="m", messages=(user_message("hi"),), native_search=True, **SEARCHING)
    model = wire.responses_model()
    assert [type(event).__name__ for event in await collect_events(model, request)][-1] == "ResponseDone"
    assert [len(body["tools"]) for body in wire.bodies] == [2, 3]
    assert SEARCH_TOOLS.model_name in [tool.get("name") for tool in wire.bodies[1]["tools"]]


async def test_what_the_provider_searched_itself_is_no_call() -> None:
    found = {"type": "tool_search_output", "execution": "server", "call_id": None, "tools": [], "id": "tso_1"}
    items = [{**SEARCH_CALL, "execution": "server"}, found, call_item("box__echo", "{}")]
    message = await answer_message(*items)
    assert [call.name for call in message.calls] == ["box__echo"]
    body = await bodies(user_message("hi"), message, native_search=True, **SEARCHING)
    assert body["input"][1:] == items


@pytest.mark.parametrize(
    "data",
    [
        "[]",
        '[{"embedding": [1.0]}, {"embedding": [1.0]}]',
        '[{"embedding": []}]',
        '[{"embedding": ["1"]}]',
        '[{"embedding": [NaN]}]',
        '[{"embedding": [Infinity]}]',
        f'[{{"embedding": [{10**400}]}}]',
        '[{"index": 0}]',
        "{}",
    ],
)
async def test_an_answer_that_is_no_vector_is_an_error(data: str) -> None:
    response = httpx2.Response(200, content=f'{{"data": {data}}}', headers={"Content-Type": "application/json"})
    with pytest.raises(ModelError, match="one vector per text"):
        await RecordedTransport(response).responses_model().embed("m", ["a"])


async def test_vectors_come_in_the_order_of_their_texts() -> None:
    data = [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1.5]}]
    wire = RecordedTransport(httpx2.Response(200, json={"data": data}))
    assert await wire.responses_model().embed("m", ["a", "b"]) == [[1.5], [2]]
    assert wire.bodies == [{"model": "m", "input": ["a", "b"], "encoding_format": "float"}]
