"""MCP OAuth: the installed command, an MCP server that wants a login, and oidc-provider as its authorization server."""

import asyncio
import contextlib
import http.server
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mcpchat.auth.mcp.discovery import Challenge, discover, parse_challenge
from mcpchat.auth.mcp.guarded_http import MAX_BYTES, GuardedHttpClient
from mcpchat.errors import McpChatError, ServerError, SignInNeeded
from tests.conformance_client import calls_response as several
from tests.fake_openai import FakeOpenAI, text, tool_call
from tests.sign_in import MCPCHAT, NODE, AuthorizationServer, SignInUser, authorization_server, python_server
from tests.terminal import Terminal

published = pytest.mark.skipif(
    not NODE.exists() and not os.environ.get("CI"), reason="scripts/published.py has not run"
)
pytestmark = pytest.mark.timeout(120)


@contextlib.contextmanager
def notes(tmp_path: Path, *variations: str, **options: Any) -> Iterator[tuple[AuthorizationServer, SignInUser]]:
    """A remote server of notes, its authorization server, and a user who keeps logins in a file."""
    with (
        authorization_server("mcp", **options) as server,
        python_server("oauth_protected.py", server.url, *variations) as url,
    ):
        desk = SignInUser(tmp_path)
        desk.config.write_text(
            f'[auth]\nstore = "file"\n[servers.notes]\nurl = "{url}/mcp"\n[approvals]\ndefault = "allow"\n'
        )
        yield server, desk


def record(desk: SignInUser) -> dict[str, Any]:
    """What is kept of the login."""
    return next(json.loads(data) for path, data in desk.home_files() if path.parent.name == "logins")


@published
def test_a_server_that_wants_a_login_says_what_to_type_and_one_login_serves_all_later_runs(tmp_path: Path) -> None:
    with notes(tmp_path) as (server, desk):
        refused = desk.run("call", "notes.read_notes")
        assert refused.returncode == 3
        assert refused.stderr == "error: notes wants a sign-in\n  mcpchat auth login notes\n"
        server.set_lifetime(2)
        assert "Signed in to notes" in desk.run_ok("auth", "login", "notes")
        server.set_lifetime(3600)
        time.sleep(2)
        assert "milk, eggs" in desk.run_ok("call", "notes.read_notes")
        assert "signed in, renewed automatically" in desk.run_ok("servers")
        desk.plan_browser()
        assert "milk, eggs" in desk.run_ok("call", "notes.read_notes")
        assert server.grants() == ["authorization_code", "refresh_token"]
        assert not desk.plan_file.with_suffix(".seen").exists()
        asked = next(entry for entry in server.journal() if "asked" in entry)["asked"]
        assert asked["resource"].endswith("/mcp")
        assert asked["code_challenge_method"] == "S256"
        (state,) = desk.auth_status("--check")
        assert (state["name"], state["state"], state["renews"]) == ("notes", "signed in", True)
        assert "It was revoked at notes" in desk.run_ok("auth", "logout", "notes")
        assert desk.run("call", "notes.read_notes").returncode == 3


@published
def test_the_record_binds_the_tokens_to_their_issuer_and_endpoints(tmp_path: Path) -> None:
    with notes(tmp_path) as (server, desk):
        desk.run_ok("auth", "login", "notes")
        kept = record(desk)
        assert kept["issuer"] == server.url
        assert kept["token_url"] == f"{server.url}/token"
        assert kept["expires_at"] > time.time() + 3000
        assert kept["client"]["kind"] == "registered"
        assert "id_token" not in kept


@published
def test_three_processes_renew_one_rotating_token_once_and_none_is_logged_out(tmp_path: Path) -> None:
    with notes(tmp_path) as (server, desk):
        server.set_lifetime(2)
        desk.run_ok("auth", "login", "notes")
        server.set_lifetime(3600)
        time.sleep(2)
        processes = [desk.start("call", "notes.read_notes") for _ in range(3)]
        for process in processes:
            out, err = process.communicate(timeout=60)
            assert (process.returncode, out) == (0, "milk, eggs\n"), err
        assert server.grants() == ["authorization_code", "refresh_token"]
        assert desk.auth_status("--check")[0]["state"] == "signed in"


