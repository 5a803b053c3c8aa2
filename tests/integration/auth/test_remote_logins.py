"""MCP OAuth: the installed command, an MCP server that needs a login, and oidc-provider as authorization server."""

import asyncio
import contextlib
import http.server
import json
import signal
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mcpchat.auth.account_store import RenewalRejected
from mcpchat.auth.mcp import oauth
from mcpchat.auth.mcp.discovery import Challenge, discover, parse_challenge
from mcpchat.auth.mcp.guarded_http import MAX_BYTES, GuardedHttpClient, _pin_address
from mcpchat.errors import McpChatError, ServerError, SignInNeeded
from tests.support.conformance_client import calls_response
from tests.support.fake_openai import FakeOpenAI, text, tool_call
from tests.support.http_server import HttpServer
from tests.support.published import needs_published
from tests.support.sign_in import MCPCHAT, AuthorizationServer, SignInUser, authorization_server, python_server
from tests.support.terminal import Terminal

pytestmark = pytest.mark.timeout(120)


@contextlib.contextmanager
def notes(tmp_path: Path, *variations: str, **options: Any) -> Iterator[tuple[AuthorizationServer, SignInUser]]:
    """Start a notes server and its authorization server; yield it and a user whose logins are stored in a file."""
    with (
        authorization_server("mcp", **options) as server,
        python_server("oauth_protected.py", server.url, *variations) as url,
    ):
        user = SignInUser(tmp_path)
        user.config.write_text(
            f'[auth]\nstore = "file"\n[servers.notes]\nurl = "{url}/mcp"\n[approvals]\ndefault = "allow"\n'
        )
        yield server, user


def record(user: SignInUser) -> dict[str, Any]:
    """Return the stored record of the login."""
    return next(json.loads(data) for path, data in user.home_files() if path.parent.name == "logins")


@needs_published
def test_a_server_that_needs_a_login_says_so_and_one_login_is_enough(tmp_path: Path) -> None:
    with notes(tmp_path) as (server, user):
        refusal = user.run("call", "notes.read_notes")
        assert refusal.returncode == 3
        assert refusal.stderr == "error: notes wants a sign-in\n  mcpchat auth login notes\n"
        assert "Signed in to notes" in user.run_ok("auth", "login", "notes")
        user.expire_logins()
        assert "milk, eggs" in user.run_ok("call", "notes.read_notes")
        assert "signed in, renewed automatically" in user.run_ok("servers")
        user.plan_browser()
        assert "milk, eggs" in user.run_ok("call", "notes.read_notes")
        assert server.grants() == ["authorization_code", "refresh_token"]
        assert not user.plan_file.with_suffix(".seen").exists()
        parameters = next(entry for entry in server.journal() if "asked" in entry)["asked"]
        assert parameters["resource"].endswith("/mcp")
        assert parameters["code_challenge_method"] == "S256"
        (state,) = user.auth_status("--check")
        assert (state["name"], state["state"], state["renews"]) == ("notes", "signed in", True)
        assert "It was revoked at notes" in user.run_ok("auth", "logout", "notes")
        assert user.run("call", "notes.read_notes").returncode == 3


@needs_published
def test_the_record_stores_the_issuer_and_its_endpoints(tmp_path: Path) -> None:
    with notes(tmp_path) as (server, user):
        user.run_ok("auth", "login", "notes")
        saved = record(user)
        assert saved["issuer"] == server.url
        assert saved["token_url"] == f"{server.url}/token"
        assert saved["expires_at"] > time.time() + 3000
        assert saved["client"]["kind"] == "registered"
        assert "id_token" not in saved


@needs_published
def test_three_processes_renew_a_rotating_token_once(tmp_path: Path) -> None:
    with notes(tmp_path) as (server, user):
        user.run_ok("auth", "login", "notes")
        user.expire_logins()
        processes = [user.start("call", "notes.read_notes") for _ in range(3)]
        for process in processes:
            out, err = process.communicate(timeout=60)
            assert (process.returncode, out) == (0, "milk, eggs\n"), err
        assert server.grants() == ["authorization_code", "refresh_token"]
        assert user.auth_status("--check")[0]["state"] == "signed in"


