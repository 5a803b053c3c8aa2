"""Many requests, a bounded number at a time, over one pool."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from mcpchat.app import attachments
from mcpchat.batch.session_factory import PASSING, Pool
from mcpchat.batch.types import Asked, Result, of_report, with_files
from mcpchat.core.events import TurnFinished
from mcpchat.core.report import Collector, Fault, fault
from mcpchat.engine import outcomes
from mcpchat.engine.session import Session
from mcpchat.errors import ConfigError, LimitReached, McpChatError, ModelError, NoModel, ServerError, SignInNeeded

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
        """What came of the request; None where it has to be run again another time."""
        collector = Collector()
        heard = outcomes.Denials(collector)
        try:
            async with asyncio.timeout(self._timeout) as limit:
                trouble = await self._turn(asked, collector, heard)
        except TimeoutError as error:
            trouble = LimitReached(f"stopped: the time of {self._timeout} s is up", hint="--timeout allows more")
            if not limit.expired():
                trouble = McpChatError(f"timed out: {error}")
        except McpChatError as error:
            trouble = error
        except Exception as error:  # noqa: BLE001 - one request's trouble is not the others'
            told = f"internal error: {type(error).__name__}: {error}"
            trouble = McpChatError(self._pool.setup.secrets.redact_log(told))
        if trouble is not None:
            if _is_everybodys(trouble, asked):
                self.drain(trouble)
                if not collector.report.tools:
                    return None  # else it would call them again
            trouble.message = self._pool.setup.secrets.redact(trouble.message)
            collector.report.error = fault(trouble)
        return of_report(asked, collector.report)

    async def _turn(self, asked: Asked, collector: Collector, heard: outcomes.Denials) -> McpChatError | None:
        request = asked.request
        if request.attach:
            asked = with_files(asked, tuple(part for name in request.attach for part in attachments.read(name)))
        session = await self._pool.session(
            heard, agent=request.agent, model=request.model, system=asked.system, schema=request.schema
        )
        finished = await self._said(session, asked)
        if session.fits_a_schema:
            finished, value = await session.fitted(finished)
            if value:
                self._take_value(collector, value)
        if finished.stop in _RUN_OVER:
            raise OutOfBudget(outcomes.told(finished.stop, self._pool.spent), hint=outcomes.HINTS[finished.stop])
        return outcomes.verdict(finished, heard.denied, self._pool.spent)

    def _take_value(self, collector: Collector, value: str) -> None:
        import json

        found = self._pool.setup.secrets.redact_value(json.loads(value))
        collector.report.answer, collector.report.value = json.dumps(found, ensure_ascii=False), found

    async def _said(self, session: Session, asked: Asked) -> TurnFinished:
        for tried in range(self._retries + 1):
            try:
                return await (session.retry() if tried else session.send(*asked.said))
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
