"""The forms in which a program could read a text: what a rule of the user has to hold for."""

import posixpath
import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from urllib.parse import unquote

from mcpchat.util.sanitize import limit_marks, strip_invisible

_MAX_RECIPIENTS = 20_000  # characters
_MAX_DECODINGS = 3  # of percent encoding: a program decodes once, or twice behind a proxy
_DOTS = str.maketrans("\u3002\uff0e\uff61", "...")  # a browser reads them as dots of a host name
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SCHEMES = re.compile(r"(?<![A-Za-z0-9+.-])(?:[A-Za-z][A-Za-z0-9+.-]+:)+/*")  # such as jar:file:/
_COMMANDS = re.compile(r"[;|\r\n\0\x0b\x0c\x1c-\x1e\x85\u2028\u2029`]|&&|(?<![<>])&(?!>)|[$<>]\(|\d?>>?(?=\s*[^\s\d=])")
_PROCESS_ROOT = re.compile(r"/proc/[^/]{1,20}/(?:task/[^/]{1,20}/)?root(?=/)")  # another name of the root folder
_PARENT_FOLDER = re.compile(r"(?:^|[/\\])[\s\0-\x1f]*\.\.(?![\w.-])")
_WORDS = re.compile(r"[\s<>()\[\]{}\"']+")
_PUNCTUATION = re.compile(r"[\s,;|<>()\[\]{}\"'`=&?#$:]+")
_HEADER = re.compile(r"^[ \t]*(?:resent-)?(?:b?cc|to)[ \t]*:(.*(?:\n[ \t].*)*)", re.IGNORECASE | re.MULTILINE)
_LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_RECIPIENT_WORDS = frozenset(
    ("bcc", "cc", "to", "recipient", "recipients", "addressee", "addressees", "attendee", "attendees", "invitee",
     "invitees", "guest", "guests", "notify", "share", "invite", "forward")
)  # fmt: skip
_ADDRESS_WORDS = frozenset(("email", "emails", "mail", "mails"))
_SENDER_WORDS = frozenset(("from", "sender", "author"))
_SENDERS = _SENDER_WORDS | {"user", "username", "account", "login", "replyto"}
_COMMENTS = re.compile(r"\([^()]*\)|\"[^\"]*\"")
_PARENTHESIS = re.compile(r"\\.|[()]", re.DOTALL)
_QUOTED_NAME = re.compile(r"\"[^\"]*\"(?=\s*@)")  # "x y"@example.com
_LITERAL_HOST = re.compile(r"@\s*\[([^\s\[\]]*)\]")  # x@[192.0.2.1]
_MAX_NAME_WORDS, _MAX_BARE_WORDS = 6, 2  # words beside each address in a list of addresses: "Ann <a@b>", "Ann a@b"
_AROUND = ".!?*\u2026\u3001\u201c\u201d\u2018\u2019\u00ab\u00bb"  # punctuation around an address
_URL_INSIDE = re.compile(
    r"(?P<scheme>[Hh][Tt]{2}[Pp][Ss]?(?=:)|[A-Za-z][A-Za-z0-9+.-]{0,20}(?=:[/\\])):[/\\]*(?P<rest>[^\s\"'<>/\\][^\s\"'<>]*)"
)
_HOST_END = re.compile(r"(?=[/?#])|$")
_URL_BREAKS = re.compile(r"[\t\r\n]")  # a browser leaves them out
_QUOTES = re.compile(r"[\"'\\]")
_PREFIX = re.compile(  # before a command
    r"(?:\w+=\S*|env|command|builtin|exec|nohup|time|nice|xargs|busybox|if|then|else|elif|while|until|do|!"
    r"|(?:\S*/)?(?:ba|da|k|z)?sh(?: -\w+)+) "
)
_MAX_PREFIXES = 20
_SECOND_TARGET = re.compile(r"://|@|^[/~\\]")
_ADDRESS_ENDS = re.compile(r"[\s<>,;:|()\[\]{}\"']+")


