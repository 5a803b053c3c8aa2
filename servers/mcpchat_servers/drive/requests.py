"""Requests that several of Drive's tools make: what is known of a file, its text, its bytes, what is sent."""

import hashlib
import io
from contextlib import ExitStack, suppress
from typing import Any, BinaryIO, Literal

from mcp.server.mcpserver.exceptions import ToolError

from mcpchat_servers.drive.files import (
    APPS,
    CONVERTED,
    DRAWING,
    FIELDS,
    FOLDER,
    MORE_FIELDS,
    PERMISSION,
    SHORTCUT,
    File,
    FileDetails,
    FilePage,
    details_of,
    file_of,
)
from mcpchat_servers.google.ids import parsed_id
from mcpchat_servers.google.media_types import UNKNOWN, media_type
from mcpchat_servers.google.names import same
from mcpchat_servers.google.refusals import Refused
from mcpchat_servers.google.server import Session
from mcpchat_servers.google.texts import decoded, is_binary, pdf_text

Form = Literal["markdown", "csv", "json", "text"]  # what a text is written in

FILES = "drive/v3/files"
UPLOADS = "upload/drive/v3/files"
EVERYWHERE = {"supportsAllDrives": True}
MOST_READ = 25 * 2**20  # bytes of a file that is read as text
MOST_PERMISSIONS = 500
MOST_SENT = 5 * 2**40  # bytes of an upload: what Drive takes
READ_AS: dict[str, tuple[str, Form]] = {
    f"{APPS}document": ("text/markdown", "markdown"),
    f"{APPS}spreadsheet": ("text/csv", "csv"),
    f"{APPS}presentation": ("text/plain", "text"),
    f"{APPS}script": (f"{APPS}script+json", "json"),
}


def writing() -> dict[str, Any]:
    return {"fields": FIELDS, **EVERYWHERE}


async def page_of(session: Session, terms: str, more: dict[str, Any], page_size: int, cursor: str | None) -> FilePage:
    params = {
        "q": terms,
        "pageSize": page_size,
        "fields": f"nextPageToken,incompleteSearch,files({FIELDS})",
        "supportsAllDrives": True,
        "includeItemsFromAllDrives": True,
        **more,
    }
    found = await session.api.get(FILES, params | ({"pageToken": cursor} if cursor else {}), what="the search")
    return FilePage(
        files=[file_of(raw) for raw in found.get("files") or ()],
        next_cursor=found.get("nextPageToken"),
        incomplete=found.get("incompleteSearch") or None,
    )


async def metadata(session: Session, given: str, fields: str, *, follow: bool = True) -> dict[str, Any]:
    """What Drive tells of a file; of a shortcut, what it tells of its target."""
    wanted = parsed_id(given)
    params = {"fields": fields, **EVERYWHERE}
    raw = await session.api.get(f"{FILES}/{wanted}", params, what=f"the file {wanted}")
    if follow and raw.get("mimeType") == SHORTCUT and (target := (raw.get("shortcutDetails") or {}).get("targetId")):
        raw = await session.api.get(f"{FILES}/{target}", params, what=f"the file {target} that the shortcut is for")
    return raw


async def folder_of(session: Session, given: str) -> str:
    """The id of a folder, which is looked up. Raises ToolError where it is none."""
    wanted = parsed_id(given)
    raw = await session.api.get(
        f"{FILES}/{wanted}", {"fields": "id,name,mimeType", **EVERYWHERE}, what=f"the folder {given}"
    )
    if raw.get("mimeType") != FOLDER:
        raise ToolError(f"{named(raw)} is no folder, but {raw.get('mimeType')}")
    return str(raw["id"])


async def called(session: Session, given: str, name: str, *, follow: bool = False) -> dict[str, Any]:
    """What Drive tells of a file, where that has this name: a person who saw the name agreed to no other file."""
    raw = await metadata(session, given, FIELDS, follow=follow)
    if not same(str(raw.get("name", "")), name):
        raise ToolError(f"name: the file {raw['id']} is called {named(raw)}, not {name!r}; nothing was changed")
    return raw


async def details(session: Session, given: str) -> FileDetails:
    """All that is known of a file. Of one in a shared drive, Drive tells who may see it only when asked for that."""
    raw = await metadata(session, given, MORE_FIELDS, follow=False)
    if "driveId" in raw:
        with suppress(Refused):
            raw["permissions"] = await _permissions(session, raw["id"])
    return details_of(raw)


