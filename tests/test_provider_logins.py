"""Google and other providers: the installed command against oidc-provider, set up to behave as Google does."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_openai import FakeOpenAI, text, tool_call
from tests.sign_in import (
    CLIENT,
    DRIVE,
    HAS_SECRET_SERVICE,
    MAIL,
    MCPCHAT,
    NODE,
    SEND,
    SERVERS,
    SHEETS,
    AuthorizationServer,
    SecretService,
    SignInUser,
    authorization_server,
    issue_certificates,
)
from tests.terminal import Terminal

pytestmark = [
    pytest.mark.skipif(not NODE.exists() and not os.environ.get("CI"), reason="scripts/published.py has not run"),
    pytest.mark.timeout(120),
]
REGISTERED = {
    **CLIENT,
    "redirect_uris": ["http://127.0.0.1/callback"],
    "application_type": "native",
    "grant_types": ["authorization_code", "refresh_token"],
}
PUBLIC = {**REGISTERED, "client_id": "public", "token_endpoint_auth_method": "none"}
PUBLIC.pop("client_secret")
SCOPES = ["email", MAIL, SEND, DRIVE, SHEETS]


@contextlib.contextmanager
def google(tmp_path: Path, **options: Any) -> Iterator[tuple[AuthorizationServer, SignInUser]]:
    """Google as it behaves, and a user of it who keeps logins in a file."""
    paths = issue_certificates(tmp_path)
    where = {"ca": paths["ca"], "key": str(paths["key"]), "cert": str(paths["cert"])}
    with authorization_server("google", **where, clients=[REGISTERED, PUBLIC], scopes=SCOPES, **options) as server:
        trusted = {"SSL_CERT_FILE": str(paths["ca"]), "REQUESTS_CA_BUNDLE": str(paths["ca"])}
        desk = SignInUser(tmp_path, SECRET=CLIENT["client_secret"], EXPIRED=str(tmp_path / "expired"), **trusted)
        desk.config.write_text(config(server))
        yield server, desk


def config(server: AuthorizationServer, *, store: str = "file", extra: str = "", mail: str = MAIL) -> str:
    return f"""
[auth]
store = "{store}"
[auth.google]
client_id = "{CLIENT["client_id"]}"
client_secret = "env:SECRET"
authorization_url = "{server.url}/auth"
token_url = "{server.url}/token"
revocation_url = "{server.url}/revoke"
userinfo_url = "{server.url}/me"
issuer = "{server.url}"
{user("mail", mail)}
{user("sheets", SHEETS)}
[approvals]
default = "allow"
{extra}
"""


def user(name: str, *scopes: str, more: str = 'auth = "google"', script_arguments: str = "") -> str:
    script = f'"{SERVERS / "token_user.py"}"{script_arguments}'
    return f"""
