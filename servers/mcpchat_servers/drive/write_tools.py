"""Drive tools that create and change: files, folders, sharing, the trash."""

from contextlib import ExitStack
from typing import Annotated, Any

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import Field

from mcpchat_servers.drive.api_calls import (
    ALL_DRIVES,
    FILES_PATH,
    UPLOAD_PATH,
    choose_media_type,
    fetch_if_named,
    fetch_metadata,
    find_conversion,
    open_source,
    patch_file,
    quote_name,
    resolve_folder,
    write_params,
)
from mcpchat_servers.drive.files import (
    CONVERSIONS,
    FILE_FIELDS,
    FOLDER,
    GOOGLE_APPS,
    CurrentName,
    File,
    FolderId,
    parse_file,
)
from mcpchat_servers.drive.server import server
from mcpchat_servers.google.ids import FileId
from mcpchat_servers.google.server import Ctx, build_result, get_session, progress_reporter

Text = Annotated[str | None, Field(description="The content as text. Set either this or path.", max_length=2_000_000)]
LocalPath = Annotated[
    str | None, Field(description="A local file to send, in a folder that the user allowed.", max_length=1000)
]
MediaType = Annotated[
    str | None,
    Field(
        description="Type of the content. Default: by the name.",
        pattern=r"^[\w.+-]+/[\w.+-]+$",
        examples=["text/markdown", "text/csv"],
    ),
]


@server.write_tool("Create a file")
async def create_file(
    ctx: Ctx,
    name: Annotated[
        str | None, Field(description="Default: the name of the sent file.", min_length=1, max_length=500)
    ] = None,
    text: Text = None,
    path: LocalPath = None,
    folder_id: FolderId = "root",
    media_type: MediaType = None,
    convert: Annotated[
        bool,
        Field(description="Convert to a Google Doc (Markdown, HTML, Word), Sheet (CSV, Excel) or Slides (PowerPoint)."),
    ] = False,
) -> Annotated[CallToolResult, File]:
    """Create a file in Drive from a text or from a file on the user's machine."""
    session = get_session(ctx)
    with ExitStack() as open_files:
        source, size, file_name = open_source(session, open_files, text, path, media_type)
        title = name or file_name
        if not title:
            raise ToolError("name: expected, because there is no file to take it from")
        folder = await resolve_folder(session, folder_id)
        kind = media_type or choose_media_type(title, text, convert=convert)
        body: dict[str, object] = {"name": title, "parents": [folder], "mimeType": kind}
        if convert:
            body["mimeType"] = find_conversion(kind)
        created = await session.api.upload(
            "POST",
            UPLOAD_PATH,
            body,
            source,
            size=size,
            media_type=kind,
            params={"fields": FILE_FIELDS, **ALL_DRIVES},
            what=f"the file {title!r}",
            progress=progress_reporter(ctx, f"sending {title}"),
        )
    return build_result(parse_file(created))


@server.write_tool("Replace a file's content", destructive=True, idempotent=True)
async def update_file(
    ctx: Ctx,
    file_id: FileId,
    name: CurrentName,
    text: Text = None,
    path: LocalPath = None,
    media_type: MediaType = None,
) -> Annotated[CallToolResult, File]:
    """Replace the whole content of a file with a text or with a file on the user's machine. Drive keeps the previous
    version for a while. A Google Doc takes Markdown or HTML, a Sheet takes CSV (which replaces all of its sheets)."""
    session = get_session(ctx)
    raw = await fetch_if_named(session, file_id, name, follow=True)
    kind: str = raw["mimeType"]
    if kind == FOLDER:
        raise ToolError(f"{quote_name(raw)} is a folder and has no content: create_file creates a file in it")
    with ExitStack() as open_files:
        source, size, file_name = open_source(session, open_files, text, path, media_type)
        if kind.startswith(GOOGLE_APPS):
            new_type = media_type or ("text/csv" if kind.endswith("spreadsheet") else "text/markdown")
            new_type = choose_media_type(file_name, None) if file_name and not media_type else new_type
            if CONVERSIONS.get(new_type) != kind:
                raise ToolError(f"{quote_name(raw)}: a file of type {new_type} cannot replace it")
        else:
            new_type = media_type or kind
        updated = await session.api.upload(
            "PATCH",
            f"{UPLOAD_PATH}/{raw['id']}",
            {},
            source,
            size=size,
            media_type=new_type,
            params={"fields": FILE_FIELDS, **ALL_DRIVES},
            what=quote_name(raw),
            progress=progress_reporter(ctx, f"sending {raw['name']}"),
        )
    return build_result(parse_file(updated))


