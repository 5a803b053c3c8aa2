"""Gmail tools that write: drafts, new messages, replies. They send exactly what the call shows, and only once."""

from collections.abc import Sequence
from typing import Annotated

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import BaseModel, Field

from mcpchat_servers.gmail.api_calls import (
    USER_PATH,
    fetch_message,
    get_own_address,
    read_body,
)
from mcpchat_servers.gmail.message_parser import (
    Raw,
    is_attachment,
    iter_parts,
    parse_attachment,
    parse_headers,
    parse_mailboxes,
)
from mcpchat_servers.gmail.mime_builder import (
    OriginalMessage,
    check_forward_subject,
    check_reply_subject,
    parse_recipient,
)
from mcpchat_servers.gmail.outgoing import (
    OutgoingMessage,
    compose_message,
    deliver,
    fetch_draft,
    fetch_files,
    fetch_original,
    fetch_quotation,
    quote_message,
)
from mcpchat_servers.gmail.server import DraftId, MessageId, server
from mcpchat_servers.google.display_names import is_same_name, normalize_text
from mcpchat_servers.google.folders import sanitize_file_name
from mcpchat_servers.google.server import Ctx, build_result, get_session

To = Annotated[
    list[str],
    Field(
        description="Addresses: ada@example.com or Ada <ada@example.com>.",
        min_length=1,
        max_length=100,
    ),
]
Recipients = Annotated[list[str] | None, Field(max_length=100)]
Subject = Annotated[str, Field(description="One line.", max_length=900)]
Body = Annotated[str, Field(max_length=500_000)]
Markdown = Annotated[bool, Field(description="body is Markdown: send HTML too.")]
Signature = Annotated[bool, Field(description="Add the account's signature.")]
Sender = Annotated[str | None, Field(description="One of list_send_as.", max_length=254)]
Quote = Annotated[bool, Field(description="Quote the original below.")]
AttachmentPaths = Annotated[
    list[str] | None,
    Field(description="Local files.", max_length=20),
]


class WriteResult(BaseModel):
    """A draft or a sent message. A sent message has no ``draft_id``."""

    draft_id: str | None = None
    message_id: str
    thread_id: str
    to: list[str]
    cc: list[str] | None = None
    bcc: list[str] | None = None
    subject: str
    attachments: Annotated[list[str] | None, Field(description="Their names.")] = None
    not_forwarded: Annotated[list[str] | None, Field(description="Files of the original that were not sent.")] = None


class DiscardResult(BaseModel):
    """A draft that was deleted."""

    draft_id: str
    subject: str


@server.write_tool("Write a draft")
async def create_draft(
    ctx: Ctx,
    to: To,
    body: Body,
    subject: Annotated[str | None, Field(description="Omit it for a reply.", max_length=900)] = None,
    cc: Recipients = None,
    bcc: Recipients = None,
    attachments: AttachmentPaths = None,
    reply_to_message_id: Annotated[
        str | None,
        Field(description="Make it a reply in this message's conversation.", pattern="^[A-Za-z0-9_-]{1,100}$"),
    ] = None,
    quote: Quote = False,
    markdown: Markdown = False,
    signature: Signature = False,
    sender: Sender = None,
) -> Annotated[CallToolResult, WriteResult]:
    """Create a draft, which the user can edit and send. Nothing is sent."""
    session = get_session(ctx)
    if quote and reply_to_message_id is None:
        raise ToolError("quote: only a reply can quote; set reply_to_message_id")
    original, thread = await fetch_original(session, reply_to_message_id)
    if original is None and subject is None:
        raise ToolError("subject: expected, because this is not a reply")
    message = OutgoingMessage(
        to=to,
        cc=cc or [],
        bcc=bcc or [],
        subject=check_reply_subject(subject, original.subject) if original else subject or "",
        body=body,
        attachments=attachments or [],
        markdown=markdown,
        signature=signature,
        sender=sender or "",
        quotation=await fetch_quotation(session, reply_to_message_id) if quote else None,
    )
    data = await compose_message(session, message, original)
    response = await deliver(ctx, "POST", f"{USER_PATH}/drafts", data, thread, "the draft", wrapper_key="message")
    return build_result(_build_write_result(message, response.get("message") or {}, response.get("id")))