def normalize_text(text: str) -> str:
    """Return the text without invisible characters, with compatible characters and dots made equal."""
    # Many marks on one letter would take quadratic time.
    return unicodedata.normalize("NFKC", limit_marks(strip_invisible(text))).translate(_DOTS)


def fold_name(name: str) -> str:
    """Return what a lenient program may take a name for."""
    return normalize_text(name).casefold().strip(" \t\r\n\0")


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
            yield from _read_command(" ".join(command.strip("(){} ").split()))
        yield from (_normalize_url(match) for match in _URL_INSIDE.finditer(_URL_BREAKS.sub("", form)))
        closed = [
            piece for spelling in _address_forms(form) for piece in _PUNCTUATION.split(_close_addresses(spelling))
        ]
        for part in dict.fromkeys((form, *re.split(r"[\s,;<>()\"']+", form), *_PUNCTUATION.split(form), *closed)):
            yield part
            yield part.strip(_AROUND)
            if "xn--" in part.lower():
                yield _decode_host(part)
            if "/" in part or "\\" in part:
                path = _PROCESS_ROOT.sub("", part.replace("\\", "/"))
                glued = re.search(r"(?:^-{1,2}[A-Za-z]+|[^\w/.-])(/.*)", path)  # -f/etc/x, @/etc/x
                without_host = re.sub(r"^[A-Za-z]+://[^/]*", "", path)
                spellings = (path, _SCHEMES.sub("/", path, count=1), without_host, glued[1] if glued else path)
                for spelling in dict.fromkeys(spellings):
                    folded = posixpath.normpath(spelling)
                    yield re.sub("^/+", "/", folded)
                    if folded.startswith("../"):
                        yield re.sub(r"^(?:\.\./)+", "/", folded)


def _read_command(command: str) -> Iterator[str]:
    """Yield what a shell could run: the command, without quotes, and without what sets variables or runs another."""
    for text in dict.fromkeys((command, _QUOTES.sub("", command))):
        for _ in range(_MAX_PREFIXES):
            program, _, arguments = text.partition(" ")
            yield text
            yield f"{posixpath.basename(program)} {arguments}".strip()
            if not (match := _PREFIX.match(text)):
                break
            text = text[match.end() :]


def _normalize_url(match: re.Match[str]) -> str:
    """Return the URL without user name, default port and a dot at the end of its host, with two slashes and a path."""
    scheme = match["scheme"].lower()
    authority, path = _HOST_END.split(match["rest"].replace("\\", "/"), maxsplit=1)
    host = authority.rpartition("@")[2].lower()
    host = host.removesuffix({"http": ":80", "https": ":443"}.get(scheme, ":")).rstrip(".")
    return f"{scheme}://{host}/{path.removeprefix('/')}"


def _decode_host(text: str) -> str:
    """Return the text with its encoded international host names decoded, where they are valid."""

    def decode(match: re.Match[str]) -> str:
        try:
            return match[0].lower().encode().decode("idna")
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


def url_pieces(text: str) -> list[str]:
    """Return what follows a semicolon or a bar within one URL and could be read as a URL, a path or an address."""
    if not _URL.match(text.strip()):
        return []
    return [piece for piece in _nonempty(re.split(r"[;|]", text))[1:] if _SECOND_TARGET.search(piece)]


def destinations(text: str) -> list[str]:
    """Return the words of the text that are addresses, paths or URLs."""
    return [word for word in _nonempty(_WORDS.split(text)) if is_destination(word)]


def words(text: str) -> list[str]:
    """Return all words of the text."""
    return _nonempty(_WORDS.split(text))


def is_destination(text: str) -> bool:
    """Whether the text may be an address, a path or a URL."""
    return any(mark in text for mark in "@/\\") or text.startswith("~")


