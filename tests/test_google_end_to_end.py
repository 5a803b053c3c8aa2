"""From a sign-in to an answer: the installed command, the bundled Google servers, an authorization server, a model."""

import contextlib
import email
import json
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.fake_openai import FakeOpenAI, text, tool_call
from tests.google import FakeGoogle
from tests.google.example import fill_account
from tests.google.http import AUTH, Fault, serve
from tests.sign_in import (
    CLIENT,
    MCPCHAT,
    NODE,
    AuthorizationServer,
    SignInUser,
    authorization_server,
    issue_certificates,
)
from tests.terminal import Terminal

pytestmark = [
    pytest.mark.skipif(not NODE.exists() and not os.environ.get("CI"), reason="scripts/published.py has not run"),
    pytest.mark.timeout(120),
]
CLIENTS = [
    {
        **CLIENT,
        "redirect_uris": ["http://127.0.0.1/callback"],
        "application_type": "native",
        "grant_types": ["authorization_code", "refresh_token"],
    }
]
WANTED = ("drive", "gmail.modify", "spreadsheets")
READING = ("drive.readonly", "gmail.readonly", "spreadsheets.readonly")


class Account(FakeGoogle):
    """Google's APIs that ask the authorization server about each token."""

    def __init__(self, authorization: AuthorizationServer, ca: Path) -> None:
        super().__init__()
        self._issuer = authorization.url
        self._verify = ssl.create_default_context(cafile=str(ca))
        self.revoked: set[str] = set()
        fill_account(self)

    def granted(self, token: str) -> set[str] | None:
        where = f"{self._issuer}/_control/introspect"
        known = httpx2.get(where, params={"token": token}, verify=self._verify).json()
        return set(known.get("scope", "").split()) if known.get("active") and token not in self.revoked else None


class Revoking(Account):
    """... and that refuse the first token that they are shown."""

    def granted(self, token: str) -> set[str] | None:
        self.revoked = self.revoked or {token}
        return super().granted(token)


@contextlib.contextmanager
def account(tmp_path: Path, kind: type[Account] = Account) -> Iterator[tuple[Account, SignInUser, AuthorizationServer]]:
    paths = issue_certificates(tmp_path)
    scopes = ["email", *(AUTH + scope for scope in (*WANTED, *READING))]
    where = {"ca": paths["ca"], "key": str(paths["key"]), "cert": str(paths["cert"])}
    with authorization_server("google", **where, clients=CLIENTS, scopes=scopes) as server:
        service = kind(server, paths["ca"])
        with serve(service):
            trusted = {"SSL_CERT_FILE": str(paths["ca"]), "REQUESTS_CA_BUNDLE": str(paths["ca"])}
            desk = SignInUser(tmp_path, SECRET=CLIENT["client_secret"], **trusted)
            (tmp_path / "files").mkdir()
            desk.config.write_text(config(server, service, tmp_path / "files"))
            yield service, desk, server


@pytest.fixture(scope="module")
def once_signed_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Account, SignInUser, str]]:
    with account(tmp_path_factory.mktemp("google")) as (service, desk, _):
        desk.run_ok("auth", "login", "google")
        yield service, desk, desk.config.read_text()


@pytest.fixture
def signed_in(once_signed_in: tuple[Account, SignInUser, str]) -> tuple[Account, SignInUser]:
    """An account that somebody has signed in to, as it was at first."""
    service, desk, written = once_signed_in
    desk.config.write_text(written)
    service.gmail.sent.clear()
    service.faults.clear()
    return service, desk


def config(server: AuthorizationServer, service: FakeGoogle, folder: Path, more: str = "") -> str:
    def builtin(name: str, key: str, extra: str = "") -> str:
        return f'[servers.{name}]\nbuiltin = "{key}"\nenv = {{ GOOGLE_API_URL = "{service.url}" }}\n{extra}{more}\n'

    return f"""
[auth]
store = "file"
[auth.google]
client_id = "{CLIENT["client_id"]}"
client_secret = "env:SECRET"
authorization_url = "{server.url}/auth"
token_url = "{server.url}/token"
revocation_url = "{server.url}/revoke"
userinfo_url = "{server.url}/me"
issuer = "{server.url}"
{builtin("drive", "drive", f'folders = ["{folder}"]{chr(10)}')}
{builtin("mail", "gmail")}
{builtin("sheets", "sheets")}
"""


def ask(desk: SignInUser, double: FakeOpenAI, *words: str) -> Any:
    return desk.run("ask", "-o", "json", *words, OPENAI_BASE_URL=double.base_url, MCPCHAT_MODEL="m")


def results(double: FakeOpenAI) -> list[str]:
    """What the model was told of its calls, in the last request."""
    return [one["content"] for one in double.requests[-1]["messages"] if one["role"] == "tool"]


