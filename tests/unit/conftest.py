"""A unit test starts no process and opens no connection."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

_FORBIDDEN = {"subprocess.Popen", "os.fork", "os.posix_spawn", "socket.bind", "socket.connect"}
_active = False


def _forbid(event: str, args: tuple[Any, ...]) -> None:
    if _active and event in _FORBIDDEN:
        raise AssertionError(f"a unit test tried {event}{args}: move it to tests/integration")


sys.addaudithook(_forbid)


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Fail what would start a process or use a socket."""
    global _active
    _active = True
    yield
    _active = False
