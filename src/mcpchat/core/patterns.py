"""Patterns that select tool calls: a glob of ``server.tool`` and optional conditions on arguments."""

import json
import re
import string
from collections.abc import Iterator, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase, translate
from typing import Any, Literal

from msgspec import Struct

from mcpchat.core.destinations import (
    destinations,
    is_destination,
    is_path,
    is_url,
    leaves_folder,
    list_pieces,
    url_pieces,
    without_others,
    words,
)
from mcpchat.core.mail_addresses import find_joined_addresses, find_recipients, lower_domains
from mcpchat.core.restricted_forms import restricted_forms
from mcpchat.core.shell_commands import command_pieces, runs_more
from mcpchat.core.text_forms import decoded_forms, fold_name

_MAX_VALUE_LENGTH = 100_000  # characters: longer values are not searched
_MAX_REPEATS = 10_000  # of a regular expression: more of them take too much memory
_REGEX_TIMEOUT = 0.5  # seconds for a regular expression on one value: only a hostile one takes longer
_PATTERN = re.compile(r"(?P<glob>[^\s()]+)\s*(?:\((?P<conditions>.*)\))?", re.DOTALL)
_CONDITION_SEPARATOR = re.compile(r",\s*(?=[\w.-]+\s*~?=|only\s*(?:,|$))")
_CONDITION = re.compile(r"(?P<argument>[\w.-]+)\s*(?P<kind>~?=)\s*(?P<pattern>.*)", re.DOTALL)
_NO_TEXT = re.compile(r"\{\d*,\d*\}|\[\^[^\]]*\]")  # in a regular expression: repetitions, and what is excluded
_ONLY = "only"
_LIST_END = f"{string.whitespace},;"
_MAX_DESTINATIONS = 100  # in a value that a regular expression allows
_Path = tuple[str, ...]  # the names of an argument and of what is in it


