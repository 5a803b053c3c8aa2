"""Names and other short texts of strangers: shown in one line, compared as people read them."""

import unicodedata

_BIDI_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})  # what is no character of a line


def to_one_line(text: str, max_length: int = 400) -> str:
    """A text in one line of bounded length, without what acts on a terminal or turns the reading order."""
    cleaned = " ".join("".join(" " if is_unsafe_char(char) else char for char in text[: max_length * 4]).split())
    return cleaned if len(cleaned) <= max_length else f"{cleaned[:max_length]}…"


def is_unsafe_char(char: str) -> bool:
    """Whether a character is none of a line: a control, half of a pair, a line's end, a mark of direction."""
    return unicodedata.category(char) in _UNSAFE_CATEGORIES or char in _BIDI_MARKS


def normalize_text(text: str) -> str:
    """A text as it is compared: however its characters are composed, spaced and broken into lines."""
    return unicodedata.normalize("NFC", to_one_line(text, len(text) + 1))


def is_same_name(first: str, second: str) -> bool:
    """Whether two names read alike."""
    return normalize_text(first) == normalize_text(second)
