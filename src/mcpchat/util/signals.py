"""Turn signals into the cancellation of a task."""

import asyncio
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any


class CaughtSignals:
    """Signals that arrived, and the task that they cancel once there is one."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._cancel: Callable[[], object] | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler: keep the signal, cancel the task. Without a task, the second raises KeyboardInterrupt."""
        self.numbers.append(number)
        if self._cancel is not None:
            self._cancel()
        elif len(self.numbers) > 1:
            raise KeyboardInterrupt

    def cancel(self, task: "asyncio.Future[Any]") -> None:
        """Let each signal cancel this task; one that arrived before cancels it now."""
        loop = asyncio.get_running_loop()
        self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        if self.numbers:
            self._cancel()

    def release(self) -> None:
        """Cancel nothing from now on."""
        self._cancel = None


@contextmanager
def catch_signals(signals: Sequence[int]) -> Iterator[CaughtSignals]:
    """During the block, keep these signals instead of their effect.

    Uses plain signal handlers instead of the event loop's: they exist on every platform, can be nested, and are in
    force while the loop is made and closed, so that no signal breaks into that.
    """
    caught = CaughtSignals()
    # Signals that the parent process ignores stay ignored: nohup, and background jobs of a shell.
    enabled = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, caught.handle) for number in enabled}
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def cancel_on_signals(task: "asyncio.Future[Any]", signals: Sequence[int]) -> Iterator[list[int]]:
    """During the block, these signals cancel the task. Yields the list of received signals."""
    with catch_signals(signals) as caught:
        caught.cancel(task)
        yield caught.numbers


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
