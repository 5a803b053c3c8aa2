"""Drive tools for the text of Google Docs, and for former versions of any file."""

from typing import Annotated, Any
from urllib.parse import quote

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import BaseModel, Field

from mcpchat_servers.drive.api_calls import (
    FILES_PATH,
    MAX_READ_BYTES,
    TEXT_EXPORTS,
    fetch_if_named,
    fetch_metadata,
    quote_name,
    to_text,
)
from mcpchat_servers.drive.files import DOCUMENT, FILE_FIELDS, GOOGLE_APPS, CurrentName, Person
from mcpchat_servers.drive.server import DOCS_API, server
from mcpchat_servers.google.errors import ApiError
from mcpchat_servers.google.ids import FileId
from mcpchat_servers.google.server import Ctx, Cursor, Limit, Offset, Session, build_result, get_session
from mcpchat_servers.google.text_extraction import PAGE_LENGTH, take_excerpt

_REVISION_FIELDS = "id,modifiedTime,mimeType,size,lastModifyingUser(displayName,emailAddress),originalFilename"
MAX_TEXT = 200_000  # characters
Suggest = Annotated[bool, Field(description="Only suggest the change, for others to accept.")]


class DocumentChange(BaseModel):
    """A Google Doc that was changed, or to which a change was suggested."""

    file_id: str
    name: str
    replaced: Annotated[int | None, Field(description="How often the text was replaced.")] = None
    suggested: bool | None = None


class Revision(BaseModel):
    """A version of a file."""

    id: str
    modified: str | None = None
    by: Person | None = None
    size: Annotated[int | None, Field(description="Bytes; Google's own documents have none.")] = None


class RevisionPage(BaseModel):
    """A page of a file's versions, the oldest first."""

    revisions: list[Revision]
    next_cursor: Annotated[str | None, Field(description="For the next page; missing at the end.")] = None


class RevisionContent(BaseModel):
    """The text of a version, or a piece of it."""

    revision: Revision
    text: str
    offset: int
    total: Annotated[int, Field(description="Characters of the whole text.")]
    next_offset: Annotated[int | None, Field(description="The offset of the next piece; missing at the end.")] = None


@server.write_tool("Append to a Google Doc", deferred=True)
async def append_to_document(
    ctx: Ctx,
    file_id: FileId,
    name: CurrentName,
    text: Annotated[
        str, Field(description="Plain text; it begins a new paragraph.", min_length=1, max_length=MAX_TEXT)
    ],
    suggest: Suggest = False,
) -> Annotated[CallToolResult, DocumentChange]:
    """Add text at the end of a Google Doc. What is in it stays."""
    raw, revision_id = await _fetch_document(get_session(ctx), file_id, name)
    request = {"insertText": {"endOfSegmentLocation": {}, "text": f"\n{text}"}}
    await _update_document(get_session(ctx), raw, revision_id, request, suggest=suggest)
    return build_result(DocumentChange(file_id=raw["id"], name=raw["name"], suggested=suggest or None))


@server.write_tool("Replace text in a Google Doc", destructive=True, deferred=True)
async def replace_in_document(
    ctx: Ctx,
    file_id: FileId,
    name: CurrentName,
    find: Annotated[str, Field(min_length=1, max_length=5000)],
    replacement: Annotated[str, Field(max_length=MAX_TEXT)],
    match_case: bool = True,
    suggest: Suggest = False,
) -> Annotated[CallToolResult, DocumentChange]:
    """Replace a text everywhere in a Google Doc. Its formatting stays."""
    session = get_session(ctx)
    raw, revision_id = await _fetch_document(session, file_id, name)
    request = {"replaceAllText": {"containsText": {"text": find, "matchCase": match_case}, "replaceText": replacement}}
    reply = await _update_document(session, raw, revision_id, request, suggest=suggest)
    count = (reply.get("replaceAllText") or {}).get("occurrencesChanged", 0)
    if not count:
        raise ToolError(f"find: {find[:100]!r} is not in {quote_name(raw)}; nothing was changed")
    return build_result(DocumentChange(file_id=raw["id"], name=raw["name"], replaced=count, suggested=suggest or None))


async def _fetch_document(session: Session, file_id: str, name: str) -> tuple[dict[str, Any], str]:
    """Return a Google Doc's metadata and the id of its version. Raises ToolError if it is another kind of file."""
    raw = await fetch_if_named(session, file_id, name, follow=True)
    if raw["mimeType"] != DOCUMENT:
        raise ToolError(f"{quote_name(raw)} is no Google Doc: update_file replaces the content of other files")
    document = await session.other_apis[DOCS_API].get(
        f"v1/documents/{raw['id']}", {"fields": "revisionId"}, what=quote_name(raw)
    )
    return raw, str(document.get("revisionId", ""))


