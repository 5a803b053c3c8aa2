"""Why a text is no JSON, in our own words."""

import json

import pytest

from mcpchat.util.json_problems import describe_json_error


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "character 1: a value was expected"),
        ("{x", "character 2: a name in double quotes was expected"),
        ('{"a": 1,\n\n}', "line 3, character 1: a name in double quotes was expected"),
        ('{"a" 1}', "character 6: a colon was expected"),
        ("[1 2]", "character 4: a comma was expected"),
        ("1 2", "character 3: more follows after the value"),
        ('"abc', "character 1: the text that begins there does not end"),
        ('"a\nb"', "line 1, character 3: a control character must be escaped"),
        ('"\\q"', "character 2: the escape is invalid"),
        ("[" * 100_000, "it is nested too deeply"),
        ("1" * 5000, "it has a number that JSON cannot have"),
    ],
)
def test_the_place_and_the_reason_are_named(text: str, problem: str) -> None:
    with pytest.raises((ValueError, RecursionError)) as error_info:
        json.loads(text)
    assert describe_json_error(error_info.value) == problem
