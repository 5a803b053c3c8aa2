"""What token endpoints answer that is none: every kind of junk ends in words, and keeps the login as it is."""

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
from tests.sign_in import issue_certificates


class Endpoint:
    """A token endpoint that answers what it is told."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b"{}"
        self.seen: list[str] = []
        self.url = ""


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    said = Endpoint()
    paths = issue_certificates(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(paths["ca"]))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said.seen.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(said.body)))
            self.end_headers()
            self.wfile.write(said.body)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(paths["cert"], paths["key"])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    said.url = f"https://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield said
    server.shutdown()
    server.server_close()
    thread.join()


def provider(endpoint: Endpoint, **more: Any) -> Provider:
    return Provider(
        name="acme",
        title="Acme",
        authorization_url=f"{endpoint.url}/a",
        token_url=f"{endpoint.url}/t",
        client_id="c",
        **more,
    )


def answer(endpoint: Endpoint, said: object, status: int = 200) -> None:
    endpoint.status = status
    endpoint.body = said if isinstance(said, bytes) else json.dumps(said).encode()


GOOD = {"access_token": "an-access-token", "token_type": "Bearer", "expires_in": 3600}
JUNK: list[object] = [
    b"<html>a proxy's page</html>", b"", b"[]", b'"x"', b"null", b"5", b"\xff\xfe", b"[" * 50_000, {},
    {"access_token": 123}, {"access_token": None}, {"access_token": {}}, {"access_token": ""},
    {**GOOD, "expires_in": []}, {**GOOD, "expires_in": "soon"}, b'{"access_token": "a", "expires_in": Infinity}',
    {**GOOD, "expires_in": 10**30}, {**GOOD, "scope": ["a"]}, {**GOOD, "scope": 5}, {**GOOD, "refresh_token": 7},
]  # fmt: skip
TROUBLE = [400, 403, 404, 429, 500, 502, 503, 520]


@pytest.mark.parametrize("said", JUNK, ids=range(len(JUNK)))
async def test_junk_for_a_refresh_keeps_the_login(endpoint: Endpoint, said: object) -> None:
    answer(endpoint, said)
    record = {"refresh_token": "the-refresh-token"}
    outcome = await settled(oauth.refresh(provider(endpoint), record, ("a",)))
    if isinstance(outcome, McpChatError):
        assert not isinstance(outcome, LoginRevoked), outcome.message
        assert "the-refresh-token" not in outcome.message + outcome.hint
    else:
        renewed, token = outcome
        assert isinstance(token.value, str)
        assert renewed == record


async def settled(work: Awaitable[Any]) -> Any:
    """What the work returns, or the error that it raises."""
    try:
        return await work
    except McpChatError as error:
        return error


@pytest.mark.parametrize("status", TROUBLE)
@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b'{"message": "no"}'])
async def test_an_answer_that_says_nothing_of_the_login_is_trouble(
    endpoint: Endpoint, status: int, body: bytes
) -> None:
    answer(endpoint, body, status)
    with pytest.raises(ServerError, match="the saved login is unchanged"):
        await oauth.refresh(provider(endpoint), {"refresh_token": "r"}, ())


REFUSALS = [
    ("invalid_grant", LoginRevoked, "has ended"),
    ("invalid_scope", SignInNeeded, "has not granted"),
    ("invalid_client", SignInNeeded, "does not know this client"),
    ("something_else", SignInNeeded, "did not renew the login"),
]


@pytest.mark.parametrize(("code", "kind", "words"), REFUSALS)
async def test_a_refusal_is_told_in_words(endpoint: Endpoint, code: str, kind: type[Exception], words: str) -> None:
    answer(endpoint, {"error": code, "error_description": "because \x1b[31m"}, 400)
    with pytest.raises(kind, match=words) as caught:
        await oauth.refresh(provider(endpoint), {"refresh_token": "r"}, ())
    assert "\x1b" not in str(caught.value)


async def test_a_redirect_takes_no_token_elsewhere(endpoint: Endpoint) -> None:
    endpoint.headers = {"Location": f"{endpoint.url.replace('127.0.0.1', 'localhost')}/t"}
    answer(endpoint, b"", 307)
    with pytest.raises(McpChatError):
        await oauth.refresh(provider(endpoint), {"refresh_token": "r"}, ())
    assert len(endpoint.seen) == 1


async def test_a_rotated_refresh_token_is_kept_with_its_access_token(endpoint: Endpoint) -> None:
    answer(endpoint, {**GOOD, "refresh_token": "r2"})
    renewed, token = await oauth.refresh(provider(endpoint), {"refresh_token": "r1"}, ("a", "b"))
    assert renewed["refresh_token"] == "r2"
    assert oauth.cached_token(renewed, ("a", "b")) == token
    assert oauth.cached_token(renewed, ("a",)) is None


class Screen:
    """A person who consents at once, by pasting the answer."""

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


@pytest.mark.parametrize("said", JUNK, ids=range(len(JUNK)))
async def test_junk_for_a_code_signs_nobody_in_by_accident(endpoint: Endpoint, said: object) -> None:
    answer(endpoint, said)
    outcome = await settled(signed_in(endpoint))
    if isinstance(outcome, McpChatError):
        assert "the-code" not in outcome.message
    else:
        assert isinstance(outcome["access_token"], str)
        assert outcome["access_token"]
        json.dumps(outcome, allow_nan=False)


async def signed_in(endpoint: Endpoint) -> dict[str, Any]:
    consent = AuthorizationPrompt(screen=Screen(), open_page=None, timeout=20)
    return await oauth.sign_in(provider(endpoint), ("a",), consent, SecretRegistry())


async def test_a_login_of_one_token_lasts_as_long_as_that(endpoint: Endpoint) -> None:
    answer(endpoint, {**GOOD, "scope": "a,b"})
    record = await signed_in(endpoint)
    token = oauth.cached_token(record, ("a",))
    assert token is not None
    assert (token.value, token.expired, record["granted"]) == ("an-access-token", False, ["a", "b"])
    assert not token.expires_soon
    assert Token(value="x", expires=1.0).expired
    with pytest.raises(SignInNeeded, match="cannot be renewed") as refused:
        await oauth.refresh(provider(endpoint), record, ("a",))
    assert not isinstance(refused.value, LoginRevoked)
    with pytest.raises(LoginRevoked):
        await oauth.refresh(provider(endpoint), {**record, "expires_at": 1.0}, ("a",))


@pytest.mark.parametrize("claims", [b"[]", b"{", b"[" * 100_000, b'{"email": 5}'])
async def test_an_id_token_of_junk_names_nobody(endpoint: Endpoint, claims: bytes) -> None:
    body = base64.urlsafe_b64encode(claims).decode().rstrip("=")
    answer(endpoint, {**GOOD, "id_token": f"e30.{body}.x"})
    assert (await signed_in(endpoint))["account"] in {"", "5"}
