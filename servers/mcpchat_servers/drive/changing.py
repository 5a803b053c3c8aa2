"""Drive's tools that make and change: files, folders, who may see them, the trash."""

from contextlib import ExitStack
from typing import Annotated, Any, Literal

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import BaseModel, Field

from mcpchat_servers.drive.files import (
    APPS,
    CONVERTED,
    FIELDS,
    FOLDER,
    PERMISSION,
    File,
    FolderId,
    Permission,
    file_of,
    permission_of,
)
from mcpchat_servers.drive.requests import (
    EVERYWHERE,
    FILES,
    UPLOADS,
    called,
    converted,
    details,
    folder_of,
    media_type_of,
    metadata,
    named,
    patched,
    source_of,
    writing,
)
from mcpchat_servers.drive.server import server
from mcpchat_servers.google.ids import FileId
from mcpchat_servers.google.server import Ctx, answered, progress_to
from mcpchat_servers.google.server import session as running


class Unshared(BaseModel):
    """A permission that was taken away."""

    file_id: str
    whom: str


class Shared(BaseModel):
    """A permission that was given."""

    file_id: str
    permission: Permission


Name = Annotated[
    str,
    Field(
        description="The file's name as it is, so that the user sees it when asked; another one is refused.",
        min_length=1,
        max_length=1000,
    ),
]
Text = Annotated[str | None, Field(description="The content, as text. Give either this or path.", max_length=2_000_000)]
Path = Annotated[
    str | None, Field(description="A file within the folders that the user allowed, to send.", max_length=1000)
]
MediaType = Annotated[
    str | None,
    Field(
        description="What the content is. Default: by the name.",
        pattern=r"^[\w.+-]+/[\w.+-]+$",
        examples=["text/markdown", "text/csv"],
    ),
]


@server.changes("Create a file")
async def create_file(
    ctx: Ctx,
    name: Annotated[str | None, Field(description="Default: the sent file's.", min_length=1, max_length=500)] = None,
    text: Text = None,
    path: Path = None,
    folder_id: FolderId = "root",
    media_type: MediaType = None,
    convert: Annotated[
        bool,
        Field(description="Make a Google Doc, Sheet or Slides of it: Markdown, HTML, Word; CSV, Excel; PowerPoint."),
    ] = False,
) -> Annotated[CallToolResult, File]:
    """Make a new file in Drive, from a text or from a file of the user's machine."""
    session = running(ctx)
    with ExitStack() as open_files:
        source, size, own_name = source_of(session, open_files, text, path, media_type)
        title = name or own_name
        if not title:
            raise ToolError("name: expected, since there is no file to take it from")
        folder = await folder_of(session, folder_id)
        kind = media_type or media_type_of(title, text, convert=convert)
        described: dict[str, object] = {"name": title, "parents": [folder], "mimeType": kind}
        if convert:
            described["mimeType"] = converted(kind)
        made = await session.api.upload(
            "POST",
            UPLOADS,
            described,
            source,
            size=size,
            media_type=kind,
            params={"fields": FIELDS, **EVERYWHERE},
            what=f"the file {title!r}",
            progress=progress_to(ctx, f"sending {title}"),
        )
    return answered(file_of(made))


@server.changes("Replace a file's content", destructive=True, idempotent=True)
async def update_file(
    ctx: Ctx, file_id: FileId, name: Name, text: Text = None, path: Path = None, media_type: MediaType = None
) -> Annotated[CallToolResult, File]:
    """Replace the whole content of a file by a text or by a file of the user's machine. Drive keeps the version before
    for a while. A Google Doc takes Markdown or HTML, a Sheet CSV (which replaces all of its sheets)."""
    session = running(ctx)
    raw = await called(session, file_id, name, follow=True)
    kind: str = raw["mimeType"]
    if kind == FOLDER:
        raise ToolError(f"{named(raw)} is a folder and has no content: create_file makes a file in it")
    with ExitStack() as open_files:
        source, size, own_name = source_of(session, open_files, text, path, media_type)
        if kind.startswith(APPS):
            new = media_type or ("text/csv" if kind.endswith("spreadsheet") else "text/markdown")
            new = media_type_of(own_name, None) if own_name and not media_type else new
            if CONVERTED.get(new) != kind:
                raise ToolError(f"{named(raw)}: a file of the type {new} cannot replace it")
        else:
            new = media_type or kind
        made = await session.api.upload(
            "PATCH",
            f"{UPLOADS}/{raw['id']}",
            {},
            source,
            size=size,
            media_type=new,
            params={"fields": FIELDS, **EVERYWHERE},
            what=named(raw),
            progress=progress_to(ctx, f"sending {raw['name']}"),
        )
    return answered(file_of(made))


