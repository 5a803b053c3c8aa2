"""Any JSON Schema becomes one that model APIs accept, and the original judges the arguments."""

import json
from typing import Any

import jsonschema
import pytest

from mcpchat.core.tool_schema import to_tool_schema
from mcpchat.core.tools import ToolSpec, drop_null_arguments
from mcpchat.util.json_schema import find_error


def test_a_plain_object_schema_stays_as_it_is() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string", "minLength": 2, "enum": ["xx"]}, "b": {"$ref": "#/$defs/n"}},
        "required": ["a"],
        "additionalProperties": False,
        "$defs": {"n": {"type": ["integer", "null"], "default": None, "properties": {"n": {"$ref": "#/$defs/n"}}}},
    }
    assert to_tool_schema(schema) == schema


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "array"},
        {"type": "nonsense", "properties": [], "required": "x", "enum": [], "minimum": "low"},
        {"oneOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": True}}, False, 7]},
        {"$ref": "#/$defs/x", "$defs": {"x": {"properties": {"a": {"type": "string"}}}}},
        {"$ref": "#"},
        {"$ref": "http://127.0.0.1:9/x"},
        {"properties": {"a": {"type": "array"}, "b": {"type": "array", "items": [{"type": "string"}]}, "c": False}},
        {"properties": {"a": {"type": ["string", "hologram"]}, "b": {"$ref": "#/nowhere"}}},
        {"properties": {"\ud800": {"description": "half \ud83d"}}},
        {"if": {"properties": {"a": {"const": 1}}}, "then": {"required": ["b"]}, "else": True},
        {"anyOf": [{"type": "object"}, {"type": "null"}], "not": {"required": ["z"]}},
        {"$schema": "http://json-schema.org/draft-04/schema#", "properties": {"a": {"exclusiveMinimum": True}}},
    ],
)
def test_whatever_comes_what_goes_to_the_model_is_a_valid_object_schema(schema: dict[str, Any]) -> None:
    made = to_tool_schema(schema)
    assert made["type"] == "object"
    assert isinstance(made["properties"], dict)
    assert not {"oneOf", "anyOf", "allOf", "not", "enum", "if", "$ref"} & set(made)
    json.dumps(made, ensure_ascii=False).encode()
    jsonschema.Draft202012Validator.check_schema(made)


def test_the_branches_of_a_union_are_all_offered_and_none_is_demanded() -> None:
    made = to_tool_schema(
        {
            "properties": {"kind": {"type": "string"}},
            "required": ["kind"],
            "oneOf": [
                {"properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False},
                {"properties": {"b": {"type": "integer"}}},
            ],
            "allOf": [{"properties": {"c": {"type": "number"}}, "required": ["c"]}],
        }
    )
    assert set(made["properties"]) == {"kind", "a", "b", "c"}
    assert made["required"] == ["kind", "c"]
    assert "additionalProperties" not in made


def test_depth_and_size_are_bounded() -> None:
    deep: dict[str, Any] = {}
    here = deep
    for _ in range(500):
        here["properties"] = {"a": {}}
        here = here["properties"]["a"]
    assert len(json.dumps(to_tool_schema(deep))) < 5000
    wide = {"properties": {f"p{n}": {"type": "object", "properties": {"x": {"type": "string"}}} for n in range(9000)}}
    assert json.dumps(to_tool_schema(wide)).count("string") < 5000


def test_nothing_that_the_original_admits_is_ruled_out() -> None:
    kinds = [{"properties": {"kind": {"const": kind}, kind: {"type": "string"}}, "minProperties": 2} for kind in "ab"]
    cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"oneOf": kinds}, {"kind": "b", "b": "x"}),
        ({"anyOf": [*kinds, {}]}, {}),
        ({"properties": {"a": {"items": [{"type": "string"}, {"type": "integer"}]}}}, {"a": ["x", 1]}),
        ({"properties": {"a": {"not": {"dependentRequired": {"x": ["y"]}}}}}, {"a": {"x": 1}}),
        ({"properties": {"a": {"oneOf": [{"type": "string", "format": 7}, {"hologram": 1}]}}}, {"a": 5}),
        ({"properties": {"a": {"contains": {"hologram": 1}, "maxContains": 0}}}, {"a": []}),
        ({"properties": {"a": {"if": {"hologram": 1}, "then": {"type": "string"}}}}, {"a": 5}),
        ({"properties": {"a": {"type": ["string", "hologram"]}}}, {"a": 5}),
        ({"properties": {"a": {"$ref": "#/oneOf/0"}}, "oneOf": [{"type": "object"}]}, {"a": 5}),
    ]
    for schema, value in cases:
        made = to_tool_schema(schema)
        jsonschema.Draft202012Validator.check_schema(made)
        jsonschema.validate(value, made)