@published
def test_a_kill_in_mid_renewal_and_an_interrupt_leave_the_login_whole(tmp_path: Path) -> None:
    with notes(tmp_path, lifetime=3) as (server, desk):
        desk.run_ok("auth", "login", "notes")
        time.sleep(3)
        server.plan_faults(token={"times": 1, "delay": 30_000, "status": 503})
        process = desk.start("call", "notes.read_notes")
        time.sleep(2)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert "milk, eggs" in desk.run_ok("call", "notes.read_notes")
        time.sleep(3)
        server.plan_faults(token={"times": 1, "delay": 3000})
        process = desk.start("call", "notes.read_notes")
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)  # while the new token is on its way
        process.communicate(timeout=30)
        assert process.returncode == 130
        assert "milk, eggs" in desk.run_ok("call", "notes.read_notes")


@published
def test_only_a_definite_refusal_ends_a_login(tmp_path: Path) -> None:
    with notes(tmp_path, lifetime=3) as (server, desk):
        desk.run_ok("auth", "login", "notes")
        time.sleep(3)
        server.plan_faults(token={"status": 503, "times": 50})
        down = desk.run("call", "notes.read_notes")
        assert down.returncode == 4
        assert "the saved login is unchanged" in down.stderr
        server.plan_faults(token={"times": 0})
        assert "milk, eggs" in desk.run_ok("call", "notes.read_notes")
        time.sleep(3)
        server.plan_faults(token={"status": 400, "times": 1, "body": {"error": "invalid_grant"}})
        assert desk.run("call", "notes.read_notes").returncode == 3
        (state,) = desk.auth_status()
        assert (state["state"], state["hint"]) == ("signed out", "mcpchat auth login notes")
        assert "refresh_token" not in record(desk)
        desk.run_ok("auth", "login", "notes")
        assert "milk, eggs" in desk.run_ok("call", "notes.read_notes")


@published
def test_a_step_up_is_asked_joined_and_repeated_once(tmp_path: Path) -> None:
    with notes(tmp_path) as (server, desk), FakeOpenAI() as model:
        desk.run_ok("auth", "login", "notes")
        refused = desk.run("call", "notes.write_note", "text=hi")
        assert refused.returncode == 3
        assert "mcpchat auth login notes --scope notes:write" in refused.stderr
        model.replies = [tool_call("notes__write_note", '{"text": "hi"}'), text("Noted.")]
        environ = {**desk.environ, "OPENAI_BASE_URL": model.base_url, "MCPCHAT_MODEL": "m"}
        with Terminal([MCPCHAT, "ask", "note: hi"], environ=environ, columns=100) as terminal:
            terminal.wait_for("[y]es")
            assert "notes wants to get more access: notes:write" in terminal.text
            terminal.send("y")
            terminal.wait_for("Noted.")
            assert terminal.wait_exit() == 0
        assert "noted: hi" in model.bodies[-1].decode()
        asked = [set(entry["asked"]["scope"].split()) for entry in server.journal() if "asked" in entry]
        assert asked == [{"notes:read", "offline_access"}, {"notes:read", "notes:write", "offline_access"}]
        assert [entry["path"] for entry in server.journal() if entry.get("path") == "/reg"] == ["/reg", "/reg"]
        assert "noted: again" in desk.run_ok("call", "notes.write_note", "text=again")


@published
def test_a_question_at_the_terminal_signs_in_and_a_pasted_address_is_an_answer(tmp_path: Path) -> None:
    with notes(tmp_path) as (_, desk), FakeOpenAI() as model:
        model.replies = [tool_call("notes__read_notes", "{}"), text("Milk.")]
        ends = tmp_path / "ends"
        desk.plan_browser(to=str(ends))
        environ = {**desk.environ, "OPENAI_BASE_URL": model.base_url, "MCPCHAT_MODEL": "m"}
        with Terminal([MCPCHAT, "ask", "what to buy?"], environ=environ, columns=200) as terminal:
            terminal.wait_for("[y]es")
            assert "notes wants to sign you in with your browser" in terminal.text
            terminal.send("y")
            terminal.wait_for("Or paste the address")
            terminal.send("http://127.0.0.1/callback?code=guessed&state=guessed\r")
            terminal.wait_for("not a valid callback: the state does not match this sign-in")
            desk.browser_visits()
            terminal.send(ends.read_text() + "\r")
            terminal.wait_for("Milk.")
            assert terminal.wait_exit() == 0


