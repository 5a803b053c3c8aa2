"""Fake Docs API v1: the text of documents, their versions, and suggestions."""

import re
from typing import Any

from tests.support.google.http import ApiError, FakeService, Request, Response


class FakeDocs:
    """Documents by id: ``text``, ``revisionId`` and ``suggestions``; what is suggested is not applied."""

    def __init__(self, service: FakeService) -> None:
        self.service = service
        self.documents: dict[str, dict[str, Any]] = {}

    def add(self, id_: str, text: str) -> dict[str, Any]:
        self.documents[id_] = {"documentId": id_, "_text": text, "revisionId": "r1", "suggestions": []}
        return self.documents[id_]

    def handle(self, request: Request) -> Response:
        self.service.require_enabled("docs.googleapis.com")
        is_read = request.method == "GET"
        self.service.authorize(request, "documents", "drive", *(["drive.readonly"] if is_read else []))
        match = re.fullmatch(r"/v1/documents/([^/:]+)(:batchUpdate)?", request.path)
        if match is None or match[1] not in self.documents:
            raise ApiError(404, "Requested entity was not found.")
        document = self.documents[match[1]]
        if is_read:
            if document["suggestions"] and request.param("commentsViewMode") != "COMMENTS_VIEW_MODE_INCLUDED":
                document = {**document, "suggestions": []}
            return Response({name: value for name, value in document.items() if not name.startswith("_")})
        body = request.json()
        control = body.get("writeControl", {})
        if control.get("requiredRevisionId", document["revisionId"]) != document["revisionId"]:
            raise ApiError(400, "The required revision ID is not the latest revision.")
        replies = [
            self._apply(document, item, suggest=control.get("writeMode") == "SUGGEST") for item in body["requests"]
        ]
        document["revisionId"] = f"r{int(document['revisionId'][1:]) + 1}"
        return Response({"documentId": match[1], "replies": replies})

    def _apply(self, document: dict[str, Any], request: dict[str, Any], *, suggest: bool) -> dict[str, Any]:
        ((kind, body),) = request.items()
        text = document["_text"]
        match kind:
            case "insertText":
                assert "endOfSegmentLocation" in body
                document["_text"] = text if suggest else text + body["text"]
                return {}
            case "replaceAllText":
                flags = 0 if body["containsText"]["matchCase"] else re.IGNORECASE
                pattern = re.escape(body["containsText"]["text"])
                changed, count = re.subn(pattern, lambda match: body["replaceText"], text, flags=flags)
                document["_text"] = text if suggest else changed
                return {"replaceAllText": {"occurrencesChanged": count}}
            case "acceptSuggestion" | "rejectSuggestion":
                for suggestion in document["suggestions"]:
                    if suggestion["suggestionId"] == body["suggestionId"]:
                        suggestion["status"] = "ACCEPTED" if kind == "acceptSuggestion" else "REJECTED"
                        return {}
        raise ApiError(400, f"Invalid requests[0].{kind}")