@needs_published
def test_a_kill_or_interrupt_during_a_renewal_keeps_the_login(tmp_path: Path) -> None:
    with notes(tmp_path) as (server, user):
        user.run_ok("auth", "login", "notes")
        user.expire_logins()
        server.plan_faults(token={"times": 1, "delay": 30_000, "status": 503})
        process = user.start("call", "notes.read_notes")
        server.wait_for_request("/token")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert "milk, eggs" in user.run_ok("call", "notes.read_notes")
        user.expire_logins()
        server.plan_faults(token={"times": 1, "delay": 2000})
        process = user.start("call", "notes.read_notes")
        server.wait_for_request("/token", count=2)
        process.send_signal(signal.SIGINT)  # before the new token arrives
        process.communicate(timeout=30)
        assert process.returncode == 130
        assert "milk, eggs" in user.run_ok("call", "notes.read_notes")


@needs_published
def test_only_a_definite_refusal_ends_a_login(tmp_path: Path) -> None:
    with notes(tmp_path) as (server, user):
        user.run_ok("auth", "login", "notes")
        user.expire_logins()
        server.plan_faults(token={"status": 503, "times": 50})
        unavailable = user.run("call", "notes.read_notes")
        assert unavailable.returncode == 4
        assert "the saved login is unchanged" in unavailable.stderr
        server.plan_faults(token={"times": 0})
        assert "milk, eggs" in user.run_ok("call", "notes.read_notes")
        user.expire_logins()
        server.plan_faults(token={"status": 400, "times": 1, "body": {"error": "invalid_grant"}})
        assert user.run("call", "notes.read_notes").returncode == 3
        (state,) = user.auth_status()
        assert (state["state"], state["hint"]) == ("signed out", "mcpchat auth login notes")
        assert "refresh_token" not in record(user)
        user.run_ok("auth", "login", "notes")
        assert "milk, eggs" in user.run_ok("call", "notes.read_notes")


@needs_published
def test_a_step_up_is_approved_merged_and_repeated_once(tmp_path: Path) -> None:
    with notes(tmp_path) as (server, user), FakeOpenAI() as model:
        user.run_ok("auth", "login", "notes")
        refusal = user.run("call", "notes.write_note", "text=hi")
        assert refusal.returncode == 3
        assert "mcpchat auth login notes --scope notes:write" in refusal.stderr
        model.replies = [tool_call("notes__write_note", '{"text": "hi"}'), text("Noted.")]
        environ = {**user.environ, "OPENAI_BASE_URL": model.base_url, "MCPCHAT_MODEL": "m"}
        with Terminal([MCPCHAT, "ask", "note: hi"], environ=environ, columns=100) as terminal:
            terminal.wait_for("[y]es")
            assert "notes wants to get more access: notes:write" in terminal.text
            terminal.send("y")
            terminal.wait_for("Noted.")
            assert terminal.wait_exit() == 0
        assert "noted: hi" in model.bodies[-1].decode()
        requested_scopes = [set(entry["asked"]["scope"].split()) for entry in server.journal() if "asked" in entry]
        assert requested_scopes == [{"notes:read", "offline_access"}, {"notes:read", "notes:write", "offline_access"}]
        assert [entry["path"] for entry in server.journal() if entry.get("path") == "/reg"] == ["/reg", "/reg"]
        assert "noted: again" in user.run_ok("call", "notes.write_note", "text=again")


