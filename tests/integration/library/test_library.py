"""mcpchat used as a library by a program."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

import mcpchat
from mcpchat import ApprovalRequest, ChatSession, Decision, McpChatError, Message, Text, events, open_session
from tests.support.fake_openai import CannedResponse, FakeOpenAI, chunk, error, text, tool_call

ASK_RULE = '[approvals]\nask = ["calculator.*"]\n'
THREADS_FILE = ".local/share/mcpchat/threads.db"


@pytest.fixture
def config(tmp_path: Path, fake_openai: FakeOpenAI) -> Path:
    path = tmp_path / "c.toml"
    path.write_text(
        f'[model]\nname = "m"\nbase_url = "{fake_openai.base_url}"\n[servers.calculator]\nbuiltin = "calculator"\n'
    )
    return path


@asynccontextmanager
async def session(config: Path, **options: object) -> AsyncIterator[ChatSession]:
    async with open_session(config=config, environ={"PATH": "/usr/bin:/bin"}, **options) as chat:  # type: ignore[arg-type]
        yield chat


@pytest.fixture
def config_that_asks(config: Path) -> Path:
    config.write_text(config.read_text() + ASK_RULE)
    return config


def threads_file_exists() -> bool:
    return Path(os.environ["HOME"], THREADS_FILE).exists()


async def collect_events(session: ChatSession, message: str | Message) -> list[mcpchat.Event]:
    async with aclosing(session.send(message)) as turn:
        return [event async for event in turn]


def test_every_public_name_can_be_imported() -> None:
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
        by_id = {result.id: result async for result in results}
    assert all(isinstance(result, mcpchat.BatchResult) for result in by_id.values())
    assert by_id["a"].answer == "calculator.calculate(6 * 7) = 42"
    assert isinstance(by_id["2"].error, mcpchat.ErrorReport)


@pytest.mark.anyio
async def test_send_yields_the_turn_and_ask_reports_it(config: Path, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [
        tool_call("calculator__calculate", '{"expression": "6*7"}'),
        text("It is 42."),
        text("Yes."),
    ]
    async with session(config) as chat:
        seen_events = await collect_events(chat, "6*7?")
        assert isinstance(seen_events[0], events.TurnStarted)
        assert isinstance(seen_events[-1], events.TurnFinished)
        assert any(isinstance(event, events.ToolFinished) for event in seen_events)
        report = await chat.ask(Message(role="user", parts=(Text(text="sure?"),)))
        assert (report.answer, report.stop, report.steps) == ("Yes.", "end", 1)
        assert [message.role for message in chat.history] == [
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
    async with session(config) as chat:
        with pytest.raises(McpChatError) as error_info:
            await collect_events(chat, "x")
        assert error_info.value.exit_code == 8
        report = await chat.ask("x")
        assert isinstance(report.error, mcpchat.ErrorReport)
        assert report.error.kind == "auth"
        with pytest.raises(McpChatError):
            await chat.ask("x", attach=["/no/such/file"])
        with pytest.raises(McpChatError):
            await chat.switch_agent("nobody")


@pytest.mark.anyio
async def test_cancel_ends_a_turn_and_the_next_one_runs(config: Path, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [CannedResponse([chunk({"content": "endless "})], hang=True), text("fine")]
    callback_events: list[mcpchat.Event] = []
    async with session(config, on_event=callback_events.append) as chat:
        seen_events = []
        async for event in chat.send("go"):
            seen_events.append(event)
            if isinstance(event, events.TextDelta):
                chat.cancel()
        assert isinstance(seen_events[-1], events.TurnFinished)
        assert seen_events[-1].stop == "cancelled"
        chat.cancel()  # no turn is running
        assert (await chat.ask("and now?")).answer == "fine"


@pytest.mark.anyio
async def test_leaving_the_loop_cancels_the_turn(config: Path, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [CannedResponse([chunk({"content": "endless "})], hang=True), text("fine")]
    callback_events: list[mcpchat.Event] = []
    async with session(config, on_event=callback_events.append) as chat:
        async with aclosing(chat.send("go")) as turn:
            async for event in turn:
                if isinstance(event, events.TextDelta):
                    break
        assert isinstance(callback_events[-1], events.TurnFinished)
        assert chat.history[-1].cut == "cancelled"
        assert (await chat.ask("and now?")).answer == "fine"


@pytest.mark.anyio
async def test_two_concurrent_sends_run_as_two_turns_in_sequence(config: Path, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [text("one"), text("two")]
    async with session(config) as chat:
        first_events, second_events = await asyncio.gather(collect_events(chat, "1"), collect_events(chat, "2"))
        for seen_events in (first_events, second_events):
            assert isinstance(seen_events[0], events.TurnStarted)
            assert isinstance(seen_events[-1], events.TurnFinished)
            assert sum(isinstance(event, events.MessageAdded) for event in seen_events) == 2


@pytest.mark.anyio
async def test_a_closed_session_starts_no_turn(config: Path, fake_openai: FakeOpenAI) -> None:
    async with session(config) as chat:
        await chat.ask("x")
    with pytest.raises(McpChatError, match="closed"):
        await chat.ask("y")
    assert len(fake_openai.requests) == 1


class AllowingDialog:
    """Allow each tool call and decline every other request."""

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
async def test_an_asker_decides_and_without_one_calls_are_denied(
    config_that_asks: Path, fake_openai: FakeOpenAI
) -> None:
    calls = [tool_call("calculator__calculate", '{"expression": "6*7"}'), text("done")]
    dialog = AllowingDialog()
    for asker, failed in ((dialog, False), (None, True)):
        fake_openai.replies = list(calls)
        async with session(config_that_asks, asker=asker) as chat:
            report = await chat.ask("6*7?")
        assert report.tools[0].result.is_error == failed
    assert dialog.asked == ["calculator.calculate"]


@pytest.mark.anyio
async def test_no_thread_is_saved_unless_requested(config: Path, fake_openai: FakeOpenAI) -> None:
    async with session(config) as chat:
        await chat.ask("x")
    assert not threads_file_exists()
    async with session(config, save=True) as chat:
        await chat.ask("x")
        thread = chat.thread_id
    async with session(config, thread=thread) as chat:
        assert [message.text for message in chat.history] == ["x", "Hello."]
