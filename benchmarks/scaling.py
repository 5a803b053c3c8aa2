"""Benchmark of the ways to run many requests: one process, shards, and a Dask cluster, with a local model server.

    python benchmarks/scaling.py [LINES]

Runs the same requests with a model that answers at once (what mcpchat itself takes), and with one that takes a second.
Prints requests per second, and the ratio to one process with its default of 8 at a time. The cluster has two workers,
which are started before the clock.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

SERVER = str(Path(__file__).with_name("model_server.py"))
MCPCHAT = str(Path(sys.executable).parent / "mcpchat")


def main() -> None:
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "c.toml").write_text('[servers.none]\ncommand = "none"\nenabled = false\n')
        (folder / "requests.jsonl").write_text(
            "".join(json.dumps({"prompt": f"Question {number}"}) + "\n" for number in range(lines))
        )
        for pause in (0.0, 1.0):
            model = start(stack, [sys.executable, SERVER, str(pause)], os.environ, folder, pipe=True)
            assert model.stdout is not None
            environ = {
                **os.environ,
                "HOME": name,
                "MCPCHAT_CONFIG": str(folder / "c.toml"),
                "MCPCHAT_MODEL": "m",
                "OPENAI_BASE_URL": f"http://127.0.0.1:{int(model.stdout.readline())}/v1",
            }
            with ExitStack() as cluster:
                address = start_cluster(cluster, environ, folder / f"cluster{pause}")
                print(f"a model that takes {pause:g} s, {lines} requests")
                compare(lines, folder, environ, address)


def compare(lines: int, folder: Path, environ: dict[str, str], address: str) -> None:
    base = 0.0
    ways: dict[str, Callable[[], None]] = {
        "one process, -j 8": lambda: run(folder, environ, ["-j", "8"]),
        "one process, -j 64": lambda: run(folder, environ, ["-j", "64"]),
        "two shards, -j 32": lambda: run(
            folder, environ, ["-j", "32", "--shard", "1/2"], ["-j", "32", "--shard", "2/2"]
        ),
        "Dask, two workers of 32": lambda: run(folder, environ, ["--workers", address]),
    }
    for name, way in ways.items():
        started = time.perf_counter()
        way()
        rate = lines / (time.perf_counter() - started)
        base = base or rate
        print(f"  {name:<26} {rate:7.1f} a second   {rate / base:5.2f}x")


def run(folder: Path, environ: dict[str, str], *options: list[str]) -> None:
    command = [MCPCHAT, "batch", str(folder / "requests.jsonl"), "--quiet"]
    processes = [subprocess.Popen([*command, *words], env=environ, stdout=subprocess.DEVNULL) for words in options]
    assert [process.wait() for process in processes] == [0] * len(options)


def start(
    stack: ExitStack,
    command: list[str],
    environ: Mapping[str, str],
    folder: Path,
    *,
    pipe: bool = False,
) -> "subprocess.Popen[bytes]":
    out = subprocess.PIPE if pipe else subprocess.DEVNULL
    process = subprocess.Popen(command, env=environ, cwd=folder, stdout=out, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def start_cluster(stack: ExitStack, environ: dict[str, str], folder: Path) -> str:
    folder.mkdir()
    file = folder / "scheduler.json"
    local = ("--host", "127.0.0.1", "--no-dashboard")
    scheduler = [sys.executable, "-m", "dask", "scheduler", "--port", "0", *local, "--scheduler-file", str(file)]
    start(stack, scheduler, environ, folder)
    while not (file.exists() and file.read_text().strip().endswith("}")):
        time.sleep(0.1)
    address = str(json.loads(file.read_text())["address"])
    for _ in range(2):
        start(
            stack,
            [sys.executable, "-m", "dask", "worker", address, "--nthreads", "32", "--no-nanny", *local],
            environ,
            folder,
        )
    time.sleep(5)
    return address


main()
