"""Drive API requests shared by several tools: file metadata, content, uploads."""

import hashlib
import io
import re
from contextlib import ExitStack, suppress
from typing import Any, BinaryIO, Literal

from mcp.server.mcpserver.exceptions import ToolError

from mcpchat_servers.drive.files import (
    CONVERSIONS,
    DETAIL_FIELDS,
    DOCUMENT,
    DRAWING,
    FILE_FIELDS,
    FOLDER,
    GOOGLE_APPS,
    PERMISSION_FIELDS,
    SHORTCUT,
    File,
    FileDetails,
    FilePage,
    parse_details,
    parse_file,
)
from mcpchat_servers.google.display_names import is_same_name
from mcpchat_servers.google.errors import ApiError
from mcpchat_servers.google.ids import parse_file_id
from mcpchat_servers.google.media_types import UNKNOWN_TYPE, guess_media_type
from mcpchat_servers.google.server import Session
from mcpchat_servers.google.text_extraction import (
    TOO_COMPLEX,
    decode_text,
    find_office_kind,
    find_visible_text,
    html_to_text,
    is_binary,
    is_html,
    office_to_text,
    pdf_to_text,
)

TextFormat = Literal["markdown", "csv", "json", "text"]  # the format of a text

FILES_PATH = "drive/v3/files"
UPLOAD_PATH = "upload/drive/v3/files"
ALL_DRIVES = {"supportsAllDrives": True}
MAX_READ_BYTES = 25 * 2**20  # of a file that is read as text
MAX_PERMISSIONS = 500
MAX_UPLOAD_BYTES = 5 * 2**40  # Drive's limit
_IMAGE_DESCRIPTION = re.compile(r"!\[[^\]\n]*\]")
TEXT_EXPORTS: dict[str, tuple[str, TextFormat]] = {
    f"{GOOGLE_APPS}document": ("text/markdown", "markdown"),
    f"{GOOGLE_APPS}spreadsheet": ("text/csv", "csv"),
    f"{GOOGLE_APPS}presentation": ("text/plain", "text"),
    f"{GOOGLE_APPS}script": (f"{GOOGLE_APPS}script+json", "json"),
}


def write_params() -> dict[str, Any]:
    return {"fields": FILE_FIELDS, **ALL_DRIVES}


async def fetch_page(
    session: Session, terms: str, extra_params: dict[str, Any], page_size: int, cursor: str | None
) -> tuple[FilePage, list[dict[str, Any]]]:
    """Return a page of a search, and its files in Drive's format."""
    params = {
        "q": terms,
        "pageSize": page_size,
        "fields": f"nextPageToken,incompleteSearch,files({FILE_FIELDS})",
        "supportsAllDrives": True,
        "includeItemsFromAllDrives": True,
        **extra_params,
    }
    response = await session.api.get(FILES_PATH, params | ({"pageToken": cursor} if cursor else {}), what="the search")
    raws = list(response.get("files") or ())
    page = FilePage(
        files=[parse_file(raw) for raw in raws],
        next_cursor=response.get("nextPageToken"),
        incomplete=response.get("incompleteSearch") or None,
    )
    return page, raws


async def fetch_metadata(session: Session, id_or_link: str, fields: str, *, follow: bool = True) -> dict[str, Any]:
    """Return a file's metadata; for a shortcut that of its target, unless ``follow`` is false. Raises ToolError."""
    file_id = parse_file_id(id_or_link)
    params = {"fields": fields, **ALL_DRIVES}
    raw = await session.api.get(f"{FILES_PATH}/{file_id}", params, what=f"the file {file_id}")
    if follow and raw.get("mimeType") == SHORTCUT and (target := (raw.get("shortcutDetails") or {}).get("targetId")):
        raw = await session.api.get(
            f"{FILES_PATH}/{target}", params, what=f"the file {target} that the shortcut is for"
        )
    return raw


