"""Google and other providers: the installed command against an oidc-provider that is set up to behave like Google."""

import json
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.support.fake_openai import FakeOpenAI, text, tool_call
from tests.support.google_sign_in import config, environment, google, login, server_section
from tests.support.published import needs_published
from tests.support.sign_in import (
    CLIENT,
    DRIVE,
    MAIL,
    MCPCHAT,
    SHEETS,
)
from tests.support.terminal import Terminal
from tests.support.waiting import wait_until

LIFETIME = 6  # seconds, of tokens that shall expire during a chat
pytestmark = [needs_published, pytest.mark.timeout(120)]


def test_one_login_serves_every_server_with_its_scopes(tmp_path: Path) -> None:
    with google(tmp_path) as (server, user):
        output = login(user)
        assert "Asking Google for: Gmail (read), Sheets (read, write)" in output
        assert "Signed in to google as alice@example.com." in output
        assert "NOT encrypted" in output
        assert output.index("https://") < output.index("a browser was started")
        (state,) = user.auth_status("--check")
        assert (state["state"], state["account"], state["default"]) == ("signed in", "alice@example.com", True)
        variables = environment(user, "mail")
        assert variables["length"] == "43"
        assert float(variables["expires"]) > time.time() + 3000
        assert environment(user, "sheets")["length"] == "43"
        scopes = [entry.get("scope") for entry in server.journal() if entry.get("grant") == "refresh_token"]
        assert scopes == [None, MAIL, SHEETS]  # the first is of --check


def test_the_request_follows_the_rules_for_native_apps(tmp_path: Path) -> None:
    with google(tmp_path) as (server, user):
        login(user)
        parameters = next(entry["asked"] for entry in server.journal() if "asked" in entry)
        assert parameters["code_challenge_method"] == "S256"
        assert len(parameters["state"]) >= 43
        assert parameters["redirect_uri"].startswith("http://127.0.0.1:")
        assert user.browser_visits()[-1]["status"] == 200
        assert "Signed in" in user.browser_visits()[-1]["text"]
        start, sign_in, *_ = user.browser_visits()
        assert "/start/" in start["url"]
        assert "state" not in start["url"]  # which is in the browser's arguments, for every user to see
        assert "include_granted_scopes=true" in sign_in["url"]


def test_missing_scopes_are_reported_and_requested_again(tmp_path: Path) -> None:
    with google(tmp_path) as (server, user):
        output = login(user, scope=f"openid email {SHEETS}")
        assert "mail will not start until you allow it Gmail (read): mcpchat auth login google" in output
        (state,) = user.auth_status()
        assert (state["missing"], state["servers"]) == ([MAIL], ["mail", "sheets"])
        assert environment(user, "sheets")["length"] == "43"
        refusal = user.run("call", "mail.environment")
        assert refusal.returncode == 3
        assert "mail needs access that was not granted: Gmail (read)\n  mcpchat auth login google" in refusal.stderr
        server_list = user.run("servers").stdout
        assert "not granted" in server_list
        user.config.write_text(config(server, extra=server_section("drive", DRIVE)))
        login(user)
        (state,) = user.auth_status()
        assert state["missing"] == []
        assert {MAIL, SHEETS, DRIVE} <= set(state["scopes"])


