"""Untrusted names and short texts: shown on one line, compared the way users read them."""

import unicodedata

_BIDI_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control, surrogate, line and paragraph separator


def to_one_line(text: str, max_length: int = 400) -> str:
    """Return a text as one line of at most ``max_length`` characters, without control and bidirectional characters."""
    cleaned = " ".join("".join(" " if is_unsafe_char(char) else char for char in text[: max_length * 4]).split())
    return cleaned if len(cleaned) <= max_length else f"{cleaned[:max_length]}…"


def is_unsafe_char(char: str) -> bool:
    """Whether a character must not occur in a line: a control, a surrogate, a line separator, a bidirectional mark."""
    return unicodedata.category(char) in _UNSAFE_CATEGORIES or char in _BIDI_MARKS


def normalize_text(text: str) -> str:
    """Normalize a text for comparison: Unicode composition, white space and line breaks make no difference."""
    return unicodedata.normalize("NFC", to_one_line(text, len(text) + 1))


def is_same_name(first: str, second: str) -> bool:
    """Whether two names look the same to a user."""
    return normalize_text(first) == normalize_text(second)
