"""Words that may imitate others: addresses with letters beyond ASCII, and words of several alphabets."""

import re
import unicodedata

_MAX_LENGTH = 100_000  # characters that are examined
_ADDRESS = re.compile(r"[^\s<>\"'`,;()\[\]{}|\\]+@[^\s<>\"'`,;()\[\]{}|\\]+|(?<=://)[^\s/?#<>\"']+")
_WORD = re.compile(r"\w{2,200}")
_SIMILAR_SCRIPTS = {"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "FULLWIDTH"}


def find_lookalikes(text: str, *, limit: int = 5) -> list[str]:
    """Return up to ``limit`` words of the text that may imitate others, in their order."""
    text = text[:_MAX_LENGTH]
    found: dict[str, None] = {}
    for match in _ADDRESS.finditer(text):
        if not match[0].isascii() or "xn--" in match[0].lower():
            found[match[0]] = None
    if not text.isascii():
        words = (match[0] for match in _WORD.finditer(text) if not match[0].isascii())
        found |= {
            word: None for word in words if len(_scripts(word)) > 1 and not any(word in address for address in found)
        }
    return [*found][:limit]


def _scripts(word: str) -> set[str]:
    """The alphabets of the word's letters, as far as their letters look alike."""
    names = (unicodedata.name(letter, "").partition(" ")[0] for letter in word if letter.isalpha())
    return _SIMILAR_SCRIPTS.intersection(names)
