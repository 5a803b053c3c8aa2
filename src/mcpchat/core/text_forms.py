"""The forms in which a program could read a text: what a rule of the user has to hold for."""

import posixpath
import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote

from mcpchat.util.sanitize import limit_marks, strip_invisible

_MAX_RECIPIENTS = 20_000  # characters
_MAX_DECODINGS = 3  # of percent encoding: a program decodes once, or twice behind a proxy
_DOTS = str.maketrans("\u3002\uff0e\uff61", "...")  # a browser reads them as dots of a host name
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/*")
_COMMANDS = re.compile(r"[;|\r\n\0\x0b\x0c\x1c-\x1e\x85\u2028\u2029`]|&&|(?<![<>])&(?!>)|[$<>]\(|\d?>>?(?=\s*[^\s\d=])")
_PARENT_FOLDER = re.compile(r"(?:^|[/\\])[\s\0-\x1f]*\.\.(?![\w.-])")
_WORDS = re.compile(r"[\s<>()\[\]{}\"']+")
_PUNCTUATION = re.compile(r"[\s,;|<>()\[\]{}\"'`=&?#$:]+")
_HEADER = re.compile(r"^(?:resent-)?(?:b?cc|to):(.*)$", re.IGNORECASE | re.MULTILINE)
_RECIPIENTS = re.compile(r"(?:^|[_.-])(?:b?cc|to|recipients?|addressees?|attendees?|invitees?|guests?|e?mails?)$")
_SENDERS = re.compile(r"(?:^|[_.-])(?:from|sender|reply_?to|author|user|account|login)$")
_AROUND = ".!?*\u2026\u3001\u201c\u201d\u2018\u2019\u00ab\u00bb"  # punctuation around an address
_ANY_ADDRESS = re.compile(r"[^\s@<>,;:|()\[\]{}\"']+@[^\s@<>,;:|()\[\]{}\"']+")
_ADDRESS = re.compile(r"(?:[^@<>,;]*<\s*[^\s@<>,;]+@[^\s@<>,;]+\s*>|[^\s@<>,;]+@[^\s@<>,;]+)")


def normalize_text(text: str) -> str:
    """Return the text without invisible characters, with compatible characters and dots made equal."""
    # Many marks on one letter would take quadratic time.
    return unicodedata.normalize("NFKC", limit_marks(strip_invisible(text))).translate(_DOTS)


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
    return _PARENT_FOLDER.search(text) is not None


def restricted_forms(text: str) -> Iterator[str]:
    """Yield every form and every piece of the text that a restricting rule has to look at.

    These are the decoded forms, the commands in them, the pieces between punctuation, and each of them as a path:
    without what is before it, folded, and absolute if it climbs out of its folder.
    """
    for form in decoded_forms(text):
        for command in command_pieces(form):
            program, _, arguments = " ".join(command.strip("(){} ").split()).partition(" ")
            yield f"{program} {arguments}".strip()
            yield f"{posixpath.basename(program)} {arguments}".strip()
        closed = re.sub(r"\s*@\s*", "@", form)
        for part in dict.fromkeys(
            (form, *re.split(r"[\s,;<>()\"']+", form), *_PUNCTUATION.split(form), *_PUNCTUATION.split(closed))
        ):
            yield part
            yield part.strip(_AROUND)
            if "xn--" in part.lower():
                yield _decode_host(part)
            if "/" in part or "\\" in part:
                path = part.replace("\\", "/")
                glued = re.search(r"(?:^-{1,2}[A-Za-z]+|[^\w/.-])(/.*)", path)  # -f/etc/x, @/etc/x
                without_host = re.sub(r"^[A-Za-z]+://[^/]*", "", path)
                spellings = (path, _SCHEME.sub("/", path, count=1), without_host, glued[1] if glued else path)
                for spelling in dict.fromkeys(spellings):
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
    """Return the pieces that a shell would run or write to: between semicolons, pipes, new lines, & and redirections.

    Within one URL, & separates nothing.
    """
    is_url = _URL.match(text.strip()) is not None and not re.search(r"\s", text.strip())
    return _nonempty(re.split(r"[\r\n\0]", text) if is_url else _COMMANDS.split(text))


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


def find_recipients(name: str, text: str) -> list[str]:
    """Return the e-mail addresses in the value of an argument that a server may send to.

    These are all addresses if the name says so ("bcc"), none if it names a sender, and else those of a text that is
    nothing but addresses, or of lines such as "Bcc: ...".
    """
    folded = fold_name(name)
    if _SENDERS.search(folded):
        return []
    forms = decoded_forms(text) if len(text) < _MAX_RECIPIENTS else [text]
    if _RECIPIENTS.search(folded):
        return [address for form in forms for address in _ANY_ADDRESS.findall(re.sub(r"\s*@\s*", "@", form))]
    in_headers = [address for line in _HEADER.findall(text) for address in _ANY_ADDRESS.findall(line)]
    return in_headers or find_addresses(text)


def find_addresses(text: str) -> list[str]:
    """Return the e-mail addresses if the text is nothing but one or several of them, with or without names."""
    parts = _nonempty(re.split(r"[,;\n]", text))
    if not parts or not all(_ADDRESS.fullmatch(part) for part in parts):
        return []
    return [word for part in parts for word in words(part) if "@" in word]


def _nonempty(pieces: list[str]) -> list[str]:
    return [piece.strip() for piece in pieces if piece.strip()]
