"""Runs the requests of a batch on the workers of a Dask cluster."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
from distributed import Client, KilledWorker
from distributed.client import ClosedClientError, FutureCancelledError
from distributed.comm import CommClosedError

from mcpchat.app.attachments import read_attachments
from mcpchat.batch.cluster_worker import RequestOutcome, RunOrder, end_run, run_request
from mcpchat.batch.processing import Processed
from mcpchat.batch.types import BatchResult, PreparedRequest, attach_files, parse_scheduler
from mcpchat.config.run import RunOptions
from mcpchat.core.report import ErrorReport, error_report
from mcpchat.core.usage import UsageTotals
from mcpchat.errors import McpChatError, ServerError

_CONNECT_TIMEOUT = 10.0  # seconds
_END_TIMEOUT = 3.0  # seconds for the workers to hear that the batch has ended; their servers stop by themselves
_REFRESH_INTERVAL = 1.0  # seconds between two looks at which workers there are


class ClusterProcessor:
    """Runs each request on some worker. One that a lost worker had is run again on another.

    Every request carries what the run has spent so far, so the budget holds for all workers together, except for what
    the requests in progress spend.
    """

    def __init__(self, client: Client, order: RunOrder) -> None:
        self.run_usage = UsageTotals()
        self._client = client
        self._order = order
        self._encoded_order = msgspec.json.encode(order)
        self._threads: dict[str, int] = {}  # of each worker, by its address

    @property
    def track_cost(self) -> bool:
        return self._order.options.track_cost

    @property
    def slots(self) -> int:
        """How many requests the workers take at a time."""
        return sum(self._threads.values())

    @property
    def note(self) -> str:
        count = len(self._threads)
        return f"{count} worker{'s' * (count != 1)}"

    async def refresh(self) -> None:
        """Ask the scheduler which workers there are. If it cannot be asked, the present ones are assumed to stay."""
        with suppress(Exception):  # Dask raises many kinds while it connects again
            workers = (await self._client.scheduler.identity(n_workers=-1))["workers"]
            self._threads = {address: worker["nthreads"] for address, worker in workers.items()}

    async def keep_refreshed(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_INTERVAL)
            await self.refresh()

    async def process(self, request: PreparedRequest) -> Processed:
        try:
            outcome = await self._run_on_worker(self._read_files(request))
        except SchedulerLost as error:
            return Processed(None, error)
        except McpChatError as error:
            return Processed(BatchResult(id=request.id, line=request.line, error=error_report(error)))
        if (result := outcome.result) is not None:
            self.run_usage.add(result.usage, lambda usage: result.cost)
        return Processed(result, _RemoteError(outcome.stop) if outcome.stop is not None else None)

    def _read_files(self, request: PreparedRequest) -> PreparedRequest:
        """The request with its files in it: they are on this machine. Raises UsageError."""
        if not request.source.attach:
            return request
        request = attach_files(request, read_attachments(request.source.attach))
        return msgspec.structs.replace(request, source=msgspec.structs.replace(request.source, attach=()))

    async def _run_on_worker(self, request: PreparedRequest) -> RequestOutcome:
        """Raises ServerError if no worker survives it, SchedulerLost, McpChatError if it fails otherwise."""
        spent = self.run_usage
        try:
            future = self._client.submit(
                run_request,
                self._encoded_order,
                msgspec.json.encode(request),
                spent.usage.total,
                spent.dollars,
                key=f"mcpchat-{self._order.id}-{request.line}",
                pure=False,
            )
        except ClosedClientError:
            raise SchedulerLost from None
        try:
            return msgspec.json.decode(await future, type=RequestOutcome)
        except KilledWorker as error:
            raise ServerError("every worker that ran it has ended", hint="its memory, or the worker's log") from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():  # it was not ours: the futures end with the connection
                raise SchedulerLost from None
            with suppress(Exception):
                await asyncio.shield(future.cancel())
            raise
        except (FutureCancelledError, CommClosedError):
            raise SchedulerLost from None
        except Exception as error:  # Dask raises here what the worker raised
            raise McpChatError(f"the worker failed: {type(error).__name__}: {error}") from error


class SchedulerLost(ServerError):
    """The scheduler has gone, and with it all that was submitted."""

    def __init__(self) -> None:
        super().__init__("the connection to the scheduler is lost", hint="start it again")


class _RemoteError(McpChatError):
    """An error that ended the run on a worker."""

    def __init__(self, report: ErrorReport) -> None:
        super().__init__(report.message, hint=report.hint)
        self.kind = report.kind
        self.exit_code = report.code  # type: ignore[misc]  # that of the error on the worker


async def _connect(address: str) -> Client:
    """Raises OSError at once if nothing listens there: Dask's client would try for as long as it may."""
    async with asyncio.timeout(_CONNECT_TIMEOUT):
        _, writer = await asyncio.open_connection(*parse_scheduler(address))
    writer.close()
    for name in ("distributed", "distributed.client"):  # what they report, we report
        logging.getLogger(name).setLevel(logging.CRITICAL)
    options = {"asynchronous": True, "timeout": _CONNECT_TIMEOUT, "name": "mcpchat", "set_as_default": False}
    async with asyncio.timeout(_CONNECT_TIMEOUT):
        client: Client = await Client(address, **options)
    return client


@asynccontextmanager
async def open_cluster(
    address: str, options: RunOptions, *, config: str | None, retries: int, timeout: float | None
) -> AsyncIterator[ClusterProcessor]:
    """Connect to the scheduler at ``address`` (tcp:// or tls://). The runs on the workers end with the block.

    Raises UsageError if the address is not valid, ServerError if the scheduler cannot be reached or has no workers.
    """
    order = RunOrder(id=secrets.token_hex(4), options=options, config=config, retries=retries, timeout=timeout)
    try:
        client = await _connect(address)
    except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as error:  # the last two of TLS without keys
        message = f"the scheduler {address} cannot be reached"
        raise ServerError(message, hint="dask scheduler starts one; --workers tcp://HOST:8786") from error
    try:
        try:
            await client.wait_for_workers(1, timeout=_CONNECT_TIMEOUT)
        except TimeoutError as error:
            raise ServerError(f"the scheduler {address} has no workers", hint=f"dask worker {address}") from error
        processor = ClusterProcessor(client, order)
        await processor.refresh()
        refreshing = asyncio.create_task(processor.keep_refreshed())
        try:
            yield processor
        finally:
            refreshing.cancel()
    finally:
        with suppress(Exception):
            async with asyncio.timeout(_END_TIMEOUT):
                await client.run(end_run, order.id, on_error="ignore")
        with suppress(Exception):
            async with asyncio.timeout(_END_TIMEOUT):
                await client.close()
