"""Fake Drive API v3: files, folders, shared drives, the query language, exports, ranges, resumable uploads."""

import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.google.http import ApiError, FakeService, Request, Response

TEXT_EXPORTS = ("text/markdown", "text/html", "text/csv")
GOOGLE_APPS = "application/vnd.google-apps."
_TERM = re.compile(
    r"""\s*(?:(?P<negated>not)\s+)?(?:
        (?P<value>'(?:[^'\\]|\\.)*')\s+in\s+(?P<list>parents|owners|writers)
      | (?P<field>fullText|name|mimeType|modifiedTime|trashed|starred)\s*(?P<operator>contains|=|!=|>|<|>=|<=)\s*
        (?P<other>'(?:[^'\\]|\\.)*'|true|false)
    )""",
    re.VERBOSE,
)


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith("'") else text


class Query:
    """A query as in Drive's documentation: terms joined by "and" and "or", with parentheses."""

    def __init__(self, text: str) -> None:
        self._text, self._position = text, 0
        self.matches = self._parse_or()
        if self._text[self._position :].strip():
            raise self._error()

    def _error(self) -> ApiError:
        return ApiError(400, "Invalid Value", reason="invalid")

    def _accept(self, token: str) -> bool:
        if match := re.compile(rf"\s+{token}\s+" if token.isalpha() else rf"\s*{re.escape(token)}").match(
            self._text, self._position
        ):
            self._position = match.end()
            return True
        return False

    def _parse_or(self) -> Any:
        choices = [self._parse_and()]
        while self._accept("or"):
            choices.append(self._parse_and())
        return lambda file: any(choice(file) for choice in choices)

    def _parse_and(self) -> Any:
        terms = [self._parse_term()]
        while self._accept("and"):
            terms.append(self._parse_term())
        return lambda file: all(term(file) for term in terms)

    def _parse_term(self) -> Any:
        if self._accept("("):
            inner = self._parse_or()
            if not self._accept(")"):
                raise self._error()
            return inner
        match = _TERM.match(self._text, self._position)
        if match is None:
            raise self._error()
        self._position = match.end()
        return lambda file: _matches_term(file, match) is not bool(match["negated"])


def _matches_term(file: dict[str, Any], term: re.Match[str]) -> bool:
    if term["list"]:
        value = _unquote(term["value"])
        if term["list"] == "parents":
            return value in file["parents"] or (value == "root" and "root-id" in file["parents"])
        return any(owner["emailAddress"] == value for owner in file["owners"])
    value, operator = _unquote(term["other"]), term["operator"]
    match term["field"]:
        case "trashed" | "starred" as flag:
            return bool(file.get(flag)) is (value == "true")
        case "fullText":
            text = f"{file['name']} {file.get('_text', '')}".lower()
            return all(word in text for word in value.lower().split())
        case "modifiedTime":
            limit = value if value.endswith("Z") else f"{value}Z"
            return file["modifiedTime"] > limit if operator == ">" else file["modifiedTime"] < limit
        case "name" if operator == "contains":
            words = file["name"].lower().split()
            return any(word.startswith(value.lower()) for word in words) or file["name"].lower().startswith(
                value.lower()
            )
    actual = str(file[term["field"]])
    return {"=": actual == value, "!=": actual != value, "contains": actual.startswith(value)}[operator]


