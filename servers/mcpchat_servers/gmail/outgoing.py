"""Messages that Gmail is to send or to keep as drafts: composed from arguments, quoted, signed, delivered."""

import asyncio
import base64
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from mcpchat_servers.gmail.api_calls import (
    MAX_ATTACHMENT_JSON_BYTES,
    USER_PATH,
    fetch_message,
    read_body,
    read_part_data,
)
from mcpchat_servers.gmail.html_body import build_html
from mcpchat_servers.gmail.message_parser import (
    Raw,
    format_mailbox,
    is_attachment,
    iter_parts,
    parse_attachment,
    parse_headers,
    parse_message,
)
from mcpchat_servers.gmail.mime_builder import (
    MAX_ATTACHMENT_BYTES,
    OriginalMessage,
    OutgoingFile,
    build_message,
    parse_recipient,
)
from mcpchat_servers.google.media_types import guess_media_type
from mcpchat_servers.google.server import Ctx, Session, get_session, progress_reporter
from mcpchat_servers.google.text_extraction import find_visible_text

_MARKDOWN_LINK = re.compile(r"\[([^\]]*)\]\((\S+?)\)")
MAX_QUOTED_LENGTH = 100_000  # characters of a quoted message
MAX_SIMPLE_UPLOAD_BYTES = 3 * 2**20  # of a message that is sent in one request; larger ones are uploaded


@dataclass(frozen=True)
class Quotation:
    """A message to quote: the line above it, and its text."""

    head: str
    text: str
    is_forward: bool = False


@dataclass(frozen=True, kw_only=True)
class OutgoingMessage:
    """A message to send or save as a draft.

    ``attachments`` are paths of local files, ``forwarded`` are files of another message. With ``markdown`` it is also
    sent as HTML; with ``signature`` it ends in that of the account. ``sender`` is one of the account's addresses, empty
    for the default one.
    """

    to: Sequence[str]
    subject: str
    body: str
    cc: Sequence[str] = ()
    bcc: Sequence[str] = ()
    attachments: Sequence[str] = ()
    markdown: bool = False
    signature: bool = False
    sender: str = ""
    quotation: Quotation | None = None
    forwarded: Sequence[OutgoingFile] = ()


class SendAs(BaseModel):
    """An address that the account may send from, and the text of its signature."""

    address: str
    name: str | None = None
    default: bool | None = None
    signature: str | None = None
    unverified: Annotated[bool | None, Field(description="Gmail does not send from it yet.")] = None


async def fetch_draft(session: Session, draft_id: str) -> dict[str, Any]:
    """Fetch a draft with its full message."""
    return await session.api.get(
        f"{USER_PATH}/drafts/{draft_id}",
        {"format": "full"},
        what=f"the draft {draft_id}",
        max_bytes=MAX_ATTACHMENT_JSON_BYTES,
    )


async def fetch_original(session: Session, message_id: str | None) -> tuple[OriginalMessage | None, str | None]:
    """Fetch the message to reply to and its thread id. Returns (None, None) if ``message_id`` is None."""
    if message_id is None:
        return None, None
    params = {"format": "metadata", "metadataHeaders": ["Subject", "Message-ID", "References"]}
    raw = await session.api.get(f"{USER_PATH}/messages/{message_id}", params, what=f"the message {message_id}")
    headers = parse_headers(raw)
    original = OriginalMessage(
        subject=headers.get("subject", ""),
        message_id=headers.get("message-id", ""),
        references=headers.get("references", ""),
    )
    return original, raw.get("threadId")


async def fetch_quotation(session: Session, message_id: str | None) -> Quotation | None:
    """Fetch the message to quote in a reply."""
    return await quote_message(session, await fetch_message(session, message_id)) if message_id else None


async def fetch_files(session: Session, raw: Raw, names: Sequence[str]) -> list[OutgoingFile]:
    """Fetch attachments of a message by their names. Raises ToolError if it has no such attachment."""
    parts = [part for part in iter_parts(raw) if is_attachment(part)]
    counts = Counter(parse_attachment(part).name for part in parts)
    by_name = {parse_attachment(part).name: part for part in parts}
    files: list[OutgoingFile] = []
    for name in dict.fromkeys(names):
        if name not in by_name:
            raise ToolError(f"files: the message has no attachment {name!r}; it has {', '.join(by_name) or 'none'}")
        if counts[name] > 1:
            raise ToolError(f"files: the message has {counts[name]} attachments named {name!r}: forward it in Gmail")
        attachment = parse_attachment(by_name[name])
        data = await read_part_data(session, raw["id"], by_name[name])
        if not data and attachment.media_type.startswith("message/"):
            raise ToolError(f"files: Gmail does not give the bytes of the message {name!r}: forward it in Gmail")
        files.append(OutgoingFile(name=name, media_type=attachment.media_type, data=data))
    return files


