"""A message to send, made of what was asked for: nothing given can become a header or a recipient of its own."""

import email
import email.policy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import EmailPolicy

from mcp.server.mcpserver.exceptions import ToolError

from mcpchat_servers.google.folders import safe_name

MOST_ATTACHED = 25 * 10**6  # bytes: what Gmail sends
MOST_RECIPIENTS = 100
LONGEST_SUBJECT = 900  # characters
LONGEST_NAME = 200  # characters of a recipient's name
_POLICY = EmailPolicy(linesep="\r\n", cte_type="7bit", raise_on_defect=True)
_NAMED = re.compile(r'(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<name>[^<>"@,;:\\()\[\]]*?))\s*<(?P<address>[^<>\s]+)>')
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_DOMAIN = re.compile(r"([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
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
    if not fine or not name.isprintable() or "=?" in name or len(name) > LONGEST_NAME:
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
    message = EmailMessage(policy=_POLICY)
    message["Subject"] = _subject(subject)
    if original is not None and (own := _MESSAGE_ID.findall(original.message_id)[:1]):
        message["In-Reply-To"] = own[0]
        message["References"] = " ".join([*_MESSAGE_ID.findall(original.references)[-20:], own[0]])
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
    head = "".join(_address_line(name, each) for name, each in recipients.items() if each).encode("ascii")
    whole = head + message.as_bytes()
    _check(whole, recipients)
    return whole


def _address_line(name: str, recipients: Sequence[Address]) -> str:
    """A header of addresses, one a line. The email package's own folding loses quotes, and with them who gets it."""
    return f"{name}: " + ",\r\n ".join(map(_mailbox, recipients)) + "\r\n"


def _mailbox(one: Address) -> str:
    if not one.display_name:
        return one.addr_spec
    if one.display_name.isascii():
        escaped = re.sub(r'([\\"])', r"\\\1", one.display_name)
        return f'"{escaped}" <{one.addr_spec}>'
    words = Header(one.display_name, "utf-8").encode(linesep="\r\n", maxlinelen=70)
    return f"{words} <{one.addr_spec}>"


def _check(whole: bytes, recipients: Mapping[str, Sequence[Address]]) -> None:
    """Hold what is sent against what was asked for. Raises ToolError where anybody would be added or lost."""
    parsed = email.message_from_bytes(whole, policy=email.policy.default)
    for name, wanted in recipients.items():
        header = parsed[name]
        found = [one.addr_spec for one in header.addresses] if header is not None else []
        if found != [one.addr_spec for one in wanted]:
            raise ToolError(f"{name}: these names and addresses cannot be written into a mail; leave the names out")


def answering(subject: str) -> str:
    """The subject of a reply."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in subject).split())[:LONGEST_SUBJECT]
    return clean if re.match(r"(?i)(re|aw|sv|antw)\s*:", clean) else f"Re: {clean}"


def subject_of_reply(given: str | None, original: str) -> str:
    """The subject of a reply. Gmail begins another conversation where it is another's. Raises ToolError there."""
    wanted = answering(original)
    if given is not None and answering(given).lower().split()[1:] != wanted.lower().split()[1:]:
        raise ToolError(f"subject: a reply keeps its conversation's, {wanted!r}: leave it out, or write a new message")
    return wanted


def _subject(text: str) -> str:
    if not text.isprintable():
        raise ToolError("subject: expected one line, without control characters")
    if len(text) > LONGEST_SUBJECT:
        raise ToolError(f"subject: longer than {LONGEST_SUBJECT} characters")
    return text