@needs_published
def test_the_terminal_prompt_signs_in_with_a_pasted_address(tmp_path: Path) -> None:
    with notes(tmp_path) as (_, user), FakeOpenAI() as model:
        model.replies = [tool_call("notes__read_notes", "{}"), text("Milk.")]
        end_file = tmp_path / "ends"
        user.plan_browser(to=str(end_file))
        environ = {**user.environ, "OPENAI_BASE_URL": model.base_url, "MCPCHAT_MODEL": "m"}
        with Terminal([MCPCHAT, "ask", "what to buy?"], environ=environ, columns=200) as terminal:
            terminal.wait_for("[y]es")
            assert "notes wants to sign you in with your browser" in terminal.text
            terminal.send("y")
            terminal.wait_for("Or paste the address")
            terminal.send("http://127.0.0.1/callback?code=guessed&state=guessed\r")
            terminal.wait_for("not a valid callback: the state does not match this sign-in")
            user.browser_visits()
            terminal.send(end_file.read_text() + "\r")
            terminal.wait_for("Milk.")
            assert terminal.wait_exit() == 0


@needs_published
def test_a_failed_sign_in_affects_only_its_server(tmp_path: Path) -> None:
    with notes(tmp_path) as (_, user), FakeOpenAI() as model:
        user.config.write_text(user.config.read_text() + '[servers.calculator]\nbuiltin = "calculator"\n')
        user.plan_browser(deny="1")
        environ = {**user.environ, "OPENAI_BASE_URL": model.base_url, "MCPCHAT_MODEL": "m"}
        with Terminal([MCPCHAT, "ask", "hello"], environ=environ, columns=160) as terminal:
            terminal.wait_for("[y]es")
            terminal.send("y")
            terminal.wait_for("Hello.")
            assert terminal.wait_exit() == 0
            assert "notes: notes denied access" in terminal.text
            assert terminal.text.count("notes wants to sign you in") == 1
        names = [tool["function"]["name"] for tool in model.requests[-1]["tools"]]
        assert {name.partition("__")[0] for name in names} == {"calculator", "mcpchat"}


@needs_published
def test_a_sign_in_that_is_not_finished_can_be_skipped(tmp_path: Path) -> None:
    with notes(tmp_path) as (_, user), FakeOpenAI() as model:
        user.config.write_text(user.config.read_text() + '[servers.calculator]\nbuiltin = "calculator"\n')
        user.plan_browser(to=str(tmp_path / "ends"))  # the callback never comes
        environ = {**user.environ, "OPENAI_BASE_URL": model.base_url, "MCPCHAT_MODEL": "m"}
        with Terminal([MCPCHAT, "ask", "hello"], environ=environ, columns=160) as terminal:
            terminal.wait_for("[y]es")
            terminal.send("y")
            terminal.wait_for("Ctrl-D skips it, Ctrl-C stops")
            terminal.wait_for("Or paste the address")
            terminal.send("\x04")
            terminal.wait_for("Hello.")
            assert terminal.wait_exit() == 0
            assert "notes: the sign-in was skipped" in terminal.text
        names = [tool["function"]["name"] for tool in model.requests[-1]["tools"]]
        assert {name.partition("__")[0] for name in names} == {"calculator", "mcpchat"}


@needs_published
def test_a_chat_command_signs_in(tmp_path: Path) -> None:
    with notes(tmp_path) as (_, user), FakeOpenAI() as model:
        model.replies = [tool_call("notes__read_notes", "{}"), text("Milk.")]
        environ = {**user.environ, "OPENAI_BASE_URL": model.base_url, "MCPCHAT_MODEL": "m"}
        with Terminal([MCPCHAT], environ=environ, columns=120) as terminal:
            terminal.wait_for("notes wants a sign-in: /login notes")
            assert "[y]es" not in terminal.text
            terminal.send("/login notes\r")
            terminal.wait_for("Signed in to notes.")
            terminal.send("/servers\r")
            terminal.wait_for("signed in, renewed automatically")
            terminal.send("what to buy?\r")
            terminal.wait_for("Milk.")
            terminal.send("/exit\r")
            assert terminal.wait_exit() == 0
        assert "milk, eggs" in model.bodies[-1].decode()
        history = (user.home / ".local/state/mcpchat/history").read_text()
        assert "code=" not in history


