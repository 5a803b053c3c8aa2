"""Benchmark of ``mcpchat batch`` against the bare SDK with the same concurrency, both with a local model server.

    python benchmarks/batch.py [LINES [CONCURRENCY]]

Prints requests per second of both, their ratio, and the peak memory of batch for a tenth of the lines and for all.
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

SERVER = str(Path(__file__).with_name("model_server.py"))


async def run_sdk(base_url: str, lines: int, concurrency: int) -> None:
    """Send the requests with the SDK alone, streaming."""
    import openai

    client = openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0)
    numbers = iter(range(lines))

    async def work() -> None:
        for number in numbers:
            messages = [{"role": "user", "content": f"Say {number}"}]
            async for _ in await client.chat.completions.create(model="m", messages=messages, stream=True):
                pass

    await asyncio.gather(*(work() for _ in range(concurrency)))


def run_batch(base_url: str, folder: Path, lines: int, concurrency: int) -> tuple[float, int]:
    """Run ``mcpchat batch``; returns the seconds and the peak memory in kB."""
    source, config = folder / f"{lines}.jsonl", folder / "config.toml"
    source.write_text("".join(json.dumps({"prompt": f"Say {number}"}) + "\n" for number in range(lines)))
    config.write_text('[servers.calculator]\nbuiltin = "calculator"\nenabled = false\n')
    args = ["batch", str(source), "-m", "m", "--config", str(config), "-j", str(concurrency), "-q", "-f"]
    program = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", program, sys.executable, "-m", "mcpchat", *args, str(folder / f"{lines}.out")]
    started = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, "OPENAI_BASE_URL": base_url}, check=True, capture_output=True)
    return time.perf_counter() - started, int(done.stdout)


def main() -> None:
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    concurrency = int(sys.argv[2]) if len(sys.argv) > 2 else 16
    with (
        subprocess.Popen([sys.executable, SERVER], stdout=subprocess.PIPE, text=True) as server,
        tempfile.TemporaryDirectory() as name,
    ):
        assert server.stdout is not None
        base_url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        try:
            tenth_seconds, tenth_memory = run_batch(base_url, Path(name), lines // 10, concurrency)
            seconds, memory = run_batch(base_url, Path(name), lines, concurrency)
            started = time.perf_counter()
            asyncio.run(run_sdk(base_url, lines // 10, concurrency))
            sdk_rate = (lines // 10) / (time.perf_counter() - started)
        finally:
            server.kill()
    rate = (lines - lines // 10) / (seconds - tenth_seconds)  # without the start of the process
    print(f"{lines:,} lines, {concurrency} at a time")
    print(
        f"batch    {rate:8.0f} requests/s   {tenth_memory / 1024:.0f} MB for {lines // 10:,} lines, "
        f"{memory / 1024:.0f} MB for all"
    )
    print(f"bare SDK {sdk_rate:8.0f} requests/s   (with its import)   batch / SDK = {rate / sdk_rate:.2f}")
    print(f"this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