async def resolve_folder(session: Session, id_or_link: str) -> str:
    """Look up a folder and return its id. Raises ToolError if it does not exist or is not a folder."""
    folder_id = parse_file_id(id_or_link)
    raw = await session.api.get(
        f"{FILES_PATH}/{folder_id}", {"fields": "id,name,mimeType", **ALL_DRIVES}, what=f"the folder {id_or_link}"
    )
    if raw.get("mimeType") != FOLDER:
        raise ToolError(f"{quote_name(raw)} is not a folder, but {raw.get('mimeType')}")
    return str(raw["id"])


async def fetch_if_named(session: Session, id_or_link: str, name: str, *, follow: bool = False) -> dict[str, Any]:
    """Return a file's metadata if its name is ``name``; raises ToolError if not.

    The user who approved the call saw this name, and approved no other file.
    """
    raw = await fetch_metadata(session, id_or_link, FILE_FIELDS, follow=follow)
    if not is_same_name(str(raw.get("name", "")), name):
        raise ToolError(f"name: the file {raw['id']} is called {quote_name(raw)}, not {name!r}; nothing was changed")
    return raw


async def fetch_details(session: Session, id_or_link: str) -> FileDetails:
    """Return a file's full metadata. Raises ToolError.

    Drive returns the permissions of a file in a shared drive only on a separate request.
    """
    raw = await fetch_metadata(session, id_or_link, DETAIL_FIELDS, follow=False)
    if "driveId" in raw:
        with suppress(ApiError):
            raw["permissions"] = await _fetch_permissions(session, raw["id"])
    return parse_details(raw)


async def _fetch_permissions(session: Session, file_id: str) -> list[dict[str, Any]]:
    permissions: list[dict[str, Any]] = []
    params: dict[str, Any] = {
        "fields": f"nextPageToken,permissions({PERMISSION_FIELDS})",
        "pageSize": 100,
        **ALL_DRIVES,
    }
    while len(permissions) < MAX_PERMISSIONS:
        page = await session.api.get(
            f"{FILES_PATH}/{file_id}/permissions", params, what=f"who may see the file {file_id}"
        )
        permissions += page.get("permissions") or []
        if not page.get("nextPageToken"):
            break
        params["pageToken"] = page["nextPageToken"]
    return permissions


async def patch_file(session: Session, id_or_link: str, body: dict[str, object]) -> File:
    file_id = parse_file_id(id_or_link)
    updated = await session.api.change(
        "PATCH", f"{FILES_PATH}/{file_id}", body, what=f"the file {file_id}", retryable=True, params=write_params()
    )
    return parse_file(updated)


async def read_text(session: Session, raw: dict[str, Any]) -> tuple[str, TextFormat]:
    """Return a file's whole text and its format. Raises ToolError if the file has no text."""
    kind = raw["mimeType"]
    text_format: TextFormat = (
        TEXT_EXPORTS[kind][1] if kind in TEXT_EXPORTS else "markdown" if kind == "text/markdown" else "text"
    )
    key = (raw["id"], raw.get("version", ""), raw.get("modifiedTime", ""))
    if (cached := session.text_cache.get(*key)) is not None:
        return cached, text_format
    name = str(raw.get("name", ""))
    if kind not in TEXT_EXPORTS:
        check_content(raw)
    is_readable = kind in TEXT_EXPORTS or find_office_kind(kind, name) or not is_binary(kind)
    data = await read_bytes(session, raw, MAX_READ_BYTES) if is_readable else None
    if data is not None and kind == DOCUMENT:
        text = await _without_hidden_text(session, raw, decode_text(data) or "")
    else:
        text = await to_text(data, kind, name, quote_name(raw))
    return session.text_cache.put(text, *key), text_format


async def to_text(data: bytes | None, kind: str, name: str, what: str) -> str:
    """Return the text of a file's bytes, by its media type and name. Raises ToolError if it has none.

    Without ``data``, the kind of file is known to have none.
    """
    if data is not None and (office_kind := find_office_kind(kind, name)):
        return await office_to_text(office_kind, data, what)
    if data is not None and kind == "application/pdf":
        return await pdf_to_text(data, what)
    text = decode_text(data) if data is not None else None
    if text is None:
        hint = " Or convert it to a Google document: copy_file with convert." if kind in CONVERSIONS else ""
        raise ToolError(f"{what} ({kind}) is not text: download_file saves it on the user's machine.{hint}")
    return await html_to_text(text) if is_html(kind, text) else text


