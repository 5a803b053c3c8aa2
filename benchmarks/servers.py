"""Benchmark of MCP servers: starts, parallel calls and an oversized result, each with a baseline in the same loop.

    python benchmarks/servers.py [ROUNDS]

1. `ask` with 0, 1, 10 and 50 cached servers, and with some that are not cached: the wall time of the run as a ratio
   to a run without servers, and how many servers it started. (startup.py measures the time to the first request.)
2. Five calls of one second each in one step, on one server and on five, including the starts: the longest call as a
   ratio to a single call.
3. The peak memory of a call whose result is 100 MB, as a ratio to that of a call with a result of a few bytes.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.fake_openai import DONE, CannedResponse, FakeOpenAI, chunk, text  # noqa: E402 - the path is set above

MCPCHAT = str(Path(sys.executable).with_name("mcpchat"))
SERVERS = ROOT / "tests/support/servers"


def server_config(name: str, *args: str) -> str:
    return f"[servers.{name}]\ncommand = {sys.executable!r}\nargs = {[str(arg) for arg in args]}\n"


class Bench:
    def __init__(self, home: Path, model: FakeOpenAI) -> None:
        self.home = home
        self.model = model
        self.starts = home / "starts"
        self.environ = {
            **os.environ,
            "HOME": str(home),
            "OPENAI_BASE_URL": model.base_url,
            "MCPCHAT_MODEL": "m",
            "MCPCHAT_CONFIG": str(home / "c.toml"),
        }

    def run(self, config: str, *args: str) -> float:
        """Run mcpchat with this config; returns the wall time in seconds."""
        (self.home / "c.toml").write_text(config + '[approvals]\ndefault = "allow"\n')
        self.starts.write_text("")
        started = time.perf_counter()
        done = subprocess.run(
            [MCPCHAT, *args], env=self.environ, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        seconds = time.perf_counter() - started
        assert done.returncode in {0, 5}, done.stderr.decode()
        return seconds

    def many_servers(self, count: int) -> str:
        """Return the config of servers that record their start and then run quirky.py in its "good" mode."""
        script = f"import sys, runpy; open({str(self.starts)!r}, 'a').write('x'); "
        script += (
            f"sys.argv[1:] = ['good', sys.argv[1]]; runpy.run_path({str(SERVERS / 'quirky.py')!r}, run_name='__main__')"
        )
        no_calculator = '[servers.calculator]\nbuiltin = "calculator"\nenabled = false\n'
        return no_calculator + "".join(server_config(f"s{n}", "-c", script, str(n)) for n in range(count))


def main() -> int:
    rounds = int(sys.argv[1]) if sys.argv[1:] else 5
    with tempfile.TemporaryDirectory() as home, FakeOpenAI() as model:
        bench = Bench(Path(home), model)
        print("ask, whole run      ratio to none   servers started")
        times: dict[str, list[float]] = {}
        started: dict[str, int] = {}
        for count in (1, 10, 50):
            bench.run(bench.many_servers(count), "tools")
        for _ in range(rounds):
            for count in (0, 1, 10, 50):
                times.setdefault(f"{count} cached", []).append(bench.run(bench.many_servers(count), "ask", "hello"))
                started[f"{count} cached"] = len(bench.starts.read_text())
        for count in (1, 10):
            for _ in range(max(1, rounds // 2)):
                times.setdefault(f"{count} not cached", []).append(
                    bench.run(bench.many_servers(count), "ask", "--refresh", "hello")
                )
                started[f"{count} not cached"] = len(bench.starts.read_text())
        baseline = min(times["0 cached"])
        for name, seconds in times.items():
            print(f"  {name:<17} {min(seconds) / baseline:5.2f}x  ({min(seconds):.2f} s)   {started[name]}")

        print("five calls of 1 s in one step, ratio to one call")
        ratios: dict[str, list[float]] = {"on one server": [], "on five servers": []}
        config = "".join(server_config(f"b{n}", str(SERVERS / "full_featured.py")) for n in range(5))
        bench.run(config, "tools")
        for _ in range(max(1, rounds // 2)):
            single = time_step(bench, config, ["b0"])
            ratios["on one server"].append(time_step(bench, config, ["b0"] * 5) / single)
            ratios["on five servers"].append(time_step(bench, config, [f"b{n}" for n in range(5)]) / single)
        for name, values in ratios.items():
            print(f"  {name:<17} {statistics.median(values):5.2f}x")

        small, large = (
            peak_memory(bench, server_config("bad", str(SERVERS / "hostile.py"), mode))
            for mode in ("info-missing", "huge")
        )
        print("peak memory of a call")
        print(f"  a few bytes       {small:.0f} MB\n  100 MB            {large / small:5.2f}x  ({large:.0f} MB)")
    return 0


def time_step(bench: Bench, config: str, servers: list[str]) -> float:
    """Return the seconds of the longest call in a step with one call per server, according to the events."""
    calls = [
        {
            "index": n,
            "id": f"c{n}",
            "type": "function",
            # Different arguments, so that the loop detector does not stop the turn.
            "function": {"name": f"{name}__busy", "arguments": json.dumps({"seconds": 1 + n / 1000})},
        }
        for n, name in enumerate(servers)
    ]
    bench.model.replies = [
        CannedResponse([chunk({"tool_calls": calls}), chunk({}, "tool_calls"), DONE]),
        text("Done."),
    ]
    (bench.home / "c.toml").write_text(config + '[approvals]\ndefault = "allow"\n')
    done = subprocess.run(
        [MCPCHAT, "ask", "-o", "jsonl", "go"],
        env=bench.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return max(event["seconds"] for event in events if event["type"] == "tool.finished")


def peak_memory(bench: Bench, config: str) -> float:
    """Return the peak memory of the mcpchat process in megabytes."""
    (bench.home / "c.toml").write_text(config + '[approvals]\ndefault = "allow"\n')
    null = subprocess.DEVNULL
    process = subprocess.Popen([MCPCHAT, "call", "bad.go"], env=bench.environ, stdin=null, stdout=null, stderr=null)
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return usage.ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
