"""Where logins are kept: a real Secret Service (open, locked, hanging, absent), files, and pieces for small vaults."""

import asyncio
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keyring.backend
import pytest

from mcpchat.auth import secret_stores
from mcpchat.auth.secret_stores import FileStore, KeyringStore
from mcpchat.errors import StoreError
from mcpchat.util.private_files import read_private, write_private
from tests.sign_in import HAS_SECRET_SERVICE, SecretService

with_service = pytest.mark.skipif(not HAS_SECRET_SERVICE, reason="gnome-keyring is not installed")

KEEP = """
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
    found = SecretService(tmp_path)
    found.start()
    yield found
    found.stop()


def kept(service: SecretService | None, *words: str, limit: float = 10, **environ: str) -> str:
    env = {**os.environ, **(service.environ if service else {}), **environ}
    command = [sys.executable, "-c", KEEP, str(limit), *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@with_service
def test_a_real_secret_service_keeps_a_login_for_other_processes(service: SecretService) -> None:
    assert kept(service, "put") == "Secret Service"
    assert kept(service, "get") == "3000"
    assert kept(service, "delete") == "True False"
    assert kept(service, "get") == "0"


@with_service
def test_a_locked_keyring_that_nobody_unlocks_is_told(service: SecretService) -> None:
    kept(service, "put")
    service.restart_locked()
    told = kept(service, "get")
    assert told.startswith("StoreError: the keyring is locked")
    assert "--store file" in kept(service, "put")


@with_service
def test_a_keyring_that_hangs_hangs_nobody(service: SecretService) -> None:
    kept(service, "put")
    service.hang()
    assert "did not answer within 1 s" in kept(service, "get", limit=1)


@with_service
def test_a_person_is_told_what_is_waited_for(service: SecretService) -> None:
    kept(service, "put")
    service.hang()
    assert kept(service, "get", "tell", limit=3).startswith("waiting for the keyring to be unlocked")


def test_without_a_service_the_ways_on_are_named() -> None:
    told = kept(None, "put", DBUS_SESSION_BUS_ADDRESS="unix:path=/nowhere", XDG_RUNTIME_DIR="/nowhere")
    assert "there is no keyring" in told
    assert "gnome-keyring or KeePassXC" in told
    assert "--store file" in told


@pytest.mark.parametrize("backend", ["keyring.backends.null.Keyring", "keyring.backends.fail.Keyring"])
def test_a_back_end_that_keeps_nothing_is_refused(backend: str) -> None:
    assert kept(None, "put", PYTHON_KEYRING_BACKEND=backend).startswith("StoreError")


class Vault(keyring.backend.KeyringBackend):
    """A back-end that takes short texts alone, as the Windows one does; it can be switched off in mid-write."""

    priority = 5

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self.items: dict[tuple[str, str], str] = {}
        self.writes_left = 10**6

    def get_password(self, service: str, username: str) -> str | None:
        return self.items.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if len(password.encode("utf-16-le")) // 2 > self.longest:
            raise OSError(1783, "CredWrite", "The stub received bad data")
        if not self.writes_left:
            raise KeyboardInterrupt
        self.writes_left -= 1
        self.items[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.items[service, username]


LONG = json.dumps({"refresh_token": "x𝒳é" * 900}, ensure_ascii=False)
SHORT = json.dumps({"refresh_token": "short"})


def test_a_long_record_lies_in_pieces_and_leaves_nothing_behind() -> None:
    vault = Vault(1280)
    for text in (LONG, SHORT, LONG, LONG):
        secret_stores._write_chunks(vault, "mcp/https://a", text, 1200)
        assert secret_stores._read_chunks(vault, "mcp/https://a") == text
    assert len({service for service, _ in vault.items}) == len(vault.items) == 5
    assert secret_stores._delete(vault, "mcp/https://a")
    assert vault.items == {}


@pytest.mark.parametrize("writes", range(6))
def test_a_write_that_is_cut_off_leaves_a_whole_record(writes: int) -> None:
    vault = Vault(1280)
    secret_stores._write_chunks(vault, "k", LONG, 1200)
    newer = LONG.replace("x", "y")
    vault.writes_left = writes
    try:
        secret_stores._write_chunks(vault, "k", newer, 1200)
    except KeyboardInterrupt:
        assert secret_stores._read_chunks(vault, "k") == LONG
    else:
        assert secret_stores._read_chunks(vault, "k") == newer


def test_a_damaged_record_is_told() -> None:
    vault = Vault(1280)
    secret_stores._write_chunks(vault, "k", LONG, 1200)
    del vault.items[next(place for place in vault.items if "#" in place[0])]
    with pytest.raises(StoreError, match="damaged"):
        secret_stores._read_chunks(vault, "k")


async def test_a_back_end_that_swallows_what_it_is_given_is_found_out() -> None:
    class Swallows(Vault):
        def set_password(self, service: str, username: str, password: str) -> None:
            pass

    store = KeyringStore()
    store._backend = Swallows(10**6)
    with pytest.raises(StoreError, match="did not save"):
        await store.probe()


async def test_one_keyring_is_asked_one_thing_at_a_time() -> None:
    store = KeyringStore()
    store._backend = Vault(10**6)
    await asyncio.gather(*(store.put(f"k{number}", {"n": number}) for number in range(20)))
    assert [await store.get(f"k{number}") for number in range(20)] == [{"n": number} for number in range(20)]


async def test_a_file_is_for_its_owner_alone_and_says_that_it_is_not_encrypted(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "logins"
    before = os.umask(0)
    store = FileStore(folder)
    await store.probe()
    os.umask(before)
    await store.put("google/alice@example.com", {"refresh_token": "r"})
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert await store.get("google/alice@example.com") == {"refresh_token": "r"}
    assert "NOT encrypted" in store.label
    assert (await store.delete("google/alice@example.com"), await store.delete("google/alice@example.com")) == (
        True,
        False,
    )
    assert list(folder.iterdir()) == []


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_text("{}")
    link = tmp_path / "private" / "login.json"
    link.parent.mkdir()
    link.symlink_to(target)
    with pytest.raises(StoreError, match="symbolic link"):
        read_private(link)
    write_private(link, b"secret")
    assert target.read_text() == "{}"
    assert not link.is_symlink()
    folder = tmp_path / "linked"
    folder.symlink_to(tmp_path / "private")
    with pytest.raises(StoreError, match="not a folder that you own"):
        write_private(folder / "x", b"secret")


def test_a_folder_that_others_can_read_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    write_private(folder / "x", b"1")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    await store.put("k", {"a": 1})
    store._path("k").write_text("not JSON")
    with pytest.raises(StoreError, match="damaged"):
        await store.get("k")