async def _without_hidden_text(session: Session, raw: dict[str, Any], markdown: str) -> str:
    """Return a document's Markdown, or its visible text if a part is hidden: Markdown does not say what is hidden."""
    try:
        html = await session.api.get_content(
            f"{FILES_PATH}/{raw['id']}/export",
            {"mimeType": "text/html"},
            what=quote_name(raw),
            max_bytes=MAX_READ_BYTES,
        )
    except ApiError as error:
        if error.status not in {400, 403}:
            raise
        return f"{markdown}\n\n[Drive did not say how this document looks: it may contain hidden text]"
    visible = await find_visible_text(html.data.decode(errors="replace"))
    if visible is None:
        return TOO_COMPLEX
    if visible.hidden_passages or visible.unread:
        return str(visible)
    return _IMAGE_DESCRIPTION.sub("![]", markdown)


async def read_bytes(session: Session, raw: dict[str, Any], max_bytes: int) -> bytes:
    """Return a file's bytes, or those of its export. Raises ToolError if it has none, or more than ``max_bytes``."""
    kind, what = raw["mimeType"], quote_name(raw)
    if kind in TEXT_EXPORTS or kind == DRAWING:
        export = "image/png" if kind == DRAWING else TEXT_EXPORTS[kind][0]
        return (
            await session.api.get_content(
                f"{FILES_PATH}/{raw['id']}/export", {"mimeType": export}, what=what, max_bytes=max_bytes
            )
        ).data
    check_content(raw)
    if int(raw.get("size", 0)) > max_bytes:
        raise ToolError(f"{what} has {int(raw['size']):,} bytes, too many to read here: download_file saves it")
    params = {"alt": "media", **ALL_DRIVES}
    return (await session.api.get_content(f"{FILES_PATH}/{raw['id']}", params, what=what, max_bytes=max_bytes)).data


def check_content(raw: dict[str, Any]) -> None:
    """Raise ToolError if the file has no content to download: a folder, or a Google type without export."""
    kind = raw["mimeType"]
    if kind == FOLDER:
        raise ToolError(f"{quote_name(raw)} is a folder: list_folder shows what is in it")
    if kind.startswith(GOOGLE_APPS):
        raise ToolError(f"{quote_name(raw)} can only be opened in the browser: {raw.get('webViewLink', kind)}")


def quote_name(raw: dict[str, Any]) -> str:
    return f"{raw.get('name') or raw['id']!r}"


def open_source(
    session: Session, open_files: ExitStack, text: str | None, path: str | None, kind: str | None
) -> tuple[BinaryIO, int, str]:
    """Open the content to upload, from ``text`` or ``path``. Returns a file, its size in bytes and its name, if any.

    Raises ToolError if not exactly one of them is given, or if the file cannot be read.
    """
    if (kind or "").startswith(GOOGLE_APPS):
        raise ToolError(f"media_type: {kind} is a Google type and cannot be uploaded; see convert")
    if (text is None) == (path is None):
        raise ToolError("expected exactly one of text and path")
    if path is not None:
        return open_files.enter_context(session.folders.open_for_reading(path, max_bytes=MAX_UPLOAD_BYTES))
    data = (text or "").encode()
    return io.BytesIO(data), len(data), ""


def choose_media_type(name: str, text: str | None, *, convert: bool = False) -> str:
    """Return the media type for a name. If the name says nothing, a text is plain text, or Markdown if ``convert``."""
    by_name = guess_media_type(name)
    if by_name != UNKNOWN_TYPE or text is None:
        return by_name
    return "text/markdown" if convert else "text/plain"


def find_conversion(kind: str) -> str:
    """Return the Google type that a media type is converted to. Raises ToolError if there is none."""
    if kind not in CONVERSIONS:
        raise ToolError(f"{kind} cannot be converted to a Google document; omit convert, or set media_type")
    return CONVERSIONS[kind]


def compute_md5(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.md5(usedforsecurity=False)
    while chunk := file.read(2**20):
        digest.update(chunk)
    return digest.hexdigest()
