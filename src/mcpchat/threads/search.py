"""What can be found by which words: the same for every database, in every script."""

import re
import unicodedata
from collections.abc import Sequence

from msgspec import Struct

from mcpchat.errors import UsageError

# Scripts that put no space between words: each of their characters is a word, and a word of theirs a phrase.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)
_WORD = re.compile(r"\w+")
_ASKED = re.compile(r'"([^"]*)"|(\S+)')
_AROUND = 50  # characters of a snippet before and after what was found


class Phrase(Struct, frozen=True):
    """Words that stand side by side; ``open_end``: the last may go on."""

    words: tuple[str, ...]
    open_end: bool = False


def folded(text: str) -> str:
    """The words of the text without case and accents, a space between them."""
    if not text.isascii():
        text = "".join(map(_plain, text))
        text = _UNSPACED.sub(lambda found: f" {found[0]} ", text)
    return " ".join(_WORD.findall(text.casefold().replace("_", " ")))


def _plain(character: str) -> str:
    if character.isascii() or "\uac00" <= character <= "\ud7af":
        return character
    bare = "".join(one for one in unicodedata.normalize("NFKD", character) if not unicodedata.combining(one))
    return bare.casefold()


def phrases(asked: str) -> tuple[Phrase, ...]:
    """What a person looks for: each word, and what stands in quotes as it stands; a word* may go on.

    Raises UsageError where there is no word in it.
    """
    found: list[Phrase] = []
    for quoted, bare in _ASKED.findall(asked):
        words = tuple(folded(quoted or bare).split())
        if words:
            found.append(Phrase(words, open_end=bare.endswith("*")))
    if not found:
        raise UsageError(f"there is no word in {asked!r} to look for")
    return tuple(found)


def snippet(text: str, wanted: Sequence[Phrase]) -> tuple[str, ...]:
    """The place where the text says one of the phrases: plain text and matches in turn, beginning with plain text."""
    marked = _spans(text, wanted)
    if not marked:
        return (text[: 2 * _AROUND].strip() + ("…" if len(text) > 2 * _AROUND else ""),)
    first = marked[0][0]
    begin = max(0, first - _AROUND)
    end = min(len(text), marked[0][1] + _AROUND)
    pieces = [f"{'…' if begin else ''}{text[begin:first]}"]
    at = first
    for start, stop in marked:
        if stop > end:
            break
        _join(pieces, text[at:start], plain=True)
        _join(pieces, text[start:stop], plain=False)
        at = stop
    _join(pieces, text[at:end] + ("…" if end < len(text) else ""), plain=True)
    return tuple(pieces)


def _join(pieces: list[str], piece: str, *, plain: bool) -> None:
    """Append to the last piece where that is of the same kind, else after it."""
    if not piece:
        return
    if (len(pieces) % 2 == 1) == plain:
        pieces[-1] += piece
    else:
        pieces.append(piece)


def _spans(text: str, wanted: Sequence[Phrase]) -> list[tuple[int, int]]:
    """Where the phrases stand in the text, in order, none over another."""
    words: list[tuple[str, int, int]] = []
    for match in _WORD.finditer(text):
        words += _pieces(match[0], match.start())
    spans: list[tuple[int, int]] = []
    for place in range(len(words)):
        for phrase in wanted:
            length = len(phrase.words)
            here = words[place : place + length]
            if len(here) == length and _fits(phrase, [word for word, _, _ in here]):
                spans.append((here[0][1], here[-1][2]))
    apart: list[tuple[int, int]] = []
    for span in sorted(spans):
        if not apart or span[0] >= apart[-1][1]:
            apart.append(span)
    return apart


def _pieces(word: str, at: int) -> list[tuple[str, int, int]]:
    """The words that a run of letters is for the search, each with its place."""
    found: list[tuple[str, int, int]] = []
    start = 0
    for number, character in enumerate(f"{word} "):
        alone = _UNSPACED.match(character) is not None
        if alone or character in "_ ":
            if start < number:
                found.append((folded(word[start:number]), at + start, at + number))
            if alone:
                found.append((folded(character), at + number, at + number + 1))
            start = number + 1
    return [one for one in found if one[0]]


def _fits(phrase: Phrase, words: Sequence[str]) -> bool:
    if tuple(words) == phrase.words:
        return True
    return phrase.open_end and tuple(words[:-1]) == phrase.words[:-1] and words[-1].startswith(phrase.words[-1])
