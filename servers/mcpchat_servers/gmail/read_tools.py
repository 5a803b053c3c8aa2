"""Gmail tools that change nothing: search, messages, conversations, attachments, labels, drafts."""

import base64
from collections.abc import Sequence
from typing import Annotated, Any

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, ImageContent
from pydantic import BaseModel, Field

from mcpchat_servers.gmail.api_calls import (
    USER_PATH,
    extract_attachment_text,
    fetch_message,
    fetch_summaries,
    find_attachment_part,
    gather_existing,
    gather_results,
    get_label_names,
    get_own_address,
    read_body,
    read_part_data,
)
from mcpchat_servers.gmail.message_parser import (
    Attachment,
    Message,
    Raw,
    Reply,
    escape_message_markers,
    find_charset,
    find_reply_recipients,
    find_unsubscribe_links,
    format_brief,
    format_extras,
    format_headers,
    format_messages,
    nested_payload,
    parse_attachment,
    parse_message,
)
from mcpchat_servers.gmail.outgoing import fetch_draft
from mcpchat_servers.gmail.server import MessageId, PartId, ThreadId, server
from mcpchat_servers.google.server import Ctx, Cursor, Limit, Offset, Session, build_result, get_session
from mcpchat_servers.google.text_extraction import IMAGE_TYPES, PAGE_LENGTH, cut_quotations, take_excerpt

MAX_READ_HITS = 10  # messages of a search whose texts are returned
MAX_HIT_LENGTH = 2000  # characters of each
MAX_PARTICIPANTS = 20  # of a conversation that are listed
MAX_LISTED_MESSAGES = 50  # messages of a conversation listed in the structured content


class MessagePage(BaseModel):
    """A page of messages, the newest first."""

    messages: list[Message]
    texts: Annotated[dict[str, str] | None, Field(description="The beginnings of the read ones, by message id.")] = None
    next_cursor: Annotated[str | None, Field(description="For the next page; missing at the end.")] = None
    about: Annotated[int | None, Field(description="Gmail's estimate of the total number.")] = None


class MessageContent(BaseModel):
    """A message, and a piece of its text. ``reply`` has the recipients of a reply."""

    message: Message
    reply: Reply
    unsubscribe: Annotated[
        list[str] | None, Field(description="Where a newsletter can be cancelled. Nothing opens these.")
    ] = None
    text: str
    offset: int
    total: Annotated[int, Field(description="Characters of the whole text.")]
    next_offset: Annotated[int | None, Field(description="The offset of the next piece; missing at the end.")] = None


class ThreadContent(BaseModel):
    """A conversation: a piece of the text of its messages, the oldest first. The first piece also has their headers."""

    thread_id: str
    count: Annotated[int, Field(description="How many messages it has.")]
    messages: Annotated[list[Message], Field(description="Only with the first piece; the text has all of them.")] = []
    text: str
    offset: int
    total: Annotated[int, Field(description="Characters of the whole text.")]
    next_offset: Annotated[int | None, Field(description="The offset of the next piece; missing at the end.")] = None


class AttachmentContent(BaseModel):
    """An attachment's content, or a piece of it; an image is its own content block."""

    attachment: Attachment
    text: str | None = None
    offset: int | None = None
    total: Annotated[int | None, Field(description="Characters of the whole text.")] = None
    next_offset: Annotated[int | None, Field(description="The offset of the next piece; missing at the end.")] = None


class SaveAttachmentResult(BaseModel):
    path: str
    size: Annotated[int, Field(description="Bytes")]
    attachment: Attachment


class Draft(BaseModel):
    """A draft and its message."""

    draft_id: str
    message: Message


class Drafts(BaseModel):
    drafts: list[Draft]
    next_cursor: Annotated[str | None, Field(description="For the next page; missing at the end.")] = None


