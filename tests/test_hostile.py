"""Hostile servers against the installed command: what the user sees, and what is left of memory, time and processes."""

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
class Seen:
    code: int
    out: str
    err: str
    megabytes: float  # at its peak


Meet = Callable[..., Seen]


@pytest.fixture
def meet(mcpchat_command: str, tmp_path: Path) -> Meet:
    """Run mcpchat against the hostile server; whatever it does, this ends, without a traceback or a process left."""

    def run(mode: str, *words: str, timeouts: str = TIMEOUTS) -> Seen:
        config = tmp_path / "c.toml"
        marker = f"{tmp_path}/{mode}"
        config.write_text(
            f'[servers.bad]\ncommand = "{sys.executable}"\nargs = ["{HOSTILE}", "{mode}", "{marker}"]\n{timeouts}'
        )
        words = words or ("call", "bad.go", "--yes")
        out, err = tmp_path / "out", tmp_path / "err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [mcpchat_command, *words, "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        seen = Seen(process.returncode, out.read_text(), err.read_text(), used.ru_maxrss / 1024)
        assert "Traceback" not in seen.err
        assert running(marker) == []
        return seen

    return run


def running(marker: str) -> list[int]:
    """The processes with this on their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if marker.encode() in words.split(b"\0"):
            found.append(int(folder.name))
    return found


@pytest.mark.parametrize(
    ("mode", "told"),
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
def test_a_server_that_cannot_be_spoken_to_is_left_out_with_its_reason(meet: Meet, mode: str, told: str) -> None:
    seen = meet(mode, "tools")
    assert seen.code == 0
    assert seen.out == ""
    assert f"warning: server bad is down: {told}" in seen.err or (
        "warning: server bad is down: " in seen.err and told in seen.err
    )
    assert seen.err.endswith("no tools\n")


@pytest.mark.parametrize(
    ("mode", "told"),
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
def test_a_call_that_gets_no_usable_answer_says_why(meet: Meet, mode: str, told: str) -> None:
    seen = meet(mode)
    assert seen.code in {4, 5}
    assert seen.out == ""
    assert told in seen.err


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
def test_what_is_odd_but_usable_is_used(meet: Meet, mode: str, answer: str) -> None:
    seen = meet(mode)
    assert (seen.code, seen.out) == (0, answer), seen.err


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
def test_memory_stays_bounded(meet: Meet, mode: str) -> None:
    usual = meet("banner").megabytes
    assert meet(mode).megabytes < usual + 150  # of which 100 MB of text, or what goes on without end, would be more


def test_of_too_many_tools_some_are_kept_and_the_rest_is_told(meet: Meet) -> None:
    seen = meet("many-tools", "tools", "--format", "json", timeouts="")
    assert len(json.loads(seen.out)) == 200
    assert "only 200 of its 10,000 tools are offered (limits.max_tools)" in seen.err
    assert "warning: bad: 90,001 tools cannot be used" in seen.err
    assert "only 10,000 are kept" in seen.err


def test_a_broken_tool_is_dropped_with_a_notice_and_the_rest_stays(meet: Meet) -> None:
    seen = meet("broken-tools", "tools", "--format", "openai")
    functions = {tool["function"]["name"]: tool["function"]["parameters"] for tool in json.loads(seen.out)}
    assert set(functions) == {
        "bad__go", "bad__no_schema", "bad__true_schema", "bad__bad_schema", "bad__net", "bad__bomb",
        next(name for name in functions if name.startswith("bad__null_title_")),
    }  # fmt: skip
    assert all(schema["type"] == "object" for schema in functions.values())
    assert "warning: bad: 5 tools cannot be used (malformed, duplicate, too deep, too large or too many)" in seen.err
    for name in ("bomb", "net", "bad_schema"):
        assert meet("broken-tools", "call", f"bad.{name}", "--yes", "a=1").out == "fine\n"


def test_one_odd_tool_breaks_neither_the_others_nor_a_request_to_a_model(meet: Meet) -> None:
    for mode in ("half-character", "not-a-number"):
        seen = meet(mode, "tools", "--format", "openai")
        assert seen.code == 0, seen.err
        for function in json.loads(seen.out, parse_constant=pytest.fail):
            json.dumps(function, ensure_ascii=False).encode()


def test_a_flood_on_stderr_leaves_a_log_of_bounded_size(meet: Meet, isolated: Path) -> None:
    meet("stderr-flood")
    logs = list((isolated / ".local/state/mcpchat/logs").iterdir())
    assert {path.stat().st_mode & 0o777 for path in logs} == {0o600}
    assert sum(path.stat().st_size for path in logs) < 2_100_000


def test_a_server_that_answers_no_probe_is_remembered_and_costs_that_once(meet: Meet) -> None:
    first = time.monotonic()
    assert meet("silent-at-discover", timeouts="").out == "fine\n"
    second = time.monotonic()
    assert meet("silent-at-discover", timeouts="").out == "fine\n"
    assert time.monotonic() - second < (second - first) / 2  # the probe's ten seconds are not paid again


# --- processes --------------------------------------------------------------------------------------------------


def stubborn(mcpchat_command: str, tmp_path: Path, *words: str) -> tuple["subprocess.Popen[bytes]", list[int]]:
    """mcpchat in the middle of a call of a server that ignores every hint, and the pids of that server and its
    children."""
    config = tmp_path / "c.toml"
    config.write_text(
        f'[servers.bad]\ncommand = "{sys.executable}"\nargs = ["{HOSTILE}", "stubborn"]\n'
        f'[servers.slow]\ncommand = "{sys.executable}"\nargs = ["{HOSTILE}", "silent-at-call"]\nrequired = true\n'
    )
    subprocess.run([mcpchat_command, "tools", "--config", str(config)], check=True, capture_output=True)
    log = Path(os.environ["HOME"], ".local/state/mcpchat/logs/bad.log")
    before = log.read_text().count("leader")
    process = subprocess.Popen(
        [mcpchat_command, *words, "--config", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    end = time.monotonic() + 30
    while log.read_text().count("leader") == before:
        assert time.monotonic() < end
        time.sleep(0.05)
    pids = [int(line.split()[-1]) for line in log.read_text().splitlines()[-3:]]
    assert all(alive(pid) for pid in pids)
    return process, pids


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_process_outlives_us_however_we_end(mcpchat_command: str, tmp_path: Path, number: signal.Signals) -> None:
    process, pids = stubborn(mcpchat_command, tmp_path, "servers", "show", "bad")
    process.send_signal(number)
    process.wait(30)
    end = time.monotonic() + 20
    while left := [pid for pid in pids if alive(pid)]:
        assert time.monotonic() < end, left
        time.sleep(0.05)
