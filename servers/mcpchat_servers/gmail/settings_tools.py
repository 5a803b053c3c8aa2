"""Gmail tools for what is set up once: labels, filters, addresses to send from."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import BaseModel, Field

from mcpchat_servers.gmail.api_calls import (
    USER_PATH,
    Label,
    fetch_label_names,
    find_label_id,
)
from mcpchat_servers.gmail.outgoing import (
    SendAs,
    fetch_send_as,
    is_verified,
    read_signature,
)
from mcpchat_servers.gmail.server import SETTINGS_API, server
from mcpchat_servers.google.display_names import normalize_text, to_one_line
from mcpchat_servers.google.errors import ApiError
from mcpchat_servers.google.server import Ctx, Session, build_result, get_session

MAX_SIGNATURE_LENGTH = 2000  # characters that are listed
_CRITERIA = {
    "from": "from", "to": "to", "subject": "subject", "query": "has", "negatedQuery": "has not",
    "hasAttachment": "has an attachment",
}  # fmt: skip
_ADDED = {"STARRED": "star", "IMPORTANT": "mark as important", "TRASH": "trash"}
_REMOVED = {"INBOX": "archive", "UNREAD": "mark as read", "SPAM": "never to spam", "IMPORTANT": "mark as not important"}

LabelName = Annotated[str, Field(description="Its current name.", min_length=1, max_length=225)]
Criterion = Annotated[str | None, Field(max_length=1000)]


class Labels(BaseModel):
    labels: list[Label]


class DeleteLabelResult(BaseModel):
    """A label that was deleted. Its messages stay."""

    id: str
    name: str


class Filter(BaseModel):
    """What Gmail does with the messages that arrive, in words: ``matches`` says with which, ``actions`` what."""

    id: str
    matches: str
    actions: str


class Filters(BaseModel):
    filters: list[Filter]


class SendAsAddresses(BaseModel):
    addresses: list[SendAs]


@server.read_tool("List labels", deferred=True)
async def list_labels(ctx: Ctx) -> Annotated[CallToolResult, Labels]:
    """List Gmail's labels and the user's own."""
    response = await get_session(ctx).api.get(
        f"{USER_PATH}/labels", {"fields": "labels(id,name,type)"}, what="the labels"
    )
    labels = [
        Label(id=label["id"], name=label.get("name", ""), type=label.get("type", "user"))
        for label in response.get("labels") or ()
    ]
    return build_result(Labels(labels=labels))


@server.write_tool("Create a label", deferred=True)
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


@server.write_tool("Rename a label", idempotent=True, deferred=True)
async def rename_label(
    ctx: Ctx, name: LabelName, new_name: Annotated[str, Field(min_length=1, max_length=225)]
) -> Annotated[CallToolResult, Label]:
    """Rename one of the user's labels. Its messages keep it. Labels within it keep their names."""
    session = get_session(ctx)
    names = await fetch_label_names(session)
    label_id = _find_own_label(names, name)
    try:
        renamed = await session.api.change(
            "PATCH", f"{USER_PATH}/labels/{label_id}", {"name": new_name}, what=f"the label {name!r}", retryable=True
        )
    except ApiError as error:
        if error.status == 409:
            raise ToolError(f"a label {new_name!r} exists already; nothing was changed") from error
        raise
    session.cache.pop("labels", None)
    return build_result(Label(id=label_id, name=renamed.get("name", new_name), type="user"))


@server.write_tool("Delete a label", destructive=True, idempotent=True, deferred=True)
async def delete_label(ctx: Ctx, name: LabelName) -> Annotated[CallToolResult, DeleteLabelResult]:
    """Delete one of the user's labels permanently. Its messages stay, without the label."""
    session = get_session(ctx)
    label_id = _find_own_label(await fetch_label_names(session), name)
    await session.api.change("DELETE", f"{USER_PATH}/labels/{label_id}", what=f"the label {name!r}", retryable=True)
    session.cache.pop("labels", None)
    return build_result(DeleteLabelResult(id=label_id, name=name))


def _find_own_label(names: Mapping[str, str], name: str) -> str:
    """Return the id of a label of the user's. Raises ToolError for Gmail's own labels."""
    label_id = find_label_id(names, name)
    if label_id == names[label_id]:  # Gmail's own labels have their name as id
        raise ToolError(f"{name!r} is one of Gmail's own labels: it can be neither renamed nor deleted")
    return label_id


@server.read_tool("List filters", deferred=True)
async def list_filters(ctx: Ctx) -> Annotated[CallToolResult, Filters]:
    """List the filters: what Gmail does by itself with new messages."""
    session = get_session(ctx)
    filters = await _fetch_filters(session)
    lines = [f"filter {item.id}: {item.matches} -> {item.actions}" for item in filters]
    return build_result(Filters(filters=filters), "\n".join(lines) or "no filters")


async def _fetch_filters(session: Session) -> list[Filter]:
    response = await session.api.get(f"{USER_PATH}/settings/filters", what="the filters")
    names = await fetch_label_names(session)
    return [_parse_filter(raw, names) for raw in response.get("filter") or ()]


