"""Patterns that select tool calls: a glob of ``server.tool`` and optional conditions on arguments."""

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase, translate
from typing import Any

from msgspec import Struct

from mcpchat.util.sanitize import strip_invisible

_MAX_VALUE_LENGTH = 100_000  # characters: longer values are not searched
_REGEX_TIMEOUT = 0.5  # seconds for a regular expression on one value: only a hostile one takes longer
_PATTERN = re.compile(r"(?P<glob>[^\s()]+)\s*(?:\((?P<conditions>.*)\))?", re.DOTALL)
_CONDITION_SEPARATOR = re.compile(r",\s*(?=[\w.-]+\s*~?=)")
_CONDITION = re.compile(r"(?P<argument>[\w.-]+)\s*(?P<kind>~?=)\s*(?P<pattern>.*)", re.DOTALL)
_PART_SEPARATORS = re.compile(r"[\s,;<>()\"']+")


class Condition(Struct, frozen=True, kw_only=True):
    """A condition on the value of an argument: a glob or a regular expression.

    ``argument`` is a name, or a path of names separated by dots.
    """

    argument: str
    pattern: str
    regex: bool = False

    def __str__(self) -> str:
        return f"{self.argument}{'~=' if self.regex else '='}{self.pattern}"

    def matches(self, arguments: Mapping[str, Any], *, match_all: bool) -> bool:
        """Whether the argument is present and its value matches.

        With ``match_all`` every value inside the argument must match as a whole; without, a match of any part of any
        value is enough. A rule that allows needs ``match_all``; a rule that asks or denies must not use it: one unknown
        address among the recipients is enough.
        """
        values = list(_values_at(arguments, self.argument))
        if match_all and any(value is _MISSING for value in values):
            return False
        text_forms = [text for value in values if value is not _MISSING for text in _text_forms(value)]
        if match_all:
            return bool(text_forms) and all(any(self._matches_whole(form) for form in forms) for forms in text_forms)
        return any(self._search_anywhere(form) for forms in text_forms for form in forms)

    def _matches_whole(self, text: str) -> bool:
        # A path with ".." leads elsewhere than its beginning says; any text may be a path.
        if len(text) > _MAX_VALUE_LENGTH or (self.pattern != "*" and ".." in re.split(r"[/\\]", text)):
            return False
        if self.regex:
            return _regex_matches(self.pattern, text, full_match=True) is True
        return re.match(translate(self.pattern), text) is not None

    def _search_anywhere(self, text: str) -> bool:
        if len(text) > _MAX_VALUE_LENGTH:
            return True  # a restricting rule applies if in doubt
        if self.regex:
            return _regex_matches(self.pattern, text, full_match=False) is not False
        glob = re.compile(translate(self.pattern), re.IGNORECASE)
        return any(glob.match(variant) for variant in _path_variants(text))


def _path_variants(text: str) -> Iterator[str]:
    """The text and each of its words, and each of them as a normalized path."""
    for part in dict.fromkeys((text, *_PART_SEPARATORS.split(text))):
        yield part
        if "/" in part:
            yield re.sub("^/+", "/", posixpath.normpath(part))


def _regex_matches(pattern: str, text: str, *, full_match: bool) -> bool | None:
    """Whether the regular expression matches; None if matching takes too long."""
    import regex  # rarely needed, and slow to import

    try:
        compiled = regex.compile(pattern, 0 if full_match else regex.IGNORECASE)
        match = (
            compiled.fullmatch(text, timeout=_REGEX_TIMEOUT)
            if full_match
            else compiled.search(text, timeout=_REGEX_TIMEOUT)
        )
    except TimeoutError:
        return None
    return match is not None


class Pattern(Struct, frozen=True, kw_only=True):
    """``GLOB`` or ``GLOB(argument=glob, argument~=regex)``. A bare server name matches all tools of the server."""

    glob: str
    conditions: tuple[Condition, ...] = ()

    def __str__(self) -> str:
        return f"{self.glob}({', '.join(map(str, self.conditions))})" if self.conditions else self.glob

    def matches(self, qualified_name: str, arguments: Mapping[str, Any], *, match_all: bool) -> bool:
        """Whether the pattern matches a call of this tool with these arguments; ``match_all`` as in Condition."""
        # A restricting rule also matches names that differ only in case or in invisible characters.
        name_matches = glob_matches(self.glob, qualified_name) or (
            not match_all and glob_matches(self.glob.lower(), strip_invisible(qualified_name).lower())
        )
        return name_matches and all(condition.matches(arguments, match_all=match_all) for condition in self.conditions)


def glob_matches(glob: str, qualified_name: str) -> bool:
    """Whether ``server.tool`` matches the glob; a bare server name matches all tools of the server."""
    return fnmatchcase(qualified_name, glob if "." in glob or "*" in glob else f"{glob}.*")


def parse_pattern(text: str) -> Pattern:
    """Parse a pattern. Raises ValueError, with a message for the user, if it is invalid."""
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a pattern; write SERVER.TOOL or SERVER.TOOL(argument=glob)")
    conditions = match["conditions"]
    if conditions is None:
        return Pattern(glob=match["glob"])
    return Pattern(
        glob=match["glob"],
        conditions=tuple(_parse_condition(condition, text) for condition in _CONDITION_SEPARATOR.split(conditions)),
    )


def _parse_condition(text: str, pattern_text: str) -> Condition:
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{pattern_text!r}: {text.strip()!r} is not a condition; write argument=glob or argument~=regex"
        )
    is_regex = match["kind"] == "~="
    if is_regex:
        import regex

        try:
            regex.compile(match["pattern"])
        except (regex.error, OverflowError, RecursionError, ValueError) as error:
            raise ValueError(f"{pattern_text!r}: {match['pattern']!r} is not a regular expression: {error}") from error
    return Condition(argument=match["argument"], pattern=match["pattern"], regex=is_regex)


_MISSING = object()  # marks a list item without the argument


def _values_at(value: object, path: str, *, in_list: bool = False) -> Iterator[object]:
    """The values under a name or a path of names, also inside lists. Names that contain dots are tried, too."""
    if isinstance(value, list):
        for inner in value:
            yield from _values_at(inner, path, in_list=True)
        return
    has_match = False
    if isinstance(value, Mapping):
        names = path.split(".")
        for count in range(len(names), 0, -1):
            name, rest = ".".join(names[:count]), ".".join(names[count:])
            if name in value:
                inner_values = list(_values_at(value[name], rest, in_list=in_list)) if rest else [value[name]]
                has_match = has_match or bool(inner_values)
                yield from inner_values
    if in_list and not has_match:
        yield _MISSING


def _text_forms(value: object) -> Iterator[tuple[str, ...]]:
    """Each scalar and key inside the value, as a tuple of the forms in which it can be written; nothing for null."""
    if isinstance(value, str):
        yield (value,)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield (str(key),)
            yield from _text_forms(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _text_forms(inner)
    elif value is not None:
        encoded = json.dumps(value)
        is_whole_number = isinstance(value, float) and value.is_integer()
        yield (encoded, str(int(value))) if is_whole_number else (encoded,)  # type: ignore[call-overload]
