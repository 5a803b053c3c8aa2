"""Names and other short texts of strangers: shown in one line, compared as people read them."""

import unicodedata

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_BREAKING = frozenset({"Cc", "Cs", "Zl", "Zp"})  # what is no character of a line


def one_line(text: str, most: int = 400) -> str:
    """A text in one line of bounded length, without what acts on a terminal or turns the reading order."""
    clean = " ".join("".join(" " if breaks(char) else char for char in text[: most * 4]).split())
    return clean if len(clean) <= most else f"{clean[:most]}…"


def breaks(char: str) -> bool:
    """Whether a character is none of a line: a control, half of a pair, a line's end, a mark of direction."""
    return unicodedata.category(char) in _BREAKING or char in _BIDI


def plain(text: str) -> str:
    """A text as it is compared: however its characters are composed, spaced and broken into lines."""
    return unicodedata.normalize("NFC", one_line(text, len(text) + 1))


def same(one: str, other: str) -> bool:
    """Whether two names read alike."""
    return plain(one) == plain(other)