def find_recipients(path: str, text: str) -> list[str]:
    """Return the e-mail addresses in the value of an argument that a server may send to.

    ``path`` has the names of the argument and of what is in it, separated by dots. These are all addresses if a name
    says so ("bcc", "ccList"), none if the last one names a sender, and else those of a text that is little more than
    addresses, or of lines such as "Bcc: ...".
    """
    *outer, name = (_name_words(name) for name in path.split("."))
    if any(map(_names_recipients, outer)) or (_names_recipients(name) and not _names_sender(name)):
        return all_addresses(text)
    if _names_sender(name):
        return []
    in_headers = [address for form in _forms(text) for line in _headers(form) for address in all_addresses(line)]
    return in_headers or find_addresses(text)


def all_addresses(text: str) -> list[str]:
    """Return all e-mail addresses in the text, in every form of it."""
    return [address for form in _forms(text) for address in find_joined_addresses(form)]


def find_addresses(text: str) -> list[str]:
    """Return the e-mail addresses if the text is little more than one or several of them, with or without names."""
    if not (addresses := all_addresses(text)):
        return []
    plain = _COMMENTS.sub(" ", _close_addresses(normalize_text(unquote(text))))
    names = [word for word in _ADDRESS_ENDS.split(plain) if "@" not in word and re.search(r"\w", word)]
    most = _MAX_NAME_WORDS if "<" in plain and ">" in plain else _MAX_BARE_WORDS
    return addresses if len(names) <= most * len(set(addresses)) else []


def find_joined_addresses(text: str) -> list[str]:
    """Return what stands around each "@" of a text, up to what cannot be part of an address."""
    words = (
        word.split("@")
        for form in _address_forms(text)
        for word in _ADDRESS_ENDS.split(_close_addresses(form))
        if "@" in word
    )
    return [f"{name}@{host}" for parts in words for name, host in pairwise(parts) if name and host]


def _address_forms(text: str) -> list[str]:
    """Return the text, and with its addresses in their plainest form: no comments, no quotes, no brackets."""
    if "@" not in text:
        return [text]
    plain = _LITERAL_HOST.sub(r"@\1", _QUOTED_NAME.sub("quoted", _strip_comments(text)))
    return list(dict.fromkeys((text, plain)))


def _strip_comments(text: str) -> str:
    """Return the text without what is in parentheses, as addresses may have it: ``x@(comment)example.com``."""
    parts, depth, start, opening = [], 0, 0, 0
    for match in _PARENTHESIS.finditer(text):
        if match[0] == "(":
            opening = opening if depth else match.start()
            depth += 1
        elif match[0] == ")" and depth:
            depth -= 1
            if not depth:
                parts.append(text[start:opening])
                start = match.end()
    return "".join(parts) + text[start:]


def _close_addresses(text: str) -> str:
    """Return the text without blanks around each "@"."""
    return "@".join(part.strip() for part in text.split("@"))


def _names_recipients(name: list[str]) -> bool:
    return any(word in _RECIPIENT_WORDS or word in _ADDRESS_WORDS or word.startswith("bcc") for word in name)


def _names_sender(name: list[str]) -> bool:
    """Whether the name is a sender's, such as ``from_email`` or ``reply_to``; ``user`` only if it is all of it."""
    if name == ["reply", "to"] or (len(name) == 1 and name[0] in _SENDERS):
        return True
    return not _SENDER_WORDS.isdisjoint(name) and _RECIPIENT_WORDS.isdisjoint(name)


def _forms(text: str) -> list[str]:
    return decoded_forms(text) if len(text) < _MAX_RECIPIENTS else [text]


def _headers(text: str) -> list[str]:
    """Return the values of the header lines for recipients, continuation lines included."""
    return _HEADER.findall(_LINE_ENDS.sub("\n", text))


def _name_words(name: str) -> list[str]:
    """Return the words of a name: ``bccRecipients`` and ``bcc_recipients`` have two."""
    separated = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", normalize_text(name))
    return _nonempty(re.split(r"[\W_]+", separated.casefold()))


def _nonempty(pieces: list[str]) -> list[str]:
    return [piece.strip() for piece in pieces if piece.strip()]
