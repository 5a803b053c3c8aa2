"""What servers refuse is found out from their own words, once, and kept for the run."""

from collections.abc import Sequence
from typing import Any

import httpx2
import pytest

from mcpchat.core.errors import ModelError
from mcpchat.core.events import Notice
from mcpchat.core.messages import File, Image, Message, Text, ToolCall, ToolResult, user
from mcpchat.core.ports import ModelRequest, Options
from tests.double import DONE, chunk, message_item, response
from tests.fakes import tool
from tests.wires import Wire, done_of, events_of, refused, stream

OK = (chunk({"content": "ok"}, "stop"), DONE)
PICTURE = Message(role="user", parts=(Text(text="see"), Image(media_type="image/png", data=b"\x89")))
PDF = Message(role="user", parts=(Text(text="see"), File(media_type="application/pdf", data=b"%PDF", name="a.pdf")))
CALL = Message(role="assistant", parts=(ToolCall(id="call_abcdefghij", name="box__echo", arguments="{}"),))
RESULT = Message(role="tool", parts=(ToolResult(call_id="call_abcdefghij", parts=(Text(text="ok"),)),))
FULL = ModelRequest(
    model="m",
    system="Be brief.",
    messages=(user("hi"), CALL, RESULT, PICTURE, user("and?")),
    tools=(tool(),),
    options=Options(temperature=0.5, reasoning_effort="low", max_output_tokens=9),
    schema={"type": "object", "properties": {}, "additionalProperties": False},
    cache_key="t",
)


def roles(body: dict[str, Any]) -> list[str]:
    return [message["role"] for message in body["messages"]]


