"""Drive files as values: metadata models, search queries, export and conversion formats."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from mcpchat_servers.google.display_names import to_one_line
from mcpchat_servers.google.ids import parse_file_id
from mcpchat_servers.google.media_types import OFFICE_KINDS

GOOGLE_APPS = "application/vnd.google-apps."
FOLDER = f"{GOOGLE_APPS}folder"
SHORTCUT = f"{GOOGLE_APPS}shortcut"
DOCUMENT, SPREADSHEET, PRESENTATION, DRAWING, SCRIPT = (
    f"{GOOGLE_APPS}{kind}" for kind in ("document", "spreadsheet", "presentation", "drawing", "script")
)
FileKind = Literal["folder", "document", "spreadsheet", "presentation", "pdf", "image", "video", "audio"]

FILE_FIELDS = (
    "id,name,mimeType,size,createdTime,modifiedTime,owners(displayName,emailAddress),parents,driveId,webViewLink,"
    "trashed,shortcutDetails(targetId)"
)
PERMISSION_FIELDS = "id,type,role,emailAddress,domain,expirationTime"
DETAIL_FIELDS = (
    f"{FILE_FIELDS},description,md5Checksum,version,starred,shared,lastModifyingUser(displayName,emailAddress),"
    f"permissions({PERMISSION_FIELDS}),capabilities(canEdit,canShare,canDownload,canTrash)"
)

_KIND_QUERIES: Mapping[str, str] = {
    "folder": f"mimeType = '{FOLDER}'",
    "document": f"mimeType = '{DOCUMENT}'",
    "spreadsheet": f"mimeType = '{SPREADSHEET}'",
    "presentation": f"mimeType = '{PRESENTATION}'",
    "pdf": "mimeType = 'application/pdf'",
    "image": "mimeType contains 'image/'",
    "video": "mimeType contains 'video/'",
    "audio": "mimeType contains 'audio/'",
}
_OFFICE = "application/vnd.openxmlformats-officedocument."
_ODF = "application/vnd.oasis.opendocument."
EXPORT_FORMATS: Mapping[str, Mapping[str, str]] = {
    DOCUMENT: {
        "docx": f"{_OFFICE}wordprocessingml.document",
        "pdf": "application/pdf",
        "md": "text/markdown",
        "txt": "text/plain",
        "html": "text/html",
        "odt": f"{_ODF}text",
        "rtf": "application/rtf",
        "epub": "application/epub+zip",
    },
    SPREADSHEET: {
        "xlsx": f"{_OFFICE}spreadsheetml.sheet",
        "csv": "text/csv",
        "tsv": "text/tab-separated-values",
        "pdf": "application/pdf",
        "ods": f"{_ODF}spreadsheet",
    },
    PRESENTATION: {
        "pptx": f"{_OFFICE}presentationml.presentation",
        "pdf": "application/pdf",
        "txt": "text/plain",
        "odp": f"{_ODF}presentation",
    },
    SCRIPT: {"json": f"{GOOGLE_APPS}script+json"},
    DRAWING: {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf", "jpg": "image/jpeg"},
}
ExportFormat = Literal[
    "docx", "pdf", "md", "txt", "html", "odt", "rtf", "epub", "xlsx", "csv", "tsv", "ods", "pptx", "odp", "png", "svg",
    "jpg", "json",
]  # fmt: skip
CONVERSIONS: Mapping[str, str] = {
    "text/markdown": DOCUMENT,
    "text/plain": DOCUMENT,
    "text/html": DOCUMENT,
    "application/rtf": DOCUMENT,
    "application/msword": DOCUMENT,
    f"{_OFFICE}wordprocessingml.document": DOCUMENT,
    f"{_ODF}text": DOCUMENT,
    "text/csv": SPREADSHEET,
    "text/tab-separated-values": SPREADSHEET,
    "application/vnd.ms-excel": SPREADSHEET,
    f"{_OFFICE}spreadsheetml.sheet": SPREADSHEET,
    f"{_ODF}spreadsheet": SPREADSHEET,
    "application/vnd.ms-powerpoint": PRESENTATION,
    f"{_OFFICE}presentationml.presentation": PRESENTATION,
    f"{_ODF}presentation": PRESENTATION,
}

FolderId = Annotated[
    str, Field(description='A folder\'s id or link; "root" is My Drive.', min_length=1, max_length=2000)
]


CurrentName = Annotated[
    str,
    Field(
        description="Its current name, for the user to see. Any other is refused.",
        min_length=1,
        max_length=1000,
    ),
]


class Person(BaseModel):
    name: str | None = None
    email: str | None = None


class Permission(BaseModel):
    """Who may do what with a file."""

    id: str
    type: Annotated[str, Field(description="user, group, domain or anyone")]
    role: Annotated[str, Field(description="owner, organizer, fileOrganizer, writer, commenter or reader")]
    email: str | None = None
    domain: str | None = None
    expires: Annotated[str | None, Field(description="RFC 3339")] = None


class File(BaseModel):
    """A file or folder of Drive."""

    id: str
    name: str
    media_type: str
    uri: Annotated[str, Field(description="As an MCP resource of this server.")]
    link: Annotated[str | None, Field(description="Its URL in a browser.")] = None
    size: Annotated[int | None, Field(description="Bytes; Google's own documents have none.")] = None
    created: Annotated[str | None, Field(description="RFC 3339")] = None
    modified: Annotated[str | None, Field(description="RFC 3339")] = None
    owners: list[Person] | None = None
    parents: Annotated[list[str] | None, Field(description="The id of its folder.")] = None
    shared_drive: Annotated[str | None, Field(description="The id of the shared drive that it is in.")] = None
    shortcut_to: Annotated[str | None, Field(description="The id of the shortcut's target.")] = None
    trashed: bool | None = None


class FileDetails(File):
    """A file or folder of Drive, with its permissions."""

    description: str | None = None
    starred: bool | None = None
    shared: bool | None = None
    changed_by: Person | None = None
    md5: str | None = None
    can: Annotated[list[str] | None, Field(description="What this account may do: edit, share, download, trash.")] = (
        None
    )
    permissions: Annotated[list[Permission] | None, Field(description="Missing if this account may not see them.")] = (
        None
    )


class FilePage(BaseModel):
    """A page of a search or a folder."""

    files: list[File]
    texts: Annotated[dict[str, str] | None, Field(description="The beginnings of the read ones, by id.")] = None
    next_cursor: Annotated[str | None, Field(description="For the next page; missing at the end.")] = None
    incomplete: Annotated[bool | None, Field(description="Google did not search everywhere: narrow it down.")] = None


def format_files(page: FilePage) -> str:
    """Format a page for the model: one line per file. The structured content has all fields."""
    lines = []
    for file in page.files:
        kind = shorten_type(file.media_type)
        facts = [
            f"id {file.id}",
            kind,
            f"{file.size:,} bytes" if file.size is not None else "",
            (file.modified or "")[:16],
        ]
        owner = file.owners[0].email if file.owners else None
        facts += [f"owner {owner}" if owner else "", "in the trash" if file.trashed else ""]
        lines.append(f"{json.dumps(to_one_line(file.name), ensure_ascii=False)} ({', '.join(filter(None, facts))})")
        lines += [f"    {line}" for line in (page.texts or {}).get(file.id, "").splitlines()]
    if page.incomplete:
        lines.append("[Google did not search everywhere: narrow it down]")
    if page.next_cursor:
        lines.append(f"[more: cursor={page.next_cursor}]")
    return "\n".join(lines) or "nothing found"


def shorten_type(media_type: str) -> str:
    """Return a short name for the type of a file in a list."""
    return OFFICE_KINDS.get(media_type, media_type.removeprefix(GOOGLE_APPS))


def parse_file(raw: Mapping[str, Any]) -> File:
    return File(**_file_fields(raw))


def parse_details(raw: Mapping[str, Any]) -> FileDetails:
    can = raw.get("capabilities") or {}
    return FileDetails(
        **_file_fields(raw),
        description=raw.get("description"),
        starred=raw.get("starred") or None,
        shared=raw.get("shared"),
        changed_by=_parse_person(raw["lastModifyingUser"]) if "lastModifyingUser" in raw else None,
        md5=raw.get("md5Checksum"),
        can=[name.removeprefix("can").lower() for name, allowed in can.items() if allowed is True] if can else None,
        permissions=[parse_permission(permission) for permission in raw["permissions"]]
        if "permissions" in raw
        else None,
    )


def parse_permission(raw: Mapping[str, Any]) -> Permission:
    return Permission(
        id=str(raw.get("id", "")),
        type=str(raw.get("type", "")),
        role=str(raw.get("role", "")),
        email=raw.get("emailAddress"),
        domain=raw.get("domain"),
        expires=raw.get("expirationTime"),
    )


def describe_link(permissions: Sequence[Permission] | None) -> str | None:
    """Return what everyone with the link may do, or "off"; None if that is not known."""
    if permissions is None:
        return None
    return next((permission.role for permission in permissions if permission.type == "anyone"), "off")


def _file_fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    owners = raw.get("owners")
    return {
        "id": raw["id"],
        "name": raw.get("name", ""),
        "media_type": raw.get("mimeType", ""),
        "uri": f"gdrive:///{raw['id']}",
        "link": raw.get("webViewLink"),
        "size": parse_size(raw),
        "created": raw.get("createdTime"),
        "modified": raw.get("modifiedTime"),
        "owners": [_parse_person(owner) for owner in owners] if owners else None,
        "parents": raw.get("parents"),
        "shared_drive": raw.get("driveId"),
        "shortcut_to": (raw.get("shortcutDetails") or {}).get("targetId"),
        "trashed": raw.get("trashed") or None,
    }


def parse_size(raw: Mapping[str, Any]) -> int | None:
    """Return a file's size in bytes, or None for Google's own documents: Drive's size is not that of their export."""
    return int(raw["size"]) if "size" in raw and not str(raw.get("mimeType", "")).startswith(GOOGLE_APPS) else None


