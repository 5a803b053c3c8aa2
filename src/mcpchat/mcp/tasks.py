"""Follows a tool call that a server runs as a task, until its result is there. Imports no SDK."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol, get_args

from msgspec import Struct
from msgspec.structs import replace

from mcpchat.core.events import Emit, ToolProgress, ToolTask
from mcpchat.core.messages import ToolResult, error_result
from mcpchat.core.server_task import TERMINAL, ServerTask, TaskPutAside, TaskStatus, new_task_id
from mcpchat.errors import McpChatError, ServerError
from mcpchat.util.sanitize import one_line

_MIN_INTERVAL, _MAX_INTERVAL = 0.05, 300.0  # seconds between two requests for the state, whatever the server says
_FIRST_INTERVAL, _SLOWEST_INTERVAL, _SLOWDOWN = 0.25, 5.0, 1.5  # seconds, if the server says nothing
_CANCEL_TIMEOUT = 5.0  # seconds for telling the server that nobody waits any more
_SAVE_INTERVAL = 10.0  # seconds between two saves for a new status line
_MAX_FAILURES = 3  # requests for the state in a row that may fail
MAX_MESSAGE = 500  # characters of a status line
_MAX_ID = 1000  # characters
_MAX_QUESTIONS = 100  # of one task


class TaskState(Struct, frozen=True, kw_only=True):
    """What a server says about a task.

    ``ttl`` is in seconds from the creation, None for no limit; ``poll_interval`` in seconds, None if it says nothing.
    ``result`` is set once it is there, if this answer has it. ``requests`` are the task's questions, by their keys.
    ``note`` is the server's text for the model while the task runs. ``has_result_request``: in revision 2025-11-25 the
    result, and questions, come by a request of its own.
    """

    task_id: str
    status: TaskStatus
    message: str = ""
    ttl: float | None = None
    poll_interval: float | None = None
    result: ToolResult | None = None
    requests: dict[str, Any] = {}
    note: str = ""
    has_result_request: bool = False


class TaskLost(ServerError):
    """The server no longer knows the task."""


class TaskRefused(ServerError):
    """The server refuses a request about a task, or asks for something that it may not have."""


class TaskRequests(Protocol):
    """The requests to a task's server. They raise ServerError, SignInNeeded, and TaskLost."""

    async def get_task(self, task: ServerTask, call_id: str) -> TaskState: ...
    async def fetch_task_result(self, task: ServerTask, call_id: str) -> ToolResult:
        """The result of the task; waits for it. Questions of the server arrive meanwhile."""
        ...

    async def answer_task(self, task: ServerTask, requests: Mapping[str, Any]) -> None:
        """Ask the user the questions of the task, and send the answers."""
        ...

    async def cancel_task(self, task: ServerTask) -> None: ...


def parse_task_state(raw: Mapping[str, Any]) -> TaskState | None:
    """The state in a result of the extension, or of revision 2025-11-25. None if it is no valid one."""
    task_id, status = raw.get("taskId"), raw.get("status")
    if not isinstance(task_id, str) or not 0 < len(task_id) <= _MAX_ID or status not in get_args(TaskStatus):
        return None
    assert status is not None
    message, requests = raw.get("statusMessage"), raw.get("inputRequests")
    return TaskState(
        task_id=task_id,
        status=status,
        message=message if isinstance(message, str) else "",
        ttl=_seconds(raw.get("ttlMs", raw.get("ttl"))),
        poll_interval=_seconds(raw.get("pollIntervalMs", raw.get("pollInterval"))),
        requests=requests if isinstance(requests, dict) else {},
    )


def _seconds(milliseconds: object) -> float | None:
    if not isinstance(milliseconds, int | float) or isinstance(milliseconds, bool):
        return None
    if not milliseconds >= 0:  # negative, or no number
        return None
    return min(milliseconds, 1e15) / 1000


def begin_task(server: str, tool: str, state: TaskState) -> ServerTask:
    """The task that the server has just created."""
    task = ServerTask(
        id=new_task_id(), server=server, tool=tool, task_id=state.task_id, created=time.time(), updated=time.time()
    )
    return update_task(task, state)


def last_state(task: ServerTask) -> TaskState:
    """What is known about a task that is followed again."""
    return TaskState(task_id=task.task_id, status=task.status, message=task.message, poll_interval=0.0)


def update_task(task: ServerTask, state: TaskState) -> ServerTask:
    """The task by what its server says now."""
    return replace(
        task,
        status=state.status,
        message=state.message,
        updated=time.time(),
        deadline=None if state.ttl is None else task.created + state.ttl,
        poll_interval=state.poll_interval,
    )


def lose_task(task: ServerTask, error: TaskLost) -> ServerTask:
    """The task once its server no longer knows it."""
    expired = task.deadline is not None and time.time() >= task.deadline
    text = "its server has dropped it: its time was over" if expired else one_line(error.message, MAX_MESSAGE)
    return replace(task, status="failed", message=text, updated=time.time())


