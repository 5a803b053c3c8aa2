"""Gmail's tools that sort mail: labels, the archive, marks, the trash."""

from collections.abc import Mapping
from typing import Annotated, Literal

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import Field

from mcpchat_servers.gmail.reading import Label
from mcpchat_servers.gmail.requests import ME, Changed, each_of, fresh_labels, relabelled
from mcpchat_servers.gmail.server import Id, server
from mcpchat_servers.google.refusals import Refused
from mcpchat_servers.google.server import Ctx, answered
from mcpchat_servers.google.server import session as running

MessageIds = Annotated[
    list[Id] | None,
    Field(description="Messages; give either these or thread_ids.", min_length=1, max_length=1000),
]
FewMessageIds = Annotated[
    list[Id] | None,
    Field(description="Messages; give either these or thread_ids.", min_length=1, max_length=100),
]
ThreadIds = Annotated[
    list[Id] | None,
    Field(description="Whole conversations; give either these or message_ids.", min_length=1, max_length=100),
]
LabelNames = Annotated[list[str] | None, Field(description="Names of labels.", max_length=50)]

_MARKS: Mapping[str, tuple[list[str], list[str]]] = {
    "read": ([], ["UNREAD"]),
    "unread": (["UNREAD"], []),
    "starred": (["STARRED"], []),
    "not_starred": ([], ["STARRED"]),
    "important": (["IMPORTANT"], []),
    "not_important": ([], ["IMPORTANT"]),
    "spam": (["SPAM"], ["INBOX"]),
    "not_spam": (["INBOX"], ["SPAM"]),
}


@server.changes("Create a label")
async def create_label(
    ctx: Ctx, name: Annotated[str, Field(description='"Work/Bills" is within "Work".', min_length=1, max_length=225)]
) -> Annotated[CallToolResult, Label]:
    """Make a new label."""
    body = {"name": name, "labelListVisibility": "labelShow", "messageListVisibility": "show"}
    try:
        made = await running(ctx).api.change("POST", f"{ME}/labels", body, what=f"the label {name!r}", repeatable=False)
    except Refused as error:
        if error.status == 409:
            raise ToolError(f"there is a label {name!r} already: change_labels puts it on") from error
        raise
    return answered(Label(id=made.get("id", ""), name=made.get("name", name), type="user"))


@server.changes("Change labels", idempotent=True)
async def change_labels(
    ctx: Ctx,
    message_ids: MessageIds = None,
    thread_ids: ThreadIds = None,
    add: LabelNames = None,
    remove: LabelNames = None,
) -> Annotated[CallToolResult, Changed]:
    """Put labels onto messages or whole conversations, and take labels off. INBOX put on brings them back from the
    archive."""
    if not add and not remove:
        raise ToolError("expected labels in add or in remove")
    ids = {name.lower(): id_ for id_, name in (await fresh_labels(running(ctx))).items()}
    for name in (*(add or ()), *(remove or ())):
        if name.lower() not in ids:
            raise ToolError(f"no label is named {name!r}: list_labels shows them, create_label makes one")
        if name.upper() in {"TRASH", "SPAM"}:
            raise ToolError(f"{name} is put on and taken off by trash, untrash and mark")
        if name.upper() in {"SENT", "DRAFT"}:
            raise ToolError(f"{name} is Gmail's own, and is neither put on nor taken off")
    wanted = [[ids[name.lower()] for name in names] for names in (add or (), remove or ())]
    return answered(await relabelled(ctx, message_ids, thread_ids, *wanted))


@server.changes("Archive", idempotent=True)
async def archive(
    ctx: Ctx, message_ids: MessageIds = None, thread_ids: ThreadIds = None
) -> Annotated[CallToolResult, Changed]:
    """Take messages or whole conversations out of the inbox. They stay in the account."""
    return answered(await relabelled(ctx, message_ids, thread_ids, [], ["INBOX"]))


@server.changes("Mark", idempotent=True)
async def mark(
    ctx: Ctx,
    status: Literal["read", "unread", "starred", "not_starred", "important", "not_important", "spam", "not_spam"],
    message_ids: MessageIds = None,
    thread_ids: ThreadIds = None,
) -> Annotated[CallToolResult, Changed]:
    """Mark messages or whole conversations as read, starred, important or spam, or as not."""
    add, remove = _MARKS[status]
    return answered(await relabelled(ctx, message_ids, thread_ids, add, remove))


@server.changes("Put into the trash", destructive=True, idempotent=True)
async def trash(
    ctx: Ctx, message_ids: FewMessageIds = None, thread_ids: ThreadIds = None
) -> Annotated[CallToolResult, Changed]:
    """Put messages or whole conversations into the trash. Google empties that after 30 days."""
    return answered(await each_of(ctx, message_ids, thread_ids, "trash"))


@server.changes("Take out of the trash", idempotent=True)
async def untrash(
    ctx: Ctx, message_ids: FewMessageIds = None, thread_ids: ThreadIds = None
) -> Annotated[CallToolResult, Changed]:
    """Take messages or whole conversations out of the trash."""
    return answered(await each_of(ctx, message_ids, thread_ids, "untrash"))
