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

from mcpchat_servers.google.names import one_line
from mcpchat_servers.google.texts import decoded, html_text

WHOLE = "0"  # the part of a message that is nothing but a file; Gmail's own name for it is empty
SHOWN = 20  # recipients and attachments of a message that are listed
MOST_REPLIED = 80  # recipients of a reply to all
_RECIPIENTS = {"to", "cc", "bcc"}
_ADDRESSED = {*_RECIPIENTS, "from", "reply-to"}
_LONGEST_ENCODED = 4000  # characters of a header whose encoded words are decoded: that is quadratic
_LONGEST_HEADER = 50_000
_LONGEST_SHOWN = 1000
_DEEPEST = 30  # multiparts within multiparts
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


def headers_of(raw: Raw) -> dict[str, str]:
    """The headers by their name in small letters, as far as anybody reads them; of those that stand there several times
    the first, and all recipients. Addresses are as they came: their names are decoded one by one."""
    found: dict[str, str] = {}
    for one in (raw.get("payload") or {}).get("headers") or ():
        name, value = str(one.get("name", "")).lower(), str(one.get("value", ""))
        if name in _RECIPIENTS and name in found:
            found[name] = f"{found[name]}, {value[:_LONGEST_HEADER]}"
        elif name in _ADDRESSED:
            found.setdefault(name, value[:_LONGEST_HEADER])
        else:
            found.setdefault(name, _words(value))
    return found


def _words(value: str) -> str:
    """The text of a header, with encoded words decoded where Gmail left any."""
    if "=?" in value and len(value) <= _LONGEST_ENCODED:
        with suppress(ValueError, LookupError, MessageError):
            value = str(email.header.make_header(email.header.decode_header(value)))
    return " ".join(value[:_LONGEST_HEADER].split())


def message_of(raw: Raw, labels: Mapping[str, str]) -> Message:
    """What is told of a message. ``labels`` are the names of labels by id."""
    headers = headers_of(raw)
    whole = "mimeType" in (raw.get("payload") or {})  # a summary has headers alone
    files = [attachment_of(part) for part in parts_of(raw) if is_attachment(part)] if whole else []
    recipients = {name: addresses(headers.get(name, "")) for name in ("to", "cc", "bcc")}
    left = sum(max(count - SHOWN, 0) for count in (*map(len, recipients.values()), len(files)))
    return Message(
        id=raw["id"],
        thread_id=raw.get("threadId", ""),
        date=_date(raw.get("internalDate")),
        sender=", ".join(addresses(headers.get("from", ""))[:3]) or one_line(_words(headers.get("from", ""))),
        to=recipients["to"][:SHOWN],
        cc=recipients["cc"][:SHOWN] or None,
        bcc=recipients["bcc"][:SHOWN] or None,
        subject=one_line(headers.get("subject", ""), _LONGEST_SHOWN),
        labels=[labels.get(one, one) for one in raw.get("labelIds") or ()],
        snippet=one_line(unescape(str(raw.get("snippet") or "")), _LONGEST_SHOWN) or None,
        attachments=files[:SHOWN] or None,
        left_out=left or None,
    )


