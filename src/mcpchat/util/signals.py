"""Signals as cancellations of one task."""

import asyncio
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def cancelled_by(task: "asyncio.Future[Any]", signals: Sequence[int]) -> Iterator[list[int]]:
    """While inside, these signals cancel the task; yields the list of those that came.

    Plain handlers, not the loop's: they exist on every platform, and nest.
    """
    loop = asyncio.get_running_loop()
    caught: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        loop.call_soon_threadsafe(task.cancel)

    # What the parent has switched off stays off: nohup, and background jobs of a shell.
    wanted = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in wanted}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def first_softly(number: int, softly: Callable[[], None]) -> Iterator[list[int]]:
    """While inside, the first of these signals calls ``softly`` in the loop, and the next does what it did before.

    Yields the list of those that were taken softly.
    """
    loop = asyncio.get_running_loop()
    taken: list[int] = []
    before = signal.getsignal(number)

    def handle(number: int, frame: FrameType | None) -> None:
        taken.append(number)
        signal.signal(number, before)
        loop.call_soon_threadsafe(softly)

    if before == signal.SIG_IGN:
        yield taken
        return
    signal.signal(number, handle)
    try:
        yield taken
    finally:
        signal.signal(number, before)
