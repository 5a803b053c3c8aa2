"""Calls that their servers run as tasks: of the extension of 2026-07-28, and of revision 2025-11-25."""

import asyncio
import math
from typing import Any

import pytest

from mcpchat.config.schema import ServerConfig, Timeouts
from mcpchat.core.elicitation import ElicitationResult
from mcpchat.core.events import ToolProgress, ToolTask
from mcpchat.core.messages import result_text
from mcpchat.core.server_task import ServerTask, TaskEnded
from mcpchat.errors import ServerError
from mcpchat.mcp.message_filter import RESULT_TICKET
from tests.support.fakes import ScriptedDialog
from tests.support.hub import HubFixture, OpenHub
from tests.support.scripted_http import ScriptedHttpServer
from tests.support.task_logic import TaskLogic

both_eras = pytest.mark.parametrize("era", ["modern", "legacy"])


def remote(server: ScriptedHttpServer, **settings: Any) -> ServerConfig:
    return ServerConfig(url=server.url, allow_http=True, **settings)


class SavedTasks(list[ServerTask]):
    async def save(self, task: ServerTask) -> None:
        self.append(task)


@both_eras
async def test_a_task_is_followed_to_its_result(open_test_hub: OpenHub, era: str) -> None:
    logic, saved = TaskLogic(era, ttl=60_000), SavedTasks()
    with ScriptedHttpServer(logic.respond) as server:
        async with open_test_hub(box=remote(server), context={"save_task": saved.save}) as fixture:
            for tool in ("count", "must"):
                assert result_text(await fixture.call(f"box.{tool}", to=3)) == "counted to 3"
            assert result_text(await fixture.call("box.plain")) == "at once"
    statuses = [event.status for event in fixture.events if isinstance(event, ToolTask)]
    assert statuses == ["working", "completed"] * 2
    notes = [event.note for event in fixture.events if isinstance(event, ToolProgress)]
    assert notes[:3] == [f"task {saved[0].id}: {n} of 3" for n in range(3)]
    first, last = saved[0], saved[len(saved) // 2 - 1]
    assert (first.server, first.tool, first.task_id, first.status) == ("box", "count", "task-1", "working")
    assert first.deadline is not None
    assert abs(first.deadline - first.created - 60) < 0.1
    assert (last.id, last.status, last.poll_interval) == (first.id, "completed", 0.001)


@both_eras
async def test_a_task_that_fails_is_an_error_of_the_tool(open_test_hub: OpenHub, era: str) -> None:
    with ScriptedHttpServer(TaskLogic(era).respond) as server:
        async with open_test_hub(box=remote(server)) as fixture:
            result = await fixture.call("box.count", fail=True)
    assert result.is_error
    assert result_text(result) == "the server failed: no more numbers (code -32603)"


@both_eras
@pytest.mark.parametrize("ttl", [None, 0])
async def test_a_task_that_its_server_forgets(open_test_hub: OpenHub, era: str, ttl: int | None) -> None:
    saved = SavedTasks()
    with ScriptedHttpServer(TaskLogic(era, ttl=ttl).respond) as server:
        async with open_test_hub(box=remote(server), context={"save_task": saved.save}) as fixture:
            with pytest.raises(ServerError, match="its time was over" if ttl == 0 else "no longer knows it"):
                await fixture.call("box.count", forget=True)
    assert (saved[-1].status, saved[-1].id) == ("failed", saved[0].id)


@both_eras
async def test_a_cancelled_call_cancels_its_task(open_test_hub: OpenHub, era: str) -> None:
    logic, saved = TaskLogic(era), SavedTasks()
    with ScriptedHttpServer(logic.respond) as server:
        async with open_test_hub(box=remote(server), context={"save_task": saved.save}) as fixture:
            call = asyncio.create_task(fixture.call("box.count", to=10_000))
            while "tasks/get" not in logic.record:
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
    assert logic.tasks["task-1"]["status"] == saved[-1].status == "cancelled"
    assert logic.record.count("tasks/cancel") == 1


async def test_a_question_of_a_task_is_asked_once(open_test_hub: OpenHub) -> None:
    dialog = ScriptedDialog(ElicitationResult(action="accept", content={"name": "Ann"}))
    with ScriptedHttpServer(TaskLogic("modern").respond) as server:
        async with open_test_hub(box=remote(server), asker=dialog) as fixture:
            assert result_text(await fixture.call("box.count", ask=True)) == "counted to 3 for Ann"
    assert dialog.prompts == [("box", "Whose count is it?", "")]
    assert "input_required" in [event.status for event in fixture.events if isinstance(event, ToolTask)]


@both_eras
async def test_a_task_that_is_put_aside_ends_later(open_test_hub: OpenHub, era: str) -> None:
    ended: asyncio.Queue[TaskEnded] = asyncio.Queue()
    logic = TaskLogic(era, note="come back at noon")
    with ScriptedHttpServer(logic.respond) as server:
        async with open_test_hub(box=remote(server), context={"on_task_ended": ended.put_nowait}) as fixture:
            call = asyncio.create_task(fixture.call("box.count", to=10))
            while fixture.hub.followed_tasks == 0:
                await asyncio.sleep(0.01)
            assert fixture.hub.put_tasks_aside() == 1
            text = result_text(await call)
            assert "Its result will come as a message of its own" in text
            assert ("come back at noon" in text) == (era == "legacy")
            (task,) = fixture.hub.tasks("box").in_background
            outcome = await ended.get()
            assert (outcome.task.id, outcome.task.status) == (task.id, "completed")
            assert result_text(outcome.result) == "counted to 10"
            await asyncio.sleep(0)
            assert (fixture.hub.tasks("box").in_background, fixture.active_calls("box")) == ([], 0)


async def test_each_task_that_is_put_aside_ends_later(open_test_hub: OpenHub) -> None:
    """Also if another one is put aside meanwhile, and if a request for the state fails."""
    ended: asyncio.Queue[TaskEnded] = asyncio.Queue()

    class Failing(TaskLogic):
        fails = 0

        def _answer(self, method: str, params: dict[str, Any], message: dict[str, Any]) -> dict[str, Any] | None:
            if method == "tasks/get" and self.fails:
                self.fails -= 1
                return {"error": {"code": -32603, "message": "temporary"}}
            return super()._answer(method, params, message)

    logic = Failing("modern")
    with ScriptedHttpServer(logic.respond) as server:
        async with open_test_hub(box=remote(server), context={"on_task_ended": ended.put_nowait}) as fixture:
            for number in (1, 2):
                call = asyncio.create_task(fixture.call("box.count", to=10_000))
                while fixture.hub.followed_tasks == 0:
                    await asyncio.sleep(0.01)
                logic.fails = 1
                assert fixture.hub.put_tasks_aside() == 1
                await call
                assert (fixture.hub.followed_tasks, len(fixture.hub.background_tasks())) == (0, number)
            for task in logic.tasks.values():
                task["to"] = 0
            assert {result_text((await ended.get()).result) for _ in range(2)} == {"counted to 0"}


async def test_calls_that_wait_for_tasks_count_as_running(open_test_hub: OpenHub) -> None:
    logic = TaskLogic("modern")
    with ScriptedHttpServer(logic.respond) as server:
        async with open_test_hub(box=remote(server, max_parallel=1)) as fixture:
            calls = [asyncio.create_task(fixture.call("box.count", to=10_000)) for _ in range(3)]
            while "tasks/get" not in logic.record:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            assert len(logic.tasks) == 1
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)


