"""Words that may imitate others: addresses with letters beyond ASCII, and words of several alphabets."""

import re
from collections.abc import Iterator
from urllib.parse import unquote

_MAX_LENGTH = 2_000_000  # characters that are examined
_SEPARATORS = re.compile(r"[\s<>\"'`,;()\[\]{}|\\]+")
_AT = re.compile("[@\uff20\ufe6b]")  # also the full-width and the small one
_HOST = re.compile(r"(?<=://)[^/?#]+")
_WORD = re.compile(r"\w{2,200}")
# Alphabets whose letters look alike.
_ALPHABETS = [
    re.compile(f"[{letters}]")
    for letters in (
        "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02af\u1d00-\u1d25\u1e00-\u1eff",
        "\u0370-\u03ff\u1f00-\u1fff",
        "\u0400-\u052f\u1c80-\u1c88\u2de0-\u2dff\ua640-\ua69f",
        "\u0531-\u0588",
        "\u13a0-\u13fd\uab70-\uabbf",
        "\u2c80-\u2cff",
        "\uff21-\uff3a\uff41-\uff5a",
        "\U0001d400-\U0001d7cb",
    )
]
_EXCERPT = 60  # characters


def find_lookalikes(text: str) -> list[str]:
    """Return the words of the text that may imitate others, each once, addresses first. Takes linear time."""
    text = text[:_MAX_LENGTH]
    addresses = [part for word in _SEPARATORS.split(text) for part in _read_addresses(word) if _is_foreign(part)]
    if text.isascii():
        return list(dict.fromkeys(addresses))
    words = [word for match in _WORD.finditer(text) if not (word := match[0]).isascii() and _is_mixed(word)]
    known = "\n".join(addresses)
    return list(dict.fromkeys((*addresses, *(word for word in words if word not in known))))


def excerpt(word: str) -> str:
    """Return the part of a long word around its first letter beyond ASCII."""
    if len(word) <= _EXCERPT:
        return word
    first = next((index for index, letter in enumerate(word) if not letter.isascii()), 0)
    start = max(0, first - _EXCERPT // 2)
    part = word[start : start + _EXCERPT - 2]
    return f"{'…' if start else ''}{part}{'…' if start + len(part) < len(word) else ''}"


def _read_addresses(word: str) -> Iterator[str]:
    """Yield the word if it is an e-mail address, or the host of a URL, also with its percent encoding decoded."""
    for form in dict.fromkeys((word, unquote(word))) if "%" in word else (word,):
        if host := _HOST.search(form):
            yield host[0]
        elif _AT.search(form, 1) and not _AT.search(form[-1:]):
            yield form


def _is_foreign(address: str) -> bool:
    return not address.isascii() or "xn--" in address.lower()


def _is_mixed(word: str) -> bool:
    return sum(alphabet.search(word) is not None for alphabet in _ALPHABETS) > 1
