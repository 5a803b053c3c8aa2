"""Peak memory of the installed command, with large inputs and hostile servers."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.batches import parse_rows, write_requests
from tests.support.fake_batch_api import FakeBatchApi
from tests.support.hostile import write_hostile_config
from tests.support.paths import MCPCHAT

FEW, MANY = 500, 2500  # requests
MEASURE = (
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=sys.stderr);"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)


def peak_memory(command: list[str], env: Mapping[str, str]) -> int:
    """Run a command from a cold start; return its peak memory in kB."""
    measuring = [sys.executable, "-c", MEASURE, *command]
    result = subprocess.run(measuring, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert "Traceback" not in result.stderr
    return int(result.stdout)


@pytest.mark.timeout(240)
def test_many_lines_flat_memory(batch_environ: dict[str, str], fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    fake_batch_api.fail_first = 0
    fake_batch_api.failing = {f"say {n}" for n in range(250, MANY, 250)}
    fake_batch_api.status = 400
    peak = {}
    for count in (FEW, MANY):
        out = tmp_path / f"{count}.jsonl"
        source = str(write_requests(tmp_path, count))
        command = [MCPCHAT, "batch", source, "-f", str(out), "-j", "16", "--ordered", "-q"]
        peak[count] = peak_memory(command, batch_environ)
        results = parse_rows(out.read_text())
        assert [row["line"] for row in results] == list(range(1, count + 1))
        assert sum("error" in row for row in results) == len(
            [n for n in range(1, count + 1) if f"say {n}" in fake_batch_api.failing]
        )
    assert peak[MANY] < peak[FEW] + (MANY - FEW) * 2.6, peak  # kB


def hostile_memory(folder: Path, mode: str) -> int:
    config = write_hostile_config(folder, mode, "memory")
    return peak_memory([MCPCHAT, "call", "bad.go", "--yes", "--config", str(config)], os.environ)


@pytest.fixture(scope="session")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> int:
    """The peak memory with a server that behaves."""
    return hostile_memory(tmp_path_factory.mktemp("baseline"), "banner")


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
def test_memory_stays_bounded(tmp_path: Path, baseline: int, mode: str) -> None:
    assert hostile_memory(tmp_path, mode) < baseline + 150_000  # 100 MB of text or endless data would exceed it
