"""Tests of the installed command with hostile servers: output, memory, time and leftover processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

HOSTILE = Path(__file__).with_name("servers") / "hostile.py"
TIMEOUTS = "[timeouts]\nstart = 3\nidle = 2\ncall = 20\n"


@dataclass
class CommandResult:
    code: int
    out: str
    err: str
    megabytes: float  # peak memory


RunHostile = Callable[..., CommandResult]


@pytest.fixture
def run_hostile(mcpchat_command: str, tmp_path: Path) -> RunHostile:
    """Run mcpchat with the hostile server; it must end without a traceback or a leftover process."""

    def run(mode: str, *args: str, timeouts: str = TIMEOUTS) -> CommandResult:
        config = tmp_path / "c.toml"
        marker = f"{tmp_path}/{mode}"
        config.write_text(
            f'[servers.bad]\ncommand = "{sys.executable}"\nargs = ["{HOSTILE}", "{mode}", "{marker}"]\n{timeouts}'
        )
        args = args or ("call", "bad.go", "--yes")
        out, err = tmp_path / "out", tmp_path / "err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [mcpchat_command, *args, "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        result = CommandResult(process.returncode, out.read_text(), err.read_text(), usage.ru_maxrss / 1024)
        assert "Traceback" not in result.err
        assert find_processes(marker) == []
        return result

    return run


def find_processes(marker: str) -> list[int]:
    """Return the ids of the processes with the marker on their command line."""
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            args = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if marker.encode() in args.split(b"\0"):
            pids.append(int(folder.name))
    return pids


@pytest.mark.parametrize(
    ("mode", "error"),
    [
        ("exit-at-once", "it exited at once with exit code 3\n    no such disk"),
        ("exit-at-initialize", "it exited at once with exit code 4\n    no licence"),
        ("exit-after-initialize", "exited with exit code 0"),
        ("exit-at-list", "exited with exit code 5"),
        ("silent-at-initialize", "it did not answer within 3 s"),
        ("silent-at-list", "did not answer within 3 s"),
        ("version-unknown", "Unsupported protocol version from the server: 1999-01-01"),
        ("version-number", "its answer is not valid MCP"),
    ],
)
def test_a_server_without_valid_mcp_is_skipped_with_its_reason(run_hostile: RunHostile, mode: str, error: str) -> None:
    result = run_hostile(mode, "tools")
    assert result.code == 0
    assert result.out == ""
    assert f"warning: server bad is down: {error}" in result.err or (
        "warning: server bad is down: " in result.err and error in result.err
    )
    assert result.err.endswith("no tools\n")


@pytest.mark.parametrize(
    ("mode", "error"),
    [
        ("exit-at-call", "bad exited with exit code 7 before it answered:\n  out of cheese"),
        ("silent-at-call", "bad was silent for 2 s"),
        ("huge", "the answer is larger than 16,777,216 bytes (limits.max_message) and was discarded"),
        ("huge-id-last", "the answer is larger than 16,777,216 bytes (limits.max_message) and was discarded"),
        ("endless", "the answer is larger than 16,777,216 bytes (limits.max_message) and was discarded"),
        ("bomb", "the answer is larger than 16,777,216 bytes (limits.max_message) and was discarded"),
        ("result-a-list", "the server answered without a result"),
        ("odd-error", "everything is wrong"),
    ],
)
def test_a_call_without_a_valid_answer_says_why(run_hostile: RunHostile, mode: str, error: str) -> None:
    result = run_hostile(mode)
    assert result.code in {4, 5}
    assert result.out == ""
    assert error in result.err


@pytest.mark.parametrize(
    ("mode", "answer"),
    [
        ("banner", "fine\n"),
        ("invalid-utf8", "caf� ��\n"),
        ("text-id", "fine\n"),
        ("wrong-ids", "fine\n"),
        ("batch", "fine\n"),
        ("info-missing", "fine\n"),
        ("log-flood", "fine\n"),
        ("progress-flood", "fine\n"),
        ("change-flood", "fine\n"),
        ("request-flood", "fine\n"),
        ("stderr-flood", "fine\n"),
        ("half-character", "fine\n"),
        ("not-a-number", "fine\n"),
        ("many-parts", "x\n" * 2000 + "[3,000 more pieces of content left out]\n"),
        ("same-cursor", "fine\n"),
        ("endless-pages", "fine\n"),
        ("fat-pages", "fine\n"),
        ("broken-tools", "fine\n"),
        ("deep", "fine\n"),
        ("no-content", '{"a":1}\n'),
        ("odd-content", '{"type": "hologram", "beam": 1}\nbare\n7\n{"type": "text"}\n[image that cannot be decoded]\n'),
    ],
)
def test_unusual_answers_are_used(run_hostile: RunHostile, mode: str, answer: str) -> None:
    result = run_hostile(mode)
    assert (result.code, result.out) == (0, answer), result.err


@pytest.mark.parametrize(
    "mode",
    [
        "huge",
        "endless",
        "many-tools",
        "log-flood",
        "stderr-flood",
        "endless-pages",
        "bomb",
        "fat-pages",
        "request-flood",
    ],
)
def test_memory_stays_bounded(run_hostile: RunHostile, mode: str) -> None:
    baseline = run_hostile("banner").megabytes
    assert run_hostile(mode).megabytes < baseline + 150  # 100 MB of text or endless data would exceed it


def test_too_many_tools_are_limited_with_a_notice(run_hostile: RunHostile) -> None:
    result = run_hostile("many-tools", "tools", "--format", "json", timeouts="")
    assert len(json.loads(result.out)) == 200
    assert "only 200 of its 10,000 tools are offered (limits.max_tools)" in result.err
    assert "warning: bad: 90,001 tools cannot be used" in result.err
    assert "only 10,000 are kept" in result.err


def test_an_invalid_tool_is_dropped_with_a_notice(run_hostile: RunHostile) -> None:
    result = run_hostile("broken-tools", "tools", "--format", "openai")
    functions = {tool["function"]["name"]: tool["function"]["parameters"] for tool in json.loads(result.out)}
    assert set(functions) == {
        "bad__go", "bad__no_schema", "bad__true_schema", "bad__bad_schema", "bad__net", "bad__bomb",
        next(name for name in functions if name.startswith("bad__null_title_")),
    }  # fmt: skip
    assert all(schema["type"] == "object" for schema in functions.values())
    assert "warning: bad: 5 tools cannot be used (malformed, duplicate, too deep, too large or too many)" in result.err
    for name in ("bomb", "net", "bad_schema"):
        assert run_hostile("broken-tools", "call", f"bad.{name}", "--yes", "a=1").out == "fine\n"


def test_an_unusual_tool_breaks_neither_other_tools_nor_model_requests(run_hostile: RunHostile) -> None:
    for mode in ("half-character", "not-a-number"):
        result = run_hostile(mode, "tools", "--format", "openai")
        assert result.code == 0, result.err
        for function in json.loads(result.out, parse_constant=pytest.fail):
            json.dumps(function, ensure_ascii=False).encode()


def test_a_flood_on_stderr_leaves_a_bounded_log(run_hostile: RunHostile, isolated: Path) -> None:
    run_hostile("stderr-flood")
    logs = list((isolated / ".local/state/mcpchat/logs").iterdir())
    assert {path.stat().st_mode & 0o777 for path in logs} == {0o600}
    assert sum(path.stat().st_size for path in logs) < 2_100_000


def test_a_server_that_ignores_the_probe_is_remembered(run_hostile: RunHostile) -> None:
    first = time.monotonic()
    assert run_hostile("silent-at-discover", timeouts="").out == "fine\n"
    second = time.monotonic()
    assert run_hostile("silent-at-discover", timeouts="").out == "fine\n"
    assert time.monotonic() - second < (second - first) / 2  # the probe's ten seconds are not repeated


# --- processes --------------------------------------------------------------------------------------------------


def start_stubborn_call(
    mcpchat_command: str, tmp_path: Path, *args: str
) -> tuple["subprocess.Popen[bytes]", list[int]]:
    """Start mcpchat with a server that ignores termination, in the middle of a call; return the process and the pids of
    the server and its children."""
    config = tmp_path / "c.toml"
    config.write_text(
        f'[servers.bad]\ncommand = "{sys.executable}"\nargs = ["{HOSTILE}", "stubborn"]\n'
        f'[servers.slow]\ncommand = "{sys.executable}"\nargs = ["{HOSTILE}", "silent-at-call"]\nrequired = true\n'
    )
    subprocess.run([mcpchat_command, "tools", "--config", str(config)], check=True, capture_output=True)
    log = Path(os.environ["HOME"], ".local/state/mcpchat/logs/bad.log")
    leader_count = log.read_text().count("leader")
    process = subprocess.Popen(
        [mcpchat_command, *args, "--config", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    end = time.monotonic() + 30
    while log.read_text().count("leader") == leader_count:
        assert time.monotonic() < end
        time.sleep(0.05)
    pids = [int(line.split()[-1]) for line in log.read_text().splitlines()[-3:]]
    assert all(is_alive(pid) for pid in pids)
    return process, pids


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_process_outlives_mcpchat(mcpchat_command: str, tmp_path: Path, number: signal.Signals) -> None:
    process, pids = start_stubborn_call(mcpchat_command, tmp_path, "servers", "show", "bad")
    process.send_signal(number)
    process.wait(30)
    end = time.monotonic() + 20
    while remaining := [pid for pid in pids if is_alive(pid)]:
        assert time.monotonic() < end, remaining
        time.sleep(0.05)