def _date(milliseconds: object) -> str | None:
    try:
        return datetime.fromtimestamp(int(str(milliseconds)) / 1000, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None


def mailboxes(header: str) -> list[tuple[str, str]]:
    """The names and addresses of a header. A header that is none has none."""
    with suppress(RecursionError):
        found = getaddresses([header])
        return [(one_line(_words(name), 200), one_line(address, 320)) for name, address in found if address]
    return []


def addresses(header: str) -> list[str]:
    """Each address of a header as it is written: ``Name <address>``, the name quoted where it must be."""
    return [_written(name, address) for name, address in mailboxes(header)]


def _written(name: str, address: str) -> str:
    if not name:
        return address
    if re.search(r'[()<>@,;:\\".\[\]]', name):
        escaped = re.sub(r'([\\"])', r"\\\1", name)
        return f'"{escaped}" <{address}>'
    return f"{name} <{address}>"


def reply_of(raw: Raw, own: str) -> Reply:
    """Whom a reply goes to: whom the message says, or of one's own message whom it went to; never oneself."""
    headers = headers_of(raw)
    to, cc = mailboxes(headers.get("to", "")), mailboxes(headers.get("cc", ""))
    first = mailboxes(headers.get("reply-to", "")) or mailboxes(headers.get("from", ""))
    if own and own in {address.lower() for _, address in mailboxes(headers.get("from", ""))}:
        first, to = to, []
    first = [one for one in first if one[1].lower() != own] or first
    known = {address.lower() for _, address in first} | {own}
    others = {address.lower(): (name, address) for name, address in (*to, *cc) if address.lower() not in known}
    rest = list(others.values())
    left = max(len(first) - SHOWN, 0) + max(len(rest) - MOST_REPLIED, 0)
    return Reply(
        to=[_written(*one) for one in first[:SHOWN]],
        all_cc=[_written(*one) for one in rest[:MOST_REPLIED]],
        left_out=left or None,
    )


def parts_of(raw: Raw) -> Iterator[Raw]:
    """Every part that is no multipart, in order. A message within a message is one part."""
    yield from _leaves(raw.get("payload") or {}, 0)


def _leaves(part: Raw, depth: int) -> Iterator[Raw]:
    children = part.get("parts") or ()
    if not children or str(part.get("mimeType", "")).startswith("message/") or depth > _DEEPEST:
        yield part
        return
    for child in children:
        yield from _leaves(child, depth + 1)


def is_attachment(part: Raw) -> bool:
    kind = str(part.get("mimeType", ""))
    return bool(part.get("filename")) or not kind.startswith(("text/", "multipart/"))


def inner_message(part: Raw) -> Raw:
    """A message within a message whose bytes Gmail does not send, as a payload of its own."""
    return {"mimeType": "multipart/mixed", "parts": part.get("parts") or ()}


def attachment_of(part: Raw) -> Attachment:
    kind = str(part.get("mimeType") or "application/octet-stream")
    name = one_line(_words(str(part.get("filename") or "")), 200)
    return Attachment(
        part_id=str(part.get("partId") or WHOLE),
        name=name or ("message.eml" if kind == "message/rfc822" else "unnamed"),
        media_type=kind,
        size=int((part.get("body") or {}).get("size") or 0),
    )


def unlocked(data: str) -> bytes:
    """The bytes of Gmail's base64, which is the one for addresses and has no padding."""
    try:
        return base64.urlsafe_b64decode(data + "=" * (-len(data) % 4))
    except ValueError:
        return b""


def shown_parts(part: Raw, depth: int = 0) -> list[Raw]:
    """The parts whose text a person would read: of alternatives the plain one, or else the one in HTML."""
    kind = str(part.get("mimeType", ""))
    children: Sequence[Raw] = part.get("parts") or ()
    if children and not kind.startswith("message/") and depth <= _DEEPEST:
        if kind == "multipart/alternative":
            for wanted in ("text/plain", ""):
                for child in children:
                    shown = shown_parts(child, depth + 1)
                    if shown and all(str(one.get("mimeType")) == wanted or not wanted for one in shown):
                        return shown
            return []
        return [one for child in children for one in shown_parts(child, depth + 1)]
    body = part.get("body") or {}
    has_text = kind.startswith("text/") and not part.get("filename") and bool(body.get("size") or body.get("data"))
    return [part] if has_text else []


async def text_of_part(part: Raw, data: bytes) -> str:
    """A part's text, HTML made plain."""
    # Gmail has mostly made UTF-8 of it already, whatever the header says; but not of everything.
    text = decoded(data, charset_of(part)) or data.decode(errors="replace")
    return await html_text(text) if part.get("mimeType") == "text/html" else text.strip()


def charset_of(part: Raw) -> str:
    for one in part.get("headers") or ():
        if str(one.get("name", "")).lower() == "content-type" and (found := _CHARSET.search(str(one.get("value", "")))):
            return found[1]
    return ""


def message_lines(messages: Sequence[Message]) -> list[str]:
    """Messages as a model reads them in a list: who, what and when; the ids, the labels and the first words."""
    lines = []
    for one in messages:
        when = (one.date or "")[:16].replace("T", " ")
        lines.append(f"{when}  {one.sender}: {one.subject}")
        lines.append(f"    message {one.id}, thread {one.thread_id}  [{', '.join(one.labels)}]  {one.snippet or ''}")
    return lines


def header_lines(message: Message) -> str:
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
        ("Attachment", f"part_id {one.part_id}: {one.name} ({one.media_type}, {one.size:,} bytes)")
        for one in message.attachments or ()
    ]
    lines.append(("Not listed", f"{message.left_out} more recipients and attachments" if message.left_out else ""))
    return "\n".join(f"{name}: {value}" for name, value in lines if value)


def quoted_body(text: str) -> str:
    """A text in which no line can be taken for the head of another message of the same conversation."""
    return re.sub(r"(?m)^(\[message \d)", r" \1", text)
