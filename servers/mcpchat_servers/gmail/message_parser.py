"""Gmail's form of a message as values: headers, the text that a person would read, the attachments."""

import base64
import email.header
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.errors import MessageError
from email.utils import getaddresses
from html import unescape
from typing import Annotated, Any

from pydantic import BaseModel, Field

from mcpchat_servers.google.display_names import to_one_line
from mcpchat_servers.google.text_extraction import decode_text, html_to_text

ROOT_PART_ID = "0"  # the part of a message that is nothing but a file; Gmail's own name for it is empty
MAX_LISTED_ITEMS = 20  # recipients and attachments of a message that are listed
MAX_REPLY_RECIPIENTS = 80  # recipients of a reply to all
_RECIPIENT_HEADERS = {"to", "cc", "bcc"}
_ADDRESS_HEADERS = {*_RECIPIENT_HEADERS, "from", "reply-to"}
_MAX_ENCODED_LENGTH = 4000  # characters of a header whose encoded words are decoded: that is quadratic
_MAX_HEADER_LENGTH = 50_000
_MAX_DISPLAY_LENGTH = 1000
_MAX_DEPTH = 30  # multiparts within multiparts
_CHARSET = re.compile(r"""charset\s*=\s*"?([\w.:-]+)""", re.IGNORECASE)
Raw = Mapping[str, Any]


class Attachment(BaseModel):
    """A file in a message. ``part_id`` names it in this message, for good."""

    part_id: str
    name: str
    media_type: str
    size: Annotated[int, Field(description="Bytes")]


class Message(BaseModel):
    """A message's headers and labels."""

    id: str
    thread_id: str
    date: Annotated[str | None, Field(description="When Gmail got it, RFC 3339.")] = None
    sender: Annotated[str, Field(description="The From header.")]
    to: list[str] = []
    cc: list[str] | None = None
    bcc: list[str] | None = None
    subject: str
    labels: list[str] = []
    snippet: Annotated[str | None, Field(description="Its first words.")] = None
    attachments: list[Attachment] | None = None
    left_out: Annotated[int | None, Field(description="Recipients and attachments that are not listed.")] = None


class Reply(BaseModel):
    """Whom a reply goes to."""

    to: list[str]
    all_cc: Annotated[list[str], Field(description="Who else gets a reply to all, as cc.")] = []
    left_out: Annotated[int | None, Field(description="How many more there are, for a reply to all.")] = None


def parse_headers(raw: Raw) -> dict[str, str]:
    """The headers by their name in small letters, as far as anybody reads them; of those that stand there several times
    the first, and all recipients. Addresses are as they came: their names are decoded one by one."""
    headers: dict[str, str] = {}
    for header in (raw.get("payload") or {}).get("headers") or ():
        name, value = str(header.get("name", "")).lower(), str(header.get("value", ""))
        if name in _RECIPIENT_HEADERS and name in headers:
            headers[name] = f"{headers[name]}, {value[:_MAX_HEADER_LENGTH]}"
        elif name in _ADDRESS_HEADERS:
            headers.setdefault(name, value[:_MAX_HEADER_LENGTH])
        else:
            headers.setdefault(name, _decode_header(value))
    return headers


def _decode_header(value: str) -> str:
    """The text of a header, with encoded words decoded where Gmail left any."""
    if "=?" in value and len(value) <= _MAX_ENCODED_LENGTH:
        with suppress(ValueError, LookupError, MessageError):
            value = str(email.header.make_header(email.header.decode_header(value)))
    return " ".join(value[:_MAX_HEADER_LENGTH].split())


