"""Parses messages in the Gmail API's format: headers, visible text, attachments."""

import base64
import email.header
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.errors import MessageError
from email.utils import getaddresses
from html import unescape
from typing import Annotated, Any, NamedTuple

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from mcpchat_servers.google.display_names import to_one_line
from mcpchat_servers.google.text_extraction import decode_text, find_visible_text, html_to_text, is_html

ROOT_PART_ID = "0"  # the only part of a message that is just a file; Gmail's own part id for it is empty
MAX_LISTED_ITEMS = 20  # listed recipients and attachments of a message
MAX_REPLY_RECIPIENTS = 80  # recipients of a reply to all that are listed
_RECIPIENT_HEADERS = {"to", "cc", "bcc"}
_ADDRESS_HEADERS = {*_RECIPIENT_HEADERS, "from", "reply-to"}
_MAX_ENCODED_LENGTH = 4000  # characters; longer headers are not decoded, because decoding encoded words is quadratic
_MAX_HEADER_LENGTH = 50_000  # characters
_MAX_DISPLAY_LENGTH = 1000  # characters of a subject or snippet
_MAX_DEPTH = 30  # of nested multiparts
_CHARSET = re.compile(r"""charset\s*=\s*"?([\w.:-]+)""", re.IGNORECASE)
_MAX_UNSUBSCRIBE_LINKS = 3
_UNSUBSCRIBE_LINK = re.compile(r"(https?://|mailto:)[!-~]+", re.IGNORECASE)
_LINK = re.compile(r"<?\bhttps?://[^\s<>()\[\]]+|\bmailto:[^\s<>()]+")
Raw = Mapping[str, Any]


class Attachment(BaseModel):
    """A file in a message. ``part_id`` identifies it in this message and does not change."""

    part_id: str
    name: str
    media_type: str
    size: Annotated[int, Field(description="Bytes")]


class Message(BaseModel):
    """A message's headers and labels."""

    id: str
    thread_id: str
    date: Annotated[str | None, Field(description="When Gmail received it, RFC 3339.")] = None
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
    """The recipients of a reply."""

    to: list[str]
    all_cc: Annotated[list[str], Field(description="The cc recipients of a reply to all.")] = []
    left_out: Annotated[int | None, Field(description="Number of recipients that are not listed.")] = None


def parse_headers(raw: Raw) -> dict[str, str]:
    """Return the headers by lower-case name, each limited to _MAX_HEADER_LENGTH characters.

    Of repeated headers the first one counts, but recipients are joined. Address headers are returned undecoded: their
    display names are decoded one by one later.
    """
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
    """Return the text of a header, with encoded words decoded if Gmail left any."""
    if "=?" in value and len(value) <= _MAX_ENCODED_LENGTH:
        with suppress(ValueError, LookupError, MessageError):
            value = str(email.header.make_header(email.header.decode_header(value)))
    return " ".join(value[:_MAX_HEADER_LENGTH].split())


def parse_message(raw: Raw, labels: Mapping[str, str]) -> Message:
    """Convert a message of the Gmail API. ``labels`` maps label ids to names."""
    headers = parse_headers(raw)
    is_full = "mimeType" in (raw.get("payload") or {})  # a summary has only headers
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
    """Return the names and addresses of an address header. A header that cannot be parsed has none."""
    with suppress(RecursionError):
        pairs = getaddresses([header])
        return [
            (to_one_line(_decode_header(name), 200), to_one_line(address, 320)) for name, address in pairs if address
        ]
    return []


def parse_addresses(header: str) -> list[str]:
    """Return each address of a header as ``Name <address>``, with the name quoted if necessary."""
    return [format_mailbox(name, address) for name, address in parse_mailboxes(header)]


def format_mailbox(name: str, address: str) -> str:
    """Return ``Name <address>``, with the name quoted if necessary."""
    if not name:
        return address
    if re.search(r'[()<>@,;:\\".\[\]]', name):
        escaped = re.sub(r'([\\"])', r"\\\1", name)
        return f'"{escaped}" <{address}>'
    return f"{name} <{address}>"


def find_reply_recipients(raw: Raw, own_address: str) -> Reply:
    """Return the recipients of a reply: Reply-To or From; for a message sent by this account, its To.

    ``own_address`` (lower case) is left out, unless there is no other recipient.
    """
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
        to=[format_mailbox(*mailbox) for mailbox in primary[:MAX_LISTED_ITEMS]],
        all_cc=[format_mailbox(*mailbox) for mailbox in rest[:MAX_REPLY_RECIPIENTS]],
        left_out=omitted or None,
    )


def find_unsubscribe_links(raw: Raw) -> list[str]:
    """Return the addresses that a newsletter names to unsubscribe: https and mailto URLs. They are never opened."""
    value = parse_headers(raw).get("list-unsubscribe", "")
    links = [link.strip() for link in re.findall(r"<([^<>]{1,1000})>", value)]
    return [link for link in links if _UNSUBSCRIBE_LINK.fullmatch(link)][:_MAX_UNSUBSCRIBE_LINKS]


def iter_parts(raw: Raw) -> Iterator[Raw]:
    """Yield every part that is not a multipart, in order. An attached message is one part."""
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
    """Return an attached message as a payload. Gmail does not return the bytes of such a part."""
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
    """Decode URL-safe base64 without padding. Invalid data gives no bytes."""
    try:
        return base64.urlsafe_b64decode(data + "=" * (-len(data) % 4))
    except ValueError:
        return b""


class TextPart(NamedTuple):
    """A part of a message whose text a mail program shows, and the plain text that it shows this part instead of."""

    part: Raw
    alternatives: Sequence[Raw] = ()


