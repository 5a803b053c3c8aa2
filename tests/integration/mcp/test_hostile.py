"""Commands with hostile servers: output, time and leftover processes."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command_line import run_mcpchat
from tests.support.hostile import TIMEOUTS, write_hostile_config
from tests.support.waiting import wait_until

pytestmark = pytest.mark.no_cover  # in this process; forks are measured

RunHostile = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(params=["", 'keep = "1m"\n'], ids=["ordinary", "kept"])
def run_hostile(request: pytest.FixtureRequest, tmp_path: Path) -> RunHostile:
    """Run mcpchat with the hostile server; it must end without a traceback or a leftover process.

    A kept server ends at the latest when it is told to.
    """

    def run(mode: str, *args: str, timeouts: str = TIMEOUTS) -> "subprocess.CompletedProcess[str]":
        marker = f"{tmp_path}/{mode}"
        args = args or ("call", "bad.go", "--yes")
        config = write_hostile_config(tmp_path, mode, marker, request.param + timeouts)
        result = run_mcpchat(*args, "--config", str(config), text=True)
        assert "Traceback" not in result.stderr
        if request.param:
            run_mcpchat("servers", "stop", "--all", "--config", str(config))
            wait_until(lambda: find_processes(marker) == [])
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
        ("exit-at-once", "it exited at once with exit code 3: no such disk"),
        ("exit-at-initialize", "it exited at once with exit code 4: no licence"),
        ("exit-after-initialize", "exited with exit code 0"),
        ("exit-at-list", "exited with exit code 5"),
        ("silent-at-initialize", "it did not answer within 3 s"),
        ("silent-at-list", "was silent for 3 s"),
        ("version-unknown", "it speaks protocol version 1999-01-01, which mcpchat does not know"),
        ("version-number", "its answer is not valid MCP"),
    ],
)
def test_a_server_without_valid_mcp_is_skipped_with_its_reason(run_hostile: RunHostile, mode: str, error: str) -> None:
    result = run_hostile(mode, "tools")
    assert result.returncode == 0
    assert result.stdout == ""
    assert f"warning: server bad is down: {error}" in result.stderr or (
        "warning: server bad is down: " in result.stderr and error in result.stderr
    )
    assert result.stderr.endswith("no tools\n")


@pytest.mark.parametrize(
    ("mode", "error"),
    [
        ("exit-at-call", "bad exited with exit code 7 before it answered: out of cheese"),
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
    result = run_hostile(mode, timeouts=TIMEOUTS if "silent" in error else "")
    assert result.returncode in {4, 5}
    assert result.stdout == ""
    assert error in result.stderr


def test_an_answer_that_arrives_slowly_is_not_silence(run_hostile: RunHostile) -> None:
    result = run_hostile("slow-answer")
    assert (result.returncode, result.stdout) == (0, "fine\n"), result.stderr


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
        pytest.param("endless-pages", "fine\n", marks=pytest.mark.no_cover),
        ("fat-pages", "fine\n"),
        ("broken-tools", "fine\n"),
        ("deep", "fine\n"),
        ("no-content", '{"a":1}\n'),
        ("odd-content", '{"type": "hologram", "beam": 1}\nbare\n7\n{"type": "text"}\n[image that cannot be decoded]\n'),
    ],
)
def test_unusual_answers_are_used(run_hostile: RunHostile, mode: str, answer: str) -> None:
    result = run_hostile(mode, timeouts="")
    assert (result.returncode, result.stdout) == (0, answer), result.stderr


@pytest.mark.no_cover
def test_too_many_tools_are_limited_with_a_notice(run_hostile: RunHostile) -> None:
    result = run_hostile("many-tools", "tools", "--format", "json", timeouts="")
    assert len(json.loads(result.stdout)) == 10_000
    assert "warning: bad: 90,001 tools cannot be used" in result.stderr
    assert "only 10,000 are kept" in result.stderr


def test_an_invalid_tool_is_dropped_with_a_notice(run_hostile: RunHostile) -> None:
    result = run_hostile("broken-tools", "tools", "--format", "openai")
    functions = {tool["function"]["name"]: tool["function"]["parameters"] for tool in json.loads(result.stdout)}
    assert set(functions) == {
        "bad__go", "bad__no_schema", "bad__true_schema", "bad__bad_schema", "bad__net", "bad__bomb",
        next(name for name in functions if name.startswith("bad__null_title_")),
    }  # fmt: skip
    assert all(schema["type"] == "object" for schema in functions.values())
    assert (
        "warning: bad: 5 tools cannot be used: number 2 (no object), number 3 (no name), number 4 (no name), "
        "list_schema (its inputSchema is no schema), go (listed twice)\n" in result.stderr
    )
    for name in ("bomb", "net", "bad_schema"):
        assert run_hostile("broken-tools", "call", f"bad.{name}", "--yes", "a=1").stdout == "fine\n"


def test_an_unusual_tool_breaks_neither_other_tools_nor_model_requests(run_hostile: RunHostile) -> None:
    for mode in ("half-character", "not-a-number"):
        result = run_hostile(mode, "tools", "--format", "openai")
        assert result.returncode == 0, result.stderr
        for function in json.loads(result.stdout, parse_constant=pytest.fail):
            json.dumps(function, ensure_ascii=False).encode()


def test_a_flood_on_stderr_leaves_a_bounded_log(run_hostile: RunHostile, isolated: Path) -> None:
    run_hostile("stderr-flood")
    logs = list((isolated / ".local/state/mcpchat/logs").iterdir())
    assert {path.stat().st_mode & 0o777 for path in logs} == {0o600}
    assert sum(path.stat().st_size for path in logs) < 2_100_000


def test_a_server_that_ignores_the_probe_is_remembered(run_hostile: RunHostile) -> None:
    first = time.monotonic()
    assert run_hostile("silent-at-discover", timeouts="").stdout == "fine\n"
    second = time.monotonic()
    assert run_hostile("silent-at-discover", timeouts="").stdout == "fine\n"
    assert time.monotonic() - second < (second - first) / 2  # the probe's ten seconds are not repeated