@pytest.mark.parametrize(
    "broken",
    [
        {"required": ["a", "a"]}, {"properties": {"a": {"type": ["string", "string"]}}}, {"minProperties": -1},
        {"properties": {"a": {"minLength": 1.5, "multipleOf": 0, "examples": "x", "pattern": "(", "maximum": None}}},
        {"patternProperties": {"(": {}}}, {"properties": {"a": {"default": float("nan")}}},
    ],
)  # fmt: skip
def test_what_is_invalid_in_a_schema_is_left_out(broken: dict[str, Any]) -> None:
    made = to_tool_schema(broken)
    jsonschema.Draft202012Validator.check_schema(made)
    json.dumps(made, allow_nan=False)


def test_a_schema_that_contains_itself_many_times_takes_no_time() -> None:
    twice = {"properties": {"a": {"$ref": "#"}}}
    assert find_error({"allOf": [twice, {**twice}]}, nested(90)) == ""
    tree = {"$defs": {"n": {"properties": {"kids": {"items": {"$ref": "#/$defs/n"}}, "v": {"type": "integer"}}}}}
    schema = {**tree, "properties": {"root": {"$ref": "#/$defs/n"}}}
    assert "is not of type" in find_error(schema, {"root": {"kids": [{"kids": [{"v": "x"}]}]}})


@pytest.mark.parametrize(
    ("schema", "value", "told"),
    [
        ({"type": "object", "required": ["a"]}, {}, '"a" is a required property'),
        ({"properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "integer"}}}, {"a": "x"}, "a: "),
        ({"properties": {"a": {"minimum": 5}}}, {"a": 4}, "a: 4 is less than the minimum of 5"),
        ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"a": 1, "b": 1}, "more than one of"),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"a": {"type": "null"}}}, {"a": 1}, "a:"),
        ({"properties": {"a": {"pattern": "^(a+)+$"}}}, {"a": "a" * 60 + "!"}, "does not match"),
    ],
)
def test_the_original_schema_judges(schema: dict[str, Any], value: Any, told: str) -> None:
    assert told in find_error(schema, value)


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "nonsense"}, {"a": 1}),
        ({"$schema": "http://example.com/dialect", "required": ["a"]}, {}),
        ({"$ref": "http://127.0.0.1:9/x", "required": ["a"]}, {}),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, {"a": 1}),
        ({"$ref": "#"}, {"a": 1}),
        ({"properties": {"a": {"$ref": "#"}}}, nested(100_000)),
        (nested(100_000), {"a": 1}),
        ({"properties": {"a": {"pattern": "("}}}, {"a": "x"}),
    ],
)
def test_a_schema_or_value_that_cannot_be_judged_decides_nothing(schema: dict[str, Any], value: Any) -> None:
    assert find_error(schema, value) == ""


def test_null_for_what_is_optional_and_admits_none_is_not_given() -> None:
    properties = {"a": {"type": "string"}, "b": {"type": ["string", "null"]}, "c": {}, "d": {"type": "integer"}}
    spec = ToolSpec(server="s", name="t", schema={"properties": properties, "required": ["d"]})
    assert drop_null_arguments(spec, {"a": None, "b": None, "c": None, "d": None, "e": 1}) == {
        "b": None,
        "c": None,
        "d": None,
        "e": 1,
    }


def test_a_pattern_and_a_choice_are_told_in_the_words_of_the_schema() -> None:
    named = {"type": "string", "pattern": "^[a-z]+$", "description": "A name in small letters."}
    chosen = {"enum": ["one", "two", "three", "four", "five"]}
    schema = {"properties": {"a/b": {"anyOf": [named, {"type": "null"}]}, "name": named, "list": {"items": chosen}}}
    assert find_error(schema, {"name": "X"}) == 'name: "X" does not match: A name in small letters.'
    told = 'list.1: "six" is not one of "one", "two", "three", "four", "five"'
    assert find_error(schema, {"list": ["one", "six"]}) == told
    assert find_error({"pattern": "^a"}, "b") != ""
    assert find_error({"items": {"$ref": "#/$defs/n"}, "$defs": {"n": named}}, ["X"]) == (
        '0: "X" does not match: A name in small letters.'
    )
