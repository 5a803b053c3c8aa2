"""Drive v3: files, folders, shared drives, the query language, exports, ranges, resumable uploads."""

import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.google.http import Answer, Error, Request, Service

APPS = "application/vnd.google-apps."
_TERM = re.compile(
    r"""\s*(?:(?P<negated>not)\s+)?(?:
        (?P<value>'(?:[^'\\]|\\.)*')\s+in\s+(?P<list>parents|owners|writers)
      | (?P<field>fullText|name|mimeType|modifiedTime|trashed|starred)\s*(?P<operator>contains|=|!=|>|<|>=|<=)\s*
        (?P<other>'(?:[^'\\]|\\.)*'|true|false)
    )""",
    re.VERBOSE,
)


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith("'") else text


class Query:
    """Terms joined by "and" and "or", with parentheses, as Drive's documentation has them."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self.matches = self._any()
        if self._text[self._at :].strip():
            raise self._wrong()

    def _wrong(self) -> Error:
        return Error(400, "Invalid Value", reason="invalid")

    def _word(self, word: str) -> bool:
        if found := re.compile(rf"\s+{word}\s+" if word.isalpha() else rf"\s*{re.escape(word)}").match(
            self._text, self._at
        ):
            self._at = found.end()
            return True
        return False

    def _any(self) -> Any:
        choices = [self._all()]
        while self._word("or"):
            choices.append(self._all())
        return lambda file: any(one(file) for one in choices)

    def _all(self) -> Any:
        terms = [self._one()]
        while self._word("and"):
            terms.append(self._one())
        return lambda file: all(one(file) for one in terms)

    def _one(self) -> Any:
        if self._word("("):
            inner = self._any()
            if not self._word(")"):
                raise self._wrong()
            return inner
        found = _TERM.match(self._text, self._at)
        if found is None:
            raise self._wrong()
        self._at = found.end()
        return lambda file: _holds(file, found) is not bool(found["negated"])


def _holds(file: dict[str, Any], term: re.Match[str]) -> bool:
    if term["list"]:
        value = _unquoted(term["value"])
        if term["list"] == "parents":
            return value in file["parents"] or (value == "root" and "root-id" in file["parents"])
        return any(one["emailAddress"] == value for one in file["owners"])
    value, operator = _unquoted(term["other"]), term["operator"]
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
    own = str(file[term["field"]])
    return {"=": own == value, "!=": own != value, "contains": own.startswith(value)}[operator]


class Drive:
    def __init__(self, service: Service) -> None:
        self.service = service
        self.files: dict[str, dict[str, Any]] = {}
        self.drives = [{"id": "0ATeamDrive", "name": "Team"}]
        self.sessions: dict[str, dict[str, Any]] = {}
        self._counter = 0
        self.add("root-id", "My Drive", f"{APPS}folder", parents=[])
        self.add("0ATeamDrive", "Team", f"{APPS}folder", parents=[], driveId="0ATeamDrive")

    def add(self, id_: str, name: str, kind: str, content: bytes = b"", *, parents: list[str] | None = None,
            exports: dict[str, bytes] | None = None, text: str = "", **more: Any) -> dict[str, Any]:  # fmt: skip
        self._counter += 1
        moment = (datetime(2026, 11, 1, tzinfo=UTC) + timedelta(minutes=self._counter)).strftime(
            "%Y-%m-%dT%H:%M:%S.000Z"
        )
        file = {
            "kind": "drive#file", "id": id_, "name": name, "mimeType": kind, "version": "1", "trashed": False,
            "createdTime": moment, "modifiedTime": moment, "parents": ["root-id"] if parents is None else parents,
            "owners": [{"displayName": "Ada", "emailAddress": "ada@example.com"}],
            "webViewLink": f"https://drive.google.com/file/d/{id_}/view", "starred": False, "shared": False,
            "permissions": [{"id": "1", "type": "user", "role": "owner", "emailAddress": "ada@example.com"}],
            "capabilities": {"canEdit": True, "canShare": True, "canDownload": True, "canTrash": True},
            "_exports": exports or {}, "_text": text or content.decode(errors="ignore")[:1000], **more,
        }  # fmt: skip
        if not kind.startswith(APPS):
            self._fill(file, content)
        elif kind != f"{APPS}folder" and kind != f"{APPS}shortcut":
            file["size"] = "1024"  # of Google's own form of it, which nobody ever gets
        self.files[id_] = file
        return file

    def _fill(self, file: dict[str, Any], content: bytes) -> None:
        file |= {"_content": content, "size": str(len(content)), "md5Checksum": hashlib.md5(content).hexdigest()}

    def handle(self, request: Request) -> Answer:
        service = self.service
        service.enabled("drive.googleapis.com")
        reading = request.method == "GET"
        service.authorize(request, "drive", *(("drive.readonly",) if reading else ()))
        path = request.path.removeprefix("/upload").removeprefix("/drive/v3")
        if request.path.startswith("/upload"):
            return self._upload(request, path)
        if path == "/files" and reading:
            return self._list(request)
        if path == "/files":
            return Answer(self._created(request.json()))
        if path == "/drives":
            return Answer({"kind": "drive#driveList", "drives": self.drives})
        found = re.fullmatch(r"/files/([^/]+)(?:/(export|copy|permissions)(?:/([^/]+))?)?", path)
        if found is None:
            raise Error(404, "Not Found", reason="notFound")
        file = self._file(request, found[1])
        match request.method, found[2]:
            case "GET", None if request.one("alt") == "media":
                return self._media(request, file)
            case "GET", None:
                return Answer(_shown(file, request))
            case "GET", "export":
                return self._export(request, file)
            case "PATCH", None:
                return Answer(_shown(self._patched(request, file), request))
            case "POST", "copy":
                if file["mimeType"] == f"{APPS}folder":
                    raise Error(403, "This file cannot be copied by the user.", reason="cannotCopyFile")
                body = {"name": f"Copy of {file['name']}", "parents": file["parents"], "mimeType": file["mimeType"]}
                return Answer(_shown(self._created(body | request.json(), file.get("_content", b"")), request))
            case "GET", "permissions":
                size, start = request.number("pageSize", 100, 100), int(request.one("pageToken", "0"))
                own = file["permissions"]
                more = {"nextPageToken": str(start + size)} if start + size < len(own) else {}
                return Answer({"permissions": own[start : start + size]} | more)
            case "POST", "permissions":
                return self._permission(request, file)
            case "DELETE", "permissions":
                before = len(file["permissions"])
                file["permissions"] = [one for one in file["permissions"] if one["id"] != found[3]]
                if len(file["permissions"]) == before:
                    raise Error(404, f"Permission not found: {found[3]}.", reason="notFound")
                return Answer()
            case "DELETE", None:
                del self.files[found[1]]
                return Answer()
        raise Error(404, "Not Found", reason="notFound")

    def _file(self, request: Request, id_: str) -> dict[str, Any]:
        id_ = "root-id" if id_ == "root" else id_
        file = self.files.get(id_)
        if file is None or (file.get("driveId") and not request.flag("supportsAllDrives")):
            raise Error(404, f"File not found: {id_}.", reason="notFound")
        return file

    def _list(self, request: Request) -> Answer:
        query = request.one("q")
        if "fullText" in query and request.one("orderBy"):
            raise Error(403, "Sorting is not supported for queries with fullText terms.", reason="forbidden")
        matches = Query(query).matches if query else lambda file: True
        for parent in re.findall(r"'([^']+)' in parents", query):
            if parent != "root" and parent not in self.files:
                raise Error(404, f"File not found: {parent}.", reason="notFound")
        shared = request.flag("includeItemsFromAllDrives") and request.flag("supportsAllDrives")
        if request.one("corpora") in {"drive", "allDrives"} and not shared:
            raise Error(403, "The includeItemsFromAllDrives parameter must be set.", reason="teamDrivesParameters")
        found = [
            file
            for file in self.files.values()
            if matches(file) and (not file.get("driveId") or shared)
            and (request.one("corpora") != "drive" or file.get("driveId") == request.one("driveId"))
            and file["id"] not in {"root-id", "0ATeamDrive"}
        ]  # fmt: skip
        if request.one("orderBy").startswith("folder"):
            found.sort(key=lambda file: (file["mimeType"] != f"{APPS}folder", file["name"].lower()))
        else:
            found.sort(key=lambda file: file["modifiedTime"], reverse=True)
        start = 0
        if token := request.one("pageToken"):
            try:
                said, _, at = base64.urlsafe_b64decode(token).decode().partition("\n")
                start = int(at)
            except ValueError:
                raise Error(400, "Invalid Value", reason="invalid") from None
            if said != query:
                raise Error(400, "The page token does not belong to this query.", reason="invalid")
        size = request.number("pageSize", 100, 1000)
        body: dict[str, Any] = {"kind": "drive#fileList", "incompleteSearch": request.one("corpora") == "allDrives"}
        body["files"] = [_shown(file, request, everything=True) for file in found[start : start + size]]
        if start + size < len(found):
            body["nextPageToken"] = base64.urlsafe_b64encode(f"{query}\n{start + size}".encode()).decode()
        return Answer(body)

    def _media(self, request: Request, file: dict[str, Any]) -> Answer:
        if file["mimeType"].startswith(APPS):
            raise Error(403, "Only files with binary content can be downloaded. Use Export with Docs Editors files.",
                        reason="fileNotDownloadable")  # fmt: skip
        content = file["_content"]
        if found := re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", "")):
            start = int(found[1])
            place = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
            return Answer(content[start:], 206, place)
        return Answer(content, headers={"Content-Type": file["mimeType"]})

    def _export(self, request: Request, file: dict[str, Any]) -> Answer:
        kind = request.one("mimeType")
        if not file["mimeType"].startswith(APPS) or file["mimeType"] == f"{APPS}folder":
            raise Error(403, "Export only supports Docs Editors files.", reason="fileNotExportable")
        if kind not in file["_exports"]:
            raise Error(400, "The requested conversion is not supported.", reason="badRequest")
        if len(file["_exports"][kind]) > 10 * 2**20:
            raise Error(403, "This file is too large to be exported.", reason="exportSizeLimitExceeded")
        return Answer(file["_exports"][kind], headers={"Content-Type": kind})

    def _created(self, body: dict[str, Any], content: bytes = b"") -> dict[str, Any]:
        for parent in body.get("parents", ()):
            if (parent if parent != "root" else "root-id") not in self.files:
                raise Error(404, f"File not found: {parent}.", reason="notFound")
        parents = ["root-id" if one == "root" else one for one in body.get("parents") or ["root"]]
        self._counter += 1
        kind = body.get("mimeType", "application/octet-stream")
        exports = {"text/markdown": content, "text/csv": content} if kind.startswith(APPS) else None
        return self.add(
            f"new-{self._counter}", body.get("name", "Untitled"), kind, content, parents=parents, exports=exports
        )

    def _patched(self, request: Request, file: dict[str, Any]) -> dict[str, Any]:
        if not file["capabilities"]["canEdit"]:
            raise Error(403, "The user does not have sufficient permissions for this file.",
                        reason="insufficientFilePermissions")  # fmt: skip
        body = request.json()
        real = [[("root-id" if one == "root" else one) for one in request.one(name).split(",") if one]
                for name in ("addParents", "removeParents")]  # fmt: skip
        if set(real[0]) & set(real[1]):
            raise Error(400, "A folder cannot be added and removed at once.", reason="invalid")
        if real[0] and not file["parents"] and not real[1]:
            raise Error(403, "Increasing the number of parents is not allowed", reason="cannotAddParent")
        file |= {name: body[name] for name in ("name", "trashed", "starred", "description") if name in body}
        for gone in filter(None, request.one("removeParents").split(",")):
            file["parents"] = [one for one in file["parents"] if one != gone]
        for new in filter(None, request.one("addParents").split(",")):
            new = "root-id" if new == "root" else new
            if new not in self.files:
                raise Error(404, f"File not found: {new}.", reason="notFound")
            file["parents"] = [*file["parents"], new] if new not in file["parents"] else file["parents"]
        file["version"] = str(int(file["version"]) + 1)
        return file

    def _permission(self, request: Request, file: dict[str, Any]) -> Answer:
        body = request.json()
        if not file["capabilities"]["canShare"]:
            raise Error(403, "The user does not have permission to share.", reason="insufficientFilePermissions")
        made = {"id": str(len(file["permissions"]) + 1), **body}
        made["_mailed"] = request.one("sendNotificationEmail")
        file["permissions"].append(made)
        return Answer({name: value for name, value in made.items() if not name.startswith("_")})

    def _upload(self, request: Request, path: str) -> Answer:
        session = request.one("upload_id")
        if not session:
            if request.one("uploadType") != "resumable":
                raise Error(400, "Bad Request", reason="badRequest")
            if found := re.fullmatch(r"/files/([^/]+)", path):
                self._file(request, found[1])
            self._counter += 1
            session = f"session{self._counter}"
            if request.headers["X-Upload-Content-Type"].startswith(APPS):
                raise Error(400, "Invalid MIME type provided for the uploaded content.", reason="badRequest")
            self.sessions[session] = {
                "metadata": request.json(), "data": bytearray(), "target": found[1] if found else None,
                "kind": request.headers["X-Upload-Content-Type"], "size": int(request.headers["X-Upload-Content-Length"]),
                "query": request.query,
            }  # fmt: skip
            where = f"{self.service.url}{request.path}?uploadType=resumable&upload_id={session}"
            return Answer({}, headers={"Location": where})
        state = self.sessions.get(session)
        if state is None:
            raise Error(404, "Not Found", reason="notFound")
        said = request.headers["Content-Range"]
        if found := re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", said):
            first, last, size = map(int, found.groups())
            if first != len(state["data"]) or size != state["size"] or last - first + 1 != len(request.body):
                raise Error(400, "Failed to parse Content-Range header.", reason="badContent")
            if last + 1 < size and len(request.body) % 2**18:
                raise Error(400, "Chunks are multiples of 256 kB.", reason="badContent")
            state["data"] += request.body
        elif said != f"bytes */{state['size']}":
            raise Error(400, "Failed to parse Content-Range header.", reason="badContent")
        if len(state["data"]) < state["size"]:
            got = {"Range": f"bytes=0-{len(state['data']) - 1}"} if state["data"] else {}
            return Answer(b"", 308, got)
        if "made" not in state:
            state["made"] = self._stored(state)
        request.query = state["query"]
        return Answer(_shown(state["made"], request))

    def _stored(self, state: dict[str, Any]) -> dict[str, Any]:
        data = bytes(state["data"])
        if state["target"]:
            file = self.files[state["target"]]
            if not file["mimeType"].startswith(APPS):
                file["mimeType"] = state["kind"]
            file["version"] = str(int(file["version"]) + 1)
            if file["mimeType"].startswith(APPS):
                file["_exports"] = {"text/markdown": data, "text/csv": data}
            else:
                self._fill(file, data)
            return file
        return self._created(state["metadata"], data)


def _shown(file: dict[str, Any], request: Request, *, everything: bool = False) -> dict[str, Any]:
    hidden = {"permissions", "shared", "owners"} if file.get("driveId") else set()
    shown = {name: value for name, value in file.items() if not name.startswith("_") and name not in hidden}
    if request.one("fields"):
        return shown
    return {name: shown[name] for name in ("kind", "id", "name", "mimeType")}
