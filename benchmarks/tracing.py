"""Benchmark of traces for OpenTelemetry: a question without them and with them.

    python benchmarks/tracing.py [ROUNDS]

Each round runs ``mcpchat ask`` with the demo model and no [telemetry] table, with ``traces = false``, and with
``traces = true`` and a collector on loopback, in turn. Prints the medians, and the median of the ratios to the first
within each round.
"""

import http.server
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

MCPCHAT = str(Path(sys.executable).parent / "mcpchat")
COMMAND = [MCPCHAT, "ask", "--no-save", "-m", "demo", "hello"]
CONFIGS = {"no table": "", "off": "[telemetry]\ntraces = false\n", "on": "[telemetry]\ntraces = true\n"}


class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as home:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("MCPCHAT_", "OTEL_"))}
        environ |= {"HOME": home, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
        times: dict[str, list[float]] = {name: [] for name in CONFIGS}
        for number in range(rounds + 1):
            for name, config in CONFIGS.items():
                path = Path(home, f"{name}.toml")
                path.write_text(config)
                started = time.perf_counter()
                subprocess.run(COMMAND, env=environ | {"MCPCHAT_CONFIG": str(path)}, check=True, capture_output=True)
                if number:  # the first round fills the caches
                    times[name].append(time.perf_counter() - started)
    base = times["no table"]
    for name, values in times.items():
        ratio = statistics.median(value / first for value, first in zip(values, base, strict=True))
        print(f"{name:<10} {statistics.median(values) * 1000:7.0f} ms   {ratio:.2f}x")


main()
