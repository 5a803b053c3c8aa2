"""Gmail's tools that write: drafts, new messages, replies. What is sent is what the call shows, and is sent once."""

from collections.abc import Sequence
from typing import Annotated

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import BaseModel, Field

from mcpchat_servers.gmail.composing import Original, recipient, subject_of_reply
from mcpchat_servers.gmail.parts import Raw, attachment_of, headers_of, is_attachment, mailboxes, parts_of
from mcpchat_servers.gmail.requests import ME, Letter, body_of, composed, deliver, draft_of, original_of
from mcpchat_servers.gmail.server import DraftId, MessageId, server
from mcpchat_servers.google.folders import safe_name
from mcpchat_servers.google.names import plain
from mcpchat_servers.google.server import Ctx, answered
from mcpchat_servers.google.server import session as running

To = Annotated[
    list[str],
    Field(
        description="Addresses, one a string.",
        min_length=1,
        max_length=100,
        examples=[["ada@example.com", "Grace Hopper <grace@example.com>"]],
    ),
]
More = Annotated[list[str] | None, Field(description="Addresses, one a string.", max_length=100)]
Subject = Annotated[str, Field(description="One line.", max_length=900)]
Body = Annotated[str, Field(description="Plain text.", max_length=500_000)]
Files = Annotated[
    list[str] | None,
    Field(description="Files within the folders that the user allowed, to attach.", max_length=20),
]


class Written(BaseModel):
    """A draft as it was written, or a message as it was sent. A message that was sent has no ``draft_id`` any more."""

    draft_id: str | None = None
    message_id: str
    thread_id: str
    to: list[str]
    cc: list[str] | None = None
    bcc: list[str] | None = None
    subject: str
    attachments: Annotated[list[str] | None, Field(description="Their names.")] = None


@server.changes("Write a draft")
async def create_draft(
    ctx: Ctx,
    to: To,
    body: Body,
    subject: Annotated[
        str | None, Field(description="One line. A reply keeps its conversation's: leave it out there.", max_length=900)
    ] = None,
    cc: More = None,
    bcc: More = None,
    attachments: Files = None,
    reply_to_message_id: Annotated[
        str | None,
        Field(description="Make it a reply in this message's conversation.", pattern="^[A-Za-z0-9_-]{1,100}$"),
    ] = None,
) -> Annotated[CallToolResult, Written]:
    """Write a draft, which the user can change and send. Nothing is sent."""
    session = running(ctx)
    original, thread = await original_of(session, reply_to_message_id)
    if original is None and subject is None:
        raise ToolError("subject: expected, since this is no reply")
    title = subject_of_reply(subject, original.subject) if original else subject or ""
    letter = Letter(to, cc or [], bcc or [], title, body, attachments or [])
    message = await composed(session, letter, original)
    made = await deliver(ctx, "POST", f"{ME}/drafts", message, thread, "the draft", within="message")
    return answered(_written(letter, made.get("message") or {}, made.get("id")))


@server.changes("Rewrite a draft", destructive=True, idempotent=True)
async def update_draft(
    ctx: Ctx,
    draft_id: DraftId,
    to: To,
    body: Body,
    subject: Annotated[str | None, Field(description="One line. Default: as it is.", max_length=900)] = None,
    cc: More = None,
    bcc: More = None,
    attachments: Files = None,
) -> Annotated[CallToolResult, Written]:
    """Replace a draft: give all recipients, all text and all attachments anew; only the subject stays where none is
    given. A reply stays in its conversation."""
    session = running(ctx)
    found = (await draft_of(session, draft_id))["message"]
    headers = headers_of(found)
    own = headers.get("subject", "")
    original, title = None, own if subject is None else subject
    if answers := headers.get("in-reply-to"):
        before = headers.get("references", "").removesuffix(answers)
        original = Original(subject=own, message_id=answers, references=before)
        title = subject_of_reply(subject, own)
    letter = Letter(to, cc or [], bcc or [], title, body, attachments or [])
    message = await composed(session, letter, original)
    made = await deliver(
        ctx, "PUT", f"{ME}/drafts/{draft_id}", message, found.get("threadId"), "the draft", within="message"
    )
    return answered(_written(letter, made.get("message") or {}, draft_id))


