"""Tests of the JSONL dialogue mode of the installed command: lines in, lines out."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mcpchat.core import jsonl_protocol
from tests.support.fake_openai import CannedResponse, FakeOpenAI, chunk, text, tool_call
from tests.support.paths import FULL_FEATURED, MCPCHAT, QUIRKY
from tests.support.processes import PIPE, run_process, server_table, start_process

pytestmark = pytest.mark.no_cover  # in this process; forks are measured

BOX_CONFIG = f'[servers.box]\ncommand = "{sys.executable}"\nargs = ["{QUIRKY}"]\n'
OUTPUT_VALIDATOR = jsonschema.Draft202012Validator(jsonl_protocol.output_schema())


class DialogueProcess:
    """The command as a process; each line that it writes must match the published schema."""

    def __init__(self, environ: dict[str, str], *options: str) -> None:
        args = [MCPCHAT, "ask", "--input-format", "jsonl", "-o", "jsonl", *options]
        self.process = start_process(args, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=os.environ | environ)
        self.events: list[dict[str, Any]] = []

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, kind: str = "message", **line: Any) -> None:
        self.write(json.dumps({"type": kind, **line}).encode() + b"\n")

    def next(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = json.loads(self.process.stdout.readline())
        OUTPUT_VALIDATOR.validate(line)
        self.events.append(line)
        return dict(line)

    def wait_for(self, kind: str, **fields: Any) -> dict[str, Any]:
        while True:
            event = self.next()
            if event["type"] == kind and fields.items() <= event.items():
                return event

    def close(self) -> tuple[int, list[dict[str, Any]]]:
        """Close the input; return the exit code and the remaining lines."""
        out, err = self.process.communicate(timeout=50)
        assert b"Traceback" not in err, err
        rest = [json.loads(line) for line in out.splitlines()]
        for line in rest:
            OUTPUT_VALIDATOR.validate(line)
        return self.process.returncode, rest


@pytest.fixture
def start_dialogue(fake_openai: FakeOpenAI, tmp_path: Path) -> Iterator[Callable[..., DialogueProcess]]:
    processes: list[DialogueProcess] = []

    def start(*options: str, config: str = BOX_CONFIG) -> DialogueProcess:
        (tmp_path / "c.toml").write_text(config)
        environ = {"OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_MODEL": "m"}
        processes.append(DialogueProcess(environ, "--config", str(tmp_path / "c.toml"), *options))
        return processes[-1]

    yield start
    for process in processes:
        if process.process.poll() is None:
            process.process.kill()
            process.process.communicate()


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events if event["type"] not in {"server.changed", "text.delta", "notice"}]


def test_messages_are_turns_of_one_conversation(
    start_dialogue: Callable[..., DialogueProcess], fake_openai: FakeOpenAI
) -> None:
    fake_openai.replies = [text("one"), text("two")]
    process = start_dialogue()
    process.send(text="first", id="a")
    process.send(text="second", id="b")
    assert process.wait_for("input.accepted")["id"] == "a"
    process.wait_for("turn.finished", stop="end")
    assert process.next() == {"v": 1, "type": "input.accepted", "line": 2, "id": "b"}
    process.wait_for("turn.finished")
    assert process.close() == (0, [])
    contents = [message["content"] for message in fake_openai.requests[1]["messages"]]
    assert contents == ["first", "one", "second"]
    assert kinds(process.events)[:3] == ["input.accepted", "turn.started", "message.added"]


def test_an_invalid_line_is_rejected_and_the_next_is_read(start_dialogue: Callable[..., DialogueProcess]) -> None:
    process = start_dialogue()
    for line in (b"nope\n", b'{"type":"sing"}\n', b'{"type":"message","text":1}\n', b"[]\n", b"\xff\xfe\n", b"\n"):
        process.write(line)
    process.send("approval", id="q9", allow=True)
    process.send(text="  ")
    process.send(text="x", attach=["/no/such/file"])
    process.send("agent", name="nobody")
    process.write(b'{"type":"message","text":"half a li')
    rejections = [process.wait_for("input.rejected") for _ in range(9)]
    assert sorted(event["line"] for event in rejections) == [1, 2, 3, 4, 5, 7, 8, 9, 10]
    assert all(event["message"] for event in rejections)
    process.write(b'ne"}')  # the rest of the line, without a newline
    code, rest = process.close()
    assert kinds(rest)[-2:] == ["turn.finished", "error"]
    assert (code, rest[-1]["code"], rest[-1]["class"]) == (2, 2, "usage")


def test_an_approval_request_is_answered_by_id_with_arguments(
    start_dialogue: Callable[..., DialogueProcess], fake_openai: FakeOpenAI
) -> None:
    fake_openai.replies = [
        tool_call("box__write", '{"text": "a"}'), text("1"), tool_call("box__write", '{"text": "b"}', "c2"), text("2"),
        tool_call("box__write", '{"text": "c"}', "c3"), text("3"),
    ]  # fmt: skip
    process = start_dialogue()
    process.send(text="write")
    request = process.wait_for("approval.requested")
    assert (request["tool"], request["arguments"], request["lasting"]) == ("box.write", {"text": "a"}, "always")
    process.send("confirmation", id=request["id"], yes=True)
    assert "another type" in process.wait_for("input.rejected")["message"]
    process.send("approval", id=request["id"], allow=False, reason="not now")
    decision = process.wait_for("tool.decided")["decision"]
    assert (decision["allowed"], decision["by"], decision["reason"]) == (False, "user", "not now")
    process.wait_for("turn.finished")
    process.send(text="again")
    process.send("approval", id=process.wait_for("approval.requested")["id"], allow=True, arguments={"text": "B"})
    assert process.wait_for("tool.finished")["result"]["parts"][-1]["text"] == "echo: B"
    process.wait_for("turn.finished")
    process.send(text="and again")
    process.send("approval", id=process.wait_for("approval.requested")["id"], allow=True, remember="session")
    process.wait_for("turn.finished")
    assert process.close()[0] == 2  # for the invalid approval line


def test_an_answer_is_for_one_request_only(
    start_dialogue: Callable[..., DialogueProcess], fake_openai: FakeOpenAI
) -> None:
    fake_openai.replies = [
        tool_call("box__write", '{"text": "a"}'), tool_call("box__wipe", '{"text": "b"}', "c2"), text("done"),
    ]  # fmt: skip
    process = start_dialogue()
    process.send(text="write")
    process.send("approval", id=process.wait_for("approval.requested")["id"], allow=True, arguments={"text": "b"})
    process.wait_for("tool.finished")
    request = process.wait_for("approval.requested")
    assert (request["tool"], request["arguments"]) == ("box.wipe", {"text": "b"})
    process.send("approval", id=request["id"], allow=False)
    process.wait_for("turn.finished")
    assert process.close()[0] == 0


def test_an_immediate_cancel_is_reported(
    start_dialogue: Callable[..., DialogueProcess], fake_openai: FakeOpenAI
) -> None:
    fake_openai.replies = [CannedResponse([chunk({"content": "endless "})], hang=True)]
    process = start_dialogue()
    process.write(b'{"type":"message","text":"x"}\n')
    process.wait_for("input.accepted")
    process.write(b'{"type":"cancel"}\n')
    process.wait_for("turn.finished", stop="cancelled")
    assert process.close()[0] == 0


def test_requests_are_denied_at_the_end_of_input(
    start_dialogue: Callable[..., DialogueProcess], fake_openai: FakeOpenAI
) -> None:
    fake_openai.replies = [tool_call("box__write", '{"text": "a"}'), text("I could not.")]
    process = start_dialogue()
    process.send(text="write")
    process.wait_for("approval.requested")
    code, rest = process.close()
    assert code == 6
    assert kinds(rest)[-1] == "error"
    assert (
        "the input has ended" in next(event for event in rest if event["type"] == "tool.decided")["decision"]["reason"]
    )


def test_cancel_ends_the_running_turn_and_keeps_queued_messages(
    start_dialogue: Callable[..., DialogueProcess], fake_openai: FakeOpenAI
) -> None:
    fake_openai.replies = [CannedResponse([chunk({"content": "endless "})], hang=True), text("second")]
    process = start_dialogue()
    process.send(text="first")
    process.send(text="second")
    process.wait_for("text.delta")
    process.send("cancel")
    process.wait_for("turn.finished", stop="cancelled")
    process.wait_for("turn.finished", stop="end")
    process.send("cancel")  # no turn is running
    assert process.wait_for("input.accepted", line=4)
    assert process.close()[0] == 0


def test_a_full_queue_rejects_messages_but_cancel_still_works(
    start_dialogue: Callable[..., DialogueProcess], fake_openai: FakeOpenAI
) -> None:
    fake_openai.replies = [tool_call("box__write", '{"text": "a"}'), text("no"), text("fine")]
    process = start_dialogue("-q")
    process.write(b'{"type":"message","text":"x"}\n' * 1010)
    process.wait_for("approval.requested")
    process.send("cancel")
    process.wait_for("turn.finished", stop="cancelled")
    rejections = [line["message"] for line in process.events if line["type"] == "input.rejected"]
    assert rejections
    assert set(rejections) == {"1000 lines wait already"}


def test_a_required_server_that_is_down_fails_the_turn(start_dialogue: Callable[..., DialogueProcess]) -> None:
    process = start_dialogue(config='[servers.down]\ncommand = "no-such-program"\nrequired = true\n')
    process.send(text="x")
    assert process.wait_for("turn.failed")["kind"] == "server"
    code, rest = process.close()
    assert (code, [line["type"] for line in rest], rest[-1]["class"]) == (4, ["error"], "server")


def test_a_failed_turn_is_reported_and_the_next_runs(
    start_dialogue: Callable[..., DialogueProcess], fake_openai: FakeOpenAI
) -> None:
    refusal = CannedResponse([b'{"error":{"message":"bad key"}}'], 401, {"Content-Type": "application/json"})
    fake_openai.replies = [refusal, text("fine"), refusal]
    process = start_dialogue()
    process.send(text="first")
    assert process.wait_for("turn.failed")["kind"] == "auth"
    process.send(text="second")
    process.wait_for("turn.finished", stop="end")
    process.send(text="third")
    process.wait_for("turn.failed")
    code, rest = process.close()
    assert (code, [event["class"] for event in rest]) == (8, ["auth"])


def test_agent_and_model_change_between_messages(
    start_dialogue: Callable[..., DialogueProcess], fake_openai: FakeOpenAI
) -> None:
    process = start_dialogue(config=BOX_CONFIG + '[agents.brief]\ninstructions = "Be brief."\n')
    process.send("agent", name="brief", id="x")
    process.send("model", name="other")
    process.send(text="hello")
    assert process.wait_for("input.accepted")["id"] == "x"
    assert process.wait_for("turn.started")["model"] == "other"
    process.wait_for("turn.finished")
    assert process.close()[0] == 0
    assert fake_openai.requests[0]["model"] == "other"
    assert fake_openai.requests[0]["messages"][0]["content"].startswith("Be brief.")


def test_an_elicitation_is_a_request(
    start_dialogue: Callable[..., DialogueProcess], fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    fake_openai.replies = [tool_call("box__order", "{}"), text("ordered")]
    process = start_dialogue("--yes", config=server_table("box", FULL_FEATURED))
    process.send(text="order")
    first = process.wait_for("elicitation.requested")
    assert first["schema"]["properties"]["size"]["type"] == "integer"
    process.send("elicitation", id=first["id"], action="accept", content={"size": "many"})
    second = process.wait_for("elicitation.requested")
    assert second["problem"]
    process.send("elicitation", id=second["id"], action="accept", content={"size": 2})
    assert "size 2" in process.wait_for("tool.finished")["result"]["parts"][0]["text"]
    process.wait_for("turn.finished")
    assert process.close()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(
    start_dialogue: Callable[..., DialogueProcess], fake_openai: FakeOpenAI, number: int
) -> None:
    fake_openai.replies = [CannedResponse([chunk({"content": "endless "})], hang=True)]
    process = start_dialogue()
    process.send(text="go")
    process.wait_for("text.delta")
    process.process.send_signal(number)
    code, rest = process.close()
    assert code == 128 + number
    assert [event["type"] for event in rest][-2:] == ["turn.finished", "error"]
    assert (rest[-2]["stop"], rest[-1]["class"], rest[-1]["code"]) == ("cancelled", "interrupted", code)


def test_invalid_options_are_errors() -> None:
    for args, message in [
        (["ask", "--input-format", "jsonl"], "needs -o jsonl"),
        (["ask", "--input-format", "jsonl", "-o", "jsonl", "hello"], "WORDS does not go"),
        (["ask", "--input-format", "xml"], "expected one of"),
    ]:
        result = run_process([MCPCHAT, *args])
        assert (result.returncode, message in result.stderr) == (2, True), result.stderr


def call(process: DialogueProcess, tool: str = "box.echo", **line: Any) -> None:
    process.send("call", tool=tool, **line)


def test_calls_need_no_model_turn_and_follow_the_sessions_rules(start_dialogue: Callable[..., DialogueProcess]) -> None:
    rules = '[approvals]\nallow = ["box.echo(text=a)"]\ndeny = ["box.echo(text=d)"]\n'
    process = start_dialogue("--no-save", config=BOX_CONFIG + rules)
    call(process, arguments={"text": "a"}, id="allowed")
    assert process.wait_for("input.accepted")["id"] == "allowed"
    finished = process.wait_for("call.finished")
    assert (finished["id"], finished["line"], finished["result"]["parts"][0]["text"]) == ("allowed", 1, "echo: a")
    call(process, arguments={"text": "b"})
    question = process.wait_for("approval.requested")
    assert (question["tool"], question["arguments"]) == ("box.echo", {"text": "b"})
    process.send("approval", id=question["id"], allow=True, remember="session")
    assert process.wait_for("call.finished")["result"]["parts"][0]["text"] == "echo: b"
    call(process, arguments={"text": "c"})  # remembered: no question
    assert process.wait_for("call.finished")["result"]["parts"][0]["text"] == "echo: c"
    for tool, arguments, kind in (
        ("box.echo", {"text": "d"}, "denied"),
        ("box.echo", {"text": 1}, "usage"),
        ("box.nope", {}, "usage"),
        ("nope.echo", {}, "usage"),
    ):
        call(process, tool, arguments=arguments)
        assert process.wait_for("call.finished")["error"]["class"] == kind
    code, rest = process.close()
    assert (code, kinds(rest)) == (2, ["error"])
    assert not {"turn.started", "message.added"} & {event["type"] for event in process.events}


def test_a_call_is_cancelled_and_the_next_runs(start_dialogue: Callable[..., DialogueProcess]) -> None:
    process = start_dialogue("--no-save", "--yes")
    call(process, arguments={"text": "slowly"})
    process.wait_for("server.changed", state="ready")
    process.send("cancel")
    assert process.wait_for("call.finished")["error"]["class"] == "interrupted"
    call(process, "box.wipe", arguments={})
    assert process.wait_for("call.finished")["result"]["is_error"] is True
    code, rest = process.close()
    assert (code, rest[-1]["class"]) == (5, "tool")
