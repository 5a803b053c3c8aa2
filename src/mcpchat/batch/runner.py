"""Runs the requests of a batch, a limited number at a time, with retries."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from msgspec import UNSET

from mcpchat.app.attachments import read_attachments
from mcpchat.app.run_turn import TurnOutcome, run_turn
from mcpchat.batch.session_factory import SessionFactory
from mcpchat.batch.types import BatchResult, PreparedRequest, attach_files, result_from_report
from mcpchat.core.form_answers import FormAnswers, use_answers
from mcpchat.core.report import ErrorReport, ReportBuilder, error_report
from mcpchat.engine import outcomes
from mcpchat.errors import (
    TRANSIENT_ERRORS,
    ConfigError,
    LimitReached,
    McpChatError,
    ModelError,
    NoModelConfigured,
    ServerError,
    SignInNeeded,
)
from mcpchat.util.time_limit import time_limit

_MAX_RETRY_DELAY = 60.0  # seconds
_BUDGET_STOPS = {"tokens", "cost"}  # stop values of a turn that used up the budget of the whole run


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
    """Runs requests with sessions of the factory. Each result goes to ``write`` as soon as it is complete.

    A transient failure is retried up to ``retries`` times. A retry continues where the turn stopped, so no tool call
    runs twice. ``timeout`` is for one request, in seconds.
    """

    def __init__(
        self,
        factory: SessionFactory,
        write: Callable[[BatchResult], None],
        *,
        concurrency: int,
        retries: int,
        timeout: float | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.stats = BatchStats()
        self.stop_reason: McpChatError | None = None  # why no more requests are started
        self.running = 0
        self._factory = factory
        self._write = write
        self._concurrency = concurrency
        self._retries = retries
        self._timeout = timeout
        self._sleep = sleep
        self._stop = asyncio.Event()
        self._queue: asyncio.Queue[PreparedRequest | None] = asyncio.Queue(1)

    async def run(self, requests: AsyncIterator[PreparedRequest | BatchResult]) -> None:
        """Run all requests, or until ``stop_accepting``. A BatchResult among them is only written."""
        async with asyncio.TaskGroup() as group:
            producer = group.create_task(self._produce(requests))
            workers = [group.create_task(self._worker()) for _ in range(self._concurrency)]
            stop = group.create_task(self._stop.wait())
            await asyncio.wait([producer, stop], return_when=asyncio.FIRST_COMPLETED)
            producer.cancel()
            if self._stop.is_set() and not self._queue.empty():
                self.stats.skipped += self._queue.get_nowait() is not None
            stop.cancel()
            for _ in workers:
                await self._queue.put(None)

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
                result = await self._process(request)
            finally:
                self.running -= 1
            if result is None:
                self.stats.skipped += 1
            else:
                self._record(result)

    def _record(self, result: BatchResult) -> None:
        self.stats.count(result)
        self._write(result)

    async def _process(self, request: PreparedRequest) -> BatchResult | None:
        """Run a request and return its result, or None if ``--resume`` has to run it again.

        None is for an error that ends the whole run, if no tool was called yet.
        """
        builder, secrets = ReportBuilder(), self._factory.context.secrets
        failure: McpChatError | None
        try:
            async with time_limit(self._timeout):
                with use_answers(FormAnswers(values=request.source.answers)):
                    outcome = await self._run_with_retries(request, builder)
                failure = outcome.error
                if outcome.value is not UNSET:
                    builder.set_value(outcome.value)
                if outcome.finished.stop in _BUDGET_STOPS:
                    stop = outcome.finished.stop
                    failure = BudgetExceeded(
                        outcomes.describe_stop(stop, self._factory.run_usage), hint=outcomes.STOP_HINTS[stop]
                    )
        except McpChatError as error:
            failure = error
        except TimeoutError as error:
            failure = McpChatError(f"timed out: {error}")
        except Exception as error:  # noqa: BLE001 - an error of one request must not stop the others
            failure = McpChatError(secrets.redact_log(f"internal error: {type(error).__name__}: {error}"))
        if failure is not None:
            failure.message, failure.hint = secrets.redact(failure.message), secrets.redact(failure.hint)
            if _is_run_wide(failure, request):
                self.stop_accepting(failure)
                if not builder.report.tools:
                    return None  # with tool calls, a new run would repeat them
            builder.report.error = error_report(failure)
        return result_from_report(request, builder.report)

    async def _run_with_retries(self, request: PreparedRequest, builder: ReportBuilder) -> TurnOutcome:
        source, secrets = request.source, self._factory.context.secrets
        if source.attach:
            request = attach_files(request, read_attachments(source.attach))
        session = await self._factory.create_session(
            builder, agent=source.agent, model=source.model, system=request.system, schema=source.schema
        )
        for attempt in range(self._retries + 1):
            try:
                # A call that was denied in an earlier attempt counts.
                return await run_turn(session, *request.messages, secrets=secrets, retry=attempt > 0, denials_from=0)
            except ModelError as error:
                if error.kind not in TRANSIENT_ERRORS or attempt == self._retries:
                    raise
                await self._sleep(min(error.retry_after or 2.0**attempt, _MAX_RETRY_DELAY))
        raise AssertionError("the last attempt returns or raises")


class BudgetExceeded(LimitReached):
    """The budget of the whole run is used up."""


def _is_run_wide(error: McpChatError, request: PreparedRequest) -> bool:
    """Whether every other request would fail with the same error.

    Apart from the budget, that cannot be known if the request names its own model or agent.
    """
    if isinstance(error, BudgetExceeded):
        return True
    if request.source.model is not None or request.source.agent is not None:
        return False
    if isinstance(error, ModelError):
        return error.kind in {"auth", "quota"}
    return isinstance(error, NoModelConfigured | ConfigError | SignInNeeded | ServerError)
