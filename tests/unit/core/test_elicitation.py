"""Tests of elicitation: form fields, parsed values, URL checks, and the handler of server requests."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from mcpchat.core.elicitation import (
    ElicitationResult,
    Field,
    Form,
    InvalidValue,
    SamplingMessage,
    SamplingRequest,
    SamplingResult,
    UrlRequest,
    find_format_error,
    format_value,
    parse_fields,
    read_value,
)
from mcpchat.core.events import Event, Notice
from mcpchat.core.messages import Usage
from mcpchat.core.protocols import ModelOptions, Retrying, SelectedModel
from mcpchat.engine.server_requests import ServerRequestHandler
from mcpchat.util.json_schema import find_error
from mcpchat.util.urls import InvalidUrl, parse_web_url
from tests.support.fakes import ScriptedDialog, ScriptedModel, model_step


def field(**schema: Any) -> Field:
    return parse_fields({"properties": {"it": schema}})[0]


@pytest.mark.parametrize(
    ("schema", "line", "value"),
    [
        ({"type": "string"}, "a b", "a b"),
        ({"type": "string"}, "", None),
        ({"type": "string", "default": "x"}, "", "x"),
        ({"type": "boolean"}, "Yes", True),
        ({"type": "boolean"}, "off", False),
        ({"type": "integer"}, " 42 ", 42),
        ({"type": "number"}, "2.5", 2.5),
        ({"type": "number"}, "2", 2),
        ({"type": "string", "enum": ["red", "blue"]}, "2", "blue"),
        ({"type": "string", "enum": ["red", "blue"]}, "RED", "red"),
        ({"type": "string", "enum": ["2", "1"]}, "1", "1"),
        ({"type": "string", "oneOf": [{"const": "r", "title": "Red"}]}, "red", "r"),
        ({"type": "string", "enum": ["r", "b"], "enumNames": ["Red", "Blue"]}, "Blue", "b"),
        ({"type": "array", "items": {"enum": ["a", "b", "c"]}}, "1, c", ["a", "c"]),
        ({"type": "array", "items": {"anyOf": [{"const": "a", "title": "A!"}]}}, "A!", ["a"]),
        ({"type": "array", "items": {"type": "string"}}, "a b, c,", ["a b", "c"]),
        ({"type": "hologram"}, "x", "x"),
        ({"type": "string", "format": "email"}, "ann@example.com", "ann@example.com"),
        ({"type": "string", "format": "uri"}, "https://a.b/c", "https://a.b/c"),
        ({"type": "string", "format": "date"}, "2024-12-31", "2024-12-31"),
        ({"type": "string", "format": "date-time"}, "2024-12-31T10:00:00Z", "2024-12-31T10:00:00Z"),
    ],
)
def test_input_becomes_a_value_of_the_fields_type(schema: dict[str, Any], line: str, value: Any) -> None:
    assert read_value(field(**schema), line) == value


@pytest.mark.parametrize(
    ("schema", "line", "error"),
    [
        ({"type": "boolean"}, "perhaps", "expected yes or no"),
        ({"type": "integer"}, "1.5", "expected a whole number"),
        ({"type": "number"}, "nan", "expected a number"),
        ({"type": "integer", "minimum": 3}, "2", "at least 3"),
        ({"type": "number", "maximum": 3}, "4", "at most 3"),
        ({"type": "string", "minLength": 3}, "ab", "at least 3 characters"),
        ({"type": "string", "format": "email"}, "nourl", "expected an e-mail address"),
        ({"type": "string", "format": "uri"}, "not a url", "expected a URL"),
        ({"type": "string", "format": "date"}, "2024-13-45", "expected 2026-12-31"),
        ({"type": "string", "format": "date-time"}, "noon", "expected 2026-12-31T23:59:00Z"),
        ({"type": "string", "enum": ["red", "blue"]}, "3", "expected one of red, blue"),
        ({"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2}, "a", "at least 2 of them"),
    ],
)
def test_invalid_input_is_an_error(schema: dict[str, Any], line: str, error: str) -> None:
    with pytest.raises(InvalidValue, match=error):
        read_value(field(**schema), line)


def test_a_required_field_needs_a_value_and_an_invalid_schema_is_a_text_field() -> None:
    fields = parse_fields({"properties": {"a": {"type": "string"}, "b": 7}, "required": ["a"]})
    assert [(form_field.name, form_field.kind, form_field.required) for form_field in fields] == [
        ("a", "text", True),
        ("b", "text", False),
    ]
    with pytest.raises(InvalidValue, match="it is required"):
        read_value(fields[0], "")
    assert parse_fields({"properties": [1]}) == ()


def test_values_are_formatted_like_input() -> None:
    assert [format_value(field(), value) for value in (None, True, ["a", "b"], 3)] == ["", "yes", "a, b", "3"]
    assert field(type="integer", minimum=1, maximum=9).input_hint == "a whole number, at least 1, at most 9"
    several = field(type="array", items={"enum": ["a", "b"]}, minItems=1, maxItems=2)
    assert several.input_hint == "any of them, separated by commas, at least 1 of them, at most 2 of them"


@pytest.mark.parametrize(
    ("text", "url", "host", "has_warning"),
    [
        ("https://example.com/a?b=c#d", "https://example.com/a?b=c#d", "example.com", False),
        ("http://127.0.0.1:8080/cb", "http://127.0.0.1:8080/cb", "127.0.0.1", False),
        ("http://[::1]/", "http://[::1]/", "::1", False),
        ("https://exämple.com/", "https://xn--exmple-cua.com/", "xn--exmple-cua.com", True),
    ],
)
def test_a_url_is_shown_with_its_real_host(text: str, url: str, host: str, has_warning: bool) -> None:
    parsed_url = parse_web_url(text)
    assert (parsed_url.url, parsed_url.host, bool(parsed_url.warning)) == (url, host, has_warning)


@pytest.mark.parametrize(
    "text",
    [
        "http://example.com/", "javascript:alert(1)", "file:///etc/passwd", "https://", "https://a b.com",
        "https://me:pw@example.com", "https://example.com\\@evil.com", "https://x.com/\x1b[31m", "-https://x.com",
        "https://x.com/%action", "https://x.com/" + "a" * 9000, "https://x.com:99999/", "data:text/html,x",
    ],
)  # fmt: skip
def test_a_suspicious_url_is_rejected(text: str) -> None:
    with pytest.raises(InvalidUrl):
        parse_web_url(text)


# --- the handler ------------------------------------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 5}}}
FORM = Form(server="s", message="how many?", fields=parse_fields(SCHEMA), schema=SCHEMA)


def make_handler(asker: ScriptedDialog, **options: Any) -> tuple[ServerRequestHandler, list[Event]]:
    events: list[Event] = []
    return ServerRequestHandler(asker, emit=events.append, check=find_error, **options), events


async def test_an_invalid_answer_is_requested_again() -> None:
    good = ElicitationResult(action="accept", content={"n": 7})
    asker = ScriptedDialog(ElicitationResult(action="accept", content={"n": 1}), good)
    handler, events = make_handler(asker)
    assert await handler.elicit(FORM) == good
    assert [prompt[2] for prompt in asker.prompts] == ["", "n: 1 is less than the minimum of 5"]
    assert events == [Notice(level="info", text="s asked: how many? (answered)")]


async def test_a_form_that_stays_invalid_is_cancelled() -> None:
    handler, _ = make_handler(ScriptedDialog(*[ElicitationResult(action="accept", content={"n": 1})] * 9))
    assert await handler.elicit(FORM) == ElicitationResult(action="cancel")


async def test_a_suspicious_url_is_declined_without_prompt() -> None:
    asker = ScriptedDialog()
    handler, events = make_handler(asker)
    request = UrlRequest(server="s", message="log in", url="http://example.com")
    assert await handler.elicit(request) == ElicitationResult(action="decline")
    assert asker.prompts == []
    assert "s asks to open an unsafe URL: only https" in events[0].text  # type: ignore[union-attr]


REQUEST = SamplingRequest(server="s", messages=(SamplingMessage(role="user", text="Hi?"),), max_tokens=10)


def select_model(*answers: str) -> SelectedModel:
    return SelectedModel(name="m", adapter=ScriptedModel(*(model_step(answer) for answer in answers)))


async def test_sampling_has_two_prompts_and_its_limit() -> None:
    asker = ScriptedDialog(True, True)
    model = select_model("Hello.")
    handler, _ = make_handler(asker, model=lambda: model)
    assert await handler.sample(REQUEST) == SamplingResult(model="m", text="Hello.")
    assert [(action, details) for _, action, details in asker.prompts] == [
        ("ask m (at most 10 tokens)", "user: Hi?"),
        ("have this answer", "Hello."),
    ]
    request = model.adapter.requests[0]  # type: ignore[attr-defined]
    assert request.options == ModelOptions(max_output_tokens=10)
    assert request.tools == ()


async def test_a_sample_has_the_temperature_of_the_request_and_reports_retries() -> None:
    retrying = Retrying(seconds=60.0, reason="slow down")
    adapter = ScriptedModel([retrying, *model_step("Hel", stop="length", usage=Usage(input=3, output=2))])
    usages: list[Usage] = []
    handler, events = make_handler(
        ScriptedDialog(), model=lambda: SelectedModel(name="m", adapter=adapter), add_usage=usages.append, yes=True
    )
    sample = await handler.sample(replace(REQUEST, temperature=0.5))
    assert sample == SamplingResult(model="m", text="Hel", truncated=True)
    assert adapter.requests[0].options == ModelOptions(max_output_tokens=10, temperature=0.5)
    assert usages == [Usage(input=3, output=2)]
    assert events == [
        Notice(level="info", text="s may ask m (at most 10 tokens) (--yes)"),
        Notice(level="warning", text="slow down; trying again in 60 s"),
        Notice(level="info", text="s may have this answer (--yes)"),
    ]


@pytest.mark.parametrize("answers", [(False,), (True, False)])
async def test_refused_sampling_returns_none(answers: tuple[bool, ...]) -> None:
    model = select_model("Hello.")
    handler, _ = make_handler(ScriptedDialog(*answers), model=lambda: model)
    assert await handler.sample(REQUEST) is None


async def test_sampling_has_a_budget_and_needs_model() -> None:
    model = select_model(*["x"] * 25)
    handler, events = make_handler(ScriptedDialog(), model=lambda: model, yes=True)
    samples = [await handler.sample(REQUEST) for _ in range(22)]
    assert [sample is not None for sample in samples] == [True] * 20 + [False] * 2
    assert "too many samples" in events[-1].text  # type: ignore[union-attr]
    handler_without_model, _ = make_handler(ScriptedDialog())
    assert await handler_without_model.sample(REQUEST) is None


async def test_roots_need_one_prompt() -> None:
    asker = ScriptedDialog(True)
    handler, _ = make_handler(asker)
    assert await handler.allow_roots("s", ["/a"])
    assert await handler.allow_roots("s", ["/a"])
    assert asker.prompts == [("s", "know of these folders", "/a")]


async def test_a_model_error_propagates() -> None:
    class Broken:
        async def stream(self, request: Any) -> AsyncIterator[Any]:
            raise ValueError("no")
            yield

    handler, _ = make_handler(ScriptedDialog(True), model=lambda: SelectedModel(name="m", adapter=Broken()))
    with pytest.raises(ValueError, match="no"):
        await handler.sample(REQUEST)


@pytest.mark.parametrize(
    ("declared", "kind"),
    [
        (["integer", "null"], "integer"),
        (["null", "string"], "text"),
        ([], "text"),
        ([["x"]], "text"),
        ({"a": 1}, "text"),
    ],
)
def test_a_field_may_have_several_types(declared: Any, kind: str) -> None:
    (field,) = parse_fields({"properties": {"a": {"type": declared}}})
    assert field.kind == kind


def test_a_choice_by_a_very_long_number_is_no_choice() -> None:
    (field,) = parse_fields({"properties": {"a": {"enum": ["x", "y"]}}})
    with pytest.raises(InvalidValue, match="expected one of x, y"):
        read_value(field, "9" * 5000)


@pytest.mark.parametrize(
    ("format_name", "valid", "invalid"),
    [
        ("date", ["2026-02-28"], ["2026-W09-6", "20260228", "2026-02-30", "today"]),
        (
            "date-time",
            ["2026-02-28T10:00:00Z", "2026-02-28t10:00:00.5+01:00"],
            ["2026-02-28", "2026-W09-6", "2026-02-28T10:00:00", "2026-02-28T10:00Z", "2026-02-30T10:00:00Z"],
        ),
        ("email", ["ann@example.com"], ["no address"]),
        ("uri", ["https://example.com"], ["example"]),
    ],
)
def test_formats_are_those_of_json_schema(format_name: str, valid: list[str], invalid: list[str]) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string", "format": format_name}}}
    form = Form(server="s", message="m", schema=schema, fields=parse_fields(schema))
    assert [find_format_error(form, {"x": value}) for value in valid] == [""] * len(valid)
    assert all(find_format_error(form, {"x": value}).startswith("x: expected") for value in invalid)


def test_a_value_comes_before_a_title() -> None:
    choices = [{"const": f"v{number}", "title": f"Title {number}"} for number in range(10)]
    choices[3] = {"const": "v3", "title": "v7"}
    (field,) = parse_fields({"type": "object", "properties": {"x": {"oneOf": choices}}})
    assert read_value(field, "v7") == "v7"
    assert read_value(field, "V7") == "v7"
    assert read_value(field, "title 4") == "v4"
