"""Signals that arrive before, during and after the task that they cancel."""

import asyncio
import signal

import pytest

from mcpchat.util.signals import CaughtSignals


async def _wait_for_ever() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("early", [True, False])
def test_a_signal_cancels_the_task_also_if_it_came_before_it(early: bool) -> None:
    caught = CaughtSignals()

    async def run() -> None:
        task = asyncio.create_task(_wait_for_ever())
        if not early:
            caught.cancel(task)
        caught.handle(signal.SIGTERM, None)
        if early:
            caught.cancel(task)
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())
    assert caught.numbers == [signal.SIGTERM]


def test_without_a_task_the_first_signal_is_kept_and_the_second_interrupts() -> None:
    caught = CaughtSignals()

    async def run() -> None:
        caught.cancel(asyncio.create_task(asyncio.sleep(0)))

    asyncio.run(run())
    caught.release()
    caught.handle(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt):
        caught.handle(signal.SIGINT, None)
