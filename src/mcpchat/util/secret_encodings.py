"""The encodings in which a secret can appear in a text, and the readings of a text in which one can be found."""

import base64
import html
import json
import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote, quote_plus

import msgspec

from mcpchat.util.sanitize import INVISIBLE_CHARACTER

MIN_LENGTH = 8  # characters; shorter secrets would redact ordinary words
_MAX_LEVELS = 3  # of escapes within escapes: JSON in JSON in JSON

# An escaped character of JSON, C, a URL or HTML; or a NUL, as between the letters of UTF-16.
_ESCAPE = re.compile(
    r"(?:\\u|\\x|%|&\#[xX])(?P<hex>(?<=\\u)[0-9A-Fa-f]{4}|(?<=\\x)[0-9A-Fa-f]{2}|(?<=%)[0-9A-Fa-f]{2}|(?<=&\#[xX])[0-9A-Fa-f]{1,6}(?=;));?"
    r"|\\u\{(?P<braced>[0-9A-Fa-f]{1,6})\}|&\#(?P<entity>[0-9]{1,7});|&(?:amp|lt|gt|quot|apos);"
    r"|\\(?P<octal>[0-3][0-7]{2})|\\(?P<plain>[\"'/\\])|\0"
)
_PARTIAL_ESCAPE = re.compile(
    r"(?:\\+(?:u\{?[0-9A-Fa-f]{0,6}|x[0-9A-Fa-f]?|[0-3][0-7]?)?|%(?:25){0,2}[0-9A-Fa-f]?|&(?:\#[xX]?[0-9A-Fa-f]{0,7}|[a-z]{0,4}))\Z"
)
_MAX_ESCAPE = 16  # characters
_NAMED_ESCAPES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'"}
# Control characters, but for white space, and the sequences that set a terminal's colours, links and the like, also as
# escapes or pictures; and a character that is struck over.
_ESC = r"(?:[\x1b\u241b]|(?<!\x1b)\\(?:u001[bB]|x1[bB]|033|e)(?=[\[\]()]|\Z))"
_CONTROL = re.compile(
    rf"(?:{_ESC}\[|\x9b(?=[0-?]))[0-?]{{0,40}}[ -/]{{0,4}}[@-~]"
    rf"|(?:{_ESC}\]|\x9d)[^\x07\x1b\x9c\x9d]{{0,2000}}(?:\x07|\x9c|\x1b\\)"
    rf"|{_ESC}[()*+][0-9A-Za-z]|[^\x08\n]\x08"
    rf"|{_ESC}|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2400-\u2421]"
)
_HAS_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2400-\u2421]|\\(?:u001[bB]|x1[bB]|033|e[\[\]()])")
_PARTIAL_CONTROL = re.compile(
    rf"(?:(?:{_ESC}(?:\[[0-?]{{0,40}}[ -/]{{0,4}}|[()*+]|\][^\x07\x1b\x9c\x9d]{{0,2000}}\x1b?)?"
    r"|\x9b[0-?]{0,40}[ -/]{0,4}|\x9d[^\x07\x1b\x9c\x9d]{0,2000}\x1b?)|(?<!\x1b)\\(?:u(?:0(?:01?)?)?|x1?|03?)?)\Z"
)
_MAX_CONTROL = 2010  # characters
_CAN_BE_PARTIAL = re.compile(r"[\x1b\x9b\x9d\u241b\\]")
# What stands between the digits of bytes, and between the lines of base64: 5A:42, 0x5a, 0x42, the lines of a mail.
_BYTE_BREAK = re.compile(r"(?:[\s,:;{}-]|\\x|0x|\\[nr])+", re.IGNORECASE)
_HEX_RUN = re.compile(r"[0-9A-Fa-f](?:[0-9A-Fa-f\s,:;{}-]|\\[xXnr]|(?<=0)[xX]){14,}+")
_HEX_CHARACTERS = "0123456789abcdefABCDEF \t\r\n,:;{}-\\xXnr"
_LINE_BREAK = re.compile(r"(?:[\s>|]|\\[nr])+")
_BASE64_LINES = re.compile(
    r"(?<![A-Za-z0-9+/=_-])[A-Za-z0-9+/=_-]{4,}+"
    r"(?:[ \t]*+(?:\n|\r|\\[nr])(?:[\s>|]|\\[nr])*+[A-Za-z0-9+/=_-]++)+"
)
_BASE64_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_- \t\r\n\\>|"


