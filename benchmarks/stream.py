"""Benchmark of a long response: time and memory for a stream of 20,000 chunks, against bare scripts in the same loop.

    python benchmarks/stream.py [ROUNDS [CHUNKS]]

Each program reads the same stream from a local server and writes the whole response. The time is from the server's
first byte to the end of the process; the memory is the process's peak.
"""

import http.server
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import ClassVar

SDK = """
import asyncio, os
from openai import AsyncOpenAI
async def main():
    client = AsyncOpenAI(api_key="x", base_url=os.environ["OPENAI_BASE_URL"])
    stream = await client.chat.completions.create(
        model="m", stream=True, messages=[{"role": "user", "content": "hello"}])
    text = []
    async for chunk in stream:
        if chunk.choices: text.append(chunk.choices[0].delta.content or "")
    print("".join(text))
asyncio.run(main())
"""
HTTPX2 = """
import asyncio, json, os, httpx2
async def main():
    async with httpx2.AsyncClient() as client:
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
        text = []
        async with client.stream("POST", os.environ["OPENAI_BASE_URL"] + "/chat/completions", json=body) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    text.append(json.loads(line[6:])["choices"][0]["delta"].get("content", ""))
        print("".join(text))
asyncio.run(main())
"""


def chat(chunks: int) -> bytes:
    deltas = [({"content": f"word{number % 10} "}, None) for number in range(chunks)]
    events = (
        {"id": "x", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}
        for delta, end in [*deltas, ({}, "stop")]
    )
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"


def responses(chunks: int) -> bytes:
    words = [f"word{number % 10} " for number in range(chunks)]
    part = {"type": "output_text", "text": "".join(words), "annotations": []}
    item = {"type": "message", "id": "msg", "role": "assistant", "status": "completed", "content": [part]}
    events = [
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        *({"type": "response.output_text.delta", "output_index": 0, "item_id": "msg", "delta": word} for word in words),
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"object": "response", "status": "completed", "output": [item]}},
    ]
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


class Model(http.server.BaseHTTPRequestHandler):
    answers: ClassVar[dict[str, bytes]] = {}
    started = 0.0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        type(self).started = time.perf_counter()
        self.wfile.write(self.answers[self.path])

    def log_message(self, *args: object) -> None:
        pass


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    chunks = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
    Model.answers = {"/v1/chat/completions": chat(chunks), "/v1/responses": responses(chunks)}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/v1"
    with tempfile.TemporaryDirectory() as home:
        config = Path(home, "c.toml")
        config.write_text(
            f'[model]\nname = "m"\nbase_url = "{address}"\n[model.two]\nname = "m"\nbase_url = "{address}"\n'
            'api = "responses"\n[servers.none]\nbuiltin = "calculator"\nenabled = false\n'
        )
        ask = [str(Path(sys.executable).with_name("mcpchat")), "ask", "--config", str(config)]
        contestants = {
            "bare openai SDK": [sys.executable, "-c", SDK],
            "bare httpx2": [sys.executable, "-c", HTTPX2],
            "mcpchat ask, chat": [*ask, "hello"],
            "mcpchat ask, responses": [*ask, "-m", "two", "hello"],
            "mcpchat ask -o jsonl, chat": [*ask, "-o", "jsonl", "hello"],
        }
        env = {"PATH": os.environ["PATH"], "HOME": home, "OPENAI_BASE_URL": address}
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        memory: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, command in contestants.items():
                process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                assert process.returncode == 0, name
                seconds[name].append(time.perf_counter() - Model.started)
                memory[name].append(usage.ru_maxrss / 1024)
    print(
        f"A stream of {chunks:,} chunks ({len(Model.answers['/v1/chat/completions']) / 1e6:.1f} MB of Chat Completions)"
    )
    print(f"{'':30} {'best':>9} {'paired':>8} {'peak':>8} {'paired':>8}")
    for name in contestants:
        time_ratio, memory_ratio = (
            statistics.median(own / base for own, base in zip(values[name], values["bare openai SDK"], strict=True))
            for values in (seconds, memory)
        )
        best, peak = min(seconds[name]), max(memory[name])
        print(f"{name:30} {best * 1000:6.0f} ms {time_ratio:7.2f}x {peak:5.0f} MB {memory_ratio:7.2f}x")


if __name__ == "__main__":
    main()
