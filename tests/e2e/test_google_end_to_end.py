"""End-to-end tests of sign-in and tool calls: the command, the bundled Google servers, an authorization server, a model."""

import contextlib
import email
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.fake_openai import FakeOpenAI, text, tool_call
from tests.support.google import FakeGoogle
from tests.support.google.example import fill_account
from tests.support.google.http import AUTH, Fault, serve
from tests.support.published import needs_published
from tests.support.sign_in import (
    CLIENT,
    MCPCHAT,
    AuthorizationServer,
    SignInUser,
    authorization_server,
    issue_certificates,
)
from tests.support.terminal import Terminal

pytestmark = [
    needs_published,
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
SCOPES = ("drive", "gmail.modify", "spreadsheets")
READ_ONLY_SCOPES = ("drive.readonly", "gmail.readonly", "spreadsheets.readonly")


class AccountService(FakeGoogle):
    """Fake Google APIs that validate each token at the authorization server."""

    def __init__(self, authorization: AuthorizationServer, ca: Path) -> None:
        super().__init__()
        self._issuer = authorization.url
        self._verify = ssl.create_default_context(cafile=str(ca))
        self.revoked: set[str] = set()
        fill_account(self)

    def token_scopes(self, token: str) -> set[str] | None:
        url = f"{self._issuer}/_control/introspect"
        claims = httpx2.get(url, params={"token": token}, verify=self._verify).json()
        return set(claims.get("scope", "").split()) if claims.get("active") and token not in self.revoked else None


class RevokingAccount(AccountService):
    """An account that rejects the first token."""

    def token_scopes(self, token: str) -> set[str] | None:
        self.revoked = self.revoked or {token}
        return super().token_scopes(token)


@contextlib.contextmanager
def account(
    tmp_path: Path, kind: type[AccountService] = AccountService
) -> Iterator[tuple[AccountService, SignInUser, AuthorizationServer]]:
    paths = issue_certificates(tmp_path)
    scopes = ["email", *(AUTH + scope for scope in (*SCOPES, *READ_ONLY_SCOPES))]
    certificates = {"ca": paths["ca"], "key": str(paths["key"]), "cert": str(paths["cert"])}
    with authorization_server("google", **certificates, clients=CLIENTS, scopes=scopes) as server:
        service = kind(server, paths["ca"])
        with serve(service):
            ca_environment = {"SSL_CERT_FILE": str(paths["ca"]), "REQUESTS_CA_BUNDLE": str(paths["ca"])}
            user = SignInUser(tmp_path, SECRET=CLIENT["client_secret"], **ca_environment)
            (tmp_path / "files").mkdir()
            user.config.write_text(config(server, service, tmp_path / "files"))
            yield service, user, server


@pytest.fixture(scope="module")
def module_login(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AccountService, SignInUser, str]]:
    with account(tmp_path_factory.mktemp("google")) as (service, user, _):
        user.run_ok("auth", "login", "google")
        yield service, user, user.config.read_text()


@pytest.fixture
def login(module_login: tuple[AccountService, SignInUser, str]) -> tuple[AccountService, SignInUser]:
    """A signed-in account in its initial state."""
    service, user, initial_config = module_login
    user.config.write_text(initial_config)
    service.gmail.sent.clear()
    service.faults.clear()
    return service, user


def config(server: AuthorizationServer, service: FakeGoogle, folder: Path, extra_lines: str = "") -> str:
    def builtin(name: str, key: str, extra: str = "") -> str:
        return (
            f'[servers.{name}]\nbuiltin = "{key}"\nenv = {{ GOOGLE_API_URL = "{service.url}" }}\n{extra}{extra_lines}\n'
        )

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


def run_ask(user: SignInUser, model_server: FakeOpenAI, *args: str) -> Any:
    return user.run("ask", "-o", "json", *args, OPENAI_BASE_URL=model_server.base_url, MCPCHAT_MODEL="m")


def tool_results(model_server: FakeOpenAI) -> list[str]:
    """Return the tool results in the model's last request."""
    return [message["content"] for message in model_server.requests[-1]["messages"] if message["role"] == "tool"]