def find_text_parts(part: Raw, depth: int = 0) -> list[TextPart]:
    """Return the parts whose text a mail program shows: of alternatives the HTML, of related parts the first one."""
    kind = str(part.get("mimeType", ""))
    children: Sequence[Raw] = part.get("parts") or ()
    if children and not kind.startswith("message/") and depth <= _MAX_DEPTH:
        found = [find_text_parts(child, depth + 1) for child in children]
        if kind == "multipart/alternative":
            return _choose_alternative(found)
        if kind == "multipart/related" and found[0]:  # the first part is shown, with what the others have for it
            first, *others = found[0]
            plain = [item.part for option in found[1:] for item in option if not _is_html_part(item.part)]
            return [first._replace(alternatives=[*first.alternatives, *plain]), *others]
        return [text_part for option in found for text_part in option]
    body = part.get("body") or {}
    has_text = kind.startswith("text/") and not part.get("filename") and bool(body.get("size") or body.get("data"))
    return [TextPart(part)] if has_text else []


def _choose_alternative(options: Sequence[list[TextPart]]) -> list[TextPart]:
    html = [option for option in options if any(_is_html_part(item.part) for item in option)]
    plain = [
        option
        for option in options
        if option not in html and any(str(item.part.get("mimeType")) == "text/plain" for item in option)
    ]
    if not html:
        return next(iter([*plain, *filter(None, options)]), [])
    hidden = [item.part for option in plain for item in option]
    position = next(index for index, item in enumerate(html[-1]) if _is_html_part(item.part))
    return [
        item._replace(alternatives=[*item.alternatives, *hidden]) if index == position else item
        for index, item in enumerate(html[-1])
    ]


def _is_html_part(part: Raw) -> bool:
    return is_html(str(part.get("mimeType", "")), "")


async def extract_part_text(part: Raw, data: bytes, *, notes: bool = True) -> str:
    """Return the text of a part; of HTML what can be seen, with ``notes`` on what is left out.

    Raises ToolError without ``notes`` if that cannot be told.
    """
    text = decode_part(part, data)
    if not _is_html_part(part):
        return text.strip()
    if notes:
        return await html_to_text(text)
    visible = await find_visible_text(text)
    if visible is None:
        raise ToolError("the message's HTML is too complex to quote: write without a quotation")
    return f"{visible.text}\n[the rest of the message is left out]" if visible.unread else visible.text


def decode_part(part: Raw, data: bytes) -> str:
    # Gmail converts most parts to UTF-8 without changing their header, but not all of them.
    return decode_text(data, find_charset(part)) or data.decode(errors="replace")


def find_additions(plain: str, shown: str) -> list[str]:
    """Return the lines of ``plain`` that say more than ``shown``.

    A line does not if its words, in runs of three, are in ``shown`` too. Links do not count.
    """
    shown_words = _split_words(shown)
    runs = {tuple(shown_words[start : start + 3]) for start in range(len(shown_words))}
    runs |= {run[:length] for run in runs for length in (1, 2)}
    additions = []
    for line in plain.splitlines():
        words = _split_words(line)
        starts = range(max(len(words) - 2, 1) if words else 0)
        if sum(tuple(words[start : start + 3]) not in runs for start in starts) > len(starts) // 8:
            additions.append(line.strip())
    return additions


def _split_words(text: str) -> list[str]:
    return re.findall(r"\w+", _LINK.sub(" ", text.lower()))


def find_charset(part: Raw) -> str:
    for header in part.get("headers") or ():
        if str(header.get("name", "")).lower() == "content-type" and (
            match := _CHARSET.search(str(header.get("value", "")))
        ):
            return match[1]
    return ""


def format_messages(messages: Sequence[Message], texts: Mapping[str, str]) -> list[str]:
    """Format a list of messages for the model: date, sender and subject; then ids, labels and snippet.

    Below a message comes its text, indented, if ``texts`` has it by the message's id.
    """
    lines = []
    for message in messages:
        date = (message.date or "")[:16].replace("T", " ")
        lines.append(f"{date}  {message.sender}: {message.subject}")
        lines.append(
            f"    message {message.id}, thread {message.thread_id}  [{', '.join(message.labels)}]"
            f"  {message.snippet if message.id not in texts and message.snippet else ''}".rstrip()
        )
        lines += [f"    {line}" for line in texts.get(message.id, "").splitlines()]
    return lines


def format_headers(message: Message) -> str:
    """Format the headers above a message's text."""
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


def format_extras(raw: Raw) -> list[str]:
    """Return a line for the attachments of a message and one for where a newsletter is cancelled, if it has such."""
    files = [parse_attachment(part) for part in iter_parts(raw) if is_attachment(part)]
    names = ", ".join(f"{file.name} (part_id {file.part_id})" for file in files[:MAX_LISTED_ITEMS])
    links = find_unsubscribe_links(raw)
    lines = [f"[attachments: {names}]"] if names else []
    return [*lines, *([f"[unsubscribe: {' or '.join(links)}]"] if links else [])]


def format_brief(number: int, message: Message, text: str) -> str:
    """Format a message of a conversation for a summary: one line of headers, its text, its attachments' names."""
    lines = [
        f"[message {number}] {(message.date or '')[:16].replace('T', ' ')}  {message.sender}  ({message.id})",
        text,
    ]
    if message.attachments:
        names = ", ".join(f"{file.name} (part_id {file.part_id})" for file in message.attachments)
        lines.append(f"[attachments: {names}]")
    return "\n".join(filter(None, lines))


def escape_message_markers(text: str) -> str:
    """Indent lines that look like the heading of another message of the same conversation."""
    return re.sub(r"(?m)^(\[message \d)", r" \1", text)
