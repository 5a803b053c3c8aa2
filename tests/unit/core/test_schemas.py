"""Conversion of any JSON Schema to one that model APIs accept; the original schema validates the arguments."""

import json
from typing import Any

import jsonschema
import pytest

from mcpchat.core.tool_schema import supports_strict_mode, to_tool_schema
from mcpchat.core.tools import ToolSpec, drop_null_arguments
from mcpchat.util.json_schema import find_error


def test_a_plain_object_schema_is_unchanged() -> None:
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
def test_every_converted_schema_is_a_valid_object_schema(schema: dict[str, Any]) -> None:
    converted = to_tool_schema(schema)
    assert converted["type"] == "object"
    assert isinstance(converted["properties"], dict)
    assert not {"oneOf", "anyOf", "allOf", "not", "enum", "if", "$ref"} & set(converted)
    json.dumps(converted, ensure_ascii=False).encode()
    jsonschema.Draft202012Validator.check_schema(converted)


def test_all_branches_of_a_union_are_optional() -> None:
    converted = to_tool_schema(
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
    assert set(converted["properties"]) == {"kind", "a", "b", "c"}
    assert converted["required"] == ["kind", "c"]
    assert "additionalProperties" not in converted


def test_depth_and_size_are_limited() -> None:
    deep: dict[str, Any] = {}
    innermost = deep
    for _ in range(500):
        innermost["properties"] = {"a": {}}
        innermost = innermost["properties"]["a"]
    assert len(json.dumps(to_tool_schema(deep))) < 5000
    wide = {"properties": {f"p{n}": {"type": "object", "properties": {"x": {"type": "string"}}} for n in range(9000)}}
    assert json.dumps(to_tool_schema(wide)).count("string") < 5000


def test_the_converted_schema_accepts_all_that_was_valid() -> None:
    branches = [
        {"properties": {"kind": {"const": kind}, kind: {"type": "string"}}, "minProperties": 2} for kind in "ab"
    ]
    cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"oneOf": branches}, {"kind": "b", "b": "x"}),
        ({"anyOf": [*branches, {}]}, {}),
        ({"properties": {"a": {"items": [{"type": "string"}, {"type": "integer"}]}}}, {"a": ["x", 1]}),
        ({"properties": {"a": {"not": {"dependentRequired": {"x": ["y"]}}}}}, {"a": {"x": 1}}),
        ({"properties": {"a": {"oneOf": [{"type": "string", "format": 7}, {"hologram": 1}]}}}, {"a": 5}),
        ({"properties": {"a": {"contains": {"hologram": 1}, "maxContains": 0}}}, {"a": []}),
        ({"properties": {"a": {"if": {"hologram": 1}, "then": {"type": "string"}}}}, {"a": 5}),
        ({"properties": {"a": {"type": ["string", "hologram"]}}}, {"a": 5}),
        ({"properties": {"a": {"$ref": "#/oneOf/0"}}, "oneOf": [{"type": "object"}]}, {"a": 5}),
    ]
    for schema, value in cases:
        converted = to_tool_schema(schema)
        jsonschema.Draft202012Validator.check_schema(converted)
        jsonschema.validate(value, converted)


@pytest.mark.parametrize(
    "schema",
    [
        {"required": ["a", "a"]}, {"properties": {"a": {"type": ["string", "string"]}}}, {"minProperties": -1},
        {"properties": {"a": {"minLength": 1.5, "multipleOf": 0, "examples": "x", "pattern": "(", "maximum": None}}},
        {"patternProperties": {"(": {}}}, {"properties": {"a": {"default": float("nan")}}},
    ],
)  # fmt: skip
def test_invalid_parts_of_a_schema_are_dropped(schema: dict[str, Any]) -> None:
    converted = to_tool_schema(schema)
    jsonschema.Draft202012Validator.check_schema(converted)
    json.dumps(converted, allow_nan=False)


def test_the_properties_of_all_branches_are_merged() -> None:
    name, number = {"type": "string", "pattern": "^[a-z]+$"}, {"type": "integer"}
    schema = {
        "oneOf": [
            {"properties": {"kind": name, "value": name}},
            {"properties": {"kind": name, "value": number}},
        ]
    }
    assert to_tool_schema(schema) == {
        "type": "object",
        "properties": {"kind": name, "value": {"anyOf": [name, number]}},
    }


def test_only_usable_keywords_of_a_property_are_kept() -> None:
    properties = {
        "a": {"type": "array", "contains": {"const": 1}, "minContains": 2, "oneOf": [False]},
        "b": {"type": "string", "pattern": 7, "oneOf": 3},
        "c": {"type": "array", "minContains": 2, "maxContains": 3},
        "d": {"oneOf": [{"type": "string"}, {"type": "null"}]},
    }
    assert to_tool_schema({"properties": properties})["properties"] == {
        "a": {"type": "array", "contains": {"const": 1}, "minContains": 2, "items": {}},
        "b": {"type": "string"},
        "c": {"type": "array", "items": {}},
        "d": {"oneOf": [{"type": "string"}, {"type": "null"}]},
    }


def strict_object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False,
    }  # fmt: skip


def nested_objects(depth: int) -> dict[str, Any]:
    schema = strict_object()
    for _ in range(depth):
        schema = strict_object(inner=schema)
    return schema