@server.write_tool("Rewrite a draft", destructive=True, idempotent=True, deferred=True)
async def update_draft(
    ctx: Ctx,
    draft_id: DraftId,
    to: To,
    body: Body,
    subject: Annotated[str | None, Field(description="One line. Default: unchanged.", max_length=900)] = None,
    cc: Recipients = None,
    bcc: Recipients = None,
    attachments: AttachmentPaths = None,
    markdown: Markdown = False,
    signature: Signature = False,
    sender: Sender = None,
) -> Annotated[CallToolResult, WriteResult]:
    """Replace a draft: pass all recipients, the whole text and all attachments again; only the subject is kept if
    omitted. A reply stays in its conversation."""
    session = get_session(ctx)
    current = (await fetch_draft(session, draft_id))["message"]
    headers = parse_headers(current)
    current_subject = headers.get("subject", "")
    original, title = None, current_subject if subject is None else subject
    if in_reply_to := headers.get("in-reply-to"):
        references = headers.get("references", "").removesuffix(in_reply_to)
        original = OriginalMessage(subject=current_subject, message_id=in_reply_to, references=references)
        title = check_reply_subject(subject, current_subject)
    message = OutgoingMessage(
        to=to,
        cc=cc or [],
        bcc=bcc or [],
        subject=title,
        body=body,
        attachments=attachments or [],
        markdown=markdown,
        signature=signature,
        sender=sender or "",
    )
    data = await compose_message(session, message, original)
    response = await deliver(
        ctx, "PUT", f"{USER_PATH}/drafts/{draft_id}", data, current.get("threadId"), "the draft", wrapper_key="message"
    )
    return build_result(_build_write_result(message, response.get("message") or {}, draft_id))


@server.write_tool("Send a draft", destructive=True, deferred=True)
async def send_draft(
    ctx: Ctx,
    draft_id: DraftId,
    to: Annotated[list[str], Field(description="All recipients: to, cc and bcc.", min_length=1, max_length=100)],
    subject: Subject,
    body: Annotated[str, Field(description="Its whole text.", max_length=500_000)],
    attachments: Annotated[list[str] | None, Field(description="Their names.", max_length=100)] = None,
    sender: Annotated[
        str | None, Field(description="The address that it is from, if not the account's.", max_length=254)
    ] = None,
) -> Annotated[CallToolResult, WriteResult]:
    """Send a draft. Pass its whole content, so that the user sees it when asked. A draft that differs is not sent."""
    session = get_session(ctx)
    raw = (await fetch_draft(session, draft_id))["message"]
    headers = parse_headers(raw)
    own_address = await get_own_address(session)
    author = next((address.lower() for _, address in parse_mailboxes(headers.get("from", ""))), own_address)
    if (sender or own_address).strip().lower() != author:
        raise ToolError(f"not sent: sender of the draft is {author}")
    recipients = [address for name in ("to", "cc", "bcc") for _, address in parse_mailboxes(headers.get(name, ""))]
    files = [parse_attachment(part).name for part in iter_parts(raw) if is_attachment(part)]
    for field_name, stated, actual in (
        (
            "to",
            {parse_recipient(address).addr_spec.lower() for address in to},
            {address.lower() for address in recipients},
        ),
        ("subject", normalize_text(subject), normalize_text(headers.get("subject", ""))),
        ("attachments", sorted(map(normalize_text, attachments or ())), sorted(map(normalize_text, files))),
        ("body", normalize_text(body), normalize_text(await read_body(session, raw))),
    ):
        if stated != actual:
            actual_text = actual if isinstance(actual, str) else ", ".join(sorted(actual))
            hint = f" (read_message {raw['id']} gives it)" if field_name == "body" else ""
            raise ToolError(f"not sent: {field_name} of the draft is {actual_text[:500] or 'empty'}{hint}")
    response = await session.api.change(
        "POST", f"{USER_PATH}/drafts/send", {"id": draft_id}, what=f"the draft {draft_id}", retryable=False
    )
    return build_result(
        _build_write_result(
            OutgoingMessage(to=recipients, subject=headers.get("subject", ""), body=body, attachments=files), response
        )
    )


@server.write_tool("Send a message", destructive=True)
async def send_message(
    ctx: Ctx,
    to: To,
    subject: Subject,
    body: Body,
    cc: Recipients = None,
    bcc: Recipients = None,
    attachments: AttachmentPaths = None,
    markdown: Markdown = False,
    signature: Signature = False,
    sender: Sender = None,
) -> Annotated[CallToolResult, WriteResult]:
    """Send a new message immediately. This cannot be undone."""
    message = OutgoingMessage(
        to=to,
        cc=cc or [],
        bcc=bcc or [],
        subject=subject,
        body=body,
        attachments=attachments or [],
        markdown=markdown,
        signature=signature,
        sender=sender or "",
    )
    data = await compose_message(get_session(ctx), message, None)
    response = await deliver(ctx, "POST", f"{USER_PATH}/messages/send", data, None, "the message")
    return build_result(_build_write_result(message, response))


