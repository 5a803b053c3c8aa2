"""Calls and batches of the Python API: what is decided on is what is sent, and one bad item harms no other."""

from pathlib import Path

import pytest

from mcpchat import BatchResult, ChatSession, ErrorReport, call_tool, open_session, run_batch
from mcpchat.app.run_turn import run_turn
from mcpchat.core.messages import ToolResult
from mcpchat.core.policy import Policy, parse_rules
from mcpchat.core.protocols import SelectedModel
from mcpchat.engine.message_codec import stored_result_id
from mcpchat.engine.session import ActiveAgent, Session
from mcpchat.errors import Denied, ModelError, UsageError
from mcpchat.util.redaction import SecretRegistry
from tests.support.command_line import run_mcpchat
from tests.support.fake_openai import FakeOpenAI, text, tool_call
from tests.support.fakes import FakeToolbox, ScriptedModel, make_call, make_gate, make_tool, model_step

ENVIRON = {"PATH": "/usr/bin:/bin"}
DENY_SECRET = "calculator.calculate(expression=*the-secret-of-this-run*)"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.toml"
    path.write_text('[model]\nname = "demo"\n[servers.calculator]\nbuiltin = "calculator"\n')
    return path


async def test_arguments_reach_the_tool_as_json_carries_them(config: Path) -> None:
    async with open_session(config=config, environ=ENVIRON) as session:
        broken = await session.call_tool("calculator.calculate", {"expression": "1+\ud800"})
        assert broken.is_error
        result = await session.call_tool("calculator.calculate", {"expression": "2 ** 10"})  # the server still runs
        assert result.structured == {"expression": "2 ** 10", "result": 1024}
        with pytest.raises(UsageError, match="cannot be sent as JSON"):
            await session.call_tool("calculator.calculate", {"expression": Path("x")})


async def test_a_closed_session_calls_nothing(config: Path) -> None:
    closed: list[ChatSession] = []
    async with open_session(config=config, environ=ENVIRON) as session:
        closed.append(session)
    for use in (
        closed[0].call_tool("calculator.calculate", {"expression": "1"}),
        closed[0].switch_model("demo"),
        closed[0].switch_agent("default"),
    ):
        with pytest.raises(UsageError, match="the session is closed"):
            await use


async def test_a_rule_denies_a_call_without_a_model(config: Path) -> None:
    with pytest.raises(Denied):
        await call_tool(
            "calculator.calculate", {"expression": "1"}, config=config, deny=["calculator.*"], environ=ENVIRON
        )


async def test_a_request_that_is_not_json_fails_alone(config: Path) -> None:
    requests = [{"prompt": "What is 1 + 1?"}, {"prompt": Path("x"), "id": "bad"}, {"prompt": "\ud800 hello"}]
    results: dict[int, BatchResult] = {
        result.line: result async for result in run_batch(requests, config=config, environ=ENVIRON)
    }
    assert sorted(results) == [1, 2, 3]
    errors = {line: result.error.kind for line, result in results.items() if isinstance(result.error, ErrorReport)}
    assert errors == {2: "usage"}


async def test_a_denial_counts_although_the_request_was_repeated() -> None:
    tool = make_tool("write", read_only=False)
    model = ScriptedModel(
        model_step("", make_call(tool.model_name, '{"text": "a"}')),
        [ModelError("gone", kind="network")],
        model_step("done without it"),
    )
    gate = make_gate(Policy(rules=parse_rules("deny", ["box.*"])))
    session = Session(
        model=SelectedModel(name="m", adapter=model),
        toolbox=FakeToolbox({}, tool),
        agent=ActiveAgent(gate=gate),
        emit=lambda event: None,
    )
    with pytest.raises(ModelError):
        await run_turn(session, "go", secrets=SecretRegistry())
    outcome = await run_turn(session, retry=True, secrets=SecretRegistry(), denials_from=0)
    assert isinstance(outcome.error, Denied)
    assert len(session.denials) == 1


def test_the_error_of_a_denied_call_has_no_secret(fake_openai: FakeOpenAI, tmp_path: Path, isolated: Path) -> None:
    fake_openai.replies = [
        tool_call("calculator__calculate", '{"expression": "the-secret-of-this-run"}', "c1"),
        text("no"),
    ]
    env = {"HOME": str(isolated), "PATH": "/usr/bin:/bin", "OPENAI_API_KEY": "the-secret-of-this-run"}
    env |= {"OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_MODEL": "m"}
    done = run_mcpchat("ask", "go", "-o", "json", "--deny", DENY_SECRET, env=env, cwd=tmp_path, text=True)
    assert (done.returncode, '"class": "denied"' in done.stdout or '"class":"denied"' in done.stdout) == (6, True)
    assert "the-secret-of-this-run" not in done.stdout + done.stderr


@pytest.mark.parametrize("stored_as", ["x" * 50_000, "../../etc", 'a"); rm', ""])
def test_an_id_that_is_no_id_is_not_believed(stored_as: str) -> None:
    assert stored_result_id(ToolResult(call_id="c", stored_as=stored_as)) == ""
    assert stored_result_id(ToolResult(call_id="c", stored_as="0123456789ab")) == "0123456789ab"
