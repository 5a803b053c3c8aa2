"""Requests that several of Drive's tools make: what is known of a file, its text, its bytes, what is sent."""

import hashlib
import io
from contextlib import ExitStack, suppress
from typing import Any, BinaryIO, Literal

from mcp.server.mcpserver.exceptions import ToolError

from mcpchat_servers.drive.files import (
    CONVERSIONS,
    DETAIL_FIELDS,
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
from mcpchat_servers.google.text_extraction import decode_text, is_binary, pdf_to_text

TextFormat = Literal["markdown", "csv", "json", "text"]  # what a text is written in

FILES_PATH = "drive/v3/files"
UPLOAD_PATH = "upload/drive/v3/files"
ALL_DRIVES = {"supportsAllDrives": True}
MAX_READ_BYTES = 25 * 2**20  # bytes of a file that is read as text
MAX_PERMISSIONS = 500
MAX_UPLOAD_BYTES = 5 * 2**40  # bytes of an upload: what Drive takes
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
) -> FilePage:
    params = {
        "q": terms,
        "pageSize": page_size,
        "fields": f"nextPageToken,incompleteSearch,files({FILE_FIELDS})",
        "supportsAllDrives": True,
        "includeItemsFromAllDrives": True,
        **extra_params,
    }
    response = await session.api.get(FILES_PATH, params | ({"pageToken": cursor} if cursor else {}), what="the search")
    return FilePage(
        files=[parse_file(raw) for raw in response.get("files") or ()],
        next_cursor=response.get("nextPageToken"),
        incomplete=response.get("incompleteSearch") or None,
    )


async def fetch_metadata(session: Session, id_or_link: str, fields: str, *, follow: bool = True) -> dict[str, Any]:
    """What Drive tells of a file; of a shortcut, what it tells of its target."""
    file_id = parse_file_id(id_or_link)
    params = {"fields": fields, **ALL_DRIVES}
    raw = await session.api.get(f"{FILES_PATH}/{file_id}", params, what=f"the file {file_id}")
    if follow and raw.get("mimeType") == SHORTCUT and (target := (raw.get("shortcutDetails") or {}).get("targetId")):
        raw = await session.api.get(
            f"{FILES_PATH}/{target}", params, what=f"the file {target} that the shortcut is for"
        )
    return raw


async def resolve_folder(session: Session, id_or_link: str) -> str:
    """The id of a folder, which is looked up. Raises ToolError where it is none."""
    folder_id = parse_file_id(id_or_link)
    raw = await session.api.get(
        f"{FILES_PATH}/{folder_id}", {"fields": "id,name,mimeType", **ALL_DRIVES}, what=f"the folder {id_or_link}"
    )
    if raw.get("mimeType") != FOLDER:
        raise ToolError(f"{quote_name(raw)} is no folder, but {raw.get('mimeType')}")
    return str(raw["id"])


async def fetch_if_named(session: Session, id_or_link: str, name: str, *, follow: bool = False) -> dict[str, Any]:
    """What Drive tells of a file, where that has this name: a person who saw the name agreed to no other file."""
    raw = await fetch_metadata(session, id_or_link, FILE_FIELDS, follow=follow)
    if not is_same_name(str(raw.get("name", "")), name):
        raise ToolError(f"name: the file {raw['id']} is called {quote_name(raw)}, not {name!r}; nothing was changed")
    return raw


async def fetch_details(session: Session, id_or_link: str) -> FileDetails:
    """All that is known of a file. Of one in a shared drive, Drive tells who may see it only when asked for that."""
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
    """A file's whole text, and what it is written in. Raises ToolError where it has none."""
    kind = raw["mimeType"]
    text_format: TextFormat = (
        TEXT_EXPORTS[kind][1] if kind in TEXT_EXPORTS else "markdown" if kind == "text/markdown" else "text"
    )
    key = (raw["id"], raw.get("version", ""), raw.get("modifiedTime", ""))
    if (cached := session.text_cache.get(*key)) is not None:
        return cached, text_format
    text = None
    if kind in TEXT_EXPORTS or not is_binary(kind):
        data = await read_bytes(session, raw, MAX_READ_BYTES)
        text = await pdf_to_text(data, quote_name(raw)) if kind == "application/pdf" else decode_text(data)
    else:
        check_content(raw)
    if text is None:
        hint = " Or copy_file with convert makes a Google document of it." if kind in CONVERSIONS else ""
        raise ToolError(f"{quote_name(raw)} ({kind}) is no text: download_file saves it on the user's machine.{hint}")
    return session.text_cache.put(text, *key), text_format


async def read_bytes(session: Session, raw: dict[str, Any], max_bytes: int) -> bytes:
    """A file's bytes, or those of its export. Raises ToolError where it has none, or too many."""
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
    kind = raw["mimeType"]
    if kind == FOLDER:
        raise ToolError(f"{quote_name(raw)} is a folder: list_folder shows what is in it")
    if kind.startswith(GOOGLE_APPS):
        raise ToolError(
            f"{quote_name(raw)} is of a kind that Google gives out only in the browser: {raw.get('webViewLink', kind)}"
        )


def quote_name(raw: dict[str, Any]) -> str:
    return f"{raw.get('name') or raw['id']!r}"


def open_source(
    session: Session, open_files: ExitStack, text: str | None, path: str | None, kind: str | None
) -> tuple[BinaryIO, int, str]:
    """What is sent: open, with its size, and its name where it has one. Raises ToolError."""
    if (kind or "").startswith(GOOGLE_APPS):
        raise ToolError(f"media_type: {kind} is what Google makes of a file, not what is sent; see convert")
    if (text is None) == (path is None):
        raise ToolError("expected exactly one of text and path")
    if path is not None:
        return open_files.enter_context(session.folders.open_for_reading(path, most=MAX_UPLOAD_BYTES))
    data = (text or "").encode()
    return io.BytesIO(data), len(data), ""


def choose_media_type(name: str, text: str | None, *, convert: bool = False) -> str:
    """What a name's ending says; of a text without one, Markdown where it becomes a document."""
    by_name = guess_media_type(name)
    if by_name != UNKNOWN_TYPE or text is None:
        return by_name
    return "text/markdown" if convert else "text/plain"


def find_conversion(kind: str) -> str:
    if kind not in CONVERSIONS:
        raise ToolError(f"{kind} cannot be made a Google document; leave convert out, or give media_type")
    return CONVERSIONS[kind]


def compute_md5(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.md5(usedforsecurity=False)
    while chunk := file.read(2**20):
        digest.update(chunk)
    return digest.hexdigest()
