"""Drive tools for what people say about a file: comments, replies, and suggestions in Google Docs."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import BaseModel, Field

from mcpchat_servers.drive.api_calls import FILES_PATH, fetch_if_named, fetch_metadata, quote_name
from mcpchat_servers.drive.files import DOCUMENT, FILE_FIELDS, CurrentName
from mcpchat_servers.drive.server import DOCS_API, server
from mcpchat_servers.google.display_names import to_one_line
from mcpchat_servers.google.errors import ApiError
from mcpchat_servers.google.ids import FileId
from mcpchat_servers.google.server import Ctx, Cursor, Session, build_result, get_session

MAX_TEXT = 4000  # characters of one comment
_REPLY_FIELDS = "id,content,createdTime,author(displayName),action,deleted"
_COMMENT_FIELDS = (
    f"id,content,createdTime,author(displayName),resolved,quotedFileContent(value),deleted,replies({_REPLY_FIELDS})"
)
_SUGGESTION_FIELDS = "suggestions(suggestionId,status,summaryText,headPost(author,createTime))"
CommentId = Annotated[str, Field(description="From list_comments.", pattern=r"^[\w-][\w.-]{0,199}$")]


class Reply(BaseModel):
    """A reply to a comment. ``action`` says that it resolved or reopened the comment."""

    author: str
    created: str | None = None
    text: str
    action: str | None = None


class Comment(BaseModel):
    """A comment, and the text that it is about."""

    id: str
    author: str
    created: str | None = None
    text: str
    about: str | None = None
    resolved: bool | None = None
    replies: list[Reply] = []


class Suggestion(BaseModel):
    """A change that somebody suggests in a Google Doc."""

    id: str
    author: str | None = None
    created: str | None = None
    text: Annotated[str, Field(description="What would change, in Google's words.")]


class CommentPage(BaseModel):
    """A page of comments. The first page of a Google Doc also has its open suggestions."""

    comments: list[Comment]
    suggestions: list[Suggestion] | None = None
    next_cursor: Annotated[str | None, Field(description="For the next page; missing at the end.")] = None
    note: str | None = None


class SuggestionResult(BaseModel):
    file_id: str
    suggestion_id: str
    decision: str


@server.read_tool("List comments", deferred=True)
async def list_comments(
    ctx: Ctx,
    file_id: FileId,
    resolved: Annotated[bool, Field(description="Also those that are resolved.")] = False,
    cursor: Cursor = None,
) -> Annotated[CallToolResult, CommentPage]:
    """List the comments on a file with their replies, and the suggestions in a Google Doc."""
    session = get_session(ctx)
    raw = await fetch_metadata(session, file_id, FILE_FIELDS)
    params: dict[str, Any] = {"pageSize": 50, "fields": f"nextPageToken,comments({_COMMENT_FIELDS})"}
    response = await session.api.get(
        f"{FILES_PATH}/{raw['id']}/comments",
        params | ({"pageToken": cursor} if cursor else {}),
        what=f"the comments on {quote_name(raw)}",
    )
    comments = [_parse_comment(item) for item in response.get("comments") or () if not item.get("deleted")]
    comments = [comment for comment in comments if resolved or not comment.resolved]
    suggestions, note = None, None
    if raw["mimeType"] == DOCUMENT and cursor is None:
        try:
            suggestions = await _fetch_suggestions(session, raw)
        except ApiError as error:
            note = f"The suggestions cannot be read: {error}"
    page = CommentPage(
        comments=comments, suggestions=suggestions or None, next_cursor=response.get("nextPageToken"), note=note
    )
    return build_result(page, _format_page(page))


async def _fetch_suggestions(session: Session, raw: Mapping[str, Any]) -> list[Suggestion]:
    params = {
        "commentsViewMode": "COMMENTS_VIEW_MODE_INCLUDED",
        "suggestionsViewMode": "SUGGESTIONS_INLINE",
        "includeTabsContent": True,
        "fields": _SUGGESTION_FIELDS,
    }
    document = await session.other_apis[DOCS_API].get(
        f"v1/documents/{raw['id']}", params, what=f"the suggestions in {raw.get('name')!r}"
    )
    suggestions = []
    for item in document.get("suggestions") or ():
        post = item.get("headPost") or {}
        if item.get("status") in {"ACCEPTED", "REJECTED"}:
            continue
        suggestions.append(
            Suggestion(
                id=str(item.get("suggestionId", "")),
                author=to_one_line(str((post.get("author") or {}).get("displayName") or ""), 200) or None,
                created=post.get("createTime"),
                text=to_one_line(str(item.get("summaryText") or ""), MAX_TEXT),
            )
        )
    return suggestions


def _parse_comment(raw: Mapping[str, Any]) -> Comment:
    return Comment(
        id=str(raw.get("id", "")),
        author=_author(raw),
        created=raw.get("createdTime"),
        text=str(raw.get("content") or "")[:MAX_TEXT],
        about=to_one_line(str((raw.get("quotedFileContent") or {}).get("value") or ""), 500) or None,
        resolved=raw.get("resolved") or None,
        replies=[
            Reply(
                author=_author(reply),
                created=reply.get("createdTime"),
                text=str(reply.get("content") or "")[:MAX_TEXT],
                action=reply.get("action"),
            )
            for reply in raw.get("replies") or ()
            if not reply.get("deleted")
        ],
    )


def _author(raw: Mapping[str, Any]) -> str:
    return to_one_line(str((raw.get("author") or {}).get("displayName") or "unknown"), 200)


def _format_page(page: CommentPage) -> str:
    lines = []
    for comment in page.comments:
        about = f" about {comment.about!r}" if comment.about else ""
        state = ", resolved" if comment.resolved else ""
        lines.append(f"{(comment.created or '')[:16]}  {comment.author}{about} (comment {comment.id}{state}):")
        lines += [f"    {line}" for line in comment.text.splitlines()]
        for reply in comment.replies:
            action = f" [{reply.action}]" if reply.action else ""
            lines.append(f"    - {reply.author}{action}: {to_one_line(reply.text, MAX_TEXT)}".removesuffix(": "))
    for suggestion in page.suggestions or ():
        lines.append(f"suggestion {suggestion.id} by {suggestion.author or 'unknown'}: {suggestion.text}")
    lines += [f"[{page.note}]"] if page.note else []
    lines += [f"[more: cursor={page.next_cursor}]"] if page.next_cursor else []
    return "\n".join(lines) or "no comments"


@server.write_tool("Comment on a file", destructive=True, deferred=True)
async def add_comment(
    ctx: Ctx,
    file_id: FileId,
    name: CurrentName,
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)],
    about: Annotated[str | None, Field(description="The text of the file that it is about.", max_length=1000)] = None,
) -> Annotated[CallToolResult, Comment]:
    """Add a comment on a file. All who can see the file see it, and Google mails some of them."""
    session = get_session(ctx)
    raw = await fetch_if_named(session, file_id, name, follow=True)
    body: dict[str, Any] = {"content": text}
    body |= {"quotedFileContent": {"mimeType": "text/plain", "value": about}} if about else {}
    created = await session.api.change(
        "POST",
        f"{FILES_PATH}/{raw['id']}/comments",
        body,
        what=f"the comment on {quote_name(raw)}",
        retryable=False,
        params={"fields": _COMMENT_FIELDS},
    )
    return build_result(_parse_comment(created))


@server.write_tool("Reply to a comment", destructive=True, deferred=True)
async def reply_to_comment(
    ctx: Ctx,
    file_id: FileId,
    name: CurrentName,
    comment_id: CommentId,
    text: Annotated[str | None, Field(min_length=1, max_length=MAX_TEXT)] = None,
    action: Annotated[Literal["resolve", "reopen"] | None, Field(description="Needed without a text.")] = None,
) -> Annotated[CallToolResult, Comment]:
    """Reply to a comment, resolve it or open it again. Google mails those who take part."""
    if not text and not action:
        raise ToolError("expected text or action")
    session = get_session(ctx)
    raw = await fetch_if_named(session, file_id, name, follow=True)
    path, what = f"{FILES_PATH}/{raw['id']}/comments/{comment_id}", f"the comment {comment_id} on {quote_name(raw)}"
    body: dict[str, Any] = ({"content": text} if text else {}) | ({"action": action} if action else {})
    await session.api.change(
        "POST", f"{path}/replies", body, what=what, retryable=False, params={"fields": _REPLY_FIELDS}
    )
    comment = await session.api.get(path, {"fields": _COMMENT_FIELDS}, what=what)
    return build_result(_parse_comment(comment))


@server.write_tool("Decide on a suggestion", destructive=True, deferred=True)
async def decide_suggestion(
    ctx: Ctx,
    file_id: FileId,
    name: CurrentName,
    suggestion_id: Annotated[str, Field(description="From list_comments.", pattern=r"^[\w-][\w.-]{0,199}$")],
    text: Annotated[
        str, Field(description="What would change, as list_comments says, for the user to see.", max_length=MAX_TEXT)
    ],
    decision: Literal["accept", "reject"],
) -> Annotated[CallToolResult, SuggestionResult]:
    """Accept or reject a change that somebody suggested in a Google Doc."""
    session = get_session(ctx)
    raw = await fetch_if_named(session, file_id, name, follow=True)
    if raw["mimeType"] != DOCUMENT:
        raise ToolError(f"{quote_name(raw)} is no Google Doc: only those have suggestions")
    found = next((item for item in await _fetch_suggestions(session, raw) if item.id == suggestion_id), None)
    if found is None:
        raise ToolError(f"there is no open suggestion {suggestion_id}: list_comments shows them")
    if to_one_line(text, MAX_TEXT) != found.text:
        raise ToolError(f"text: the suggestion {suggestion_id} is {found.text!r}; nothing was changed")
    await session.other_apis[DOCS_API].change(
        "POST",
        f"v1/documents/{raw['id']}:batchUpdate",
        {"requests": [{f"{decision}Suggestion": {"suggestionId": suggestion_id}}]},
        what=quote_name(raw),
        retryable=False,
    )
    return build_result(SuggestionResult(file_id=raw["id"], suggestion_id=suggestion_id, decision=decision))