def test_several_accounts_can_be_used(tmp_path: Path) -> None:
    with google(tmp_path) as (server, user):
        login(user)
        extra = server_section("office", DRIVE, settings='auth = "google"\naccount = "work"')
        user.config.write_text(config(server, extra=extra))
        assert user.run("call", "office.environment").returncode == 3
        assert [(account["alias"], account["hint"]) for account in user.auth_status()][1:] == [
            ("work", "mcpchat auth login google --account work")
        ]
        output = login(user, "--account", "work", login="alice@company.example")
        assert "as alice@company.example" in output
        assert "Asking Google for: Drive (read, write)\n" in output
        assert "prompt=select_account+consent" in output
        assert environment(user, "office")["length"] == "43"
        first_account, second_account = user.auth_status()
        assert (first_account["account"], first_account["default"], first_account["servers"]) == (
            "alice@example.com",
            True,
            ["mail", "sheets"],
        )
        assert (second_account["alias"], second_account["account"]) == ("work", "alice@company.example")
        assert (second_account["default"], second_account["servers"]) == (False, ["office"])
        refusal = user.run("auth", "logout", "google")
        assert refusal.returncode == 2
        assert "choose one with --account" in refusal.stderr
        output = login(user, "--account", "work", login="eve@company.example")
        assert "You signed in as eve@company.example, not as alice@company.example" in output
        assert "work is now eve@company.example" in output
        assert [(account["alias"], account["default"]) for account in user.auth_status()] == [
            ("", True),
            ("", False),
            ("work", False),
        ]
        assert "revoked at google" in user.run_ok("auth", "logout", "google", "--account", "work")
        user.run_ok("auth", "logout", "google", "--account", "alice@company.example")
        assert [state["account"] for state in user.auth_status()] == ["alice@example.com", ""]
        login(user, "--account", "bob@example.com", login="carol@example.com")
        assert "You signed in as carol@example.com, not as bob@example.com" in user.output
        assert "revoked at google" in user.run_ok("auth", "logout", "google", "--all")
        assert [state["state"] for state in user.auth_status()] == ["not signed in", "not signed in"]


def test_a_server_name_selects_its_account(tmp_path: Path) -> None:
    with google(tmp_path) as (server, user):
        office_server = server_section("office", DRIVE, settings='auth = "google"\naccount = "work"')
        text = (
            config(server)
            .replace(server_section("mail", MAIL), "")
            .replace(server_section("sheets", SHEETS), office_server)
        )
        user.config.write_text(text)
        completed = user.run("auth", "login", "google")
        assert (completed.returncode, "mcpchat auth login google --account work" in completed.stderr) == (2, True)
        user.plan_browser(login="bob@example.com")
        assert "as bob@example.com" in user.run_ok("auth", "login", "office")
        assert environment(user, "office")["length"] == "43"
        user.plan_browser(login="bob@example.com")
        user.run_ok("auth", "login", "google", "--account", "alice@example.com")
        assert [account["alias"] for account in user.auth_status() if account["account"] == "bob@example.com"] == [
            "work"
        ]


def test_signing_out_revokes_removes_and_reports_it(tmp_path: Path) -> None:
    with google(tmp_path) as (server, user):
        login(user)
        assert "was removed from a file (NOT encrypted). It was revoked at google" in user.run_ok(
            "auth", "logout", "google"
        )
        assert {"path": "/revoke", "known": True, "query": False} in server.journal()
        assert user.auth_status()[0]["state"] == "not signed in"
        assert user.run("auth", "logout", "google").returncode == 2
        login(user)
        server.plan_faults(revoke={"status": 503})
        failed = user.run("auth", "logout", "google")
        assert failed.returncode == 1
        assert "was removed from" in failed.stderr
        assert "could NOT be revoked at google: Google answered HTTP 503" in failed.stderr
        assert user.auth_status()[0]["state"] == "not signed in"
        login(user)
        entries_before = len(server.journal())
        assert "It was not revoked at google" in user.run_ok("auth", "logout", "google", "--local")
        assert len(server.journal()) == entries_before
        assert not [path for path, data in user.home_files() if b"refresh_token" in data]


def test_servers_with_the_same_scopes_are_each_renewed(tmp_path: Path) -> None:
    with google(tmp_path, lifetime=LIFETIME) as (server, user), FakeOpenAI() as model:
        user.config.write_text(config(server, extra=server_section("second", MAIL)))
        login(user)
        replies = [tool_call("mail__environment", "{}"), tool_call("second__environment", "{}"), text("Done.")]
        model.replies = [*replies, *replies]
        environ = {**user.environ, "OPENAI_BASE_URL": model.base_url, "MCPCHAT_MODEL": "m"}
        with Terminal([MCPCHAT], environ=environ, columns=120) as terminal:
            terminal.wait_for("/help")
            terminal.send("first\r")
            terminal.wait_for("Done.")
            server.set_lifetime(3600)
            expiry = time.time() + LIFETIME
            wait_until(lambda: time.time() > expiry)
            terminal.send("second\r")
            terminal.wait_for("Done.", count=2)
            for name in ("mail", "second"):
                assert f"renewed the google login of {name}" in terminal.text
            terminal.send("/exit\r")
            terminal.wait_exit()


