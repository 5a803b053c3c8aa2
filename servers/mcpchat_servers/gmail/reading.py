"""Gmail's tools that change nothing: search, messages, conversations, attachments, labels, drafts."""

import base64
from collections.abc import Sequence
from typing import Annotated, Any

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, ImageContent
from pydantic import BaseModel, Field

from mcpchat_servers.gmail.parts import (
    Attachment,
    Message,
    Raw,
    Reply,
    attachment_of,
    charset_of,
    header_lines,
    inner_message,
    message_lines,
    message_of,
    quoted_body,
    reply_of,
)
from mcpchat_servers.gmail.requests import (
    ME,
    body_of,
    data_of,
    draft_of,
    full_message,
    got,
    label_names,
    own_address,
    part_of,
    readable,
    summaries,
    together,
)
from mcpchat_servers.gmail.server import MessageId, PartId, ThreadId, server
from mcpchat_servers.google.server import Ctx, Cursor, Limit, Offset, answered
from mcpchat_servers.google.server import session as running
from mcpchat_servers.google.texts import IMAGES, PAGE, excerpt

MOST_LISTED = 50  # messages of a conversation that are listed beside its text


class MessagePage(BaseModel):
    """Some of the messages that were asked for, the newest first."""

    messages: list[Message]
    next_cursor: Annotated[str | None, Field(description="For the next page; missing at the end.")] = None
    about: Annotated[int | None, Field(description="How many there are in all, by Gmail's estimate.")] = None


class ReadMessage(BaseModel):
    """A message, and a piece of its text. ``reply`` is whom an answer goes to."""

    message: Message
    reply: Reply
    text: str
    offset: int
    total: Annotated[int, Field(description="Characters of the whole text.")]
    next_offset: Annotated[int | None, Field(description="The offset of the next piece; missing at the end.")] = None


class ReadThread(BaseModel):
    """A conversation: a piece of its messages' text, the oldest first, and with the first piece their headers."""

    thread_id: str
    count: Annotated[int, Field(description="How many messages it has.")]
    messages: Annotated[list[Message], Field(description="With the first piece alone; the text names all.")] = []
    text: str
    offset: int
    total: Annotated[int, Field(description="Characters of the whole text.")]
    next_offset: Annotated[int | None, Field(description="The offset of the next piece; missing at the end.")] = None


class ReadAttachment(BaseModel):
    """An attachment's content, or a piece of it; an image comes beside it."""

    attachment: Attachment
    text: str | None = None
    offset: int | None = None
    total: Annotated[int | None, Field(description="Characters of the whole text.")] = None
    next_offset: Annotated[int | None, Field(description="The offset of the next piece; missing at the end.")] = None


class SavedAttachment(BaseModel):
    path: str
    size: Annotated[int, Field(description="Bytes")]
    attachment: Attachment


class Label(BaseModel):
    id: str
    name: str
    type: Annotated[str, Field(description="system or user")]


class Labels(BaseModel):
    labels: list[Label]


class Draft(BaseModel):
    """A draft, and what is in it."""

    draft_id: str
    message: Message


class Drafts(BaseModel):
    drafts: list[Draft]
    next_cursor: Annotated[str | None, Field(description="For the next page; missing at the end.")] = None


@server.reads("Search mail")
async def search_mail(
    ctx: Ctx,
    query: Annotated[
        str,
        Field(
            description="Words and Gmail's operators: from: to: subject: label: is:unread has:attachment filename: "
            'newer_than:7d after:2026/11/01 before: in:sent in:inbox OR - "exact words". Empty: the newest.',
            max_length=2000,
            examples=["from:ada@example.com newer_than:30d has:attachment"],
        ),
    ] = "",
    include_spam_and_trash: Annotated[bool, Field(description="Else what is there is not found.")] = False,
    page_size: Annotated[int, Field(ge=1, le=50)] = 15,
    cursor: Cursor = None,
) -> Annotated[CallToolResult, MessagePage]:
    """Find messages, the newest first: who wrote them, when, the subject, the first words. Read them by their ids."""
    session = running(ctx)
    params: dict[str, Any] = {
        "q": query,
        "maxResults": page_size,
        "includeSpamTrash": include_spam_and_trash,
        "fields": "messages/id,nextPageToken,resultSizeEstimate",
    }
    found = await session.api.get(
        f"{ME}/messages", params | ({"pageToken": cursor} if cursor else {}), what="the search"
    )
    raws = await summaries(session, [one["id"] for one in found.get("messages") or ()])
    names = await label_names(session, raws)
    page = MessagePage(
        messages=[message_of(raw, names) for raw in raws],
        next_cursor=found.get("nextPageToken"),
        about=found.get("resultSizeEstimate"),
    )
    more = [f"[more: cursor={page.next_cursor}]"] if page.next_cursor else []
    return answered(page, "\n".join([*message_lines(page.messages), *more]) or "nothing found")


@server.reads("Read a message")
async def read_message(
    ctx: Ctx, message_id: MessageId, offset: Offset = 0, limit: Limit = PAGE
) -> Annotated[CallToolResult, ReadMessage]:
    """A message with its text (HTML made plain), its attachments' names, and whom a reply goes to. Long texts come in
    pieces."""
    session = running(ctx)
    raw = await full_message(session, message_id)
    message = message_of(raw, await label_names(session, [raw]))
    text = session.texts.get(message_id)
    if text is None:
        text = session.texts.keep(await body_of(session, raw), message_id)
    piece = excerpt(text, offset, limit)
    reply = reply_of(raw, await own_address(session))
    return answered(
        ReadMessage(message=message, reply=reply, **piece.model_dump()),
        f"{header_lines(message)}\n{_reply_line(reply)}\n\n{piece.text}{piece.ending}",
    )


