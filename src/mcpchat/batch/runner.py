"""Runs the requests of a batch, a limited number at a time."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from mcpchat.batch.processing import RequestProcessor
from mcpchat.batch.types import BatchResult, PreparedRequest
from mcpchat.core.report import ErrorReport
from mcpchat.errors import McpChatError

_SLOTS_INTERVAL = 1.0  # seconds between two looks at how many requests the processor takes


@dataclass
class BatchStats:
    """Counts of a batch's results. ``failed`` counts errors by kind; ``skipped`` requests were read but not run."""

    succeeded: int = 0
    skipped: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    def count(self, result: BatchResult) -> None:
        if isinstance(result.error, ErrorReport):
            self.failed[result.error.kind] += 1
        else:
            self.succeeded += 1

    @property
    def finished(self) -> int:
        """The number of requests with a result, failed ones included."""
        return self.succeeded + self.failed.total()


class BatchRunner:
    """Runs requests, at most ``concurrency`` at a time. Each result goes to ``write`` as soon as it is complete.

    Without ``concurrency``, it runs as many as the processor has slots, also when these become more.
    """

    def __init__(
        self, processor: RequestProcessor, write: Callable[[BatchResult], None], *, concurrency: int | None = None
    ) -> None:
        self.stats = BatchStats()
        self.stop_reason: McpChatError | None = None  # why no more requests are started
        self.running = 0
        self._processor = processor
        self._write = write
        self._concurrency = concurrency
        self._stop = asyncio.Event()
        self._queue: asyncio.Queue[PreparedRequest | None] = asyncio.Queue(1)

    async def run(self, requests: AsyncIterator[PreparedRequest | BatchResult]) -> None:
        """Run all requests, or until ``stop_accepting``. A BatchResult among them is only written."""
        async with asyncio.TaskGroup() as group:
            producer = group.create_task(self._produce(requests))
            workers: list[asyncio.Task[None]] = []
            grow = group.create_task(self._start_workers(group, workers))
            stop = group.create_task(self._stop.wait())
            await asyncio.wait([producer, stop], return_when=asyncio.FIRST_COMPLETED)
            producer.cancel()
            if self._stop.is_set() and not self._queue.empty():
                self.stats.skipped += self._queue.get_nowait() is not None
            stop.cancel()
            grow.cancel()
            for _ in workers:
                await self._queue.put(None)

    async def _start_workers(self, group: asyncio.TaskGroup, workers: "list[asyncio.Task[None]]") -> None:
        """Start the tasks that run requests, one for each at a time."""
        while True:
            wanted = self._concurrency or max(1, self._processor.slots)
            workers += [group.create_task(self._worker()) for _ in range(wanted - len(workers))]
            if self._concurrency is not None:
                return
            await asyncio.sleep(_SLOTS_INTERVAL)

    def stop_accepting(self, reason: McpChatError | None = None) -> None:
        """Start no more requests. Running requests are completed."""
        self.stop_reason = self.stop_reason or reason
        self._stop.set()

    async def _produce(self, requests: AsyncIterator[PreparedRequest | BatchResult]) -> None:
        async for item in requests:
            if isinstance(item, BatchResult):
                self._record(item)
            else:
                await self._queue.put(item)

    async def _worker(self) -> None:
        while (request := await self._queue.get()) is not None:
            if self._stop.is_set():
                self.stats.skipped += 1
                continue
            self.running += 1
            try:
                result, stop = await self._processor.process(request)
            finally:
                self.running -= 1
            if stop is not None:
                self.stop_accepting(stop)
            if result is None:
                self.stats.skipped += 1
            else:
                self._record(result)

    def _record(self, result: BatchResult) -> None:
        self.stats.count(result)
        self._write(result)
