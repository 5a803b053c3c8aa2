"""Drive tools that change nothing in Drive: search, list, read, download."""

import asyncio
import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, ImageContent
from pydantic import BaseModel, Field

from mcpchat_servers.drive.api_calls import (
    ALL_DRIVES,
    FILES_PATH,
    check_content,
    compute_md5,
    fetch_details,
    fetch_metadata,
    fetch_page,
    quote_name,
    read_bytes,
    read_text,
    resolve_folder,
)
from mcpchat_servers.drive.files import (
    DETAIL_FIELDS,
    DRAWING,
    EXPORT_FORMATS,
    FILE_FIELDS,
    FOLDER,
    ExportFormat,
    File,
    FileDetails,
    FileKind,
    FilePage,
    FolderId,
    build_query,
    format_files,
    parse_file,
    parse_size,
    quote_value,
    shorten_type,
)
from mcpchat_servers.drive.server import server
from mcpchat_servers.google.api import Params
from mcpchat_servers.google.credentials import TokenExpired
from mcpchat_servers.google.display_names import to_one_line
from mcpchat_servers.google.errors import ApiError
from mcpchat_servers.google.ids import FileId
from mcpchat_servers.google.server import (
    Ctx,
    Cursor,
    Limit,
    Offset,
    Session,
    build_result,
    get_session,
    progress_reporter,
)
from mcpchat_servers.google.text_extraction import IMAGE_TYPES, PAGE_LENGTH, take_excerpt

MAX_READ_HITS = 5  # files of a search whose texts are returned
MAX_HIT_LENGTH = 3000  # characters of each
MAX_TREE_FILES = 500
_PARENTS_PER_QUERY = 50
MAX_IMAGE_BYTES = 10 * 2**20
MAX_DOWNLOAD_BYTES = 20 * 2**30


class FileContent(BaseModel):
    """A file's content, or a piece of it. ``format`` is the format of the text; an image is its own content block."""

    file: File
    format: Literal["markdown", "csv", "json", "text", "image"]
    text: str | None = None
    offset: int | None = None
    total: Annotated[int | None, Field(description="Characters of the whole text.")] = None
    next_offset: Annotated[int | None, Field(description="The offset of the next piece; missing at the end.")] = None
    note: str | None = None


class FolderTree(BaseModel):
    """The files and folders in a folder, one a line, indented by level."""

    folder_id: str
    count: int
    tree: str
    cut: Annotated[bool | None, Field(description="There is more than is shown.")] = None


class SaveResult(BaseModel):
    """A file that was saved on this machine."""

    path: str
    size: Annotated[int, Field(description="Bytes")]
    media_type: str
    file: File


class SharedDrive(BaseModel):
    id: str
    name: str


class SharedDrives(BaseModel):
    """Some of the shared drives that the account is a member of."""

    drives: list[SharedDrive]
    next_cursor: Annotated[str | None, Field(description="For the next page; missing at the end.")] = None


@server.read_tool("Search files")
async def search_files(
    ctx: Ctx,
    words: Annotated[
        str | None, Field(description="Files whose name or content has all of these words.", max_length=500)
    ] = None,
    name: Annotated[
        str | None, Field(description="Files with a word in the name that starts with this.", max_length=500)
    ] = None,
    kind: Annotated[FileKind | None, Field(description="Only this kind of file.")] = None,
    folder_id: Annotated[
        str | None, Field(description="Only directly in this folder (id or link).", max_length=2000)
    ] = None,
    modified_after: Annotated[
        str | None, Field(description="A date or time.", examples=["2026-11-01"], max_length=40)
    ] = None,
    query: Annotated[
        str | None,
        Field(
            description="A further condition in Drive's query language.",
            examples=["'ada@example.com' in owners and starred = true"],
            max_length=2000,
        ),
    ] = None,
    shared_drive_id: Annotated[
        str | None, Field(description="Only in this shared drive.", pattern="^[A-Za-z0-9_-]{1,100}$")
    ] = None,
    all_drives: Annotated[bool, Field(description="Also search all shared drives: slower, maybe incomplete.")] = False,
    trashed: Annotated[bool, Field(description="Search the trash instead.")] = False,
    read: Annotated[int, Field(description="Also read the first so many of them.", ge=0, le=MAX_READ_HITS)] = 0,
    page_size: Annotated[int, Field(ge=1, le=100)] = 25,
    cursor: Cursor = None,
) -> Annotated[CallToolResult, FilePage]:
    """Find files and folders by words, name, kind, folder and date; without arguments, the newest."""
    terms = build_query(
        words=words,
        name=name,
        kind=kind,
        folder=folder_id,
        modified_after=modified_after,
        trashed=trashed,
        query=query,
    )
    # Drive sorts full-text results by relevance and accepts no other order for them.
    by_relevance = words or "fullText" in (query or "")
    params: dict[str, Any] = {} if by_relevance else {"orderBy": "modifiedTime desc"}
    if shared_drive_id:
        params |= {"corpora": "drive", "driveId": shared_drive_id}
    elif all_drives:
        params["corpora"] = "allDrives"
    try:
        page, raws = await fetch_page(get_session(ctx), terms, params, page_size, cursor)
    except ApiError as error:
        if error.status == 400 and query:
            raise ToolError(f"{error}. query takes Drive's query language; plain words go into words") from error
        if error.status == 404 and folder_id:
            raise ToolError(f"the folder {folder_id}: not found, or this account may not see it") from error
        raise
    page.texts = {raw["id"]: await _read_beginning(get_session(ctx), raw) for raw in raws[:read]} or None
    return build_result(page, format_files(page))