[servers.{name}]
command = "{sys.executable}"
args = [{script}]
env_pass = ["EXPIRED"]
{more}
scopes = {json.dumps(scopes)}
"""


def login(desk: SignInUser, *words: str, **plan: Any) -> str:
    desk.plan_browser(**plan)
    return desk.run_ok("auth", "login", "google", *words)


def environment(desk: SignInUser, server: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(desk.run("call", f"{server}.environment").stdout)
    return found


def test_signing_in_once_serves_every_server_with_its_own_scopes(tmp_path: Path) -> None:
    with google(tmp_path) as (server, desk):
        told = login(desk)
        assert "Asking Google for: Gmail (read), Sheets (read, write)" in told
        assert "Signed in to google as alice@example.com." in told
        assert "NOT encrypted" in told
        assert told.index("https://") < told.index("a browser was started")
        (state,) = desk.auth_status("--check")
        assert (state["state"], state["account"], state["default"]) == ("signed in", "alice@example.com", True)
        seen = environment(desk, "mail")
        assert seen["length"] == "43"
        assert float(seen["expires"]) > time.time() + 3000
        assert environment(desk, "sheets")["length"] == "43"
        scopes = [entry.get("scope") for entry in server.journal() if entry.get("grant") == "refresh_token"]
        assert scopes == [None, MAIL, SHEETS]  # the first is of --check


def test_the_request_is_as_the_rules_for_native_apps_have_it(tmp_path: Path) -> None:
    with google(tmp_path) as (server, desk):
        login(desk)
        asked = next(entry["asked"] for entry in server.journal() if "asked" in entry)
        assert asked["code_challenge_method"] == "S256"
        assert len(asked["state"]) >= 43
        assert asked["redirect_uri"].startswith("http://127.0.0.1:")
        assert desk.browser_visits()[-1]["status"] == 200
        assert "Answer received" in desk.browser_visits()[-1]["text"]
        assert "include_granted_scopes=true" in desk.browser_visits()[0]["url"]


def test_what_was_not_granted_is_told_for_each_server_and_asked_for_again(tmp_path: Path) -> None:
    with google(tmp_path) as (server, desk):
        told = login(desk, scope=f"openid email {SHEETS}")
        assert "mail will not start until you allow it Gmail (read): mcpchat auth login google" in told
        (state,) = desk.auth_status()
        assert (state["missing"], state["servers"]) == ([MAIL], ["mail", "sheets"])
        assert environment(desk, "sheets")["length"] == "43"
        refused = desk.run("call", "mail.environment")
        assert refused.returncode == 3
        assert "mail needs access that was not granted: Gmail (read)\n  mcpchat auth login google" in refused.stderr
        listed = desk.run("servers").stdout
        assert "not granted" in listed
        desk.config.write_text(config(server, extra=user("drive", DRIVE)))
        login(desk)
        (state,) = desk.auth_status()
        assert state["missing"] == []
        assert {MAIL, SHEETS, DRIVE} <= set(state["scopes"])


def test_several_accounts_each_serve_who_wants_them(tmp_path: Path) -> None:
    with google(tmp_path) as (server, desk):
        login(desk)
        extra = user("office", DRIVE, more='auth = "google"\naccount = "work"')
        desk.config.write_text(config(server, extra=extra))
        assert desk.run("call", "office.environment").returncode == 3
        assert [(one["alias"], one["hint"]) for one in desk.auth_status()][1:] == [
            ("work", "mcpchat auth login google --account work")
        ]
        told = login(desk, "--account", "work", login="alice@company.example")
        assert "as alice@company.example" in told
        assert "Asking Google for: Drive (read, write)\n" in told
        assert "prompt=select_account+consent" in told
        assert environment(desk, "office")["length"] == "43"
        first, second = desk.auth_status()
        assert (first["account"], first["default"], first["servers"]) == ("alice@example.com", True, ["mail", "sheets"])
        assert (second["alias"], second["account"]) == ("work", "alice@company.example")
        assert (second["default"], second["servers"]) == (False, ["office"])
        several = desk.run("auth", "logout", "google")
        assert several.returncode == 2
        assert "choose one with --account" in several.stderr
        told = login(desk, "--account", "work", login="eve@company.example")
        assert "You signed in as eve@company.example, not as alice@company.example" in told
        assert "work is now eve@company.example" in told
        assert [(one["alias"], one["default"]) for one in desk.auth_status()] == [
            ("", True),
            ("", False),
            ("work", False),
        ]
        assert "revoked at google" in desk.run_ok("auth", "logout", "google", "--account", "work")
        desk.run_ok("auth", "logout", "google", "--account", "alice@company.example")
        assert [state["account"] for state in desk.auth_status()] == ["alice@example.com", ""]
        login(desk, "--account", "bob@example.com", login="carol@example.com")
        assert "You signed in as carol@example.com, not as bob@example.com" in desk.output
        assert "revoked at google" in desk.run_ok("auth", "logout", "google", "--all")
        assert [state["state"] for state in desk.auth_status()] == ["not signed in", "not signed in"]


def test_a_server_by_its_name_means_its_own_account(tmp_path: Path) -> None:
    with google(tmp_path) as (server, desk):
        alone = user("office", DRIVE, more='auth = "google"\naccount = "work"')
        text = config(server).replace(user("mail", MAIL), "").replace(user("sheets", SHEETS), alone)
        desk.config.write_text(text)
        told = desk.run("auth", "login", "google")
        assert (told.returncode, "mcpchat auth login google --account work" in told.stderr) == (2, True)
        desk.plan_browser(login="bob@example.com")
        assert "as bob@example.com" in desk.run_ok("auth", "login", "office")
        assert environment(desk, "office")["length"] == "43"
        desk.plan_browser(login="bob@example.com")
        desk.run_ok("auth", "login", "google", "--account", "alice@example.com")
        assert [one["alias"] for one in desk.auth_status() if one["account"] == "bob@example.com"] == ["work"]


def test_signing_out_revokes_removes_and_tells_the_truth(tmp_path: Path) -> None:
    with google(tmp_path) as (server, desk):
        login(desk)
        assert "was removed from a file (NOT encrypted). It was revoked at google" in desk.run_ok(
            "auth", "logout", "google"
        )
        assert {"path": "/revoke", "known": True, "query": False} in server.journal()
        assert desk.auth_status()[0]["state"] == "not signed in"
        assert desk.run("auth", "logout", "google").returncode == 2
        login(desk)
        server.plan_faults(revoke={"status": 503})
        failed = desk.run("auth", "logout", "google")
        assert failed.returncode == 1
        assert "was removed from" in failed.stderr
        assert "could NOT be revoked at google: Google answered HTTP 503" in failed.stderr
        assert desk.auth_status()[0]["state"] == "not signed in"
        login(desk)
        before = len(server.journal())
        assert "It was not revoked at google" in desk.run_ok("auth", "logout", "google", "--local")
        assert len(server.journal()) == before
        assert not [path for path, data in desk.home_files() if b"refresh_token" in data]


def test_a_keyring_that_has_gone_bars_nobody_from_a_file_or_from_signing_out(tmp_path: Path) -> None:
    if not HAS_SECRET_SERVICE:
        pytest.skip("gnome-keyring is not installed")
    bus = tmp_path / "bus"
    bus.mkdir()
    service = SecretService(bus)
    service.start()
    with google(tmp_path) as (server, desk):
        desk.config.write_text(config(server, store="keyring"))
        desk.environ |= service.environ
        login(desk)
        service.stop()
        gone = desk.run("auth", "login", "google")
        assert (gone.returncode, "--store file" in gone.stderr) == (1, True)
        told = login(desk, "--store", "file")
        assert "The old login is still in Secret Service" in told
        assert desk.auth_status()[0]["kept_in"] == "a file (NOT encrypted)"
        assert environment(desk, "mail")["length"] == "43"
        desk.run_ok("auth", "logout", "google")
        index = desk.home / ".local/state/mcpchat/accounts.json"
        index.write_text(index.read_text().replace("[]", json.dumps([KEPT_IN_KEYRING])))
        out = desk.run("auth", "logout", "google", "--local")
        assert out.returncode == 1
        assert "was removed from the list, but its secret is still in Secret Service" in out.stderr
        assert desk.auth_status()[0]["state"] == "not signed in"


KEPT_IN_KEYRING = {
    "key": "google/zoe", "kind": "provider", "login": "google", "account": "zoe", "kept_in": "Secret Service",
}  # fmt: skip


def test_servers_of_the_same_scopes_are_each_renewed(tmp_path: Path) -> None:
    with google(tmp_path, lifetime=6) as (server, desk), FakeOpenAI() as model:
        desk.config.write_text(config(server, extra=user("second", MAIL)))
        login(desk)
        both = [tool_call("mail__environment", "{}"), tool_call("second__environment", "{}"), text("Done.")]
        model.replies = [*both, *both]
        environ = {**desk.environ, "OPENAI_BASE_URL": model.base_url, "MCPCHAT_MODEL": "m"}
        with Terminal([MCPCHAT], environ=environ, columns=120) as terminal:
            terminal.wait_for("/help")
            terminal.send("first\r")
            terminal.wait_for("Done.")
            server.set_lifetime(3600)
            time.sleep(6.5)
            terminal.send("second\r")
            terminal.wait_for("Done.", count=2)
            for name in ("mail", "second"):
                assert f"renewed the google login of {name}" in terminal.text
            terminal.send("/exit\r")
            terminal.wait_exit()


def test_a_refusal_and_a_silence_are_told(tmp_path: Path) -> None:
    with google(tmp_path) as (_, desk):
        desk.plan_browser(deny="1")
        refused = desk.run("auth", "login", "google")
        assert refused.returncode == 3
        assert "Google denied access: The user did not consent" in refused.stderr
        assert "\x1b" not in refused.stderr
        late = desk.run("auth", "login", "google", "--timeout", "1", "--no-browser")
        assert late.returncode == 3
        assert "no sign-in within 1 s" in late.stderr
        assert "browser" not in late.stderr.split("nobody")[0].replace("https", "")


def test_without_a_keyring_no_browser_is_opened(tmp_path: Path) -> None:
    with google(tmp_path) as (server, desk):
        desk.config.write_text(config(server, store="keyring"))
        failed = desk.run("auth", "login", "google")
        assert failed.returncode == 1
        assert "there is no keyring" in failed.stderr
        assert "--store file" in failed.stderr
        assert not desk.plan_file.with_suffix(".seen").exists()
        assert server.journal() == []
        assert "NOT encrypted" in desk.run_ok("auth", "login", "google", "--store", "file")
        assert "NOT encrypted" in desk.run_ok("auth", "status")


def test_a_login_that_ends_says_so_and_a_provider_in_trouble_does_not_end_it(tmp_path: Path) -> None:
    with google(tmp_path) as (server, desk):
        login(desk)
        server.plan_faults(token={"status": 503, "times": 10})
        down = desk.run("call", "mail.environment")
        assert down.returncode == 4
        assert "the saved login is unchanged" in down.stderr
        assert desk.auth_status("--check")[0]["state"] == "unknown"
        server.plan_faults(token={"times": 0})
        assert environment(desk, "mail")["length"] == "43"
        server.plan_faults(
            token={"status": 400, "times": 1, "body": {"error": "invalid_grant", "error_description": "expired"}}
        )
        ended = desk.run("call", "mail.environment")
        assert ended.returncode == 3
        assert "the google login has ended: expired" in ended.stderr
        assert "seven days" in ended.stderr
        (state,) = desk.auth_status("--check")
        assert (state["state"], state["hint"]) == ("signed out", "mcpchat auth login google")
        assert desk.run("auth", "status", "--check").returncode == 3
        assert desk.run("call", "mail.environment").returncode == 3
        login(desk)
        assert environment(desk, "mail")["length"] == "43"


def test_a_401_of_the_provider_is_answered_with_a_new_token_and_one_repetition(tmp_path: Path) -> None:
    with google(tmp_path) as (_, desk):
        login(desk)
        expired = tmp_path / "expired"
        expired.write_text("1 0")
        assert "call 2" in desk.run_ok("call", "mail.count")
        assert "renewed the google login of mail" in desk.output
        expired.write_text("5 0")
        failed = desk.run("call", "mail.count")
        assert failed.returncode == 5
        assert expired.read_text() == "3 2"


def test_a_chat_of_hours_goes_on_without_a_browser(tmp_path: Path) -> None:
    with google(tmp_path, lifetime=6) as (server, desk), FakeOpenAI() as model:
        login(desk)
        desk.plan_browser()
        model.replies = [
            reply
            for word in ("one", "two")
            for reply in (tool_call("mail__environment", "{}"), text(f"That was {word}."))
        ]
        environ = {**desk.environ, "OPENAI_BASE_URL": model.base_url, "MCPCHAT_MODEL": "m"}
        with Terminal([MCPCHAT], environ=environ, columns=120) as terminal:
            terminal.wait_for("/help")
            terminal.send("first\r")
            terminal.wait_for("That was one.")
            server.set_lifetime(3600)
            time.sleep(6.5)
            terminal.send("second\r")
            terminal.wait_for("That was two.")
            assert terminal.text.count("renewed the google login of mail") == 1
            terminal.send("/exit\r")
            terminal.wait_exit()
        results = [json.loads(m["content"]) for m in model.requests[-1]["messages"] if m["role"] == "tool"]
        assert len({result["pid"] for result in results}) == 2
        assert {result["length"] for result in results} == {"43"}
        assert not desk.plan_file.with_suffix(".seen").exists()
        assert server.grants().count("authorization_code") == 1


def test_a_rotating_refresh_token_survives_many_processes(tmp_path: Path) -> None:
    with google(tmp_path, rotate=True) as (server, desk):
        login(desk)
        processes = [desk.start("call", "mail.environment") for _ in range(3)]
        for process in processes:
            out, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
            assert json.loads(out)["length"] == "43"
        assert server.grants() == ["authorization_code", "refresh_token"]
        assert environment(desk, "sheets")["length"] == "43"
        assert desk.auth_status("--check")[0]["state"] == "signed in"


def test_a_process_that_is_killed_in_mid_renewal_leaves_the_login_whole(tmp_path: Path) -> None:
    with google(tmp_path, rotate=True) as (server, desk):
        login(desk)
        server.plan_faults(token={"times": 1, "delay": 4000, "status": 503})
        process = desk.start("call", "mail.environment")
        time.sleep(2.5)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert environment(desk, "mail")["length"] == "43"


def test_the_client_comes_from_the_environment_or_googles_file(tmp_path: Path) -> None:
    with google(tmp_path) as (server, desk):
        text = config(server)
        bare = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("client_"))
        desk.config.write_text(bare)
        none = desk.run("auth", "login", "google")
        assert none.returncode == 2
        assert "[auth.google] has no client_id" in none.stderr
        assert "docs/google.md" in none.stderr
        desk.plan_browser()
        named = {
            "MCPCHAT_GOOGLE_CLIENT_ID": CLIENT["client_id"],
            "MCPCHAT_GOOGLE_CLIENT_SECRET": CLIENT["client_secret"],
        }
        assert "Signed in" in desk.run_ok("auth", "login", "google", **named)
        secrets = tmp_path / "client_secret.json"
        secrets.write_text(json.dumps({"installed": {**CLIENT, "project_id": "p"}}))
        assert "Signed in" in desk.run_ok("auth", "login", "google", MCPCHAT_GOOGLE_CLIENT_SECRETS_FILE=str(secrets))
        secrets.write_text("{}")
        wrong = desk.run("auth", "login", "google", MCPCHAT_GOOGLE_CLIENT_SECRETS_FILE=str(secrets))
        assert (wrong.returncode, "is not the client file" in wrong.stderr) == (2, True)


def test_a_machine_is_given_its_refresh_token_by_reference(tmp_path: Path) -> None:
    with google(tmp_path) as (server, desk):
        login(desk)
        record = next(json.loads(data) for path, data in desk.home_files() if b"refresh_token" in data)
        shutil.rmtree(desk.home)
        desk.home.mkdir()
        given = config(server, store="keyring").replace("[auth.google]", '[auth.google]\nrefresh_token = "env:REFRESH"')
        desk.config.write_text(given)
        done = desk.run("call", "mail.environment", REFRESH=record["refresh_token"])
        assert json.loads(done.stdout)["length"] == "43"
        (state,) = desk.auth_status()
        assert (state["state"], state["kept_in"]) == ("signed in", "env:REFRESH")


def test_another_provider_is_a_table_of_the_config(tmp_path: Path) -> None:
    with google(tmp_path) as (server, desk):
        desk.config.write_text(f"""