@server.changes("Create a folder")
async def create_folder(
    ctx: Ctx, name: Annotated[str, Field(min_length=1, max_length=500)], folder_id: FolderId = "root"
) -> Annotated[CallToolResult, File]:
    """Make a new folder, within another one."""
    session = running(ctx)
    body = {"name": name, "mimeType": FOLDER, "parents": [await folder_of(session, folder_id)]}
    made = await session.api.change(
        "POST", FILES, body, what=f"the folder {name!r}", repeatable=False, params=writing()
    )
    return answered(file_of(made))


@server.changes("Move a file", idempotent=True)
async def move_file(ctx: Ctx, file_id: FileId, name: Name, folder_id: FolderId) -> Annotated[CallToolResult, File]:
    """Move a file or folder into another folder. Who may see that folder may then see the file."""
    session = running(ctx)
    raw = await called(session, file_id, name)
    target = await folder_of(session, folder_id)
    params: dict[str, Any] = {**writing(), "addParents": target}
    parents = raw.get("parents") or []
    if parents == [target]:
        return answered(file_of(raw))
    if parents:
        params["removeParents"] = ",".join(parents)
    made = await session.api.change(
        "PATCH", f"{FILES}/{raw['id']}", {}, what=named(raw), repeatable=True, params=params
    )
    return answered(file_of(made))


@server.changes("Rename a file", idempotent=True)
async def rename_file(
    ctx: Ctx,
    file_id: FileId,
    name: Name,
    new_name: Annotated[str, Field(min_length=1, max_length=500)],
) -> Annotated[CallToolResult, File]:
    """Give a file or folder another name."""
    session = running(ctx)
    raw = await metadata(session, file_id, FIELDS, follow=False)
    if raw.get("name") != new_name:  # else it is done already
        raw = await called(session, file_id, name)
    return answered(await patched(session, raw["id"], {"name": new_name}))


@server.changes("Copy a file")
async def copy_file(
    ctx: Ctx,
    file_id: FileId,
    new_name: Annotated[str | None, Field(description='Default: "Copy of ...".', min_length=1, max_length=500)] = None,
    folder_id: Annotated[str | None, Field(description="Default: the folder that it is in.", max_length=2000)] = None,
    convert: Annotated[
        bool, Field(description="Make the copy of an Office file a Google Doc, Sheet or Slides, which can be read.")
    ] = False,
) -> Annotated[CallToolResult, File]:
    """Copy a file (not a folder)."""
    session = running(ctx)
    raw = await metadata(session, file_id, FIELDS)
    if raw["mimeType"] == FOLDER:
        raise ToolError(f"{named(raw)} is a folder: only files are copied")
    body: dict[str, object] = {"name": new_name} if new_name else {}
    if folder_id:
        body["parents"] = [await folder_of(session, folder_id)]
    if convert:
        body["mimeType"] = converted(raw["mimeType"])
    made = await session.api.change(
        "POST", f"{FILES}/{raw['id']}/copy", body, what=named(raw), repeatable=False, params=writing()
    )
    return answered(file_of(made))


