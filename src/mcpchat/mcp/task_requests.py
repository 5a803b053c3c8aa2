"""The requests about tasks, on the SDK: those of the extension of 2026-07-28, and those of revision 2025-11-25."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

from mcp import ClientSession, MCPError, types
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.client.session import ClientRequestContext
from msgspec.structs import replace
from pydantic import ValidationError

from mcpchat.core.messages import ToolResult, error_result
from mcpchat.core.tools import ToolSpec
from mcpchat.errors import ServerError
from mcpchat.mcp.tasks import TaskLost, TaskRefused, TaskState, parse_task_state
from mcpchat.mcp.timeouts import RequestTimeout

EXTENSION = "io.modelcontextprotocol/tasks"
_IMMEDIATE_RESPONSE = "io.modelcontextprotocol/model-immediate-response"
TaskMethod = Literal["tasks/get", "tasks/result", "tasks/update", "tasks/cancel"]


class TaskParams(types.RequestParams):
    """The parameters of every request about a task. ``input_responses`` is for tasks/update only."""

    task_id: str
    input_responses: types.InputResponses | None = None


class TaskRequest(types.Request[TaskParams, TaskMethod]):
    """A request about a task. Over HTTP, the task's id is also in a header, by which requests are routed."""

    name_param = "taskId"


class TaskCreated(types.Result):
    """A result of tools/call that is a task. Its content is taken from the message filter."""

    result_type: Literal["task"] = "task"


class TasksExtension(ClientExtension):
    """Tells servers of the stateless revisions that they may answer a call with a task."""

    identifier = EXTENSION

    def claims(self) -> Sequence[ResultClaim[Any]]:
        return (ResultClaim(result_type="task", model=TaskCreated, resolve=_pass_on),)


async def _pass_on(created: TaskCreated, context: ClaimContext) -> types.CallToolResult:
    """An empty result with the ticket, by which the message filter has the task."""
    return types.CallToolResult(content=[], _meta=created.meta)


def call_as_task(
    session: ClientSession, tool: str, arguments: dict[str, Any]
) -> Coroutine[Any, Any, types.CallToolResult]:
    """The request that lets a server of revision 2025-11-25 run a tool as a task, and keep it as long as it wants."""
    params = types.CallToolRequestParams(name=tool, arguments=arguments, task=types.TaskMetadata())
    return session.send_request(types.CallToolRequest(params=params), types.CallToolResult)


def parse_created_task(raw: Mapping[str, Any]) -> TaskState | None:
    """The task in the answer to a call; None if it is no valid one."""
    inner, meta = raw.get("task"), raw.get("_meta")
    state = parse_task_state(inner if isinstance(inner, dict) else raw)
    note = meta.get(_IMMEDIATE_RESPONSE) if isinstance(meta, dict) else None
    if state is None:
        return None
    return replace(state, note=note if isinstance(note, str) else "", has_result_request=isinstance(inner, dict))


class TaskClient:
    """The requests about tasks on one connection.

    ``session`` returns the SDK's session, ``is_legacy`` whether the server speaks revision 2025-11-25. ``send`` sends a
    request and returns its raw result, ``own_answers`` lets the questions of a task get the answers that hold for its
    call, and ``parse_result`` reads the result of a tool.
    """

    def __init__(
        self,
        server: str,
        *,
        session: Callable[[], ClientSession],
        is_legacy: Callable[[], bool],
        send: Callable[[Coroutine[Any, Any, types.Result], RequestTimeout], Awaitable[dict[str, Any]]],
        own_answers: Callable[[], AbstractContextManager[None]],
        parse_result: Callable[[ToolSpec | None, str, Mapping[str, Any]], ToolResult],
    ) -> None:
        self._server = server
        self._session = session
        self._is_legacy = is_legacy
        self._send = send
        self._own_answers = own_answers
        self._parse_result = parse_result

    async def get(self, spec: ToolSpec | None, call_id: str, task_id: str, timeout: RequestTimeout) -> TaskState:
        """What the server says about a task now. Raises TaskLost if it does not know the task."""
        raw = await self._request("tasks/get", task_id, timeout)
        state = parse_task_state(raw)
        if state is None or state.task_id != task_id:
            raise ServerError(f"{self._server} sent an answer that is not valid MCP")
        if self._is_legacy():
            return replace(state, has_result_request=True)
        if isinstance(result := raw.get("result"), dict):
            return replace(state, result=self._parse_result(spec, call_id, result))
        if isinstance(error := raw.get("error"), dict):
            text = f"the server failed: {error.get('message') or state.message} (code {error.get('code')})"
            return replace(state, result=error_result(call_id, text))
        return state

    async def fetch_result(
        self, spec: ToolSpec | None, call_id: str, task_id: str, timeout: RequestTimeout
    ) -> ToolResult:
        """The result of a task of revision 2025-11-25; waits for it. Raises TaskRefused with the error of the call."""
        return self._parse_result(spec, call_id, await self._request("tasks/result", task_id, timeout))

    async def answer(self, task_id: str, requests: Mapping[str, Any], timeout: RequestTimeout) -> None:
        """Ask the user the questions of a task, and send the answers. Raises TaskRefused if one is not allowed."""
        session, responses = self._session(), dict[str, Any]()
        try:
            parsed = types.InputRequiredResult.model_validate({"inputRequests": requests}).input_requests or {}
        except ValidationError as error:
            raise ServerError(f"{self._server} sent a question that is not valid MCP") from error
        with self._own_answers():
            for key, request in parsed.items():
                context = ClientRequestContext(session=session, request_id=key)
                response = await session.dispatch_input_request(context, request)
                if isinstance(response, types.ErrorData):
                    raise TaskRefused(f"{self._server} asked for something that is not allowed: {response.message}")
                responses[key] = response
        await self._request("tasks/update", task_id, timeout, responses)

    async def cancel(self, task_id: str, timeout: RequestTimeout) -> None:
        await self._request("tasks/cancel", task_id, timeout)

    async def _request(
        self, method: TaskMethod, task_id: str, timeout: RequestTimeout, responses: types.InputResponses | None = None
    ) -> dict[str, Any]:
        """The result of a request, as the server sent it.

        Raises TaskLost, TaskRefused, for refused answers ServerError, and what ``send`` raises.
        """
        request = TaskRequest(method=method, params=TaskParams(task_id=task_id, input_responses=responses))
        try:
            return await self._send(self._session().send_request(request, types.EmptyResult), timeout)
        except MCPError as error:
            if error.code == types.INVALID_PARAMS and method == "tasks/get":
                raise TaskLost(f"its server no longer knows it: {error.message}") from error
            if method == "tasks/update":  # the question may have gone, which is no reason to end the task
                raise ServerError(f"{self._server} refused the answers: {error.message} (code {error.code})") from error
            event = "the server failed" if method == "tasks/result" else f"{self._server} refused {method}"
            raise TaskRefused(f"{event}: {error.message} (code {error.code})") from error