@server.write_tool("Reply", destructive=True)
async def reply(
    ctx: Ctx,
    message_id: MessageId,
    to: Annotated[
        list[str],
        Field(description="See read_message.", min_length=1, max_length=100),
    ],
    subject: Annotated[str, Field(description="The conversation's subject, for the user to see.", max_length=900)],
    body: Body,
    cc: Recipients = None,
    bcc: Recipients = None,
    attachments: AttachmentPaths = None,
    quote: Quote = False,
    markdown: Markdown = False,
    signature: Signature = False,
    sender: Sender = None,
) -> Annotated[CallToolResult, WriteResult]:
    """Send a reply immediately. This cannot be undone."""
    session = get_session(ctx)
    original, thread = await fetch_original(session, message_id)
    assert original is not None
    message = OutgoingMessage(
        to=to,
        cc=cc or [],
        bcc=bcc or [],
        subject=check_reply_subject(subject, original.subject),
        body=body,
        attachments=attachments or [],
        markdown=markdown,
        signature=signature,
        sender=sender or "",
        quotation=await fetch_quotation(session, message_id) if quote else None,
    )
    data = await compose_message(session, message, original)
    response = await deliver(ctx, "POST", f"{USER_PATH}/messages/send", data, thread, "the reply")
    return build_result(_build_write_result(message, response))


@server.write_tool("Forward a message", destructive=True, deferred=True)
async def forward(
    ctx: Ctx,
    message_id: MessageId,
    to: To,
    sender_of_original: Annotated[
        str, Field(description="The address that the message is from, for the user to see.", max_length=254)
    ],
    subject: Annotated[str, Field(description="The message's subject, for the user to see.", max_length=900)],
    body: Annotated[str, Field(description="The text above the forwarded message.", max_length=500_000)] = "",
    files: Annotated[
        list[str] | None,
        Field(description="Names of the message's own attachments to send along. Default: none.", max_length=100),
    ] = None,
    cc: Recipients = None,
    bcc: Recipients = None,
    attachments: AttachmentPaths = None,
    markdown: Markdown = False,
    signature: Signature = False,
    sender: Sender = None,
) -> Annotated[CallToolResult, WriteResult]:
    """Forward a message immediately: its text as a person sees it, below a text of yours. This cannot be undone."""
    session = get_session(ctx)
    raw = await fetch_message(session, message_id)
    headers = parse_headers(raw)
    authors = {address.lower() for _, address in parse_mailboxes(headers.get("from", ""))}
    if parse_recipient(sender_of_original).addr_spec.lower() not in authors:
        raise ToolError(f"sender_of_original: the message is from {', '.join(sorted(authors)) or 'nobody'}; not sent")
    message = OutgoingMessage(
        to=to,
        cc=cc or [],
        bcc=bcc or [],
        subject=check_forward_subject(subject, headers.get("subject", "")),
        body=body,
        attachments=attachments or [],
        markdown=markdown,
        signature=signature,
        sender=sender or "",
        quotation=await quote_message(session, raw, is_forward=True),
        forwarded=await fetch_files(session, raw, files or []),
    )
    data = await compose_message(session, message, None)
    response = await deliver(ctx, "POST", f"{USER_PATH}/messages/send", data, None, "the message")
    result = _build_write_result(message, response)
    names = [parse_attachment(part).name for part in iter_parts(raw) if is_attachment(part)]
    result.not_forwarded = [name for name in names if name not in (files or ())] or None
    return build_result(result)


@server.write_tool("Discard a draft", destructive=True, idempotent=True, deferred=True)
async def discard_draft(
    ctx: Ctx,
    draft_id: DraftId,
    subject: Annotated[str, Field(description="Its subject, for the user to see.", max_length=900)],
) -> Annotated[CallToolResult, DiscardResult]:
    """Delete a draft permanently. It does not go to the trash."""
    session = get_session(ctx)
    current = parse_headers((await fetch_draft(session, draft_id))["message"]).get("subject", "")
    if not is_same_name(current, subject):
        raise ToolError(f"subject: that of the draft is {current[:300]!r}; nothing was deleted")
    await session.api.change("DELETE", f"{USER_PATH}/drafts/{draft_id}", what=f"the draft {draft_id}", retryable=True)
    return build_result(DiscardResult(draft_id=draft_id, subject=current))


def _build_write_result(message: OutgoingMessage, response: Raw, draft_id: str | None = None) -> WriteResult:
    """Build the result from the arguments and Gmail's response, without another request."""

    def base_names(paths: Sequence[str]) -> list[str] | None:
        return [sanitize_file_name(path.replace("\\", "/").rpartition("/")[2]) for path in paths] or None

    return WriteResult(
        draft_id=draft_id,
        message_id=response.get("id", ""),
        thread_id=response.get("threadId", ""),
        to=list(message.to),
        cc=list(message.cc) or None,
        bcc=list(message.bcc) or None,
        subject=message.subject,
        attachments=base_names([*(file.name for file in message.forwarded), *message.attachments]),
    )
