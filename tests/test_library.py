"""mcpchat as a library, as programs use it."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

import mcpchat
from mcpchat import ApprovalRequest, ChatSession, Decision, McpChatError, Message, Text, events, open_session
from tests.fake_openai import CannedResponse, FakeOpenAI, chunk, error, text, tool_call

ASKS = '[approvals]\nask = ["calculator.*"]\n'
THREADS = ".local/share/mcpchat/threads.db"


@pytest.fixture
def config(tmp_path: Path, fake_openai: FakeOpenAI) -> Path:
    path = tmp_path / "c.toml"
    path.write_text(
        f'[model]\nname = "m"\nbase_url = "{fake_openai.base_url}"\n[servers.calculator]\nbuiltin = "calculator"\n'
    )
    return path


@asynccontextmanager
async def session(config: Path, **more: object) -> AsyncIterator[ChatSession]:
    async with open_session(config=config, environ={"PATH": "/usr/bin:/bin"}, **more) as opened:  # type: ignore[arg-type]
        yield opened


@pytest.fixture
def asking(config: Path) -> Path:
    config.write_text(config.read_text() + ASKS)
    return config


def any_threads() -> bool:
    return Path(os.environ["HOME"], THREADS).exists()


async def heard(session: ChatSession, said: str | Message) -> list[mcpchat.Event]:
    async with aclosing(session.send(said)) as turn:
        return [event async for event in turn]


def test_every_public_name_is_there_and_documented() -> None:
    for name in mcpchat.__all__:
        assert getattr(mcpchat, name) is not None
    assert set(mcpchat.__all__) <= {*dir(mcpchat), *mcpchat.__all__}
    with pytest.raises(AttributeError):
        _ = mcpchat.nonsense  # type: ignore[attr-defined]


def test_the_earlier_names_of_classes_still_work() -> None:
    names = {
        "Answer": "ElicitationResult",
        "Asker": "UserDialog",
        "Fault": "ErrorReport",
        "Question": "ApprovalRequest",
        "Visit": "UrlRequest",
    }
    for old, new in names.items():
        assert getattr(mcpchat, old) is getattr(mcpchat, new)
        assert old not in mcpchat.__all__


@pytest.mark.anyio
async def test_call_tool_and_run_batch_are_public_functions() -> None:
    result = await mcpchat.call_tool("calculator.calculate", {"expression": "6 * 7"})
    assert isinstance(result.structured, dict)
    assert result.structured["result"] == 42
    requests = [{"id": "a", "prompt": "What is 6 * 7?"}, {"nonsense": 1}]
    async with aclosing(mcpchat.run_batch(requests, model="demo")) as results:
        found = {result.id: result async for result in results}
    assert all(isinstance(result, mcpchat.BatchResult) for result in found.values())
    assert found["a"].answer == "calculator.calculate(6 * 7) = 42"
    assert isinstance(found["2"].error, mcpchat.ErrorReport)


@pytest.mark.anyio
async def test_send_yields_the_turn_and_ask_reports_it(config: Path, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [
        tool_call("calculator__calculate", '{"expression": "6*7"}'),
        text("It is 42."),
        text("Yes."),
    ]
    async with session(config) as there:
        found = await heard(there, "6*7?")
        assert isinstance(found[0], events.TurnStarted)
        assert isinstance(found[-1], events.TurnFinished)
        assert any(isinstance(event, events.ToolFinished) for event in found)
        report = await there.ask(Message(role="user", parts=(Text(text="sure?"),)))
        assert (report.answer, report.stop, report.steps) == ("Yes.", "end", 1)
        assert [message.role for message in there.history] == [
            "user",
            "assistant",
            "tool",
            "assistant",
            "user",
            "assistant",
        ]


@pytest.mark.anyio
async def test_an_error_is_raised_by_send_and_reported_by_ask(config: Path, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [error(401, "bad key")]
    async with session(config) as there:
        with pytest.raises(McpChatError) as raised:
            await heard(there, "x")
        assert raised.value.exit_code == 8
        report = await there.ask("x")
        assert isinstance(report.error, mcpchat.ErrorReport)
        assert report.error.kind == "auth"
        with pytest.raises(McpChatError):
            await there.ask("x", attach=["/no/such/file"])
        with pytest.raises(McpChatError):
            await there.switch_agent("nobody")


@pytest.mark.anyio
async def test_cancel_ends_a_turn_and_the_next_one_runs(config: Path, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [CannedResponse([chunk({"content": "endless "})], hang=True), text("fine")]
    outside: list[mcpchat.Event] = []
    async with session(config, on_event=outside.append) as there:
        found = []
        async for event in there.send("go"):
            found.append(event)
            if isinstance(event, events.TextDelta):
                there.cancel()
        assert isinstance(found[-1], events.TurnFinished)
        assert found[-1].stop == "cancelled"
        there.cancel()  # nothing runs
        assert (await there.ask("and now?")).answer == "fine"


@pytest.mark.anyio
async def test_leaving_the_loop_cancels_the_turn(config: Path, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [CannedResponse([chunk({"content": "endless "})], hang=True), text("fine")]
    outside: list[mcpchat.Event] = []
    async with session(config, on_event=outside.append) as there:
        async with aclosing(there.send("go")) as turn:
            async for event in turn:
                if isinstance(event, events.TextDelta):
                    break
        assert isinstance(outside[-1], events.TurnFinished)
        assert there.history[-1].cut == "cancelled"
        assert (await there.ask("and now?")).answer == "fine"


@pytest.mark.anyio
async def test_two_at_once_are_two_turns_one_after_the_other(config: Path, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [text("one"), text("two")]
    async with session(config) as there:
        first, second = await asyncio.gather(heard(there, "1"), heard(there, "2"))
        for found in (first, second):
            assert isinstance(found[0], events.TurnStarted)
            assert isinstance(found[-1], events.TurnFinished)
            assert sum(isinstance(event, events.MessageAdded) for event in found) == 2


@pytest.mark.anyio
async def test_a_session_that_is_closed_starts_nothing(config: Path, fake_openai: FakeOpenAI) -> None:
    async with session(config) as there:
        await there.ask("x")
    with pytest.raises(McpChatError, match="closed"):
        await there.ask("y")
    assert len(fake_openai.requests) == 1


class Agrees:
    """Allows what it is asked for, and declines all else."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def approve(self, request: ApprovalRequest) -> Decision:
        self.asked.append(request.tool.qualified_name)
        return Decision(allowed=True, by="user")

    async def elicit(self, request: mcpchat.Form | mcpchat.UrlRequest, problem: str) -> mcpchat.ElicitationResult:
        return mcpchat.ElicitationResult(action="decline")

    async def confirm(self, server: str, action: str, details: str) -> bool:
        return False

    async def confirm_continue(self, rounds: int) -> bool:
        return False


@pytest.mark.anyio
async def test_an_asker_decides_and_without_one_nothing_runs_that_asks(asking: Path, fake_openai: FakeOpenAI) -> None:
    calls = [tool_call("calculator__calculate", '{"expression": "6*7"}'), text("done")]
    agrees = Agrees()
    for asker, failed in ((agrees, False), (None, True)):
        fake_openai.replies = list(calls)
        async with session(asking, asker=asker) as there:
            report = await there.ask("6*7?")
        assert report.tools[0].result.is_error == failed
    assert agrees.asked == ["calculator.calculate"]


@pytest.mark.anyio
async def test_nothing_is_kept_unless_that_is_asked_for(config: Path, fake_openai: FakeOpenAI) -> None:
    async with session(config) as there:
        await there.ask("x")
    assert not any_threads()
    async with session(config, save=True) as there:
        await there.ask("x")
        thread = there.thread_id
    async with session(config, thread=thread) as there:
        assert [message.text for message in there.history] == ["x", "Hello."]
