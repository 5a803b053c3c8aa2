"""The e-mail addresses in the arguments of a call: in every notation, and whom a server may send to."""

import re
from collections.abc import Sequence
from itertools import pairwise
from urllib.parse import unquote

from mcpchat.core.text_forms import decoded_forms, nonempty, normalize_text

_MAX_RECIPIENTS = 20_000  # characters
_HEADER = re.compile(r"^[ \t]*(?:resent-)?(?:b?cc|to)[ \t]*:(.*(?:\n[ \t].*)*)", re.IGNORECASE | re.MULTILINE)
_LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_RECIPIENT_WORDS = frozenset(
    ("bcc", "cc", "to", "recipient", "recipients", "addressee", "addressees", "attendee", "attendees", "invitee",
     "invitees", "guest", "guests", "notify", "share", "invite", "forward")
)  # fmt: skip
_ADDRESS_WORDS = frozenset(("email", "emails", "mail", "mails"))
_SENDER_WORDS = frozenset(("from", "sender", "author"))
_SENDERS = _SENDER_WORDS | {"user", "username", "account", "login", "replyto"}
_OWN_WORDS = frozenset(("user", "account", "login", "my", "own", "google"))  # "user_google_email": whose mail it is
_MESSAGE_NAMES = frozenset(("inreplyto", "references", "messageid", "threadid", "contentid", "msgid"))
_COMMENTS = re.compile(r"\([^()]*\)|\"[^\"]*\"")
_PARENTHESIS = re.compile(r"\\.|[()]", re.DOTALL)
_QUOTED_NAME = re.compile(r"\"[^\"]*\"(?=\s*@)")  # "x y"@example.com
_LITERAL_HOST = re.compile(r"@\s*\[([^\s\[\]]*)\]")  # x@[192.0.2.1]
_MAX_NAME_WORDS, _MAX_BARE_WORDS = 6, 2  # words beside each address in a list of addresses: "Ann <a@b>", "Ann a@b"
_ENDS = re.compile(r"[\s<>,;:|()\[\]{}\"']+")
_VERSION = re.compile(r"[~^=v]?\d+(?:\.\d+){0,2}(?:[-+.][\w.+-]*)?|latest|next")  # of a package: node@20.1
_PATH = re.compile(r"(?:\.{0,2}|~\w*|[A-Za-z]:)[/\\]")
_DOMAIN = re.compile(r"@[^\s@<>,;]+")


def find_recipients(path: Sequence[str], text: str) -> list[str]:
    """Return the e-mail addresses in the value of an argument that a server may send to.

    ``path`` has the names of the argument and of what is in it. These are all addresses if a name says so ("bcc",
    "ccList"), only those of lines such as "Bcc: ..." if the last one names a sender or another message, and else
    those of a text that is little more than addresses.
    """
    *outer, name = (_name_words(name) for name in path)
    in_headers = [address for form in _forms(text) for line in _headers(form) for address in all_addresses(line)]
    if any(map(_names_recipients, outer)):
        return all_addresses(text)
    if _names_sender(name) or "".join(name) in _MESSAGE_NAMES:
        return in_headers
    if _names_recipients(name):
        return all_addresses(text)
    return in_headers or find_addresses(text)


def all_addresses(text: str) -> list[str]:
    """Return all e-mail addresses in the text, in every form of it."""
    return [address for form in _forms(text) for address in find_joined_addresses(form)]


def find_addresses(text: str) -> list[str]:
    """Return the e-mail addresses if the text is little more than one or several of them, with or without names.

    Versions of packages (``node@20.1``) and paths (``/tmp/a@b.pdf``) are none.
    """
    addresses = [address for address in all_addresses(text) if not _is_other(address)]
    if not addresses:
        return []
    plain = _COMMENTS.sub(" ", close_addresses(normalize_text(unquote(text))))
    names = [word for word in _ENDS.split(plain) if "@" not in word and re.search(r"\w", word)]
    most = _MAX_NAME_WORDS if "<" in plain and ">" in plain else _MAX_BARE_WORDS
    return addresses if len(names) <= most * len(set(addresses)) else []


def _is_other(address: str) -> bool:
    name, _, host = address.partition("@")
    return _VERSION.fullmatch(host) is not None or _PATH.match(name) is not None


def find_joined_addresses(text: str) -> list[str]:
    """Return what stands around each "@" of a text, up to what cannot be part of an address."""
    words = (
        word.split("@") for form in address_forms(text) for word in _ENDS.split(close_addresses(form)) if "@" in word
    )
    return [f"{name}@{host}" for parts in words for name, host in pairwise(parts) if name and host]


def address_forms(text: str) -> list[str]:
    """Return the text, and with its addresses in their plainest form: no comments, no quotes, no brackets."""
    if "@" not in text:
        return [text]
    plain = _LITERAL_HOST.sub(r"@\1", _QUOTED_NAME.sub("quoted", _strip_comments(text)))
    return list(dict.fromkeys((text, plain)))


def lower_domains(text: str) -> str:
    """Return the text with the domains of its addresses in lower case: their case means nothing."""
    return _DOMAIN.sub(lambda match: match[0].lower(), text)


def close_addresses(text: str) -> str:
    """Return the text without blanks around each "@"."""
    return "@".join(part.strip() for part in text.split("@"))


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


def _names_recipients(name: list[str]) -> bool:
    return any(word in _RECIPIENT_WORDS or word in _ADDRESS_WORDS or word.startswith("bcc") for word in name)


def _names_sender(name: list[str]) -> bool:
    """Whether the name is a sender's, such as ``from_email``, ``reply_to`` or ``user_email``."""
    if name == ["reply", "to"] or (len(name) == 1 and name[0] in _SENDERS):
        return True
    words = set(name)
    if words & _OWN_WORDS and words & _ADDRESS_WORDS and words <= _OWN_WORDS | _ADDRESS_WORDS | {"address", "id"}:
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
    return nonempty(re.split(r"[\W_]+", separated.casefold()))
