"""Which calls a rule is about: a glob of ``server.tool``, perhaps with conditions on arguments."""

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase, translate
from typing import Any

from msgspec import Struct

from mcpchat.util.sanitize import visible

_LONGEST = 100_000  # characters of a value that a pattern is tried on
_PATIENCE = 0.5  # seconds for a regular expression on one value: what takes longer was made to
_PATTERN = re.compile(r"(?P<glob>[^\s()]+)\s*(?:\((?P<conditions>.*)\))?", re.DOTALL)
_BETWEEN = re.compile(r",\s*(?=[\w.-]+\s*~?=)")
_CONDITION = re.compile(r"(?P<argument>[\w.-]+)\s*(?P<kind>~?=)\s*(?P<pattern>.*)", re.DOTALL)
_PIECES = re.compile(r"[\s,;<>()\"']+")


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
        found = list(_at(arguments, self.argument))
        if by_all and any(value is _ABSENT for value in found):
            return False
        texts = [text for value in found if value is not _ABSENT for text in _texts(value)]
        if by_all:
            return bool(texts) and all(any(self._whole(form) for form in forms) for forms in texts)
        return any(self._anywhere(form) for forms in texts for form in forms)

    def _whole(self, text: str) -> bool:
        # A path that climbs is not where it says; what is of any kind may be a path too.
        if len(text) > _LONGEST or (self.pattern != "*" and ".." in re.split(r"[/\\]", text)):
            return False
        if self.regex:
            return _matches(self.pattern, text, whole=True) is True
        return re.match(translate(self.pattern), text) is not None

    def _anywhere(self, text: str) -> bool:
        if len(text) > _LONGEST:
            return True  # who restricts is asked rather than passed over
        if self.regex:
            return _matches(self.pattern, text, whole=False) is not False
        glob = re.compile(translate(self.pattern), re.IGNORECASE)
        return any(glob.match(spelling) for spelling in _spellings(text))


def _spellings(text: str) -> Iterator[str]:
    """The text, each piece of it, and each as the path that it comes down to."""
    for piece in dict.fromkeys((text, *_PIECES.split(text))):
        yield piece
        if "/" in piece:
            yield re.sub("^/+", "/", posixpath.normpath(piece))


def _matches(pattern: str, text: str, *, whole: bool) -> bool | None:
    """Whether the regular expression fits; None where that takes too long to tell."""
    import regex  # a rule with one is rare, and this is slow to import

    try:
        compiled = regex.compile(pattern, 0 if whole else regex.IGNORECASE)
        found = compiled.fullmatch(text, timeout=_PATIENCE) if whole else compiled.search(text, timeout=_PATIENCE)
    except TimeoutError:
        return None
    return found is not None


class Pattern(Struct, frozen=True, kw_only=True):
    """``GLOB`` or ``GLOB(argument=glob, argument~=regex)``. A bare server name stands for all its tools."""

    glob: str
    conditions: tuple[Condition, ...] = ()

    def __str__(self) -> str:
        return f"{self.glob}({', '.join(map(str, self.conditions))})" if self.conditions else self.glob

    def matches(self, label: str, arguments: Mapping[str, Any], *, by_all: bool) -> bool:
        """Whether a call of ``server.tool`` with these arguments is meant; ``by_all`` as with a condition."""
        # What restricts is not passed over for the case of a letter, or one that nobody sees.
        meant = matches(self.glob, label) or (not by_all and matches(self.glob.lower(), visible(label).lower()))
        return meant and all(one.met(arguments, by_all=by_all) for one in self.conditions)


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
    is_regex = found["kind"] == "~="
    if is_regex:
        import regex

        try:
            regex.compile(found["pattern"])
        except (regex.error, OverflowError, RecursionError, ValueError) as error:
            raise ValueError(f"{whole!r}: {found['pattern']!r} is no regular expression: {error}") from error
    return Condition(argument=found["argument"], pattern=found["pattern"], regex=is_regex)


_ABSENT = object()  # in a list, one that lacks what its neighbours have


def _at(value: object, path: str, *, among: bool = False) -> Iterator[object]:
    """The values under a name, or a path of names, however it is read; through lists too."""
    if isinstance(value, list):
        for inner in value:
            yield from _at(inner, path, among=True)
        return
    found = False
    if isinstance(value, Mapping):
        names = path.split(".")
        for count in range(len(names), 0, -1):
            name, rest = ".".join(names[:count]), ".".join(names[count:])
            if name in value:
                inside = list(_at(value[name], rest, among=among)) if rest else [value[name]]
                found = found or bool(inside)
                yield from inside
    if among and not found:
        yield _ABSENT


def _texts(value: object) -> Iterator[tuple[str, ...]]:
    """All that is in a value, keys too, each in the forms that it could be written in: nothing for null."""
    if isinstance(value, str):
        yield (value,)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield (str(key),)
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
    elif value is not None:
        written = json.dumps(value)
        whole = isinstance(value, float) and value.is_integer()
        yield (written, str(int(value))) if whole else (written,)  # type: ignore[call-overload]
