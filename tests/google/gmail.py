"""Gmail v1: messages as trees of parts, threads, labels, drafts, what was sent."""

import base64
import contextlib
import email
import email.policy
import itertools
import re
from email.message import Message
from typing import Any

from tests.google.http import Answer, Error, Request, Service

SYSTEM = ("INBOX", "SENT", "DRAFT", "TRASH", "SPAM", "UNREAD", "STARRED", "IMPORTANT")
_NUMBERS = itertools.count(1)
_LARGE = 3000  # bytes of a part that comes apart


def _locked(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()  # with padding, as Gmail does


class Gmail:
    def __init__(self, service: Service) -> None:
        self.service = service
        self.messages: dict[str, dict[str, Any]] = {}
        self.drafts: dict[str, str] = {}
        self.labels = {name: name for name in SYSTEM}
        self.sent: list[bytes] = []
        self.sessions: dict[str, dict[str, Any]] = {}
        self._attachments: dict[str, bytes] = {}
        self._counter = 0
        self.decodes = True  # whether headers come decoded

    def add(self, raw: bytes | str, *, labels: tuple[str, ...] = ("INBOX", "UNREAD"), thread: str | None = None) -> str:
        raw = raw.encode() if isinstance(raw, str) else raw
        self._counter += 1
        id_ = f"18c{next(_NUMBERS):013x}"  # never one that was there before
        self.messages[id_] = {
            "id": id_, "threadId": thread or id_, "labelIds": list(labels), "_raw": raw,
            "_parsed": email.message_from_bytes(raw, policy=email.policy.compat32),
            "internalDate": str(1_795_000_000_000 + self._counter * 60_000),
        }  # fmt: skip
        return id_

    def handle(self, request: Request) -> Answer:
        self.service.enabled("gmail.googleapis.com")
        reading = request.method == "GET"
        self.service.authorize(request, "gmail.modify", *(("gmail.readonly",) if reading else ()))
        path = request.path.removeprefix("/upload").removeprefix("/gmail/v1/users/me")
        if request.path.startswith("/upload"):
            return self._upload(request, path)
        match request.method, path.strip("/").split("/"):
            case "GET", ["profile"]:
                return Answer({"emailAddress": "Ada@example.com", "messagesTotal": len(self.messages)})
            case "GET", ["labels"]:
                kinds = {id_: "system" if id_ in SYSTEM else "user" for id_ in self.labels}
                return Answer(
                    {"labels": [{"id": id_, "name": name, "type": kinds[id_]} for id_, name in self.labels.items()]}
                )
            case "POST", ["labels"]:
                name = request.json()["name"]
                assert {"labelListVisibility", "messageListVisibility"} <= request.json().keys()
                if name in self.labels.values():
                    raise Error(409, "Label name exists or conflicts", reason="aborted")
                id_ = f"Label_{len(self.labels)}"
                self.labels[id_] = name
                return Answer({"id": id_, "name": name})
            case "GET", ["messages"]:
                return Answer(self._list(request))
            case "POST", ["messages", "batchModify"]:
                body = request.json()
                for id_ in body["ids"]:
                    self._relabel(self._message(id_), body)
                return Answer()
            case "POST", ["messages", "send"]:
                return Answer(self._send(request.json()))
            case "GET", ["messages", id_]:
                return Answer(self._shown(self._message(id_), request))
            case "GET", ["messages", id_, "attachments", attachment]:
                self._message(id_)
                if attachment not in self._attachments:
                    raise Error(400, "Invalid attachment token", reason="invalidArgument")
                data = self._attachments[attachment]
                return Answer({"size": len(data), "data": _locked(data)})
            case "POST", ["messages", id_, "trash" | "untrash" as verb]:
                return Answer(self._relabel(self._message(id_), _trashing(verb)))
            case "GET", ["threads", id_]:
                return Answer({"id": id_, "messages": [self._shown(one, request) for one in self._thread(id_)]})
            case "POST", ["threads", id_, "modify" | "trash" | "untrash" as verb]:
                body = request.json() if verb == "modify" else _trashing(verb)
                for one in self._thread(id_):
                    self._relabel(one, body)
                return Answer({"id": id_})
            case "GET", ["drafts"]:
                start = int(request.one("pageToken", "0"))
                size = request.number("maxResults", 100, 500)
                found = list(reversed(self.drafts.items()))
                body = {"drafts": [{"id": id_, "message": {"id": own}} for id_, own in found[start : start + size]]}
                return Answer(body | ({"nextPageToken": str(start + size)} if start + size < len(found) else {}))
            case "POST", ["drafts"]:
                return Answer(self._draft(request.json()["message"]))
            case "POST", ["drafts", "send"]:
                id_ = request.json()["id"]
                own = self.messages.pop(self._drafted(id_))
                del self.drafts[id_]
                return Answer(self._send({"raw": _locked(own["_raw"]), "threadId": own["threadId"]}))
            case "GET", ["drafts", id_]:
                return Answer({"id": id_, "message": self._shown(self._message(self._drafted(id_)), request)})
            case "PUT", ["drafts", id_]:
                own = self._drafted(id_)
                made = self._draft(request.json()["message"], id_)
                del self.messages[own]
                return Answer(made)
        raise Error(404, "Requested entity was not found.", reason="notFound")

    def _drafted(self, id_: str) -> str:
        if id_ not in self.drafts:
            raise Error(404, "Requested entity was not found.", reason="notFound")
        return self.drafts[id_]

    def _message(self, id_: str) -> dict[str, Any]:
        if not re.fullmatch("[0-9a-f]+", id_):
            raise Error(400, "Invalid id value", reason="invalidArgument")
        if id_ not in self.messages:
            raise Error(404, "Requested entity was not found.", reason="notFound")
        return self.messages[id_]

    def _thread(self, id_: str) -> list[dict[str, Any]]:
        found = [one for one in self.messages.values() if one["threadId"] == id_]
        if not found:
            raise Error(404, "Requested entity was not found.", reason="notFound")
        return found

    def _relabel(self, message: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        for label in (*body.get("addLabelIds", ()), *body.get("removeLabelIds", ())):
            if label not in self.labels or label in {"SENT", "DRAFT"}:
                raise Error(400, f"Invalid label: {label}", reason="invalidArgument")
        kept = [one for one in message["labelIds"] if one not in body.get("removeLabelIds", ())]
        message["labelIds"] = [*kept, *(one for one in body.get("addLabelIds", ()) if one not in kept)]
        return {"id": message["id"]}

    def _list(self, request: Request) -> dict[str, Any]:
        words = re.findall(r'[^\s"]*"[^"]*"|\S+', request.one("q"))
        hidden = set() if request.flag("includeSpamTrash") else {"SPAM", "TRASH"}
        found = [
            one for one in reversed(self.messages.values())
            if not hidden & set(one["labelIds"]) and all(self._fits(one, word) for word in words)
        ]  # fmt: skip
        if not (token := request.one("pageToken", "0")).isdecimal():
            raise Error(400, "Invalid pageToken", reason="invalidArgument")
        start, size = int(token), request.number("maxResults", 100, 500)
        body: dict[str, Any] = {"resultSizeEstimate": len(found)}
        if found:
            body["messages"] = [{"id": one["id"], "threadId": one["threadId"]} for one in found[start : start + size]]
        if start + size < len(found):
            body["nextPageToken"] = str(start + size)
        return body

    def _fits(self, message: dict[str, Any], word: str) -> bool:
        operator, colon, value = word.partition(":")
        value = value.strip('"').lower()
        parsed: Message = message["_parsed"]
        match operator if colon else "":
            case "from" | "to" | "subject" as header:
                return value in str(parsed.get(header, "")).lower()
            case "is":
                return value.upper() in message["labelIds"]
            case "in" | "label":
                return value in {self.labels[one].lower() for one in message["labelIds"]}
            case "has":
                return any(part.get_filename() for part in parsed.walk())
            case _:
                return word.strip('"').lower() in message["_raw"].decode(errors="ignore").lower()

    def _shown(self, message: dict[str, Any], request: Request) -> dict[str, Any]:
        parsed: Message = message["_parsed"]
        shown = {name: value for name, value in message.items() if not name.startswith("_")}
        wanted = request.one("format", "full")
        if wanted == "metadata":
            names = {one.lower() for one in request.query.get("metadataHeaders", ())}
            payload = {"headers": [one for one in self._headers(parsed) if not names or one["name"].lower() in names]}
        else:
            payload = self._part(parsed, "")
        first = next((part for part in parsed.walk() if part.get_content_type() == "text/plain"), None)
        text = (first.get_payload(decode=True) or b"").decode(errors="ignore") if first is not None else ""
        snippet = " ".join(text.split())[:100].replace("&", "&amp;").replace("'", "&#39;")
        return shown | {"snippet": snippet, "payload": payload, "sizeEstimate": len(message["_raw"])}

    def _part(self, part: Message, id_: str) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "partId": id_, "mimeType": part.get_content_type(), "filename": part.get_filename() or "",
            "headers": self._headers(part), "body": {"size": 0},
        }  # fmt: skip
        if part.is_multipart() and part.get_content_type() != "message/rfc822":
            children = part.get_payload()
            shown["parts"] = [self._part(one, f"{id_}.{n}" if id_ else str(n)) for n, one in enumerate(children)]
            return shown
        inside = part.get_payload()
        data = inside[0].as_bytes() if isinstance(inside, list) else part.get_payload(decode=True) or b""
        if part.get_filename() or isinstance(inside, list) or len(data) > _LARGE:
            self._counter += 1
            token = f"ANGjdJ{self._counter}"  # another one at each look
            self._attachments[token] = data
            shown["body"] = {"attachmentId": token, "size": len(data)}
        else:
            shown["body"] = {"size": len(data), "data": _locked(data)}
        return shown

    def _thread_of(self, body: dict[str, Any], raw: bytes) -> str | None:
        """The thread that was asked for, where the subject and the headers of an answer fit it; else a new one."""
        wanted, parsed = body.get("threadId"), email.message_from_bytes(raw)
        if not wanted:
            return None
        subjects = {_subject(one["_parsed"]) for one in self._thread(wanted)}
        return wanted if _subject(parsed) in subjects and parsed["In-Reply-To"] and parsed["References"] else None

    def _headers(self, part: Message) -> list[dict[str, str]]:
        return [
            {"name": name, "value": _plain(str(value)) if self.decodes else str(value)} for name, value in part.items()
        ]

    def _send(self, body: dict[str, Any], raw: bytes | None = None) -> dict[str, Any]:
        raw = raw if raw is not None else base64.urlsafe_b64decode(body["raw"])
        if not email.message_from_bytes(raw)["To"]:
            raise Error(400, "Recipient address required", reason="invalidArgument")
        self.sent.append(raw)
        id_ = self.add(b"From: Ada <ada@example.com>\r\n" + raw, labels=("SENT",), thread=self._thread_of(body, raw))
        return {"id": id_, "threadId": self.messages[id_]["threadId"], "labelIds": ["SENT"]}

    def _draft(self, body: dict[str, Any], id_: str | None = None, raw: bytes | None = None) -> dict[str, Any]:
        raw = raw if raw is not None else base64.urlsafe_b64decode(body["raw"])
        own = self.add(raw, labels=("DRAFT",), thread=self._thread_of(body, raw))
        id_ = id_ or f"r-{self._counter}"
        self.drafts[id_] = own
        return {"id": id_, "message": {"id": own, "threadId": self.messages[own]["threadId"], "labelIds": ["DRAFT"]}}

    def _upload(self, request: Request, path: str) -> Answer:
        session = request.one("upload_id")
        if not session:
            session = f"session{len(self.sessions)}"
            self.sessions[session] = {"metadata": request.json(), "data": bytearray(),
                                      "size": int(request.headers["X-Upload-Content-Length"])}  # fmt: skip
            where = f"{self.service.url}{request.path}?uploadType=resumable&upload_id={session}"
            return Answer({}, headers={"Location": where})
        state = self.sessions.get(session)
        if state is None:
            raise Error(404, "Not Found", reason="notFound")
        if not (said := request.headers["Content-Range"]).startswith("bytes */"):
            if not said.startswith(f"bytes {len(state['data'])}-"):
                raise Error(400, "Failed to parse Content-Range header.", reason="badContent")
            state["data"] += request.body
        if len(state["data"]) < state["size"]:
            return Answer(b"", 308, {"Range": f"bytes=0-{len(state['data']) - 1}"} if state["data"] else {})
        if "made" not in state:
            raw, body = bytes(state["data"]), state["metadata"]
            if path == "/messages/send":
                state["made"] = self._send(body, raw)
            else:
                draft = path.removeprefix("/drafts").strip("/")
                before = self._drafted(draft) if draft else ""
                state["made"] = self._draft(body["message"], draft or None, raw)
                self.messages.pop(before, None)
        return Answer(state["made"])


def _subject(message: Message) -> str:
    return re.sub(r"(?i)^((re|aw|sv|antw)\s*:\s*)+", "", _plain(str(message.get("Subject", ""))))


def _plain(value: str) -> str:
    """A header with its encoded words decoded, where that can be done."""
    from email.header import decode_header, make_header

    if len(value) > 5000:
        return value
    with contextlib.suppress(Exception):
        return str(make_header(decode_header(value)))
    return value


def _trashing(verb: str) -> dict[str, Any]:
    return {"addLabelIds": ["TRASH"], "removeLabelIds": ["INBOX"]} if verb == "trash" else {"removeLabelIds": ["TRASH"]}
