"""Sanitize text for a terminal or a model: make control characters visible, remove invisible ones."""

import json
import re

# Characters that are invisible or change the direction of others. A joiner or selector is valid between the characters
# it is made for; anywhere else it can only carry hidden text.
_SELECTORS = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
_INVISIBLE_CHARS = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\U0001107f\U00013430-\U0001343f\U00016fe4\U0001d159"
    "\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff" + _SELECTORS
)
_JOINER_SCRIPTS = "\u0590-\u1fff"  # scripts in which a joiner or non-joiner may follow a letter
_EMOJI = "\u2190-\u2bff\U0001f000-\U0001faff"  # characters that joiners combine to emoji
_IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_SUBDIVISION_FLAGS = "|".join(  # England, Scotland, Wales: the three flags that are written with invisible letters
    "\U0001f3f4" + "".join(chr(0xE0000 + ord(letter)) for letter in country) + "\U000e007f"
    for country in ("gbeng", "gbsct", "gbwls")
)
_INVISIBLE = re.compile(
    f"(?P<right>{_SUBDIVISION_FLAGS}"
    f"|(?<=[{_JOINER_SCRIPTS}])(?<![{_INVISIBLE_CHARS}])[\u200c\u200d](?![{_INVISIBLE_CHARS}])"
    f"|(?<=[{_EMOJI}\ufe0f])\u200d(?=[{_EMOJI}])"
    f"|(?<=[0-9#*\u00a9-\U0010ffff])(?<![{_INVISIBLE_CHARS}])[\ufe0e\ufe0f]"
    f"|(?<=[\u2190-\u2aff])\ufe00|(?<=[\u1820-\u18aa])[\u180b-\u180f]"
    f"|(?<=[{_IDEOGRAPHS}])[\U000e0100-\U000e01ef])"
    f"|[{_INVISIBLE_CHARS}]"
)
INVISIBLE_CHARACTER = re.compile(f"[{_INVISIBLE_CHARS}]")  # also where it is valid
_COMBINING_MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc"
    "\u0ec8-\u0ece\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
)
_STACKED_MARKS = re.compile(f"([{_COMBINING_MARKS}]{{8}})[{_COMBINING_MARKS}]+")

_INCOMPLETE = re.compile(
    f"\r|[^{_INVISIBLE_CHARS}{_COMBINING_MARKS}](?:[{_INVISIBLE_CHARS}{_COMBINING_MARKS}]+[^{_INVISIBLE_CHARS}{_COMBINING_MARKS}]?)*"
)
_LINE_START = re.compile(r"\n(?=\S)")
_MAX_CLUSTER_LENGTH = 40  # characters of one grapheme cluster


def _build_terminal_table() -> dict[int, str | None]:
    table: dict[int, str | None] = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
    table[0x7F] = "\u2421"
    table |= {code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}
    table |= dict.fromkeys((0x2028, 0x2029), "\n")
    table |= dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
    return table


_TERMINAL_TABLE = _build_terminal_table()


def sanitize(text: str) -> str:
    """Make control characters visible and remove invisible ones; newlines and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    result = strip_invisible(text).replace("\r\n", "\n").translate(_TERMINAL_TABLE)
    return limit_marks(result)  # stacked accents would cover other lines


def sanitize_message(text: str) -> str:
    """Sanitize the text of a message, such as an error. Its second and further lines are indented.

    A server's text then cannot imitate a message of mcpchat.
    """
    return _LINE_START.sub("\n  ", sanitize(text))


def incomplete_tail(text: str) -> int:
    """How many characters at the end must wait for the next chunk, because they may form one grapheme with it."""
    if text[-1:].isascii() and not text.endswith("\r"):
        return 0
    tail = text[-_MAX_CLUSTER_LENGTH:]
    return next((len(tail) - start for start in range(len(tail)) if _INCOMPLETE.fullmatch(tail, start)), 0)


def strip_invisible(text: str) -> str:
    """Remove invisible characters, so that a model reads exactly what a user sees."""
    return text if text.isascii() else _INVISIBLE.sub(lambda match: match["right"] or "", text)


def limit_marks(text: str) -> str:
    """Leave at most eight combining marks on a character."""
    return text if text.isascii() else _STACKED_MARKS.sub(r"\1", text)


def show_invisible(text: str) -> str:
    """Sanitize the text, but spell out invisible characters as ``\\u{200b}``, so that a review shows every change."""
    if not text.isascii():
        text = _INVISIBLE.sub(lambda match: match["right"] or f"\\u{{{ord(match[0]):x}}}", text)
    return sanitize(text)


def escape_unsafe_json(text: str) -> str:
    """Escape control and invisible characters in a JSON text. It still decodes to the same value."""

    def escape(match: re.Match[str]) -> str:
        return json.dumps(match[0])[1:-1]

    if text.isascii() and "\x7f" not in text:
        return text
    text = _INVISIBLE.sub(lambda match: match["right"] or escape(match), text)
    return re.sub("[\x7f-\x9f\u2028\u2029\ud800-\udfff]", escape, text)


def one_line(text: str, limit: int = 80) -> str:
    """Sanitize the text and join its lines to one of at most ``limit`` characters; ends in … if it was cut."""
    # Text far beyond the limit cannot be shown: do not process megabytes of it.
    line = " ".join(sanitize(text[: limit * 8]).split())
    return line if len(line) <= limit and len(text) <= limit * 8 else line[: limit - 1] + "…"
