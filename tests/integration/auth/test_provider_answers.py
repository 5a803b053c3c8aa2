"""Invalid answers of token endpoints: each is an error with a message and leaves the login unchanged."""

import base64
import contextlib
import http.server
import json
import ssl
import threading
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mcpchat.auth.account_store import LoginRevoked
from mcpchat.auth.consent import AuthorizationPrompt
from mcpchat.auth.providers import oauth
from mcpchat.auth.providers.oauth import Provider, Token
from mcpchat.errors import McpChatError, ServerError, SignInNeeded
from mcpchat.util.redaction import SecretRegistry
from tests.support.http_server import HttpServer
from tests.support.sign_in import issue_certificates

pytestmark = pytest.mark.no_cover  # in this process; forks are measured


class Endpoint:
    """A token endpoint with a configurable answer."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b"{}"
        self.seen: list[str] = []
        self.url = ""


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    state = Endpoint()
    paths = issue_certificates(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(paths["ca"]))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state.seen.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(state.status)
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(state.body)))
            self.end_headers()
            self.wfile.write(state.body)

        def log_message(self, *args: object) -> None:
            pass

    server = HttpServer(Handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(paths["cert"], paths["key"])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    state.url = f"https://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def provider(endpoint: Endpoint, **fields: Any) -> Provider:
    return Provider(
        name="acme",
        title="Acme",
        authorization_url=f"{endpoint.url}/a",
        token_url=f"{endpoint.url}/t",
        client_id="c",
        **fields,
    )


def set_answer(endpoint: Endpoint, content: object, status: int = 200) -> None:
    endpoint.status = status
    endpoint.body = content if isinstance(content, bytes) else json.dumps(content).encode()


GOOD = {"access_token": "an-access-token", "token_type": "Bearer", "expires_in": 3600}
JUNK: list[object] = [
    b"<html>a proxy's page</html>", b"", b"[]", b'"x"', b"null", b"5", b"\xff\xfe", b"[" * 50_000, {},
    {"access_token": 123}, {"access_token": None}, {"access_token": {}}, {"access_token": ""},
    {**GOOD, "expires_in": []}, {**GOOD, "expires_in": "soon"}, b'{"access_token": "a", "expires_in": Infinity}',
    {**GOOD, "expires_in": 10**30}, {**GOOD, "scope": ["a"]}, {**GOOD, "scope": 5}, {**GOOD, "refresh_token": 7},
]  # fmt: skip
TEMPORARY_STATUSES = [400, 403, 404, 429, 500, 502, 503, 520]


@pytest.mark.parametrize("content", JUNK, ids=range(len(JUNK)))
async def test_junk_for_a_refresh_keeps_the_login(endpoint: Endpoint, content: object) -> None:
    set_answer(endpoint, content)
    record = {"refresh_token": "the-refresh-token"}
    outcome = await result_or_error(oauth.refresh(provider(endpoint), record, ("a",)))
    if isinstance(outcome, McpChatError):
        assert not isinstance(outcome, LoginRevoked), outcome.message
        assert "the-refresh-token" not in outcome.message + outcome.hint
    else:
        renewed, token = outcome
        assert isinstance(token.value, str)
        assert renewed == record


async def result_or_error(work: Awaitable[Any]) -> Any:
    """Return the result of the work, or the error that it raises."""
    try:
        return await work
    except McpChatError as error:
        return error


@pytest.mark.parametrize("status", TEMPORARY_STATUSES)
@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b'{"message": "no"}'])
async def test_an_unclear_error_leaves_the_login_unchanged(endpoint: Endpoint, status: int, body: bytes) -> None:
    set_answer(endpoint, body, status)
    with pytest.raises(ServerError, match="the saved login is unchanged"):
        await oauth.refresh(provider(endpoint), {"refresh_token": "r"}, ())


REFUSALS = [
    ("invalid_grant", LoginRevoked, "has ended"),
    ("invalid_scope", SignInNeeded, "has not granted"),
    ("invalid_client", SignInNeeded, "does not know this client"),
    ("something_else", SignInNeeded, "did not renew the login"),
]


@pytest.mark.parametrize(("code", "error_type", "message"), REFUSALS)
async def test_a_refusal_is_explained(endpoint: Endpoint, code: str, error_type: type[Exception], message: str) -> None:
    set_answer(endpoint, {"error": code, "error_description": "because \x1b[31m"}, 400)
    with pytest.raises(error_type, match=message) as error_info:
        await oauth.refresh(provider(endpoint), {"refresh_token": "r"}, ())
    assert "\x1b" not in str(error_info.value)


async def test_a_redirect_is_not_followed(endpoint: Endpoint) -> None:
    endpoint.headers = {"Location": f"{endpoint.url.replace('127.0.0.1', 'localhost')}/t"}
    set_answer(endpoint, b"", 307)
    with pytest.raises(McpChatError):
        await oauth.refresh(provider(endpoint), {"refresh_token": "r"}, ())
    assert len(endpoint.seen) == 1


async def test_a_rotated_refresh_token_is_kept_with_its_access_token(endpoint: Endpoint) -> None:
    set_answer(endpoint, {**GOOD, "refresh_token": "r2"})
    renewed, token = await oauth.refresh(provider(endpoint), {"refresh_token": "r1"}, ("a", "b"))
    assert renewed["refresh_token"] == "r2"
    assert oauth.cached_token(renewed, ("a", "b")) == token
    assert oauth.cached_token(renewed, ("a",)) is None


class Screen:
    """A user who consents at once by pasting the answer."""

    interactive = True

    def __init__(self) -> None:
        self.url = ""

    def exclusive(self) -> Any:
        return contextlib.nullcontext()

    def show_url(self, url: str, *, provider_name: str, warning: str, timeout: float) -> None:
        self.url = url

    def report_browser(self, started: bool) -> None:
        raise AssertionError("nobody has a browser")

    def show_error(self, text: str) -> None:
        raise AssertionError(text)

    def notify(self, text: str) -> None:
        pass

    async def read_pasted_url(self) -> str:
        state = self.url.partition("state=")[2].partition("&")[0]
        return f"http://127.0.0.1/callback?code=the-code&state={state}"


@pytest.mark.parametrize("content", JUNK, ids=range(len(JUNK)))
async def test_junk_for_a_code_does_not_sign_in(endpoint: Endpoint, content: object) -> None:
    set_answer(endpoint, content)
    outcome = await result_or_error(sign_in(endpoint))
    if isinstance(outcome, McpChatError):
        assert "the-code" not in outcome.message
    else:
        assert isinstance(outcome["access_token"], str)
        assert outcome["access_token"]
        json.dumps(outcome, allow_nan=False)


async def sign_in(endpoint: Endpoint) -> dict[str, Any]:
    consent = AuthorizationPrompt(screen=Screen(), open_page=None, timeout=20)
    return await oauth.sign_in(provider(endpoint), ("a",), consent, SecretRegistry())


async def test_a_login_without_a_refresh_token_ends_with_it(endpoint: Endpoint) -> None:
    set_answer(endpoint, {**GOOD, "scope": "a,b"})
    record = await sign_in(endpoint)
    token = oauth.cached_token(record, ("a",))
    assert token is not None
    assert (token.value, token.expired, record["granted"]) == ("an-access-token", False, ["a", "b"])
    assert not token.expires_soon
    assert Token(value="x", expires=1.0).expired
    with pytest.raises(SignInNeeded, match="cannot be renewed") as error_info:
        await oauth.refresh(provider(endpoint), record, ("a",))
    assert not isinstance(error_info.value, LoginRevoked)
    with pytest.raises(LoginRevoked):
        await oauth.refresh(provider(endpoint), {**record, "expires_at": 1.0}, ("a",))


@pytest.mark.parametrize("claims", [b"[]", b"{", b"[" * 100_000, b'{"email": 5}'])
async def test_a_junk_id_token_gives_no_account(endpoint: Endpoint, claims: bytes) -> None:
    body = base64.urlsafe_b64encode(claims).decode().rstrip("=")
    set_answer(endpoint, {**GOOD, "id_token": f"e30.{body}.x"})
    assert (await sign_in(endpoint))["account"] in {"", "5"}