def parse_message(raw: Raw, labels: Mapping[str, str]) -> Message:
    """What is told of a message. ``labels`` are the names of labels by id."""
    headers = parse_headers(raw)
    is_full = "mimeType" in (raw.get("payload") or {})  # a summary has headers alone
    files = [parse_attachment(part) for part in iter_parts(raw) if is_attachment(part)] if is_full else []
    recipients = {name: parse_addresses(headers.get(name, "")) for name in ("to", "cc", "bcc")}
    omitted = sum(max(count - MAX_LISTED_ITEMS, 0) for count in (*map(len, recipients.values()), len(files)))
    return Message(
        id=raw["id"],
        thread_id=raw.get("threadId", ""),
        date=_parse_date(raw.get("internalDate")),
        sender=", ".join(parse_addresses(headers.get("from", ""))[:3])
        or to_one_line(_decode_header(headers.get("from", ""))),
        to=recipients["to"][:MAX_LISTED_ITEMS],
        cc=recipients["cc"][:MAX_LISTED_ITEMS] or None,
        bcc=recipients["bcc"][:MAX_LISTED_ITEMS] or None,
        subject=to_one_line(headers.get("subject", ""), _MAX_DISPLAY_LENGTH),
        labels=[labels.get(label_id, label_id) for label_id in raw.get("labelIds") or ()],
        snippet=to_one_line(unescape(str(raw.get("snippet") or "")), _MAX_DISPLAY_LENGTH) or None,
        attachments=files[:MAX_LISTED_ITEMS] or None,
        left_out=omitted or None,
    )


