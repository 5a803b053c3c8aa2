"""The tasks of one server: begun by calls, waited for, put aside, looked up again after a restart."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

from msgspec.structs import replace

from mcpchat.core.events import Emit
from mcpchat.core.messages import Text, ToolResult, error_result
from mcpchat.core.server_task import ServerTask, TaskEnded, TaskPutAside
from mcpchat.core.tools import ToolSpec
from mcpchat.errors import McpChatError
from mcpchat.mcp.protocols import Connection
from mcpchat.mcp.tasks import (
    MAX_MESSAGE,
    TaskFollower,
    TaskLost,
    TaskState,
    begin_task,
    last_state,
    lose_task,
    update_task,
)
from mcpchat.mcp.timeouts import RequestTimeout
from mcpchat.util.sanitize import one_line
from mcpchat.util.structures import map_strings

_T = TypeVar("_T")
_FOREVER = 10 * 365 * 86400.0  # seconds; a request for a result is answered when the result is there


class TaskServer(Protocol):
    """What the tasks need of their server."""

    @property
    def name(self) -> str: ...
    def find_tool(self, name: str) -> ToolSpec | None: ...
    def new_timeout(self) -> RequestTimeout: ...
    def sanitize(self, text: str) -> str: ...
    @property
    def ends_with_us(self) -> bool: ...
    async def request(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """The result of a request that may be sent twice. Raises ServerError, SignInNeeded."""
        ...


class ServerTasks:
    """The tasks of one server.

    ``save`` stores a task whenever its state has changed. ``on_ended`` receives the results of tasks that were put
    aside; without it, these results are not used. A call waits at most ``limit`` seconds for its task. ``is_saved`` is
    whether ``save`` keeps a task beyond this run.
    """

    def __init__(
        self,
        server: TaskServer,
        *,
        save: Callable[[ServerTask], Awaitable[None]],
        on_ended: Callable[[TaskEnded], None] | None,
        limit: float,
        is_saved: bool,
    ) -> None:
        self._server = server
        self._save = save
        self._on_ended = on_ended
        self._limit = limit
        self._is_saved = is_saved
        self._follower = TaskFollower(self, save, self._find_later)
        self._background: dict[str, tuple[ServerTask, str, asyncio.Task[None]]] = {}  # with the ids of their calls

    @property
    def in_background(self) -> list[ServerTask]:
        """The tasks that were put aside and have not ended."""
        return [task for task, _, _ in self._background.values()]

    @property
    def followed(self) -> int:
        """How many tasks calls wait for."""
        return self._follower.count

    @property
    def is_busy(self) -> bool:
        """Whether a local server has tasks that are followed: they would end with its process."""
        return self._server.ends_with_us and bool(self.followed or self._background)

    async def begin(self, tool: str, state: TaskState) -> ServerTask:
        """Remember the task that the server has created for a call."""
        task = begin_task(self._server.name, tool, self._clean(state))
        await self._save(task)
        return task

    async def run(self, tool: str, state: TaskState, call_id: str, emit: Emit) -> ToolResult:
        """Wait for the result of the task of a call. If it is put aside, the result says so."""
        state = self._clean(state)
        task = begin_task(self._server.name, tool, state)
        try:
            await self._save(task)
        except asyncio.CancelledError:
            await asyncio.shield(self._follower.cancel(task))
            raise
        task, outcome = await self._follower.follow(task, state, call_id, emit, limit=self._limit)
        if isinstance(outcome, ToolResult):
            return outcome
        if self._on_ended is not None:
            self._follow_in_background(task, call_id, emit)
        elif self._server.ends_with_us:
            await self._follower.cancel(task)
        return self._describe_put_aside(outcome, call_id)

    def put_aside(self) -> int:
        """Let the tasks that calls wait for go on without them. Returns how many there are."""
        return self._follower.put_aside()

    async def look(self, task: ServerTask) -> tuple[ServerTask, ToolResult | None]:
        """The task as its server knows it now, with its result if that came along. Raises TaskLost, ServerError."""
        task, state = await self._look(task)
        return task, state.result

    async def wait(self, task: ServerTask, emit: Emit) -> ToolResult:
        """Wait for the result of a task that was begun before. The task goes on if the caller is cancelled.

        Raises TaskLost, ServerError.
        """
        task, state = await self._look(task)
        _, outcome = await self._follower.follow(task, state, task.id, emit, is_background=True)
        assert isinstance(outcome, ToolResult)  # a task in the background cannot be put aside
        return outcome

    async def _look(self, task: ServerTask) -> tuple[ServerTask, TaskState]:
        try:
            state = await self.get_task(task, task.id)
        except TaskLost as error:
            task = lose_task(task, error)
            await self._save(task)
            raise TaskLost(f"task {task.id} of {task.name}: {task.message}") from error
        task = update_task(task, state)
        await self._save(task)
        return task, state

    async def cancel(self, task: ServerTask) -> None:
        """Tell the server to cancel the task. Raises TaskRefused if it refuses, ServerError."""
        await self.cancel_task(task)
        await self._save(replace(task, status="cancelled", updated=time.time()))

    async def aclose(self) -> None:
        """Stop waiting for the tasks that were put aside. Those of a server that goes on go on."""
        running = list(self._background.values())
        for task, call_id, work in running:
            work.cancel()
            self._report(task, "its server was stopped, or is another one now", call_id)
        await asyncio.gather(*(work for _, _, work in running), return_exceptions=True)

    def _follow_in_background(self, task: ServerTask, call_id: str, emit: Emit) -> None:
        async def follow() -> None:
            try:
                state = last_state(task)
                ended, result = await self._follower.follow(task, state, call_id, emit, is_background=True)
            except McpChatError as error:
                self._report(task, error.message, call_id)
            else:
                if isinstance(result, ToolResult) and self._on_ended is not None:
                    self._on_ended(TaskEnded(task=ended, result=result))

        work = asyncio.create_task(follow(), name=f"task {task.id}")
        self._background[task.id] = task, call_id, work
        work.add_done_callback(lambda done: self._background.pop(task.id, None))

    def _report(self, task: ServerTask, reason: str, call_id: str) -> None:
        """Report that the result of a task that was put aside will not come."""
        if self._on_ended is not None:
            text = "; ".join(filter(None, (f"its result is not known: {reason}", self._find_later(task))))
            self._on_ended(TaskEnded(task=task, result=error_result(call_id, text)))

    def _find_later(self, task: ServerTask) -> str:
        """How the task is found after this run; empty if it is not."""
        return f"mcpchat tasks {task.id} asks again" if self._is_saved and not self._server.ends_with_us else ""

    def _describe_put_aside(self, aside: TaskPutAside, call_id: str) -> ToolResult:
        """What the model gets as the result of a call whose task continues. It is an error without ``on_ended``."""
        task = aside.task
        if self._on_ended is None:
            waited = f"{task.name} (task {task.id}) had no result after {self._limit:g} s"
            if self._server.ends_with_us:
                return error_result(call_id, f"{waited} and was cancelled: its server ends with this run")
            found = f"The user sees it with: mcpchat tasks {task.id}" if self._is_saved else "It is not remembered."
            return error_result(call_id, f"{waited}. It goes on at its server. {found}")
        text = f"{task.name} goes on as task {task.id}. Its result will come as a message of its own; go on without it."
        return ToolResult(call_id=call_id, parts=tuple(Text(text=part) for part in (text, aside.note) if part))

    def _clean(self, state: TaskState) -> TaskState:
        """The state with texts that can be shown. Ids and questions stay as they are: they go back to the server."""
        sanitize = self._server.sanitize
        result = map_strings(state.result, sanitize)
        message = one_line(sanitize(state.message), MAX_MESSAGE)  # redacted before it is cut
        return replace(state, message=message, note=sanitize(state.note), result=result)

    # The requests.

    async def get_task(self, task: ServerTask, call_id: str) -> TaskState:
        spec = self._server.find_tool(task.tool)
        return self._clean(
            await self._server.request(
                lambda connection: connection.tasks.get(spec, call_id, task.task_id, self._server.new_timeout())
            )
        )

    async def fetch_task_result(self, task: ServerTask, call_id: str) -> ToolResult:
        spec = self._server.find_tool(task.tool)

        async def work(connection: Connection) -> ToolResult:
            timeout = RequestTimeout(idle=_FOREVER, total=_FOREVER)
            return await connection.tasks.fetch_result(spec, call_id, task.task_id, timeout)

        return map_strings(await self._server.request(work), self._server.sanitize)

    async def answer_task(self, task: ServerTask, requests: Mapping[str, Any]) -> None:
        await self._server.request(
            lambda connection: connection.tasks.answer(task.task_id, requests, self._server.new_timeout())
        )

    async def cancel_task(self, task: ServerTask) -> None:
        await self._server.request(lambda connection: connection.tasks.cancel(task.task_id, self._server.new_timeout()))
