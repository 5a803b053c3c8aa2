"""batch --workers: a real Dask scheduler with real workers, on loopback."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_batch_api import FakeBatchApi
from tests.support.paths import MCPCHAT
from tests.support.processes import PIPE, run_process, start_process
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(180)


@contextmanager
def dask(*args: str, folder: Path, environ: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A scheduler or a worker; it is killed at the end."""
    command = [sys.executable, "-m", "dask", *args]
    with (folder / f"{args[0]}-{len(list(folder.glob('*.log')))}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Cluster:
    """A scheduler, and workers of which each takes two requests at a time."""

    def __init__(self, folder: Path, environ: dict[str, str], stack: ExitStack) -> None:
        self._folder, self._environ, self._stack = folder, environ, stack
        self.workers: list[subprocess.Popen[bytes]] = []
        file = folder / "scheduler.json"
        options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
        self.scheduler = stack.enter_context(dask("scheduler", *options, folder=folder, environ=environ))
        wait_until(lambda: file.exists() and file.read_text().strip().endswith("}"), seconds=60)
        self.address: str = json.loads(file.read_text())["address"]

    def start_worker(self, **environ: str) -> None:
        options = (self.address, "--nthreads", "2", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1")
        worker = dask("worker", *options, folder=self._folder, environ=self._environ | environ)
        self.workers.append(self._stack.enter_context(worker))


@pytest.fixture
def cluster(batch_environ: dict[str, str], tmp_path: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(tmp_path, batch_environ, stack)


def write_requests(folder: Path, count: int) -> Path:
    file = folder / "requests.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"q{n}", "id": f"r{n}"}) + "\n" for n in range(count)))
    return file


def read_results(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_worker_that_is_killed_loses_no_request(
    cluster: Cluster, batch_environ: dict[str, str], fake_batch_api: FakeBatchApi, tmp_path: Path
) -> None:
    """A worker that joins later gets requests too."""
    cluster.start_worker()
    requests, results = write_requests(tmp_path, 60), tmp_path / "results.jsonl"
    fake_batch_api.pause = 0.1
    command = [MCPCHAT, "batch", str(requests), "-f", str(results), "--ordered", "--workers", cluster.address]
    batch = start_process(command, env=batch_environ, stdout=PIPE, stderr=PIPE, cwd=tmp_path)
    wait_until(lambda: sum(fake_batch_api.answer_counts.values()) >= 3, seconds=90)
    fake_batch_api.may_answer.clear()
    cluster.start_worker()
    wait_until(lambda: fake_batch_api.active == 4, seconds=90)  # two of each worker
    cluster.workers[0].kill()
    fake_batch_api.may_answer.set()
    out, err = batch.communicate(timeout=120)
    assert (batch.returncode, out) == (0, b""), err
    assert b"60 done" in err
    written = read_results(results)
    assert [result["id"] for result in written] == [f"r{n}" for n in range(60)]
    assert [result["answer"] for result in written] == [f"You said: q{n}" for n in range(60)]
    again = {question: count for question, count in fake_batch_api.answer_counts.items() if count > 1}
    assert len(again) <= 2  # what the killed worker had in progress
    assert sum(fake_batch_api.request_counts.values()) == 62
    assert max(again.values(), default=1) <= 2


def test_one_budget_holds_for_all_workers(
    cluster: Cluster, batch_environ: dict[str, str], fake_batch_api: FakeBatchApi, tmp_path: Path
) -> None:
    """Each request takes 12 tokens. Two workers take four at a time, which may go over the budget."""
    for _ in range(2):
        cluster.start_worker()
    requests, results = write_requests(tmp_path, 60), tmp_path / "results.jsonl"
    command = [MCPCHAT, "batch", str(requests), "-f", str(results), "--workers", cluster.address]
    stopped = run_process([*command, "--max-tokens", "200"], env=batch_environ, cwd=tmp_path, timeout=120)
    assert stopped.returncode == 7, stopped.stderr
    assert "then --resume goes on" in stopped.stderr
    assert 200 <= 12 * sum(fake_batch_api.answer_counts.values()) <= 200 + 12 * 5
    finished = run_process([*command, "--resume"], env=batch_environ, cwd=tmp_path, timeout=120)
    assert finished.returncode == 0, finished.stderr
    assert sorted(result["id"] for result in read_results(results)) == sorted(f"r{n}" for n in range(60))
    assert set(fake_batch_api.answer_counts.values()) == {1}


def test_a_scheduler_that_ends_loses_no_result(
    cluster: Cluster, batch_environ: dict[str, str], fake_batch_api: FakeBatchApi, tmp_path: Path
) -> None:
    cluster.start_worker()
    requests, results = write_requests(tmp_path, 20), tmp_path / "results.jsonl"
    command = [MCPCHAT, "batch", str(requests), "-f", str(results)]
    fake_batch_api.pause = 0.2
    batch = start_process(
        [*command, "--workers", cluster.address], env=batch_environ, stdout=PIPE, stderr=PIPE, cwd=tmp_path
    )
    wait_until(lambda: sum(fake_batch_api.answer_counts.values()) >= 3, seconds=90)
    cluster.scheduler.kill()
    _, err = batch.communicate(timeout=120)
    assert batch.returncode == 4, err
    assert b"the connection to the scheduler is lost" in err
    assert b"Traceback" not in err
    assert 1 <= len(read_results(results)) < 20
    assert not any("error" in result for result in read_results(results))
    fake_batch_api.pause = 0.0
    resumed = run_process([*command, "--resume"], env=batch_environ, cwd=tmp_path, timeout=120)
    assert resumed.returncode == 0, resumed.stderr
    assert sorted(result["id"] for result in read_results(results)) == sorted(f"r{n}" for n in range(20))


def test_what_cannot_run_is_explained(cluster: Cluster, batch_environ: dict[str, str], tmp_path: Path) -> None:
    """A worker without a model: its config is its own. A cluster that is not there."""
    requests, results = write_requests(tmp_path, 2), tmp_path / "results.jsonl"
    cluster.start_worker(MCPCHAT_MODEL="x@nowhere", OPENAI_BASE_URL="")
    command = [MCPCHAT, "batch", str(requests), "-f", str(results), "--workers"]
    result = run_process([*command, cluster.address], env=batch_environ, cwd=tmp_path, timeout=120)
    assert result.returncode == 2, result.stderr
    assert "nowhere" in result.stderr
    started = time.monotonic()
    result = run_process([*command, "tcp://127.0.0.1:9", "--resume"], env=batch_environ, cwd=tmp_path, timeout=120)
    assert (result.returncode, "cannot be reached" in result.stderr) == (4, True), result.stderr
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    "address", ["10.0.0.5", "10.0.0.5:8786", "tcp://x", "tcp://x:port", "http://x:1", "tcp://[x:1"]
)
def test_an_address_that_is_not_valid(address: str, batch_environ: dict[str, str], tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    command = [MCPCHAT, "batch", str(write_requests(tmp_path, 1)), "-f", str(results), "--workers", address]
    result = run_process(command, env=batch_environ, cwd=tmp_path)
    assert (result.returncode, "expected tcp://HOST:PORT" in result.stderr) == (2, True), result.stderr
    assert not results.exists()


def test_options_that_exclude_each_other(batch_environ: dict[str, str], tmp_path: Path) -> None:
    requests = write_requests(tmp_path, 1)
    for options in (("--provider-batch", "run"), ("--mcp", "x=https://x.example/mcp")):
        command = [MCPCHAT, "batch", str(requests), "--workers", "tcp://127.0.0.1:9", *options]
        assert run_process(command, env=batch_environ, cwd=tmp_path).returncode == 2
