"""Notices that the reader of standard output has gone."""

import asyncio
import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TextIO

_CHECK_INTERVAL = 0.2  # seconds


@asynccontextmanager
async def end_without_reader(out: TextIO) -> AsyncIterator[None]:
    """Cancel the block once the other end of the pipe ``out`` is closed, and raise BrokenPipeError.

    A write would tell it only when there is something to write. Without effect for files and terminals, and on
    Windows.
    """
    task = asyncio.current_task()
    assert task is not None
    has_left = False

    async def watch() -> None:
        nonlocal has_left
        while not is_reader_gone(out):  # noqa: ASYNC110 - only the operating system knows
            await asyncio.sleep(_CHECK_INTERVAL)
        has_left = True
        task.cancel()

    watcher = asyncio.create_task(watch()) if hasattr(select, "poll") and not out.isatty() else None
    try:
        yield
    except asyncio.CancelledError:
        if not has_left or task.uncancel() > 0:
            raise
        raise BrokenPipeError from None
    finally:
        if watcher is not None:
            watcher.cancel()


def is_reader_gone(out: TextIO) -> bool | None:
    """Whether the other end of the pipe ``out`` is closed; None where the system does not tell."""
    if not hasattr(select, "poll"):
        return None
    poll = select.poll()
    try:
        poll.register(out, 0)
        return any(flags & (select.POLLERR | select.POLLHUP) for _, flags in poll.poll(0))
    except (OSError, ValueError):  # no file of the system, or closed
        return None
