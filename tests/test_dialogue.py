"""The process that stays: lines in, lines out, as the installed command."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mcpchat.core import jsonl_protocol
from tests.fake_openai import CannedResponse, FakeOpenAI, chunk, text, tool_call

ODD = str(Path(__file__).with_name("servers") / "quirky.py")
STRANGER = str(Path(__file__).with_name("servers") / "scripted.py")
BOX = f'[servers.box]\ncommand = "{sys.executable}"\nargs = ["{ODD}"]\n'
VALID = jsonschema.Draft202012Validator(jsonl_protocol.output_schema())


class Talk:
    """The command, a line at a time; whatever it writes must fit the published schema."""

    def __init__(self, mcpchat_command: str, environ: dict[str, str], *options: str) -> None:
        words = [mcpchat_command, "ask", "--input-format", "jsonl", "-o", "jsonl", *options]
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | environ,
        )
        self.heard: list[dict[str, Any]] = []

    def raw(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def say(self, kind: str = "message", **line: Any) -> None:
        self.raw(json.dumps({"type": kind, **line}).encode() + b"\n")

    def next(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = json.loads(self.process.stdout.readline())
        VALID.validate(line)
        self.heard.append(line)
        return dict(line)

    def until(self, kind: str, **having: Any) -> dict[str, Any]:
        while True:
            event = self.next()
            if event["type"] == kind and having.items() <= event.items():
                return event

    def end(self) -> tuple[int, list[dict[str, Any]]]:
        """Close the input; the exit code and what still came."""
        out, err = self.process.communicate(timeout=50)
        assert b"Traceback" not in err, err
        rest = [json.loads(line) for line in out.splitlines()]
        for line in rest:
            VALID.validate(line)
        return self.process.returncode, rest


@pytest.fixture
def talk(mcpchat_command: str, fake_openai: FakeOpenAI, tmp_path: Path) -> Iterator[Callable[..., Talk]]:
    started: list[Talk] = []

    def start(*options: str, config: str = BOX) -> Talk:
        (tmp_path / "c.toml").write_text(config)
        environ = {"OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_MODEL": "m"}
        started.append(Talk(mcpchat_command, environ, "--config", str(tmp_path / "c.toml"), *options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events if event["type"] not in {"server.changed", "text.delta", "notice"}]


def test_messages_are_turns_of_one_conversation(talk: Callable[..., Talk], fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [text("one"), text("two")]
    there = talk()
    there.say(text="first", id="a")
    there.say(text="second", id="b")
    assert there.until("input.accepted")["id"] == "a"
    there.until("turn.finished", stop="end")
    assert there.next() == {"v": 1, "type": "input.accepted", "line": 2, "id": "b"}
    there.until("turn.finished")
    assert there.end() == (0, [])
    said = [message["content"] for message in fake_openai.requests[1]["messages"]]
    assert said == ["first", "one", "second"]
    assert kinds(there.heard)[:3] == ["input.accepted", "turn.started", "message.added"]


def test_a_line_that_is_none_is_rejected_and_the_next_one_read(talk: Callable[..., Talk]) -> None:
    there = talk()
    for bad in (b"nope\n", b'{"type":"sing"}\n', b'{"type":"message","text":1}\n', b"[]\n", b"\xff\xfe\n", b"\n"):
        there.raw(bad)
    there.say("approval", id="q9", allow=True)
    there.say(text="  ")
    there.say(text="x", attach=["/no/such/file"])
    there.say("agent", name="nobody")
    there.raw(b'{"type":"message","text":"half a li')
    rejected = [there.until("input.rejected") for _ in range(9)]
    assert sorted(event["line"] for event in rejected) == [1, 2, 3, 4, 5, 7, 8, 9, 10]
    assert all(event["message"] for event in rejected)
    there.raw(b'ne"}')  # the rest of it, and no newline
    code, rest = there.end()
    assert kinds(rest)[-2:] == ["turn.finished", "error"]
    assert (code, rest[-1]["code"], rest[-1]["class"]) == (2, 2, "usage")


def test_a_question_is_answered_by_its_id_also_with_other_arguments(
    talk: Callable[..., Talk], fake_openai: FakeOpenAI
) -> None:
    fake_openai.replies = [
        tool_call("box__write", '{"text": "a"}'), text("1"), tool_call("box__write", '{"text": "b"}', "c2"), text("2"),
        tool_call("box__write", '{"text": "c"}', "c3"), text("3"),
    ]  # fmt: skip
    there = talk()
    there.say(text="write")
    asked = there.until("approval.requested")
    assert (asked["tool"], asked["arguments"], asked["lasting"]) == ("box.write", {"text": "a"}, "always")
    there.say("confirmation", id=asked["id"], yes=True)
    assert "another type" in there.until("input.rejected")["message"]
    there.say("approval", id=asked["id"], allow=False, reason="not now")
    decided = there.until("tool.decided")["decision"]
    assert (decided["allowed"], decided["by"], decided["reason"]) == (False, "user", "not now")
    there.until("turn.finished")
    there.say(text="again")
    there.say("approval", id=there.until("approval.requested")["id"], allow=True, arguments={"text": "B"})
    assert there.until("tool.finished")["result"]["parts"][-1]["text"] == "echo: B"
    there.until("turn.finished")
    there.say(text="and again")
    there.say("approval", id=there.until("approval.requested")["id"], allow=True, remember="session")
    there.until("turn.finished")
    assert there.end()[0] == 2  # for the line that was no answer


def test_an_answer_is_for_one_question_alone(talk: Callable[..., Talk], fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [
        tool_call("box__write", '{"text": "a"}'), tool_call("box__wipe", '{"text": "b"}', "c2"), text("done"),
    ]  # fmt: skip
    there = talk()
    there.say(text="write")
    there.say("approval", id=there.until("approval.requested")["id"], allow=True, arguments={"text": "b"})
    there.until("tool.finished")
    asked = there.until("approval.requested")
    assert (asked["tool"], asked["arguments"]) == ("box.wipe", {"text": "b"})
    there.say("approval", id=asked["id"], allow=False)
    there.until("turn.finished")
    assert there.end()[0] == 0


def test_a_cancel_that_comes_at_once_is_told_too(talk: Callable[..., Talk], fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [CannedResponse([chunk({"content": "endless "})], hang=True)]
    there = talk()
    there.raw(b'{"type":"message","text":"x"}\n')
    there.until("input.accepted")
    there.raw(b'{"type":"cancel"}\n')
    there.until("turn.finished", stop="cancelled")
    assert there.end()[0] == 0


def test_at_the_end_of_the_input_what_asks_is_denied(talk: Callable[..., Talk], fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [tool_call("box__write", '{"text": "a"}'), text("I could not.")]
    there = talk()
    there.say(text="write")
    there.until("approval.requested")
    code, rest = there.end()
    assert code == 6
    assert kinds(rest)[-1] == "error"
    assert "the input has ended" in next(one for one in rest if one["type"] == "tool.decided")["decision"]["reason"]


def test_cancel_ends_the_turn_that_runs_and_leaves_those_that_wait(
    talk: Callable[..., Talk], fake_openai: FakeOpenAI
) -> None:
    fake_openai.replies = [CannedResponse([chunk({"content": "endless "})], hang=True), text("second")]
    there = talk()
    there.say(text="first")
    there.say(text="second")
    there.until("text.delta")
    there.say("cancel")
    there.until("turn.finished", stop="cancelled")
    there.until("turn.finished", stop="end")
    there.say("cancel")  # with nothing there to cancel
    assert there.until("input.accepted", line=4)
    assert there.end()[0] == 0


def test_more_than_can_wait_is_rejected_and_the_end_is_still_heard(
    talk: Callable[..., Talk], fake_openai: FakeOpenAI
) -> None:
    fake_openai.replies = [tool_call("box__write", '{"text": "a"}'), text("no"), text("fine")]
    there = talk("-q")
    there.raw(b'{"type":"message","text":"x"}\n' * 1010)
    there.until("approval.requested")
    there.say("cancel")
    there.until("turn.finished", stop="cancelled")
    rejected = [line["message"] for line in there.heard if line["type"] == "input.rejected"]
    assert rejected
    assert set(rejected) == {"1000 messages wait already"}


def test_a_required_server_that_is_down_is_the_turns_own_end(talk: Callable[..., Talk]) -> None:
    there = talk(config='[servers.down]\ncommand = "no-such-program"\nrequired = true\n')
    there.say(text="x")
    assert there.until("turn.failed")["kind"] == "server"
    code, rest = there.end()
    assert (code, [line["type"] for line in rest], rest[-1]["class"]) == (4, ["error"], "server")


def test_a_turn_that_fails_is_told_and_the_next_one_runs(talk: Callable[..., Talk], fake_openai: FakeOpenAI) -> None:
    refusal = CannedResponse([b'{"error":{"message":"bad key"}}'], 401, {"Content-Type": "application/json"})
    fake_openai.replies = [refusal, text("fine"), refusal]
    there = talk()
    there.say(text="first")
    assert there.until("turn.failed")["kind"] == "auth"
    there.say(text="second")
    there.until("turn.finished", stop="end")
    there.say(text="third")
    there.until("turn.failed")
    code, rest = there.end()
    assert (code, [one["class"] for one in rest]) == (8, ["auth"])


def test_agent_and_model_change_between_messages(talk: Callable[..., Talk], fake_openai: FakeOpenAI) -> None:
    there = talk(config=BOX + '[agents.brief]\ninstructions = "Be brief."\n')
    there.say("agent", name="brief", id="x")
    there.say("model", name="other")
    there.say(text="hello")
    assert there.until("input.accepted")["id"] == "x"
    assert there.until("turn.started")["model"] == "other"
    there.until("turn.finished")
    assert there.end()[0] == 0
    assert fake_openai.requests[0]["model"] == "other"
    assert fake_openai.requests[0]["messages"][0]["content"].startswith("Be brief.")


def test_a_servers_form_is_a_question_too(talk: Callable[..., Talk], fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    fake_openai.replies = [tool_call("box__order", "{}"), text("ordered")]
    ours = str(Path(__file__).with_name("servers") / "full_featured.py")
    there = talk("--yes", config=f'[servers.box]\ncommand = "{sys.executable}"\nargs = ["{ours}"]\n')
    there.say(text="order")
    asked = there.until("elicitation.requested")
    assert asked["schema"]["properties"]["size"]["type"] == "integer"
    there.say("elicitation", id=asked["id"], action="accept", content={"size": "many"})
    again = there.until("elicitation.requested")
    assert again["problem"]
    there.say("elicitation", id=again["id"], action="accept", content={"size": 2})
    assert "size 2" in there.until("tool.finished")["result"]["parts"][0]["text"]
    there.until("turn.finished")
    assert there.end()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(talk: Callable[..., Talk], fake_openai: FakeOpenAI, number: int) -> None:
    fake_openai.replies = [CannedResponse([chunk({"content": "endless "})], hang=True)]
    there = talk()
    there.say(text="go")
    there.until("text.delta")
    there.process.send_signal(number)
    code, rest = there.end()
    assert code == 128 + number
    assert [one["type"] for one in rest][-2:] == ["turn.finished", "error"]
    assert (rest[-2]["stop"], rest[-1]["class"], rest[-1]["code"]) == ("cancelled", "interrupted", code)


def test_what_does_not_go_with_lines_is_told(mcpchat_command: str) -> None:
    for words, complaint in [
        (["ask", "--input-format", "jsonl"], "needs -o jsonl"),
        (["ask", "--input-format", "jsonl", "-o", "jsonl", "hello"], "WORDS does not go"),
        (["ask", "--input-format", "xml"], "expected one of"),
    ]:
        done = subprocess.run([mcpchat_command, *words], capture_output=True, text=True, input="", timeout=50)
        assert (done.returncode, complaint in done.stderr) == (2, True), done.stderr
