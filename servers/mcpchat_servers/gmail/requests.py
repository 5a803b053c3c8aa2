"""Requests that several of Gmail's tools make: messages and their parts, names of labels, drafts, what is sent."""

import asyncio
import base64
import io
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

from mcpchat_servers.gmail.composing import MOST_ATTACHED, File, Original, compose
from mcpchat_servers.gmail.parts import (
    Attachment,
    Raw,
    attachment_of,
    headers_of,
    is_attachment,
    parts_of,
    shown_parts,
    text_of_part,
    unlocked,
)
from mcpchat_servers.google.credentials import TokenEnded
from mcpchat_servers.google.media_types import media_type
from mcpchat_servers.google.refusals import Refused
from mcpchat_servers.google.server import Ctx, Session, progress_to
from mcpchat_servers.google.server import session as running
from mcpchat_servers.google.texts import decoded, html_text, is_textual, pdf_text

ME = "gmail/v1/users/me"
MOST_ATTACHMENT = 64 * 2**20  # bytes of the JSON that an attachment comes in
SMALL = 3 * 2**20  # bytes of a message that is sent in one request
AT_ONCE = 8  # requests
MOST_PARTS = 20  # of one message's text
READ_SECONDS = 60.0  # for one message's text
_SUMMARY = {
    "format": "metadata",
    "metadataHeaders": ["From", "To", "Cc", "Bcc", "Subject"],
    "fields": "id,threadId,labelIds,snippet,internalDate,payload/headers",
}
_Item = TypeVar("_Item")
_Value = TypeVar("_Value")


class Changed(BaseModel):
    """What was changed, by id; the labels by theirs."""

    message_ids: list[str] | None = None
    thread_ids: list[str] | None = None
    added: list[str] | None = None
    removed: list[str] | None = None


@dataclass(frozen=True)
class Letter:
    """What was asked to be written; ``attachments`` are paths."""

    to: Sequence[str]
    cc: Sequence[str]
    bcc: Sequence[str]
    subject: str
    body: str
    attachments: Sequence[str]


async def together(call: Callable[[_Item], Awaitable[_Value]], items: Iterable[_Item]) -> list[_Value | ToolError]:
    """What the call gives for each item, in order, a few at a time, or why it gives nothing; all have ended then.

    Raises TokenEnded where the token has: all of it is to be done again then.
    """
    room = asyncio.Semaphore(AT_ONCE)

    async def one(item: _Item) -> _Value | ToolError:
        async with room:
            try:
                return await call(item)
            except ToolError as error:
                return error

    found = await asyncio.gather(*map(one, items), return_exceptions=True)
    values: list[_Value | ToolError] = []
    for each in found:
        if isinstance(each, BaseException) and (isinstance(each, TokenEnded) or not isinstance(each, ToolError)):
            raise each
        values.append(each)
    return values


async def got(call: Callable[[_Item], Awaitable[_Value]], items: Iterable[_Item]) -> list[_Value]:
    """As ``together``, without those that are gone meanwhile. Raises ToolError for any other failure."""
    values: list[_Value] = []
    for found in await together(call, items):
        if not isinstance(found, ToolError):
            values.append(found)
        elif not (isinstance(found, Refused) and found.status == 404):
            raise found
    return values


# Reading.


async def full_message(session: Session, message_id: str) -> dict[str, Any]:
    return await session.api.get(
        f"{ME}/messages/{message_id}", {"format": "full"}, what=f"the message {message_id}", most=MOST_ATTACHMENT
    )


async def summaries(session: Session, ids: Sequence[str]) -> list[dict[str, Any]]:
    """What a list shows of messages."""

    async def one(message_id: str) -> dict[str, Any]:
        return await session.api.get(f"{ME}/messages/{message_id}", _SUMMARY, what=f"the message {message_id}")

    return await got(one, ids)


async def label_names(session: Session, raws: Iterable[Raw]) -> Mapping[str, str]:
    """The names of labels by id: asked for once, and anew where a message has one that was not there then."""
    used = {label for raw in raws for label in raw.get("labelIds") or ()}
    known: Mapping[str, str] = session.known.get("labels", {})
    return known if used <= known.keys() else await fresh_labels(session)


