"""Tests of compatibility: a server's refusal is detected from its error text, once, and remembered for the run."""

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx2
import pytest

from mcpchat.core.events import Notice
from mcpchat.core.messages import File, Image, Message, Text, ToolCall, ToolResult, user_message
from mcpchat.core.protocols import ModelOptions, ModelRequest
from mcpchat.errors import ModelError
from mcpchat.models.openai.chat_completions import ChatCompletions
from mcpchat.models.openai.client import OpenAIClient
from mcpchat.models.openai.model import OpenAIModel
from tests.support.fake_openai import DONE, chunk, message_item, response
from tests.support.fakes import make_tool
from tests.support.recorded_streams import RecordedTransport, collect_events, error_response, final_event, stream

OK = (chunk({"content": "ok"}, "stop"), DONE)
PICTURE = Message(role="user", parts=(Text(text="see"), Image(media_type="image/png", data=b"\x89PNG")))
PDF = Message(role="user", parts=(Text(text="see"), File(media_type="application/pdf", data=b"%PDF", name="a.pdf")))
CALL = Message(role="assistant", parts=(ToolCall(id="call_abcdefghij", name="box__echo", arguments="{}"),))
RESULT = Message(role="tool", parts=(ToolResult(call_id="call_abcdefghij", parts=(Text(text="ok"),)),))
FULL = ModelRequest(
    model="m",
    system="Be brief.",
    messages=(user_message("hi"), CALL, RESULT, PICTURE, user_message("and?")),
    tools=(make_tool(),),
    options=ModelOptions(temperature=0.5, reasoning_effort="low", max_output_tokens=9),
    schema={"type": "object", "properties": {}, "additionalProperties": False},
    cache_key="t",
)


def roles(body: dict[str, Any]) -> list[str]:
    return [message["role"] for message in body["messages"]]