class TaskFollower:
    """Follows the tasks of one server. ``save`` stores a task when its state has changed.

    ``put_aside`` lets those that are followed go on without their caller. ``find_later`` says, as a hint, how a task is
    found again.
    """

    def __init__(
        self,
        requests: TaskRequests,
        save: Callable[[ServerTask], Awaitable[None]],
        find_later: Callable[[ServerTask], str] = lambda task: f"mcpchat tasks {task.id} asks again",
    ) -> None:
        self._requests = requests
        self._save = save
        self._find_later = find_later
        self._put_aside: set[asyncio.Event] = set()

    @property
    def count(self) -> int:
        """How many tasks are followed."""
        return len(self._put_aside)

    def put_aside(self) -> int:
        """Let the tasks go on without those who wait for them. Returns how many there are."""
        for event in self._put_aside:
            event.set()
        return len(self._put_aside)

    async def follow(
        self,
        task: ServerTask,
        state: TaskState,
        call_id: str,
        emit: Emit,
        *,
        limit: float | None = None,
        is_background: bool = False,
    ) -> tuple[ServerTask, ToolResult | TaskPutAside]:
        """Wait for the result of a task. After ``limit`` seconds, or if it is put aside, it goes on without us.

        If a question of the task is not allowed, the server is told to cancel it; also if the caller is cancelled,
        unless ``is_background``. A task in the background cannot be put aside. Raises ServerError,
        SignInNeeded; the task stays as it is then.
        """
        aside = asyncio.Event()
        run = _FollowedTask(self._requests, self._save, task, state, call_id, emit, self._find_later)
        if not is_background:
            self._put_aside.add(aside)
        try:
            result = await run.wait_for_result(aside, limit)
            return run.task, result
        except asyncio.CancelledError:
            if not is_background:
                await asyncio.shield(self.cancel(run.task))
            raise
        except TaskRefused as error:
            if run.task.status not in TERMINAL:
                await self.cancel(run.task)
            raise TaskRefused(f"task {run.task.id} of {run.task.name}: {error.message}", hint=error.hint) from error
        finally:
            self._put_aside.discard(aside)

    async def cancel(self, task: ServerTask) -> None:
        """Tell the server to cancel the task, as far as it can be reached."""
        with suppress(McpChatError, TimeoutError):
            async with asyncio.timeout(_CANCEL_TIMEOUT):
                await self._requests.cancel_task(task)
                await self._save(replace(task, status="cancelled", updated=time.time()))


