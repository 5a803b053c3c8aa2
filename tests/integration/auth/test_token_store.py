"""Storage of logins: a real Secret Service (open, locked, hanging, absent), files, and keyrings with a size limit."""

import asyncio
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import keyring.backend
import pytest

from mcpchat.auth import secret_stores
from mcpchat.auth.secret_stores import FileStore, KeyringStore
from mcpchat.errors import StoreError
from mcpchat.util.private_files import read_private, write_private
from tests.support.sign_in import SecretService


@pytest.fixture
def service(tmp_path: Path) -> Iterator[SecretService]:
    secret_service = SecretService(tmp_path)
    secret_service.start()
    yield secret_service
    secret_service.stop()


class LimitedBackend(keyring.backend.KeyringBackend):
    """A backend that takes only short texts, like the Windows one; it can be made to fail during a write."""

    priority = 5

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length
        self.items: dict[tuple[str, str], str] = {}
        self.writes_left = 10**6

    def get_password(self, service: str, username: str) -> str | None:
        return self.items.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if len(password.encode("utf-16-le")) // 2 > self.max_length:
            raise OSError(1783, "CredWrite", "The stub received bad data")
        if not self.writes_left:
            raise KeyboardInterrupt
        self.writes_left -= 1
        self.items[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.items[service, username]


LONG = json.dumps({"refresh_token": "x𝒳é" * 900}, ensure_ascii=False)
SHORT = json.dumps({"refresh_token": "short"})


def test_a_long_record_is_split_and_fully_deleted() -> None:
    backend = LimitedBackend(1280)
    for text in (LONG, SHORT, LONG, LONG):
        secret_stores._write_chunks(backend, "mcp/https://a", text, 1200)
        assert secret_stores._read_chunks(backend, "mcp/https://a") == text
    assert len({service for service, _ in backend.items}) == len(backend.items) == 5
    assert secret_stores._delete(backend, "mcp/https://a")
    assert backend.items == {}


@pytest.mark.parametrize("writes", range(6))
def test_an_interrupted_write_leaves_a_complete_record(writes: int) -> None:
    backend = LimitedBackend(1280)
    secret_stores._write_chunks(backend, "k", LONG, 1200)
    newer = LONG.replace("x", "y")
    backend.writes_left = writes
    try:
        secret_stores._write_chunks(backend, "k", newer, 1200)
    except KeyboardInterrupt:
        assert secret_stores._read_chunks(backend, "k") == LONG
    else:
        assert secret_stores._read_chunks(backend, "k") == newer


def test_a_damaged_record_is_reported() -> None:
    backend = LimitedBackend(1280)
    secret_stores._write_chunks(backend, "k", LONG, 1200)
    del backend.items[next(item_key for item_key in backend.items if "#" in item_key[0])]
    with pytest.raises(StoreError, match="damaged"):
        secret_stores._read_chunks(backend, "k")


async def test_a_backend_that_discards_writes_is_detected() -> None:
    class DiscardingBackend(LimitedBackend):
        def set_password(self, service: str, username: str, password: str) -> None:
            pass

    store = KeyringStore()
    store._backend = DiscardingBackend(10**6)
    with pytest.raises(StoreError, match="did not save"):
        await store.probe()


async def test_keyring_requests_run_one_at_a_time() -> None:
    store = KeyringStore()
    store._backend = LimitedBackend(10**6)
    await asyncio.gather(*(store.put(f"k{number}", {"n": number}) for number in range(20)))
    assert [await store.get(f"k{number}") for number in range(20)] == [{"n": number} for number in range(20)]


async def test_a_file_is_private_and_labelled_not_encrypted(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "logins"
    old_umask = os.umask(0)
    store = FileStore(folder)
    await store.probe()
    os.umask(old_umask)
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


def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
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


def test_a_readable_folder_is_made_private(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    write_private(folder / "x", b"1")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_a_damaged_file_is_reported(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    await store.put("k", {"a": 1})
    store._path("k").write_text("not JSON")
    with pytest.raises(StoreError, match="damaged"):
        await store.get("k")
