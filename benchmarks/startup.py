"""Benchmark of the start: time from process start to the first model request, against bare SDK scripts.

    python benchmarks/startup.py [ROUNDS]

Prints the best and the median wall time of each program, and two ratios to the baseline: that of the best times, and
the median of the ratios within each round (on a noisy machine, programs that run in turn are disturbed alike). The
model is a local server.
"""

import http.server
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ANSWER = "".join(
    f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta, 'finish_reason': reason}]})}\n\n"
    for delta, reason in (({"role": "assistant", "content": "Hello."}, None), ({}, "stop"))
)
OPENAI = """
import asyncio, os
from openai import AsyncOpenAI
async def main():
    client = AsyncOpenAI(api_key="x", base_url=os.environ["OPENAI_BASE_URL"])
    stream = await client.chat.completions.create(
        model="m", stream=True, messages=[{"role": "user", "content": "hello"}])
    async for chunk in stream:
        if chunk.choices: print(chunk.choices[0].delta.content or "", end="")
asyncio.run(main())
"""
BOTH = """
import asyncio, os, sys
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from openai import AsyncOpenAI
async def main():
    calculator = StdioServerParameters(command=sys.executable, args=["-m", "mcpchat_servers.calculator"])
    async with stdio_client(calculator) as streams, ClientSession(*streams) as session:
        await session.initialize()
        tools = [{"type": "function", "function": {"name": tool.name, "parameters": tool.input_schema}}
                 for tool in (await session.list_tools()).tools]
        client = AsyncOpenAI(api_key="x", base_url=os.environ["OPENAI_BASE_URL"])
        stream = await client.chat.completions.create(
            model="m", stream=True, tools=tools, messages=[{"role": "user", "content": "hello"}])
        async for chunk in stream:
            if chunk.choices: print(chunk.choices[0].delta.content or "", end="")
asyncio.run(main())
"""
HTTPX2 = """
import asyncio, os, httpx2
async def main():
    async with httpx2.AsyncClient() as client:
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
        async with client.stream("POST", os.environ["OPENAI_BASE_URL"] + "/chat/completions", json=body) as answer:
            async for line in answer.aiter_lines(): print(line)
asyncio.run(main())
"""


SERVER = """
import json, sys
properties = {f"p{number}": {"type": "string", "description": "One of its parameters."} for number in range(5)}
tools = [{"name": f"tool{number}", "description": "Does a thing with a path and a query, and answers. " * 3,
          "inputSchema": {"type": "object", "properties": properties}} for number in range(10)]
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "initialize":
        result = {"protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}},
                  "serverInfo": {"name": "many", "version": "1"}}
    else:
        result = {"tools": tools}
    if message.get("method") in ("initialize", "tools/list"):
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
    elif message.get("method") == "tools/call":
        result = {"content": [{"type": "text", "text": "done"}]}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
    elif "id" in message:
        error = {"code": -32601, "message": "no"}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}), flush=True)
"""