def _parse_person(raw: Mapping[str, Any]) -> Person:
    return Person(name=raw.get("displayName"), email=raw.get("emailAddress"))


def quote_value(text: str) -> str:
    """Quote a text for Drive's query language."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def build_query(
    *,
    words: str | None,
    name: str | None,
    kind: FileKind | None,
    folder: str | None,
    modified_after: str | None,
    trashed: bool,
    query: str | None,
) -> str:
    """Combine the search terms in Drive's query language. Raises ToolError for an invalid query, id or time."""
    terms = [f"trashed = {'true' if trashed else 'false'}"]
    if words:
        terms.append(f"fullText contains {quote_value(words)}")
    if name:
        terms.append(f"name contains {quote_value(name)}")
    if kind:
        terms.append(_KIND_QUERIES[kind])
    if folder:
        terms.append(f"{quote_value(parse_file_id(folder))} in parents")
    if modified_after:
        terms.append(f"modifiedTime > '{_parse_time(modified_after)}'")
    if query:
        if not _is_balanced(query):
            raise ToolError("query: its quotes or parentheses do not match")
        terms.append(f"({query})")
    return " and ".join(terms)


def _is_balanced(query: str) -> bool:
    """Whether quotes and parentheses match, so that the query stays inside parentheses put around it."""
    depth = 0
    for symbol in re.findall(r"'(?:[^'\\]|\\.)*'|[()']", query, re.DOTALL):
        depth += {"(": 1, ")": -1}.get(symbol, 0)
        if depth < 0 or symbol == "'":
            return False
    return depth == 0


def _parse_time(text: str) -> str:
    """Convert a date or time to the format that Drive expects. Raises ToolError if it is invalid."""
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return f"{date.fromisoformat(text)}T00:00:00"
        return datetime.fromisoformat(text).isoformat()
    except ValueError as error:
        raise ToolError(
            f"{text[:40]!r}: expected a date like 2026-11-25, or a time like 2026-11-25T13:00:00Z"
        ) from error
