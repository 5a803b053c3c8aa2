"""Which calls a rule is about: a glob of ``server.tool``, perhaps with conditions on arguments."""

import json
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase, translate
from typing import Any

from msgspec import Struct

_LONGEST = 100_000  # characters of a value that a pattern is tried on
_PATTERN = re.compile(r"(?P<glob>[^\s()]+)\s*(?:\((?P<conditions>.*)\))?", re.DOTALL)
_BETWEEN = re.compile(r",\s*(?=[\w.-]+\s*~?=)")
_CONDITION = re.compile(r"(?P<argument>[\w.-]+)\s*(?P<kind>~?=)\s*(?P<pattern>.*)", re.DOTALL)


class Condition(Struct, frozen=True, kw_only=True):
    """What an argument's value must be like: a glob, or a regular expression.

    ``argument`` is a name, or a path of names with dots between.
    """

    argument: str
    pattern: str
    regex: bool = False

    def __str__(self) -> str:
        return f"{self.argument}{'~=' if self.regex else '='}{self.pattern}"

    def met(self, arguments: Mapping[str, Any], *, by_all: bool) -> bool:
        """Whether the argument is given and like this: all that is in it, and the whole of it, or any part of it.

        What loosens must hold for all and as a whole, what restricts for anything: one stranger among the recipients
        is enough.
        """
        texts = [text for value in _at(arguments, self.argument) for text in _texts(value)]
        if by_all:
            return bool(texts) and all(self._whole(text) for text in texts)
        return any(self._anywhere(text) for text in texts)

    def _whole(self, text: str) -> bool:
        if len(text) > _LONGEST:
            return False
        if self.regex:
            return re.fullmatch(self.pattern, text) is not None
        # A path that climbs out of the folder is not in it.
        climbs = "/" in self.pattern and ".." in re.split(r"[/\\]", text)
        return not climbs and re.match(translate(self.pattern), text) is not None

    def _anywhere(self, text: str) -> bool:
        if len(text) > _LONGEST:
            return True  # who restricts is asked rather than passed over
        found = re.search(self.pattern, text) if self.regex else re.match(translate(self.pattern), text, re.IGNORECASE)
        return found is not None


class Pattern(Struct, frozen=True, kw_only=True):
    """``GLOB`` or ``GLOB(argument=glob, argument~=regex)``. A bare server name stands for all its tools."""

    glob: str
    conditions: tuple[Condition, ...] = ()

    def __str__(self) -> str:
        return f"{self.glob}({', '.join(map(str, self.conditions))})" if self.conditions else self.glob

    def matches(self, label: str, arguments: Mapping[str, Any], *, by_all: bool) -> bool:
        """Whether a call of ``server.tool`` with these arguments is meant; ``by_all`` as with a condition."""
        return matches(self.glob, label) and all(one.met(arguments, by_all=by_all) for one in self.conditions)


def matches(glob: str, label: str) -> bool:
    """Whether ``server.tool`` matches the glob; a bare server name stands for all its tools."""
    return fnmatchcase(label, glob if "." in glob or "*" in glob else f"{glob}.*")


def read_pattern(text: str) -> Pattern:
    """The pattern that is written so. Raises ValueError that says what is wrong with it."""
    found = _PATTERN.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no pattern; write SERVER.TOOL, or SERVER.TOOL(argument=glob)")
    written = found["conditions"]
    if written is None:
        return Pattern(glob=found["glob"])
    return Pattern(glob=found["glob"], conditions=tuple(_condition(one, text) for one in _BETWEEN.split(written)))


def _condition(written: str, whole: str) -> Condition:
    found = _CONDITION.fullmatch(written.strip())
    if found is None:
        raise ValueError(f"{whole!r}: {written.strip()!r} is no condition; write argument=glob or argument~=regex")
    regex = found["kind"] == "~="
    if regex:
        try:
            re.compile(found["pattern"])
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"{whole!r}: {found['pattern']!r} is no regular expression: {error}") from error
    return Condition(argument=found["argument"], pattern=found["pattern"], regex=regex)


def _at(value: object, path: str) -> Iterator[object]:
    """The values under a name, or a path of names; through lists too."""
    if isinstance(value, list):
        for inner in value:
            yield from _at(inner, path)
    elif isinstance(value, Mapping):
        if path in value:
            yield value[path]
            return
        name, _, rest = path.partition(".")
        if rest and name in value:
            yield from _at(value[name], rest)


def _texts(value: object) -> Iterator[str]:
    """All that is in a value, as texts: nothing for null."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
    elif value is not None:
        yield json.dumps(value)