[auth]
store = "file"
[auth.acme]
client_id = "public"
authorization_url = "{server.url}/auth"
token_url = "{server.url}/token"
userinfo_url = "{server.url}/me"
scopes = ["openid", "email", "{DRIVE}"]
[approvals]
default = "allow"
{user("acme", more='auth = "acme"', script_arguments=', "ACME_ACCESS_TOKEN"').replace("scopes = []", "")}
""")
        desk.plan_browser(login="dave@acme.example")
        assert "Signed in to acme as dave@acme.example" in desk.run_ok("auth", "login", "acme")
        assert environment(desk, "acme")["length"] == "43"
        out = desk.run("auth", "logout", "acme")
        assert (out.returncode, "revocation_url" in out.stderr) == (1, True)


def test_the_same_login_serves_a_real_keyring_and_never_shows_itself(tmp_path: Path) -> None:
    """Every secret of a whole life of a login, looked for in the home, the outputs and the process lists."""
    if not HAS_SECRET_SERVICE:
        pytest.skip("gnome-keyring is not installed")
    bus = tmp_path / "bus"
    bus.mkdir()
    service = SecretService(bus)
    service.start()
    try:
        with google(tmp_path) as (server, desk), FakeOpenAI() as model:
            desk.environ |= service.environ | {"XDG_DATA_HOME": str(desk.home / ".data")}
            desk.config.write_text(config(server, store="keyring"))
            login(desk, "--debug")
            desk.run("tools", "mail", "--debug")
            process = desk.start("call", "mail.leak", "--debug")
            listed = watched(process)
            out, err = process.communicate()
            desk.output += out + err
            assert "my token is [secret]" in out
            model.replies = [tool_call("mail__leak", "{}"), text("Done.")]
            desk.run("ask", "-m", "m", "--debug", "-o", "jsonl", "leak it", OPENAI_BASE_URL=model.base_url)
            assert "my token is [secret]" in model.bodies[-1].decode()
            desk.run("auth", "status", "--check")
            logs = desk.run("servers", "logs", "mail").stdout
            assert "my token is [secret]" in logs
            token = (tmp_path / "expired.token").read_text()
            secrets = {CLIENT["client_secret"], token, *known_to_keyring(desk, service), *codes(desk)}
            assert len(secrets) == 4
            desk.run("auth", "logout", "google", "--debug")
            for secret in secrets:
                assert secret not in desk.output
                assert secret not in listed
                assert secret.encode() not in b"".join(model.bodies)
                assert [path for path, data in desk.home_files() if secret.encode() in data] == []
    finally:
        service.stop()


def watched(process: Any) -> str:
    """The command lines of all processes while this one runs."""
    found = ""
    while process.poll() is None and len(found) < 2_000_000:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                line = path.read_bytes().decode(errors="replace")
                found += line + "\n" if "authorization.mjs" not in line else ""  # which is the test's own
        time.sleep(0.1)
        if found.count("\n") > 5000:
            break
    return found


def known_to_keyring(desk: SignInUser, service: SecretService) -> set[str]:
    code = "import keyring; print(keyring.get_password('mcpchat/google/alice@example.com', 'oauth'))"
    env = {**os.environ, **service.environ, "XDG_DATA_HOME": desk.environ["XDG_DATA_HOME"]}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return {json.loads(done.stdout)["refresh_token"]}


def codes(desk: SignInUser) -> set[str]:
    """The code that the browser saw in an address."""
    return {
        e["url"].partition("code=")[2].partition("&")[0] for e in desk.browser_visits() if "callback?code=" in e["url"]
    }