async def compose_message(session: Session, message: OutgoingMessage, original: OriginalMessage | None) -> bytes:
    """Build the message to send, with its attachments. Raises ToolError if it is invalid or a file cannot be read."""
    files: list[OutgoingFile] = list(message.forwarded)
    for path in message.attachments:
        remaining_bytes = MAX_ATTACHMENT_BYTES - sum(len(attached.data) for attached in files)
        with session.folders.open_for_reading(path, max_bytes=remaining_bytes) as (file, _, name):
            files.append(
                OutgoingFile(name=name, media_type=guess_media_type(name), data=await asyncio.to_thread(file.read))
            )
    identity = await _find_identity(session, message) if message.sender or message.signature else {}
    signature_html = str(identity.get("signature") or "") if message.signature else ""
    sections = [message.body]
    if signature_html:
        sections.append(f"-- \n{await read_signature(identity)}")
    if message.quotation is not None:
        lines = message.quotation.text.splitlines()
        quoted = lines if message.quotation.is_forward else [f"> {line}".rstrip() for line in lines]
        sections.append("\n".join([message.quotation.head, *quoted]))
    quotation = message.quotation or Quotation("", "")
    html = (
        build_html(message.body, signature=signature_html, quotation_head=quotation.head, quotation=quotation.text)
        if message.markdown
        else ""
    )
    sender = None
    if message.sender:
        sender = parse_recipient(format_mailbox(str(identity.get("displayName") or ""), str(identity["sendAsEmail"])))
    return await asyncio.to_thread(
        build_message,
        to=message.to,
        cc=message.cc,
        bcc=message.bcc,
        subject=message.subject,
        body="\n\n".join(sections),
        html=html,
        sender=sender,
        files=files,
        original=original,
    )


async def fetch_send_as(session: Session) -> list[dict[str, Any]]:
    """Fetch the addresses that the account may send from, in Gmail's format."""
    response = await session.api.get(f"{USER_PATH}/settings/sendAs", what="the addresses to send from")
    return list(response.get("sendAs") or ())


async def _find_identity(session: Session, message: OutgoingMessage) -> dict[str, Any]:
    """Return the address to send from, in Gmail's format. Raises ToolError if the account may not use it."""
    addresses = [raw for raw in await fetch_send_as(session) if is_verified(raw)]
    wanted = message.sender.lower()
    if not wanted:
        return next((raw for raw in addresses if raw.get("isDefault")), addresses[0] if addresses else {})
    for raw in addresses:
        if str(raw.get("sendAsEmail", "")).lower() == wanted:
            return raw
    allowed = ", ".join(str(raw.get("sendAsEmail")) for raw in addresses)
    raise ToolError(f"sender: this account sends from {allowed or 'its own address'}, not from {message.sender!r}")


async def read_signature(raw: Raw) -> str:
    """Return the signature of an address as text."""
    visible = await find_visible_text(str(raw["signature"])) if raw.get("signature") else None
    text = _MARKDOWN_LINK.sub(_format_link, visible.text) if visible else ""
    return "\n".join(line.strip() for line in text.splitlines())


def _format_link(link: re.Match[str]) -> str:
    """Return a link of Markdown as plain text."""
    return link[2] if link[1] in {"", link[2]} else f"{link[1]} ({link[2]})"


def is_verified(raw: Raw) -> bool:
    """Whether Gmail sends from this address."""
    return bool(raw.get("isPrimary")) or raw.get("verificationStatus", "accepted") == "accepted"


async def quote_message(session: Session, raw: Raw, *, is_forward: bool = False) -> Quotation:
    """Return the quotation of a message: its text as a mail program shows it, below a line that says whose it is."""
    message = parse_message(raw, {})
    text = await read_body(session, raw, notes=False)
    if len(text) > MAX_QUOTED_LENGTH:
        text = f"{text[:MAX_QUOTED_LENGTH]}\n[the rest is left out]"
    if not is_forward:
        date = (message.date or "").replace("T", " ")[:16]
        return Quotation(f"On {date} UTC, {message.sender} wrote:" if date else f"{message.sender} wrote:", text)
    lines = ["---------- Forwarded message ---------", f"From: {message.sender}", f"Date: {message.date or 'unknown'}"]
    lines += [f"Subject: {message.subject}", f"To: {', '.join(message.to)}"]
    return Quotation("\n".join([*lines, *([f"Cc: {', '.join(message.cc)}"] if message.cc else []), ""]), text, True)


async def deliver(
    ctx: Ctx, method: str, path: str, message: bytes, thread_id: str | None, what: str, *, wrapper_key: str = ""
) -> dict[str, Any]:
    """Send a message to Gmail and return the response. The request is never repeated if it may have had an effect.

    ``wrapper_key`` is the JSON key that the message is wrapped in, if any. Raises ToolError if the request fails.
    """
    api = get_session(ctx).api
    payload: dict[str, Any] = {"threadId": thread_id} if thread_id else {}
    if len(message) <= MAX_SIMPLE_UPLOAD_BYTES:
        payload["raw"] = base64.urlsafe_b64encode(message).decode()
        return await api.change(
            method, path, {wrapper_key: payload} if wrapper_key else payload, what=what, retryable=method == "PUT"
        )
    return await api.upload(
        method,
        f"upload/{path}",
        {wrapper_key: payload} if wrapper_key else payload,
        io.BytesIO(message),
        size=len(message),
        media_type="message/rfc822",
        params={},
        what=what,
        progress=progress_reporter(ctx, f"sending {what}"),
    )