@needs_published
def test_concurrent_calls_ask_once(tmp_path: Path) -> None:
    with notes(tmp_path) as (server, user), FakeOpenAI() as model:
        user.run_ok("auth", "login", "notes")
        user.config.write_text(user.config.read_text().replace('/mcp"\n', '/mcp"\nmax_parallel = 4\n'))
        calls = [("notes__write_note", json.dumps({"text": str(n)})) for n in range(3)]
        model.replies = [calls_response(calls), text("Noted.")]
        environ = {**user.environ, "OPENAI_BASE_URL": model.base_url, "MCPCHAT_MODEL": "m"}
        with Terminal([MCPCHAT, "ask", "note three"], environ=environ, columns=100) as terminal:
            terminal.wait_for("[y]es")
            terminal.send("y")
            terminal.wait_for("Noted.")
            assert terminal.text.count("notes wants to get more access") == 1
        assert all(f"noted: {n}" in model.bodies[-1].decode() for n in range(3))
        assert server.grants().count("authorization_code") == 2
        user.run_ok("auth", "login", "notes")
        assert "noted: x" in user.run_ok("call", "notes.write_note", "text=x")


@needs_published
def test_a_chat_notices_a_sign_in_by_another_process(tmp_path: Path) -> None:
    with notes(tmp_path) as (_, user), FakeOpenAI() as model:
        model.replies = [text("Hello."), tool_call("notes__read_notes", "{}"), text("Milk.")]
        environ = {**user.environ, "OPENAI_BASE_URL": model.base_url, "MCPCHAT_MODEL": "m"}
        with Terminal([MCPCHAT], environ=environ, columns=120) as terminal:
            terminal.wait_for("notes wants a sign-in")
            terminal.send("hi\r")
            terminal.wait_for("Hello.")
            user.run_ok("auth", "login", "notes")
            terminal.send("what to buy?\r")
            terminal.wait_for("Milk.")
            terminal.send("/exit\r")
            terminal.wait_exit()
        assert "milk, eggs" in model.bodies[-1].decode()


@needs_published
def test_another_login_does_not_see_cached_tools(tmp_path: Path) -> None:
    with notes(tmp_path) as (_, user):
        user.run_ok("auth", "login", "notes")
        assert "notes.read_notes" in user.run_ok("tools")
        user.run_ok("auth", "logout", "notes")
        completed = user.run("tools")
        assert "notes.read_notes" not in completed.stdout
        assert "notes wants a sign-in" in completed.stderr


@needs_published
def test_ctrl_c_ends_a_sign_in_without_leftovers(tmp_path: Path) -> None:
    with notes(tmp_path) as (_, user):
        with Terminal(
            [MCPCHAT, "auth", "login", "notes", "--no-browser"], environ=user.environ, columns=200
        ) as terminal:
            terminal.wait_for("Or paste the address")
            port = int(terminal.text.partition("redirect_uri=http%3A%2F%2F127.0.0.1%3A")[2].partition("%2F")[0])
            terminal.send("\x03")
            assert terminal.wait_exit() == 130
            assert "Traceback" not in terminal.text

        async def connect() -> None:
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)

        asyncio.run(connect())
        assert user.auth_status() == []


@needs_published
def test_with_configured_headers_there_is_no_sign_in(tmp_path: Path) -> None:
    with notes(tmp_path) as (server, user):
        user.config.write_text(
            user.config.read_text() + '[servers.notes.headers]\nAuthorization = "Bearer env:TOKEN"\n'
        )
        refusal = user.run("call", "notes.read_notes", TOKEN="wrong-token-0123")
        assert refusal.returncode == 3
        assert "set its headers in the config" in refusal.stderr
        login = user.run("auth", "login", "notes")
        assert (login.returncode, "gets its headers from the config" in login.stderr) == (2, True)
        assert server.journal() == []