def _reply_line(reply: Reply) -> str:
    others = f"; to all, with cc {', '.join(reply.all_cc)}" if reply.all_cc else ""
    more = f" and {reply.left_out} more" if reply.left_out else ""
    return f"A reply goes to: {', '.join(reply.to) or 'nobody'}{others}{more}"


@server.reads("Read a conversation")
async def read_thread(
    ctx: Ctx, thread_id: ThreadId, offset: Offset = 0, limit: Limit = PAGE
) -> Annotated[CallToolResult, ReadThread]:
    """All messages of a conversation with their texts, the oldest first. Long ones come in pieces."""
    session = running(ctx)
    found = await session.api.get(f"{ME}/threads/{thread_id}", {"format": "full"}, what=f"the thread {thread_id}")
    raws: Sequence[Raw] = found.get("messages") or ()
    names = await label_names(session, raws)
    messages = [message_of(raw, names) for raw in raws]
    key = (thread_id, *(f"{message.id} {message.labels}" for message in messages))
    text = session.texts.get(*key)
    if text is None:
        bodies = await together(lambda raw: body_of(session, raw), raws)
        whole = [
            f"[message {number} of {len(raws)}]\n{header_lines(message)}\n\n"
            + (f"[{body}]" if isinstance(body, ToolError) else quoted_body(body))
            for number, (message, body) in enumerate(zip(messages, bodies, strict=True), 1)
        ]
        text = session.texts.keep("\n\n".join(whole), *key)
    piece = excerpt(text, offset, limit)
    value = ReadThread(
        thread_id=thread_id,
        count=len(messages),
        messages=[] if offset else messages[:MOST_LISTED],
        **piece.model_dump(),
    )
    return answered(value, piece.text + piece.ending)


@server.reads("Read an attachment")
async def read_attachment(
    ctx: Ctx, message_id: MessageId, part_id: PartId, offset: Offset = 0, limit: Limit = PAGE
) -> Annotated[CallToolResult, ReadAttachment]:
    """The content of an attachment: text files, HTML and PDF as text, images as images. Of others, see
    save_attachment."""
    session = running(ctx)
    key = (message_id, part_id)
    part = await part_of(session, message_id, part_id)
    file = attachment_of(part)
    text = session.texts.get(*key)
    if text is None:
        data = await data_of(session, message_id, part)
        if file.media_type in IMAGES:
            picture = ImageContent(type="image", data=base64.b64encode(data).decode(), mime_type=file.media_type)
            return answered(ReadAttachment(attachment=file), f"{file.name} ({file.media_type}):", picture)
        if file.media_type == "message/rfc822" and not data:
            text = await body_of(session, {"id": message_id, "payload": inner_message(part)})
        else:
            text = await readable(file, data, charset_of(part))
        session.texts.keep(text, *key)
    piece = excerpt(text, offset, limit)
    return answered(ReadAttachment(attachment=file, **piece.model_dump()), piece.text + piece.ending)


@server.saves("Save an attachment")
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
) -> Annotated[CallToolResult, SavedAttachment]:
    """Save an attachment on the user's machine, in a folder that the user allowed. Never replaces a file there."""
    session = running(ctx)
    session.folders.inside(path or ".")
    part = await part_of(session, message_id, part_id)
    file = attachment_of(part)
    data = await data_of(session, message_id, part)
    with session.folders.writing(path, file.name) as (target, place):
        target.write(data)
    return answered(SavedAttachment(path=str(place), size=len(data), attachment=file))


@server.reads("List labels")
async def list_labels(ctx: Ctx) -> Annotated[CallToolResult, Labels]:
    """Gmail's labels and the user's own."""
    found = await running(ctx).api.get(f"{ME}/labels", {"fields": "labels(id,name,type)"}, what="the labels")
    labels = [
        Label(id=one["id"], name=one.get("name", ""), type=one.get("type", "user")) for one in found.get("labels") or ()
    ]
    return answered(Labels(labels=labels))


@server.reads("List drafts")
async def list_drafts(
    ctx: Ctx, page_size: Annotated[int, Field(ge=1, le=50)] = 15, cursor: Cursor = None
) -> Annotated[CallToolResult, Drafts]:
    """The drafts, the newest first."""
    session = running(ctx)
    params: dict[str, Any] = {"maxResults": page_size} | ({"pageToken": cursor} if cursor else {})
    found = await session.api.get(f"{ME}/drafts", params, what="the drafts")
    raws = await got(lambda one: draft_of(session, one["id"]), found.get("drafts") or ())
    names = await label_names(session, [raw["message"] for raw in raws])
    drafts = [Draft(draft_id=raw["id"], message=message_of(raw["message"], names)) for raw in raws]
    page = Drafts(drafts=drafts, next_cursor=found.get("nextPageToken"))
    lines = []
    for one in drafts:
        whom = [*one.message.to, *(one.message.cc or ()), *(one.message.bcc or ())]
        lines.append(
            f"draft {one.draft_id}, message {one.message.id}, for {', '.join(whom) or 'nobody'}: {one.message.subject}"
        )
    lines += [f"[more: cursor={page.next_cursor}]"] if page.next_cursor else []
    return answered(page, "\n".join(lines) or "no drafts")