async def fresh_labels(session: Session) -> Mapping[str, str]:
    """The names of labels by id, as they are now."""
    found = await session.api.get(f"{ME}/labels", {"fields": "labels(id,name)"}, what="the labels")
    names = {str(one["id"]): str(one.get("name", one["id"])) for one in found.get("labels") or ()}
    session.known["labels"] = names
    return names


async def own_address(session: Session) -> str:
    """The account's address, in small letters."""
    if "address" not in session.known:
        found = await session.api.get(f"{ME}/profile", {"fields": "emailAddress"}, what="the account")
        session.known["address"] = str(found.get("emailAddress", "")).lower()
    return str(session.known["address"])


async def body_of(session: Session, raw: Raw) -> str:
    """The text of a message that a person would read, as far as it can be read in time."""
    parts = shown_parts(raw.get("payload") or {})
    texts = []
    try:
        async with asyncio.timeout(READ_SECONDS):
            for part in parts[:MOST_PARTS]:
                texts.append(await text_of_part(part, await data_of(session, raw["id"], part)))  # noqa: PERF401
    except TimeoutError:
        texts.append("[the rest could not be read in time]")
    if len(parts) > MOST_PARTS:
        texts.append(f"[{len(parts) - MOST_PARTS:,} more parts are left out]")
    return "\n\n".join(text for text in texts if text)


async def part_of(session: Session, message_id: str, part_id: str) -> Raw:
    """An attachment's part. Raises ToolError where the message has none of that id."""
    raw = await full_message(session, message_id)
    parts = {attachment_of(part).part_id: part for part in parts_of(raw) if is_attachment(part)}
    if part_id not in parts:
        known = ", ".join(f"{key} ({attachment_of(part).name})" for key, part in [*parts.items()][:20])
        raise ToolError(f"the message {message_id} has no attachment {part_id}; it has {known or 'none'}")
    return parts[part_id]


async def data_of(session: Session, message_id: str, part: Raw) -> bytes:
    """A part's bytes: Gmail sends large ones apart, under an id that changes with each look."""
    body = part.get("body") or {}
    if "attachmentId" in body and not body.get("data"):
        body = await session.api.get(
            f"{ME}/messages/{message_id}/attachments/{body['attachmentId']}",
            what=f"the attachment {attachment_of(part).name!r}",
            most=MOST_ATTACHMENT,
        )
    return unlocked(str(body.get("data") or ""))


async def readable(file: Attachment, data: bytes, charset: str) -> str:
    """An attachment's text. Raises ToolError where it has none."""
    if file.media_type == "application/pdf" or data.startswith(b"%PDF-"):
        return await pdf_text(data, repr(file.name))
    textual = is_textual(file.media_type) or file.media_type in {"application/octet-stream", "message/rfc822"}
    text = decoded(data, charset) if textual else None
    if text is None:
        raise ToolError(f"{file.name!r} ({file.media_type}) is no text: save_attachment saves it")
    return await html_text(text) if file.media_type == "text/html" else text


# Changing.


async def relabelled(
    ctx: Ctx,
    message_ids: Sequence[str] | None,
    thread_ids: Sequence[str] | None,
    add: Sequence[str],
    remove: Sequence[str],
) -> Changed:
    """Change the labels of messages or of whole threads."""
    _one_of(message_ids, thread_ids)
    body = {"addLabelIds": list(add), "removeLabelIds": list(remove)}
    if message_ids:
        await running(ctx).api.change(
            "POST",
            f"{ME}/messages/batchModify",
            {"ids": list(message_ids), **body},
            what=f"the messages {', '.join(message_ids[:3])}{' and others' if len(message_ids) > 3 else ''}",
            repeatable=True,
        )
    await _each(ctx, "thread", thread_ids or (), "modify", body)
    return _changed(message_ids, thread_ids, add, remove)


