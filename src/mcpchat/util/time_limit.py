"""A time limit for a block."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from mcpchat.errors import LimitReached


@asynccontextmanager
async def time_limit(seconds: float | None, *, end: float | None = None) -> AsyncIterator[Callable[[], None]]:
    """Raise LimitReached if the block takes longer than ``seconds``; None is no limit.

    ``end`` is the end by ``time.monotonic``, if the time began to run before the block. The block gets a function that
    lifts the limit: once there is a result, servers are stopped in peace.
    """
    try:
        remaining = seconds if end is None else max(0.0, end - time.monotonic())
        async with asyncio.timeout(remaining) as limit:
            yield lambda: None if limit.expired() else limit.reschedule(None)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise LimitReached(f"stopped after {seconds:g} s", hint="raise the limit with --timeout") from error