@server.write_tool("Create a folder")
async def create_folder(
    ctx: Ctx, name: Annotated[str, Field(min_length=1, max_length=500)], folder_id: FolderId = "root"
) -> Annotated[CallToolResult, File]:
    """Create a folder inside another folder."""
    session = get_session(ctx)
    body = {"name": name, "mimeType": FOLDER, "parents": [await resolve_folder(session, folder_id)]}
    created = await session.api.change(
        "POST", FILES_PATH, body, what=f"the folder {name!r}", retryable=False, params=write_params()
    )
    return build_result(parse_file(created))


@server.write_tool("Move a file", destructive=True, idempotent=True)
async def move_file(
    ctx: Ctx, file_id: FileId, name: CurrentName, folder_id: FolderId
) -> Annotated[CallToolResult, File]:
    """Move a file or folder into another folder. Everyone with access to that folder can then see the file."""
    session = get_session(ctx)
    raw = await fetch_if_named(session, file_id, name)
    target = await resolve_folder(session, folder_id)
    params: dict[str, Any] = {**write_params(), "addParents": target}
    parents = raw.get("parents") or []
    if parents == [target]:
        return build_result(parse_file(raw))
    if parents:
        params["removeParents"] = ",".join(parents)
    moved = await session.api.change(
        "PATCH", f"{FILES_PATH}/{raw['id']}", {}, what=quote_name(raw), retryable=True, params=params
    )
    return build_result(parse_file(moved))


@server.write_tool("Rename a file", idempotent=True, deferred=True)
async def rename_file(
    ctx: Ctx,
    file_id: FileId,
    name: CurrentName,
    new_name: Annotated[str, Field(min_length=1, max_length=500)],
) -> Annotated[CallToolResult, File]:
    """Rename a file or folder."""
    session = get_session(ctx)
    raw = await fetch_metadata(session, file_id, FILE_FIELDS, follow=False)
    if raw.get("name") != new_name:  # otherwise an earlier attempt has renamed it
        raw = await fetch_if_named(session, file_id, name)
    return build_result(await patch_file(session, raw["id"], {"name": new_name}))


@server.write_tool("Copy a file", deferred=True)
async def copy_file(
    ctx: Ctx,
    file_id: FileId,
    new_name: Annotated[str | None, Field(description='Default: "Copy of ...".', min_length=1, max_length=500)] = None,
    folder_id: Annotated[str | None, Field(description="Default: the folder of the original.", max_length=2000)] = None,
    convert: Annotated[
        bool, Field(description="Convert the copy of an Office file to a readable Google Doc, Sheet or Slides.")
    ] = False,
) -> Annotated[CallToolResult, File]:
    """Copy a file (not a folder)."""
    session = get_session(ctx)
    raw = await fetch_metadata(session, file_id, FILE_FIELDS)
    if raw["mimeType"] == FOLDER:
        raise ToolError(f"{quote_name(raw)} is a folder: only files are copied")
    body: dict[str, object] = {"name": new_name} if new_name else {}
    if folder_id:
        body["parents"] = [await resolve_folder(session, folder_id)]
    if convert:
        body["mimeType"] = find_conversion(raw["mimeType"])
    created = await session.api.change(
        "POST", f"{FILES_PATH}/{raw['id']}/copy", body, what=quote_name(raw), retryable=False, params=write_params()
    )
    return build_result(parse_file(created))


@server.write_tool("Put a file into the trash", destructive=True, idempotent=True)
async def trash_file(ctx: Ctx, file_id: FileId, name: CurrentName) -> Annotated[CallToolResult, File]:
    """Move a file, or a folder with its whole content, to the trash. Google deletes it after 30 days."""
    session = get_session(ctx)
    raw = await fetch_if_named(session, file_id, name)
    return build_result(await patch_file(session, raw["id"], {"trashed": True}))


@server.write_tool("Take a file out of the trash", idempotent=True, deferred=True)
async def restore_file(ctx: Ctx, file_id: FileId, name: CurrentName) -> Annotated[CallToolResult, File]:
    """Restore a file or folder from the trash."""
    session = get_session(ctx)
    raw = await fetch_if_named(session, file_id, name)
    return build_result(await patch_file(session, raw["id"], {"trashed": False}))