class Condition(Struct, frozen=True, kw_only=True):
    """A condition on the value of an argument: a glob or a regular expression.

    ``argument`` is a name, or a path of names separated by dots.
    """

    argument: str
    pattern: str
    regex: bool

    def __str__(self) -> str:
        return f"{self.argument}{'~=' if self.regex else '='}{self.pattern}"

    def matches(self, arguments: Mapping[str, Any], *, match_all: bool) -> bool:
        """Whether the argument is present and its value matches.

        With ``match_all`` every value inside the argument must match as a whole, in each form in which a server could
        read it and in each piece that it could split out; without, a match of any form or part of any value is enough.
        A rule that allows needs ``match_all``; a rule that asks or denies must not use it: one unknown address among
        the recipients is enough.
        """
        values = list(_values_at(arguments, self.argument, exact=match_all))
        if match_all and any(value is _MISSING for value in values):
            return False
        text_forms = [text for value in values if value is not _MISSING for text in _text_forms(value)]
        if match_all:
            return bool(text_forms) and all(any(self.covers(form) for form in forms) for forms in text_forms)
        joined = [" ".join(map(str, value)) for value in values if isinstance(value, list)]  # a command as a list
        return any(self._search_anywhere(form) for forms in (*text_forms, joined) for form in forms)

    def covers(self, text: str) -> bool:
        """Whether the pattern matches the text in every form and in every piece of it."""
        if not self.regex and self.pattern in ("*", text):
            return self.pattern == "*" or not leaves_folder(text)
        if len(text) > _MAX_VALUE_LENGTH:
            return False
        if "@" in self.pattern:
            text = text.rstrip(_LIST_END)
            text = lower_domains(text) if lower_domains(self.pattern) == self.pattern else text
        return all(self._covers_form(form) for form in decoded_forms(text))

    def _covers_form(self, text: str) -> bool:
        if leaves_folder(text) or not self._matches_whole(self.pattern, text):
            return False
        as_url = is_url(text) and "/" in self.pattern
        if as_url and runs_more(text):
            return False
        # A rule such as "git *" is about a command; one such as "/home/me/*" is not.
        is_command = re.search(r"\s|\\s", self.pattern.strip()) is not None and not is_path(self.pattern)
        kind: Literal["command", "text", "url"] = "url" if as_url else "command" if is_command else "text"
        commands, words_of_pattern, items = [self.pattern], [self.pattern], [self.pattern]
        if not self.regex:
            commands += command_pieces(self.pattern)
            words_of_pattern += words(self.pattern)
            items += [*self.pattern.split(","), *words_of_pattern]
        else:
            words_of_pattern += _regex_words(self.pattern)
        # A comma in the value is part of the text then.
        is_text = self.regex and re.search(r"\s|,|\\s", _NO_TEXT.sub("", self.pattern)) is not None
        return (
            all(self._matches_any(commands, piece) for piece in command_pieces(text, kind=kind))
            and all(
                self._matches_any(items, piece) for piece in list_pieces(text) if not is_text or is_destination(piece)
            )
            and all(self._matches_any(words_of_pattern, piece) for piece in url_pieces(text))
            and all(self._matches_any(items, address) for address in self._find_addresses(text))
            and self._covers_destinations(words_of_pattern, text)
        )

    def _covers_destinations(self, words_of_pattern: list[str], text: str) -> bool:
        """Whether each path, URL and address in the text matches a word of the pattern.

        One of a regular expression's text also matches if the text with it alone does.
        """
        found = dict.fromkeys(destinations(text))
        return all(
            self._matches_any(words_of_pattern, word.strip(",;"))
            or (
                self.regex
                and len(found) <= _MAX_DESTINATIONS
                and " " in text
                and self._matches_whole(self.pattern, without_others(text, word))
            )
            for word in found
        )

    def _find_addresses(self, text: str) -> list[str]:
        """The addresses in a value of a condition about addresses, however they are joined."""
        return find_joined_addresses(text) if "@" in self.pattern and text.count("@") > 1 else []

    def _matches_any(self, patterns: list[str], text: str) -> bool:
        """Whether one of the patterns matches; for an address, one that is about addresses if the condition is."""
        if "@" in text and "@" in self.pattern:
            patterns = [pattern for pattern in patterns if "@" in pattern]
        return any(self._matches_whole(pattern.strip(), text) for pattern in patterns)

    def _matches_whole(self, pattern: str, text: str) -> bool:
        if self.regex:
            return _regex_matches(pattern, text, full_match=True) is True
        return re.match(translate(pattern), text) is not None

    def _search_anywhere(self, text: str) -> bool:
        if len(text) > _MAX_VALUE_LENGTH:
            return True  # a restricting rule applies if in doubt
        if self.regex:
            return any(
                _regex_matches(self.pattern, form, full_match=False) is not False for form in restricted_forms(text)
            )
        glob = re.compile(translate(self.pattern), re.IGNORECASE)
        return any(glob.match(form) for form in restricted_forms(text))


def _regex_words(pattern: str) -> list[str]:
    """The parts of a regular expression between blanks; none if a blank is within a group or a set."""
    import regex

    parts = pattern.split(" ")
    try:
        for part in parts:
            regex.compile(part)
    except regex.error:
        return []
    return [part for part in parts if part]


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
    """``GLOB`` or ``GLOB(argument=glob, argument~=regex, only)``. A bare server name matches all tools of the server.

    With ``only``, a rule that allows matches no call with an argument that no condition names.
    """

    glob: str
    conditions: tuple[Condition, ...] = ()
    only: bool = False

    def __str__(self) -> str:
        parts = [*map(str, self.conditions), *([_ONLY] if self.only else [])]
        return f"{self.glob}({', '.join(parts)})" if parts else self.glob

    def matches(self, qualified_name: str, arguments: Mapping[str, Any], *, match_all: bool) -> bool:
        """Whether the pattern matches a call of this tool with these arguments; ``match_all`` as in Condition."""
        # A restricting rule also matches names that differ only in case, or in how their characters are written.
        name_matches = glob_matches(self.glob, qualified_name) or (
            not match_all and glob_matches(self.glob.lower(), fold_name(qualified_name))
        )
        if not name_matches:
            return False
        if not match_all:
            return all(condition.matches(arguments, match_all=False) for condition in self.conditions)
        return self._conditions_hold(arguments) and self._others_hold(arguments)

    def _conditions_hold(self, arguments: Mapping[str, Any]) -> bool:
        return all(
            condition.matches(arguments, match_all=True)
            or (self.only and condition.pattern == "*" and not list(_values_at(arguments, condition.argument)))
            for condition in self.conditions
        )

    def _others_hold(self, arguments: Mapping[str, Any]) -> bool:
        """Whether the arguments that no condition names change nothing about the rule.

        With ``only`` there must be none. Else, if a condition is about e-mail addresses, the addresses in other
        arguments must match it too: a copy is sent to bcc as well.
        """
        names = {condition.argument for condition in self.conditions}
        others = [(path, text) for path, text in _leaves(arguments) if not _is_within(path, names)]
        if self.only:
            named = {name.partition(".")[0] for name in names}
            return not others and all(
                key in named for key, value in arguments.items() if value not in (None, "", [], {})
            )
        address_conditions = [condition for condition in self.conditions if "@" in condition.pattern]
        addresses = (
            [address for path, text in others for address in find_recipients(path, text)] if address_conditions else []
        )
        return all(any(condition.covers(address) for condition in address_conditions) for address in addresses)