@server.read_tool("Search mail")
async def search_mail(
    ctx: Ctx,
    query: Annotated[
        str,
        Field(
            description="Words and Gmail's operators: from: to: subject: label: is:unread has:attachment filename: "
            'newer_than:7d after:2026/11/01 before: in:sent in:inbox OR - "exact words". Empty: the newest.',
            max_length=2000,
        ),
    ] = "",
    read: Annotated[
        int,
        Field(description="Also read the first so many of them.", ge=0, le=MAX_READ_HITS),
    ] = 0,
    include_spam_and_trash: Annotated[bool, Field(description="Also search spam and trash.")] = False,
    page_size: Annotated[int, Field(ge=1, le=50)] = 15,
    cursor: Cursor = None,
) -> Annotated[CallToolResult, MessagePage]:
    """Find messages, the newest first: sender, date, subject, first words."""
    session = get_session(ctx)
    params: dict[str, Any] = {
        "q": query,
        "maxResults": page_size,
        "includeSpamTrash": include_spam_and_trash,
        "fields": "messages/id,nextPageToken,resultSizeEstimate",
    }
    response = await session.api.get(
        f"{USER_PATH}/messages", params | ({"pageToken": cursor} if cursor else {}), what="the search"
    )
    ids = [item["id"] for item in response.get("messages") or ()]
    full = await gather_existing(lambda message_id: fetch_message(session, message_id), ids[:read])
    raws = [*full, *await fetch_summaries(session, ids[read:])]
    names = await get_label_names(session, raws)
    page = MessagePage(
        messages=[parse_message(raw, names) for raw in raws],
        texts=dict(zip([raw["id"] for raw in full], await _read_beginnings(session, full), strict=True)) or None,
        next_cursor=response.get("nextPageToken"),
        about=response.get("resultSizeEstimate"),
    )
    footer = [f"[more: cursor={page.next_cursor}]"] if page.next_cursor else []
    return build_result(
        page, "\n".join([*format_messages(page.messages, page.texts or {}), *footer]) or "nothing found"
    )


async def _read_beginnings(session: Session, raws: Sequence[Raw]) -> list[str]:
    """Return the beginnings of messages' texts, without what they quote."""
    if not raws:
        return []
    texts = await cut_quotations(await _read_bodies(session, raws))
    return [
        "\n".join(
            [
                text
                if len(text) <= MAX_HIT_LENGTH
                else f"{text[:MAX_HIT_LENGTH]}\n[cut: read_message reads all of it]",
                *format_extras(raw),
            ]
        )
        for raw, text in zip(raws, texts, strict=True)
    ]


async def _read_bodies(session: Session, raws: Sequence[Raw]) -> list[str]:
    """Return the texts of messages; of one that cannot be read, why."""
    bodies = await gather_results(lambda raw: read_body(session, raw), raws)
    return [f"[{body}]" if isinstance(body, ToolError) else escape_message_markers(body) for body in bodies]


@server.read_tool("Read a message")
async def read_message(
    ctx: Ctx, message_id: MessageId, offset: Offset = 0, limit: Limit = PAGE_LENGTH
) -> Annotated[CallToolResult, MessageContent]:
    """Read a message: its text in pieces, its attachments' names, and the recipients of a reply."""
    session = get_session(ctx)
    raw = await fetch_message(session, message_id)
    message = parse_message(raw, await get_label_names(session, [raw]))
    text = session.text_cache.get(message_id)
    if text is None:
        text = session.text_cache.put(await read_body(session, raw), message_id)
    page = take_excerpt(text, offset, limit)
    reply = find_reply_recipients(raw, await get_own_address(session))
    links = find_unsubscribe_links(raw)
    heads = [format_headers(message), _format_reply_line(reply)]
    heads += [f"Unsubscribe (nothing opens this): {' or '.join(links)}"] if links else []
    return build_result(
        MessageContent(message=message, reply=reply, unsubscribe=links or None, **page.model_dump()),
        "\n".join(heads) + f"\n\n{page.text}{page.footer}",
    )


def _format_reply_line(reply: Reply) -> str:
    others = f"; to all, with cc {', '.join(reply.all_cc)}" if reply.all_cc else ""
    more = f" and {reply.left_out} more" if reply.left_out else ""
    return f"A reply goes to: {', '.join(reply.to) or 'nobody'}{others}{more}"


@server.read_tool("Read a conversation")
async def read_thread(
    ctx: Ctx,
    thread_id: ThreadId,
    brief: Annotated[bool, Field(description="For a summary: headers once, no quotations.")] = False,
    offset: Offset = 0,
    limit: Limit = PAGE_LENGTH,
) -> Annotated[CallToolResult, ThreadContent]:
    """Read all messages of a conversation, the oldest first, in pieces."""
    session = get_session(ctx)
    response = await session.api.get(
        f"{USER_PATH}/threads/{thread_id}", {"format": "full"}, what=f"the thread {thread_id}"
    )
    raws: Sequence[Raw] = response.get("messages") or ()
    names = await get_label_names(session, raws)
    messages = [parse_message(raw, names) for raw in raws]
    key = (thread_id, str(brief), *(f"{message.id} {message.labels}" for message in messages))
    text = session.text_cache.get(*key)
    if text is None:
        bodies = await _read_bodies(session, raws)
        if brief:
            bodies = await cut_quotations(bodies)
            sections = [_format_conversation_head(messages)]
            sections += [format_brief(n, *item) for n, item in enumerate(zip(messages, bodies, strict=True), 1)]
        else:
            sections = [
                f"[message {number} of {len(raws)}]\n{format_headers(message)}\n\n{body}"
                for number, (message, body) in enumerate(zip(messages, bodies, strict=True), 1)
            ]
        text = session.text_cache.put("\n\n".join(sections), *key)
    page = take_excerpt(text, offset, limit)
    value = ThreadContent(
        thread_id=thread_id,
        count=len(messages),
        messages=[] if offset else messages[:MAX_LISTED_MESSAGES],
        **page.model_dump(),
    )
    return build_result(value, page.text + page.footer)


