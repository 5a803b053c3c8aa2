"""A server's limit of calls in a minute: calls wait, or are refused."""

import asyncio

from mcpchat.config.schema import ServerLimits
from mcpchat.core.events import ToolProgress
from mcpchat.core.messages import result_text
from mcpchat.mcp.rate_limit import RateLimit
from tests.support.hub import OpenHub, quirky_server


async def test_calls_above_the_limit_are_refused_if_told_so(open_test_hub: OpenHub) -> None:
    limits = ServerLimits(calls_per_minute=2, over="refuse")
    async with open_test_hub(box=quirky_server(limits=limits)) as fixture:
        results = [await fixture.call("box.echo", text=str(number)) for number in range(3)]
    assert [result.is_error for result in results] == [False, False, True]
    text = result_text(results[2])
    assert text.startswith("not run: at most 2 calls of box a minute (servers.box.limits); try again in ")


async def test_calls_above_the_limit_wait_and_say_so(open_test_hub: OpenHub) -> None:
    async with open_test_hub(box=quirky_server(limits=ServerLimits(calls_per_minute=1))) as fixture:
        now = [0.0]

        async def sleep(seconds: float) -> None:
            now[0] += seconds

        fixture.hub._servers["box"]._rate = RateLimit(1, clock=lambda: now[0], sleep=sleep)
        results = await asyncio.gather(*(fixture.call("box.echo", text=str(number)) for number in range(3)))
        notes = [event.note for event in fixture.events if isinstance(event, ToolProgress)]
    assert not any(result.is_error for result in results)
    assert now == [120.0]
    assert notes == ["waits 60 s: at most 1 call of box a minute (servers.box.limits)"] * 2