def _parse_date(milliseconds: object) -> str | None:
    try:
        return datetime.fromtimestamp(int(str(milliseconds)) / 1000, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None


def parse_mailboxes(header: str) -> list[tuple[str, str]]:
    """The names and addresses of a header. A header that is none has none."""
    with suppress(RecursionError):
        pairs = getaddresses([header])
        return [
            (to_one_line(_decode_header(name), 200), to_one_line(address, 320)) for name, address in pairs if address
        ]
    return []


def parse_addresses(header: str) -> list[str]:
    """Each address of a header as it is written: ``Name <address>``, the name quoted where it must be."""
    return [_format_mailbox(name, address) for name, address in parse_mailboxes(header)]


def _format_mailbox(name: str, address: str) -> str:
    if not name:
        return address
    if re.search(r'[()<>@,;:\\".\[\]]', name):
        escaped = re.sub(r'([\\"])', r"\\\1", name)
        return f'"{escaped}" <{address}>'
    return f"{name} <{address}>"


def find_reply_recipients(raw: Raw, own_address: str) -> Reply:
    """Whom a reply goes to: whom the message says, or of one's own message whom it went to; never oneself."""
    headers = parse_headers(raw)
    to, cc = parse_mailboxes(headers.get("to", "")), parse_mailboxes(headers.get("cc", ""))
    primary = parse_mailboxes(headers.get("reply-to", "")) or parse_mailboxes(headers.get("from", ""))
    if own_address and own_address in {address.lower() for _, address in parse_mailboxes(headers.get("from", ""))}:
        primary, to = to, []
    primary = [mailbox for mailbox in primary if mailbox[1].lower() != own_address] or primary
    known = {address.lower() for _, address in primary} | {own_address}
    others = {address.lower(): (name, address) for name, address in (*to, *cc) if address.lower() not in known}
    rest = list(others.values())
    omitted = max(len(primary) - MAX_LISTED_ITEMS, 0) + max(len(rest) - MAX_REPLY_RECIPIENTS, 0)
    return Reply(
        to=[_format_mailbox(*mailbox) for mailbox in primary[:MAX_LISTED_ITEMS]],
        all_cc=[_format_mailbox(*mailbox) for mailbox in rest[:MAX_REPLY_RECIPIENTS]],
        left_out=omitted or None,
    )


def iter_parts(raw: Raw) -> Iterator[Raw]:
    """Every part that is no multipart, in order. A message within a message is one part."""
    yield from _iter_leaves(raw.get("payload") or {}, 0)


def _iter_leaves(part: Raw, depth: int) -> Iterator[Raw]:
    children = part.get("parts") or ()
    if not children or str(part.get("mimeType", "")).startswith("message/") or depth > _MAX_DEPTH:
        yield part
        return
    for child in children:
        yield from _iter_leaves(child, depth + 1)


def is_attachment(part: Raw) -> bool:
    kind = str(part.get("mimeType", ""))
    return bool(part.get("filename")) or not kind.startswith(("text/", "multipart/"))


def nested_payload(part: Raw) -> Raw:
    """A message within a message whose bytes Gmail does not send, as a payload of its own."""
    return {"mimeType": "multipart/mixed", "parts": part.get("parts") or ()}


def parse_attachment(part: Raw) -> Attachment:
    kind = str(part.get("mimeType") or "application/octet-stream")
    name = to_one_line(_decode_header(str(part.get("filename") or "")), 200)
    return Attachment(
        part_id=str(part.get("partId") or ROOT_PART_ID),
        name=name or ("message.eml" if kind == "message/rfc822" else "unnamed"),
        media_type=kind,
        size=int((part.get("body") or {}).get("size") or 0),
    )


def decode_base64url(data: str) -> bytes:
    """The bytes of Gmail's base64, which is the one for addresses and has no padding."""
    try:
        return base64.urlsafe_b64decode(data + "=" * (-len(data) % 4))
    except ValueError:
        return b""


def find_text_parts(part: Raw, depth: int = 0) -> list[Raw]:
    """The parts whose text a person would read: of alternatives the plain one, or else the one in HTML."""
    kind = str(part.get("mimeType", ""))
    children: Sequence[Raw] = part.get("parts") or ()
    if children and not kind.startswith("message/") and depth <= _MAX_DEPTH:
        if kind == "multipart/alternative":
            for media_type in ("text/plain", ""):
                for child in children:
                    parts = find_text_parts(child, depth + 1)
                    if parts and all(str(item.get("mimeType")) == media_type or not media_type for item in parts):
                        return parts
            return []
        return [text_part for child in children for text_part in find_text_parts(child, depth + 1)]
    body = part.get("body") or {}
    has_text = kind.startswith("text/") and not part.get("filename") and bool(body.get("size") or body.get("data"))
    return [part] if has_text else []


async def extract_part_text(part: Raw, data: bytes) -> str:
    """A part's text, HTML made plain."""
    # Gmail has mostly made UTF-8 of it already, whatever the header says; but not of everything.
    text = decode_text(data, find_charset(part)) or data.decode(errors="replace")
    return await html_to_text(text) if part.get("mimeType") == "text/html" else text.strip()


def find_charset(part: Raw) -> str:
    for header in part.get("headers") or ():
        if str(header.get("name", "")).lower() == "content-type" and (
            match := _CHARSET.search(str(header.get("value", "")))
        ):
            return match[1]
    return ""


def format_messages(messages: Sequence[Message]) -> list[str]:
    """Messages as a model reads them in a list: who, what and when; the ids, the labels and the first words."""
    lines = []
    for message in messages:
        date = (message.date or "")[:16].replace("T", " ")
        lines.append(f"{date}  {message.sender}: {message.subject}")
        lines.append(
            f"    message {message.id}, thread {message.thread_id}  [{', '.join(message.labels)}]"
            f"  {message.snippet or ''}"
        )
    return lines


def format_headers(message: Message) -> str:
    """The headers as a person reads them, above a text."""
    lines = [
        ("From", message.sender),
        ("To", ", ".join(message.to)),
        ("Cc", ", ".join(message.cc or ())),
        ("Bcc", ", ".join(message.bcc or ())),
        ("Date", message.date or ""),
        ("Subject", message.subject),
        ("Labels", ", ".join(message.labels)),
        ("Message", f"{message.id} in thread {message.thread_id}"),
    ]
    lines += [
        (
            "Attachment",
            f"part_id {attachment.part_id}: {attachment.name} ({attachment.media_type}, {attachment.size:,} bytes)",
        )
        for attachment in message.attachments or ()
    ]
    lines.append(("Not listed", f"{message.left_out} more recipients and attachments" if message.left_out else ""))
    return "\n".join(f"{name}: {value}" for name, value in lines if value)


def escape_message_markers(text: str) -> str:
    """A text in which no line can be taken for the head of another message of the same conversation."""
    return re.sub(r"(?m)^(\[message \d)", r" \1", text)