@needs_published
def test_a_2025_03_26_server_without_metadata_uses_its_own_origin(tmp_path: Path) -> None:
    with notes(tmp_path, "no-metadata") as (server, user):
        failed = user.run("auth", "login", "notes")
        assert failed.returncode == 3
        assert "did not register mcpchat" in failed.stderr
        assert server.journal() == []


def test_impossible_sign_ins_are_reported(tmp_path: Path) -> None:
    user = SignInUser(tmp_path)
    user.config.write_text(
        '[servers.far]\nurl = "http://127.0.0.1:9/mcp"\n[servers.calculator]\nbuiltin = "calculator"\n'
    )
    assert "no provider or server is named 'fra'; did you mean far?" in user.run("auth", "login", "fra").stderr
    no_login = user.run("auth", "login", "calculator")
    assert (no_login.returncode, "calculator needs no login" in no_login.stderr) == (2, True)
    unavailable = user.run("auth", "login", "far", "--store", "file")
    assert (unavailable.returncode, "cannot be reached" in unavailable.stderr) == (4, True)
    assert user.run("auth", "login", "far", "--store", "cupboard").returncode == 2
    assert user.run("auth", "logout", "far").returncode == 2


# --- hostile discovery ------------------------------------------------------------------------------------------

Pages = Mapping[str, Any]


@pytest.fixture
def web() -> Iterator[Callable[[Callable[[str], Pages]], tuple[str, list[str]]]]:
    """Serve pages by path: a dict is sent as JSON, bytes are sent as they are, a tuple is (status, headers, bytes)."""
    servers: list[HttpServer] = []
    closing = threading.Event()

    def serve(pages_of: Callable[[str], Pages]) -> tuple[str, list[str]]:
        requests: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                requests.append(self.path)
                page = pages.get(self.path, (404, {}, b""))
                if page == "slow":
                    self.send_response(200)
                    self.end_headers()
                    with contextlib.suppress(OSError):
                        while not closing.wait(0.2):
                            self.wfile.write(b" ")
                    return
                page = json.dumps(page).encode() if isinstance(page, dict) else page
                status, headers, body = (200, {}, page) if isinstance(page, bytes) else page
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        server = HttpServer(Handler)
        servers.append(server)
        base = f"http://127.0.0.1:{server.server_port}"
        pages = pages_of(base)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return base, requests

    yield serve
    closing.set()
    for server in servers:
        server.shutdown()
        server.server_close()


PRM, ASM = "/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"


def resource_metadata(base: str, **fields: Any) -> dict[str, Any]:
    return {PRM: {"resource": f"{base}/mcp", "authorization_servers": [base]}, ASM: metadata(base, **fields)}


def metadata(base: str, **fields: Any) -> dict[str, Any]:
    return {
        "issuer": base,
        "authorization_endpoint": f"{base}/authorize",
        "token_endpoint": f"{base}/token",
        "registration_endpoint": f"{base}/register",
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        **fields,
    }


CHALLENGES = [
    ('Bearer scope="a b", resource_metadata="https://x/y"', ("https://x/y", ("a", "b"))),
    ('Bearer x_scope="evil", scope="ok"', (None, ("ok",))),
    ('Bearer error_description="scope=admin, or so", scope="ok"', (None, ("ok",))),
    ('Basic realm="scope", scope="no", Bearer scope=yes', (None, ("yes",))),
    ('Bearer scope=""', (None, ())),
    ('Bearer realm="a \\"quoted\\" one", scope="s"', (None, ("s",))),
    ("Bearer", (None, None)),
    ("Negotiate abc==, Bearer scope=x", (None, ("x",))),
    ("", (None, None)),
    ('Bearer scope="never closed', (None, ())),
]


@pytest.mark.parametrize(("header", "expected"), CHALLENGES)
def test_a_challenge_is_parsed_by_its_grammar(header: str, expected: tuple[Any, Any]) -> None:
    challenge = parse_challenge(httpx2.Response(401, headers={"WWW-Authenticate": header}))
    assert (challenge.metadata_url, challenge.scopes) == expected


