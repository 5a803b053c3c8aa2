"""A time limit for a block."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcpchat.errors import LimitReached


@asynccontextmanager
async def time_limit(seconds: float | None) -> AsyncIterator[None]:
    """Raise LimitReached if the block takes longer than ``seconds``; None is no limit."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise LimitReached(f"stopped after {seconds:g} s", hint="raise the limit with --timeout") from error