@server.changes("Send a draft", destructive=True)
async def send_draft(
    ctx: Ctx,
    draft_id: DraftId,
    to: Annotated[list[str], Field(description="All whom it goes to: to, cc and bcc.", min_length=1, max_length=100)],
    subject: Subject,
    body: Annotated[str, Field(description="Its whole text.", max_length=500_000)],
    attachments: Annotated[list[str] | None, Field(description="Their names.", max_length=100)] = None,
) -> Annotated[CallToolResult, Written]:
    """Send a draft. Say all that is in it, so that the user sees it when asked; one that says otherwise is not sent."""
    session = running(ctx)
    raw = (await draft_of(session, draft_id))["message"]
    headers = headers_of(raw)
    whom = [address for name in ("to", "cc", "bcc") for _, address in mailboxes(headers.get(name, ""))]
    files = [attachment_of(part).name for part in parts_of(raw) if is_attachment(part)]
    for what, said, found in (
        ("to", {recipient(one).addr_spec.lower() for one in to}, {one.lower() for one in whom}),
        ("subject", plain(subject), plain(headers.get("subject", ""))),
        ("attachments", sorted(map(plain, attachments or ())), sorted(map(plain, files))),
        ("body", plain(body), plain(await body_of(session, raw))),
    ):
        if said != found:
            told = found if isinstance(found, str) else ", ".join(sorted(found))
            raise ToolError(f"not sent: {what} of the draft is {told[:500] or 'empty'}")
    made = await session.api.change(
        "POST", f"{ME}/drafts/send", {"id": draft_id}, what=f"the draft {draft_id}", repeatable=False
    )
    return answered(_written(Letter(whom, (), (), headers.get("subject", ""), body, files), made))


@server.changes("Send a message", destructive=True)
async def send_message(
    ctx: Ctx,
    to: To,
    subject: Subject,
    body: Body,
    cc: More = None,
    bcc: More = None,
    attachments: Files = None,
) -> Annotated[CallToolResult, Written]:
    """Send a new message, at once. It cannot be taken back."""
    letter = Letter(to, cc or [], bcc or [], subject, body, attachments or [])
    message = await composed(running(ctx), letter, None)
    made = await deliver(ctx, "POST", f"{ME}/messages/send", message, None, "the message")
    return answered(_written(letter, made))


@server.changes("Reply", destructive=True)
async def reply(
    ctx: Ctx,
    message_id: MessageId,
    to: Annotated[
        list[str],
        Field(description="Whom the reply goes to: read_message tells.", min_length=1, max_length=100),
    ],
    subject: Annotated[str, Field(description="The conversation's, for the user to see.", max_length=900)],
    body: Body,
    cc: More = None,
    bcc: More = None,
    attachments: Files = None,
) -> Annotated[CallToolResult, Written]:
    """Send a reply in a message's conversation, at once. It cannot be taken back."""
    session = running(ctx)
    original, thread = await original_of(session, message_id)
    assert original is not None
    title = subject_of_reply(subject, original.subject)
    letter = Letter(to, cc or [], bcc or [], title, body, attachments or [])
    message = await composed(session, letter, original)
    made = await deliver(ctx, "POST", f"{ME}/messages/send", message, thread, "the reply")
    return answered(_written(letter, made))


def _written(letter: Letter, made: Raw, draft_id: str | None = None) -> Written:
    """What was written, by what was asked for: nothing is asked of Gmail once it is done."""

    def names(paths: Sequence[str]) -> list[str] | None:
        return [safe_name(path.replace("\\", "/").rpartition("/")[2]) for path in paths] or None

    return Written(
        draft_id=draft_id,
        message_id=made.get("id", ""),
        thread_id=made.get("threadId", ""),
        to=list(letter.to),
        cc=list(letter.cc) or None,
        bcc=list(letter.bcc) or None,
        subject=letter.subject,
        attachments=names(letter.attachments),
    )