@published
def test_a_sign_in_that_fails_leaves_out_its_server_alone(tmp_path: Path) -> None:
    with notes(tmp_path) as (_, desk), FakeOpenAI() as model:
        desk.config.write_text(desk.config.read_text() + '[servers.calculator]\nbuiltin = "calculator"\n')
        desk.plan_browser(deny="1")
        environ = {**desk.environ, "OPENAI_BASE_URL": model.base_url, "MCPCHAT_MODEL": "m"}
        with Terminal([MCPCHAT, "ask", "hello"], environ=environ, columns=160) as terminal:
            terminal.wait_for("[y]es")
            terminal.send("y")
            terminal.wait_for("Hello.")
            assert terminal.wait_exit() == 0
            assert "notes: notes denied access" in terminal.text
            assert terminal.text.count("[y]es") == 1
        names = [tool["function"]["name"] for tool in model.requests[-1]["tools"]]
        assert {name.partition("__")[0] for name in names} == {"calculator", "mcpchat"}


@published
def test_the_chat_signs_in_by_a_command(tmp_path: Path) -> None:
    with notes(tmp_path) as (_, desk), FakeOpenAI() as model:
        model.replies = [tool_call("notes__read_notes", "{}"), text("Milk.")]
        environ = {**desk.environ, "OPENAI_BASE_URL": model.base_url, "MCPCHAT_MODEL": "m"}
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
        history = (desk.home / ".local/state/mcpchat/history").read_text()
        assert "code=" not in history


@published
def test_calls_at_the_same_time_ask_once(tmp_path: Path) -> None:
    with notes(tmp_path) as (server, desk), FakeOpenAI() as model:
        desk.run_ok("auth", "login", "notes")
        desk.config.write_text(desk.config.read_text().replace('/mcp"\n', '/mcp"\nmax_parallel = 4\n'))
        calls = [("notes__write_note", json.dumps({"text": str(n)})) for n in range(3)]
        model.replies = [several(calls), text("Noted.")]
        environ = {**desk.environ, "OPENAI_BASE_URL": model.base_url, "MCPCHAT_MODEL": "m"}
        with Terminal([MCPCHAT, "ask", "note three"], environ=environ, columns=100) as terminal:
            terminal.wait_for("[y]es")
            terminal.send("y")
            terminal.wait_for("Noted.")
            assert terminal.text.count("[y]es") == 1
        assert all(f"noted: {n}" in model.bodies[-1].decode() for n in range(3))
        assert server.grants().count("authorization_code") == 2
        desk.run_ok("auth", "login", "notes")
        assert "noted: x" in desk.run_ok("call", "notes.write_note", "text=x")


@published
def test_a_chat_notices_a_sign_in_that_was_made_elsewhere(tmp_path: Path) -> None:
    with notes(tmp_path) as (_, desk), FakeOpenAI() as model:
        model.replies = [text("Hello."), tool_call("notes__read_notes", "{}"), text("Milk.")]
        environ = {**desk.environ, "OPENAI_BASE_URL": model.base_url, "MCPCHAT_MODEL": "m"}
        with Terminal([MCPCHAT], environ=environ, columns=120) as terminal:
            terminal.wait_for("notes wants a sign-in")
            terminal.send("hi\r")
            terminal.wait_for("Hello.")
            desk.run_ok("auth", "login", "notes")
            terminal.send("what to buy?\r")
            terminal.wait_for("Milk.")
            terminal.send("/exit\r")
            terminal.wait_exit()
        assert "milk, eggs" in model.bodies[-1].decode()


@published
def test_what_was_listed_to_one_login_is_not_shown_to_the_next(tmp_path: Path) -> None:
    with notes(tmp_path) as (_, desk):
        desk.run_ok("auth", "login", "notes")
        assert "notes.read_notes" in desk.run_ok("tools")
        desk.run_ok("auth", "logout", "notes")
        told = desk.run("tools")
        assert "notes.read_notes" not in told.stdout
        assert "notes wants a sign-in" in told.stderr


