"""Text helpers: replace lone surrogates, suggest similar names."""

import difflib
from collections.abc import Iterable

_MAX_LISTED = 50


def replace_surrogates(text: str) -> str:
    """Join surrogate pairs and replace each lone surrogate with U+FFFD, so that the text can be encoded as UTF-8.

    JSON can spell lone surrogates ("\\ud800"), and Python uses them for bytes of the command line that are not UTF-8.
    """
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def closest_matches(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The names most like the given one, best first; empty if no name is close. Swapped letters are the closest."""
    known = {candidate.lower(): candidate for candidate in names}
    letters = sorted(name.lower())
    swapped = [candidate for candidate in known if sorted(candidate) == letters]
    close = difflib.get_close_matches(name.lower(), known, n=count, cutoff=0.5)
    return [known[match] for match in dict.fromkeys([*swapped, *close])][:count]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """``; did you mean NAME?``, to be added to a message; empty if no name is close."""
    close = closest_matches(name, names, 1)
    return f"; did you mean {close[0]}?" if close else ""


def suggest(name: str, names: Iterable[str]) -> str:
    """``did you mean NAME?`` if a name is close, else ``known: A, B`` with all of them, at most 50."""
    known = list(names)
    return did_you_mean(name, known).removeprefix("; ") or f"known: {', '.join(known[:_MAX_LISTED]) or 'none'}"
