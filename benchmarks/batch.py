"""batch against a model server on this machine, beside the bare SDK with as many requests at a time.

Prints requests per second of both, their ratio, and the memory that batch took for a tenth of the lines and for all.

    python benchmarks/batch.py [LINES] [AT A TIME]
"""

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SERVER = """
import asyncio, json, sys
def piece(delta, finish=None):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\\n\\n"
DATA = piece({"content": "Hel"}) + piece({"content": "lo."}) + piece({}, "stop") + b"data: [DONE]\\n\\n"
HEAD = b"HTTP/1.1 200 OK\\r\\nContent-Type: text/event-stream\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(DATA)
async def serve(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\\r\\n\\r\\n")).lower()
            await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\\r\\n")[0]))
            writer.write(HEAD + DATA)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


async def bare(base_url: str, lines: int, at_a_time: int) -> None:
    """The SDK alone, streaming, with so many at a time."""
    import openai

    client = openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0)
    left = iter(range(lines))

    async def work() -> None:
        for number in left:
            said = [{"role": "user", "content": f"Say {number}"}]
            async for _ in await client.chat.completions.create(model="m", messages=said, stream=True):
                pass

    await asyncio.gather(*(work() for _ in range(at_a_time)))


def batched(base_url: str, folder: Path, lines: int, at_a_time: int) -> tuple[float, int]:
    """Seconds, and kB of memory at most."""
    source, config = folder / f"{lines}.jsonl", folder / "config.toml"
    source.write_text("".join(json.dumps({"prompt": f"Say {number}"}) + "\n" for number in range(lines)))
    config.write_text('[servers.calculator]\nbuiltin = "calculator"\nenabled = false\n')
    words = ["batch", str(source), "-m", "m", "--config", str(config), "-j", str(at_a_time), "-q", "-f"]
    program = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", program, sys.executable, "-m", "mcpchat", *words, str(folder / f"{lines}.out")]
    began = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, "OPENAI_BASE_URL": base_url}, check=True, capture_output=True)
    return time.perf_counter() - began, int(done.stdout)


def main() -> None:
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    at_a_time = int(sys.argv[2]) if len(sys.argv) > 2 else 16
    with (
        subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as server,
        tempfile.TemporaryDirectory() as name,
    ):
        assert server.stdout is not None
        base_url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        try:
            start, few = batched(base_url, Path(name), lines // 10, at_a_time)
            whole, most = batched(base_url, Path(name), lines, at_a_time)
            began = time.perf_counter()
            asyncio.run(bare(base_url, lines // 10, at_a_time))
            alone = (lines // 10) / (time.perf_counter() - began)
        finally:
            server.kill()
    rate = (lines - lines // 10) / (whole - start)
    print(f"{lines:,} lines, {at_a_time} at a time")
    print(
        f"batch    {rate:8.0f} requests/s   {few / 1024:.0f} MB for {lines // 10:,} lines, {most / 1024:.0f} MB for all"
    )
    print(f"bare SDK {alone:8.0f} requests/s   (with its import)   batch / SDK = {rate / alone:.2f}")
    print(f"this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
