"""Gmail tools that organize mail: labels, archive, marks, trash."""

from collections.abc import Mapping
from typing import Annotated, Literal

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import Field

from mcpchat_servers.gmail.api_calls import (
    ChangeResult,
    apply_labels,
    apply_to_each,
    fetch_label_names,
    find_label_id,
)
from mcpchat_servers.gmail.server import Id, server
from mcpchat_servers.google.server import Ctx, build_result, get_session

MessageIds = Annotated[
    list[Id] | None,
    Field(description="Either these or thread_ids.", min_length=1, max_length=1000),
]
FewMessageIds = Annotated[
    list[Id] | None,
    Field(description="Either these or thread_ids.", min_length=1, max_length=100),
]
ThreadIds = Annotated[
    list[Id] | None,
    Field(description="Whole conversations.", min_length=1, max_length=100),
]
LabelNames = Annotated[list[str] | None, Field(description="Names of labels.", max_length=50)]

_MARK_LABELS: Mapping[str, tuple[list[str], list[str]]] = {
    "read": ([], ["UNREAD"]),
    "unread": (["UNREAD"], []),
    "starred": (["STARRED"], []),
    "not_starred": ([], ["STARRED"]),
    "important": (["IMPORTANT"], []),
    "not_important": ([], ["IMPORTANT"]),
    "spam": (["SPAM"], ["INBOX"]),
    "not_spam": (["INBOX"], ["SPAM"]),
}


@server.write_tool("Change labels", idempotent=True, deferred=True)
async def change_labels(
    ctx: Ctx,
    message_ids: MessageIds = None,
    thread_ids: ThreadIds = None,
    add: LabelNames = None,
    remove: LabelNames = None,
) -> Annotated[CallToolResult, ChangeResult]:
    """Add labels to messages or whole conversations, and remove labels. Adding INBOX brings them back from the
    archive."""
    if not add and not remove:
        raise ToolError("expected labels in add or in remove")
    names = await fetch_label_names(get_session(ctx))
    label_ids = [[find_label_id(names, name) for name in chosen] for chosen in (add or (), remove or ())]
    for name in (*(add or ()), *(remove or ())):
        if name.upper() in {"TRASH", "SPAM"}:
            raise ToolError(f"{name} cannot be changed here: use trash, untrash or mark")
        if name.upper() in {"SENT", "DRAFT"}:
            raise ToolError(f"{name} is set by Gmail and cannot be added or removed")
    return build_result(await apply_labels(ctx, message_ids, thread_ids, *label_ids))


@server.write_tool("Archive", idempotent=True)
async def archive(
    ctx: Ctx, message_ids: MessageIds = None, thread_ids: ThreadIds = None
) -> Annotated[CallToolResult, ChangeResult]:
    """Move messages or whole conversations out of the inbox. They stay in the account."""
    return build_result(await apply_labels(ctx, message_ids, thread_ids, [], ["INBOX"]))


@server.write_tool("Mark", idempotent=True)
async def mark(
    ctx: Ctx,
    status: Literal["read", "unread", "starred", "not_starred", "important", "not_important", "spam", "not_spam"],
    message_ids: MessageIds = None,
    thread_ids: ThreadIds = None,
) -> Annotated[CallToolResult, ChangeResult]:
    """Mark messages or whole conversations as read, starred, important or spam, or remove the mark."""
    add, remove = _MARK_LABELS[status]
    return build_result(await apply_labels(ctx, message_ids, thread_ids, add, remove))


@server.write_tool("Put into the trash", destructive=True, idempotent=True)
async def trash(
    ctx: Ctx, message_ids: FewMessageIds = None, thread_ids: ThreadIds = None
) -> Annotated[CallToolResult, ChangeResult]:
    """Move messages or whole conversations to the trash. Google deletes them after 30 days."""
    return build_result(await apply_to_each(ctx, message_ids, thread_ids, "trash"))


@server.write_tool("Take out of the trash", idempotent=True, deferred=True)
async def untrash(
    ctx: Ctx, message_ids: FewMessageIds = None, thread_ids: ThreadIds = None
) -> Annotated[CallToolResult, ChangeResult]:
    """Restore messages or whole conversations from the trash."""
    return build_result(await apply_to_each(ctx, message_ids, thread_ids, "untrash"))
