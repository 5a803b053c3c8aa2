"""What runs on the workers of a cluster: requests of a batch, with the servers and the config of the worker's machine.

Dask calls ``run_request`` in its threads. All of a process share one set of servers and models, which live in a thread
of their own, and end when no request has come for a minute.
"""

import asyncio
import os
import sys
import threading
import time
from collections import deque
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from pathlib import Path

import msgspec
from msgspec import Struct

from mcpchat.batch.processing import Processed, SessionProcessor
from mcpchat.batch.session_factory import open_session_factory
from mcpchat.batch.types import BatchResult, PreparedRequest
from mcpchat.config.load import load_config
from mcpchat.config.run import RunContext, RunOptions, default_paths
from mcpchat.core.report import ErrorReport, error_report
from mcpchat.errors import McpChatError, UsageError
from mcpchat.ui.prompts.sign_in import PlainSignIn
from mcpchat.ui.render.plain import NonInteractiveDialog
from mcpchat.version import __version__

_IDLE_SECONDS = 60.0
_LOOK_INTERVAL = 0.5  # seconds
_END_TIMEOUT = 8.0  # seconds for the servers to stop
_runs: dict[str, "_WorkerRun"] = {}
_ended_runs: deque[str] = deque(maxlen=1000)  # their ids
_lock = threading.Lock()


class RunOrder(Struct, frozen=True, kw_only=True):
    """What all requests of a run have in common. ``config`` is a path on the worker, None for the user's config."""

    id: str
    version: str = __version__
    options: RunOptions
    config: str | None = None
    retries: int = 2
    timeout: float | None = None


class RequestOutcome(Struct, frozen=True, kw_only=True):
    """What a worker sends back: the result, if there is one, and the error that ends the whole run."""

    result: BatchResult | None = None
    stop: ErrorReport | None = None


def run_request(order: bytes, request: bytes, tokens: int, dollars: float) -> bytes:
    """Run a request (a PreparedRequest) of a run (a RunOrder), and return a RequestOutcome; all as JSON.

    ``tokens`` and ``dollars`` are what the whole run has spent so far.
    """
    parsed_order = msgspec.json.decode(order, type=RunOrder)
    parsed_request = msgspec.json.decode(request, type=PreparedRequest)
    processed = None
    while processed is None:  # a run that has just ended takes nothing more
        try:
            processed = _find_run(parsed_order).process(parsed_request, tokens, dollars)
        except McpChatError as error:
            processed = Processed(None, error)
    result, stop = processed
    outcome = RequestOutcome(result=result, stop=error_report(stop) if stop is not None else None)
    return msgspec.json.encode(outcome)


async def end_run(run_id: str) -> None:
    """Cancel the requests of a run, and stop its servers, if it has any here. Runs in Dask's loop."""
    with _lock:
        _ended_runs.append(run_id)
        run = _runs.pop(run_id, None)
    if run is not None:
        await asyncio.to_thread(run.end)


def _find_run(order: RunOrder) -> "_WorkerRun":
    with _lock:
        if order.id in _ended_runs:
            raise McpChatError("the batch has ended")
        run = _runs.get(order.id)
        if run is None or run.has_ended:
            run = _runs[order.id] = _WorkerRun(order)
        return run


class _WorkerRun:
    """A run on this worker: a thread with an event loop, in which its servers and requests are."""

    def __init__(self, order: RunOrder) -> None:
        self._order = order
        self._processor: SessionProcessor | None = None
        self._failure: McpChatError | None = None
        self._ready = threading.Event()
        self._lock = threading.Lock()
        self._accepted = 0  # requests that have not ended
        self._running: set[Future[Processed]] = set()
        self._last_used = time.monotonic()
        self._shall_end = False
        self.has_ended = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"mcpchat {order.id}", daemon=True)
        self._thread.start()

    def process(self, request: PreparedRequest, tokens: int, dollars: float) -> Processed | None:
        """Run a request; called from any thread. None if the run has ended: another one has to take the request.

        Raises the error for which the run could not be started.
        """
        with self._lock:
            if self.has_ended and self._failure is None:
                return None
            self._accepted += 1
        try:
            self._ready.wait()
            if self._failure is not None:
                raise self._failure
            if self._shall_end:
                raise McpChatError("the batch has ended")
            future = asyncio.run_coroutine_threadsafe(self._process(request, tokens, dollars), self._loop)
            self._running.add(future)
            if self._shall_end:  # since the line above
                future.cancel()
            try:
                return future.result()
            except CancelledError as error:
                raise McpChatError("the batch has ended") from error
            finally:
                self._running.discard(future)
        finally:
            with self._lock:
                self._accepted -= 1
                self._last_used = time.monotonic()

    async def _process(self, request: PreparedRequest, tokens: int, dollars: float) -> Processed:
        assert self._processor is not None
        self._processor.run_usage.raise_to(tokens, dollars)
        return await self._processor.process(request)

    def end(self) -> None:
        """Cancel what runs, and stop the servers."""
        self._shall_end = True
        for future in list(self._running):
            future.cancel()
        self._thread.join(_END_TIMEOUT)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except McpChatError as error:
            self._failure = error
        except Exception as error:  # noqa: BLE001 - every request has to learn of it
            self._failure = McpChatError(f"internal error: {type(error).__name__}: {error}")
        finally:
            self.has_ended = True
            self._ready.set()
            self._loop.close()

    async def _serve(self) -> None:
        order = self._order
        if order.version != __version__:
            raise UsageError(f"a worker has mcpchat {__version__}, and the batch was started by {order.version}")
        factory = open_session_factory(
            _build_context(order.config),
            order.options,
            emit=lambda event: None,
            asker=NonInteractiveDialog(),
            screen=PlainSignIn(sys.stderr, lambda text: None),
        )
        async with factory as sessions:
            self._processor = SessionProcessor(sessions, retries=order.retries, timeout=order.timeout)
            self._ready.set()
            while not self._end_if_unused():  # noqa: ASYNC110 - what it waits for happens in other threads
                await asyncio.sleep(_LOOK_INTERVAL)

    def _end_if_unused(self) -> bool:
        """End if nothing runs, and the run is over or was idle. From then on it takes no request."""
        with self._lock:
            is_over = self._shall_end or time.monotonic() - self._last_used > _IDLE_SECONDS
            self.has_ended = is_over and not self._accepted
            return self.has_ended


def _build_context(config: str | None) -> RunContext:
    """The context with this machine's config. A project file is not read: it would need a user who trusts it."""
    environ = dict(os.environ)
    paths = default_paths(environ)
    if config is not None:
        paths = replace(paths, config=Path(config))
    settings = load_config(paths.config, must_exist=config is not None or bool(environ.get("MCPCHAT_CONFIG")))
    return RunContext(config=settings, environ=environ, paths=paths)
