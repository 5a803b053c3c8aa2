"""Models in the chat on a real terminal: retries, cut answers, limits, statistics and model changes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_openai import DONE, CannedResponse, FakeOpenAI, chunk, error, text, tool_call
from tests.support.paths import MCPCHAT
from tests.support.terminal import Terminal

pytestmark = pytest.mark.no_cover  # in this process; forks are measured

ENTER, CTRL_C = "\r", "\x03"
USAGE = {"prompt_tokens": 1204, "completion_tokens": 310, "prompt_tokens_details": {"cached_tokens": 980}}


@pytest.fixture
def terminal(fake_openai: FakeOpenAI, tmp_path: Path) -> Iterator[Terminal]:
    (tmp_path / "c.toml").write_text(
        f'[model]\nname = "m"\nbase_url = "{fake_openai.base_url}"\ncontext_window = 9000\n'
        "price = { input = 1.25, cached = 0.125, output = 10 }\n"
        f'[model.other]\nname = "m2"\nbase_url = "{fake_openai.base_url}"\n'
        '[servers.calculator]\nbuiltin = "calculator"\n[limits]\nmax_steps = 2\n'
    )
    with Terminal([MCPCHAT, "--stats"], environ={"MCPCHAT_CONFIG": str(tmp_path / "c.toml")}, columns=110) as chat:
        chat.wait_for("m · calculator · /help")
        yield chat


def say(terminal: Terminal, line: str, expected: str) -> str:
    terminal.wait_for("\n>")
    terminal.send(line + ENTER)
    return terminal.wait_for(expected)


def test_a_partial_answer_is_kept_and_retried(terminal: Terminal, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [CannedResponse([chunk({"content": "Half of it"})]), text("All of it.")]
    screen = say(terminal, "tell me", "/retry asks again")
    assert "Half of it" in screen
    assert "connection lost" in screen
    say(terminal, "/retry", "All of it.")
    assert fake_openai.requests[0]["messages"] == fake_openai.requests[1]["messages"]


def test_a_cut_answer_is_continued(terminal: Terminal, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [
        CannedResponse([chunk({"content": "It goes on"}), chunk({}, "length"), DONE]),
        text("to its end."),
    ]
    say(terminal, "tell me", 'say "go on" for the rest')
    say(terminal, "go on", "to its end.")
    assert fake_openai.requests[1]["messages"][-2]["content"] == "It goes on"


def test_ctrl_c_stops_a_retry_wait(terminal: Terminal, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [error(429, "slow down", **{"Retry-After": "60"})]
    say(terminal, "hi", "slow down; trying again in 60 s")
    terminal.send(CTRL_C)
    terminal.wait_for("cancelled")
    fake_openai.replies = [text("Hello.")]
    say(terminal, "hi", "Hello.")


def test_the_step_limit_asks_to_continue(terminal: Terminal, fake_openai: FakeOpenAI) -> None:
    calls = [tool_call("calculator__calculate", json.dumps({"expression": f"{n}*7"}), f"c{n}") for n in range(9)]
    fake_openai.replies = [*calls[:3], text("done")]
    say(terminal, "go", "continue? [y]es")  # keys typed before the prompt appears do not count
    terminal.send("y")
    terminal.wait_for("done")
    fake_openai.replies = [*calls[4:6], text("what I have")]
    terminal.wait_for("\n>", count=2)
    terminal.send("go" + ENTER)
    terminal.wait_for("continue? [y]es")
    terminal.send("n")
    terminal.wait_for("what I have")
    terminal.wait_for("stopped: the limit of tool rounds is reached")


def test_statistics_usage_and_compaction(terminal: Terminal, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [
        CannedResponse([chunk({"content": "Hi."}, "stop", usage=USAGE)]),
        text("We said hello."),
        text("And?"),
    ]
    say(terminal, "hello", "1,204 in (980 cached) · 310 out · $0.0035")
    screen = say(terminal, "/usage", "tokens in the conversation")
    assert "of 9,000 tokens in the conversation" in screen
    say(terminal, "/compact", "the conversation was summarized")
    say(terminal, "and?", "And?")
    assert "We said hello." in fake_openai.requests[-1]["messages"][-2]["content"]


def test_models_are_listed_and_changed_in_a_thread(terminal: Terminal, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [
        CannedResponse([chunk({"reasoning_content": "Hm"}), chunk({"content": "One."}, "stop"), DONE]),
        text("Two."),
    ]
    say(terminal, "one", "One.")
    screen = say(terminal, "/model", "large")
    assert "model: m" in screen
    assert "other" in screen
    say(terminal, "/model other", "model: m2")
    say(terminal, "two", "Two.")
    assert fake_openai.requests[-1]["model"] == "m2"
    assert fake_openai.requests[-1]["messages"][-2] == {"role": "assistant", "content": "One."}
    say(terminal, "/model nowhere:x", "model: nowhere:x")


def test_a_file_is_sent_with_the_next_message(terminal: Terminal, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    say(terminal, f"/attach {tmp_path}/none", "cannot attach")
    say(terminal, f"/attach {tmp_path}/a.png", "goes with the next message")
    say(terminal, "see?", "Hello.")
    assert [part["type"] for part in fake_openai.requests[0]["messages"][-1]["content"]] == [
        "text",
        "text",
        "image_url",
    ]
    terminal.wait_for("\n>", count=1)
    terminal.send("and?" + ENTER)
    terminal.wait_for("Hello.", count=2)
    assert fake_openai.requests[1]["messages"][-1]["content"] == "and?"
