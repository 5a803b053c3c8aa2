"""What servers cost: starts, calls at once, and a result that is too large, each against a yardstick in the same loop.

    python benchmarks/servers.py [ROUNDS]

1. `ask` with 0, 1, 10 and 50 configured servers that are known, and with some that are not: the wall time of the run,
   as a ratio to the one without any server, and how many servers were started for it. (startup.py has the time to the
   first request.)
2. Five calls of one second each in one step, on one server and on five, starts included: the longest, as a ratio to
   one call alone.
3. The peak memory of a call whose result is 100 MB, as a ratio to that of a call of a few bytes.
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

from tests.fake_openai import DONE, CannedResponse, FakeOpenAI, chunk, text  # noqa: E402 - the path is set above

MCPCHAT = str(Path(sys.executable).with_name("mcpchat"))
SERVERS = ROOT / "tests/servers"


def server(name: str, *argv: str) -> str:
    return f"[servers.{name}]\ncommand = {sys.executable!r}\nargs = {[str(word) for word in argv]}\n"


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

    def run(self, config: str, *words: str) -> float:
        """The wall time of the run, in seconds."""
        (self.home / "c.toml").write_text(config + '[approvals]\ndefault = "allow"\n')
        self.starts.write_text("")
        began = time.perf_counter()
        done = subprocess.run(
            [MCPCHAT, *words], env=self.environ, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        taken = time.perf_counter() - began
        assert done.returncode in {0, 5}, done.stderr.decode()
        return taken

    def many(self, count: int) -> str:
        """Servers that note their start, then go on as an ordinary one."""
        note = f"import sys, runpy; open({str(self.starts)!r}, 'a').write('x'); sys.argv[1:] = ['good', sys.argv[1]]; "
        note += f"runpy.run_path({str(SERVERS / 'quirky.py')!r}, run_name='__main__')"
        none = '[servers.calculator]\nbuiltin = "calculator"\nenabled = false\n'
        return none + "".join(server(f"s{n}", "-c", note, str(n)) for n in range(count))


def main() -> int:
    rounds = int(sys.argv[1]) if sys.argv[1:] else 5
    with tempfile.TemporaryDirectory() as home, FakeOpenAI() as model:
        bench = Bench(Path(home), model)
        print("ask, to its end     ratio to none   servers started")
        times: dict[str, list[float]] = {}
        started: dict[str, int] = {}
        for count in (1, 10, 50):
            bench.run(bench.many(count), "tools")
        for _ in range(rounds):
            for count in (0, 1, 10, 50):
                times.setdefault(f"{count} known", []).append(bench.run(bench.many(count), "ask", "hello"))
                started[f"{count} known"] = len(bench.starts.read_text())
        for count in (1, 10):
            for _ in range(max(1, rounds // 2)):
                times.setdefault(f"{count} unknown", []).append(
                    bench.run(bench.many(count), "ask", "--refresh", "hello")
                )
                started[f"{count} unknown"] = len(bench.starts.read_text())
        least = min(times["0 known"])
        for name, taken in times.items():
            print(f"  {name:<17} {min(taken) / least:5.2f}x  ({min(taken):.2f} s)   {started[name]}")

        print("five calls of 1 s in one step, ratio to one call")
        ratios: dict[str, list[float]] = {"on one server": [], "on five servers": []}
        boxes = "".join(server(f"b{n}", str(SERVERS / "full_featured.py")) for n in range(5))
        bench.run(boxes, "tools")
        for _ in range(max(1, rounds // 2)):
            one = step(bench, boxes, ["b0"])
            ratios["on one server"].append(step(bench, boxes, ["b0"] * 5) / one)
            ratios["on five servers"].append(step(bench, boxes, [f"b{n}" for n in range(5)]) / one)
        for name, values in ratios.items():
            print(f"  {name:<17} {statistics.median(values):5.2f}x")

        usual, large = (
            peak(bench, server("bad", str(SERVERS / "hostile.py"), mode)) for mode in ("info-missing", "huge")
        )
        print("peak memory of a call")
        print(f"  a few bytes       {usual:.0f} MB\n  100 MB            {large / usual:5.2f}x  ({large:.0f} MB)")
    return 0


def step(bench: Bench, config: str, boxes: list[str]) -> float:
    """The time that a step of calls takes, from the first start to the last end, as the events tell."""
    pieces = [
        {
            "index": n,
            "id": f"c{n}",
            "type": "function",
            "function": {"name": f"{box}__busy", "arguments": '{"seconds": 1}'},
        }
        for n, box in enumerate(boxes)
    ]
    bench.model.replies = [
        CannedResponse([chunk({"tool_calls": pieces}), chunk({}, "tool_calls"), DONE]),
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


def peak(bench: Bench, config: str) -> float:
    """Megabytes at the peak of mcpchat itself."""
    (bench.home / "c.toml").write_text(config + '[approvals]\ndefault = "allow"\n')
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([MCPCHAT, "call", "bad.go"], env=bench.environ, stdin=quiet, stdout=quiet, stderr=quiet)
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0
    return used.ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
