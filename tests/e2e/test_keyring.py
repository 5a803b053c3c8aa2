"""Storage of logins in a real Secret Service: open, locked, hanging, absent."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import MCPCHAT
from tests.support.sign_in import HAS_SECRET_SERVICE, SecretService

with_service = pytest.mark.skipif(not HAS_SECRET_SERVICE, reason="gnome-keyring is not installed")


STORE_SCRIPT = """
import asyncio, json, sys, time
from mcpchat.auth.secret_stores import KeyringStore
from mcpchat.errors import StoreError

async def main():
    began, store = time.monotonic(), KeyringStore(timeout=float(sys.argv[1]), notify=print if len(sys.argv) > 3 else None)
    try:
        match sys.argv[2]:
            case "put":
                await store.probe()
                await store.put("google/alice", {"refresh_token": "é" * 3000})
                print(store.label)
            case "get":
                print(len((await store.get("google/alice") or {}).get("refresh_token", "")))
            case "delete":
                print(await store.delete("google/alice"), await store.delete("google/alice"))
    except StoreError as error:
        print(f"StoreError: {error.message} | {error.hint}")
asyncio.run(main())
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[SecretService]:
    secret_service = SecretService(tmp_path)
    secret_service.start()
    yield secret_service
    secret_service.stop()


def run_store(service: SecretService | None, *arguments: str, limit: float = 10, **environ: str) -> str:
    env = {**os.environ, **(service.environ if service else {}), **environ}
    command = [sys.executable, "-c", STORE_SCRIPT, str(limit), *arguments]
    completed = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=30)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout.strip()


@with_service
def test_a_real_secret_service_keeps_a_login_for_other_processes(service: SecretService) -> None:
    assert run_store(service, "put") == "Secret Service"
    assert run_store(service, "get") == "3000"
    assert run_store(service, "delete") == "True False"
    assert run_store(service, "get") == "0"


@with_service
def test_secrets_of_the_config_are_kept_in_a_real_secret_service(service: SecretService) -> None:
    env = {**os.environ, **service.environ}

    def run(*args: str, secret: str = "") -> str:
        done = subprocess.run(
            [MCPCHAT, "secret", *args], env=env, input=secret, capture_output=True, text=True, check=True
        )
        return done.stdout

    run("set", "mine", secret="é-secret\n")
    assert run() == "mine  stored\n"
    run("delete", "mine")
    assert run() == ""


@with_service
def test_a_keyring_that_stays_locked_is_reported(service: SecretService) -> None:
    run_store(service, "put")
    service.restart_locked()
    output = run_store(service, "get")
    assert output.startswith("StoreError: the keyring is locked")
    assert "--store file" in run_store(service, "put")


@with_service
def test_a_hanging_keyring_times_out(service: SecretService) -> None:
    run_store(service, "put")
    service.hang()
    assert "did not answer within 1 s" in run_store(service, "get", limit=1)


@with_service
def test_a_wait_for_the_keyring_is_reported(service: SecretService) -> None:
    run_store(service, "put")
    service.hang()
    assert run_store(service, "get", "tell", limit=3).startswith("waiting for the keyring to be unlocked")


def test_without_a_service_the_alternatives_are_named() -> None:
    output = run_store(None, "put", DBUS_SESSION_BUS_ADDRESS="unix:path=/nowhere", XDG_RUNTIME_DIR="/nowhere")
    assert "there is no keyring" in output
    assert "gnome-keyring or KeePassXC" in output
    assert "--store file" in output


@pytest.mark.parametrize("backend", ["keyring.backends.null.Keyring", "keyring.backends.fail.Keyring"])
def test_a_backend_that_stores_nothing_is_refused(backend: str) -> None:
    assert run_store(None, "put", PYTHON_KEYRING_BACKEND=backend).startswith("StoreError")
