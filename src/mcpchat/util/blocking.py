"""Calls that may block for ever, waited for only so long."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

_T = TypeVar("_T")


async def in_daemon_thread(
    work: Callable[[], _T], *, timeout: float, late: float | None = None, tell: Callable[[], None] | None = None
) -> _T:
    """What the work returns or raises; TimeoutError after ``timeout`` seconds. ``tell`` is called after ``late``.

    A daemon thread: the thread of a pool that hangs would keep the process from leaving.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[_T] = loop.create_future()

    def settle(value: _T | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(value)  # type: ignore[arg-type]  # None only where the work returns it
        else:
            answer.set_exception(error)

    def run() -> None:
        value, failure = None, None
        try:
            value = work()
        except Exception as error:  # noqa: BLE001 - raised again where it is awaited
            failure = error
        with suppress(RuntimeError):  # the loop has ended: nobody is left who waits
            loop.call_soon_threadsafe(settle, value, failure)

    threading.Thread(target=run, daemon=True, name="bounded call").start()
    telling = loop.call_later(late, tell) if late is not None and tell is not None else None
    try:
        async with asyncio.timeout(timeout):
            return await answer
    finally:
        if telling is not None:
            telling.cancel()
