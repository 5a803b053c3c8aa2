"""Following a task, with a server of fake requests."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from mcpchat.core.events import Event, ToolTask
from mcpchat.core.messages import Text, ToolResult, result_text
from mcpchat.core.server_task import ServerTask, TaskPutAside
from mcpchat.errors import ServerError
from mcpchat.mcp.tasks import TaskFollower, TaskRefused, TaskState, begin_task, parse_task_state, update_task

WORKING = TaskState(task_id="t", status="working", poll_interval=0.0)
QUESTION = TaskState(task_id="t", status="input_required", poll_interval=0.0, requests={"a": {}, "b": {}})
DONE = TaskState(task_id="t", status="completed", result=ToolResult(call_id="c", parts=(Text(text="done"),)))


class FakeRequests:
    """Answers with these states, or raises these errors; a function is called instead of a request for the result."""

    def __init__(self, *answers: TaskState | ServerError, result: Any = None) -> None:
        self._answers = list(answers)
        self._result = result
        self.answered: list[list[str]] = []
        self.cancelled: list[str] = []

    async def get_task(self, task: ServerTask, call_id: str) -> TaskState:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, ServerError):
            raise answer
        return answer

    async def fetch_task_result(self, task: ServerTask, call_id: str) -> ToolResult:
        return await self._result()  # type: ignore[no-any-return]

    async def answer_task(self, task: ServerTask, requests: Mapping[str, Any]) -> None:
        self.answered.append(list(requests))

    async def cancel_task(self, task: ServerTask) -> None:
        self.cancelled.append(task.task_id)


class Run:
    """Follows one task; keeps its events and what was saved."""

    def __init__(self, requests: FakeRequests, first: TaskState = WORKING) -> None:
        self.first = first
        self.events: list[Event] = []
        self.saved: list[ServerTask] = []
        self.follower = TaskFollower(requests, self._save)

    async def _save(self, task: ServerTask) -> None:
        self.saved.append(task)

    async def __call__(self, **options: Any) -> tuple[ServerTask, ToolResult | TaskPutAside]:
        task = begin_task("box", "count", self.first)
        return await self.follower.follow(task, self.first, "c", self.events.append, **options)


async def test_some_requests_for_the_state_may_fail() -> None:
    down = ServerError("box is down")
    task, result = await Run(FakeRequests(down, down, WORKING, down, down, DONE))()
    assert isinstance(result, ToolResult)
    assert (task.status, result_text(result)) == ("completed", "done")
    with pytest.raises(ServerError, match="box is down") as caught:
        await Run(FakeRequests(down))()
    assert caught.value.hint.startswith("mcpchat tasks ")


async def test_each_question_is_answered_once() -> None:
    more = TaskState(task_id="t", status="input_required", poll_interval=0.0, requests={"b": {}, "c": {}})
    requests = FakeRequests(QUESTION, more, WORKING, DONE)
    await Run(requests, QUESTION)()
    assert requests.answered == [["a", "b"], ["c"]]


async def test_questions_that_come_by_themselves_need_a_request_for_the_result() -> None:
    asking = TaskState(task_id="t", status="input_required", poll_interval=0.0, has_result_request=True)

    async def answer() -> ToolResult:
        await asyncio.sleep(0.2)
        return ToolResult(call_id="c", parts=(Text(text="asked and done"),))

    run = Run(FakeRequests(asking, WORKING, result=answer))
    task, result = await run()
    assert isinstance(result, ToolResult)
    assert (task.status, result_text(result), run.saved[-1].status) == ("completed", "asked and done", "completed")


async def test_the_request_for_the_result_ends_with_the_wait() -> None:
    ended = asyncio.Event()

    async def wait() -> ToolResult:
        try:
            return await asyncio.Future()
        finally:
            ended.set()

    asking = TaskState(task_id="t", status="input_required", poll_interval=0.0, has_result_request=True)
    run = Run(FakeRequests(asking, result=wait), asking)
    _, outcome = await run(limit=0.2)
    assert isinstance(outcome, TaskPutAside)
    assert ended.is_set()


@pytest.mark.parametrize("is_background", [True, False])
async def test_cancelling_reaches_the_server_if_somebody_waited(is_background: bool) -> None:
    requests = FakeRequests(WORKING)
    run = Run(requests)
    work = asyncio.create_task(run(is_background=is_background))
    await asyncio.sleep(0.1)
    assert run.follower.count == (not is_background)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert (requests.cancelled, run.follower.count) == ([] if is_background else ["t"], 0)


async def test_a_status_line_that_changes_all_the_time_is_not_saved_each_time() -> None:
    states = [TaskState(task_id="t", status="working", poll_interval=0.0, message=f"{n}%") for n in range(20)]
    run = Run(FakeRequests(*states, DONE), TaskState(task_id="t", status="working", poll_interval=0.0))
    await run()
    assert [task.status for task in run.saved] == ["completed"]
    assert [event.status for event in run.events if isinstance(event, ToolTask)] == ["working", "completed"]


async def test_a_task_is_waited_for_as_long_as_its_server_has_it() -> None:
    """After its time a server may forget it, and need not."""
    late = TaskState(task_id="t", status="working", poll_interval=0.0, ttl=0.0)
    _, result = await Run(FakeRequests(late, late, DONE), late)()
    assert isinstance(result, ToolResult)


async def test_a_request_for_the_result_that_fails_is_sent_again() -> None:
    asking = TaskState(task_id="t", status="input_required", poll_interval=0.0, has_result_request=True)
    outcomes: list[Any] = [ServerError("box disconnected"), ToolResult(call_id="c", parts=(Text(text="here"),))]

    async def answer() -> ToolResult:
        outcome = outcomes.pop(0)
        if isinstance(outcome, ServerError):
            raise outcome
        return outcome  # type: ignore[no-any-return]

    _, result = await Run(FakeRequests(asking, result=answer), asking)()
    assert isinstance(result, ToolResult)
    assert result_text(result) == "here"


@pytest.mark.parametrize(
    ("status", "text"),
    [("failed", "the server failed: disk full"), ("completed", "the server sent no valid result: disk full")],
)
async def test_a_task_that_ends_without_a_result_says_so(status: Any, text: str) -> None:
    _, result = await Run(FakeRequests(TaskState(task_id="t", status=status, message="disk full")))()
    assert isinstance(result, ToolResult)
    assert (result.is_error, result_text(result)) == (True, text)


async def test_a_task_that_asks_for_ever_is_cancelled() -> None:
    class Asking(FakeRequests):
        async def get_task(self, task: ServerTask, call_id: str) -> TaskState:
            number = len(self.answered)
            return TaskState(task_id="t", status="input_required", poll_interval=0.0, requests={f"q{number}": {}})

    requests = Asking()
    with pytest.raises(ServerError, match="asks more than 100 questions"):
        await Run(requests)()
    assert (len(requests.answered), requests.cancelled) == (100, ["t"])


async def test_the_users_time_is_not_the_calls() -> None:
    class Slow(FakeRequests):
        async def answer_task(self, task: ServerTask, requests: Mapping[str, Any]) -> None:
            await asyncio.sleep(0.5)

    _, result = await Run(Slow(WORKING, DONE), QUESTION)(limit=0.4)
    assert isinstance(result, ToolResult)


@pytest.mark.parametrize(
    ("raw", "ttl", "interval"),
    [
        ({"ttlMs": 60_000, "pollIntervalMs": 500}, 60.0, 0.5),
        ({"ttl": 60_000, "pollInterval": 500}, 60.0, 0.5),
        ({"ttlMs": None}, None, None),
    ],
)
def test_both_shapes_are_read(raw: dict[str, Any], ttl: float | None, interval: float | None) -> None:
    state = parse_task_state({"taskId": "t", "status": "working", **raw})
    assert state is not None
    assert (state.ttl, state.poll_interval) == (ttl, interval)
    task = update_task(begin_task("box", "count", state), state)
    assert task.deadline == (None if ttl is None else task.created + ttl)


async def test_a_refused_request_for_the_result_keeps_the_interval() -> None:
    asking = TaskState(task_id="t", status="input_required", poll_interval=0.1, has_result_request=True)
    sent = 0

    async def refuse() -> ToolResult:
        nonlocal sent
        sent += 1
        raise TaskRefused("not completed yet")

    with pytest.raises(ServerError, match="not completed yet") as caught:
        await Run(FakeRequests(asking, result=refuse), asking)()
    assert sent == 3
    assert caught.value.hint.startswith("mcpchat tasks ")


@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_a_task_that_ends_at_once_is_looked_at(status: Any) -> None:
    created = TaskState(task_id="t", status=status, poll_interval=60.0)
    task, result = await Run(FakeRequests(ServerError("box is busy"), replace(DONE, status=status)), created)(limit=0.3)
    assert isinstance(result, TaskPutAside)  # the failed request was not sent again at once
    task, result = await Run(FakeRequests(replace(DONE, status=status)), created)()
    assert isinstance(result, ToolResult)
    assert (task.status, result_text(result)) == (status, "done")


async def test_a_request_for_the_result_that_fails_as_the_task_ends_is_sent_again() -> None:
    asking = TaskState(task_id="t", status="input_required", poll_interval=0.0, has_result_request=True)
    failed = TaskState(task_id="t", status="failed", has_result_request=True)

    async def fail() -> ToolResult:
        await asyncio.sleep(0.2)
        raise TaskRefused("the server failed: disk full")

    requests = FakeRequests(failed, result=fail)
    run = Run(requests, asking)
    task, result = await run()
    assert isinstance(result, ToolResult)
    assert (task.status, result.is_error, result_text(result)) == ("failed", True, "the server failed: disk full")
    assert (requests.cancelled, run.saved[-1].status) == ([], "failed")


async def test_answers_that_are_refused_do_not_end_the_task() -> None:
    class Refusing(FakeRequests):
        async def answer_task(self, task: ServerTask, requests: Mapping[str, Any]) -> None:
            raise ServerError("box refused the answers")

    requests = Refusing(WORKING, DONE)
    _, result = await Run(requests, QUESTION)()
    assert isinstance(result, ToolResult)
    assert requests.cancelled == []
    with pytest.raises(ServerError, match="refused the answers"):
        await Run(Refusing(QUESTION), QUESTION)()