class _FollowedTask:
    """One task while it is followed."""

    def __init__(
        self,
        requests: TaskRequests,
        save: Callable[[ServerTask], Awaitable[None]],
        task: ServerTask,
        state: TaskState,
        call_id: str,
        emit: Emit,
        find_later: Callable[[ServerTask], str],
    ) -> None:
        self.task = task
        self._find_later = find_later
        self._requests = requests
        self._save = save
        self._state = state
        self._call_id = call_id
        self._emit = emit
        self._answered: set[str] = set()
        self._result: asyncio.Task[ToolResult] | None = None
        self._failures = 0
        self._refusals = 0  # of requests for the result, or with answers, in the present status
        # A task may have ended when it is created. Its result is then in the next state, or has a request.
        self._lacks_result = (
            state.status in {"completed", "failed"} and state.result is None and not state.has_result_request
        )
        self._interval = _FIRST_INTERVAL
        self._saved_at = time.monotonic()

    async def wait_for_result(self, aside: asyncio.Event, limit: float | None) -> ToolResult | TaskPutAside:
        until = math.inf if limit is None else time.monotonic() + limit
        self._tell()
        async with self._closing():
            while self._state.status not in TERMINAL or self._lacks_result:
                if self._state.status == "input_required":
                    started = time.monotonic()
                    await self._answer()
                    until += time.monotonic() - started  # the user's time is not the call's
                if (not self._lacks_result or self._failures) and await self._pause(aside, until):
                    break
                if aside.is_set() or time.monotonic() >= until:
                    return TaskPutAside(task=self.task, note=self._state.note)
                await self._look()
            result = await self._take_result()
        if self.task.status not in TERMINAL:  # the result was there before the state
            status: TaskStatus = "failed" if result.is_error else "completed"
            self.task = replace(self.task, status=status, updated=time.time())
            await self._save(self.task)
        return result

    @asynccontextmanager
    async def _closing(self) -> AsyncIterator[None]:
        """End the request for the result, whatever happens."""
        try:
            yield
        finally:
            if self._result is not None and not self._result.done():
                self._result.cancel()
                await asyncio.wait({self._result})

    async def _answer(self) -> None:
        """Answer the questions of the task: those that came with its state, or those that arrive while we wait."""
        requests = {key: value for key, value in self._state.requests.items() if key not in self._answered}
        if requests:
            self._answered |= requests.keys()
            if len(self._answered) > _MAX_QUESTIONS:
                raise TaskRefused(f"{self.task.server} asks more than {_MAX_QUESTIONS} questions")
            try:
                await self._requests.answer_task(self.task, requests)
            except TaskRefused:
                raise
            except ServerError as error:  # another may have answered, or it went on: the state tells
                self._answered -= requests.keys()
                self._count_refusal(error)
        elif self._state.has_result_request and self._result is None:
            self._result = asyncio.create_task(self._requests.fetch_task_result(self.task, self._call_id))

    async def _pause(self, aside: asyncio.Event, until: float) -> bool:
        """Wait until the state is to be looked at again. True if the result arrived meanwhile."""
        seconds = self._state.poll_interval
        if seconds is None:
            seconds, self._interval = self._interval, min(self._interval * _SLOWDOWN, _SLOWEST_INTERVAL)
        seconds = min(max(seconds, _MIN_INTERVAL), _MAX_INTERVAL, max(until - time.monotonic(), 0))
        left = self.task.deadline - time.time() if self.task.deadline is not None else math.inf
        if left > 0:  # the server may forget the task then: look once before
            seconds = min(seconds, max(left - _MIN_INTERVAL, _MIN_INTERVAL))
        end = time.monotonic() + seconds
        put_aside: asyncio.Future[Any] = asyncio.ensure_future(aside.wait())
        try:
            while not self._has_result() and not aside.is_set() and (left := end - time.monotonic()) > 0:
                waits = {put_aside} if self._result is None else {put_aside, self._result}
                await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            put_aside.cancel()
        return self._has_result()

    def _has_result(self) -> bool:
        """Whether the request for the result has been answered. One that failed is sent again later."""
        if self._result is None or not self._result.done():
            return False
        error = None if self._result.cancelled() else self._result.exception()
        if not self._result.cancelled() and not isinstance(error, McpChatError):
            return True
        self._result = None
        if isinstance(error, ServerError):
            self._count_refusal(error)
        elif error is not None:
            raise error
        return False

    async def _look(self) -> None:
        """Ask the server for the state."""
        try:
            state = await self._requests.get_task(self.task, self._call_id)
        except TaskLost as error:
            self.task = lose_task(self.task, error)
            await self._save(self.task)
            raise TaskLost(f"task {self.task.id} of {self.task.name}: {self.task.message}") from error
        except ServerError as error:
            self._count_failure(error)
            return
        self._failures, self._lacks_result = 0, False
        if state.status != self._state.status:
            self._refusals = 0
        old, self._state = self._state, state
        is_new = state.status != self.task.status
        self.task = update_task(self.task, state)
        if is_new or time.monotonic() - self._saved_at > _SAVE_INTERVAL:  # the rest may change all the time
            self._saved_at = time.monotonic()
            await self._save(self.task)
        if (state.status, state.message) != (old.status, old.message):
            self._tell(is_new=state.status != old.status)

    def _count_failure(self, error: ServerError) -> None:
        """Some requests may fail. Raises the error if too many did, one after the other."""
        self._failures += 1
        if self._failures >= _MAX_FAILURES:
            raise ServerError(error.message, hint=self._find_later(self.task), log=error.log) from error

    def _count_refusal(self, error: ServerError) -> None:
        """As ``_count_failure``, for what is about the present status of the task: other requests may still succeed."""
        self._refusals += 1
        if self._refusals >= _MAX_FAILURES:
            raise ServerError(error.message, hint=self._find_later(self.task), log=error.log) from error

    async def _take_result(self) -> ToolResult:
        state = self._state
        if self._result is not None:
            with suppress(ServerError):  # it may have been sent before the task ended: it is sent again
                return await self._result
        if state.result is not None:
            return state.result
        if state.status == "cancelled":
            return self._error("the task was cancelled by its server")
        if not state.has_result_request:
            return self._error("the server failed" if state.status == "failed" else "the server sent no valid result")
        try:
            return await self._requests.fetch_task_result(self.task, self._call_id)
        except TaskRefused as error:  # the error that the call ended with
            return error_result(self._call_id, error.message)

    def _error(self, text: str) -> ToolResult:
        return error_result(self._call_id, f"{text}: {self._state.message}" if self._state.message else text)

    def _tell(self, *, is_new: bool = True) -> None:
        """Report the status line, and with ``is_new`` the status."""
        status, message, task = self._state.status, self._state.message, self.task
        if is_new:
            self._emit(ToolTask(call_id=self._call_id, task=task.id, tool=task.name, status=status, message=message))
        if status not in TERMINAL:
            note = f"task {task.id}: {message or status.replace('_', ' ')}"
            self._emit(ToolProgress(call_id=self._call_id, done=0.0, note=note))
