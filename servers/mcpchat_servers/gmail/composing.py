"""A message to send, made of what was asked for: nothing given can become a header or a recipient of its own."""

import email
import email.policy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.header import Header, decode_header, make_header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import EmailPolicy

from mcp.server.mcpserver.exceptions import ToolError

from mcpchat_servers.google.folders import safe_name
from mcpchat_servers.google.names import breaks, same

MOST_ATTACHED = 25 * 10**6  # bytes: what Gmail sends
MOST_RECIPIENTS = 100
LONGEST_SUBJECT = 900  # characters
LONGEST_NAME = 200  # characters of a recipient's name
_POLICY = EmailPolicy(linesep="\r\n", cte_type="7bit", raise_on_defect=True)
_NAMED = re.compile(r'(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<name>[^<>"@,;:\\()\[\]]*?))\s*<(?P<address>[^<>\s]+)>')
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_DOMAIN = re.compile(r"([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_REPLY = re.compile(r"(?i)(re|aw|sv|antw)\s*:\s*")
_HEADERS = {
    "to", "cc", "bcc", "subject", "in-reply-to", "references", "mime-version", "content-type",
    "content-transfer-encoding",
}  # fmt: skip
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,400}>")


@dataclass(frozen=True)
class File:
    """What is attached: a name, a media type such as ``application/pdf``, the bytes."""

    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True)
class Original:
    """The message that is replied to: its subject, its Message-ID and its References, as they came."""

    subject: str
    message_id: str
    references: str


def recipient(text: str) -> Address:
    """One address, ``ada@example.com`` or ``Ada Lovelace <ada@example.com>``. Raises ToolError for anything else."""
    given = text.strip()
    found = _NAMED.fullmatch(given)
    name = (re.sub(r"\\(.)", r"\1", found["quoted"] or "") or found["name"] or "").strip() if found else ""
    address = found["address"] if found else given
    local, at, domain = address.rpartition("@")
    try:
        host = domain.encode("idna").decode() if domain and not domain.isascii() else domain
    except UnicodeError:
        host = ""
    fine = at and _LOCAL.fullmatch(local) and _DOMAIN.fullmatch(host) and len(address) <= 254 and len(local) <= 64
    if not fine or any(map(breaks, name)) or "=?" in name or len(name) > LONGEST_NAME:
        raise ToolError(
            f"{given[:100]!r} is no address: expected ada@example.com or Ada Lovelace <ada@example.com>, one a string"
        )
    return Address(display_name=name, username=local, domain=host)


def compose(
    *,
    to: Sequence[str],
    cc: Sequence[str] = (),
    bcc: Sequence[str] = (),
    subject: str,
    body: str,
    files: Sequence[File] = (),
    original: Original | None = None,
) -> bytes:
    """The message as it is sent. Raises ToolError for what cannot stand in one."""
    recipients = {name: [recipient(one) for one in each] for name, each in (("To", to), ("Cc", cc), ("Bcc", bcc))}
    if sum(map(len, recipients.values())) > MOST_RECIPIENTS:
        raise ToolError(f"more than {MOST_RECIPIENTS} recipients")
    lines = [_address_line(name, each) for name, each in recipients.items() if each]
    lines.append(f"Subject: {_encoded(_subject(subject))}\r\n")
    if original is not None and (own := _message_ids(original.message_id)[:1]):
        ids = [*_message_ids(original.references)[-20:], own[0]]
        lines += [f"In-Reply-To: {own[0]}\r\n", "References: " + "\r\n ".join(ids) + "\r\n"]
    message = EmailMessage(policy=_POLICY)
    if "\0" in body:
        raise ToolError("body: a NUL cannot be sent")
    message.set_content(body)
    if sum(len(file.data) for file in files) > MOST_ATTACHED:
        raise ToolError(f"Gmail sends attachments of at most {MOST_ATTACHED:,} bytes in all: share them by Drive")
    for file in files:
        kind, _, subtype = file.media_type.partition("/")
        if kind in {"message", "multipart"}:  # which may not be encoded
            kind, subtype = "application", "octet-stream"
        message.add_attachment(file.data, maintype=kind, subtype=subtype, filename=safe_name(file.name))
    # The email package decodes what is set as a header, folds it, and loses quotes: it writes none that anybody gave.
    whole = "".join(lines).encode("ascii") + message.as_bytes()
    _check(whole, recipients, subject, body)
    return whole


def _address_line(name: str, recipients: Sequence[Address]) -> str:
    """A header of addresses, one a line. The email package's own folding loses quotes, and with them who gets it."""
    return f"{name}: " + ",\r\n ".join(map(_mailbox, recipients)) + "\r\n"


def _mailbox(one: Address) -> str:
    if not one.display_name:
        return one.addr_spec
    if one.display_name.isascii() and "=?" not in one.display_name:
        escaped = re.sub(r'([\\"])', r"\\\1", one.display_name)
        return f'"{escaped}" <{one.addr_spec}>'
    return f"{_encoded(one.display_name)} <{one.addr_spec}>"


def _encoded(text: str) -> str:
    """A text as a header holds it: as it is, or in encoded words where it would be taken for something else."""
    if text.isascii() and "=?" not in text:
        return text
    return Header(text, "utf-8").encode(linesep="\r\n", maxlinelen=70)


def _message_ids(text: str) -> list[str]:
    return [one for one in _MESSAGE_ID.findall(text) if "=?" not in one]


def _check(whole: bytes, recipients: Mapping[str, Sequence[Address]], subject: str, body: str) -> None:
    """Hold what is sent against what was asked for. Raises ToolError where anything would be added or lost."""
    parsed = email.message_from_bytes(whole, policy=email.policy.default)
    names = [name.lower() for name in parsed]
    if len(names) != len(set(names)) or not set(names) <= _HEADERS:
        raise ToolError("this cannot be written into a mail without headers of its own")
    for name, wanted in recipients.items():
        header = parsed[name]
        found = [one.addr_spec for one in header.addresses] if header is not None else []
        if found != [one.addr_spec for one in wanted]:
            raise ToolError(f"{name}: these names and addresses cannot be written into a mail; leave the names out")
    raw = email.message_from_bytes(whole, policy=email.policy.compat32)
    if str(make_header(decode_header(raw["Subject"]))).split() != subject.split():
        raise ToolError("subject: this cannot be written into a mail as it is")
    text = parsed.get_body(("plain",))
    if text is None or str(text.get_content()).split() != body.split():
        raise ToolError("body: this cannot be written into a mail as it is")


def answering(subject: str) -> str:
    """The subject of a reply."""
    clean = " ".join("".join(" " if breaks(char) else char for char in subject).split())[: LONGEST_SUBJECT - 4]
    return clean if _REPLY.match(clean) else f"Re: {clean}"


def subject_of_reply(given: str | None, original: str) -> str:
    """The subject of a reply. Gmail begins another conversation where it is another's. Raises ToolError there."""
    wanted = answering(original)
    if given is not None and not same(_REPLY.sub("", given.strip()).lower(), _REPLY.sub("", wanted).lower()):
        raise ToolError(f"subject: a reply keeps its conversation's, {wanted!r}: leave it out, or write a new message")
    return wanted


def _subject(text: str) -> str:
    if any(map(breaks, text)):
        raise ToolError("subject: expected one line, without control characters")
    if len(text) > LONGEST_SUBJECT:
        raise ToolError(f"subject: longer than {LONGEST_SUBJECT} characters")
    return text
