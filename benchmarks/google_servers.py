"""Benchmark of the Google servers' start and first responses, against a bare server of the SDK.

    python benchmarks/google_servers.py [ROUNDS]

Each server is started, initialized, asked for its tools and for one call, with a local fake of Google's APIs. Prints
best and median wall times, and their ratios to the bare server in the same rounds. A server over
google-api-python-client is included if that package is installed.
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.google import run_fake_google
from tests.support.google.example import fill_account
from tests.support.google.http import TOKEN

BARE = """
from mcp.server import MCPServer
server = MCPServer("bare", log_level="WARNING")
@server.tool()
def say(text: str) -> str:
    return text
server.run()
"""
OTHER = """
import os
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build
from mcp.server import MCPServer
server = MCPServer("other", log_level="WARNING")
drive = build("drive", "v3", credentials=Credentials(os.environ["GOOGLE_ACCESS_TOKEN"]),
              client_options={"api_endpoint": os.environ["GOOGLE_API_URL"] + "/drive/v3/"}, static_discovery=True)
@server.tool()
def get_file(file_id: str) -> str:
    return drive.files().get(fileId=file_id, fields="id,name", supportsAllDrives=True).execute()["name"]
server.run()
"""
CONTESTANTS: dict[str, tuple[list[str], str, dict[str, Any]]] = {
    "bare SDK server": (["-c", BARE], "say", {"text": "x"}),
    "calculator": (["-m", "mcpchat_servers.calculator"], "calculate", {"expression": "1+1"}),
    "drive": (["-m", "mcpchat_servers.drive"], "get_file", {"file_id": "text-1"}),
    "gmail": (["-m", "mcpchat_servers.gmail"], "list_labels", {}),
    "sheets": (["-m", "mcpchat_servers.sheets"], "get_spreadsheet", {"spreadsheet_id": "budget-1"}),
}


def measure(
    command: list[str], tool: str, arguments: dict[str, Any], env: dict[str, str]
) -> tuple[float, float, float]:
    """Return the seconds from the start to the initialize result, to the tools, to the first tool result."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None
    assert process.stdout is not None
    times = []
    client = {"name": "benchmark", "version": "1"}
    initialize_params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}
    for number, (method, params) in enumerate(
        (("initialize", initialize_params), ("tools/list", {}), ("tools/call", {"name": tool, "arguments": arguments}))
    ):
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        process.stdin.write(json.dumps(message).encode() + b"\n")
        if number == 0:
            process.stdin.write(b'{"jsonrpc": "2.0", "method": "notifications/initialized"}\n')
        process.stdin.flush()
        response = json.loads(process.stdout.readline())
        assert not response["result"].get("isError"), response
        times.append(time.perf_counter() - started)
    process.stdin.close()
    process.wait()
    return tuple(times)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    contestants = dict(CONTESTANTS)
    if importlib.util.find_spec("googleapiclient"):
        contestants["over google-api-python-client"] = (["-c", OTHER], "get_file", {"file_id": "text-1"})
    timings: dict[str, list[tuple[float, ...]]] = {name: [] for name in contestants}
    with run_fake_google() as service:
        fill_account(service)
        env = {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ}
        env |= {"GOOGLE_API_URL": service.url, "GOOGLE_ACCESS_TOKEN": TOKEN, "PYDANTIC_DISABLE_PLUGINS": "1"}
        for _ in range(rounds + 1):
            for name, contestant in contestants.items():
                timings[name].append(measure(*contestant, env))
    for step, title in enumerate(("To the initialize result", "To the list of tools", "To the first tool result")):
        print(f"\n{title}\n{'':34} {'best':>9} {'median':>9} {'of best':>8} {'paired':>8}")
        step_times = {name: [times[step] for times in rounds_of[1:]] for name, rounds_of in timings.items()}
        baseline = step_times["bare SDK server"]
        for name, times in step_times.items():
            paired = statistics.median(own / base for own, base in zip(times, baseline, strict=True))
            best, median = min(times), statistics.median(times)
            ratio = best / min(baseline)
            print(f"{name:34} {best * 1000:6.0f} ms {median * 1000:6.0f} ms {ratio:7.2f}x {paired:7.2f}x")


if __name__ == "__main__":
    main()
