"""The limit of calls in a minute."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from mcpchat.mcp.rate_limit import RateLimit


class Clock:
    """A clock that only sleeping and ``advance`` move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def read(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.now += seconds


@given(st.integers(1, 5), st.lists(st.floats(0, 40), max_size=30))
def test_no_minute_has_more_calls(calls: int, pauses: list[float]) -> None:
    clock, starts = Clock(), []
    limit = RateLimit(calls, clock=clock.read, sleep=clock.sleep)

    async def run() -> None:
        for pause in pauses:
            clock.now += pause
            if not limit.begin():
                await limit.wait(lambda seconds: None)
            starts.append(clock.now)

    asyncio.run(run())
    for first, last in zip(starts, starts[calls:], strict=False):
        assert last - first >= 60 - 1e-6


def test_waiting_calls_begin_in_their_order_and_are_told_how_long() -> None:
    clock, order, told = Clock(), [], []
    limit = RateLimit(1, clock=clock.read, sleep=clock.sleep)

    async def call(number: int) -> None:
        if not limit.begin():
            await limit.wait(told.append)
        order.append((number, clock.now))

    async def run() -> None:
        await asyncio.gather(*(call(number) for number in range(3)))

    asyncio.run(run())
    assert order == [(0, 1000.0), (1, 1060.0), (2, 1120.0)]
    assert told == [60.0, 60.0]
    assert not limit.begin()
    assert limit.seconds_left == 60.0