async def _update_document(
    session: Session, raw: dict[str, Any], revision_id: str, request: dict[str, Any], *, suggest: bool
) -> dict[str, Any]:
    """Change a Google Doc, unless somebody else has changed it since ``revision_id``. Returns Google's reply."""
    control: dict[str, Any] = {"requiredRevisionId": revision_id} if revision_id else {}  # only editors get one
    control |= {"writeMode": "SUGGEST"} if suggest else {}
    response = await session.other_apis[DOCS_API].change(
        "POST",
        f"v1/documents/{raw['id']}:batchUpdate",
        {"requests": [request], **({"writeControl": control} if control else {})},
        what=quote_name(raw),
        retryable=False,
    )
    return dict(next(iter(response.get("replies") or ()), {}))


@server.read_tool("List a file's versions", deferred=True)
async def list_revisions(ctx: Ctx, file_id: FileId, cursor: Cursor = None) -> Annotated[CallToolResult, RevisionPage]:
    """List the versions of a file that Drive keeps: when, and by whom."""
    session = get_session(ctx)
    raw = await fetch_metadata(session, file_id, FILE_FIELDS)
    params: dict[str, Any] = {"pageSize": 200, "fields": f"nextPageToken,revisions({_REVISION_FIELDS})"}
    response = await session.api.get(
        f"{FILES_PATH}/{raw['id']}/revisions",
        params | ({"pageToken": cursor} if cursor else {}),
        what=f"the versions of {quote_name(raw)}",
    )
    revisions = [_parse_revision(item) for item in response.get("revisions") or ()]
    page = RevisionPage(revisions=revisions, next_cursor=response.get("nextPageToken"))
    lines = [
        f"revision {one.id}: {(one.modified or '')[:16]}  {(one.by.name or one.by.email) if one.by else 'unknown'}"
        for one in revisions
    ]
    lines += [f"[more: cursor={page.next_cursor}]"] if page.next_cursor else []
    return build_result(page, "\n".join(lines) or "no versions")


@server.read_tool("Read a version of a file", deferred=True)
async def read_revision(
    ctx: Ctx,
    file_id: FileId,
    revision_id: Annotated[str, Field(description="From list_revisions.", pattern=r"^[\w-][\w.-]{0,199}$")],
    offset: Offset = 0,
    limit: Limit = PAGE_LENGTH,
) -> Annotated[CallToolResult, RevisionContent]:
    """Read the text of a former version of a file, as read_file does."""
    session = get_session(ctx)
    raw = await fetch_metadata(session, file_id, FILE_FIELDS)
    path, what = (
        f"{FILES_PATH}/{raw['id']}/revisions/{quote(revision_id)}",
        f"the version {revision_id} of {quote_name(raw)}",
    )
    revision = await session.api.get(path, {"fields": f"{_REVISION_FIELDS},exportLinks"}, what=what)
    key = (raw["id"], "revision", revision_id)
    text = session.text_cache.get(*key)
    if text is None:
        text = session.text_cache.put(await _read_version(session, raw, revision, path, what), *key)
    page = take_excerpt(text, offset, limit)
    value = RevisionContent(revision=_parse_revision(revision), **page.model_dump())
    return build_result(value, page.text + page.footer)


async def _read_version(session: Session, raw: dict[str, Any], revision: dict[str, Any], path: str, what: str) -> str:
    """Return the text of a version: its bytes, or one of Google's exports. Raises ToolError."""
    kind = str(revision.get("mimeType") or raw["mimeType"])
    if not kind.startswith(GOOGLE_APPS):
        content = await session.api.get_content(path, {"alt": "media"}, what=what, max_bytes=MAX_READ_BYTES)
        return await to_text(content.data, kind, str(revision.get("originalFilename") or raw["name"]), what)
    links = revision.get("exportLinks") or {}
    wanted = "text/html" if kind == DOCUMENT else TEXT_EXPORTS.get(kind, ("", ""))[0]
    chosen = next((media_type for media_type in (wanted, "text/plain", "application/pdf") if media_type in links), "")
    if not chosen:
        raise ToolError(f"{what}: Google offers no text of it")
    try:
        content = await session.api.get_export(links[chosen], what=what, max_bytes=MAX_READ_BYTES)
    except ApiError as error:
        if error.status != 404:
            raise
        raise ToolError(f"{what}: Google no longer has it") from error
    return await to_text(content.data, chosen, raw["name"], what)


def _parse_revision(raw: dict[str, Any]) -> Revision:
    user = raw.get("lastModifyingUser") or {}
    return Revision(
        id=str(raw.get("id", "")),
        modified=raw.get("modifiedTime"),
        by=Person(name=user.get("displayName"), email=user.get("emailAddress")) if user else None,
        size=int(raw["size"]) if "size" in raw and not str(raw.get("mimeType", "")).startswith(GOOGLE_APPS) else None,
    )