REFUSALS: dict[str, tuple[httpx2.Response, Any, str]] = {
    "max_tokens at a reasoning model": (
        refused(400, "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."),
        lambda body: "max_tokens" not in body and body["max_completion_tokens"] == 9, "",
    ),
    "images, llama-server": (
        refused(500, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"),
        lambda body: "image_url" not in str(body) and "cannot be given" in str(body), "m takes no images",
    ),
    "images, a server of plain texts": (
        refused(400, "'messages.3.content' must be a string"),
        lambda body: all(isinstance(message["content"], str) for message in body["messages"]), "m takes text alone",
    ),
    "the role system": (
        refused(400, "Unsupported value: 'messages[0].role' does not support 'system' with this model."),
        lambda body: roles(body)[0] == "user" and body["messages"][0]["content"] == "Be brief.\n\nhi", "",
    ),
    "the role system, with a better one": (
        refused(400, "The role 'system' is not supported; use 'developer' messages"), lambda body: roles(body)[0] == "developer", "",
    ),
    "gemma's instructions": (
        refused(400, "Developer instruction is not enabled for models/gemma-3-27b-it (system role not supported)"),
        lambda body: roles(body)[0] == "user", "",
    ),
    "temperature": (
        refused(400, "Unsupported parameter: 'temperature' is not supported with this model."),
        lambda body: "temperature" not in body, "asked without temperature",
    ),
    "reasoning effort": (
        refused(422, "body.reasoning_effort: Extra inputs are not permitted"),
        lambda body: "reasoning_effort" not in body, "asked without reasoning_effort",
    ),
    "stream_options, as pydantic says it": (
        httpx2.Response(422, json={"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]}),
        lambda body: "stream_options" not in body, "",
    ),
    "a schema for the answer": (
        refused(400, "This response_format type is unavailable: json_schema is not supported now"),
        lambda body: "response_format" not in body, "",
    ),
    "mistral's ids": (
        refused(400, "Tool call id was call_abcdefghij but must be a-z, A-Z, 0-9, with a length of 9."),
        lambda body: len(body["messages"][2]["tool_calls"][0]["id"]) == 9
        and body["messages"][3]["tool_call_id"] == body["messages"][2]["tool_calls"][0]["id"], "",
    ),
    "mistral's order": (
        refused(400, "Unexpected role 'user' after role 'tool'"),
        lambda body: roles(body) == ["system", "user", "assistant", "tool", "assistant", "user", "user"], "",
    ),
    "strict templates": (
        refused(500, "Conversation roles must alternate user/assistant/user/assistant/..."),
        lambda body: roles(body) == ["system", "user", "assistant", "tool", "assistant", "user"], "",
    ),
    "tools, ollama": (
        refused(400, "registry.ollama.ai/library/gemma:2b does not support tools"),
        lambda body: "tools" not in body, "m takes no tools",
    ),
    "tools, vllm": (
        refused(400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
        lambda body: "tools" not in body, "m takes no tools",
    ),
    "deepseek wants reasoning on every message": (
        refused(400, "The `reasoning_content` in the thinking mode must be passed back to the API."),
        lambda body: body["messages"][2].get("reasoning_content") == "", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_teaches_once_and_is_remembered(name: str) -> None:
    response, mended, told = REFUSALS[name]
    wire = Wire(response, stream(*OK), stream(*OK))
    model = wire.chat()
    notices = [event.text for event in await events_of(model, FULL) if isinstance(event, Notice)]
    assert mended(wire.bodies[1])
    assert not mended(wire.bodies[0])
    assert [told in notice for notice in notices] == ([True] if told else [])
    assert [event for event in await events_of(model, FULL) if isinstance(event, Notice)] == []
    assert wire.bodies[2] == wire.bodies[1]
    assert wire.pauses == []


async def test_lessons_add_up() -> None:
    said = ["max_tokens is not supported", "temperature is not supported", "image input is not supported"]
    wire = Wire(*(refused(400, one) for one in said), stream(*OK))
    await events_of(wire.chat(), FULL)
    body = wire.bodies[-1]
    assert body["max_completion_tokens"] == 9
    assert "temperature" not in body
    assert "image_url" not in str(body)


async def test_a_name_for_the_limit_that_is_refused_too_is_given_up_with_a_word() -> None:
    wire = Wire(
        refused(400, "unknown field max_tokens"), refused(400, "unknown field max_completion_tokens"), stream(*OK)
    )
    notices = [event.text for event in await events_of(wire.chat(), FULL) if isinstance(event, Notice)]
    assert {"max_tokens", "max_completion_tokens"}.isdisjoint(wire.bodies[-1])
    assert "asked without max_completion_tokens" in notices[0]


async def test_files_that_are_refused_are_named_instead() -> None:
    wire = Wire(refused(400, "Unknown part type: file"), stream(*OK))
    events = await events_of(wire.chat(), ModelRequest(model="m", messages=(PDF,)))
    assert "a.pdf: application/pdf, 4 bytes" in str(wire.bodies[1]["messages"])
    assert isinstance(events[0], Notice)


async def test_a_refusal_that_teaches_nothing_fails_at_once() -> None:
    wire = Wire(refused(400, "this request is bad"))
    with pytest.raises(ModelError, match="this request is bad"):
        await events_of(wire.chat(), FULL)
    assert len(wire.bodies) == 1


async def test_the_same_refusal_again_is_no_endless_loop() -> None:
    wire = Wire(*[refused(400, "temperature is not supported")] * 20)
    with pytest.raises(ModelError):
        await events_of(wire.chat(), FULL)
    assert len(wire.bodies) == 2


async def test_what_one_model_refuses_another_of_the_same_server_still_gets() -> None:
    wire = Wire(refused(400, "temperature is not supported"), stream(*OK), stream(*OK))
    model = wire.chat()
    await events_of(model, FULL)
    await events_of(model, ModelRequest(model="other", messages=(user("hi"),), options=FULL.options))
    assert ["temperature" in body for body in wire.bodies] == [True, False, True]


REASONED: Sequence[dict[str, Any]] = (
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
    message_item("ok"),
)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("The encrypted content gAAA could not be verified.", "invalid_encrypted_content"),
        ("Item 'rs_1' not found. Items are not persisted when `store` is set to false.", None),
    ],
)
async def test_reasoning_that_cannot_be_read_any_more_is_left_out(said: str, code: str | None) -> None:
    wire = Wire(stream(*response(*REASONED)), refused(400, said, code), stream(*response(message_item("ok"))))
    model = wire.responses_model()
    first = await done_of(model, ModelRequest(model="m", messages=(user("hi"),)))
    await done_of(model, ModelRequest(model="m", messages=(user("hi"), first.message, user("more"))))
    assert [item["type"] for item in wire.bodies[1]["input"]] == ["message", "reasoning", "message", "message"]
    assert [item["type"] for item in wire.bodies[2]["input"]] == ["message", "message", "message"]


async def test_a_server_that_knows_no_encrypted_reasoning_is_asked_without() -> None:
    wire = Wire(
        refused(400, "Unsupported value: include 'reasoning.encrypted_content'"), stream(*response(message_item("ok")))
    )
    await done_of(wire.responses_model(), ModelRequest(model="m", messages=(user("hi"),)))
    assert "include" not in wire.bodies[1]


async def test_openai_gets_its_names_from_the_start_and_others_no_cache_key() -> None:
    wire = Wire(stream(*OK), stream(*OK))
    await done_of(wire.chat("https://api.openai.com/v1"), FULL)
    await done_of(wire.chat(), FULL)
    assert [("max_completion_tokens" in body, body.get("prompt_cache_key")) for body in wire.bodies] == [
        (True, "t"),
        (False, None),
    ]