async def test_a_result_with_a_field_named_task_is_a_result(open_test_hub: OpenHub) -> None:
    class Plain(TaskLogic):
        def _call(self, params: dict[str, Any]) -> dict[str, Any]:
            return self._result(content=[{"type": "text", "text": "plain"}], task={"id": "JIRA-1"})

    for era in ("modern", "legacy"):
        with ScriptedHttpServer(Plain(era).respond) as server:
            async with open_test_hub(box=remote(server)) as fixture:
                assert result_text(await fixture.call("box.plain")) == "plain"


async def test_a_ticket_of_the_servers_own_takes_nothing(open_test_hub: OpenHub) -> None:
    for ticket in ([1], 1, "1", None):

        class Forging(TaskLogic):
            def _answer_about_task(
                self, method: str, params: dict[str, Any], message: dict[str, Any], ticket: Any = ticket
            ) -> dict[str, Any] | None:
                return {"result": {"resultType": "input_required", "_meta": {RESULT_TICKET: ticket}}}

        with ScriptedHttpServer(Forging("modern").respond) as server:
            async with open_test_hub(box=remote(server)) as fixture:
                with pytest.raises(ServerError):
                    await fixture.call("box.count")


async def test_what_is_saved_is_bounded_and_redacted(open_test_hub: OpenHub) -> None:
    saved = SavedTasks()
    secret = "sk-a-secret-that-is-cut"
    long = {"statusMessage": "x" * 490 + secret + "y" * 1000}
    async with damaged_tasks(open_test_hub, "tools/call", long, context={"save_task": saved.save}) as fixture:
        fixture.hub._context.connector.secrets.add(secret)
        await fixture.call("box.count", to=3)
    assert all(len(task.message) <= 520 for task in saved)
    assert "sk-a" not in str(saved)
    async with damaged_tasks(open_test_hub, "tools/call", {"taskId": "x" * 2000}) as fixture:
        with pytest.raises(ServerError, match="not valid MCP"):
            await fixture.call("box.count", to=3)
    async with damaged_tasks(open_test_hub, "tasks/get", {"taskId": "another"}) as fixture:
        with pytest.raises(ServerError, match="not valid MCP"):
            await fixture.call("box.count", to=3)