async def discover_server(base: str, challenge: Challenge | None = None, **options: Any) -> Any:
    http = GuardedHttpClient(f"{base}/mcp")
    return await discover(f"{base}/mcp", challenge or Challenge(), http, issuer=None, **options)


async def test_correct_metadata_is_accepted(web: Any) -> None:
    base, _ = web(lambda base: resource_metadata(base, scopes_supported=["a"]))
    discovery = await discover_server(base)
    assert (discovery.resource, discovery.server.issuer, discovery.scopes) == (f"{base}/mcp", base, None)


@pytest.mark.parametrize("named", ["", "/"])
@pytest.mark.parametrize("called", ["", "/"])
async def test_an_issuer_with_and_without_its_slash_is_the_same(web: Any, named: str, called: str) -> None:
    def answers(base: str) -> dict[str, Any]:
        documents = resource_metadata(base, issuer=f"{base}{called}")
        documents[PRM]["authorization_servers"] = [f"{base}{named}"]
        return documents

    base, _ = web(answers)
    assert (await discover_server(base)).server.issuer == f"{base}{called}"


@pytest.mark.parametrize("issuer", ["/x", "/x/", "//", "/?", "/#"])
async def test_any_other_difference_of_an_issuer_is_refused(web: Any, issuer: str) -> None:
    base, _ = web(lambda base: resource_metadata(base, issuer=f"{base}{issuer}"))
    with pytest.raises(SignInNeeded, match="is for another issuer"):
        await discover_server(base)


