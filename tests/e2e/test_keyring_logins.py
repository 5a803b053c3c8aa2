"""Sign-ins whose tokens are in a real Secret Service."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_openai import FakeOpenAI, text, tool_call
from tests.support.google_sign_in import config, environment, google, login
from tests.support.published import needs_published
from tests.support.sign_in import (
    CLIENT,
    HAS_SECRET_SERVICE,
    SecretService,
    SignInUser,
)

pytestmark = [
    needs_published,
    pytest.mark.timeout(120),
]


def test_without_its_keyring_a_file_and_signing_out_still_work(tmp_path: Path) -> None:
    if not HAS_SECRET_SERVICE:
        pytest.skip("gnome-keyring is not installed")
    bus = tmp_path / "bus"
    bus.mkdir()
    service = SecretService(bus)
    service.start()
    with google(tmp_path) as (server, user):
        user.config.write_text(config(server, store="keyring"))
        user.environ |= service.environ
        login(user)
        service.stop()
        keyring_error = user.run("auth", "login", "google")
        assert (keyring_error.returncode, "--store file" in keyring_error.stderr) == (1, True)
        output = login(user, "--store", "file")
        assert "The old login is still in Secret Service" in output
        assert user.auth_status()[0]["kept_in"] == "a file (NOT encrypted)"
        assert environment(user, "mail")["length"] == "43"
        user.run_ok("auth", "logout", "google")
        index = user.home / ".local/state/mcpchat/accounts.json"
        index.write_text(index.read_text().replace("[]", json.dumps([KEYRING_STORE])))
        out = user.run("auth", "logout", "google", "--local")
        assert out.returncode == 1
        assert "was removed from the list, but its secret is still in Secret Service" in out.stderr
        assert user.auth_status()[0]["state"] == "not signed in"


KEYRING_STORE = {
    "key": "google/zoe", "kind": "provider", "login": "google", "account": "zoe", "kept_in": "Secret Service",
}  # fmt: skip


def test_a_login_in_a_real_keyring_is_never_shown(tmp_path: Path) -> None:
    """Look for every secret of a login's life in the home folder, the outputs and the process list."""
    if not HAS_SECRET_SERVICE:
        pytest.skip("gnome-keyring is not installed")
    bus = tmp_path / "bus"
    bus.mkdir()
    service = SecretService(bus)
    service.start()
    try:
        with google(tmp_path) as (server, user), FakeOpenAI() as model:
            user.environ |= service.environ | {"XDG_DATA_HOME": str(user.home / ".data")}
            user.config.write_text(config(server, store="keyring"))
            login(user, "--debug")
            user.run("tools", "mail", "--debug")
            process = user.start("call", "mail.leak", "--debug")
            command_lines = collect_command_lines(process)
            out, err = process.communicate()
            user.output += out + err
            assert "my token is [secret]" in out
            model.replies = [tool_call("mail__leak", "{}"), text("Done.")]
            user.run("ask", "-m", "m", "--debug", "-o", "jsonl", "leak it", OPENAI_BASE_URL=model.base_url)
            assert "my token is [secret]" in model.bodies[-1].decode()
            user.run("auth", "status", "--check")
            logs = user.run("servers", "logs", "mail").stdout
            assert "my token is [secret]" in logs
            token = (tmp_path / "expired.token").read_text()
            secrets = {CLIENT["client_secret"], token, *keyring_secrets(user, service), *authorization_codes(user)}
            assert len(secrets) == 4
            service.restart_locked()
            locked = user.run("auth", "status", "--check")
            assert (locked.returncode, "the keyring is locked" in locked.stdout) == (1, True)
            service.restart_unlocked()
            user.run("auth", "logout", "google", "--debug")
            for secret in secrets:
                assert secret not in user.output
                assert secret not in command_lines
                assert secret.encode() not in b"".join(model.bodies)
                assert [path for path, data in user.home_files() if secret.encode() in data] == []
    finally:
        service.stop()


def collect_command_lines(process: Any) -> str:
    """Return the command lines of all processes while this one runs."""
    command_lines = ""
    while process.poll() is None and len(command_lines) < 2_000_000:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                line = path.read_bytes().decode(errors="replace")
                command_lines += line + "\n" if "authorization.mjs" not in line else ""  # which is the test's own
        time.sleep(0.1)
        if command_lines.count("\n") > 5000:
            break
    return command_lines


def keyring_secrets(user: SignInUser, service: SecretService) -> set[str]:
    code = "import keyring; print(keyring.get_password('mcpchat/google/alice@example.com', 'oauth'))"
    env = {**os.environ, **service.environ, "XDG_DATA_HOME": user.environ["XDG_DATA_HOME"]}
    completed = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return {json.loads(completed.stdout)["refresh_token"]}


def authorization_codes(user: SignInUser) -> set[str]:
    """Return the authorization codes in the addresses that the browser visited."""
    return {
        visit["url"].partition("code=")[2].partition("&")[0]
        for visit in user.browser_visits()
        if "callback?code=" in visit["url"]
    }
