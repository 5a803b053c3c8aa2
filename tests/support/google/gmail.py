"""Fake Gmail API v1: messages as trees of parts, threads, labels, drafts, sent mail."""

import base64
import contextlib
import email
import email.policy
import itertools
import re
from email.message import Message
from typing import Any

from tests.support.google.http import ApiError, FakeService, Request, Response

SYSTEM = ("INBOX", "SENT", "DRAFT", "TRASH", "SPAM", "UNREAD", "STARRED", "IMPORTANT")
_NUMBERS = itertools.count(1)
_ATTACHMENT_THRESHOLD = 3000  # bytes; larger parts are returned on a separate request


def _encode_base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()  # with padding, as Gmail does


class FakeGmail:
    def __init__(self, service: FakeService) -> None:
        self.service = service
        self.messages: dict[str, dict[str, Any]] = {}
        self.drafts: dict[str, str] = {}
        self.labels = {name: name for name in SYSTEM}
        self.filters: dict[str, dict[str, Any]] = {}
        self.send_as: list[dict[str, Any]] = [
            {"sendAsEmail": "ada@example.com", "displayName": "Ada Lovelace", "isPrimary": True, "isDefault": True,
             "signature": "<div><b>Ada</b><br>Analyst</div>"},
            {"sendAsEmail": "team@example.com", "displayName": "The team", "signature": "",
             "verificationStatus": "accepted"},
            {"sendAsEmail": "new@example.com", "displayName": "", "verificationStatus": "pending"},
        ]  # fmt: skip
        self.sent: list[bytes] = []
        self.sessions: dict[str, dict[str, Any]] = {}
        self._attachments: dict[str, bytes] = {}
        self._counter = 0
        self.decode_headers = True  # whether headers are returned decoded

    def add(self, raw: bytes | str, *, labels: tuple[str, ...] = ("INBOX", "UNREAD"), thread: str | None = None) -> str:
        raw = raw.encode() if isinstance(raw, str) else raw
        self._counter += 1
        id_ = f"18c{next(_NUMBERS):013x}"  # ids are never reused
        self.messages[id_] = {
            "id": id_, "threadId": thread or id_, "labelIds": list(labels), "_raw": raw,
            "_parsed": email.message_from_bytes(raw, policy=email.policy.compat32),
            "internalDate": str(1_795_000_000_000 + self._counter * 60_000),
        }  # fmt: skip
        return id_

    def handle(self, request: Request) -> Response:
        self.service.require_enabled("gmail.googleapis.com")
        is_read = request.method == "GET"
        if "/settings/" in request.path:
            self.service.authorize(
                request, "gmail.settings.basic", *(("gmail.modify", "gmail.readonly") if is_read else ())
            )
        else:
            self.service.authorize(request, "gmail.modify", *(("gmail.readonly",) if is_read else ()))
        path = request.path.removeprefix("/upload").removeprefix("/gmail/v1/users/me")
        if request.path.startswith("/upload"):
            return self._upload(request, path)
        match request.method, path.strip("/").split("/"):
            case "GET", ["profile"]:
                return Response({"emailAddress": "Ada@example.com", "messagesTotal": len(self.messages)})
            case "GET", ["labels"]:
                kinds = {id_: "system" if id_ in SYSTEM else "user" for id_ in self.labels}
                return Response(
                    {"labels": [{"id": id_, "name": name, "type": kinds[id_]} for id_, name in self.labels.items()]}
                )
            case "POST", ["labels"]:
                name = request.json()["name"]
                assert {"labelListVisibility", "messageListVisibility"} <= request.json().keys()
                if name in self.labels.values():
                    raise ApiError(409, "Label name exists or conflicts", reason="aborted")
                id_ = f"Label_{len(self.labels)}"
                self.labels[id_] = name
                return Response({"id": id_, "name": name})
            case "PATCH" | "DELETE" as method, ["labels", id_]:
                return self._change_label(method, id_, request)
            case "GET", ["settings", "sendAs"]:
                return Response({"sendAs": self.send_as})
            case "GET", ["settings", "filters"]:
                return Response({"filter": list(self.filters.values())} if self.filters else {})
            case "POST", ["settings", "filters"]:
                body = request.json()
                id_ = f"ANe1Bmj{len(self.filters)}"
                self.filters[id_] = {"id": id_, **body}
                return Response(self.filters[id_])
            case "DELETE", ["settings", "filters", id_]:
                if self.filters.pop(id_, None) is None:
                    raise ApiError(404, "Not found", reason="notFound")
                return Response(b"", 204)
            case "DELETE", ["drafts", id_]:
                del self.messages[self._draft_message_id(id_)], self.drafts[id_]
                return Response(b"", 204)
            case "GET", ["messages"]:
                return Response(self._list_messages(request))
            case "POST", ["messages", "batchModify"]:
                body = request.json()
                for id_ in body["ids"]:
                    self._change_labels(self._get_message(id_), body)
                return Response()
            case "POST", ["messages", "send"]:
                return Response(self._send(request.json()))
            case "GET", ["messages", id_]:
                return Response(self._visible_message(self._get_message(id_), request))
            case "GET", ["messages", id_, "attachments", attachment]:
                self._get_message(id_)
                if attachment not in self._attachments:
                    raise ApiError(400, "Invalid attachment token", reason="invalidArgument")
                data = self._attachments[attachment]
                return Response({"size": len(data), "data": _encode_base64url(data)})
            case "POST", ["messages", id_, "trash" | "untrash" as verb]:
                return Response(self._change_labels(self._get_message(id_), _trash_labels(verb)))
            case "GET", ["threads", id_]:
                return Response(
                    {
                        "id": id_,
                        "messages": [self._visible_message(message, request) for message in self._get_thread(id_)],
                    }
                )
            case "POST", ["threads", id_, "modify" | "trash" | "untrash" as verb]:
                body = request.json() if verb == "modify" else _trash_labels(verb)
                for message in self._get_thread(id_):
                    self._change_labels(message, body)
                return Response({"id": id_})
            case "GET", ["drafts"]:
                start = int(request.param("pageToken", "0"))
                size = request.int_param("maxResults", 100, 500)
                drafts = list(reversed(self.drafts.items()))
                body = {
                    "drafts": [
                        {"id": id_, "message": {"id": message_id}} for id_, message_id in drafts[start : start + size]
                    ]
                }
                return Response(body | ({"nextPageToken": str(start + size)} if start + size < len(drafts) else {}))
            case "POST", ["drafts"]:
                return Response(self._save_draft(request.json()["message"]))
            case "POST", ["drafts", "send"]:
                id_ = request.json()["id"]
                stored = self.messages.pop(self._draft_message_id(id_))
                del self.drafts[id_]
                return Response(self._send({"raw": _encode_base64url(stored["_raw"]), "threadId": stored["threadId"]}))
            case "GET", ["drafts", id_]:
                return Response(
                    {
                        "id": id_,
                        "message": self._visible_message(self._get_message(self._draft_message_id(id_)), request),
                    }
                )
            case "PUT", ["drafts", id_]:
                stored = self._draft_message_id(id_)
                created = self._save_draft(request.json()["message"], id_)
                del self.messages[stored]
                return Response(created)
        raise ApiError(404, "Requested entity was not found.", reason="notFound")

    def _change_label(self, method: str, id_: str, request: Request) -> Response:
        if id_ in SYSTEM:
            raise ApiError(400, "Invalid update request", reason="invalidArgument")
        if id_ not in self.labels:
            raise ApiError(404, "Not Found", reason="notFound")
        if method == "DELETE":
            del self.labels[id_]
            for message in self.messages.values():
                message["labelIds"] = [label for label in message["labelIds"] if label != id_]
            return Response(b"", 204)
        name = request.json()["name"]
        if name in self.labels.values():
            raise ApiError(409, "Label name exists or conflicts", reason="aborted")
        self.labels[id_] = name
        return Response({"id": id_, "name": name})

    def _draft_message_id(self, id_: str) -> str:
        if id_ not in self.drafts:
            raise ApiError(404, "Requested entity was not found.", reason="notFound")
        return self.drafts[id_]

    def _get_message(self, id_: str) -> dict[str, Any]:
        if not re.fullmatch("[0-9a-f]+", id_):
            raise ApiError(400, "Invalid id value", reason="invalidArgument")
        if id_ not in self.messages:
            raise ApiError(404, "Requested entity was not found.", reason="notFound")
        return self.messages[id_]

    def _get_thread(self, id_: str) -> list[dict[str, Any]]:
        messages = [message for message in self.messages.values() if message["threadId"] == id_]
        if not messages:
            raise ApiError(404, "Requested entity was not found.", reason="notFound")
        return messages

    def _change_labels(self, message: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        for label in (*body.get("addLabelIds", ()), *body.get("removeLabelIds", ())):
            if label not in self.labels or label in {"SENT", "DRAFT"}:
                raise ApiError(400, f"Invalid label: {label}", reason="invalidArgument")
        labels = [label for label in message["labelIds"] if label not in body.get("removeLabelIds", ())]
        message["labelIds"] = [*labels, *(label for label in body.get("addLabelIds", ()) if label not in labels)]
        return {"id": message["id"]}

    def _list_messages(self, request: Request) -> dict[str, Any]:
        terms = re.findall(r'[^\s"]*"[^"]*"|\S+', request.param("q"))
        hidden = set() if request.bool_param("includeSpamTrash") else {"SPAM", "TRASH"}
        matching = [
            message for message in reversed(self.messages.values())
            if not hidden & set(message["labelIds"]) and all(self._matches(message, term) for term in terms)
        ]  # fmt: skip
        if not (token := request.param("pageToken", "0")).isdecimal():
            raise ApiError(400, "Invalid pageToken", reason="invalidArgument")
        start, size = int(token), request.int_param("maxResults", 100, 500)
        body: dict[str, Any] = {"resultSizeEstimate": len(matching)}
        if matching:
            body["messages"] = [
                {"id": message["id"], "threadId": message["threadId"]} for message in matching[start : start + size]
            ]
        if start + size < len(matching):
            body["nextPageToken"] = str(start + size)
        return body

    def _matches(self, message: dict[str, Any], term: str) -> bool:
        operator, colon, value = term.partition(":")
        value = value.strip('"').lower()
        parsed: Message = message["_parsed"]
        match operator if colon else "":
            case "from" | "to" | "subject" as header:
                return value in str(parsed.get(header, "")).lower()
            case "is":
                return value.upper() in message["labelIds"]
            case "in" | "label":
                return value in {self.labels[label].lower() for label in message["labelIds"]}
            case "has":
                return any(part.get_filename() for part in parsed.walk())
            case _:
                return term.strip('"').lower() in message["_raw"].decode(errors="ignore").lower()

    def _visible_message(self, message: dict[str, Any], request: Request) -> dict[str, Any]:
        parsed: Message = message["_parsed"]
        visible = {name: value for name, value in message.items() if not name.startswith("_")}
        message_format = request.param("format", "full")
        if message_format == "metadata":
            names = {header.lower() for header in request.query.get("metadataHeaders", ())}
            payload = {
                "headers": [
                    header for header in self._list_headers(parsed) if not names or header["name"].lower() in names
                ]
            }
        else:
            payload = self._describe_part(parsed, "")
        text_part = next((part for part in parsed.walk() if part.get_content_type() == "text/plain"), None)
        text = (text_part.get_payload(decode=True) or b"").decode(errors="ignore") if text_part is not None else ""
        snippet = " ".join(text.split())[:100].replace("&", "&amp;").replace("'", "&#39;")
        return visible | {"snippet": snippet, "payload": payload, "sizeEstimate": len(message["_raw"])}

    def _describe_part(self, part: Message, id_: str) -> dict[str, Any]:
        visible: dict[str, Any] = {
            "partId": id_, "mimeType": part.get_content_type(), "filename": part.get_filename() or "",
            "headers": self._list_headers(part), "body": {"size": 0},
        }  # fmt: skip
        if part.is_multipart() and part.get_content_type() != "message/rfc822":
            children = part.get_payload()
            visible["parts"] = [
                self._describe_part(child, f"{id_}.{n}" if id_ else str(n)) for n, child in enumerate(children)
            ]
            return visible
        content = part.get_payload()
        data = content[0].as_bytes() if isinstance(content, list) else part.get_payload(decode=True) or b""
        if part.get_filename() or isinstance(content, list) or len(data) > _ATTACHMENT_THRESHOLD:
            self._counter += 1
            token = f"ANGjdJ{self._counter}"  # a new id at each fetch
            self._attachments[token] = data
            visible["body"] = {"attachmentId": token, "size": len(data)}
        else:
            visible["body"] = {"size": len(data), "data": _encode_base64url(data)}
        return visible

    def _choose_thread(self, body: dict[str, Any], raw: bytes) -> str | None:
        """Return the requested thread if the subject and the reply headers match it, otherwise None (a new thread)."""
        thread_id, parsed = body.get("threadId"), email.message_from_bytes(raw)
        if not thread_id:
            return None
        others = [message for message in self.messages.values() if message["threadId"] == thread_id]
        subjects = {_base_subject(message["_parsed"]) for message in others}
        return (
            thread_id if _base_subject(parsed) in subjects and parsed["In-Reply-To"] and parsed["References"] else None
        )

    def _list_headers(self, part: Message) -> list[dict[str, str]]:
        return [
            {"name": name, "value": _decode_header(str(value)) if self.decode_headers else str(value)}
            for name, value in part.items()
        ]

    def _send(self, body: dict[str, Any], raw: bytes | None = None) -> dict[str, Any]:
        raw = raw if raw is not None else base64.urlsafe_b64decode(body["raw"])
        if not email.message_from_bytes(raw)["To"]:
            raise ApiError(400, "Recipient address required", reason="invalidArgument")
        self.sent.append(raw)
        author = b"" if email.message_from_bytes(raw)["From"] else b"From: Ada <ada@example.com>\r\n"
        id_ = self.add(author + raw, labels=("SENT",), thread=self._choose_thread(body, raw))
        return {"id": id_, "threadId": self.messages[id_]["threadId"], "labelIds": ["SENT"]}

    def _save_draft(self, body: dict[str, Any], id_: str | None = None, raw: bytes | None = None) -> dict[str, Any]:
        raw = raw if raw is not None else base64.urlsafe_b64decode(body["raw"])
        message_id = self.add(raw, labels=("DRAFT",), thread=self._choose_thread(body, raw))
        id_ = id_ or f"r-{self._counter}"
        self.drafts[id_] = message_id
        return {
            "id": id_,
            "message": {"id": message_id, "threadId": self.messages[message_id]["threadId"], "labelIds": ["DRAFT"]},
        }

    def _upload(self, request: Request, path: str) -> Response:
        session = request.param("upload_id")
        if not session:
            session = f"session{len(self.sessions)}"
            self.sessions[session] = {"metadata": request.json(), "data": bytearray(),
                                      "size": int(request.headers["X-Upload-Content-Length"])}  # fmt: skip
            location = f"{self.service.url}{request.path}?uploadType=resumable&upload_id={session}"
            return Response({}, headers={"Location": location})
        state = self.sessions.get(session)
        if state is None:
            raise ApiError(404, "Not Found", reason="notFound")
        if not (content_range := request.headers["Content-Range"]).startswith("bytes */"):
            if not content_range.startswith(f"bytes {len(state['data'])}-"):
                raise ApiError(400, "Failed to parse Content-Range header.", reason="badContent")
            state["data"] += request.body
        if len(state["data"]) < state["size"]:
            return Response(b"", 308, {"Range": f"bytes=0-{len(state['data']) - 1}"} if state["data"] else {})
        if "result" not in state:
            raw, body = bytes(state["data"]), state["metadata"]
            if path == "/messages/send":
                state["result"] = self._send(body, raw)
            else:
                draft = path.removeprefix("/drafts").strip("/")
                old_message_id = self._draft_message_id(draft) if draft else ""
                state["result"] = self._save_draft(body["message"], draft or None, raw)
                self.messages.pop(old_message_id, None)
        return Response(state["result"])


def _base_subject(message: Message) -> str:
    return re.sub(r"(?i)^((re|aw|sv|antw)\s*:\s*)+", "", _decode_header(str(message.get("Subject", ""))))


def _decode_header(value: str) -> str:
    """Return a header with its encoded words decoded, if possible."""
    from email.header import decode_header, make_header

    if len(value) > 5000:
        return value
    with contextlib.suppress(Exception):
        return str(make_header(decode_header(value)))
    return value


def _trash_labels(verb: str) -> dict[str, Any]:
    return {"addLabelIds": ["TRASH"], "removeLabelIds": ["INBOX"]} if verb == "trash" else {"removeLabelIds": ["TRASH"]}