class Reading(NamedTuple):
    """A text as somebody reads it, with the places of its characters in the original text.

    ``starts`` is None if the text is as it was. ``ends`` says for each character where the one before it ended, if a
    character can be longer than one.
    """

    text: str
    starts: list[int] | None
    ends: list[int] | None = None

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """The place in the text itself of what is from ``start`` to ``stop``."""
        if self.starts is None:
            return start, stop
        return self.starts[start], self.ends[stop] if self.ends is not None else self.starts[stop - 1] + 1

    def find_index(self, place: int) -> int:
        """The first character that did not begin before the place in the text itself."""
        return place if self.starts is None else bisect_left(self.starts, place)

    def place(self, index: int) -> int:
        """Where the character began in the text itself."""
        return index if self.starts is None else self.starts[index]


def encode_secret(secret: str) -> set[str]:
    """The secret as it is, and as escapes, URLs, HTML and base64 write it."""
    raw = secret.encode(errors="replace")  # a variable may have bytes that are no UTF-8
    text = raw.decode()
    percent_encoded, json_escaped = quote(text, safe=""), json.dumps(secret)[1:-1]
    lines = {line for line in secret.splitlines() if len(line) >= MIN_LENGTH and "-----" not in line}
    return {
        secret,
        percent_encoded,
        re.sub(r"%..", lambda match: match[0].lower(), percent_encoded),
        quote(text),
        quote_plus(text),
        html.escape(secret),
        json_escaped,
        json_escaped.replace("/", "\\/"),
        *base64_forms(secret),
        raw.decode("latin-1"),  # percent encoding of letters beyond ASCII, decoded byte by byte
        msgspec.json.encode(text).decode()[1:-1],
        *lines,
    }


def hex_forms(secret: str) -> set[str]:
    """The bytes of the secret in lower-case hexadecimal digits, in UTF-8 and UTF-16."""
    text = secret.encode(errors="replace").decode()
    return {text.encode(encoding).hex() for encoding in ("utf-8", "utf-16-le", "utf-16-be")}


def base64_forms(secret: str) -> set[str]:
    """How the secret appears in base64, also within a longer text, such as ``user:secret``."""
    raw = secret.encode(errors="replace")
    return {*_base64_forms(raw), *_base64_forms(raw.decode().encode("utf-16-le"))}


def _base64_forms(secret: bytes) -> Iterator[str]:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(secret).decode().rstrip("=")
        for before, cut in ((0, 0), (1, 2), (2, 3)):  # bytes before it, and the characters that depend on them
            encoded = encode(b"\0" * before + secret).decode().rstrip("=")
            inner = encoded[cut : len(encoded) - (1 if (before + len(secret)) % 3 else 0)]
            if len(inner) >= MIN_LENGTH:
                yield inner


def read_visible(text: str) -> Iterator[Reading]:
    """The text without invisible characters; also without controls, and with a blank for each, if it has some.

    ``grep --color`` puts colours into the middle of a word, and between two words.
    """
    yield _drop_invisible(text)
    if _HAS_CONTROL.search(text):
        yield _replace(text, _CONTROL, "")
        yield _replace(text, _CONTROL, " ")


def read_escapes(reading: Reading) -> Iterator[Reading]:
    """The text with its escapes decoded, once and again if there are escapes within escapes."""
    for _ in range(_MAX_LEVELS):
        if not _ESCAPE.search(reading.text):
            return
        text, inner = _decode_escapes(reading.text)
        if reading.starts is None:
            reading = Reading(text, inner, inner)
        else:
            starts, ends = reading.starts, reading.ends or [0, *(start + 1 for start in reading.starts[:-1])]
            reading = Reading(text, [starts[start] for start in inner], [ends[end] for end in inner])
        yield reading


def read_hex(text: str) -> Iterator[tuple[int, Reading]]:
    """The parts of the text that are digits of bytes, however they are separated: where each is, and its digits."""
    for run in _HEX_RUN.finditer(text):
        yield run.start(), _replace(run[0].lower(), _BYTE_BREAK, "")