def _format_conversation_head(messages: Sequence[Message]) -> str:
    """The headers that the messages of a conversation share: the subject, and who takes part."""
    people = dict.fromkeys(
        person for message in messages for person in (message.sender, *message.to, *(message.cc or ()))
    )
    names = [*people]
    more = f" and {len(names) - MAX_PARTICIPANTS} more" if len(names) > MAX_PARTICIPANTS else ""
    subject = messages[0].subject if messages else ""
    return f"Subject: {subject}\nMessages: {len(messages)}\nPeople: {', '.join(names[:MAX_PARTICIPANTS])}{more}"


@server.read_tool("Read an attachment")
async def read_attachment(
    ctx: Ctx, message_id: MessageId, part_id: PartId, offset: Offset = 0, limit: Limit = PAGE_LENGTH
) -> Annotated[CallToolResult, AttachmentContent]:
    """Read an attachment: text files, HTML, PDF and Office documents as text, images as images."""
    session = get_session(ctx)
    key = (message_id, part_id)
    part = await find_attachment_part(session, message_id, part_id)
    attachment = parse_attachment(part)
    text = session.text_cache.get(*key)
    if text is None:
        data = await read_part_data(session, message_id, part)
        if attachment.media_type in IMAGE_TYPES:
            image = ImageContent(type="image", data=base64.b64encode(data).decode(), mime_type=attachment.media_type)
            return build_result(
                AttachmentContent(attachment=attachment), f"{attachment.name} ({attachment.media_type}):", image
            )
        if attachment.media_type == "message/rfc822" and not data:
            text = await read_body(session, {"id": message_id, "payload": nested_payload(part)})
        else:
            text = await extract_attachment_text(attachment, data, find_charset(part))
        session.text_cache.put(text, *key)
    page = take_excerpt(text, offset, limit)
    return build_result(AttachmentContent(attachment=attachment, **page.model_dump()), page.text + page.footer)


@server.save_tool("Save an attachment", deferred=True)
async def save_attachment(
    ctx: Ctx,
    message_id: MessageId,
    part_id: PartId,
    path: Annotated[
        str | None,
        Field(
            description="Where to: a new file or a folder, within the folders that the user allowed. Default: the "
            "first of them, under the attachment's own name.",
            max_length=1000,
        ),
    ] = None,
) -> Annotated[CallToolResult, SaveAttachmentResult]:
    """Save an attachment on the user's machine, in a folder that the user allowed. Never replaces an existing file."""
    session = get_session(ctx)
    session.folders.resolve(path or ".")
    part = await find_attachment_part(session, message_id, part_id)
    attachment = parse_attachment(part)
    data = await read_part_data(session, message_id, part)
    with session.folders.open_for_writing(path, attachment.name) as (file, saved_path):
        file.write(data)
    return build_result(SaveAttachmentResult(path=str(saved_path), size=len(data), attachment=attachment))


@server.read_tool("List drafts", deferred=True)
async def list_drafts(
    ctx: Ctx, page_size: Annotated[int, Field(ge=1, le=50)] = 15, cursor: Cursor = None
) -> Annotated[CallToolResult, Drafts]:
    """List the drafts, the newest first."""
    session = get_session(ctx)
    params: dict[str, Any] = {"maxResults": page_size} | ({"pageToken": cursor} if cursor else {})
    response = await session.api.get(f"{USER_PATH}/drafts", params, what="the drafts")
    raws = await gather_existing(lambda item: fetch_draft(session, item["id"]), response.get("drafts") or ())
    names = await get_label_names(session, [raw["message"] for raw in raws])
    drafts = [Draft(draft_id=raw["id"], message=parse_message(raw["message"], names)) for raw in raws]
    page = Drafts(drafts=drafts, next_cursor=response.get("nextPageToken"))
    lines = []
    for draft in drafts:
        recipients = [*draft.message.to, *(draft.message.cc or ()), *(draft.message.bcc or ())]
        lines.append(
            f"draft {draft.draft_id}, message {draft.message.id}, for {', '.join(recipients) or 'nobody'}: "
            f"{draft.message.subject}"
        )
    lines += [f"[more: cursor={page.next_cursor}]"] if page.next_cursor else []
    return build_result(page, "\n".join(lines) or "no drafts")