def test_a_spreadsheet_is_found_read_and_its_total_put_into_a_draft(tmp_path: Path, fake_openai: FakeOpenAI) -> None:
    with account(tmp_path) as (service, desk, _):
        told = desk.run_ok("auth", "login", "google")
        assert "Asking Google for: Drive (read, write), Gmail (read, label, write, send), Sheets (read, write)" in told
        letter = {"to": ["grace@example.com"], "subject": "The party", "body": "It comes to 15.5."}
        fake_openai.replies = [
            tool_call("drive__search_files", '{"words": "party budget", "kind": "spreadsheet"}', "c1"),
            tool_call("sheets__read_range", '{"spreadsheet_id": "budget-1", "range": "Costs!A1:B10"}', "c2"),
            tool_call("mail__create_draft", json.dumps(letter), "c3"),
            text("Drafted."),
        ]
        done = ask(desk, fake_openai, "--allow", "mail.create_draft", "Draft a mail to Grace with the party's total")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["answer"] == "Drafted."
        found, cells, draft = results(fake_openai)
        assert '"Party budget" (id budget-1, spreadsheet, ' in found
        assert '4: ["Total", 15.5]' in cells
        assert '"draft_id":' in draft
        (own,) = service.gmail.drafts.values()
        message = email.message_from_bytes(service.gmail.messages[own]["_raw"])
        assert message.get_payload(decode=True) == b"It comes to 15.5.\r\n"
        scopes = {
            line.split("/")[1]: granted - {f"{AUTH}userinfo.email", "email", "openid"}
            for line, granted in service.authorized_requests
        }
        assert scopes == {
            "drive": {f"{AUTH}drive"}, "v4": {f"{AUTH}spreadsheets"}, "gmail": {f"{AUTH}gmail.modify"},
        }  # fmt: skip
        assert not service.gmail.sent


def test_sending_asks_even_where_everything_else_may_run(
    signed_in: tuple[Account, SignInUser], fake_openai: FakeOpenAI
) -> None:
    service, desk = signed_in
    desk.config.write_text(desk.config.read_text() + '[approvals]\ndefault = "allow"\n')
    letter = {"to": ["grace@example.com"], "subject": "Hi", "body": "x"}
    fake_openai.replies = [tool_call("mail__send_message", json.dumps(letter)), text("Not sent.")]
    done = ask(desk, fake_openai, "Write to Grace")
    assert done.returncode == 6
    assert not service.gmail.sent
    fake_openai.replies = [tool_call("mail__send_message", json.dumps(letter)), text("Sent.")]
    assert ask(desk, fake_openai, "--allow", "mail.send_message", "Write to Grace").returncode == 0
    assert len(service.gmail.sent) == 1


def test_a_token_that_google_refuses_is_renewed_and_the_call_made_once_more(tmp_path: Path) -> None:
    with account(tmp_path, Revoking) as (service, desk, server):
        desk.run_ok("auth", "login", "google")
        before = len(server.grants())
        done = desk.run("call", "drive.read_file", "file_id=text-1")
        assert (done.returncode, done.stdout) == (0, "Buy tea\nBuy cake: café\n")
        assert len(server.grants()) - before == 2
        assert service.request_lines("GET /drive/v3/files/text-1") == ["GET /drive/v3/files/text-1"] * 3


def test_a_read_only_config_asks_for_no_more_and_can_do_no_more(tmp_path: Path) -> None:
    with account(tmp_path) as (service, desk, server):
        desk.config.write_text(config(server, service, tmp_path / "files", "read_only = true"))
        told = desk.run_ok("auth", "login", "google")
        assert "Asking Google for: Drive (read), Gmail (read), Sheets (read)" in told
        listed = desk.run_ok("tools", "mail")
        assert "read_message" in listed
        assert "send" not in listed
        assert desk.run_ok("call", "mail.search_mail", "query=from:grace").count("Grace Hopper") == 2


def test_without_a_login_each_server_says_what_to_type(tmp_path: Path) -> None:
    with account(tmp_path) as (_, desk, _):
        done = desk.run("call", "mail.list_labels")
        assert done.returncode == 3
        assert "mail needs a login at google\n  mcpchat auth login google" in done.stderr


def test_a_file_comes_as_a_resource_and_into_the_folder(signed_in: tuple[Account, SignInUser]) -> None:
    _, desk = signed_in
    assert "Plan's notes" in desk.run_ok("read", "drive")
    assert "We dance at **eight**." in desk.run_ok("read", "drive:gdrive:///doc-1")
    desk.run_ok("call", "--yes", "drive.download_file", "file_id=pdf-1")
    assert (desk.folder / "files/Invitation.pdf").read_bytes().startswith(b"%PDF")


def test_the_person_sees_whom_a_mail_goes_to_before_it_goes(
    signed_in: tuple[Account, SignInUser], fake_openai: FakeOpenAI
) -> None:
    service, desk = signed_in
    letter = {"to": ["grace@example.com"], "subject": "Hi", "body": "See you at eight"}
    fake_openai.replies = [tool_call("mail__send_message", json.dumps(letter)), text("All done.")]
    environ = {**desk.environ, "OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_MODEL": "m"}
    with Terminal([MCPCHAT, "ask", "Write to Grace"], environ=environ) as terminal:
        terminal.wait_for("mail wants to run send_message")
        terminal.wait_for("grace@example.com")
        terminal.wait_for("See you at eight")
        terminal.wait_for("[y]es")
        assert "[a]lways" not in terminal.text
        assert terminal.text.index("See you") < terminal.text.index("[y]es")
        assert not service.gmail.sent
        terminal.send("ay")
        terminal.wait_for("All done.")
    assert len(service.gmail.sent) == 1


def test_a_google_that_is_down_is_told_and_the_chat_goes_on(
    signed_in: tuple[Account, SignInUser], fake_openai: FakeOpenAI
) -> None:
    service, desk = signed_in
    service.faults = [Fault("GET /gmail", 503, times=99)]
    fake_openai.replies = [tool_call("mail__list_labels", "{}"), text("Gmail is down.")]
    done = ask(desk, fake_openai, "Which labels?")
    assert done.returncode == 0
    assert results(fake_openai) == ["Error: the labels: Google's server failed (503), several times: try again later"]
