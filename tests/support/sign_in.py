"""Environment for sign-in tests: an authorization server, a browser, a Secret Service, an installed mcpchat."""

import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import trustme

from tests.support.command_line import run_mcpchat
from tests.support.paths import HEADLESS_BROWSER, MCPCHAT, NODE, NODE_MODULES, SERVERS
from tests.support.processes import DEVNULL, PIPE, run_process, script_command, start_process
from tests.support.waiting import wait_until

GOOGLE_SCOPE = "https://www.googleapis.com/auth/"
MAIL, SEND, DRIVE, SHEETS = (
    f"{GOOGLE_SCOPE}{scope}" for scope in ("gmail.readonly", "gmail.send", "drive", "spreadsheets")
)
HAS_SECRET_SERVICE = all(map(shutil.which, ("gnome-keyring-daemon", "dbus-daemon"))) or bool(os.environ.get("CI"))
_NO_BUS = "unix:path=/nowhere"
CLIENT = {"client_id": "the-client-id", "client_secret": "GOCSPX-the-client-secret-1234567"}


def issue_certificates(folder: Path) -> dict[str, Path]:
    """Create a certificate for 127.0.0.1 and its CA; returns the paths of the CA, the certificate and the key."""
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    paths = {name: folder / f"{name}.pem" for name in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(paths["ca"])
    leaf.private_key_pem.write_to_path(paths["key"])
    paths["cert"].write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    return paths


class AuthorizationServer:
    """A running authorization server."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, scheme: str, ca: Path | None) -> None:
        self.process = process
        self.url = f"{scheme}://127.0.0.1:{port}"
        self._verify: Any = ssl.create_default_context(cafile=str(ca)) if ca else True

    def journal(self) -> list[dict[str, Any]]:
        """Return the requests so far."""
        entries: list[dict[str, Any]] = httpx2.get(f"{self.url}/_control", verify=self._verify).json()["journal"]
        return entries

    def grants(self) -> list[str]:
        """Return the grant types of the token requests so far."""
        return [entry["grant"] for entry in self.journal() if entry.get("grant")]

    def wait_for_request(self, path: str, count: int = 1) -> None:
        """Wait until ``count`` requests for this path, each with a planned fault, have arrived."""
        wait_until(lambda: [entry.get("arrived") for entry in self.journal()].count(path) >= count)

    def set_lifetime(self, seconds: int) -> None:
        """Set the lifetime of new tokens."""
        httpx2.post(f"{self.url}/_control", json={"lifetime": seconds}, verify=self._verify)

    def plan_faults(self, **faults: Any) -> None:
        """Set the next faults, by path without the leading slash."""
        httpx2.post(
            f"{self.url}/_control", json={f"/{path}": fault for path, fault in faults.items()}, verify=self._verify
        )


@contextlib.contextmanager
def authorization_server(mode: str, *, ca: Path | None = None, **options: Any) -> Iterator[AuthorizationServer]:
    command = [str(NODE), str(SERVERS / "authorization.mjs"), str(NODE_MODULES.parent), mode, json.dumps(options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield AuthorizationServer(process, int(process.stdout.readline()), "https" if mode == "google" else "http", ca)
    finally:
        process.terminate()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


@contextlib.contextmanager
def python_server(script: str, *arguments: str, environ: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run a server of tests/support/servers that prints its port; yields its URL."""
    command = [sys.executable, str(SERVERS / script), *arguments]
    process = start_process(command, stdout=PIPE, text=True, env={**os.environ, **(environ or {})})
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


class SecretService:
    """A private D-Bus session bus with gnome-keyring. ``environ`` has the variables to reach it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self.environ: dict[str, str] = {}

    def start(self, *, password: str | None = "a password") -> None:
        """Start the bus and the service; without a password the keyring stays locked."""
        bus = subprocess.Popen(
            ["dbus-daemon", "--session", "--nofork", "--print-address=1"],
            stdout=subprocess.PIPE,
            env={**os.environ, "XDG_DATA_DIRS": str(self._folder)},  # no other service may be activated
        )
        self._processes.append(bus)
        assert bus.stdout is not None
        self.environ = {
            "DBUS_SESSION_BUS_ADDRESS": bus.stdout.readline().decode().strip(),
            "XDG_RUNTIME_DIR": str(self._folder),
            "XDG_DATA_HOME": str(self._folder / "data"),
        }
        self._start_keyring(password)

    def _start_keyring(self, password: str | None) -> None:
        command = ["gnome-keyring-daemon", "--foreground", "--components=secrets", *(["--unlock"] if password else [])]
        keyring = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **self.environ},
        )
        self._processes.append(keyring)
        assert keyring.stdin is not None
        if password:
            keyring.stdin.write(password.encode())
        keyring.stdin.close()
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        for _ in range(100):
            reply = subprocess.run(
                ["dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/org/freedesktop/DBus",
                 "org.freedesktop.DBus.NameHasOwner", "string:org.freedesktop.secrets"],
                env={**os.environ, **self.environ}, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if "boolean true" in reply.stdout:
                return
        raise AssertionError("the Secret Service did not start")

    def restart_locked(self) -> None:
        """Restart the service: its secrets are still stored, but the keyring is locked."""
        self._terminate(self._processes.pop())
        self._start_keyring(None)

    def restart_unlocked(self) -> None:
        self._terminate(self._processes.pop())
        self._start_keyring("a password")

    def hang(self) -> None:
        """Stop the service from responding (SIGSTOP)."""
        self._processes[-1].send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        for process in reversed(self._processes):
            self._terminate(process)

    @staticmethod
    def _terminate(process: "subprocess.Popen[bytes]") -> None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


class SignInUser:
    """A user with a home, a config, a scripted browser and the installed command."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self.config = folder / "config.toml"
        self.plan_file = folder / "plan.json"
        self.output = ""  # of all commands so far, to search for secrets
        browser = " ".join(script_command(HEADLESS_BROWSER, str(self.plan_file), "%s"))
        self.environ = {
            **os.environ,
            "HOME": str(self.home),
            "MCPCHAT_CONFIG": str(self.config),
            "BROWSER": browser,
            "DBUS_SESSION_BUS_ADDRESS": _NO_BUS,
            "XDG_RUNTIME_DIR": "/nowhere",
            **environ,
        }
        self.plan_browser()

    def plan_browser(self, **plan: Any) -> None:
        """Set what the user does in the browser; see headless_browser.py for the keys."""
        self.plan_file.write_text(json.dumps(plan))
        self.plan_file.with_suffix(".seen").unlink(missing_ok=True)

    def browser_visits(self) -> list[dict[str, Any]]:
        """Wait until the browser has finished and return the pages that it visited."""
        visits: list[dict[str, Any]] = []

        def is_written() -> bool:
            with contextlib.suppress(FileNotFoundError, ValueError):
                visits.extend(json.loads(self.plan_file.with_suffix(".seen").read_text()))
                return True
            return False

        wait_until(is_written)
        return visits

    def start(self, *args: str, **environ: str) -> Any:
        env = {**self.environ, **environ}
        return start_process([MCPCHAT, *args], env=env, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, text=True)

    def run(self, *args: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        """Run a command: in the test's process, or with a Secret Service, to which a process connects once, in its own."""
        env = {**self.environ, **environ}
        if env["DBUS_SESSION_BUS_ADDRESS"] == _NO_BUS:
            result = run_mcpchat(*args, env=env, text=True)
        else:
            result = run_process([MCPCHAT, *args], env=env)
        self.output += result.stdout + result.stderr
        return result

    def run_ok(self, *args: str, **environ: str) -> str:
        """Run a command, assert that it succeeds, and return stdout and stderr joined."""
        result = self.run(*args, **environ)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    def auth_status(self, *args: str) -> list[dict[str, Any]]:
        """Return the output of ``auth status``."""
        statuses: list[dict[str, Any]] = json.loads(self.run("auth", "status", "-o", "json", *args).stdout)
        return statuses

    def expire_logins(self) -> None:
        """Change the logins that are stored in files: their access tokens have expired."""
        for path, data in self.home_files():
            if path.parent.name == "logins":
                path.write_text(json.dumps({**json.loads(data), "expires_at": 1.0}))

    def home_files(self) -> Iterator[tuple[Path, bytes]]:
        """Yield all files of the home and their contents."""
        for path in self.home.rglob("*"):
            if path.is_file():
                yield path, path.read_bytes()