@published
def test_ctrl_c_ends_a_sign_in_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with notes(tmp_path) as (_, desk):
        with Terminal(
            [MCPCHAT, "auth", "login", "notes", "--no-browser"], environ=desk.environ, columns=200
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
        assert desk.auth_status() == []


@published
def test_headers_of_ones_own_mean_that_nobody_signs_in(tmp_path: Path) -> None:
    with notes(tmp_path) as (server, desk):
        desk.config.write_text(
            desk.config.read_text() + '[servers.notes.headers]\nAuthorization = "Bearer env:TOKEN"\n'
        )
        refused = desk.run("call", "notes.read_notes", TOKEN="wrong-token-0123")
        assert refused.returncode == 3
        assert "set its headers in the config" in refused.stderr
        login = desk.run("auth", "login", "notes")
        assert (login.returncode, "gets its headers from the config" in login.stderr) == (2, True)
        assert server.journal() == []


@published
def test_a_server_of_2025_03_26_that_describes_nothing_is_not_signed_in_to_elsewhere(tmp_path: Path) -> None:
    with notes(tmp_path, "no-metadata") as (server, desk):
        failed = desk.run("auth", "login", "notes")
        assert failed.returncode == 3
        assert "did not register mcpchat" in failed.stderr
        assert server.journal() == []


def test_what_cannot_be_signed_in_to_is_told(tmp_path: Path) -> None:
    desk = SignInUser(tmp_path)
    desk.config.write_text(
        '[servers.far]\nurl = "http://127.0.0.1:9/mcp"\n[servers.calculator]\nbuiltin = "calculator"\n'
    )
    assert "no provider or server is named 'fra'; did you mean far?" in desk.run("auth", "login", "fra").stderr
    takes_none = desk.run("auth", "login", "calculator")
    assert (takes_none.returncode, "calculator needs no login" in takes_none.stderr) == (2, True)
    down = desk.run("auth", "login", "far", "--store", "file")
    assert (down.returncode, "cannot be reached" in down.stderr) == (4, True)
    assert desk.run("auth", "login", "far", "--store", "cupboard").returncode == 2
    assert desk.run("auth", "logout", "far").returncode == 2


# --- hostile discovery ------------------------------------------------------------------------------------------

Pages = Mapping[str, Any]


@pytest.fixture
def web() -> Iterator[Callable[[Callable[[str], Pages]], tuple[str, list[str]]]]:
    """Serves pages by path: a dict is JSON, bytes are as they are, a tuple is (status, headers, bytes)."""
    servers: list[http.server.ThreadingHTTPServer] = []
    closing = threading.Event()

    def serve(pages_of: Callable[[str], Pages]) -> tuple[str, list[str]]:
        asked: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
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

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        servers.append(server)
        base = f"http://127.0.0.1:{server.server_port}"
        pages = pages_of(base)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return base, asked

    yield serve
    closing.set()
    for server in servers:
        server.shutdown()
        server.server_close()


PRM, ASM = "/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"


def described(base: str, **more: Any) -> dict[str, Any]:
    return {PRM: {"resource": f"{base}/mcp", "authorization_servers": [base]}, ASM: metadata(base, **more)}


def metadata(base: str, **more: Any) -> dict[str, Any]:
    return {
        "issuer": base,
        "authorization_endpoint": f"{base}/authorize",
        "token_endpoint": f"{base}/token",
        "registration_endpoint": f"{base}/register",
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        **more,
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
def test_a_challenge_is_read_as_its_grammar_has_it(header: str, expected: tuple[Any, Any]) -> None:
    said = parse_challenge(httpx2.Response(401, headers={"WWW-Authenticate": header}))
    assert (said.metadata_url, said.scopes) == expected


async def found(base: str, challenge: Challenge | None = None) -> Any:
    return await discover(f"{base}/mcp", challenge or Challenge(), GuardedHttpClient(f"{base}/mcp"), issuer=None)


async def test_a_well_behaved_server_is_understood(web: Any) -> None:
    base, _ = web(lambda base: described(base, scopes_supported=["a"]))
    place = await found(base)
    assert (place.resource, place.server.issuer, place.scopes) == (f"{base}/mcp", base, None)


HOSTILE: list[tuple[str, dict[str, Any], str]] = [
    ("no PKCE", {"code_challenge_methods_supported": None}, "PKCE"),
    ("plain PKCE alone", {"code_challenge_methods_supported": ["plain"]}, "PKCE"),
    ("another issuer", {"issuer": "https://evil.example"}, "is for another issuer"),
    ("a token endpoint without TLS", {"token_endpoint": "http://evil.example/token"}, "requires https"),
    ("an authorization endpoint without TLS", {"authorization_endpoint": "http://10.0.0.1/a"}, "requires https"),
    ("a user in the address", {"token_endpoint": "https://user@evil.example/token"}, "not a URL for requests"),
    ("a registration endpoint of another kind", {"registration_endpoint": "ftp://evil.example/"}, "no valid sign-in"),
]


@pytest.mark.parametrize(("more", "words"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
async def test_metadata_that_must_not_be_trusted_is_refused(web: Any, more: dict[str, Any], words: str) -> None:
    base, _ = web(lambda base: described(base, **more))
    with pytest.raises(SignInNeeded, match=words):
        await found(base)


async def test_a_description_at_another_origin_is_never_asked_for(web: Any) -> None:
    canary, asked = web(lambda base: described(base))
    base, _ = web(lambda base: described(base))
    with pytest.raises(SignInNeeded, match="another origin"):
        await found(base, Challenge(metadata_url=f"{canary}{PRM}"))
    assert asked == []


async def test_an_address_that_is_none_is_told(web: Any) -> None:
    base, _ = web(lambda base: described(base))
    for address in ("https://[bad", "https://" + "a" * 70 + ".example/x", "https://..../x"):
        with pytest.raises(McpChatError):
            await found(base, Challenge(metadata_url=address))
        with pytest.raises(McpChatError):
            await GuardedHttpClient("https://93.184.216.34/mcp").check_url(address)


async def test_a_description_of_another_server_is_not_used(web: Any) -> None:
    base, _ = web(lambda base: {PRM: {"resource": "https://other.example/mcp", "authorization_servers": [base]}})
    with pytest.raises(SignInNeeded, match="describes another server"):
        await found(base)


async def test_a_redirect_to_another_origin_is_not_followed(web: Any) -> None:
    canary, asked = web(lambda base: described(base))
    base, _ = web(lambda base: {PRM: (302, {"Location": f"{canary}{PRM}"}, b""), ASM: metadata(base)})
    await found(base)
    assert asked == []


async def test_a_redirect_in_circles_ends(web: Any) -> None:
    base, _ = web(lambda base: {PRM: (302, {"Location": PRM}, b"")})
    with pytest.raises(ServerError, match="redirects too many times"):
        await found(base)


BOMBS = [
    ("endless", b"[" + b"1," * MAX_BYTES, "more than"),
    ("packed", (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"), "compressed"),
]


@pytest.mark.parametrize(("page", "words"), [bomb[1:] for bomb in BOMBS], ids=[bomb[0] for bomb in BOMBS])
async def test_documents_are_bounded(web: Any, page: Any, words: str) -> None:
    base, _ = web(lambda base: {PRM: page})
    with pytest.raises(ServerError, match=words):
        await found(base)


async def test_documents_are_bounded_in_time(web: Any) -> None:
    base, _ = web(lambda base: {PRM: "slow"})
    with pytest.raises(ServerError, match=r"did not answer within 0\.5 s"):
        await discover(f"{base}/mcp", Challenge(), GuardedHttpClient(f"{base}/mcp", timeout=0.5), issuer=None)


@pytest.mark.parametrize("page", [b"[" * 200_000, b"\xff\xfe", b"[]", b'{"resource": 5}', b'{"resource": "https://a"}'])
async def test_nonsense_counts_as_nothing(web: Any, page: bytes) -> None:
    base, _ = web(lambda base: {PRM: page, ASM: metadata(base)})
    assert (await found(base)).resource is None


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
async def test_a_public_server_leads_nobody_into_a_private_network(url: str) -> None:
    with pytest.raises(SignInNeeded, match="private network"):
        await GuardedHttpClient("https://93.184.216.34/mcp").check_url(url)


@pytest.mark.parametrize("url", ["http://93.184.216.34/", "ftp://93.184.216.34/", "https://", "https://[/", "//x", ""])
async def test_only_whole_https_addresses_are_asked(url: str) -> None:
    with pytest.raises(McpChatError):
        await GuardedHttpClient("https://93.184.216.34/mcp").check_url(url)


async def test_a_server_in_a_private_network_may_sign_in_there() -> None:
    http = GuardedHttpClient("https://10.0.0.5/mcp")
    await http.check_url("https://10.0.0.5/.well-known/x")
    await http.check_url("https://10.0.0.6/")
    await GuardedHttpClient("http://127.0.0.1:5/mcp").check_url("http://localhost:6/token")
