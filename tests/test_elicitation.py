"""Forms from schemas, values from what is typed, addresses that may be opened, and the host that asks."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mcpchat.core.elicitation import (
    ElicitationResult,
    Field,
    Form,
    InvalidValue,
    SamplingMessage,
    SamplingRequest,
    SamplingResult,
    UrlRequest,
    format_value,
    parse_fields,
    read_value,
)
from mcpchat.core.events import Event, Notice
from mcpchat.core.protocols import ModelOptions, SelectedModel
from mcpchat.engine.server_requests import ServerRequestHandler
from mcpchat.util.json_schema import find_error
from mcpchat.util.urls import InvalidUrl, parse_web_url
from tests.fakes import ScriptedDialog, ScriptedModel, model_step


def field(**schema: Any) -> Field:
    return parse_fields({"properties": {"it": schema}})[0]


@pytest.mark.parametrize(
    ("schema", "typed", "value"),
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
        ({"type": "hologram"}, "x", "x"),
        ({"type": "string", "format": "email"}, "ann@example.com", "ann@example.com"),
        ({"type": "string", "format": "uri"}, "https://a.b/c", "https://a.b/c"),
        ({"type": "string", "format": "date"}, "2024-12-31", "2024-12-31"),
        ({"type": "string", "format": "date-time"}, "2024-12-31T10:00:00Z", "2024-12-31T10:00:00Z"),
    ],
)
def test_what_is_typed_becomes_a_value_of_the_fields_type(schema: dict[str, Any], typed: str, value: Any) -> None:
    assert read_value(field(**schema), typed) == value


@pytest.mark.parametrize(
    ("schema", "typed", "told"),
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
def test_what_does_not_fit_is_told_with_what_does(schema: dict[str, Any], typed: str, told: str) -> None:
    with pytest.raises(InvalidValue, match=told):
        read_value(field(**schema), typed)


def test_a_required_field_is_not_left_empty_and_malformed_schemas_give_plain_text() -> None:
    needed = parse_fields({"properties": {"a": {"type": "string"}, "b": 7}, "required": ["a"]})
    assert [(one.name, one.kind, one.required) for one in needed] == [("a", "text", True), ("b", "text", False)]
    with pytest.raises(InvalidValue, match="it is required"):
        read_value(needed[0], "")
    assert parse_fields({"properties": [1]}) == ()


def test_values_are_shown_as_they_would_be_typed() -> None:
    assert [format_value(field(), value) for value in (None, True, ["a", "b"], 3)] == ["", "yes", "a, b", "3"]
    assert field(type="integer", minimum=1, maximum=9).input_hint == "a whole number, at least 1, at most 9"


@pytest.mark.parametrize(
    ("text", "url", "host", "warned"),
    [
        ("https://example.com/a?b=c#d", "https://example.com/a?b=c#d", "example.com", False),
        ("http://127.0.0.1:8080/cb", "http://127.0.0.1:8080/cb", "127.0.0.1", False),
        ("http://[::1]/", "http://[::1]/", "::1", False),
        ("https://exämple.com/", "https://xn--exmple-cua.com/", "xn--exmple-cua.com", True),
    ],
)
def test_an_address_is_shown_with_its_true_host(text: str, url: str, host: str, warned: bool) -> None:
    found = parse_web_url(text)
    assert (found.url, found.host, bool(found.warning)) == (url, host, warned)


@pytest.mark.parametrize(
    "text",
    [
        "http://example.com/", "javascript:alert(1)", "file:///etc/passwd", "https://", "https://a b.com",
        "https://me:pw@example.com", "https://example.com\\@evil.com", "https://x.com/\x1b[31m", "-https://x.com",
        "https://x.com/%action", "https://x.com/" + "a" * 9000, "https://x.com:99999/", "data:text/html,x",
    ],
)  # fmt: skip
def test_an_address_that_may_be_a_trap_is_refused(text: str) -> None:
    with pytest.raises(InvalidUrl):
        parse_web_url(text)


# --- the host ---------------------------------------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 5}}}
FORM = Form(server="s", message="how many?", fields=parse_fields(SCHEMA), schema=SCHEMA)


def host(asker: ScriptedDialog, **more: Any) -> tuple[ServerRequestHandler, list[Event]]:
    seen: list[Event] = []
    return ServerRequestHandler(asker, emit=seen.append, check=find_error, **more), seen


async def test_an_answer_that_breaks_the_schema_is_asked_for_again() -> None:
    good = ElicitationResult(action="accept", content={"n": 7})
    asker = ScriptedDialog(ElicitationResult(action="accept", content={"n": 1}), good)
    made, seen = host(asker)
    assert await made.elicit(FORM) == good
    assert [asked[2] for asked in asker.prompts] == ["", "n: 1 is less than the minimum of 5"]
    assert seen == [Notice(level="info", text="s asked: how many? (answered)")]


async def test_a_form_that_is_never_right_ends_as_cancelled() -> None:
    made, _ = host(ScriptedDialog(*[ElicitationResult(action="accept", content={"n": 1})] * 9))
    assert await made.elicit(FORM) == ElicitationResult(action="cancel")


async def test_a_suspicious_address_is_declined_without_asking() -> None:
    asker = ScriptedDialog()
    made, seen = host(asker)
    visit = UrlRequest(server="s", message="log in", url="http://example.com")
    assert await made.elicit(visit) == ElicitationResult(action="decline")
    assert asker.prompts == []
    assert "s asks to open an unsafe URL: only https" in seen[0].text  # type: ignore[union-attr]


REQUEST = SamplingRequest(server="s", messages=(SamplingMessage(role="user", text="Hi?"),), max_tokens=10)


def choice(*answers: str) -> SelectedModel:
    return SelectedModel(name="m", adapter=ScriptedModel(*(model_step(answer) for answer in answers)))


async def test_a_sample_is_agreed_to_twice_and_its_limit_is_kept() -> None:
    asker = ScriptedDialog(True, True)
    model = choice("Hello.")
    made, _ = host(asker, model=lambda: model)
    assert await made.sample(REQUEST) == SamplingResult(model="m", text="Hello.")
    assert [(wish, details) for _, wish, details in asker.prompts] == [
        ("ask m (at most 10 tokens)", "user: Hi?"),
        ("have this answer", "Hello."),
    ]
    request = model.adapter.requests[0]  # type: ignore[attr-defined]
    assert request.options == ModelOptions(max_output_tokens=10)
    assert request.tools == ()


@pytest.mark.parametrize("answers", [(False,), (True, False)])
async def test_a_sample_that_is_refused_before_or_after_is_none(answers: tuple[bool, ...]) -> None:
    model = choice("Hello.")
    made, _ = host(ScriptedDialog(*answers), model=lambda: model)
    assert await made.sample(REQUEST) is None


async def test_samples_have_a_budget_and_need_a_model() -> None:
    model = choice(*["x"] * 25)
    made, seen = host(ScriptedDialog(), model=lambda: model, yes=True)
    given = [await made.sample(REQUEST) for _ in range(22)]
    assert [sample is not None for sample in given] == [True] * 20 + [False] * 2
    assert "too many samples" in seen[-1].text  # type: ignore[union-attr]
    without, _ = host(ScriptedDialog())
    assert await without.sample(REQUEST) is None


async def test_roots_are_asked_for_once() -> None:
    asker = ScriptedDialog(True)
    made, _ = host(asker)
    assert await made.allow_roots("s", ["/a"])
    assert await made.allow_roots("s", ["/a"])
    assert asker.prompts == [("s", "know of these folders", "/a")]


async def test_a_failing_model_is_not_hidden() -> None:
    class Broken:
        async def stream(self, request: Any) -> AsyncIterator[Any]:
            raise ValueError("no")
            yield

    made, _ = host(ScriptedDialog(True), model=lambda: SelectedModel(name="m", adapter=Broken()))
    with pytest.raises(ValueError, match="no"):
        await made.sample(REQUEST)