def _parse_filter(raw: Mapping[str, Any], names: Mapping[str, str]) -> Filter:
    """Convert a filter of the Gmail API. ``names`` maps label ids to names."""
    criteria, action = raw.get("criteria") or {}, raw.get("action") or {}
    matches = [
        _CRITERIA[name] if value is True else f"{_CRITERIA[name]}: {to_one_line(str(value))}"
        for name, value in criteria.items()
        if name in _CRITERIA and value
    ]
    if criteria.get("size"):
        comparison = {"larger": "larger than ", "smaller": "smaller than "}.get(str(criteria.get("sizeComparison")), "")
        matches.append(f"size: {comparison}{criteria['size']} bytes")
    actions = [_ADDED.get(id_, f"label {names.get(id_, id_)}") for id_ in action.get("addLabelIds") or ()]
    actions += [_REMOVED.get(id_, f"remove label {names.get(id_, id_)}") for id_ in action.get("removeLabelIds") or ()]
    if action.get("forward"):
        actions.append(f"forward to {to_one_line(str(action['forward']))}")
    return Filter(
        id=str(raw.get("id", "")), matches="; ".join(matches) or "everything", actions="; ".join(actions) or "nothing"
    )


@server.write_tool("Create a filter", destructive=True, deferred=True)
async def create_filter(
    ctx: Ctx,
    sender: Annotated[str | None, Field(description="An address or a part of one.", max_length=1000)] = None,
    to: Criterion = None,
    subject: Criterion = None,
    query: Annotated[str | None, Field(description="As in search_mail.", max_length=1500)] = None,
    has_attachment: bool = False,
    add_labels: Annotated[list[str] | None, Field(description="Names of labels.", max_length=20)] = None,
    actions: Annotated[
        list[Literal["archive", "mark_read", "star", "mark_important", "never_spam", "trash"]] | None,
        Field(max_length=6),
    ] = None,
) -> Annotated[CallToolResult, Filter]:
    """Create a filter for all messages that arrive from now on. It cannot forward. Needs the settings scope."""
    criteria: dict[str, Any] = {
        name: value
        for name, value in (("from", sender), ("to", to), ("subject", subject), ("query", query))
        if value and value.strip()
    }
    criteria |= {"hasAttachment": True} if has_attachment else {}
    if not criteria:
        raise ToolError("expected at least one of sender, to, subject, query and has_attachment")
    if not add_labels and not actions:
        raise ToolError("expected add_labels or actions: otherwise the filter does nothing")
    session = get_session(ctx)
    names = await fetch_label_names(session)
    add = [find_label_id(names, name) for name in add_labels or ()]
    for label_id in add:
        if label_id in {"SENT", "DRAFT", "SPAM", "TRASH", "UNREAD", "INBOX"}:
            raise ToolError(f"add_labels: a filter cannot add {label_id}; see actions")
    add += _choose(actions, {"star": "STARRED", "mark_important": "IMPORTANT", "trash": "TRASH"})
    remove = _choose(actions, {"archive": "INBOX", "mark_read": "UNREAD", "never_spam": "SPAM"})
    body = {"criteria": criteria, "action": {"addLabelIds": add, "removeLabelIds": remove}}
    created = await session.other_apis[SETTINGS_API].change(
        "POST", f"{USER_PATH}/settings/filters", body, what="the filter", retryable=False
    )
    return build_result(_parse_filter(created, names))


def _choose(actions: Sequence[str] | None, labels: Mapping[str, str]) -> list[str]:
    return [label for action, label in labels.items() if action in (actions or ())]


@server.write_tool("Delete a filter", destructive=True, idempotent=True, deferred=True)
async def delete_filter(
    ctx: Ctx,
    filter_id: Annotated[str, Field(description="From list_filters.", pattern=r"^[A-Za-z0-9_-]{1,200}$")],
    matches: Annotated[
        str, Field(description="What it matches, as list_filters says, for the user to see.", max_length=5000)
    ],
    actions: Annotated[str, Field(description="What it does, as list_filters says.", max_length=5000)],
) -> Annotated[CallToolResult, Filter]:
    """Delete a filter permanently. Needs the settings scope."""
    session = get_session(ctx)
    found = next((item for item in await _fetch_filters(session) if item.id == filter_id), None)
    if found is None:
        raise ToolError(f"there is no filter {filter_id}: list_filters shows them")
    if normalize_text(found.matches) != normalize_text(matches):
        raise ToolError(f"matches: the filter {filter_id} is for {found.matches!r}; nothing was deleted")
    if normalize_text(found.actions) != normalize_text(actions):
        raise ToolError(f"actions: the filter {filter_id} does {found.actions!r}; nothing was deleted")
    await session.other_apis[SETTINGS_API].change(
        "DELETE", f"{USER_PATH}/settings/filters/{filter_id}", what=f"the filter {filter_id}", retryable=True
    )
    return build_result(found)


@server.read_tool("List the addresses to send from", deferred=True)
async def list_send_as(ctx: Ctx) -> Annotated[CallToolResult, SendAsAddresses]:
    """List the addresses that the account can send from, with their signatures as text."""
    addresses = []
    for raw in await fetch_send_as(get_session(ctx)):
        signature = await read_signature(raw)
        addresses.append(
            SendAs(
                address=str(raw.get("sendAsEmail", "")),
                name=to_one_line(str(raw.get("displayName") or "")) or None,
                default=bool(raw.get("isDefault")) or None,
                signature=signature[:MAX_SIGNATURE_LENGTH] or None,
                unverified=not is_verified(raw) or None,
            )
        )
    return build_result(SendAsAddresses(addresses=addresses))