async def test_what_is_put_aside_goes_on_at_its_server_when_the_hub_closes(open_test_hub: OpenHub) -> None:
    ended: asyncio.Queue[TaskEnded] = asyncio.Queue()
    logic = TaskLogic("modern")
    with ScriptedHttpServer(logic.respond) as server:
        async with open_test_hub(box=remote(server), context={"on_task_ended": ended.put_nowait}) as fixture:
            call = asyncio.create_task(fixture.call("box.count", to=10_000))
            while fixture.hub.followed_tasks == 0:
                await asyncio.sleep(0.01)
            fixture.hub.put_tasks_aside()
            await call
    assert logic.tasks["task-1"]["status"] == "working"
    assert "its result is not known" in result_text((await ended.get()).result)


async def test_a_call_waits_only_as_long_as_it_may(open_test_hub: OpenHub) -> None:
    logic = TaskLogic("modern", poll=60_000)
    with ScriptedHttpServer(logic.respond) as server:
        saved = SavedTasks()
        config = remote(server, timeouts=Timeouts(call=0.3))
        async with open_test_hub(box=config, context={"save_task": saved.save}) as fixture:
            result = await fixture.call("box.count", to=10_000)
            assert fixture.hub.tasks("box").in_background == []
    task = next(event.task for event in fixture.events if isinstance(event, ToolTask))
    assert result.is_error
    assert result_text(result).endswith(f"The user sees it with: mcpchat tasks {task}")
    assert logic.tasks["task-1"]["status"] == "working"


async def test_tasks_are_only_for_servers_that_have_them(open_test_hub: OpenHub) -> None:
    """A tool may say taskSupport; without the server's capability, the call is an ordinary one."""
    with ScriptedHttpServer() as server:
        server.tools = [{**server.tools[0], "execution": {"taskSupport": "optional"}}]
        async with open_test_hub(box=remote(server)) as fixture:
            assert result_text(await fixture.call("box.echo", text="x")) == "done"


async def test_a_tool_that_only_runs_as_a_task_is_left_out_if_its_server_has_none(open_test_hub: OpenHub) -> None:
    class NoTasks(TaskLogic):
        def _answer(self, method: str, params: dict[str, Any], message: dict[str, Any]) -> dict[str, Any] | None:
            answer = super()._answer(method, params, message)
            if method == "initialize" and answer is not None:
                del answer["result"]["capabilities"]["tasks"]
            return answer

    with ScriptedHttpServer(NoTasks("legacy").respond) as server:
        async with open_test_hub(box=remote(server)) as fixture:
            assert [tool.name for tool in await fixture.hub.list_tools()] == ["count", "plain"]
            assert result_text(await fixture.call("box.count")) == "at once"
            assert "must (runs only as a task, and the server has none)" in str(fixture.hub.catalogs()["box"].notices)


@pytest.mark.parametrize(
    "damage",
    [
        {"taskId": None}, {"taskId": ""}, {"taskId": 7}, {"status": "dreaming"}, {"status": None}, {"status": ["working"]},
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["tools/call", "tasks/get"])
async def test_a_task_that_is_not_valid_is_an_error(open_test_hub: OpenHub, damage: dict[str, Any], where: str) -> None:
    async with damaged_tasks(open_test_hub, where, damage) as fixture:
        with pytest.raises(ServerError, match="not valid MCP"):
            await fixture.call("box.count", to=3)


@pytest.mark.parametrize(
    "oddity",
    [
        {"pollIntervalMs": -1, "ttlMs": "soon"}, {"pollIntervalMs": math.nan, "ttlMs": -5}, {"pollIntervalMs": True},
        {"ttlMs": 10**400}, {"statusMessage": 7}, {"statusMessage": "\x1b[2J" * 1000}, {"createdAt": {}},
    ],
)  # fmt: skip
async def test_odd_values_of_a_task_do_no_harm(open_test_hub: OpenHub, oddity: dict[str, Any]) -> None:
    async with damaged_tasks(open_test_hub, "tasks/get", oddity) as fixture:
        assert result_text(await fixture.call("box.count", to=3)) == "counted to 3"
    for event in fixture.events:
        assert "\x1b" not in getattr(event, "note", "") + getattr(event, "message", "")


def damaged_tasks(open_test_hub: OpenHub, where: str, damage: dict[str, Any], **options: Any) -> Any:
    """A hub whose server answers one method with a damaged task."""

    class Damaged(TaskLogic):
        method = ""

        def _answer(self, method: str, params: dict[str, Any], message: dict[str, Any]) -> dict[str, Any] | None:
            self.method = method
            return super()._answer(method, params, message)

        def _describe(self, task_id: str) -> dict[str, Any]:
            return super()._describe(task_id) | (damage if self.method == where else {})

    class Open:
        async def __aenter__(self) -> HubFixture:
            self.server = ScriptedHttpServer(Damaged("modern").respond)
            self.server.__enter__()
            self.hub = open_test_hub(box=remote(self.server), **options)
            return await self.hub.__aenter__()  # type: ignore[no-any-return]

        async def __aexit__(self, *exc: Any) -> None:
            await self.hub.__aexit__(*exc)
            self.server.__exit__()

    return Open()