def _leaves(value: object, path: _Path = ()) -> Iterator[tuple[_Path, str]]:
    """Yield the path and the text of each scalar inside the value; nothing for null and empty texts."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if "@" in str(name):  # a table of addresses
                yield path or ("",), str(name)
            yield from _leaves(inner, (*path, str(name)))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner, path)
    elif value is not None and value != "":
        yield path, value if isinstance(value, str) else json.dumps(value)


def _is_within(path: _Path, names: set[str]) -> bool:
    return any(".".join(path[:count]) in names for count in range(1, len(path) + 1))


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
    parts = _CONDITION_SEPARATOR.split(conditions)
    return Pattern(
        glob=match["glob"],
        conditions=tuple(_parse_condition(part, text) for part in parts if part.strip() != _ONLY),
        only=any(part.strip() == _ONLY for part in parts),
    )


def _parse_condition(text: str, pattern_text: str) -> Condition:
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{pattern_text!r}: {text.strip()!r} is not a condition; write argument=glob, argument~=regex or only"
        )
    is_regex = match["kind"] == "~="
    if is_regex:
        import regex

        if any(int(number) > _MAX_REPEATS for number in re.findall(r"[{,](\d+)", match["pattern"])):
            raise ValueError(f"{pattern_text!r}: a regular expression repeats at most {_MAX_REPEATS:,} times")
        try:
            regex.compile(match["pattern"])
        except (regex.error, OverflowError, RecursionError, ValueError) as error:
            raise ValueError(f"{pattern_text!r}: {match['pattern']!r} is not a regular expression: {error}") from error
    return Condition(argument=match["argument"], pattern=match["pattern"], regex=is_regex)


_MISSING = object()  # marks a list item without the argument


def _values_at(value: object, path: str, *, exact: bool = True, in_list: bool = False) -> Iterator[object]:
    """The values under a name or a path of names, also inside lists. Names that contain dots are tried, too.

    If ``exact``, a name that another one could be taken for ("path" beside "Path") counts as missing; else the values
    of all such names are found, also in a text that is JSON.
    """
    if not exact and isinstance(value, str) and value.lstrip()[:1] in ("{", "[") and len(value) <= _MAX_VALUE_LENGTH:
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    if isinstance(value, list):
        for inner in value:
            yield from _values_at(inner, path, exact=exact, in_list=True)
        return
    has_match = False
    if isinstance(value, Mapping):
        names = path.split(".")
        for count in range(len(names), 0, -1):
            name, rest = ".".join(names[:count]), ".".join(names[count:])
            similar = [key for key in value if key == name or fold_name(str(key)) == fold_name(name)]
            if exact and name in similar and len(similar) > 1:
                yield _MISSING
            for key in similar:
                if exact and key != name:
                    continue
                inner_values = (
                    list(_values_at(value[key], rest, exact=exact, in_list=in_list)) if rest else [value[key]]
                )
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