@contextlib.contextmanager
def token_endpoint(answer: Callable[[dict[str, list[str]]], tuple[int, bytes]]) -> Iterator[str]:
    """Serve a token endpoint whose answers a test decides; yields the address of its server."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            status, body = answer(form)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with HttpServer(Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


HOSTILE: list[tuple[str, dict[str, Any], str]] = [
    ("no PKCE", {"code_challenge_methods_supported": None}, "PKCE"),
    ("plain PKCE alone", {"code_challenge_methods_supported": ["plain"]}, "PKCE"),
    ("another issuer", {"issuer": "https://evil.example"}, "is for another issuer"),
    ("a token endpoint without TLS", {"token_endpoint": "http://evil.example/token"}, "requires https"),
    ("an authorization endpoint without TLS", {"authorization_endpoint": "http://10.0.0.1/a"}, "requires https"),
    ("a user in the address", {"token_endpoint": "https://user@evil.example/token"}, "not a URL for requests"),
    ("a registration endpoint of another kind", {"registration_endpoint": "ftp://evil.example/"}, "no valid sign-in"),
]


@pytest.mark.parametrize(("fields", "message"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
async def test_untrusted_metadata_is_refused(web: Any, fields: dict[str, Any], message: str) -> None:
    base, _ = web(lambda base: resource_metadata(base, **fields))
    with pytest.raises(SignInNeeded, match=message):
        await discover_server(base)


async def test_a_user_can_vouch_for_pkce_where_the_metadata_is_silent(web: Any) -> None:
    base, _ = web(lambda base: resource_metadata(base, code_challenge_methods_supported=None))
    with pytest.raises(SignInNeeded) as raised:
        await discover_server(base)
    assert "assume_pkce = true" in raised.value.hint
    assert (await discover_server(base, assume_pkce=True)).server.issuer == base
    base, _ = web(lambda base: resource_metadata(base, code_challenge_methods_supported=["plain"]))
    with pytest.raises(SignInNeeded) as raised:
        await discover_server(base, assume_pkce=True)
    assert "assume_pkce" not in raised.value.hint


GRANTED = {"access_token": "a2-secret", "token_type": "Bearer", "expires_in": 3600}


def saved_login(base: str, **fields: Any) -> dict[str, Any]:
    client = {"client_id": "c", "client_secret": "", "kind": "configured", "method": "none"}
    tokens = {"access_token": "a1-secret", "refresh_token": "r1-secret", "expires_at": 1.0}
    return {"url": f"{base}/mcp", "issuer": base, "token_url": f"{base}/token", "client": client, **tokens, **fields}


async def test_a_renewal_names_the_granted_scopes() -> None:
    forms: list[dict[str, list[str]]] = []

    def answer(form: dict[str, list[str]]) -> tuple[int, bytes]:
        forms.append(form)
        return 200, json.dumps(GRANTED).encode()

    with token_endpoint(answer) as base:
        renewed = await oauth.refresh(saved_login(base, scopes=["mail.read", "offline_access"]))
        await oauth.refresh(saved_login(base, scopes=[]))
    assert renewed["access_token"] == "a2-secret"
    assert [form.get("scope") for form in forms] == [["mail.read offline_access"], None]


async def test_a_renewal_goes_without_scopes_that_the_server_does_not_accept() -> None:
    forms: list[dict[str, list[str]]] = []

    def answer(form: dict[str, list[str]]) -> tuple[int, bytes]:
        forms.append(form)
        return (400, b'{"error":"invalid_scope"}') if "scope" in form else (200, json.dumps(GRANTED).encode())

    with token_endpoint(answer) as base:
        renewed = await oauth.refresh(saved_login(base, scopes=["repo,user"]))
    assert (renewed["access_token"], len(forms)) == ("a2-secret", 2)


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize("body", [b"<html>Unauthorized</html>", b"{}", b""])
async def test_a_renewal_that_is_refused_without_a_reason_names_the_way_out(status: int, body: bytes) -> None:
    message = f"HTTP {status}, without a reason.*the saved login is unchanged"
    with token_endpoint(lambda form: (status, body)) as base, pytest.raises(RenewalRejected, match=message):
        await oauth.refresh(saved_login(base))


@pytest.mark.parametrize("odd", ["\r\n", "\n", "\x1b[2J", "\u202e", "\u200b", " ", "\t", "\0"])
@pytest.mark.parametrize("field", ["authorization_endpoint", "token_endpoint", "issuer", "authorization_servers"])
async def test_an_address_with_control_characters_is_refused_and_not_cleaned(web: Any, field: str, odd: str) -> None:
    def answers(base: str) -> dict[str, Any]:
        documents = resource_metadata(base)
        document = documents[PRM if field == "authorization_servers" else ASM]
        address = f"{base}/{odd}x"
        document[field] = [address] if field == "authorization_servers" else address
        return documents

    base, _ = web(answers)
    with pytest.raises(SignInNeeded, match=f"control characters in its {field}"):
        await discover_server(base)


def test_a_request_goes_to_the_address_that_was_checked() -> None:
    request = _pin_address(httpx2.Request("GET", "https://as.example:8443/x"), "as.example", "93.184.216.34")
    assert str(request.url) == "https://93.184.216.34:8443/x"
    assert (request.headers["Host"], request.extensions["sni_hostname"]) == ("as.example:8443", "as.example")
    assert (
        str(_pin_address(httpx2.Request("GET", "https://as.example/"), "as.example", "2606:2800::1").url)
        == "https://[2606:2800::1]/"
    )
    assert (
        str(_pin_address(httpx2.Request("GET", "https://as.example/"), "as.example", "").url) == "https://as.example/"
    )


async def test_metadata_at_another_origin_is_not_requested(web: Any) -> None:
    canary, requests = web(lambda base: resource_metadata(base))
    base, _ = web(lambda base: resource_metadata(base))
    challenge = Challenge(metadata_url=f"{canary}{PRM}")
    assert (await discover_server(base, challenge)).server.issuer == base  # from the server's own well-known place
    bare, _ = web(lambda base: {ASM: metadata(base)})
    with pytest.raises(SignInNeeded, match="another origin"):
        await discover_server(bare, challenge)
    assert requests == []


async def test_an_invalid_address_is_reported(web: Any) -> None:
    base, _ = web(lambda base: {ASM: metadata(base)})
    for address in ("https://[bad", "https://" + "a" * 70 + ".example/x", "https://..../x"):
        with pytest.raises(McpChatError):
            await discover_server(base, Challenge(metadata_url=address))
        with pytest.raises(McpChatError):
            await GuardedHttpClient("https://93.184.216.34/mcp").check_url(address)


async def test_metadata_of_another_server_is_not_used(web: Any) -> None:
    base, _ = web(lambda base: {PRM: {"resource": "https://other.example/mcp", "authorization_servers": [base]}})
    with pytest.raises(SignInNeeded, match="describes another server"):
        await discover_server(base)


async def test_a_redirect_to_another_origin_is_not_followed(web: Any) -> None:
    canary, requests = web(lambda base: resource_metadata(base))
    base, _ = web(lambda base: {PRM: (302, {"Location": f"{canary}{PRM}"}, b""), ASM: metadata(base)})
    await discover_server(base)
    assert requests == []


async def test_a_redirect_loop_ends(web: Any) -> None:
    base, _ = web(lambda base: {PRM: (302, {"Location": PRM}, b"")})
    with pytest.raises(ServerError, match="redirects too many times"):
        await discover_server(base)


OVERSIZED = [
    ("endless", b"[" + b"1," * MAX_BYTES, "more than"),
    ("packed", (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"), "compressed"),
]


@pytest.mark.parametrize(("page", "message"), [bomb[1:] for bomb in OVERSIZED], ids=[bomb[0] for bomb in OVERSIZED])
async def test_documents_are_limited(web: Any, page: Any, message: str) -> None:
    base, _ = web(lambda base: {PRM: page})
    with pytest.raises(ServerError, match=message):
        await discover_server(base)


async def test_documents_have_a_timeout(web: Any) -> None:
    base, _ = web(lambda base: {PRM: "slow"})
    with pytest.raises(ServerError, match=r"did not answer within 0\.5 s"):
        await discover(f"{base}/mcp", Challenge(), GuardedHttpClient(f"{base}/mcp", timeout=0.5), issuer=None)


@pytest.mark.parametrize("page", [b"[" * 200_000, b"\xff\xfe", b"[]", b'{"resource": 5}', b'{"resource": "https://a"}'])
async def test_invalid_metadata_is_ignored(web: Any, page: bytes) -> None:
    base, _ = web(lambda base: {PRM: page, ASM: metadata(base)})
    assert (await discover_server(base)).resource is None


PRIVATE = [
    "https://10.0.0.1/",
    "https://192.168.1.1/",
    "https://169.254.169.254/latest",
    "https://[::1]/",
    "https://localhost/",
    "https://224.0.0.1/",
    "https://[2002:7f00:1::]/",
    "https://[64:ff9b::a00:1]/",
    "https://[::ffff:10.0.0.1]/",
]


@pytest.mark.parametrize("url", [*PRIVATE, "https://127.0.0.1/", "https://[fd00::1]/", "https://0.0.0.0/"])
async def test_a_public_server_cannot_name_private_addresses(url: str) -> None:
    with pytest.raises(SignInNeeded, match="private network"):
        await GuardedHttpClient("https://93.184.216.34/mcp").check_url(url)


@pytest.mark.parametrize("url", ["http://93.184.216.34/", "ftp://93.184.216.34/", "https://", "https://[/", "//x", ""])
async def test_only_complete_https_addresses_are_used(url: str) -> None:
    with pytest.raises(McpChatError):
        await GuardedHttpClient("https://93.184.216.34/mcp").check_url(url)


async def test_a_private_server_may_name_private_addresses() -> None:
    http = GuardedHttpClient("https://10.0.0.5/mcp")
    await http.check_url("https://10.0.0.5/.well-known/x")
    await http.check_url("https://10.0.0.6/")
    await GuardedHttpClient("http://127.0.0.1:5/mcp").check_url("http://localhost:6/token")
