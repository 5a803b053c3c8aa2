"""A stand-in for three of Google's APIs, over HTTP on this machine: documented behaviour, with faults on order."""

import contextlib
from collections.abc import Iterator

from tests.google.drive import Drive
from tests.google.gmail import Gmail
from tests.google.http import Answer, Error, Request, Service, serving
from tests.google.sheets import Sheets


class Google(Service):
    """The three APIs behind one address."""

    def __init__(self) -> None:
        super().__init__()
        self.drive = Drive(self)
        self.gmail = Gmail(self)
        self.sheets = Sheets(self)

    def handle(self, request: Request) -> Answer:
        if request.line == "POST /token":
            return Answer({"access_token": self.issued.pop(0), "expires_in": 3600, "token_type": "Bearer"})
        path = request.path.removeprefix("/upload")
        if path.startswith("/drive/v3/"):
            return self.drive.handle(request)
        if path.startswith("/gmail/v1/"):
            return self.gmail.handle(request)
        if path.startswith("/v4/spreadsheets"):
            return self.sheets.handle(request)
        raise Error(404, "Not Found", reason="notFound")


@contextlib.contextmanager
def google() -> Iterator[Google]:
    service = Google()
    with serving(service):
        yield service
