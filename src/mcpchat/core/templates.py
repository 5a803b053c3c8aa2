"""Texts with variables: ``$name``, ``${name}``, and ``${name:-what it is otherwise}``; ``$$`` is a dollar sign."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mcpchat.errors import UsageError
from mcpchat.util.text import closest_matches

_VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$)|\{(?P<braced>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\}|(?P<bare>[A-Za-z_]\w*))"
)
_PAIR = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
STDIN, WORDS = "stdin", "words"  # what a template may take besides its own variables
_ITSELF = {STDIN: "piped in", WORDS: "typed besides"}


class Variable(NamedTuple):
    """``default`` is None where a value must be given."""

    name: str
    default: str | None


def variables(text: str) -> list[Variable]:
    """The variables of the text in the order of their appearance; one default is enough for all places of a name."""
    found: dict[str, str | None] = {}
    for match in _VARIABLE.finditer(text):
        if name := match["braced"] or match["bare"]:
            found[name] = match["default"] if found.get(name) is None else found[name]
    return [Variable(name, default) for name, default in found.items()]


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with the values in their places. A variable without a value and a default stays as it is written.

    What is put in is not looked through again.
    """
    defaults = {one.name: one.default for one in variables(text) if one.default is not None}

    def value(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        name = match["braced"] or match["bare"]
        return values.get(name, defaults.get(name, match[0]))

    return _VARIABLE.sub(value, text)


def composed(name: str, text: str, words: Sequence[str], piped: str, known: Mapping[str, str]) -> str:
    """What a template makes of the words that were typed, and of what was piped in.

    Of the words those of the form KEY=VALUE whose key is a variable are values. The others stand in ``$words``, and
    what was piped in, in ``$stdin``; both come after the text where it has no place for them. ``known`` are values
    that need not be given. Raises UsageError that names what is lacking.
    """
    takes = {one.name: one.default for one in variables(text)}
    values = {key: value for key, value in known.items() if key in takes}
    others: list[str] = []
    for word in words:
        pair = _PAIR.fullmatch(word)
        if pair and pair[1] in {STDIN, WORDS} & set(takes):
            raise UsageError(f"${pair[1]} is what is {_ITSELF[pair[1]]}: it is not given as {pair[1]}=")
        if pair and pair[1] in takes:
            values[pair[1]] = pair[2]
        elif pair and (close := closest_matches(pair[1], takes, 1)):
            raise UsageError(
                f"the template {name} takes no {pair[1]!r}; did you mean {close[0]}?", hint=_takes(name, text)
            )
        else:
            others.append(word)
    after: list[str] = []
    for key, said in ((WORDS, " ".join(others)), (STDIN, piped)):
        if key in takes and (said or takes[key] is None):
            values.setdefault(key, said)
        elif said:
            after.append(said)
    if lacking := [one for one, default in takes.items() if default is None and one not in values]:
        raise UsageError(f"the template {name} needs {', '.join(lacking)}", hint=_takes(name, text))
    return "\n\n".join([filled(text, values).strip(), *after]).strip()


def _takes(name: str, text: str) -> str:
    own = (one for one in variables(text) if one.name not in _ITSELF)
    shown = (f"{one.name}=" if one.default is None else f"[{one.name}={one.default}]" for one in own)
    return f"{name} takes {' '.join(shown) or 'no values'}"
