"""Run blocking calls with a timeout."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

_T = TypeVar("_T")


async def run_in_daemon_thread(
    work: Callable[[], _T],
    *,
    timeout: float | None = None,
    slow_after: float | None = None,
    on_slow: Callable[[], None] | None = None,
) -> _T:
    """Run ``work`` in a daemon thread and return its result.

    Calls ``on_slow`` if the work takes longer than ``slow_after`` seconds. Raises TimeoutError after ``timeout``
    seconds, and any exception that ``work`` raises. The thread is a daemon because a hanging thread of a pool would
    keep the process from exiting.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def set_outcome(value: _T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(value)  # type: ignore[arg-type]  # None only if the work returns it
        else:
            future.set_exception(error)

    def run() -> None:
        value, failure = None, None
        try:
            value = work()
        except Exception as error:  # noqa: BLE001 - set on the future and raised there
            failure = error
        with suppress(RuntimeError):  # the loop is closed: no caller waits any more
            loop.call_soon_threadsafe(set_outcome, value, failure)

    threading.Thread(target=run, daemon=True, name="bounded call").start()
    slow_timer = loop.call_later(slow_after, on_slow) if slow_after is not None and on_slow is not None else None
    try:
        async with asyncio.timeout(timeout):
            return await future
    finally:
        if slow_timer is not None:
            slow_timer.cancel()
