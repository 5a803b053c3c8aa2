"""Fixtures of the integration tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcpchat.mcp.kept_servers import list_kept, stop_kept
from tests.support.calculator import cache_calculator
from tests.support.keyring import MemoryKeyring


@pytest.fixture(autouse=True)
def calculator_cached(isolated: Path) -> None:
    """Put the calculator into the cache of the test's home."""
    cache_calculator(isolated)


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> MemoryKeyring:
    """A keyring in memory, in place of the system's."""
    memory = MemoryKeyring()
    monkeypatch.setattr("keyring.core._keyring_backend", memory)
    return memory


@pytest.fixture
def kept_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The folder of the sockets of kept servers; what was kept in it is stopped at the end."""
    path = Path(f"/tmp/mcpchat-test-{os.getpid()}-{os.urandom(4).hex()}")
    path.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    yield path / "mcpchat"
    for keeper, _ in list_kept(path / "mcpchat"):
        stop_kept(keeper)
    for file in (path / "mcpchat").glob("*"):
        file.unlink()
    (path / "mcpchat").rmdir() if (path / "mcpchat").exists() else None
    path.rmdir()
