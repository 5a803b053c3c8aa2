"""Refusals of tools: their number, their descriptions, and keywords of their schemas that a server does not know."""

import json
from typing import Any

import httpx2
import pytest

from mcpchat.core.events import Notice
from mcpchat.core.messages import user_message
from mcpchat.core.protocols import ModelRequest
from mcpchat.core.tool_schema import to_tool_schema
from mcpchat.core.tools import ToolSpec
from mcpchat.errors import ModelError
from mcpchat.models.openai.errors import error_from_body, error_from_status
from tests.support.fake_openai import DONE, chunk, message_item, response
from tests.support.recorded_streams import RecordedTransport, collect_events, error_response, stream

CHAT = stream(chunk({"content": "ok"}, "stop"), DONE)
SCHEMA = {
    "type": "object",
    "properties": {
        "email": {"type": "string", "pattern": "^[a-z]+@", "format": "email", "minLength": 3},
        "pattern": {"type": "array", "items": {"type": "string", "default": "x"}, "uniqueItems": True},
    },
    "required": ["email"],
    "additionalProperties": False,
}


def tool(server: str, name: str, description: str = "") -> ToolSpec:
    return ToolSpec(server=server, name=name, description=description, schema=SCHEMA)


def request(*tools: ToolSpec) -> ModelRequest:
    return ModelRequest(model="m", messages=(user_message("hi"),), tools=tools)


