"""Drive tools for who may see a file: shared, changed, ended; each says who could before and who can after."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import BaseModel, Field

from mcpchat_servers.drive.api_calls import (
    ALL_DRIVES,
    FILES_PATH,
    fetch_details,
    fetch_if_named,
    quote_name,
)
from mcpchat_servers.drive.files import (
    PERMISSION_FIELDS,
    CurrentName,
    Permission,
    describe_link,
    parse_permission,
)
from mcpchat_servers.drive.server import server
from mcpchat_servers.google.ids import FileId
from mcpchat_servers.google.server import Ctx, Session, build_result, get_session

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
MAX_EXPIRY = timedelta(days=365)

Role = Literal["reader", "commenter", "writer"]
Whom = Annotated[
    str,
    Field(
        description='An email address or a domain that it is shared with, or "anyone" for everyone with the link.',
        min_length=1,
        max_length=254,
        examples=["ada@example.com", "anyone"],
    ),
]
Expiry = Annotated[
    str | None,
    Field(
        description='For an address: when the access ends, a date or a time (UTC); "never" removes it.', max_length=40
    ),
]


class LinkSharing(BaseModel):
    """What everyone with the link may do, before and after the change: reader, commenter, writer or off."""

    link_before: Annotated[str | None, Field(description="Missing if this account may not see it.")] = None
    link_after: str | None = None


class UnshareResult(LinkSharing):
    """A permission that was removed."""

    file_id: str
    whom: str


class ShareResult(LinkSharing):
    """A permission that was granted, or changed: ``role_before`` is the former role."""

    file_id: str
    permission: Permission
    role_before: str | None = None


@server.write_tool("Share a file", destructive=True, deferred=True)
async def share_file(
    ctx: Ctx,
    file_id: FileId,
    name: CurrentName,
    role: Role,
    email: Annotated[
        str | None,
        Field(
            description="The email address to share it with.",
            pattern=r"^[^\s@,;<>\"]+@[^\s@,;<>\"]+$",
            max_length=254,
            examples=["ada@example.com"],
        ),
    ] = None,
    group: Annotated[bool, Field(description="The address is a Google group.")] = False,
    domain: Annotated[
        str | None, Field(description="Share it with everyone in this domain.", pattern=r"^[\w.-]+\.[\w-]+$")
    ] = None,
    anyone_with_link: Annotated[bool, Field(description="Share it with everyone who has the link.")] = False,
    expires: Expiry = None,
    notify: Annotated[bool, Field(description="Google sends an email to the address.")] = True,
    message: Annotated[str | None, Field(description="A text for Google's email.", max_length=2000)] = None,
) -> Annotated[CallToolResult, ShareResult]:
    """Let one address, one domain, or everyone with the link read, comment or change a file or folder."""
    if sum((bool(email), bool(domain), anyone_with_link)) != 1:
        raise ToolError("expected exactly one of email, domain and anyone_with_link")
    if message and not (email and notify):
        raise ToolError("message: only an email to an address can contain one; set email and notify = true")
    if expires and not email:
        raise ToolError("expires: only the access of an address can end by itself")
    body: dict[str, object] = {"role": role, "type": "anyone"}
    params: dict[str, Any] = {"fields": PERMISSION_FIELDS, **ALL_DRIVES}
    if email:
        body |= {"type": "group" if group else "user", "emailAddress": email}
        body |= {"expirationTime": _parse_expiry(expires)} if expires and expires != "never" else {}
        params["sendNotificationEmail"] = notify
        params |= {"emailMessage": message} if message else {}
    elif domain:
        body |= {"type": "domain", "domain": domain}
    session = get_session(ctx)
    raw = await fetch_if_named(session, file_id, name)
    before = await _find_permissions(session, raw["id"])
    created = await session.api.change(
        "POST", f"{FILES_PATH}/{raw['id']}/permissions", body, what=quote_name(raw), retryable=False, params=params
    )
    permission = parse_permission(created)
    return build_result(
        ShareResult(
            file_id=raw["id"],
            permission=permission,
            link_before=describe_link(before),
            link_after=permission.role if permission.type == "anyone" else describe_link(before),
        )
    )


@server.write_tool("Change the access to a file", destructive=True, idempotent=True, deferred=True)
async def change_access(
    ctx: Ctx,
    file_id: FileId,
    name: CurrentName,
    whom: Whom,
    role: Annotated[Role | None, Field(description="The new role. Default: unchanged.")] = None,
    expires: Expiry = None,
) -> Annotated[CallToolResult, ShareResult]:
    """Change the role of an address, a domain or everyone with the link, or set when the access of an address ends."""
    if role is None and expires is None:
        raise ToolError("expected role or expires")
    session = get_session(ctx)
    raw = await fetch_if_named(session, file_id, name)
    permissions = await _find_permissions(session, raw["id"])
    current = _choose_permission(raw, permissions, whom)
    body: dict[str, object] = {"role": role or current.role}
    params: dict[str, Any] = {"fields": PERMISSION_FIELDS, **ALL_DRIVES}
    if expires and current.type not in {"user", "group"}:
        raise ToolError("expires: only the access of an address can end by itself")
    if expires == "never":
        params["removeExpiration"] = True
    elif expires:
        body["expirationTime"] = _parse_expiry(expires)
    changed = parse_permission(
        await session.api.change(
            "PATCH",
            f"{FILES_PATH}/{raw['id']}/permissions/{current.id}",
            body,
            what=f"the permission of {whom} for {quote_name(raw)}",
            retryable=True,
            params=params,
        )
    )
    return build_result(
        ShareResult(
            file_id=raw["id"],
            permission=changed,
            role_before=current.role,
            link_before=describe_link(permissions),
            link_after=changed.role if changed.type == "anyone" else describe_link(permissions),
        )
    )


@server.write_tool("Stop sharing a file", destructive=True, deferred=True)
async def unshare_file(
    ctx: Ctx, file_id: FileId, name: CurrentName, whom: Whom
) -> Annotated[CallToolResult, UnshareResult]:
    """Remove the access of an address, a domain or everyone with the link to a file or folder."""
    session = get_session(ctx)
    raw = await fetch_if_named(session, file_id, name)
    permissions = await _find_permissions(session, raw["id"])
    current = _choose_permission(raw, permissions, whom)
    await session.api.change(
        "DELETE",
        f"{FILES_PATH}/{raw['id']}/permissions/{current.id}",
        what=f"the permission of {whom} for {quote_name(raw)}",
        retryable=True,
        params=ALL_DRIVES,
    )
    rest = [permission for permission in permissions or () if permission.id != current.id]
    return build_result(
        UnshareResult(
            file_id=raw["id"], whom=whom, link_before=describe_link(permissions), link_after=describe_link(rest)
        )
    )


async def _find_permissions(session: Session, file_id: str) -> list[Permission] | None:
    """Return who may do what with a file; None if this account may not see it."""
    return (await fetch_details(session, file_id)).permissions


def _choose_permission(raw: dict[str, Any], permissions: list[Permission] | None, whom: str) -> Permission:
    """Return the permission of ``whom``. Raises ToolError if there is none, or not exactly one, and for an owner."""
    if permissions is None:
        raise ToolError(f"{quote_name(raw)}: this account may neither see nor change whom it is shared with")
    matches = [permission for permission in permissions if whom.lower() == _name(permission).lower()]
    if len(matches) != 1 or matches[0].role == "owner":
        shared_with = ", ".join(_name(permission) for permission in permissions if permission.role != "owner")
        raise ToolError(f"{quote_name(raw)} is not shared with {whom!r}; it is shared with {shared_with or 'nobody'}")
    return matches[0]


def _name(permission: Permission) -> str:
    """Return whom a permission is for. One for a deleted account has only an id."""
    anyone = "anyone" if permission.type == "anyone" else f"{permission.type} {permission.id}"
    return permission.email or permission.domain or anyone


def _parse_expiry(text: str) -> str:
    """Return a time for Google; a date ends with its day, in UTC. Raises ToolError if it is not within a year."""
    try:
        time = datetime.fromisoformat(f"{text}T23:59:59+00:00" if _DATE.fullmatch(text) else text)
    except ValueError as error:
        raise ToolError(f"expires: expected 2026-12-31, 2026-12-31T18:00:00Z or never, not {text!r}") from error
    time = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    if not timedelta(0) < time - datetime.now(UTC) <= MAX_EXPIRY:
        raise ToolError("expires: expected a time within the next year, which is Google's limit")
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