async def _read_beginning(session: Session, raw: dict[str, Any]) -> str:
    """Return the beginning of a file's text, or why it cannot be read here."""
    try:
        text, _ = await read_text(session, await fetch_metadata(session, raw["id"], FILE_FIELDS + ",version"))
    except TokenExpired:
        raise
    except ToolError as error:
        return f"[{error}]"
    return text if len(text) <= MAX_HIT_LENGTH else f"{text[:MAX_HIT_LENGTH]}\n[cut: read_file reads all of it]"


@server.read_tool("Show a folder as a tree", deferred=True)
async def show_folder_tree(
    ctx: Ctx,
    folder_id: FolderId = "root",
    depth: Annotated[int, Field(description="Levels of folders.", ge=1, le=10)] = 3,
) -> Annotated[CallToolResult, FolderTree]:
    """Show the files and folders in a folder and in the folders within it, as a tree."""
    session = get_session(ctx)
    root = await resolve_folder(session, folder_id)
    children: dict[str, list[File]] = {}
    level, count, is_cut = [root], 0, False
    for _ in range(depth):
        found: list[File] = []
        for start in range(0, len(level), _PARENTS_PER_QUERY):
            parents = level[start : start + _PARENTS_PER_QUERY]
            terms = " or ".join(f"{quote_value(parent)} in parents" for parent in parents)
            files, more = await _fetch_all(session, f"({terms}) and trashed = false", MAX_TREE_FILES - count)
            found, count, is_cut = [*found, *files], count + len(files), is_cut or more
        for file in found:
            for parent in file.parents or ():
                children.setdefault(parent, []).append(file)
        level = [file.id for file in found if file.media_type == FOLDER]
        if not level or is_cut:
            break
    lines = list(_format_tree(children, root, ""))
    notes = [f"[cut after {count} files]"] if is_cut else []
    notes += [f"[folders below level {depth} are not opened]"] if level and not is_cut else []
    value = FolderTree(folder_id=root, count=count, tree="\n".join(lines), cut=bool(notes) or None)
    return build_result(value, "\n".join([*lines, *notes]) or "(empty)")


async def _fetch_all(session: Session, terms: str, limit: int) -> tuple[list[File], bool]:
    """Return up to ``limit`` files of a search, folders first, and whether there are more."""
    files: list[File] = []
    cursor: str | None = None
    while len(files) < limit:
        size = min(1000, limit - len(files))
        page, _ = await fetch_page(session, terms, {"orderBy": "folder,name_natural"}, size, cursor)
        files, cursor = [*files, *page.files], page.next_cursor
        if cursor is None:
            return files, False
    return files, True


def _format_tree(children: Mapping[str, Sequence[File]], parent: str, indent: str) -> Iterator[str]:
    for file in children.get(parent, ()):
        is_folder = file.media_type == FOLDER
        kind = "" if is_folder else f", {shorten_type(file.media_type)}"
        yield f"{indent}{to_one_line(file.name)}{'/' if is_folder else ''}  (id {file.id}{kind})"
        if is_folder and len(indent) < 40:
            yield from _format_tree(children, file.id, f"{indent}  ")


@server.read_tool("List a folder")
async def list_folder(
    ctx: Ctx,
    folder_id: FolderId = "root",
    page_size: Annotated[int, Field(ge=1, le=100)] = 50,
    cursor: Cursor = None,
) -> Annotated[CallToolResult, FilePage]:
    """List the files and folders directly in a folder, folders first, by name."""
    session = get_session(ctx)
    terms = f"{quote_value(await resolve_folder(session, folder_id))} in parents and trashed = false"
    page, _ = await fetch_page(session, terms, {"orderBy": "folder,name_natural"}, page_size, cursor)
    return build_result(page, format_files(page))