def definitions(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [item.get("function", item) for item in body["tools"]]


@pytest.mark.parametrize(
    ("text", "gone", "stays"),
    [
        (
            "Invalid JSON schema: regex lookaround is not supported. Found at $.properties.email.pattern.",
            ["pattern"], ["format", "uniqueItems"],
        ),
        ("Invalid schema for function 'a__b': In context=('properties', 'email'), 'format' is not permitted.", ["format"], ["pattern"]),
        ("tools.0.custom.input_schema: JSON schema is invalid: unknown keyword uniqueItems", ["uniqueItems"], ["pattern", "format"]),
        (
            "* GenerateContentRequest.tools[0].function_declarations[0].parameters.properties[email].format: only 'enum' and "
            "'date-time' are supported for STRING type", ["format"], ["pattern"],
        ),
        ("Unsupported schema: additionalProperties", ["additionalProperties"], ["pattern", "format"]),
        ("Invalid schema for function 'a__b': 'default' is not supported", ["default"], ["format"]),
        ("Invalid schema for function 'a__b': something about it", ["pattern", "format", "minLength", "additionalProperties"], ["type"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_a_refused_part_of_a_schema_is_left_out(text: str, gone: list[str], stays: list[str], api: str) -> None:
    answer = CHAT if api == "chat" else stream(*response(message_item("ok")))
    wire = RecordedTransport(error_response(400, text), answer, answer)
    model = wire.chat_model() if api == "chat" else wire.responses_model()
    asked = request(tool("a", "b"))
    events = await collect_events(model, asked)
    await collect_events(model, asked)  # it is remembered
    assert len(wire.bodies) == 3
    (notice,) = (event for event in events if isinstance(event, Notice))
    assert "arguments are checked against the whole schema as before" in notice.text
    for body in wire.bodies[1:]:
        schema = definitions(body)[0]["parameters"]
        assert set(schema["properties"]) == {"email", "pattern"}  # the property of this name
        assert schema["required"] == ["email"]
        keywords = {
            *schema,
            *schema["properties"]["email"],
            *schema["properties"]["pattern"],
            *schema["properties"]["pattern"]["items"],
        }
        assert keywords.isdisjoint(gone)
        assert keywords.issuperset(stays)
    assert asked.tools[0].schema == SCHEMA  # by which the call is judged


async def test_several_refusals_are_learnt_one_after_the_other() -> None:
    texts = [
        f"Invalid schema for function 'a__b': '{keyword}' is not permitted"
        for keyword in ("format", "pattern", "minLength")
    ]
    wire = RecordedTransport(*(error_response(400, text) for text in texts), CHAT)
    await collect_events(wire.chat_model(), request(tool("a", "b")))
    assert definitions(wire.bodies[-1])[0]["parameters"]["properties"]["email"] == {"type": "string"}


async def test_a_refused_answer_schema_does_not_change_the_tools() -> None:
    text = "Invalid schema for response_format 'answer': 'format' is not permitted"
    wire = RecordedTransport(error_response(400, text))
    with pytest.raises(ModelError):
        await collect_events(wire.chat_model(), request(tool("a", "b")))
    assert len(wire.bodies) == 1


@pytest.mark.parametrize(
    "text",
    [
        "Invalid 'tools': array too long. Expected an array with maximum length 3, but got an array with length 6 instead.",
        "Too many tools: at most 3 tools are allowed",
        "tools: the maximum number of functions is 3",
        "The number of tools exceeds the limit of 3",
    ],
)
async def test_fewer_tools_are_sent_if_the_server_states_a_maximum(text: str) -> None:
    tools = [tool("big", name) for name in "abcde"] + [tool("small", "x")]
    wire = RecordedTransport(error_response(400, text), CHAT)
    model = wire.chat_model()
    assert model.max_tools("m") is None
    with pytest.raises(ModelError) as raised:
        await collect_events(model, request(*tools))
    assert (raised.value.kind, model.max_tools("m")) == ("tool_limit", 3)
    assert raised.value.message == "m takes at most 3 tools"
    await collect_events(model, request(*tools))  # the same tools again: the caller does not choose
    assert [item["name"] for item in definitions(wire.bodies[1])] == ["big__a", "big__b", "small__x"]


async def test_descriptions_are_cut_if_the_server_states_a_maximum() -> None:
    text = "string too long. Expected a string with maximum length 1024, but got a string with length 2720 instead."
    refusal = httpx2.Response(
        400,
        json={
            "error": {
                "message": f"Invalid 'tools[0].function.description': {text}",
                "param": "tools[0].function.description",
            }
        },
    )
    wire = RecordedTransport(refusal, CHAT)
    events = await collect_events(wire.chat_model(), request(tool("a", "b", "d" * 2720), tool("a", "c", "short")))
    (notice,) = (event for event in events if isinstance(event, Notice))
    assert notice.text.startswith("m takes tools' descriptions of 1,024 characters: longer ones are cut")
    descriptions = [item["description"] for item in definitions(wire.bodies[1])]
    assert [len(description) for description in descriptions] == [1024, 5]


@pytest.mark.parametrize(
    ("pattern", "is_sent"),
    [
        (r"^[a-z]+$", True), (r"(?:ab)+?\d{2,}", True), (r"a\.b\\1", True), (r"^(?!\.)[a-z]+$", False), (r"(?=x)", False),
        (r"(?<!a)b", False), (r"(a)\1", False), (r"(?P<n>a)(?P=n)", False), (r"a++", False), (r"(?>a)", False), (r"(?i)a", False),
        (r"\Aa\Z", False), (r"[a", False),
    ],
)  # fmt: skip
def test_only_portable_patterns_are_sent(pattern: str, is_sent: bool) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}}
    assert ("pattern" in json.dumps(to_tool_schema(schema))) == is_sent


@pytest.mark.parametrize(
    ("text", "window", "requested"),
    [
        ("The input token count (9958) exceeds the maximum number of tokens allowed (8192)", 8192, 9958),
        ("This model's maximum prompt length is 131072 but the request contains 140000 tokens.", 131072, 140000),
        ("prompt token count of 9000 exceeds the limit of 8,192", 8192, 9000),
        ("Invalid request: Your request exceeded model token limit: 8192 (requested: 9000)", 8192, 9000),
        ("Range of input length should be [1, 30720]", 30720, None),
        ("Prompt exceeds max length", None, None),
        ("`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 100 `max_new_tokens`", 4096, 5000),
        ("invalid params, context window exceeds limit (2013)", None, None),
        ("This model's maximum context length is 4097 tokens. However, your messages resulted in 5000 tokens.", 4097, 5000),
        ("the request exceeds the available context size (2048 tokens)", 2048, None),
        ("Request too large for m in organization o on tokens per min (TPM): Limit 6000, Requested 8921.", 6000, 8921),
    ],
)  # fmt: skip
def test_an_overflow_is_recognized_in_any_words(text: str, window: int | None, requested: int | None) -> None:
    status = 429 if "per min" in text else 400
    body = {"error": {"message": text, "code": "rate_limit_exceeded" if status == 429 else None}}
    for error in (error_from_status("http://x", status, {}, body), error_from_body(body["error"])):
        assert (error.kind, error.window, error.requested_tokens) == ("context", window, requested)


@pytest.mark.parametrize(
    "text",
    [
        "Invalid 'tools[1].function.name': this is not welcome",
        "Function small__x may not be declared",
        "tools.1.custom: input should match",
    ],
)
async def test_a_refusal_that_cannot_be_learnt_from_names_the_tool(text: str) -> None:
    wire = RecordedTransport(*[error_response(400, text)] * 4)
    with pytest.raises(ModelError) as raised:
        await collect_events(wire.chat_model(), request(tool("big", "x_small"), tool("small", "x")))
    assert raised.value.hint == (
        'the model\'s server does not take the tool small.x; leave it out: exclude = ["x"] under [servers.small]'
    )


async def test_a_refusal_about_something_else_names_no_tool() -> None:
    wire = RecordedTransport(*[error_response(400, "The temperature is wrong")] * 4)
    with pytest.raises(ModelError) as raised:
        await collect_events(wire.chat_model(), request(tool("big", "a"), tool("small", "x")))
    assert "the tool" not in raised.value.hint