async def _permissions(session: Session, wanted: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    params: dict[str, Any] = {"fields": f"nextPageToken,permissions({PERMISSION})", "pageSize": 100, **EVERYWHERE}
    while len(found) < MOST_PERMISSIONS:
        page = await session.api.get(f"{FILES}/{wanted}/permissions", params, what=f"who may see the file {wanted}")
        found += page.get("permissions") or []
        if not page.get("nextPageToken"):
            break
        params["pageToken"] = page["nextPageToken"]
    return found


async def patched(session: Session, given: str, body: dict[str, object]) -> File:
    wanted = parsed_id(given)
    made = await session.api.change(
        "PATCH", f"{FILES}/{wanted}", body, what=f"the file {wanted}", repeatable=True, params=writing()
    )
    return file_of(made)


async def text_of(session: Session, raw: dict[str, Any]) -> tuple[str, Form]:
    """A file's whole text, and what it is written in. Raises ToolError where it has none."""
    kind = raw["mimeType"]
    written: Form = READ_AS[kind][1] if kind in READ_AS else "markdown" if kind == "text/markdown" else "text"
    key = (raw["id"], raw.get("version", ""), raw.get("modifiedTime", ""))
    if (kept := session.texts.get(*key)) is not None:
        return kept, written
    text = None
    if kind in READ_AS or not is_binary(kind):
        data = await bytes_of(session, raw, MOST_READ)
        text = await pdf_text(data, named(raw)) if kind == "application/pdf" else decoded(data)
    else:
        check_content(raw)
    if text is None:
        more = " Or copy_file with convert makes a Google document of it." if kind in CONVERTED else ""
        raise ToolError(f"{named(raw)} ({kind}) is no text: download_file saves it on the user's machine.{more}")
    return session.texts.keep(text, *key), written


async def bytes_of(session: Session, raw: dict[str, Any], most: int) -> bytes:
    """A file's bytes, or those of its export. Raises ToolError where it has none, or too many."""
    kind, what = raw["mimeType"], named(raw)
    if kind in READ_AS or kind == DRAWING:
        export = "image/png" if kind == DRAWING else READ_AS[kind][0]
        return (
            await session.api.content(f"{FILES}/{raw['id']}/export", {"mimeType": export}, what=what, most=most)
        ).data
    check_content(raw)
    if int(raw.get("size", 0)) > most:
        raise ToolError(f"{what} has {int(raw['size']):,} bytes, too many to read here: download_file saves it")
    params = {"alt": "media", **EVERYWHERE}
    return (await session.api.content(f"{FILES}/{raw['id']}", params, what=what, most=most)).data


def check_content(raw: dict[str, Any]) -> None:
    kind = raw["mimeType"]
    if kind == FOLDER:
        raise ToolError(f"{named(raw)} is a folder: list_folder shows what is in it")
    if kind.startswith(APPS):
        raise ToolError(
            f"{named(raw)} is of a kind that Google gives out only in the browser: {raw.get('webViewLink', kind)}"
        )


def named(raw: dict[str, Any]) -> str:
    return f"{raw.get('name') or raw['id']!r}"


def source_of(
    session: Session, open_files: ExitStack, text: str | None, path: str | None, kind: str | None
) -> tuple[BinaryIO, int, str]:
    """What is sent: open, with its size, and its name where it has one. Raises ToolError."""
    if (kind or "").startswith(APPS):
        raise ToolError(f"media_type: {kind} is what Google makes of a file, not what is sent; see convert")
    if (text is None) == (path is None):
        raise ToolError("expected exactly one of text and path")
    if path is not None:
        return open_files.enter_context(session.folders.reading(path, most=MOST_SENT))
    data = (text or "").encode()
    return io.BytesIO(data), len(data), ""


def media_type_of(name: str, text: str | None, *, convert: bool = False) -> str:
    """What a name's ending says; of a text without one, Markdown where it becomes a document."""
    known = media_type(name)
    if known != UNKNOWN or text is None:
        return known
    return "text/markdown" if convert else "text/plain"


def converted(kind: str) -> str:
    if kind not in CONVERTED:
        raise ToolError(f"{kind} cannot be made a Google document; leave convert out, or give media_type")
    return CONVERTED[kind]


def md5(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.md5(usedforsecurity=False)
    while piece := file.read(2**20):
        digest.update(piece)
    return digest.hexdigest()