class FakeDrive:
    def __init__(self, service: FakeService) -> None:
        self.service = service
        self.files: dict[str, dict[str, Any]] = {}
        self.drives = [{"id": "0ATeamDrive", "name": "Team"}]
        self.sessions: dict[str, dict[str, Any]] = {}
        self._counter = 0
        self.add("root-id", "My Drive", f"{GOOGLE_APPS}folder", parents=[])
        self.add("0ATeamDrive", "Team", f"{GOOGLE_APPS}folder", parents=[], driveId="0ATeamDrive")

    def add(self, id_: str, name: str, kind: str, content: bytes = b"", *, parents: list[str] | None = None,
            exports: dict[str, bytes] | None = None, text: str = "", **fields: Any) -> dict[str, Any]:  # fmt: skip
        self._counter += 1
        timestamp = (datetime(2026, 11, 1, tzinfo=UTC) + timedelta(minutes=self._counter)).strftime(
            "%Y-%m-%dT%H:%M:%S.000Z"
        )
        file = {
            "kind": "drive#file", "id": id_, "name": name, "mimeType": kind, "version": "1", "trashed": False,
            "createdTime": timestamp, "modifiedTime": timestamp, "parents": ["root-id"] if parents is None else parents,
            "owners": [{"displayName": "Ada", "emailAddress": "ada@example.com"}],
            "webViewLink": f"https://drive.google.com/file/d/{id_}/view", "starred": False, "shared": False,
            "permissions": [{"id": "1", "type": "user", "role": "owner", "emailAddress": "ada@example.com"}],
            "capabilities": {"canEdit": True, "canShare": True, "canDownload": True, "canTrash": True},
            "_exports": exports or {}, "_text": text or content.decode(errors="ignore")[:1000], **fields,
        }  # fmt: skip
        if not kind.startswith(GOOGLE_APPS):
            self._set_content(file, content)
        elif kind != f"{GOOGLE_APPS}folder" and kind != f"{GOOGLE_APPS}shortcut":
            file["size"] = "1024"  # the size of Google's internal format, which cannot be downloaded
        self.files[id_] = file
        return file

    def _set_content(self, file: dict[str, Any], content: bytes) -> None:
        file |= {"_content": content, "size": str(len(content)), "md5Checksum": hashlib.md5(content).hexdigest()}

    def handle(self, request: Request) -> Response:
        service = self.service
        service.require_enabled("drive.googleapis.com")
        is_read = request.method == "GET"
        service.authorize(request, "drive", *(("drive.readonly",) if is_read else ()))
        path = request.path.removeprefix("/upload").removeprefix("/drive/v3")
        if request.path.startswith("/upload"):
            return self._upload(request, path)
        if path == "/files" and is_read:
            return self._list_files(request)
        if path == "/files":
            return Response(_visible_fields(self._create_file(request.json()), request))
        if path == "/drives":
            return Response({"kind": "drive#driveList", "drives": self.drives})
        if inner := re.fullmatch(r"/files/([^/]+)/(comments|revisions)(?:/([^/]+))?(/replies)?", path):
            file = self._get_file(request, inner[1], any_drive=True)
            if inner[2] == "comments":
                return Response(self._comment(request, file, inner[3], bool(inner[4])))
            return self._read_revision(request, file, inner[3])
        match = re.fullmatch(r"/files/([^/]+)(?:/(export|copy|permissions)(?:/([^/]+))?)?", path)
        if match is None:
            raise ApiError(404, "Not Found", reason="notFound")
        file = self._get_file(request, match[1], any_drive=match[2] == "export")  # it has no such parameter
        match request.method, match[2]:
            case "GET", None if request.param("alt") == "media":
                return self._get_media(request, file)
            case "GET", None:
                return Response(_visible_fields(file, request))
            case "GET", "export":
                return self._export(request, file)
            case "PATCH", None:
                return Response(_visible_fields(self._patch_file(request, file), request))
            case "POST", "copy":
                if file["mimeType"] == f"{GOOGLE_APPS}folder":
                    raise ApiError(403, "This file cannot be copied by the user.", reason="cannotCopyFile")
                body = {"name": f"Copy of {file['name']}", "parents": file["parents"], "mimeType": file["mimeType"]}
                return Response(
                    _visible_fields(self._create_file(body | request.json(), file.get("_content", b"")), request)
                )
            case "GET", "permissions":
                size, start = request.int_param("pageSize", 100, 100), int(request.param("pageToken", "0"))
                permissions = file["permissions"]
                next_page = {"nextPageToken": str(start + size)} if start + size < len(permissions) else {}
                return Response({"permissions": permissions[start : start + size]} | next_page)
            case "POST", "permissions":
                return self._add_permission(request, file)
            case "PATCH", "permissions":
                for permission in file["permissions"]:
                    if permission["id"] == match[3]:
                        permission |= request.json()
                        if request.bool_param("removeExpiration"):
                            permission.pop("expirationTime", None)
                        return Response(_without_notes(permission))
                raise ApiError(404, f"Permission not found: {match[3]}.", reason="notFound")
            case "DELETE", "permissions":
                count = len(file["permissions"])
                file["permissions"] = [permission for permission in file["permissions"] if permission["id"] != match[3]]
                if len(file["permissions"]) == count:
                    raise ApiError(404, f"Permission not found: {match[3]}.", reason="notFound")
                return Response()
            case "DELETE", None:
                del self.files[match[1]]
                return Response()
        raise ApiError(404, "Not Found", reason="notFound")

    def _comment(self, request: Request, file: dict[str, Any], id_: str | None, is_reply: bool) -> dict[str, Any]:
        if not request.param("fields"):
            raise ApiError(400, "The 'fields' parameter is required for this method.", reason="required")
        comments: dict[str, dict[str, Any]] = file.setdefault("_comments", {})
        if id_ is None and request.method == "GET":
            return {"kind": "drive#commentList", "comments": list(comments.values())}
        made = {"author": {"displayName": "Ada"}, "createdTime": "2026-11-20T10:00:00.000Z", "deleted": False}
        if id_ is None:
            id_ = f"AAAA{len(comments)}"
            comments[id_] = {"id": id_, **made, **request.json(), "resolved": False, "replies": []}
            return comments[id_]
        if id_ not in comments:
            raise ApiError(404, f"Comment not found: {id_}.", reason="notFound")
        if not is_reply:
            return comments[id_]
        body = request.json()
        comments[id_]["resolved"] = {"resolve": True, "reopen": False}.get(
            body.get("action", ""), comments[id_]["resolved"]
        )
        comments[id_]["replies"].append({"id": str(len(comments[id_]["replies"])), **made, **body})
        return comments[id_]["replies"][-1]

    def _read_revision(self, request: Request, file: dict[str, Any], id_: str | None) -> Response:
        revisions: dict[str, dict[str, Any]] = file.setdefault("_revisions", {})
        visible = [
            {name: value for name, value in item.items() if not name.startswith("_")} for item in revisions.values()
        ]
        if id_ is None:
            return Response({"kind": "drive#revisionList", "revisions": visible})
        if id_ not in revisions:
            raise ApiError(404, f"Revision not found: {id_}.", reason="notFound")
        if request.param("alt") == "media":
            return Response(revisions[id_]["_content"])
        return Response(next(item for item in visible if item["id"] == id_))

    def add_revision(self, file_id: str, id_: str, content: bytes, **fields: Any) -> None:
        """Add a version of a file; of a Google document the content is that of the export as HTML."""
        file = self.files[file_id]
        revision = {"id": id_, "modifiedTime": "2026-11-19T10:00:00.000Z", "mimeType": file["mimeType"], "_content": content,
                    "lastModifyingUser": {"displayName": "Ada", "emailAddress": "ada@example.com"}, **fields}  # fmt: skip
        if file["mimeType"].startswith(GOOGLE_APPS):
            revision["exportLinks"] = {"text/html": f"{self.service.url}/export/{file_id}/{id_}"}
        else:
            revision |= {"size": str(len(content)), "originalFilename": file["name"]}
        file.setdefault("_revisions", {})[id_] = revision

    def read_export(self, request: Request) -> Response:
        """Answer a request for the export of a version, which is at another address than the API."""
        self.service.authorize(request, "drive", "drive.readonly")
        _, _, file_id, id_ = request.path.split("/")
        return Response(self.files[file_id]["_revisions"][id_]["_content"], headers={"Content-Type": "text/html"})

    def _get_file(self, request: Request, id_: str, *, any_drive: bool = False) -> dict[str, Any]:
        id_ = "root-id" if id_ == "root" else id_
        file = self.files.get(id_)
        if file is None or (file.get("driveId") and not any_drive and not request.bool_param("supportsAllDrives")):
            raise ApiError(404, f"File not found: {id_}.", reason="notFound")
        return file

    def _list_files(self, request: Request) -> Response:
        query = request.param("q")
        if "fullText" in query and request.param("orderBy"):
            raise ApiError(403, "Sorting is not supported for queries with fullText terms.", reason="forbidden")
        matches = Query(query).matches if query else lambda file: True
        for parent in re.findall(r"'([^']+)' in parents", query):
            if parent != "root" and parent not in self.files:
                raise ApiError(404, f"File not found: {parent}.", reason="notFound")
        shared = request.bool_param("includeItemsFromAllDrives") and request.bool_param("supportsAllDrives")
        if request.param("corpora") in {"drive", "allDrives"} and not shared:
            raise ApiError(403, "The includeItemsFromAllDrives parameter must be set.", reason="teamDrivesParameters")
        matching = [
            file
            for file in self.files.values()
            if matches(file) and (not file.get("driveId") or shared)
            and (request.param("corpora") != "drive" or file.get("driveId") == request.param("driveId"))
            and file["id"] not in {"root-id", "0ATeamDrive"}
        ]  # fmt: skip
        if request.param("orderBy").startswith("folder"):
            matching.sort(key=lambda file: (file["mimeType"] != f"{GOOGLE_APPS}folder", file["name"].lower()))
        else:
            matching.sort(key=lambda file: file["modifiedTime"], reverse=True)
        start = 0
        if token := request.param("pageToken"):
            try:
                token_query, _, offset = base64.urlsafe_b64decode(token).decode().partition("\n")
                start = int(offset)
            except ValueError:
                raise ApiError(400, "Invalid Value", reason="invalid") from None
            if token_query != query:
                raise ApiError(400, "The page token does not belong to this query.", reason="invalid")
        size = request.int_param("pageSize", 100, 1000)
        body: dict[str, Any] = {"kind": "drive#fileList", "incompleteSearch": request.param("corpora") == "allDrives"}
        body["files"] = [_visible_fields(file, request, everything=True) for file in matching[start : start + size]]
        if start + size < len(matching):
            body["nextPageToken"] = base64.urlsafe_b64encode(f"{query}\n{start + size}".encode()).decode()
        return Response(body)

    def _get_media(self, request: Request, file: dict[str, Any]) -> Response:
        if file["mimeType"].startswith(GOOGLE_APPS):
            raise ApiError(403, "Only files with binary content can be downloaded. Use Export with Docs Editors files.",
                        reason="fileNotDownloadable")  # fmt: skip
        content = file["_content"]
        if match := re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", "")):
            start = int(match[1])
            headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
            return Response(content[start:], 206, headers)
        return Response(content, headers={"Content-Type": file["mimeType"]})

    def _export(self, request: Request, file: dict[str, Any]) -> Response:
        kind = request.param("mimeType")
        if not file["mimeType"].startswith(GOOGLE_APPS) or file["mimeType"] == f"{GOOGLE_APPS}folder":
            raise ApiError(403, "Export only supports Docs Editors files.", reason="fileNotExportable")
        if kind not in file["_exports"]:
            raise ApiError(400, "The requested conversion is not supported.", reason="badRequest")
        if len(file["_exports"][kind]) > 10 * 2**20:
            raise ApiError(403, "This file is too large to be exported.", reason="exportSizeLimitExceeded")
        return Response(file["_exports"][kind], headers={"Content-Type": kind})

    def _create_file(self, body: dict[str, Any], content: bytes = b"") -> dict[str, Any]:
        for parent in body.get("parents", ()):
            if (parent if parent != "root" else "root-id") not in self.files:
                raise ApiError(404, f"File not found: {parent}.", reason="notFound")
        parents = ["root-id" if parent_id == "root" else parent_id for parent_id in body.get("parents") or ["root"]]
        self._counter += 1
        kind = body.get("mimeType", "application/octet-stream")
        exports = dict.fromkeys(TEXT_EXPORTS, content) if kind.startswith(GOOGLE_APPS) else None
        return self.add(
            f"new-{self._counter}", body.get("name", "Untitled"), kind, content, parents=parents, exports=exports
        )

    def _patch_file(self, request: Request, file: dict[str, Any]) -> dict[str, Any]:
        if not file["capabilities"]["canEdit"]:
            raise ApiError(403, "The user does not have sufficient permissions for this file.",
                        reason="insufficientFilePermissions")  # fmt: skip
        body = request.json()
        parent_changes = [[("root-id" if parent == "root" else parent) for parent in request.param(name).split(",") if parent]
                for name in ("addParents", "removeParents")]  # fmt: skip
        if set(parent_changes[0]) & set(parent_changes[1]):
            raise ApiError(400, "A folder cannot be added and removed at once.", reason="invalid")
        if parent_changes[0] and not file["parents"] and not parent_changes[1]:
            raise ApiError(403, "Increasing the number of parents is not allowed", reason="cannotAddParent")
        file |= {name: body[name] for name in ("name", "trashed", "starred", "description") if name in body}
        for removed in filter(None, request.param("removeParents").split(",")):
            file["parents"] = [parent for parent in file["parents"] if parent != removed]
        for added in filter(None, request.param("addParents").split(",")):
            added = "root-id" if added == "root" else added
            if added not in self.files:
                raise ApiError(404, f"File not found: {added}.", reason="notFound")
            file["parents"] = [*file["parents"], added] if added not in file["parents"] else file["parents"]
        file["version"] = str(int(file["version"]) + 1)
        return file

    def _add_permission(self, request: Request, file: dict[str, Any]) -> Response:
        body = request.json()
        if not file["capabilities"]["canShare"]:
            raise ApiError(403, "The user does not have permission to share.", reason="insufficientFilePermissions")
        for other in file["permissions"]:
            if other["type"] == body["type"] == "anyone":  # there is only one
                other |= body
                return Response(_without_notes(other))
        permission = {"id": str(len(file["permissions"]) + 1), **body}
        permission["_mailed"] = request.param("sendNotificationEmail")
        file["permissions"].append(permission)
        return Response(_without_notes(permission))

    def _upload(self, request: Request, path: str) -> Response:
        session = request.param("upload_id")
        if not session:
            if request.param("uploadType") != "resumable":
                raise ApiError(400, "Bad Request", reason="badRequest")
            if match := re.fullmatch(r"/files/([^/]+)", path):
                self._get_file(request, match[1])
            self._counter += 1
            session = f"session{self._counter}"
            if request.headers["X-Upload-Content-Type"].startswith(GOOGLE_APPS):
                raise ApiError(400, "Invalid MIME type provided for the uploaded content.", reason="badRequest")
            self.sessions[session] = {
                "metadata": request.json(), "data": bytearray(), "target": match[1] if match else None,
                "kind": request.headers["X-Upload-Content-Type"], "size": int(request.headers["X-Upload-Content-Length"]),
                "query": request.query,
            }  # fmt: skip
            location = f"{self.service.url}{request.path}?uploadType=resumable&upload_id={session}"
            return Response({}, headers={"Location": location})
        state = self.sessions.get(session)
        if state is None:
            raise ApiError(404, "Not Found", reason="notFound")
        content_range = request.headers["Content-Range"]
        if match := re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", content_range):
            first, last, size = map(int, match.groups())
            if first != len(state["data"]) or size != state["size"] or last - first + 1 != len(request.body):
                raise ApiError(400, "Failed to parse Content-Range header.", reason="badContent")
            if last + 1 < size and len(request.body) % 2**18:
                raise ApiError(400, "Chunks are multiples of 256 kB.", reason="badContent")
            state["data"] += request.body
        elif content_range != f"bytes */{state['size']}":
            raise ApiError(400, "Failed to parse Content-Range header.", reason="badContent")
        if len(state["data"]) < state["size"]:
            received = {"Range": f"bytes=0-{len(state['data']) - 1}"} if state["data"] else {}
            return Response(b"", 308, received)
        if "result" not in state:
            state["result"] = self._store_upload(state)
        request.query = state["query"]
        return Response(_visible_fields(state["result"], request))

    def _store_upload(self, state: dict[str, Any]) -> dict[str, Any]:
        data = bytes(state["data"])
        if state["target"]:
            file = self.files[state["target"]]
            if not file["mimeType"].startswith(GOOGLE_APPS):
                file["mimeType"] = state["kind"]
            file["version"] = str(int(file["version"]) + 1)
            if file["mimeType"].startswith(GOOGLE_APPS):
                file["_exports"] = dict.fromkeys(TEXT_EXPORTS, data)
            else:
                self._set_content(file, data)
            return file
        return self._create_file(state["metadata"], data)


def _without_notes(permission: dict[str, Any]) -> dict[str, Any]:
    """The permission as Google returns it, without what the double notes of it."""
    return {name: value for name, value in permission.items() if not name.startswith("_")}


def _visible_fields(file: dict[str, Any], request: Request, *, everything: bool = False) -> dict[str, Any]:
    hidden = {"permissions", "shared", "owners"} if file.get("driveId") else set()
    visible = {name: value for name, value in file.items() if not name.startswith("_") and name not in hidden}
    if "permissions" in visible:
        visible["permissions"] = [_without_notes(permission) for permission in visible["permissions"]]
    if request.param("fields"):
        return visible
    return {name: visible[name] for name in ("kind", "id", "name", "mimeType")}
