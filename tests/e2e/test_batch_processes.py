"""Batches as processes: kills, Ctrl-C, one writer, closed pipes."""

import json
import random
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.batches import parse_rows, write_requests
from tests.support.fake_batch_api import FakeBatchApi
from tests.support.paths import MCPCHAT
from tests.support.processes import DEVNULL, PIPE, run_process, start_process
from tests.support.waiting import wait_until


def wait_for_answers(process: Any, fake_batch_api: FakeBatchApi, count: int) -> None:
    """Wait until the API has given this many answers, or the process has ended."""
    wait_until(lambda: process.poll() is not None or fake_batch_api.answer_counts.total() >= count)


@pytest.mark.parametrize("ordered", [False, True])
def test_after_kill_9_requests_with_a_result_do_not_rerun(
    batch_environ: dict[str, str], fake_batch_api: FakeBatchApi, tmp_path: Path, ordered: bool
) -> None:
    source, out = write_requests(tmp_path, 150), tmp_path / "out.jsonl"
    args = [MCPCHAT, "batch", str(source), "-f", str(out), "--resume", "-j", "6", *["--ordered"] * ordered]
    counts: dict[str, int] = {}
    rng = random.Random(1)
    for _ in range(3):
        process = start_process(args, env=batch_environ, stderr=DEVNULL)
        count = fake_batch_api.answer_counts.total() + 15 + rng.randrange(15)
        wait_for_answers(process, fake_batch_api, count)
        process.kill()
        process.wait()
        wait_until(lambda: not fake_batch_api.unanswered)
        answer_counts = dict(fake_batch_api.answer_counts)
        outputs = [file.read_bytes() for file in (out, Path(f"{out}.part")) if file.exists()]
        full_lines = [line for data in outputs for line in data.split(b"\n")[:-1]]
        for name, count in counts.items():
            assert answer_counts[name] == count, name  # it has a result, so it is not requested again
        counts = {name: answer_counts[name] for name in (f"say {json.loads(line)['id'][1:]}" for line in full_lines)}
    result = run_process(args, env=batch_environ)
    assert result.returncode == 0, result.stderr
    results = parse_rows(out.read_text())
    assert sorted(row["id"] for row in results) == sorted(f"r{n}" for n in range(1, 151))
    assert not ordered or [row["line"] for row in results] == list(range(1, 151))
    assert {name: fake_batch_api.answer_counts[name] for name in counts} == counts
    assert sum(fake_batch_api.answer_counts.values()) <= 150 + 3 * 6  # the requests that were running at a kill
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.toml", "in.jsonl", "out.jsonl"]


def test_ctrl_c_lets_running_requests_finish(
    batch_environ: dict[str, str], fake_batch_api: FakeBatchApi, tmp_path: Path
) -> None:
    fake_batch_api.may_answer.clear()
    args = [MCPCHAT, "batch", str(write_requests(tmp_path, 50)), "-f", str(tmp_path / "out.jsonl"), "-j", "4"]
    process = start_process(args, env=batch_environ, stderr=PIPE, text=True)
    wait_until(lambda: sum(fake_batch_api.request_counts.values()) >= 4)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert "4 are finishing" in process.stderr.readline()
    fake_batch_api.may_answer.set()
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert len(parse_rows((tmp_path / "out.jsonl").read_text())) == sum(fake_batch_api.answer_counts.values()) == 4


def test_a_file_has_one_writer(batch_environ: dict[str, str], fake_batch_api: FakeBatchApi, tmp_path: Path) -> None:
    fake_batch_api.may_answer.clear()
    args = [MCPCHAT, "batch", str(write_requests(tmp_path, 3)), "-f", str(tmp_path / "out.jsonl"), "--resume"]
    first = start_process(args, env=batch_environ, stderr=DEVNULL)
    wait_until(lambda: fake_batch_api.request_counts)
    second = run_process(args, env=batch_environ)
    assert (second.returncode, "another batch" in second.stderr) == (2, True)
    fake_batch_api.may_answer.set()
    assert first.wait(30) == 0


def test_a_closed_pipe_ends_it_quietly(batch_environ: dict[str, str], tmp_path: Path) -> None:
    script = f"{MCPCHAT} batch {write_requests(tmp_path, 200)} | head -2"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], env=batch_environ, capture_output=True, text=True, timeout=50
    )
    assert (result.returncode, len(result.stdout.splitlines()), "error" in result.stderr) == (0, 2, False), (
        result.stderr
    )
