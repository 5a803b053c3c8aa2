"""Text templates with variables: ``$name``, ``${name}`` and ``${name:-default}``; ``$$`` is a dollar sign."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mcpchat.errors import UsageError
from mcpchat.util.text import closest_matches

_VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$)|\{(?P<braced>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\}|(?P<bare>[A-Za-z_]\w*))"
)
_PAIR = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
STDIN_VARIABLE, WORDS_VARIABLE = "stdin", "words"  # implicit variables
_IMPLICIT_VARIABLES = {STDIN_VARIABLE: "the piped text", WORDS_VARIABLE: "the other words"}


class Variable(NamedTuple):
    """A variable of a template. ``default`` is None if a value is required."""

    name: str
    default: str | None


def find_variables(text: str) -> list[Variable]:
    """The variables of the text in order of appearance. A default in one place applies to all places of the name."""
    defaults: dict[str, str | None] = {}
    for match in _VARIABLE.finditer(text):
        if name := match["braced"] or match["bare"]:
            defaults[name] = match["default"] if defaults.get(name) is None else defaults[name]
    return [Variable(name, default) for name, default in defaults.items()]


def render(text: str, values: Mapping[str, str]) -> str:
    """Replace the variables with their values or defaults. A variable without either stays unchanged.

    Variables inside the inserted values are not replaced.
    """
    defaults = {variable.name: variable.default for variable in find_variables(text) if variable.default is not None}

    def substitute(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        name = match["braced"] or match["bare"]
        return values.get(name, defaults.get(name, match[0]))

    return _VARIABLE.sub(substitute, text)


def compose_prompt(
    name: str, text: str, args: Sequence[str], stdin_text: str, default_values: Mapping[str, str]
) -> str:
    """Build a prompt from a template, the words that the user typed, and the text that was piped in.

    Each word KEY=VALUE whose key is a variable sets that variable. The other words replace ``$words``, the piped text
    replaces ``$stdin``; if the template lacks these variables, they are appended. ``default_values`` are used for
    variables without a word. Raises UsageError if a required variable has no value or a key is misspelt.
    """
    declared = {variable.name: variable.default for variable in find_variables(text)}
    values = {key: value for key, value in default_values.items() if key in declared}
    free_args: list[str] = []
    for arg in args:
        pair = _PAIR.fullmatch(arg)
        if pair and pair[1] in {STDIN_VARIABLE, WORDS_VARIABLE} & set(declared):
            raise UsageError(f"${pair[1]} stands for {_IMPLICIT_VARIABLES[pair[1]]} and cannot be set with {pair[1]}=")
        if pair and pair[1] in declared:
            values[pair[1]] = pair[2]
        elif pair and (close := closest_matches(pair[1], declared, 1)):
            raise UsageError(
                f"the template {name} has no variable {pair[1]!r}; did you mean {close[0]}?",
                hint=_describe_variables(name, text),
            )
        else:
            free_args.append(arg)
    suffixes: list[str] = []
    for key, content in ((WORDS_VARIABLE, " ".join(free_args)), (STDIN_VARIABLE, stdin_text)):
        if key in declared and (content or declared[key] is None):
            values.setdefault(key, content)
        elif content:
            suffixes.append(content)
    if missing := [variable for variable, default in declared.items() if default is None and variable not in values]:
        raise UsageError(f"the template {name} needs {', '.join(missing)}", hint=_describe_variables(name, text))
    return "\n\n".join([render(text, values).strip(), *suffixes]).strip()


def _describe_variables(name: str, text: str) -> str:
    declared = (variable for variable in find_variables(text) if variable.name not in _IMPLICIT_VARIABLES)
    descriptions = (
        f"{variable.name}=" if variable.default is None else f"[{variable.name}={variable.default}]"
        for variable in declared
    )
    return f"{name} takes {' '.join(descriptions) or 'no values'}"
