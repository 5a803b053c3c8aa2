"""Signals as cancellations of one task."""

import asyncio
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def cancel_on_signals(task: "asyncio.Future[Any]", signals: Sequence[int]) -> Iterator[list[int]]:
    """While inside, these signals cancel the task; yields the list of those that came.

    Plain handlers, not the loop's: they exist on every platform, and nest.
    """
    loop = asyncio.get_running_loop()
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        loop.call_soon_threadsafe(task.cancel)

    # What the parent has switched off stays off: nohup, and background jobs of a shell.
    enabled = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, handle) for number in enabled}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def graceful_first_signal(number: int, on_first: Callable[[], None]) -> Iterator[list[int]]:
    """While inside, the first of these signals calls ``softly`` in the loop, and the next does what it did before.

    Yields the list of those that were taken softly.
    """
    loop = asyncio.get_running_loop()
    received: list[int] = []
    previous = signal.getsignal(number)

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, previous)
        loop.call_soon_threadsafe(on_first)

    if previous == signal.SIG_IGN:
        yield received
        return
    signal.signal(number, handle)
    try:
        yield received
    finally:
        signal.signal(number, previous)
