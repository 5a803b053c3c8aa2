"""The forms in which a program could read a text: what a rule of the user has to hold for."""

import posixpath
import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote

from mcpchat.util.sanitize import strip_invisible

_MAX_DECODINGS = 3  # of percent encoding: a program decodes once, or twice behind a proxy
_DOTS = str.maketrans("\u3002\uff0e\uff61", "...")  # a browser reads them as dots of a host name
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/*")
_COMMANDS = re.compile(r"[;|\r\n\0\x0b\x0c\x1c-\x1e\x85\u2028\u2029`]|&&|\s&\s|\$\(")
_WORDS = re.compile(r"[\s<>()\[\]{}\"']+")
_PUNCTUATION = re.compile(r"[\s,;|<>()\[\]{}\"'`=&?#$:]+")
_ADDRESS = re.compile(r"(?:[^@<>,;]*<\s*[^\s@<>,;]+@[^\s@<>,;]+\s*>|[^\s@<>,;]+@[^\s@<>,;]+)")


def normalize_text(text: str) -> str:
    """Return the text without invisible characters, with compatible characters and dots made equal."""
    return unicodedata.normalize("NFKC", strip_invisible(text)).translate(_DOTS)


def fold_name(name: str) -> str:
    """Return what a lenient program may take a name for."""
    return normalize_text(name).casefold()


def decoded_forms(text: str) -> list[str]:
    """Return the text, its normal form, and both with their percent encoding decoded, each once."""
    forms = dict.fromkeys((text, normalize_text(text)))
    for form in list(forms):
        for _ in range(_MAX_DECODINGS):
            decoded = unquote(form)
            if decoded == form:
                break
            forms[decoded] = forms[normalize_text(decoded)] = None
            form = decoded
    return list(forms)


def leaves_folder(text: str) -> bool:
    """Whether a part of the text is "..", so that a path leads elsewhere than its beginning says."""
    return ".." in re.split(r"[/\\]", text)


def restricted_forms(text: str) -> Iterator[str]:
    """Yield every form and every piece of the text that a restricting rule has to look at.

    These are the decoded forms, the pieces between punctuation, and each of them as a path: without its scheme, folded,
    and absolute if it climbs out of its folder.
    """
    for form in decoded_forms(text):
        for part in dict.fromkeys((form, *re.split(r"[\s,;<>()\"']+", form), *_PUNCTUATION.split(form))):
            yield part
            if "xn--" in part.lower():
                yield _decode_host(part)
            if "/" in part or "\\" in part:
                path = part.replace("\\", "/")
                for spelling in dict.fromkeys((path, _SCHEME.sub("/", path, count=1))):
                    folded = posixpath.normpath(spelling)
                    yield re.sub("^/+", "/", folded)
                    if folded.startswith("../"):
                        yield re.sub(r"^(?:\.\./)+", "/", folded)


def _decode_host(text: str) -> str:
    """Return the text with its encoded international host names decoded, where they are valid."""

    def decode(match: re.Match[str]) -> str:
        try:
            return match[0].encode().decode("idna")
        except UnicodeError:
            return match[0]

    return re.sub(r"xn--[A-Za-z0-9-]+", decode, text, flags=re.IGNORECASE)


def command_pieces(text: str) -> list[str]:
    """Return the pieces that a shell would run one after the other: between semicolons, pipes and new lines."""
    return _nonempty(_COMMANDS.split(text))


def list_pieces(text: str) -> list[str]:
    """Return the items of a list that is written as one text, between commas.

    A comma within one URL separates nothing but further addresses, paths and URLs.
    """
    pieces = _nonempty(text.split(","))
    return [piece for piece in pieces if is_destination(piece)] if _URL.match(text.strip()) else pieces


def destinations(text: str) -> list[str]:
    """Return the words of the text that are addresses, paths or URLs."""
    return [word for word in _nonempty(_WORDS.split(text)) if is_destination(word)]


def words(text: str) -> list[str]:
    """Return all words of the text."""
    return _nonempty(_WORDS.split(text))


def is_destination(text: str) -> bool:
    """Whether the text may be an address, a path or a URL."""
    return any(mark in text for mark in "@/\\") or text.startswith("~")


def find_addresses(text: str) -> list[str]:
    """Return the e-mail addresses if the text is nothing but one or several of them, with or without names."""
    parts = _nonempty(re.split(r"[,;\n]", text))
    if not parts or not all(_ADDRESS.fullmatch(part) for part in parts):
        return []
    return [word for part in parts for word in words(part) if "@" in word]


def _nonempty(pieces: list[str]) -> list[str]:
    return [piece.strip() for piece in pieces if piece.strip()]
