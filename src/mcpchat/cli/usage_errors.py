"""Errors of the command line in our own words, not in those of the library that parses it."""

import re
from typing import Any

from mcpchat.util.text import did_you_mean

_VALUE = r"Invalid value for '([^']+)'(?: / '[^']+')*: "
_UNKNOWN_OPTION = re.compile(r"No such option: (\S+)(.*)")  # with the similar ones, if there are any
_UNKNOWN_COMMAND = re.compile(r"No such command '([^']+)'\.?(.*)")
_WORDINGS = (
    (_VALUE + r"Input should be a valid integer.*", r"\1: expected a whole number"),
    (_VALUE + r"Input should be a valid number.*", r"\1: expected a number"),
    (_VALUE + r"Input should be greater than or equal to (\S+)", r"\1: expected at least \2"),
    (_VALUE + r"Input should be less than or equal to (\S+)", r"\1: expected at most \2"),
    (_VALUE + r"(.*)", r"\1: \2"),
    (r"Missing argument '([^']+)'\.?", r"\1 is missing"),
    (r"Missing option '([^']+)'\.?", r"\1 is missing"),
    (r"Missing command\.?", r"a command is missing"),
    (r"Option '([^']+)' requires an argument\.?", r"\1 needs a value"),
    (r"Option '([^']+)' requires (\d+) arguments\.?", r"\1 needs \2 values"),
    (r"Option '([^']+)' does not take a value\.?", r"\1 takes no value"),
    (r"Got unexpected extra argument(?:s|\(s\))? \((.*)\)", r"not expected here: \1"),
)


def describe_usage_error(error: Exception) -> str:
    """The message of an error of the command line."""
    if type(error).__name__ == "NoArgsIsHelpError":
        context: Any = getattr(error, "ctx", None)
        names = [name for names in context.command.command_sections(context).values() for name in names]
        return f"a command is missing: {', '.join(names)}"
    format_message = getattr(error, "format_message", lambda: str(error))
    text = " ".join(str(format_message()).split())
    if match := _UNKNOWN_OPTION.match(text):
        options = re.findall(r"--?[\w-]+", match[2])
        return f"no such option: {match[1]}{did_you_mean(match[1], options)}"
    if match := _UNKNOWN_COMMAND.match(text):
        commands = re.findall(r"'([^']+)'", match[2])
        return f"no such command: {match[1]}{did_you_mean(match[1], commands)}"
    for pattern, words in _WORDINGS:
        if match := re.fullmatch(pattern, text):
            return match.expand(words)
    return text
