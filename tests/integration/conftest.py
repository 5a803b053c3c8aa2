"""Fixtures of the integration tests."""

from pathlib import Path

import pytest

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