@pytest.mark.parametrize(
    ("schema", "supported"),
    [
        (strict_object(a={"type": "string"}, b={"anyOf": [{"type": "null"}, strict_object()]}), True),
        ({**strict_object(a={"$ref": "#/$defs/n"}), "$defs": {"n": {"type": "array", "items": {}}}}, True),
        (nested_objects(10), True),
        (nested_objects(11), False),
        ({**strict_object(a={}), "required": []}, False),
        ({**strict_object(a={}), "additionalProperties": True}, False),
        ({**strict_object(), "properties": ["a"]}, False),
        (strict_object(a={"oneOf": [{}]}), False),
        (strict_object(a=7), False),
        (strict_object(a={"type": "array", "items": {"type": "object"}}), False),
        ({**strict_object(a={"$ref": "#/$defs/n"}), "$defs": {"n": {"not": {}}}}, False),
        (strict_object(a={"enum": list(range(1000))}), True),
        (strict_object(a={"enum": list(range(600))}, b={"enum": list(range(600))}), False),
        ({"type": "array", "items": {}}, False),
        ({"anyOf": [strict_object()], **strict_object()}, False),
    ],
    ids=range(15),
)
def test_strict_mode_is_used_for_schemas_that_apis_can_enforce(schema: dict[str, Any], supported: bool) -> None:
    assert supports_strict_mode(schema) is supported


def test_a_recursive_schema_is_converted_quickly() -> None:
    recursive = {"properties": {"a": {"$ref": "#"}}}
    assert find_error({"allOf": [recursive, {**recursive}]}, nested(90)) == ""
    tree = {"$defs": {"n": {"properties": {"kids": {"items": {"$ref": "#/$defs/n"}}, "v": {"type": "integer"}}}}}
    schema = {**tree, "properties": {"root": {"$ref": "#/$defs/n"}}}
    assert "is not of type" in find_error(schema, {"root": {"kids": [{"kids": [{"v": "x"}]}]}})


@pytest.mark.parametrize(
    ("schema", "value", "message"),
    [
        ({"type": "object", "required": ["a"]}, {}, '"a" is a required property'),
        ({"properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "integer"}}}, {"a": "x"}, "a: "),
        ({"properties": {"a": {"minimum": 5}}}, {"a": 4}, "a: 4 is less than the minimum of 5"),
        ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"a": 1, "b": 1}, "more than one of"),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"a": {"type": "null"}}}, {"a": 1}, "a:"),
        ({"properties": {"a": {"pattern": "^(a+)+$"}}}, {"a": "a" * 60 + "!"}, "does not match"),
    ],
)
def test_the_original_schema_validates(schema: dict[str, Any], value: Any, message: str) -> None:
    assert message in find_error(schema, value)


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
def test_an_unusable_schema_or_value_is_not_rejected(schema: dict[str, Any], value: Any) -> None:
    assert find_error(schema, value) == ""


def test_null_for_an_optional_property_is_dropped() -> None:
    properties = {"a": {"type": "string"}, "b": {"type": ["string", "null"]}, "c": {}, "d": {"type": "integer"}}
    spec = ToolSpec(server="s", name="t", schema={"properties": properties, "required": ["d"]})
    assert drop_null_arguments(spec, {"a": None, "b": None, "c": None, "d": None, "e": 1}) == {
        "b": None,
        "c": None,
        "d": None,
        "e": 1,
    }


def test_pattern_and_enum_errors_quote_the_schema() -> None:
    name_schema = {"type": "string", "pattern": "^[a-z]+$", "description": "A name in small letters."}
    enum_schema = {"enum": ["one", "two", "three", "four", "five"]}
    schema = {
        "properties": {
            "a/b": {"anyOf": [name_schema, {"type": "null"}]},
            "name": name_schema,
            "list": {"items": enum_schema},
        }
    }
    assert find_error(schema, {"name": "X"}) == 'name: "X" does not match: A name in small letters.'
    message = 'list.1: "six" is not one of "one", "two", "three", "four", "five"'
    assert find_error(schema, {"list": ["one", "six"]}) == message
    assert find_error({"pattern": "^a"}, "b") != ""
    assert find_error({"items": {"$ref": "#/$defs/n"}, "$defs": {"n": name_schema}}, ["X"]) == (
        '0: "X" does not match: A name in small letters.'
    )


@pytest.mark.parametrize(
    "odd", [{"$defs": []}, {"properties": {"a": {"anyOf": 3}}, "required": ["a"]}, {"$defs": {"a": 3}}]
)
def test_a_malformed_schema_is_not_strict(odd: dict[str, Any]) -> None:
    assert not supports_strict_mode({"type": "object", "properties": {}, "additionalProperties": False, **odd})


def test_what_tells_a_model_nothing_is_not_sent() -> None:
    schema = {
        "type": "object",
        "title": "searchArguments",
        "properties": {
            "file_id": {"type": "string", "title": "File Id", "pattern": "^[A-Za-z0-9_-]{1,100}$", "minLength": 1},
            "currency": {"type": "string", "title": "The currency", "pattern": "^[A-Z]{3}$", "minLength": 3},
            "text": {"type": "string", "maxLength": 500_000},
            "title": {"type": "string", "maxLength": 80, "title": "Title"},
        },
    }
    assert to_tool_schema(schema)["properties"] == {
        "file_id": {"type": "string"},
        "currency": {"type": "string", "title": "The currency", "pattern": "^[A-Z]{3}$", "minLength": 3},
        "text": {"type": "string"},
        "title": {"type": "string", "maxLength": 80},
    }
    assert "title" not in to_tool_schema(schema)