@server.read_tool("List shared drives", deferred=True)
async def list_shared_drives(ctx: Ctx, cursor: Cursor = None) -> Annotated[CallToolResult, SharedDrives]:
    """List the shared drives that the account is a member of. Their ids work as folder_id and as shared_drive_id."""
    params: dict[str, Any] = {"pageSize": 100, "fields": "nextPageToken,drives(id,name)"}
    response = await get_session(ctx).api.get(
        "drive/v3/drives", params | ({"pageToken": cursor} if cursor else {}), what="the shared drives"
    )
    drives = [SharedDrive(id=drive["id"], name=drive.get("name", "")) for drive in response.get("drives") or ()]
    return build_result(SharedDrives(drives=drives, next_cursor=response.get("nextPageToken")))


@server.read_tool("Get a file's details")
async def get_file(ctx: Ctx, file_id: FileId) -> Annotated[CallToolResult, FileDetails]:
    """Get a file's details without its content: dates, owner, folder, who may see it, what this account may do."""
    return build_result(await fetch_details(get_session(ctx), file_id))


@server.read_tool("Read a file")
async def read_file(
    ctx: Ctx, file_id: FileId, offset: Offset = 0, limit: Limit = PAGE_LENGTH
) -> Annotated[CallToolResult, FileContent]:
    """Read a file: Docs as Markdown, Sheets as CSV (the first sheet), Slides, PDF and Office files as text, images as
    images. Long texts come in pieces."""
    session = get_session(ctx)
    raw = await fetch_metadata(session, file_id, FILE_FIELDS + ",version")
    file = parse_file(raw)
    if raw["mimeType"] in IMAGE_TYPES or raw["mimeType"] == DRAWING:
        data = await read_bytes(session, raw, MAX_IMAGE_BYTES)
        kind = "image/png" if raw["mimeType"] == DRAWING else raw["mimeType"]
        image = ImageContent(type="image", data=base64.b64encode(data).decode(), mime_type=kind)
        return build_result(FileContent(file=file, format="image"), f"{file.name} ({kind}):", image)
    text, text_format = await read_text(session, raw)
    page = take_excerpt(text, offset, limit)
    note = None
    if text_format == "csv":
        note = "Only the first sheet: Drive exports no more as CSV. Use a Sheets server to read the other sheets."
    value = FileContent(file=file, format=text_format, note=note, **page.model_dump())
    return build_result(value, page.text + page.footer + (f"\n\n[{note}]" if note else ""))


@server.save_tool("Download a file")
async def download_file(
    ctx: Ctx,
    file_id: FileId,
    path: Annotated[
        str | None,
        Field(
            description="Where to: a new file or a folder, within the folders that the user allowed. Default: the "
            "first of them, under the file's own name.",
            max_length=1000,
        ),
    ] = None,
    export_as: Annotated[
        ExportFormat | None, Field(description="For Google's own documents. Default: docx, xlsx, pptx, png.")
    ] = None,
) -> Annotated[CallToolResult, SaveResult]:
    """Save a file on the user's machine, in a folder that the user allowed. Never replaces an existing file."""
    session = get_session(ctx)
    session.folders.resolve(path or ".")
    raw = await fetch_metadata(session, file_id, DETAIL_FIELDS)
    name, what = str(raw["name"]), quote_name(raw)
    kind: str = raw["mimeType"]
    params: Params = {"alt": "media", **ALL_DRIVES}
    api_path = f"{FILES_PATH}/{raw['id']}"
    if kind in EXPORT_FORMATS:
        extension: str = export_as or next(iter(EXPORT_FORMATS[kind]))
        if extension not in EXPORT_FORMATS[kind]:
            raise ToolError(f"{what}: Drive exports it as {', '.join(EXPORT_FORMATS[kind])}, not as {extension}")
        kind = EXPORT_FORMATS[kind][extension]
        name = name if name.lower().endswith(f".{extension}") else f"{name}.{extension}"
        api_path, params = f"{api_path}/export", {"mimeType": kind}
    elif export_as:
        raise ToolError(f"{what}: only Google's own documents are exported; omit export_as")
    else:
        check_content(raw)
    size = parse_size(raw)
    with session.folders.open_for_writing(path, name) as (file, target):
        byte_count = await session.api.download(
            api_path,
            params,
            file,
            what=what,
            max_bytes=MAX_DOWNLOAD_BYTES,
            size=size,
            progress=progress_reporter(ctx, f"saving {name}"),
        )
        if "md5Checksum" in raw and await asyncio.to_thread(compute_md5, file) != raw["md5Checksum"]:
            raise ToolError(f"{what}: the download does not match Drive's checksum (did it change?); nothing was saved")
    return build_result(SaveResult(path=str(target), size=byte_count, media_type=kind, file=parse_file(raw)))