class Model(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    arrived = 0.0

    def do_POST(self) -> None:
        type(self).arrived = time.perf_counter()
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(f"{ANSWER}data: [DONE]\n\n".encode())
        self.close_connection = True

    def do_GET(self) -> None:
        models = json.dumps({"object": "list", "data": [{"id": "m", "object": "model"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(models)))
        self.end_headers()
        self.wfile.write(models)

    def log_message(self, *args: object) -> None:
        pass


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as home:
        empty = Path(home, "empty.toml")
        empty.write_text('[servers.none]\nbuiltin = "calculator"\nenabled = false\n')
        Path(home, "server.py").write_text(SERVER)
        many = Path(home, "many.toml")
        server_table = f'command = "{sys.executable}"\nargs = ["{Path(home, "server.py")}"]\n'
        many.write_text("".join(f"[servers.s{number}]\n{server_table}" for number in range(50)))
        ask = [str(Path(sys.executable).with_name("mcpchat")), "ask", "-q", "hello"]
        contestants = {
            "bare openai SDK": [sys.executable, "-c", OPENAI],
            "both SDKs, with the calculator": [sys.executable, "-c", BOTH],
            "bare httpx2": [sys.executable, "-c", HTTPX2],
            "mcpchat ask, no server": [*ask, "--config", str(empty)],
            "mcpchat ask, calculator cached": ask,
            "mcpchat ask, 50 servers cached": [*ask, "--config", str(many)],
            "mcpchat ask, calculator not cached": [*ask, "--refresh"],
        }
        quick = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "mcpchat --version": [ask[0], "--version"],
            "mcpchat --help": [ask[0], "--help"],
            "mcpchat ask --help": [ask[0], "ask", "--help"],
            "Tab: a tool's name": [ask[0], "__complete", "call", "calculator.c"],
        }
        env = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ} | {
            "HOME": home,
            "OPENAI_API_KEY": "x",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{server.server_port}/v1",
            "MCPCHAT_MODEL": "m",
        }
        kept = Path(home, "kept.toml")
        kept.write_text(f'[servers.none]\n{server_table}keep = "5m"\n[approvals]\ndefault = "allow"\n')
        warm = {
            "mcpchat ask, warm": contestants["mcpchat ask, no server"],
            "mcpchat ask, warm, 50 servers": contestants["mcpchat ask, 50 servers cached"],
            "mcpchat call, warm, kept server": [ask[0], "call", "none.tool1", "--config", str(kept)],
            "mcpchat tools, warm, kept server": [ask[0], "tools", "--config", str(kept)],
        }
        quick["mcpchat call, cold, not kept"] = [ask[0], "call", "-y", "s0.tool1", "--config", str(many)]
        if codex := shutil.which("codex"):
            quick["codex --version"] = [codex, "--version"]
        commands = {**contestants, **quick, **warm}
        first: dict[str, list[float]] = {name: [] for name in commands}
        total: dict[str, list[float]] = {name: [] for name in commands}
        subprocess.run([ask[0], "warm", "on"], env=env, check=True)
        try:
            for _ in range(rounds + 1):
                for name, command in commands.items():
                    own = env if name in warm else {**env, "MCPCHAT_NO_WARM": "1"}
                    Model.arrived = 0.0
                    started = time.perf_counter()
                    subprocess.run(command, env=own, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
                    total[name].append(time.perf_counter() - started)
                    first[name].append((Model.arrived or time.perf_counter()) - started)
        finally:
            subprocess.run([ask[0], "warm", "off"], env=env, check=True)
            subprocess.run([ask[0], "servers", "stop", "--all"], env=env, check=True)
    report("To the first model request", {name: first[name] for name in contestants}, "bare openai SDK")
    report("To the end of the process", {name: total[name] for name in contestants}, "bare openai SDK")
    report("Commands without a model", {name: total[name] for name in quick}, "python -c pass")
    report("Warm, to the first model request or the end", {
        name: first[name] for name in ("python -c pass", "mcpchat ask, no server", *warm)
    }, "python -c pass")  # fmt: skip


def report(title: str, times: dict[str, list[float]], baseline: str) -> None:
    """Print a table without the first round, which fills caches."""
    print(f"\n{title}\n{'':34} {'best':>9} {'median':>9} {'of best':>8} {'paired':>8}")
    rounds = {name: seconds[1:] for name, seconds in times.items()}
    for name, seconds in rounds.items():
        best, median = min(seconds), statistics.median(seconds)
        paired = statistics.median(own / base for own, base in zip(seconds, rounds[baseline], strict=True))
        ratio = best / min(rounds[baseline])
        print(f"{name:34} {best * 1000:6.0f} ms {median * 1000:6.0f} ms {ratio:7.2f}x {paired:7.2f}x")


if __name__ == "__main__":
    main()
