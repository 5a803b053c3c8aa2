"""The installed command as a process: signals, kills, closed pipes, full devices."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import jsonschema
import pytest

from mcpchat.core import jsonl_protocol
from tests.support.command_line import CommandLine, unpack
from tests.support.fake_openai import CannedResponse, FakeOpenAI, chunk, text, tool_call
from tests.support.paths import MCPCHAT, QUIRKY
from tests.support.processes import DEVNULL, PIPE, run_process, start_process
from tests.support.waiting import wait_until, wait_until_idle


def test_a_character_outside_the_encoding_is_a_question_mark(fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [text("1 → 2 é")]
    environ = {"OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_MODEL": "m", "PYTHONIOENCODING": "ascii"}
    result = run_process([MCPCHAT, "ask", "x"], env=os.environ | environ)
    assert unpack(result) == (0, "1 ? 2 ?\n", "")


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], ["ask", "-m", "demo", "-o", "jsonl", "x"], ["tools", "xyzzy"]]
)
def test_a_closed_reader_causes_no_error(args: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = run_process([MCPCHAT, *args], stdout=writer, stderr=writer)
    os.close(writer)
    assert result.returncode == (2 if args[0] == "tools" else 0)
    line = f"{MCPCHAT} {' '.join(args)} | true"
    assert (
        "Traceback"
        not in subprocess.run(
            ["bash", "-c", line], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50
        ).stderr
    )


def test_a_signal_that_the_parent_ignores_is_ignored(fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [CannedResponse(text("all of it").chunks, pause=0.5)]
    environ = os.environ | {"OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_MODEL": "m"}
    command = ["bash", "-c", f"trap '' HUP; exec {MCPCHAT} ask x"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environ, text=True)
    wait_until(lambda: fake_openai.requests)
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "all of it\n")


def test_a_failed_write_is_reported() -> None:
    for line, message in [
        (f"{MCPCHAT} config schema >/dev/full", "the output could not be written: no space left"),
        (f"{MCPCHAT} tools >&-", ""),
    ]:
        result = subprocess.run(
            ["bash", "-c", line], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50
        )
        assert (result.returncode, message in result.stderr) == (1 if message else 0, True)
        assert "Traceback" not in result.stderr
        assert "should not" not in result.stderr


@pytest.mark.parametrize("streams", ["2>&-", "<&-", "<&- 2>&-"])
def test_an_answer_needs_only_stdout(streams: str) -> None:
    line = f"{MCPCHAT} ask --model demo 'What is 2+3?' {streams}"
    result = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=50, check=False)
    assert (result.returncode, result.stdout) == (0, "calculator.calculate(2+3) = 5\n")


def test_exit_2_for_binary_input(run: CommandLine) -> None:
    result = run_process([MCPCHAT, "ask", "x"], input=b"\x00\xff\xfe", text=False)
    assert result.returncode == 2
    assert b"standard input is not UTF-8 text" in result.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_turn_with_its_exit_code(fake_openai: FakeOpenAI, number: int, code: int) -> None:
    fake_openai.replies = [CannedResponse([chunk({"content": "Once"})], hang=True)]
    environ = os.environ | {"OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_MODEL": "m"}
    process = start_process([MCPCHAT, "ask", "x"], stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environ, text=True)
    wait_until(lambda: fake_openai.requests)
    wait_until_idle(process.pid)  # it has read the text
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (code, "Once\n")
    assert "Traceback" not in err


def test_a_closed_pipe_ends_quietly() -> None:
    script = f"{MCPCHAT} tools --format json | head -1; {MCPCHAT} config schema | head -1; {MCPCHAT} --help | head -1"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=50)
    assert result.stderr == ""
    assert result.stdout.splitlines() == ["[", "{", "Usage: mcpchat [OPTIONS] COMMAND [ARGS]..."]


def test_an_answer_streams_into_a_pipe(fake_openai: FakeOpenAI) -> None:
    rest = threading.Event()
    fake_openai.replies = [CannedResponse(text("the beginning ", "the rest").chunks, gate=rest, gate_at=1)]
    with _ask_through_a_pipe(fake_openai) as process:
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 100) == b"the beginning "
        rest.set()
        assert process.communicate(timeout=20) == (b"the rest\n", b"")
    assert process.returncode == 0


@pytest.mark.parametrize("output", ["text", "jsonl"])
def test_a_reader_that_leaves_ends_the_run(fake_openai: FakeOpenAI, run: CommandLine, output: str) -> None:
    fake_openai.replies = [CannedResponse(text("the beginning", "the rest").chunks, gate=threading.Event(), gate_at=1)]
    with _ask_through_a_pipe(fake_openai, "-o", output) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while b"the beginning" not in os.read(process.stdout.fileno(), 10_000):
            pass
        process.stdout.close()
        assert (process.wait(timeout=20), process.stderr.read()) == (0, b"")
    code, out, _ = unpack(run("threads", "export", "x", "-o", "markdown"))
    assert code == 0
    assert "the beginning" in out


@contextmanager
def _ask_through_a_pipe(fake_openai: FakeOpenAI, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    environ = os.environ | {"OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_MODEL": "m"}
    command = [MCPCHAT, "ask", *options, "x"]
    with subprocess.Popen(command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_module_runs_like_the_command() -> None:
    result = subprocess.run([sys.executable, "-m", "mcpchat", "--version"], capture_output=True, text=True, timeout=50)
    assert re.fullmatch(r"mcpchat \d+\.\d+\.\d+\n", result.stdout)


EVENT = jsonschema.Draft202012Validator(jsonl_protocol.output_schema())


def test_exit_1_if_output_cannot_be_written() -> None:
    completed = subprocess.run(
        ["bash", "-c", f"{MCPCHAT} schema events >/dev/full"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=50,
    )
    assert (completed.returncode, b"could not be written: no space left" in completed.stderr) == (1, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_time_leaves_complete_lines(fake_openai: FakeOpenAI, number: int) -> None:
    chunks = [chunk({"content": f"word {n} "}) for n in range(200)]
    fake_openai.replies = [CannedResponse(chunks, pause=0.02, hang=True)]
    environ = {**os.environ, "OPENAI_BASE_URL": fake_openai.base_url, "MCPCHAT_MODEL": "m"}
    rng = random.Random(int(number))
    for _ in range(3):
        process = start_process([MCPCHAT, "ask", "x", "-o", "jsonl", "--no-save"], stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environ)  # fmt: skip
        time.sleep(1.5 * rng.random())  # at any time
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert process.returncode in {128 + number, -signal.SIGTERM}  # the second value: while it is still loading
        assert err == b""
        events = [json.loads(line) for line in out.splitlines()]
        for line in events:
            EVENT.validate(line)
        end_events = [line["type"] for line in events if line["type"] in {"error", "turn.finished", "turn.failed"}]
        assert end_events in (["turn.finished", "error"], ["error"], [])


def test_a_full_log_device_loses_no_answer() -> None:
    command = f"{MCPCHAT} ask -m demo -v 'What is 6 * 7?' 2>/dev/full"
    completed = subprocess.run(["bash", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, timeout=50)
    assert (completed.returncode, completed.stdout) == (0, b"calculator.calculate(6 * 7) = 42\n")


@pytest.mark.parametrize(
    "arguments",
    ["ask x --schema -", "ask x --config -", "call calculator.calculate expression=-", "call calculator.calculate --json -",
     "batch - --schema -", "threads import -", "ask x --attach -"],
)  # fmt: skip
def test_a_dash_without_input_is_reported(arguments: str) -> None:
    completed = subprocess.run(["bash", "-c", f"{MCPCHAT} {arguments} <&-"], capture_output=True, timeout=50)
    assert completed.returncode == 2, completed.stderr
    assert b"should not" not in completed.stderr


def test_a_thread_continues_after_a_kill_during_a_tool(fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    config = (
        f'[servers.box]\ncommand = "{sys.executable}"\nargs = ["{QUIRKY}", "slow"]\n[approvals]\ndefault = "allow"\n'
    )
    fake_openai.replies = [tool_call("box__echo", '{"text": "x"}'), text("I cannot tell.")]
    run = CommandLine(tmp_path, fake_openai)
    run("config", "validate", config=config)
    environ = os.environ | run.environ
    process = start_process([MCPCHAT, "ask", "go", "-o", "jsonl"], stdout=PIPE, env=environ, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["type"] == "tool.started":
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    (thread,) = json.loads(run("threads", "-o", "json").stdout)
    thread_text = run("threads", "show", thread["id"]).stdout
    assert "interrupted: mcpchat ended before this call had an answer" in thread_text
    assert run("ask", "-c", "and?").stdout == "I cannot tell.\n"
    result = next(message for message in fake_openai.requests[-1]["messages"] if message["role"] == "tool")
    assert "whether it took effect is not known" in result["content"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("ask", "--model", "demo", "hi"),  # standard input
        ("ask", "--model", "demo", "--attach", "FIFO", "hi"),
        ("ask", "--model", "demo", "--schema", "FIFO", "hi"),
        ("call", "calculator.calculate", "expression=@FIFO"),
        ("call", "calculator.calculate", "--json", "-"),
    ],
)
def test_a_time_limit_holds_while_nothing_is_written_into_a_pipe(tmp_path: Path, arguments: Sequence[str]) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    keeper = os.open(fifo, os.O_RDWR)  # a writer that writes nothing
    try:
        words = [word.replace("FIFO", str(fifo)) for word in arguments]
        stdin = keeper if "FIFO" not in "".join(arguments) else DEVNULL
        process = start_process(
            [MCPCHAT, *words, "--timeout", "1.5"], stdin=stdin, stdout=PIPE, stderr=PIPE, env={**os.environ}
        )
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (7, b"")
        assert b"stopped after 1.5 s" in err
    finally:
        os.close(keeper)


def test_an_unknown_user_in_a_path_is_a_missing_file(tmp_path: Path) -> None:
    run = CommandLine(tmp_path)
    for words in (
        ("ask", "--model", "demo", "--attach", "~nosuchuser/x", "hi"),
        ("batch", "~nosuchuser/x"),
        ("call", "calculator.calculate", "expression=@~nosuchuser/x"),
    ):
        code, _, err = unpack(run(*words))
        assert code == 2, err
        assert "~nosuchuser/x" in err
