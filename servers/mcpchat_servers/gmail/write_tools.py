"""Gmail tools that organize mail: labels, archive, marks, trash."""

from collections.abc import Mapping
from typing import Annotated, Literal

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import Field

from mcpchat_servers.gmail.api_calls import USER_PATH, ChangeResult, apply_labels, apply_to_each, fetch_label_names
from mcpchat_servers.gmail.read_tools import Label
from mcpchat_servers.gmail.server import Id, server
from mcpchat_servers.google.errors import ApiError
from mcpchat_servers.google.server import Ctx, build_result, get_session

MessageIds = Annotated[
    list[Id] | None,
    Field(description="Messages; set either these or thread_ids.", min_length=1, max_length=1000),
]
FewMessageIds = Annotated[
    list[Id] | None,
    Field(description="Messages; set either these or thread_ids.", min_length=1, max_length=100),
]
ThreadIds = Annotated[
    list[Id] | None,
    Field(description="Whole conversations; set either these or message_ids.", min_length=1, max_length=100),
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


@server.write_tool("Create a label")
async def create_label(
    ctx: Ctx, name: Annotated[str, Field(description='"Work/Bills" is within "Work".', min_length=1, max_length=225)]
) -> Annotated[CallToolResult, Label]:
    """Create a new label."""
    body = {"name": name, "labelListVisibility": "labelShow", "messageListVisibility": "show"}
    try:
        created = await get_session(ctx).api.change(
            "POST", f"{USER_PATH}/labels", body, what=f"the label {name!r}", retryable=False
        )
    except ApiError as error:
        if error.status == 409:
            raise ToolError(f"the label {name!r} exists already: change_labels applies it") from error
        raise
    return build_result(Label(id=created.get("id", ""), name=created.get("name", name), type="user"))


@server.write_tool("Change labels", idempotent=True)
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
    ids = {name.lower(): id_ for id_, name in (await fetch_label_names(get_session(ctx))).items()}
    for name in (*(add or ()), *(remove or ())):
        if name.lower() not in ids:
            raise ToolError(f"no label is named {name!r}: list_labels shows them, create_label creates one")
        if name.upper() in {"TRASH", "SPAM"}:
            raise ToolError(f"{name} cannot be changed here: use trash, untrash or mark")
        if name.upper() in {"SENT", "DRAFT"}:
            raise ToolError(f"{name} is set by Gmail and cannot be added or removed")
    label_ids = [[ids[name.lower()] for name in names] for names in (add or (), remove or ())]
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


@server.write_tool("Take out of the trash", idempotent=True)
async def untrash(
    ctx: Ctx, message_ids: FewMessageIds = None, thread_ids: ThreadIds = None
) -> Annotated[CallToolResult, ChangeResult]:
    """Restore messages or whole conversations from the trash."""
    return build_result(await apply_to_each(ctx, message_ids, thread_ids, "untrash"))