@server.changes("Share a file", destructive=True)
async def share_file(
    ctx: Ctx,
    file_id: FileId,
    name: Name,
    role: Literal["reader", "commenter", "writer"],
    email: Annotated[
        str | None,
        Field(
            description="Whom to share it with: an address.",
            pattern=r"^[^\s@,;<>\"]+@[^\s@,;<>\"]+$",
            max_length=254,
            examples=["ada@example.com"],
        ),
    ] = None,
    group: Annotated[bool, Field(description="The address is a Google group's.")] = False,
    domain: Annotated[
        str | None, Field(description="Share it with everyone of this domain.", pattern=r"^[\w.-]+\.[\w-]+$")
    ] = None,
    anyone_with_link: Annotated[bool, Field(description="Share it with everyone who has the link.")] = False,
    notify: Annotated[bool, Field(description="Have Google write to the address.")] = True,
    message: Annotated[str | None, Field(description="Google's mail says this too.", max_length=2000)] = None,
) -> Annotated[CallToolResult, Shared]:
    """Let somebody read, comment or change a file or folder: one address, one domain, or everyone with the link."""
    if sum((bool(email), bool(domain), anyone_with_link)) != 1:
        raise ToolError("expected exactly one of email, domain and anyone_with_link")
    if message and not (email and notify):
        raise ToolError("message: only a mail to an address carries one, and notify = true sends it")
    body: dict[str, object] = {"role": role, "type": "anyone"}
    params: dict[str, Any] = {"fields": PERMISSION, **EVERYWHERE}
    if email:
        body |= {"type": "group" if group else "user", "emailAddress": email}
        params["sendNotificationEmail"] = notify
        params |= {"emailMessage": message} if message else {}
    elif domain:
        body |= {"type": "domain", "domain": domain}
    session = running(ctx)
    raw = await called(session, file_id, name)
    made = await session.api.change(
        "POST", f"{FILES}/{raw['id']}/permissions", body, what=named(raw), repeatable=False, params=params
    )
    return answered(Shared(file_id=raw["id"], permission=permission_of(made)))


@server.changes("Stop sharing a file", destructive=True)
async def unshare_file(
    ctx: Ctx,
    file_id: FileId,
    name: Name,
    whom: Annotated[
        str,
        Field(
            description='An address or a domain that it is shared with, or "anyone" for everyone with the link.',
            min_length=1,
            max_length=254,
            examples=["ada@example.com", "anyone"],
        ),
    ],
) -> Annotated[CallToolResult, Unshared]:
    """Take somebody's right to see or change a file away."""
    session = running(ctx)
    raw = await called(session, file_id, name)
    permissions = (await details(session, raw["id"])).permissions
    if permissions is None:
        raise ToolError(f"{named(raw)}: this account may not see whom it is shared with, nor change that")
    found = [one for one in permissions if whom.lower() in {(one.email or one.domain or one.type).lower()}]
    if len(found) != 1 or found[0].role == "owner":
        known = ", ".join(one.email or one.domain or one.type for one in permissions if one.role != "owner")
        raise ToolError(f"{named(raw)} is not shared with {whom!r}; it is shared with {known or 'nobody'}")
    await session.api.change(
        "DELETE",
        f"{FILES}/{raw['id']}/permissions/{found[0].id}",
        what=f"the permission of {whom} for {named(raw)}",
        repeatable=True,
        params=EVERYWHERE,
    )
    return answered(Unshared(file_id=raw["id"], whom=whom))


@server.changes("Put a file into the trash", destructive=True, idempotent=True)
async def trash_file(ctx: Ctx, file_id: FileId, name: Name) -> Annotated[CallToolResult, File]:
    """Put a file, or a folder with all that is in it, into the trash. Google empties that after 30 days."""
    session = running(ctx)
    raw = await called(session, file_id, name)
    return answered(await patched(session, raw["id"], {"trashed": True}))


@server.changes("Take a file out of the trash", idempotent=True)
async def restore_file(ctx: Ctx, file_id: FileId, name: Name) -> Annotated[CallToolResult, File]:
    """Take a file or folder out of the trash."""
    session = running(ctx)
    raw = await called(session, file_id, name)
    return answered(await patched(session, raw["id"], {"trashed": False}))
