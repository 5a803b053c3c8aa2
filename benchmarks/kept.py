"""Benchmark of kept servers: a call of one tool by a command, with and without a kept server.

    python benchmarks/kept.py [ROUNDS]

Prints the best and the median wall time of each command, and two ratios to the call without a kept server: that of the
best times, and the median of the ratios within each round. The server needs half a second to start, as with an SDK.
Then it prints what a keeper takes: its start and its memory.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

START = 0.5  # seconds that the server needs
SERVER = f"""
import json, sys, time
time.sleep({START})
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    answers = {{
        "initialize": {{
            "protocolVersion": "2025-06-18", "capabilities": {{"tools": {{}}}},
            "serverInfo": {{"name": "s", "version": "1"}},
        }},
        "tools/list": {{"tools": [{{"name": "echo", "inputSchema": {{"type": "object"}}}}]}},
        "tools/call": {{"content": [{{"type": "text", "text": "ok"}}]}},
    }}
    answer = answers.get(message["method"])
    result = {{"result": answer}} if answer else {{"error": {{"code": -32601, "message": "no"}}}}
    print(json.dumps({{"jsonrpc": "2.0", "id": message["id"], **result}}), flush=True)
"""


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "server.py").write_text(SERVER)
        table = f'command = "{sys.executable}"\nargs = ["{home}/server.py"]\nprotocol = "2025-06-18"\n'
        (home / "c.toml").write_text(
            f'[servers.cold]\n{table}[servers.kept]\n{table}keep = "5m"\n[approvals]\ndefault = "allow"\n'
        )
        runtime = home / "run"
        runtime.mkdir(mode=0o700)
        env = {**os.environ, "HOME": folder, "MCPCHAT_CONFIG": str(home / "c.toml"), "XDG_RUNTIME_DIR": str(runtime)}
        call = [sys.executable, "-m", "mcpchat", "call"]
        programs = {
            "call, server started": [*call, "cold.echo"],
            "call, server kept": [*call, "kept.echo"],
            "python -c pass": [sys.executable, "-c", "pass"],
        }
        try:
            measure(programs, env, rounds)
            show_keepers(runtime / "mcpchat")
        finally:
            subprocess.run([sys.executable, "-m", "mcpchat", "servers", "stop", "--all"], env=env, check=False)


def measure(programs: dict[str, list[str]], env: dict[str, str], rounds: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(rounds + 1):
        for name, command in programs.items():
            began = time.perf_counter()
            subprocess.run(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
            if number:  # the first round fills the caches
                times[name].append(time.perf_counter() - began)
    base = next(iter(times.values()))
    print(f"{'':32}{'best':>10}{'median':>10}{'of best':>9}{'paired':>9}")
    for name, taken in times.items():
        paired = statistics.median(one / other for one, other in zip(taken, base, strict=True))
        ratio = min(taken) / min(base)
        print(
            f"{name:32}{min(taken) * 1000:7.0f} ms{statistics.median(taken) * 1000:7.0f} ms{ratio:8.2f}x{paired:8.2f}x"
        )


def show_keepers(folder: Path) -> None:
    from mcpchat.mcp import keeper
    from mcpchat.mcp.kept_servers import list_kept

    for _, kept in list_kept(folder):
        parent = Path(f"/proc/{kept.pid}/stat").read_text().rpartition(")")[2].split()[1]
        status = Path(f"/proc/{parent}/status").read_text()
        memory = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
        print(f"a keeper's memory: {int(memory) / 1000:.1f} MB")
    taken = []
    for _ in range(10):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-I", "-S", keeper.__file__], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        taken.append(time.perf_counter() - began)
    print(f"a keeper's start, until it reads what to do: {min(taken) * 1000:.0f} ms")


if __name__ == "__main__":
    main()
