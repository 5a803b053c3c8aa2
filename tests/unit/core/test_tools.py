"""Tool names, arguments and globs."""

import re
from typing import Any

import pytest

from mcpchat.core.patterns import glob_matches
from mcpchat.core.tools import (
    InvalidArguments,
    ToolSpec,
    describe_arguments,
    openai_function,
    parse_arguments,
    parse_pairs,
    read_strings_by_schema,
)
from mcpchat.util.text import closest_matches


def spec(server: str, name: str, schema: dict[str, Any] | None = None) -> ToolSpec:
    return ToolSpec(server=server, name=name, schema=schema or {"type": "object"})


NAMES = [
    ("a", "b"), ("a b", "c"), ("a_b", "c"), ("a-b", "c"), ("a.b", "c"), ("a", "b__c"), ("a__b", "c"), ("a_", "_b"),
    ("a", "__b"), ("a__", "b"), ("ä", "b"), ("ö", "b"), ("日本", "語"), ("", ""), ("a", ""), ("x" * 200, "y" * 200),
    ("x" * 200, "y" * 199), ("a", "x" * 61), ("a", "x" * 62), ("a", "c_1a2b3c4d"), ("a", "🙂"),
]  # fmt: skip


@pytest.mark.parametrize(("server", "name"), NAMES)
def test_an_exposed_name_is_valid_for_every_api(server: str, name: str) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", spec(server, name).model_name)


def test_different_tools_never_share_an_exposed_name() -> None:
    exposed = [spec(server, name).model_name for server, name in NAMES]
    assert len(set(exposed)) == len(NAMES)


def test_a_name_cannot_imitate_a_hashed_name() -> None:
    victim = spec("a b", "c")
    forged = spec("a_b", "c_" + victim.model_name.rsplit("_", 1)[1])
    assert forged.model_name != victim.model_name


def test_a_plain_name_stays_readable() -> None:
    assert spec("gmail", "send-message").model_name == "gmail__send-message"


@pytest.mark.parametrize(
    ("glob", "label", "hit"),
    [
        ("a.*", "a.b", True),
        ("a", "a.b", True),
        ("a", "ab.c", False),
        ("*", "a.b", True),
        ("*.delete_*", "a.delete_all", True),
        ("a.B", "a.b", False),
    ],
)
def test_globs_match_server_and_tool(glob: str, label: str, hit: bool) -> None:
    assert glob_matches(glob, label) is hit


@pytest.mark.parametrize("text", ["{", "[]", "3", '"x"', '"[1]"', "true", '{"a": NaN}', "[" * 200_000])
def test_arguments_must_be_an_object(text: str) -> None:
    with pytest.raises(InvalidArguments):
        parse_arguments(text)


def test_only_lone_surrogates_are_replaced() -> None:
    assert parse_arguments('{"a": "x\\ud800", "b": "\\ud83d\\ude00"}') == {"a": "x\ufffd", "b": "😀"}


SCHEMA = {
    "type": "object",
    "properties": {
        "n": {"type": "integer"},
        "x": {"type": "number"},
        "s": {"type": "string"},
        "b": {"type": "boolean"},
        "l": {"type": "array", "items": {"type": "number"}},
        "o": {"type": "object"},
        "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "either": {"type": ["string", "integer"]},
        "free": {},
    },
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        (("n", "3"), 3),
        (("x", "3"), 3),
        (("x", "2.5"), 2.5),
        (("s", "3"), "3"),
        (("s", ""), ""),
        (("b", "true"), True),
        (("l", "[1, 2]"), [1, 2]),
        (("l", "1,2.5"), [1, 2.5]),
        (("l", "7"), [7]),
        (("o", '{"a": 1}'), {"a": 1}),
        (("maybe", ""), None),
        (("maybe", "4"), 4),
        (("either", "4"), "4"),
        (("free", "4"), 4),
        (("free", "four"), "four"),
    ],
)
def test_arguments_are_converted_by_the_schema(pair: tuple[str, str], value: Any) -> None:
    assert parse_pairs([pair], SCHEMA) == {pair[0]: value}


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("n", "3.5"), "n=3.5: expected integer"),
        (("n", "true"), "n=true: expected integer"),
        (("b", "yes"), "b=yes: expected boolean"),
        (("o", "[1]"), "o=[1]: expected object"),
        (("maybes", "1"), "no argument named 'maybes'; did you mean maybe?"),
    ],
)
def test_invalid_arguments_are_refused_by_name(pair: tuple[str, str], message: str) -> None:
    with pytest.raises(InvalidArguments, match=re.escape(message)):
        parse_pairs([pair], SCHEMA)


