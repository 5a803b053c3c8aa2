"""Fixtures of the integration tests."""

from pathlib import Path

import pytest

from tests.support.calculator import cache_calculator


@pytest.fixture(autouse=True)
def calculator_cached(isolated: Path) -> None:
    """Put the calculator into the cache of the test's home."""
    cache_calculator(isolated)
