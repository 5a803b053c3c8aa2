"""Runs one request of a batch at a time, with retries, in the sessions of this process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, NamedTuple, Protocol

from msgspec import UNSET

from mcpchat.app.attachments import read_attachments
from mcpchat.app.run_turn import TurnOutcome, run_turn
from mcpchat.batch.session_factory import SessionFactory, open_session_factory
from mcpchat.batch.types import BatchResult, PreparedRequest, attach_files, result_from_report
from mcpchat.config.run import RunContext, RunOptions, default_paths
from mcpchat.core.events import Emit
from mcpchat.core.form_answers import FormAnswers, use_answers
from mcpchat.core.protocols import SignInDialog, UserDialog
from mcpchat.core.report import ReportBuilder, error_report
from mcpchat.core.usage import UsageTotals
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
    UsageError,
)
from mcpchat.util.time_limit import time_limit

_MAX_RETRY_DELAY = 60.0  # seconds
_BUDGET_STOPS = {"tokens", "cost"}  # stop values of a turn that used up the budget of the whole run


class Processed(NamedTuple):
    """What came of a request: its result, or None if ``--resume`` has to run it again. ``stop`` ends the whole run."""

    result: BatchResult | None
    stop: McpChatError | None = None


class RequestProcessor(Protocol):
    """Runs requests. ``run_usage`` is the usage of all of them, ``slots`` how many it takes at a time by default.

    ``note`` says where they run, for the progress bar; empty for this process.
    """

    @property
    def run_usage(self) -> UsageTotals: ...
    @property
    def track_cost(self) -> bool: ...
    @property
    def slots(self) -> int: ...
    @property
    def note(self) -> str: ...
    async def process(self, request: PreparedRequest) -> Processed: ...


class SessionProcessor:
    """Runs requests with sessions of the factory.

    A transient failure is retried up to ``retries`` times. A retry continues where the turn stopped, so no tool call
    runs twice. ``timeout`` is for one request, in seconds.
    """

    slots = 8
    note = ""

    def __init__(
        self,
        factory: SessionFactory,
        *,
        retries: int,
        timeout: float | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._factory = factory
        self._retries = retries
        self._timeout = timeout
        self._sleep = sleep

    @property
    def run_usage(self) -> UsageTotals:
        return self._factory.run_usage

    @property
    def track_cost(self) -> bool:
        return self._factory.track_cost

    async def process(self, request: PreparedRequest) -> Processed:
        """Run a request. There is no result for an error that ends the whole run, if no tool was called yet."""
        builder, secrets = ReportBuilder(), self._factory.context.secrets
        failure: McpChatError | None
        stop: McpChatError | None = None
        try:
            async with time_limit(self._timeout):
                with use_answers(FormAnswers(values=request.source.answers)):
                    outcome = await self._run_with_retries(request, builder)
                failure = outcome.error
                if outcome.value is not UNSET:
                    builder.set_value(outcome.value)
                if outcome.finished.stop in _BUDGET_STOPS:
                    reason = outcome.finished.stop
                    failure = BudgetExceeded(
                        outcomes.describe_stop(reason, self._factory.run_usage), hint=outcomes.STOP_HINTS[reason]
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
                stop = failure
                if not builder.report.tools:
                    return Processed(None, stop)  # with tool calls, a new run would repeat them
            builder.report.error = error_report(failure)
        return Processed(result_from_report(request, builder.report), stop)

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


@asynccontextmanager
async def open_processor(
    context: RunContext,
    options: RunOptions,
    *,
    workers: str | None = None,
    retries: int,
    timeout: float | None,
    emit: Emit,
    asker: UserDialog,
    screen: SignInDialog,
) -> AsyncIterator[RequestProcessor]:
    """What runs the requests: this process, or the workers of the Dask cluster whose scheduler is at ``workers``.

    Raises UsageError if Dask is not installed, ServerError if the scheduler cannot be reached.
    """
    if workers is not None:
        own = default_paths(context.environ).config
        config = None if context.paths.config == own else str(context.paths.config.absolute())
        cluster = _load_cluster().open_cluster(workers, options, config=config, retries=retries, timeout=timeout)
        async with cluster as processor:
            yield processor
        return
    async with open_session_factory(context, options, emit=emit, asker=asker, screen=screen) as factory:
        yield SessionProcessor(factory, retries=retries, timeout=timeout)


def _load_cluster() -> Any:
    try:
        return import_module("mcpchat.batch.cluster")
    except ImportError as error:
        raise UsageError("workers need Dask, which is not installed", hint='pip install "mcpchat[dask]"') from error