@pytest.mark.parametrize("malformed", [None, 5, "x", [None, 3]])
def test_a_malformed_schema_is_partly_used(malformed: Any) -> None:
    schema = {"properties": {"a": {"anyOf": malformed, "oneOf": malformed}}, "required": malformed}
    assert parse_pairs([("a", "1")], schema) == {"a": 1}
    assert describe_arguments(spec("x", "y", schema)) == "it takes a"


def test_a_recursive_schema_is_read_to_a_depth() -> None:
    deep: dict[str, Any] = {"type": "integer"}
    for _ in range(5000):
        deep = {"anyOf": [deep]}
    assert parse_pairs([("a", "1")], {"properties": {"a": deep}}) == {"a": 1}


def test_arguments_are_described_in_one_line() -> None:
    schema = {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a"]}
    assert describe_arguments(spec("x", "y", schema)) == "it takes a (required), b"
    assert describe_arguments(spec("x", "y")) == "it takes no arguments"


def test_a_function_definition_is_always_an_object_schema() -> None:
    function = openai_function(spec("x", "y", {"$schema": "https://json-schema.org/draft/2020-12/schema"}))["function"]
    assert function == {"name": "x__y", "description": "", "parameters": {"type": "object", "properties": {}}}


def test_similar_names_are_found_in_any_case() -> None:
    assert closest_matches("SEND_mesage", ["send_message", "read"]) == ["send_message"]
    assert closest_matches("zzz", ["send_message"]) == []
    assert closest_matches("aks", ["tasks", "ask", "call"], 1) == ["ask"]


def test_nested_arrays_are_not_parsed_from_commas() -> None:
    cell = {"anyOf": [{"type": "string"}, {"type": "number"}]}
    rows = {"type": "array", "items": {"type": "array", "items": cell}, "examples": [[["Tea", 3.5]]]}
    schema = {"properties": {"rows": rows}}
    assert parse_pairs([("rows", '[["Milk", 2]]')], schema) == {"rows": [["Milk", 2]]}
    for invalid in ("Milk,2", "4"):
        with pytest.raises(InvalidArguments) as error_info:
            parse_pairs([("rows", invalid)], schema)
        assert str(error_info.value) == f"rows={invalid}: expected JSON, such as rows='[[\"Tea\", 3.5]]'"
    bare = {"properties": {"rows": {"type": "array", "items": {"type": "object"}}}}
    with pytest.raises(InvalidArguments, match="expected JSON, such as"):
        parse_pairs([("rows", "a")], bare)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('```\n{"a": 1}```', {"a": 1}),
        ("{'a': 1, 'b': True, 'c': None, 'd': ['x']}", {"a": 1, "b": True, "c": None, "d": ["x"]}),
        ('"{\\"a\\": 1}"', {"a": 1}),
    ],
)
def test_unmistakable_notations_of_arguments_are_read(text: str, arguments: dict[str, object]) -> None:
    assert parse_arguments(text) == arguments


@pytest.mark.parametrize(
    "text",
    [
        "{'a': 1",
        "{'a': __import__('os')}",
        "{1: 2}",
        "{'a': (1, 2)}",
        "{'a': {1}}",
        "{'a': 1e999}",
        "['a']",
        "{'a': b'x'}",
        "{'a': 1+2j}",
        "{",
    ],
)
def test_other_notations_are_refused(text: str) -> None:
    with pytest.raises(InvalidArguments):
        parse_arguments(text)


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ({"type": "integer"}, "3", 3), ({"type": "array"}, '["a"]', ["a"]), ({"type": "object"}, '{"a": 1}', {"a": 1}),
        ({"type": "boolean"}, "true", True), ({"type": ["number", "null"]}, "2.5", 2.5), ({"type": ["integer", "null"]}, "null", None),
        ({"anyOf": [{"type": "integer"}, {"type": "boolean"}]}, "false", False), ({"type": "string"}, "3", "3"),
        ({"type": ["string", "integer"]}, "3", "3"), ({"type": "integer"}, "three", "three"), ({"type": "integer"}, "3.5", "3.5"),
        ({"type": "array"}, "3", "3"), ({"type": "integer"}, "true", "true"), ({}, "3", "3"), ({"anyOf": [{"type": "integer"}, {}]}, "3", "3"),
        ({"type": "integer"}, 3, 3),
    ],
)  # fmt: skip
def test_strings_are_read_by_the_schema_if_it_allows_no_string(
    schema: dict[str, object], value: object, expected: object
) -> None:
    spec = ToolSpec(server="s", name="t", schema={"type": "object", "properties": {"x": schema}})
    assert read_strings_by_schema(spec, {"x": value, "y": "3"}) == {"x": expected, "y": "3"}