def read_lines(text: str) -> Iterator[tuple[int, Reading]]:
    """The parts of the text that could be base64 in several lines: where each is, and its characters."""
    for run in _BASE64_LINES.finditer(text):
        yield run.start(), _replace(run[0], _LINE_BREAK, "")


def read_open_hex(text: str) -> Iterator[tuple[int, Reading]]:
    """The end of the text, as far as it could be digits of bytes: where it is, and its digits.

    Also without its last character, which can belong to what stands between bytes.
    """
    start = len(text.rstrip(_HEX_CHARACTERS))
    yield start, _replace(text[start:].lower(), _BYTE_BREAK, "")
    if text.endswith(("0", "\\")):
        yield start, _replace(text[start:-1].lower(), _BYTE_BREAK, "")


def read_open_lines(text: str) -> Iterator[tuple[int, Reading]]:
    """The end of the text, as far as it could be base64 in several lines: where it is, and its characters."""
    start = len(text.rstrip(_BASE64_CHARACTERS))
    yield start, _replace(text[start:].removesuffix("\\"), _LINE_BREAK, "")


def find_partial_escape(text: str) -> int:
    """Where an escape begins that is not complete at the end of the text; the text's length without one."""
    partial = _PARTIAL_ESCAPE.search(text, max(0, len(text) - _MAX_ESCAPE))
    return partial.start() if partial else len(text)


def find_partial_control(text: str) -> int:
    """Where a terminal's control sequence begins that is not complete at the end; the text's length without one.

    After a character that was struck over, the last one may be struck over too.
    """
    if "\b" in text[-3:]:
        return max(0, len(text) - (2 if text.endswith("\b") else 1))
    start = max(0, len(text) - _MAX_CONTROL)
    if not _CAN_BE_PARTIAL.search(text, start):
        return len(text)
    partial = _PARTIAL_CONTROL.search(text, start)
    return partial.start() if partial else len(text)


def to_plain(text: str) -> str:
    """The text without invisible characters and controls, also without the beginning of one at the end."""
    return _drop_invisible(_CONTROL.sub("", text[: find_partial_control(text)])).text


def _replace(text: str, pattern: re.Pattern[str], replacement: str) -> Reading:
    """The text with the matches replaced, and without invisible characters."""
    parts: list[str] = []
    starts: list[int] = []
    end = 0
    for match in pattern.finditer(text):
        parts += [text[end : match.start()], replacement]
        starts += [*range(end, match.start()), *(match.start() for _ in replacement)]
        end = match.end()
    parts.append(text[end:])
    starts += range(end, len(text) + 1)
    joined = "".join(parts)
    if not joined.isascii() and INVISIBLE_CHARACTER.search(joined):
        kept = [index for index, character in enumerate(joined) if not INVISIBLE_CHARACTER.match(character)]
        return Reading("".join(joined[index] for index in kept), [starts[index] for index in (*kept, len(joined))])
    return Reading(joined, starts)


def _drop_invisible(text: str) -> Reading:
    if text.isascii() or INVISIBLE_CHARACTER.search(text) is None:
        return Reading(text, None)
    return _replace(text, INVISIBLE_CHARACTER, "")


def _decode_escapes(text: str) -> tuple[str, list[int]]:
    """The text with its escapes decoded, and where each of its characters began, and its end."""
    parts: list[str] = []
    starts: list[int] = []
    end = 0
    for match in _ESCAPE.finditer(text):
        parts.append(text[end : match.start()])
        starts += range(end, match.start())
        character = _decode_escape(match)
        parts.append(character)
        starts += [match.start()] * len(character)
        end = match.end()
    parts.append(text[end:])
    starts += range(end, len(text) + 1)
    return "".join(parts), starts


def _decode_escape(match: re.Match[str]) -> str:
    for digits, base in ((match["hex"] or match["braced"], 16), (match["entity"], 10), (match["octal"], 8)):
        if digits:
            code = int(digits, base)
            return chr(code) if code < 0x110000 else "\ufffd"
    return _NAMED_ESCAPES.get(match[0], match["plain"] or "")