def test_a_refusal_and_a_timeout_are_reported(tmp_path: Path) -> None:
    with google(tmp_path) as (_, user):
        user.plan_browser(deny="1")
        refusal = user.run("auth", "login", "google")
        assert refusal.returncode == 3
        assert "Google denied access: The user did not consent" in refusal.stderr
        assert "\x1b" not in refusal.stderr
        timeout_error = user.run("auth", "login", "google", "--timeout", "1", "--no-browser")
        assert timeout_error.returncode == 3
        assert "no sign-in within 1 s" in timeout_error.stderr
        assert "browser" not in timeout_error.stderr.split("nobody")[0].replace("https", "")


def test_without_a_keyring_no_browser_is_opened(tmp_path: Path) -> None:
    with google(tmp_path) as (server, user):
        user.config.write_text(config(server, store="keyring"))
        failed = user.run("auth", "login", "google")
        assert failed.returncode == 1
        assert "there is no keyring" in failed.stderr
        assert "--store file" in failed.stderr
        assert not user.plan_file.with_suffix(".seen").exists()
        assert server.journal() == []
        assert "NOT encrypted" in user.run_ok("auth", "login", "google", "--store", "file")
        assert "NOT encrypted" in user.run_ok("auth", "status")


def test_only_a_definite_refusal_ends_a_login(tmp_path: Path) -> None:
    with google(tmp_path) as (server, user):
        login(user)
        server.plan_faults(token={"status": 503, "times": 30})
        outage = user.run("call", "mail.environment")
        assert outage.returncode == 4
        assert "the saved login is unchanged" in outage.stderr
        (state,) = user.auth_status("--check")
        assert (state["state"], state["exit_code"]) == ("unknown", 4)
        assert user.run("auth", "status", "--check").returncode == 4
        server.plan_faults(token={"times": 0})
        assert environment(user, "mail")["length"] == "43"
        server.plan_faults(
            token={"status": 400, "times": 1, "body": {"error": "invalid_grant", "error_description": "expired"}}
        )
        error = user.run("call", "mail.environment")
        assert error.returncode == 3
        assert "the google login has ended: expired" in error.stderr
        assert "seven days" in error.stderr
        (state,) = user.auth_status("--check")
        assert (state["state"], state["hint"]) == ("signed out", "mcpchat auth login google")
        assert user.run("auth", "status", "--check").returncode == 3
        assert user.run("call", "mail.environment").returncode == 3
        login(user)
        assert environment(user, "mail")["length"] == "43"


def test_a_401_renews_the_token_and_repeats_the_call_once(tmp_path: Path) -> None:
    with google(tmp_path) as (_, user):
        login(user)
        expired = tmp_path / "expired"
        expired.write_text("1 0")
        assert "call 2" in user.run_ok("call", "mail.count")
        assert "renewed the google login of mail" in user.output
        expired.write_text("5 0")
        failed = user.run("call", "mail.count")
        assert failed.returncode == 5
        assert expired.read_text() == "3 2"


def test_a_long_chat_needs_no_browser(tmp_path: Path) -> None:
    with google(tmp_path, lifetime=LIFETIME) as (server, user), FakeOpenAI() as model:
        login(user)
        user.plan_browser()
        model.replies = [
            reply
            for word in ("one", "two")
            for reply in (tool_call("mail__environment", "{}"), text(f"That was {word}."))
        ]
        environ = {**user.environ, "OPENAI_BASE_URL": model.base_url, "MCPCHAT_MODEL": "m"}
        with Terminal([MCPCHAT], environ=environ, columns=120) as terminal:
            terminal.wait_for("/help")
            terminal.send("first\r")
            terminal.wait_for("That was one.")
            server.set_lifetime(3600)
            expiry = time.time() + LIFETIME
            wait_until(lambda: time.time() > expiry)
            terminal.send("second\r")
            terminal.wait_for("That was two.")
            assert terminal.text.count("renewed the google login of mail") == 1
            terminal.send("/exit\r")
            terminal.wait_exit()
        results = [
            json.loads(message["content"]) for message in model.requests[-1]["messages"] if message["role"] == "tool"
        ]
        assert len({result["pid"] for result in results}) == 2
        assert {result["length"] for result in results} == {"43"}
        assert not user.plan_file.with_suffix(".seen").exists()
        assert server.grants().count("authorization_code") == 1


