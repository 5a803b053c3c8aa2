"""Turn signals into the cancellation of a task."""

import asyncio
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def cancel_on_signals(task: "asyncio.Future[Any]", signals: Sequence[int]) -> Iterator[list[int]]:
    """During the block, these signals cancel the task. Yields the list of received signals.

    Uses plain signal handlers instead of the event loop's, because they exist on every platform and can be nested.
    """
    loop = asyncio.get_running_loop()
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        loop.call_soon_threadsafe(task.cancel)

    # Signals that the parent process ignores stay ignored: nohup, and background jobs of a shell.
    enabled = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, handle) for number in enabled}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def graceful_first_signal(number: int, on_first: Callable[[], None]) -> Iterator[list[int]]:
    """During the block, the first signal calls ``on_first`` in the event loop; the next one has its previous effect.

    Yields the list of the signals that called ``on_first``.
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
