"""Gmail API requests shared by several tools: messages and their parts, label names, drafts, sending."""

import asyncio
import base64
import io
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from mcpchat_servers.gmail.html_body import build_html
from mcpchat_servers.gmail.message_parser import (
    Attachment,
    Raw,
    decode_base64url,
    decode_part,
    extract_part_text,
    find_additions,
    find_text_parts,
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
from mcpchat_servers.google.credentials import TokenExpired
from mcpchat_servers.google.errors import ApiError
from mcpchat_servers.google.media_types import guess_media_type
from mcpchat_servers.google.server import Ctx, Session, get_session, progress_reporter
from mcpchat_servers.google.text_extraction import (
    decode_text,
    find_office_kind,
    find_visible_text,
    html_to_text,
    is_html,
    is_text,
    office_to_text,
    pdf_to_text,
)

USER_PATH = "gmail/v1/users/me"
MAX_ATTACHMENT_JSON_BYTES = 64 * 2**20  # of the JSON that contains an attachment
MAX_SIMPLE_UPLOAD_BYTES = 3 * 2**20  # of a message that is sent in one request; larger ones are uploaded
MAX_CONCURRENCY = 8  # requests at a time
_MARKDOWN_LINK = re.compile(r"\[([^\]]*)\]\((\S+?)\)")
MAX_QUOTED_LENGTH = 100_000  # characters of a quoted message
MAX_TEXT_PARTS = 20  # text parts of a message that are read
MAX_COMPARED_LENGTH = 200_000  # characters of a plain-text version that are compared with the HTML
MAX_ADDED_LINES = 20  # lines that only the plain-text version has
MAX_ADDED_LINE = 300  # characters
READ_TIMEOUT = 60.0  # seconds for the text of one message
_SUMMARY_PARAMS = {
    "format": "metadata",
    "metadataHeaders": ["From", "To", "Cc", "Bcc", "Subject"],
    "fields": "id,threadId,labelIds,snippet,internalDate,payload/headers",
}
_Item = TypeVar("_Item")
_Value = TypeVar("_Value")


class ChangeResult(BaseModel):
    """The changed messages or threads, and the labels added and removed; all by id."""

    message_ids: list[str] | None = None
    thread_ids: list[str] | None = None
    added: list[str] | None = None
    removed: list[str] | None = None


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


class Label(BaseModel):
    id: str
    name: str
    type: Annotated[str, Field(description="system or user")]


class SendAs(BaseModel):
    """An address that the account may send from, and the text of its signature."""

    address: str
    name: str | None = None
    default: bool | None = None
    signature: str | None = None
    unverified: Annotated[bool | None, Field(description="Gmail does not send from it yet.")] = None


async def gather_results(
    call: Callable[[_Item], Awaitable[_Value]], items: Iterable[_Item]
) -> list[_Value | ToolError]:
    """Run ``call`` for each item, MAX_CONCURRENCY at a time, and return the results or their ToolErrors in order.

    Waits for all calls. Raises TokenExpired if one of them did: the client then renews the token and repeats the tool.
    Any other exception is raised too.
    """
    semaphore = asyncio.Semaphore(MAX_CONCURRENCY)

    async def call_limited(item: _Item) -> _Value | ToolError:
        async with semaphore:
            try:
                return await call(item)
            except ToolError as error:
                return error

    results = await asyncio.gather(*map(call_limited, items), return_exceptions=True)
    values: list[_Value | ToolError] = []
    for result in results:
        if isinstance(result, BaseException) and (
            isinstance(result, TokenExpired) or not isinstance(result, ToolError)
        ):
            raise result
        values.append(result)
    return values


async def gather_existing(call: Callable[[_Item], Awaitable[_Value]], items: Iterable[_Item]) -> list[_Value]:
    """Like ``gather_results``, but without items that no longer exist (404). Raises ToolError for any other failure."""
    values: list[_Value] = []
    for result in await gather_results(call, items):
        if not isinstance(result, ToolError):
            values.append(result)
        elif not (isinstance(result, ApiError) and result.status == 404):
            raise result
    return values


# Read.


async def fetch_message(session: Session, message_id: str) -> dict[str, Any]:
    return await session.api.get(
        f"{USER_PATH}/messages/{message_id}",
        {"format": "full"},
        what=f"the message {message_id}",
        max_bytes=MAX_ATTACHMENT_JSON_BYTES,
    )


async def fetch_summaries(session: Session, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Fetch the headers, labels and snippets of messages; messages that no longer exist are left out."""

    async def fetch(message_id: str) -> dict[str, Any]:
        return await session.api.get(
            f"{USER_PATH}/messages/{message_id}", _SUMMARY_PARAMS, what=f"the message {message_id}"
        )

    return await gather_existing(fetch, ids)


async def get_label_names(session: Session, raws: Iterable[Raw]) -> Mapping[str, str]:
    """Return the label names by id, cached; they are fetched again if a message has an unknown label."""
    used = {label for raw in raws for label in raw.get("labelIds") or ()}
    cached: Mapping[str, str] = session.cache.get("labels", {})
    return cached if used <= cached.keys() else await fetch_label_names(session)


async def fetch_label_names(session: Session) -> Mapping[str, str]:
    """Fetch the label names by id and cache them."""
    response = await session.api.get(f"{USER_PATH}/labels", {"fields": "labels(id,name)"}, what="the labels")
    names = {str(label["id"]): str(label.get("name", label["id"])) for label in response.get("labels") or ()}
    session.cache["labels"] = names
    return names


def find_label_id(names: Mapping[str, str], name: str) -> str:
    """Return the id of a label by its name, whose case makes no difference. Raises ToolError if there is none."""
    for label_id, label_name in names.items():
        if label_name.lower() == name.lower():
            return label_id
    raise ToolError(f"no label is named {name!r}: list_labels shows them, create_label creates one")


async def get_own_address(session: Session) -> str:
    """Return the account's email address in lower case."""
    if "address" not in session.cache:
        response = await session.api.get(f"{USER_PATH}/profile", {"fields": "emailAddress"}, what="the account")
        session.cache["address"] = str(response.get("emailAddress", "")).lower()
    return str(session.cache["address"])


async def read_body(session: Session, raw: Raw, *, notes: bool = True) -> str:
    """Return the text of a message that a mail program shows. It stops after READ_TIMEOUT seconds.

    Without ``notes``, nothing is said of what is left out, and text of which that cannot be told raises ToolError.
    """
    parts = find_text_parts(raw.get("payload") or {})
    texts = []
    try:
        async with asyncio.timeout(READ_TIMEOUT):
            for item in parts[:MAX_TEXT_PARTS]:
                data = await read_part_data(session, raw["id"], item.part)
                shown = await extract_part_text(item.part, data, notes=notes)
                if not notes:
                    texts.append(shown)
                    continue
                plain = [
                    decode_part(part, await read_part_data(session, raw["id"], part))
                    for part in item.alternatives[:MAX_TEXT_PARTS]
                ]
                texts += [shown, _format_additions(find_additions("\n".join(plain)[:MAX_COMPARED_LENGTH], shown))]
    except TimeoutError:
        texts.append("[the rest could not be read in time]")
    if len(parts) > MAX_TEXT_PARTS:
        texts.append(f"[{len(parts) - MAX_TEXT_PARTS:,} more parts are left out]")
    return "\n\n".join(text for text in texts if text)


def _format_additions(lines: Sequence[str]) -> str:
    """Mark what only the plain text of a message says; "" if that is nothing."""
    if not lines:
        return ""
    shown = [f"> {line[:MAX_ADDED_LINE]}" for line in lines[:MAX_ADDED_LINES]]
    more = [f"> … {len(lines) - len(shown):,} more lines"] if len(lines) > len(shown) else []
    return "\n".join(
        [
            "[Mail programs do not show the plain-text version of this message. It says more than the HTML:]",
            *shown,
            *more,
        ]
    )


async def find_attachment_part(session: Session, message_id: str, part_id: str) -> Raw:
    """Return the message part of an attachment. Raises ToolError if the message has no attachment with that id."""
    raw = await fetch_message(session, message_id)
    parts = {parse_attachment(part).part_id: part for part in iter_parts(raw) if is_attachment(part)}
    if part_id not in parts:
        available = ", ".join(f"{key} ({parse_attachment(part).name})" for key, part in [*parts.items()][:20])
        raise ToolError(f"the message {message_id} has no attachment {part_id}; it has {available or 'none'}")
    return parts[part_id]


async def read_part_data(session: Session, message_id: str, part: Raw) -> bytes:
    """Return the bytes of a message part.

    Gmail returns large parts on a separate request, with an id that differs each time the message is fetched.
    """
    body = part.get("body") or {}
    if "attachmentId" in body and not body.get("data"):
        body = await session.api.get(
            f"{USER_PATH}/messages/{message_id}/attachments/{body['attachmentId']}",
            what=f"the attachment {parse_attachment(part).name!r}",
            max_bytes=MAX_ATTACHMENT_JSON_BYTES,
        )
    return decode_base64url(str(body.get("data") or ""))


async def extract_attachment_text(attachment: Attachment, data: bytes, charset: str) -> str:
    """Return the text of an attachment. Raises ToolError if it has none."""
    if attachment.media_type == "application/pdf" or data.startswith(b"%PDF-"):
        return await pdf_to_text(data, repr(attachment.name))
    if office_kind := find_office_kind(attachment.media_type, attachment.name):
        return await office_to_text(office_kind, data, repr(attachment.name))
    is_text_type = is_text(attachment.media_type) or attachment.media_type in {
        "application/octet-stream",
        "message/rfc822",
    }
    text = decode_text(data, charset) if is_text_type else None
    if text is None:
        raise ToolError(f"{attachment.name!r} ({attachment.media_type}) is not text: save_attachment saves it")
    return await html_to_text(text) if is_html(attachment.media_type, text) else text


# Change.


async def apply_labels(
    ctx: Ctx,
    message_ids: Sequence[str] | None,
    thread_ids: Sequence[str] | None,
    add: Sequence[str],
    remove: Sequence[str],
) -> ChangeResult:
    """Change the labels of messages or of whole threads."""
    _require_one_of(message_ids, thread_ids)
    body = {"addLabelIds": list(add), "removeLabelIds": list(remove)}
    if message_ids:
        await get_session(ctx).api.change(
            "POST",
            f"{USER_PATH}/messages/batchModify",
            {"ids": list(message_ids), **body},
            what=f"the messages {', '.join(message_ids[:3])}{' and others' if len(message_ids) > 3 else ''}",
            retryable=True,
        )
    await _change_each(ctx, "thread", thread_ids or (), "modify", body)
    return _build_change_result(message_ids, thread_ids, add, remove)


async def apply_to_each(
    ctx: Ctx, message_ids: Sequence[str] | None, thread_ids: Sequence[str] | None, verb: str
) -> ChangeResult:
    """Apply ``verb`` (trash, untrash) to each message or thread."""
    _require_one_of(message_ids, thread_ids)
    await _change_each(ctx, "message", message_ids or (), verb, None)
    await _change_each(ctx, "thread", thread_ids or (), verb, None)
    return _build_change_result(message_ids, thread_ids, (), ())


async def _change_each(ctx: Ctx, kind: str, ids: Sequence[str], verb: str, body: object) -> None:
    """Send one request per id. After all requests, raises ToolError with those that failed."""
    session, done = get_session(ctx), 0

    async def change(item_id: str) -> None:
        nonlocal done
        await session.api.change(
            "POST", f"{USER_PATH}/{kind}s/{item_id}/{verb}", body, what=f"the {kind} {item_id}", retryable=True
        )
        done += 1
        await ctx.report_progress(done, len(ids), verb)

    errors = [result for result in await gather_results(change, ids) if isinstance(result, ToolError)]
    if errors:
        details = "; ".join(map(str, errors[:5])) + (f"; and {len(errors) - 5} more" if len(errors) > 5 else "")
        raise ToolError(f"{done} of {len(ids)} {kind}s were changed, the others failed: {details}")


def _require_one_of(message_ids: Sequence[str] | None, thread_ids: Sequence[str] | None) -> None:
    if bool(message_ids) == bool(thread_ids):
        raise ToolError("expected either message_ids or thread_ids")


def _build_change_result(
    message_ids: Sequence[str] | None, thread_ids: Sequence[str] | None, add: Sequence[str], remove: Sequence[str]
) -> ChangeResult:
    return ChangeResult(
        message_ids=list(message_ids) if message_ids else None,
        thread_ids=list(thread_ids) if thread_ids else None,
        added=list(add) or None,
        removed=list(remove) or None,
    )


# Write.


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
