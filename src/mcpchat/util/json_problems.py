"""Say in our own words why a text is no JSON."""

import json

_WORDS = {
    "Expecting value": "a value was expected",
    "Expecting property name": "a name in double quotes was expected",
    "Illegal trailing comma": "a comma is followed by nothing",
    "Expecting ',' delimiter": "a comma was expected",
    "Expecting ':' delimiter": "a colon was expected",
    "Extra data": "more follows after the value",
    "Unterminated string": "the text that begins there does not end",
    "Invalid control character": "a control character must be escaped",
    "Invalid \\": "the escape is invalid",
}


def describe_json_error(error: Exception) -> str:
    """Where and why a text is no JSON, such as ``line 3, character 2: a comma was expected``.

    The line is left out if there is only one.
    """
    if not isinstance(error, json.JSONDecodeError):
        return (
            "it is nested too deeply" if isinstance(error, RecursionError) else "it has a number that JSON cannot have"
        )
    reason = next((words for beginning, words in _WORDS.items() if error.msg.startswith(beginning)), "")
    place = f"character {error.colno}"
    place = f"line {error.lineno}, {place}" if "\n" in error.doc else place
    return f"{place}: {reason}" if reason else place