def test_a_draft_has_the_total_of_a_found_spreadsheet(tmp_path: Path, fake_openai: FakeOpenAI) -> None:
    with account(tmp_path) as (service, user, _):
        output = user.run_ok("auth", "login", "google")
        assert (
            "Asking Google for: Drive (read, write), Gmail (read, label, write, send), Sheets (read, write)" in output
        )
        mail = {"to": ["grace@example.com"], "subject": "The party", "body": "It comes to 15.5."}
        fake_openai.replies = [
            tool_call("drive__search_files", '{"words": "party budget", "kind": "spreadsheet"}', "c1"),
            tool_call("sheets__read_range", '{"spreadsheet_id": "budget-1", "range": "Costs!A1:B10"}', "c2"),
            tool_call("mail__create_draft", json.dumps(mail), "c3"),
            text("Drafted."),
        ]
        result = run_ask(
            user, fake_openai, "--allow", "mail.create_draft", "Draft a mail to Grace with the party's total"
        )
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["answer"] == "Drafted."
        search_result, cells, draft = tool_results(fake_openai)
        assert '"Party budget" (id budget-1, spreadsheet, ' in search_result
        assert '4: ["Total", 15.5]' in cells
        assert '"draft_id":' in draft
        (message_id,) = service.gmail.drafts.values()
        message = email.message_from_bytes(service.gmail.messages[message_id]["_raw"])
        assert message.get_payload(decode=True) == b"It comes to 15.5.\r\n"
        scopes = {
            request_line.split("/")[1]: token_scopes - {f"{AUTH}userinfo.email", "email", "openid"}
            for request_line, token_scopes in service.authorized_requests
        }
        assert scopes == {
            "drive": {f"{AUTH}drive"}, "v4": {f"{AUTH}spreadsheets"}, "gmail": {f"{AUTH}gmail.modify"},
        }  # fmt: skip
        assert not service.gmail.sent


def test_sending_needs_approval_if_the_default_is_allow(
    login: tuple[AccountService, SignInUser], fake_openai: FakeOpenAI
) -> None:
    service, user = login
    user.config.write_text(user.config.read_text() + '[approvals]\ndefault = "allow"\n')
    mail = {"to": ["grace@example.com"], "subject": "Hi", "body": "x"}
    fake_openai.replies = [tool_call("mail__send_message", json.dumps(mail)), text("Not sent.")]
    result = run_ask(user, fake_openai, "Write to Grace")
    assert result.returncode == 6
    assert not service.gmail.sent
    fake_openai.replies = [tool_call("mail__send_message", json.dumps(mail)), text("Sent.")]
    assert run_ask(user, fake_openai, "--allow", "mail.send_message", "Write to Grace").returncode == 0
    assert len(service.gmail.sent) == 1


def test_a_token_that_google_rejects_is_renewed_and_the_call_repeated(tmp_path: Path) -> None:
    with account(tmp_path, RevokingAccount) as (service, user, server):
        user.run_ok("auth", "login", "google")
        grant_count = len(server.grants())
        result = user.run("call", "drive.read_file", "file_id=text-1")
        assert (result.returncode, result.stdout) == (0, "Buy tea\nBuy cake: café\n")
        assert len(server.grants()) - grant_count == 2
        assert service.request_lines("GET /drive/v3/files/text-1") == ["GET /drive/v3/files/text-1"] * 3


def test_a_read_only_config_has_read_only_scopes_and_tools(tmp_path: Path) -> None:
    with account(tmp_path) as (service, user, server):
        user.config.write_text(config(server, service, tmp_path / "files", "read_only = true"))
        output = user.run_ok("auth", "login", "google")
        assert "Asking Google for: Drive (read), Gmail (read), Sheets (read)" in output
        tools = user.run_ok("tools", "mail")
        assert "read_message" in tools
        assert "send_message" not in tools
        assert user.run_ok("call", "mail.search_mail", "query=from:grace").count("Grace Hopper") == 2


def test_without_a_login_the_error_names_the_command(tmp_path: Path) -> None:
    with account(tmp_path) as (_, user, _):
        result = user.run("call", "mail.list_labels")
        assert result.returncode == 3
        assert "mail needs a login at google\n  mcpchat auth login google" in result.stderr


def test_a_file_is_a_resource_and_can_be_downloaded(login: tuple[AccountService, SignInUser]) -> None:
    _, user = login
    assert "Plan's notes" in user.run_ok("read", "drive")
    assert "We dance at **eight**." in user.run_ok("read", "drive:gdrive:///doc-1")
    user.run_ok("call", "--yes", "drive.download_file", "file_id=pdf-1")
    assert (user.folder / "files/Invitation.pdf").read_bytes().startswith(b"%PDF")


def test_the_user_sees_the_recipients_before_a_mail_is_sent(
    login: tuple[AccountService, SignInUser], fake_openai: FakeOpenAI
) -> None:
    service, user = login
    mail = {"to": ["grace@example.com"], "subject": "Hi", "body": "See you at eight"}
    fake_openai.replies = [tool_call("mail__send_message", json.dumps(mail)), text("All done.")]
    environ = {**user.environ, "OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_MODEL": "m"}
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


def test_a_google_outage_is_reported_and_the_chat_continues(
    login: tuple[AccountService, SignInUser], fake_openai: FakeOpenAI
) -> None:
    service, user = login
    service.faults = [Fault("GET /gmail", 503, times=99)]
    fake_openai.replies = [tool_call("mail__list_labels", "{}"), text("Gmail is down.")]
    result = run_ask(user, fake_openai, "Which labels?")
    assert result.returncode == 0
    assert tool_results(fake_openai) == [
        "Error: the labels: Google's server failed (503), several times: try again later"
    ]
