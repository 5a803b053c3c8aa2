"""Gmail API requests shared by several tools: messages and their parts, label names, drafts, sending."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from mcpchat_servers.gmail.message_parser import (
    Attachment,
    Raw,
    decode_base64url,
    decode_part,
    extract_part_text,
    find_additions,
    find_text_parts,
    is_attachment,
    iter_parts,
    parse_attachment,
)
from mcpchat_servers.google.credentials import TokenExpired
from mcpchat_servers.google.errors import ApiError
from mcpchat_servers.google.server import Ctx, Session, get_session
from mcpchat_servers.google.text_extraction import (
    decode_text,
    find_office_kind,
    html_to_text,
    is_html,
    is_text,
    office_to_text,
    pdf_to_text,
)

USER_PATH = "gmail/v1/users/me"
MAX_ATTACHMENT_JSON_BYTES = 64 * 2**20  # of the JSON that contains an attachment
MAX_CONCURRENCY = 8  # requests at a time
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


class Label(BaseModel):
    id: str
    name: str
    type: Annotated[str, Field(description="system or user")]


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
