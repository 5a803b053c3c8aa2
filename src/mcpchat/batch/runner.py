"""Many requests, a bounded number at a time, over one pool."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from msgspec import UNSET

from mcpchat.app.attachments import read_attachments
from mcpchat.app.run_turn import TurnOutcome, run_turn
from mcpchat.batch.session_factory import PASSING, Pool
from mcpchat.batch.types import Asked, Result, of_report, with_files
from mcpchat.core.report import Collector, Fault, fault
from mcpchat.engine import outcomes
from mcpchat.errors import ConfigError, LimitReached, McpChatError, ModelError, NoModel, ServerError, SignInNeeded
from mcpchat.util.time_limit import time_limit

_LONGEST_PAUSE = 60.0  # seconds
_RUN_OVER = {"tokens", "cost"}  # how a turn stops that met the budget of the whole run


@dataclass
class Tally:
    """How a batch went: ``failed`` counts by class, ``left`` are requests that were read and have no result."""

    ok: int = 0
    left: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    def count(self, result: Result) -> None:
        if isinstance(result.error, Fault):
            self.failed[result.error.kind] += 1
        else:
            self.ok += 1

    @property
    def finished(self) -> int:
        return self.ok + self.failed.total()


class Batch:
    """Runs requests over the pool; each result goes to ``write`` as soon as it is there.

    What fails in passing is tried ``retries`` times more, from where it broke off: no tool call runs twice. ``timeout``
    is each request's, in seconds.
    """

    def __init__(
        self,
        pool: Pool,
        write: Callable[[Result], None],
        *,
        concurrency: int,
        retries: int,
        timeout: float | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.tally = Tally()
        self.stopped: McpChatError | None = None  # why no more requests are begun
        self.running = 0
        self._pool = pool
        self._write = write
        self._concurrency = concurrency
        self._retries = retries
        self._timeout = timeout
        self._pause = pause
        self._over = asyncio.Event()
        self._ready: asyncio.Queue[Asked | None] = asyncio.Queue(1)

    async def run(self, requests: AsyncIterator[Asked | Result]) -> None:
        """Run them all, or until ``drain``. A Result among them is one already: it is only written."""
        async with asyncio.TaskGroup() as group:
            feeding = group.create_task(self._feed(requests))
            workers = [group.create_task(self._work()) for _ in range(self._concurrency)]
            over = group.create_task(self._over.wait())
            await asyncio.wait([feeding, over], return_when=asyncio.FIRST_COMPLETED)
            feeding.cancel()
            if self._over.is_set() and not self._ready.empty():
                self.tally.left += self._ready.get_nowait() is not None
            over.cancel()
            for _ in workers:
                await self._ready.put(None)

    def drain(self, why: McpChatError | None = None) -> None:
        """Begin no more requests; what runs comes to its end."""
        self.stopped = self.stopped or why
        self._over.set()

    async def _feed(self, requests: AsyncIterator[Asked | Result]) -> None:
        async for item in requests:
            if isinstance(item, Result):
                self._done(item)
            else:
                await self._ready.put(item)

    async def _work(self) -> None:
        while (asked := await self._ready.get()) is not None:
            if self._over.is_set():
                self.tally.left += 1
                continue
            self.running += 1
            try:
                result = await self._one(asked)
            finally:
                self.running -= 1
            if result is None:
                self.tally.left += 1
            else:
                self._done(result)

    def _done(self, result: Result) -> None:
        self.tally.count(result)
        self._write(result)

    async def _one(self, asked: Asked) -> Result | None:
        """The result of the request; None if it has to be run again another time."""
        collector, secrets = Collector(), self._pool.context.secrets
        trouble: McpChatError | None
        try:
            async with time_limit(self._timeout):
                outcome = await self._turn(asked, collector)
                trouble = outcome.error
                if outcome.value is not UNSET:
                    collector.set_value(outcome.value)
                if outcome.finished.stop in _RUN_OVER:
                    stop = outcome.finished.stop
                    trouble = OutOfBudget(outcomes.told(stop, self._pool.spent), hint=outcomes.HINTS[stop])
        except McpChatError as error:
            trouble = error
        except TimeoutError as error:
            trouble = McpChatError(f"timed out: {error}")
        except Exception as error:  # noqa: BLE001 - one request's error is not the others'
            trouble = McpChatError(secrets.redact_log(f"internal error: {type(error).__name__}: {error}"))
        if trouble is not None:
            if _is_everybodys(trouble, asked):
                self.drain(trouble)
                if not collector.report.tools:
                    return None  # else it would call them again
            trouble.message = secrets.redact(trouble.message)
            collector.report.error = fault(trouble)
        return of_report(asked, collector.report)

    async def _turn(self, asked: Asked, collector: Collector) -> TurnOutcome:
        request, secrets = asked.request, self._pool.context.secrets
        if request.attach:
            asked = with_files(asked, read_attachments(request.attach))
        session = await self._pool.session(
            collector, agent=request.agent, model=request.model, system=asked.system, schema=request.schema
        )
        for tried in range(self._retries + 1):
            try:
                return await run_turn(session, *asked.said, secrets=secrets, retry=tried > 0)
            except ModelError as error:
                if error.kind not in PASSING or tried == self._retries:
                    raise
                await self._pause(min(error.retry_after or 2.0**tried, _LONGEST_PAUSE))
        raise AssertionError("the last try returns or raises")


class OutOfBudget(LimitReached):
    """The budget of the whole run is used up."""


def _is_everybodys(error: McpChatError, asked: Asked) -> bool:
    """Whether every other request would fail as well: not where this one names a model or an agent of its own."""
    if isinstance(error, OutOfBudget):
        return True
    if asked.request.model is not None or asked.request.agent is not None:
        return False
    if isinstance(error, ModelError):
        return error.kind in {"auth", "quota"}
    return isinstance(error, NoModel | ConfigError | SignInNeeded | ServerError)
