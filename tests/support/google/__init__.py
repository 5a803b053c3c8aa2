"""A fake of Google's APIs over local HTTP: it behaves as documented and produces faults on request."""

import contextlib
from collections.abc import Iterator

from tests.support.google.calendar import FakeCalendar
from tests.support.google.docs import FakeDocs
from tests.support.google.drive import GOOGLE_APPS, FakeDrive
from tests.support.google.gmail import FakeGmail
from tests.support.google.http import ApiError, FakeService, Request, Response, serve
from tests.support.google.sheets import FakeSheets


class FakeGoogle(FakeService):
    """The APIs behind one URL."""

    def __init__(self) -> None:
        super().__init__()
        self.calendar = FakeCalendar(self)
        self.docs = FakeDocs(self)
        self.drive = FakeDrive(self)
        self.gmail = FakeGmail(self)
        self.sheets = FakeSheets(self)

    def handle(self, request: Request) -> Response:
        if request.request_line == "POST /token":
            return Response({"access_token": self.next_tokens.pop(0), "expires_in": 3600, "token_type": "Bearer"})
        path = request.path.removeprefix("/upload")
        if path.startswith("/drive/v3/"):
            response = self.drive.handle(request)
            self._add_books()
            return response
        if path.startswith("/calendar/v3/"):
            return self.calendar.handle(request)
        if path.startswith("/v1/documents/"):
            return self.docs.handle(request)
        if path.startswith("/export/"):
            return self.drive.read_export(request)
        if path.startswith("/gmail/v1/"):
            return self.gmail.handle(request)
        if path.startswith("/v4/spreadsheets"):
            return self.sheets.handle(request)
        raise ApiError(404, "Not Found", reason="notFound")

    def _add_books(self) -> None:
        """Give each spreadsheet that was created through Drive its cells."""
        for id_, file in self.drive.files.items():
            if (
                file["mimeType"] == f"{GOOGLE_APPS}spreadsheet"
                and id_.startswith("new-")
                and id_ not in self.sheets.books
            ):
                self.sheets.add(id_, file["name"], {"Tabelle1": []})


@contextlib.contextmanager
def run_fake_google() -> Iterator[FakeGoogle]:
    """Run the fake. At the end, nothing must have been against Google's discovery documents."""
    service = FakeGoogle()
    with serve(service):
        yield service
    assert not service.mismatches, "\n".join(sorted(set(service.mismatches)))