def test_a_rotating_refresh_token_survives_many_processes(tmp_path: Path) -> None:
    with google(tmp_path, rotate=True) as (server, user):
        login(user)
        processes = [user.start("call", "mail.environment") for _ in range(3)]
        for process in processes:
            out, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
            assert json.loads(out)["length"] == "43"
        assert server.grants() == ["authorization_code", "refresh_token"]
        assert environment(user, "sheets")["length"] == "43"
        assert user.auth_status("--check")[0]["state"] == "signed in"


def test_a_process_killed_during_a_renewal_keeps_the_login(tmp_path: Path) -> None:
    with google(tmp_path, rotate=True) as (server, user):
        login(user)
        server.plan_faults(token={"times": 1, "delay": 4000, "status": 503})
        process = user.start("call", "mail.environment")
        server.wait_for_request("/token")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert environment(user, "mail")["length"] == "43"


def test_the_client_comes_from_variables_or_googles_file(tmp_path: Path) -> None:
    with google(tmp_path) as (server, user):
        text = config(server)
        settings_without_client = "".join(
            line for line in text.splitlines(keepends=True) if not line.startswith("client_")
        )
        user.config.write_text(settings_without_client)
        missing = user.run("auth", "login", "google")
        assert missing.returncode == 2
        assert "[auth.google] has no client_id" in missing.stderr
        assert "docs/google.md" in missing.stderr
        user.plan_browser()
        variables = {
            "MCPCHAT_GOOGLE_CLIENT_ID": CLIENT["client_id"],
            "MCPCHAT_GOOGLE_CLIENT_SECRET": CLIENT["client_secret"],
        }
        assert "Signed in" in user.run_ok("auth", "login", "google", **variables)
        secrets = tmp_path / "client_secret.json"
        secrets.write_text(json.dumps({"installed": {**CLIENT, "project_id": "p"}}))
        assert "Signed in" in user.run_ok("auth", "login", "google", MCPCHAT_GOOGLE_CLIENT_SECRETS_FILE=str(secrets))
        secrets.write_text("{}")
        wrong_file = user.run("auth", "login", "google", MCPCHAT_GOOGLE_CLIENT_SECRETS_FILE=str(secrets))
        assert (wrong_file.returncode, "is not the client file" in wrong_file.stderr) == (2, True)


def test_a_refresh_token_can_be_a_reference(tmp_path: Path) -> None:
    with google(tmp_path) as (server, user):
        login(user)
        record = next(json.loads(data) for path, data in user.home_files() if b"refresh_token" in data)
        shutil.rmtree(user.home)
        user.home.mkdir()
        settings = config(server, store="keyring").replace(
            "[auth.google]", '[auth.google]\nrefresh_token = "env:REFRESH"'
        )
        user.config.write_text(settings)
        completed = user.run("call", "mail.environment", REFRESH=record["refresh_token"])
        assert json.loads(completed.stdout)["length"] == "43"
        (state,) = user.auth_status()
        assert (state["state"], state["kept_in"]) == ("signed in", "env:REFRESH")
        for token, expected in ((record["refresh_token"], 0), ("no-such-token", 3)):
            checked = user.run("auth", "status", "--check", REFRESH=token)
            assert checked.returncode == expected, checked.stdout + checked.stderr


def test_another_provider_is_a_config_table(tmp_path: Path) -> None:
    with google(tmp_path) as (server, user):
        user.config.write_text(f"""
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
{server_section("acme", settings='auth = "acme"', script_arguments=["ACME_ACCESS_TOKEN"]).replace("scopes = []", "")}
""")
        user.plan_browser(login="dave@acme.example")
        assert "Signed in to acme as dave@acme.example" in user.run_ok("auth", "login", "acme")
        assert environment(user, "acme")["length"] == "43"
        out = user.run("auth", "logout", "acme")
        assert (out.returncode, "revocation_url" in out.stderr) == (1, True)