async def each_of(ctx: Ctx, message_ids: Sequence[str] | None, thread_ids: Sequence[str] | None, verb: str) -> Changed:
    """Do something to each message or thread."""
    _one_of(message_ids, thread_ids)
    await _each(ctx, "message", message_ids or (), verb, None)
    await _each(ctx, "thread", thread_ids or (), verb, None)
    return _changed(message_ids, thread_ids, (), ())


async def _each(ctx: Ctx, kind: str, ids: Sequence[str], verb: str, body: object) -> None:
    """One request for each. Raises ToolError that says which were not done, once all others are."""
    session, done = running(ctx), 0

    async def one(each: str) -> None:
        nonlocal done
        await session.api.change(
            "POST", f"{ME}/{kind}s/{each}/{verb}", body, what=f"the {kind} {each}", repeatable=True
        )
        done += 1
        await ctx.report_progress(done, len(ids), verb)

    failed = [found for found in await together(one, ids) if isinstance(found, ToolError)]
    if failed:
        told = "; ".join(map(str, failed[:5])) + (f"; and {len(failed) - 5} more" if len(failed) > 5 else "")
        raise ToolError(f"{done} of {len(ids)} {kind}s were done, the others not: {told}")


def _one_of(message_ids: Sequence[str] | None, thread_ids: Sequence[str] | None) -> None:
    if bool(message_ids) == bool(thread_ids):
        raise ToolError("expected either message_ids or thread_ids")


def _changed(
    message_ids: Sequence[str] | None, thread_ids: Sequence[str] | None, add: Sequence[str], remove: Sequence[str]
) -> Changed:
    return Changed(
        message_ids=list(message_ids) if message_ids else None,
        thread_ids=list(thread_ids) if thread_ids else None,
        added=list(add) or None,
        removed=list(remove) or None,
    )


# Writing.


async def draft_of(session: Session, draft_id: str) -> dict[str, Any]:
    """A draft with all of its message."""
    return await session.api.get(
        f"{ME}/drafts/{draft_id}", {"format": "full"}, what=f"the draft {draft_id}", most=MOST_ATTACHMENT
    )


async def original_of(session: Session, message_id: str | None) -> tuple[Original | None, str | None]:
    """The message that is replied to, and its thread."""
    if message_id is None:
        return None, None
    params = {"format": "metadata", "metadataHeaders": ["Subject", "Message-ID", "References"]}
    raw = await session.api.get(f"{ME}/messages/{message_id}", params, what=f"the message {message_id}")
    headers = headers_of(raw)
    original = Original(
        subject=headers.get("subject", ""),
        message_id=headers.get("message-id", ""),
        references=headers.get("references", ""),
    )
    return original, raw.get("threadId")


async def composed(session: Session, letter: Letter, original: Original | None) -> bytes:
    """The message as it is sent, with its attachments. Raises ToolError."""
    files: list[File] = []
    for path in letter.attachments:
        room = MOST_ATTACHED - sum(len(one.data) for one in files)
        with session.folders.reading(path, most=room) as (file, _, name):
            files.append(File(name=name, media_type=media_type(name), data=await asyncio.to_thread(file.read)))
    return await asyncio.to_thread(
        compose,
        to=letter.to,
        cc=letter.cc,
        bcc=letter.bcc,
        subject=letter.subject,
        body=letter.body,
        files=files,
        original=original,
    )


async def deliver(
    ctx: Ctx, method: str, path: str, message: bytes, thread: str | None, what: str, *, within: str = ""
) -> dict[str, Any]:
    """Give Gmail a message. ``within`` is the name under which it stands in the request; nothing is ever sent twice."""
    api = running(ctx).api
    own: dict[str, Any] = {"threadId": thread} if thread else {}
    if len(message) <= SMALL:
        own["raw"] = base64.urlsafe_b64encode(message).decode()
        return await api.change(method, path, {within: own} if within else own, what=what, repeatable=method == "PUT")
    return await api.upload(
        method,
        f"upload/{path}",
        {within: own} if within else own,
        io.BytesIO(message),
        size=len(message),
        media_type="message/rfc822",
        params={},
        what=what,
        progress=progress_to(ctx, f"sending {what}"),
    )
