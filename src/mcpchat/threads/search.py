"""Words and phrases of the full-text search: the same rules for every database and every script."""

import re
import unicodedata
from collections.abc import Sequence

from msgspec import Struct

from mcpchat.errors import UsageError

# Scripts without spaces between words: each character counts as a word, and a word of several characters as a phrase.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)
_WORD = re.compile(r"\w+")
_QUERY_TERM = re.compile(r'"([^"]*)"|(\S+)')
_SNIPPET_CONTEXT = 50  # characters of a snippet before and after the first match


class Phrase(Struct, frozen=True):
    """Adjacent words. If ``is_prefix`` is set, the last one also matches longer words that begin with it."""

    words: tuple[str, ...]
    is_prefix: bool = False


def normalize(text: str) -> str:
    """Return the words of the text, case-folded and without accents, joined by spaces."""
    if not text.isascii():
        text = "".join(map(_fold_character, text))
        text = _UNSPACED.sub(lambda match: f" {match[0]} ", text)
    return " ".join(_WORD.findall(text.casefold().replace("_", " ")))


def _fold_character(character: str) -> str:
    if character.isascii() or "\uac00" <= character <= "\ud7af":
        return character
    base = "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
    return base.casefold()


def parse_query(query: str) -> tuple[Phrase, ...]:
    """Parse a search query: words, "quoted phrases", and word* for a prefix.

    Raises UsageError if the query contains no word.
    """
    terms: list[Phrase] = []
    for quoted, unquoted in _QUERY_TERM.findall(query):
        words = tuple(normalize(quoted or unquoted).split())
        if words:
            terms.append(Phrase(words, is_prefix=unquoted.endswith("*")))
    if not terms:
        raise UsageError(f"the query {query!r} contains no word")
    return tuple(terms)


def snippet(text: str, terms: Sequence[Phrase]) -> tuple[str, ...]:
    """Return the part of the text around the first match of a phrase: plain text and matches in turn, plain text first.

    Without a match it is the beginning of the text.
    """
    spans = _find_spans(text, terms)
    if not spans:
        return (text[: 2 * _SNIPPET_CONTEXT].strip() + ("…" if len(text) > 2 * _SNIPPET_CONTEXT else ""),)
    first = spans[0][0]
    begin = max(0, first - _SNIPPET_CONTEXT)
    end = min(len(text), spans[0][1] + _SNIPPET_CONTEXT)
    parts = [f"{'…' if begin else ''}{text[begin:first]}"]
    position = first
    for start, stop in spans:
        if stop > end:
            break
        _append_part(parts, text[position:start], is_plain=True)
        _append_part(parts, text[start:stop], is_plain=False)
        position = stop
    _append_part(parts, text[position:end] + ("…" if end < len(text) else ""), is_plain=True)
    return tuple(parts)


def _append_part(parts: list[str], text: str, *, is_plain: bool) -> None:
    """Add the text to the last part if that is of the same kind, else append a new part."""
    if not text:
        return
    if (len(parts) % 2 == 1) == is_plain:
        parts[-1] += text
    else:
        parts.append(text)


def _find_spans(text: str, terms: Sequence[Phrase]) -> list[tuple[int, int]]:
    """Return start and end of each match of a phrase in the text, sorted and without overlaps."""
    words: list[tuple[str, int, int]] = []
    for match in _WORD.finditer(text):
        words += _split_words(match[0], match.start())
    spans: list[tuple[int, int]] = []
    for index in range(len(words)):
        for phrase in terms:
            length = len(phrase.words)
            window = words[index : index + length]
            if len(window) == length and _matches(phrase, [word for word, _, _ in window]):
                spans.append((window[0][1], window[-1][2]))
    separate: list[tuple[int, int]] = []
    for span in sorted(spans):
        if not separate or span[0] >= separate[-1][1]:
            separate.append(span)
    return separate


def _split_words(word: str, offset: int) -> list[tuple[str, int, int]]:
    """Split a run of word characters into normalized search words, each with its start and end in the text."""
    words: list[tuple[str, int, int]] = []
    start = 0
    for index, character in enumerate(f"{word} "):
        is_unspaced = _UNSPACED.match(character) is not None
        if is_unspaced or character in "_ ":
            if start < index:
                words.append((normalize(word[start:index]), offset + start, offset + index))
            if is_unspaced:
                words.append((normalize(character), offset + index, offset + index + 1))
            start = index + 1
    return [item for item in words if item[0]]


def _matches(phrase: Phrase, words: Sequence[str]) -> bool:
    if tuple(words) == phrase.words:
        return True
    return phrase.is_prefix and tuple(words[:-1]) == phrase.words[:-1] and words[-1].startswith(phrase.words[-1])
