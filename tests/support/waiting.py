"""Waiting for a condition, instead of for a time."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

PAUSE = 0.02  # seconds


def wait_until(condition: Callable[[], Any], seconds: float = 30) -> None:
    """Wait until the condition is true. Raises AssertionError after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not true within {seconds} s"
        time.sleep(PAUSE)


def wait_until_idle(pid: int) -> None:
    """Wait until the process waits too: its CPU time has not grown for a tenth of a second (Linux)."""
    times: list[str] = []

    def is_idle() -> bool:
        times.append(" ".join(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        return len(times) > 5 and len(set(times[-6:])) == 1

    wait_until(is_idle)


async def async_wait_until(condition: Callable[[], Any], seconds: float = 30) -> None:
    """Like ``wait_until``, while other tasks run."""
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(PAUSE)