REFUSALS: dict[str, tuple[httpx2.Response, Any, str]] = {
    "max_tokens at a reasoning model": (
        error_response(400, "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."),
        lambda body: "max_tokens" not in body and body["max_completion_tokens"] == 9, "",
    ),
    "images, llama-server": (
        error_response(500, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"),
        lambda body: "image_url" not in str(body) and "does not accept" in str(body), "m takes no images",
    ),
    "images, a server of plain texts": (
        error_response(400, "'messages.3.content' must be a string"),
        lambda body: all(isinstance(message["content"], str) for message in body["messages"]), "m takes text only",
    ),
    "the role system": (
        error_response(400, "Unsupported value: 'messages[0].role' does not support 'system' with this model."),
        lambda body: roles(body)[0] == "user" and body["messages"][0]["content"] == "Be brief.\n\nhi", "",
    ),
    "the role system, with a better one": (
        error_response(400, "The role 'system' is not supported; use 'developer' messages"), lambda body: roles(body)[0] == "developer", "",
    ),
    "gemma's instructions": (
        error_response(400, "Developer instruction is not enabled for models/gemma-3-27b-it (system role not supported)"),
        lambda body: roles(body)[0] == "user", "",
    ),
    "temperature": (
        error_response(400, "Unsupported parameter: 'temperature' is not supported with this model."),
        lambda body: "temperature" not in body, "asked without temperature",
    ),
    "reasoning effort": (
        error_response(422, "body.reasoning_effort: Extra inputs are not permitted"),
        lambda body: "reasoning_effort" not in body, "asked without reasoning_effort",
    ),
    "stream_options, as pydantic says it": (
        httpx2.Response(422, json={"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]}),
        lambda body: "stream_options" not in body, "",
    ),
    "a schema for the answer": (
        error_response(400, "This response_format type is unavailable: json_schema is not supported now"),
        lambda body: "response_format" not in body, "",
    ),
    "mistral's ids": (
        error_response(400, "Tool call id was call_abcdefghij but must be a-z, A-Z, 0-9, with a length of 9."),
        lambda body: len(body["messages"][2]["tool_calls"][0]["id"]) == 9
        and body["messages"][3]["tool_call_id"] == body["messages"][2]["tool_calls"][0]["id"], "",
    ),
    "mistral's order": (
        error_response(400, "Unexpected role 'user' after role 'tool'"),
        lambda body: roles(body) == ["system", "user", "assistant", "tool", "assistant", "user", "user"], "",
    ),
    "strict templates": (
        error_response(500, "Conversation roles must alternate user/assistant/user/assistant/..."),
        lambda body: roles(body) == ["system", "user", "assistant", "tool", "assistant", "user"], "",
    ),
    "tools, ollama": (
        error_response(400, "registry.ollama.ai/library/gemma:2b does not support tools"),
        lambda body: "tools" not in body, "m takes no tools",
    ),
    "tools, vllm": (
        error_response(400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
        lambda body: "tools" not in body, "m takes no tools",
    ),
    "deepseek wants reasoning on every message": (
        error_response(400, "The `reasoning_content` in the thinking mode must be passed back to the API."),
        lambda body: body["messages"][2].get("reasoning_content") == "", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_adapts_and_is_remembered(name: str) -> None:
    response, is_fixed, notice_text = REFUSALS[name]
    wire = RecordedTransport(response, stream(*OK), stream(*OK))
    model = wire.chat_model()
    notices = [event.text for event in await collect_events(model, FULL) if isinstance(event, Notice)]
    assert is_fixed(wire.bodies[1])
    assert not is_fixed(wire.bodies[0])
    assert [notice_text in notice for notice in notices] == ([True] if notice_text else [])
    assert [event for event in await collect_events(model, FULL) if isinstance(event, Notice)] == []
    assert wire.bodies[2] == wire.bodies[1]
    assert wire.delays == []


async def test_fixes_add_up() -> None:
    errors = ["max_tokens is not supported", "temperature is not supported", "image input is not supported"]
    wire = RecordedTransport(*(error_response(400, error) for error in errors), stream(*OK))
    await collect_events(wire.chat_model(), FULL)
    body = wire.bodies[-1]
    assert body["max_completion_tokens"] == 9
    assert "temperature" not in body
    assert "image_url" not in str(body)


async def test_a_limit_refused_under_both_names_is_dropped_with_a_notice() -> None:
    wire = RecordedTransport(
        error_response(400, "unknown field max_tokens"),
        error_response(400, "unknown field max_completion_tokens"),
        stream(*OK),
    )
    notices = [event.text for event in await collect_events(wire.chat_model(), FULL) if isinstance(event, Notice)]
    assert {"max_tokens", "max_completion_tokens"}.isdisjoint(wire.bodies[-1])
    assert "asked without max_completion_tokens" in notices[0]


async def test_refused_files_are_named_instead() -> None:
    wire = RecordedTransport(error_response(400, "Unknown part type: file"), stream(*OK))
    events = await collect_events(wire.chat_model(), ModelRequest(model="m", messages=(PDF,)))
    assert "a.pdf: application/pdf, 4 bytes" in str(wire.bodies[1]["messages"])
    assert isinstance(events[0], Notice)


async def test_an_unknown_refusal_fails_at_once() -> None:
    wire = RecordedTransport(error_response(400, "this request is bad"))
    with pytest.raises(ModelError, match="this request is bad"):
        await collect_events(wire.chat_model(), FULL)
    assert len(wire.bodies) == 1


async def test_a_repeated_refusal_does_not_loop() -> None:
    wire = RecordedTransport(*[error_response(400, "temperature is not supported")] * 20)
    with pytest.raises(ModelError):
        await collect_events(wire.chat_model(), FULL)
    assert len(wire.bodies) == 2


async def test_a_refusal_applies_to_one_model_of_a_server() -> None:
    wire = RecordedTransport(error_response(400, "temperature is not supported"), stream(*OK), stream(*OK))
    model = wire.chat_model()
    await collect_events(model, FULL)
    await collect_events(model, ModelRequest(model="other", messages=(user_message("hi"),), options=FULL.options))
    assert ["temperature" in body for body in wire.bodies] == [True, False, True]


REASONED: Sequence[dict[str, Any]] = (
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
    message_item("ok"),
)


@pytest.mark.parametrize(
    ("error_text", "code"),
    [
        ("The encrypted content gAAA could not be verified.", "invalid_encrypted_content"),
        ("Item 'rs_1' not found. Items are not persisted when `store` is set to false.", None),
    ],
)
async def test_reasoning_that_the_server_rejects_is_dropped(error_text: str, code: str | None) -> None:
    wire = RecordedTransport(
        stream(*response(*REASONED)), error_response(400, error_text, code), stream(*response(message_item("ok")))
    )
    model = wire.responses_model()
    first = await final_event(model, ModelRequest(model="m", messages=(user_message("hi"),)))
    await final_event(
        model, ModelRequest(model="m", messages=(user_message("hi"), first.message, user_message("more")))
    )
    assert [item["type"] for item in wire.bodies[1]["input"]] == ["message", "reasoning", "message", "message"]
    assert [item["type"] for item in wire.bodies[2]["input"]] == ["message", "message", "message"]


async def test_encrypted_reasoning_is_dropped_if_refused() -> None:
    wire = RecordedTransport(
        error_response(400, "Unsupported value: include 'reasoning.encrypted_content'"),
        stream(*response(message_item("ok"))),
    )
    await final_event(wire.responses_model(), ModelRequest(model="m", messages=(user_message("hi"),)))
    assert "include" not in wire.bodies[1]


async def test_openai_gets_its_names_at_once_and_others_no_cache_key() -> None:
    wire = RecordedTransport(stream(*OK), stream(*OK))
    await final_event(wire.chat_model("https://api.openai.com/v1"), FULL)
    await final_event(wire.chat_model(), FULL)
    assert [("max_completion_tokens" in body, body.get("prompt_cache_key")) for body in wire.bodies] == [
        (True, "t"),
        (False, None),
    ]


FULLER = ModelRequest(
    model="m",
    system="Be brief.",
    messages=(user_message("hi"), CALL, RESULT, PICTURE, PDF),
    tools=(make_tool(),),
    options=FULL.options,
)


@pytest.mark.parametrize(
    "response",
    [
        error_response(400, "max_tokens is too large: 100000. This model supports at most 16384 completion tokens"),
        error_response(400, "Invalid 'temperature': decimal above maximum value. Expected a value <= 1, but got 1.5"),
        error_response(400, "No tool output found for function call call_abc."),
        error_response(400, "Please include a valid project id"),
        error_response(404, "The model `m` does not exist. See our documentation."),
        error_response(404, "The provisioned throughput deployment is not available"),
        error_response(400, "Invalid value at messages, see part 3 of the guide"),
        httpx2.Response(
            400, json={"error": {"message": "bad value", "type": "invalid_request_error", "param": "messages"}}
        ),
    ],
)
async def test_an_unrelated_refusal_changes_nothing(response: httpx2.Response) -> None:
    wire = RecordedTransport(response)
    with pytest.raises(ModelError):
        await collect_events(wire.chat_model(), FULLER)
    assert len(wire.bodies) == 1


@pytest.mark.parametrize(
    "error_text",
    [
        "Try an alternative model.",
        "The system is not available right now, please retry",
        "upstream system error: invalid response",
        "cannot load model revision",
        "no such file or directory",
    ],
)
async def test_a_transient_failure_adapts_nothing(error_text: str) -> None:
    wire = RecordedTransport(error_response(500, error_text), stream(*OK))
    assert [event for event in await collect_events(wire.chat_model(), FULLER) if isinstance(event, Notice)] == []
    assert wire.bodies[0] == wire.bodies[1]
    assert len(wire.delays) == 1


async def test_store_false_is_never_dropped() -> None:
    error_text = "Item with id 'rs_1' not found. Items are not persisted when `store` is set to false."
    refusal = httpx2.Response(
        404, json={"error": {"message": error_text, "type": "invalid_request_error", "param": "input", "code": None}}
    )
    wire = RecordedTransport(stream(*response(*REASONED)), refusal, stream(*response(message_item("ok"))))
    model = wire.responses_model()
    first = await final_event(model, ModelRequest(model="m", messages=(user_message("hi"),)))
    await final_event(
        model, ModelRequest(model="m", messages=(user_message("hi"), first.message, user_message("more")))
    )
    assert [body["store"] for body in wire.bodies] == [False] * 3
    assert "reasoning" not in [item["type"] for item in wire.bodies[2]["input"]]


async def test_a_server_that_refuses_its_own_reasoning_field_does_not_get_it() -> None:
    error_text = "'messages.1' : for 'role:assistant' the following must be satisfied[('messages.1' : property 'reasoning' is unsupported)]"
    wire = RecordedTransport(stream(chunk({"reasoning": "Hm"}), *OK), error_response(400, error_text), stream(*OK))
    model = wire.chat_model()
    first = await final_event(model, ModelRequest(model="m", messages=(user_message("hi"),)))
    await final_event(
        model, ModelRequest(model="m", messages=(user_message("hi"), first.message, user_message("more")))
    )
    assert ["reasoning" in body["messages"][1] for body in wire.bodies[1:]] == [True, False]


async def test_calls_of_other_models_are_signed_for_gemini() -> None:
    error_text = "Function call is missing a thought_signature in functionCall parts. This is required for tools to work correctly"
    wire = RecordedTransport(error_response(400, error_text), stream(*OK))
    await collect_events(wire.chat_model(), FULL)
    assert "thought_signature" in wire.bodies[1]["messages"][2]["tool_calls"][0]["extra_content"]["google"]
    assert "tools" in wire.bodies[1]


async def test_concurrent_requests_adapt_separately() -> None:
    """Two concurrent requests through one adapter: the refusal of the image changes only its request."""
    refusal = error_response(400, "image input is not supported")
    wire = RecordedTransport(refusal, stream(*OK), stream(*OK))
    model = wire.chat_model()
    event_lists = await asyncio.gather(
        collect_events(model, ModelRequest(model="m", messages=(PICTURE,))),
        collect_events(model, ModelRequest(model="m", messages=(user_message("hi"),))),
    )
    assert all(events for events in event_lists)


async def test_openai_environment_settings_go_only_to_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Corp-Token: secret")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
    seen: list[httpx2.Headers] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.headers)
        return stream(*OK)

    for base_url in ("http://127.0.0.1:1/v1", "https://api.openai.com/v1"):
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
        client = OpenAIClient(base_url=base_url, api_key="k", http_client=http)
        await collect_events(OpenAIModel(lambda client=client: client, ChatCompletions()))
    assert ["x-corp-token" in headers for headers in seen] == [False, True]
    assert ["openai-organization" in headers for headers in seen] == [False, True]


@pytest.mark.parametrize(
    ("error_text", "message", "placeholder"),
    [
        ("unsupported content[].type", PDF, "a.pdf: application/pdf"),
        ("unsupported content[].type", PICTURE, "image/png"),
        ("this model is missing data required for image input", PICTURE, "image/png"),
        ("No endpoints found that support image input", PICTURE, "image/png"),
    ],
)
async def test_refusals_of_images_and_files_are_detected(error_text: str, message: Message, placeholder: str) -> None:
    wire = RecordedTransport(error_response(404 if "endpoints" in error_text else 400, error_text), stream(*OK))
    events = await collect_events(wire.chat_model(), ModelRequest(model="m", messages=(message,)))
    assert isinstance(events[0], Notice)
    assert f"[{placeholder}" in str(wire.bodies[1]["messages"])


async def test_a_key_in_a_server_error_is_hidden() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return error_response(
            401, f"Incorrect API key provided: {request.headers['authorization'].removeprefix('Bearer ')}"
        )

    http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    client = OpenAIClient(
        base_url="http://127.0.0.1:1/v1", api_key="sk-very-secret", config_table="[model.two]", http_client=http
    )
    with pytest.raises(ModelError) as raised:
        await collect_events(OpenAIModel(lambda client=client: client, ChatCompletions()))
    assert "sk-very-secret" not in f"{raised.value} {raised.value.message} {raised.value.server_text}"
    assert raised.value.hint == "check the key: api_key under [model.two] in the config"
