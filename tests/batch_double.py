"""A model server for many requests over real HTTP: echoes what it is asked, fails where it is told to, runs batches."""

import contextlib
import http.server
import json
import re
import threading
import time
from collections import Counter
from typing import Any

from tests.double import DONE, chunk, tool_call

_DISPOSITION = re.compile(rb'name="file".*?\r\n\r\n(.*?)\r\n--', re.DOTALL)


def asked(body: dict[str, Any]) -> str:
    """The last message of the user."""
    content = next(m["content"] for m in reversed(body["messages"]) if m["role"] == "user")
    return content if isinstance(content, str) else json.dumps(content)


class BatchDouble:
    """``told`` counts the answered requests by what they asked; ``stumble`` refuses each that often before it answers.

    ``broken`` are asked for in vain; ``hold`` has every answer wait. ``base_url`` ends in /v1.
    """

    def __init__(self) -> None:
        self.told: Counter[str] = Counter()
        self.begun: Counter[str] = Counter()
        self.stumble = 0
        self.status = 503
        self.broken: set[str] = set()
        self.calls: dict[str, tuple[str, str]] = {}  # what is answered with a call first
        self.hold = threading.Event()
        self.hold.set()
        self.pause = 0.0  # seconds, of each answer
        self.at_once = self.most_at_once = 0
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.looks = 0
        self.looks_needed = 2
        self.stumbling_looks = 0
        self._lock = threading.Lock()

    def answer(self, body: dict[str, Any]) -> str:
        return f"You said: {asked(body)}"

    def __enter__(self) -> "BatchDouble":
        double = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/files":
                    self._json(double.uploaded(data))
                elif self.path == "/v1/batches":
                    self._json(double.ordered(json.loads(data)))
                else:
                    self._chat(json.loads(data))

            def do_GET(self) -> None:
                if found := re.fullmatch(r"/v1/files/(.*)/content", self.path):
                    self._send(200, "application/octet-stream", double.files[found[1]])
                elif self.path.startswith("/v1/batches?"):
                    self._json({"data": list(double.batches.values())})
                elif self.path.startswith("/v1/batches/") and double.stumbling_looks:
                    double.stumbling_looks -= 1
                    self._send(503, "application/json", b'{"error":{"message":"try again"}}')
                elif self.path.startswith("/v1/batches/"):
                    self._json(double.looked(self.path.rpartition("/")[2]))
                else:
                    self._json({"data": [{"id": "m"}]})

            def _chat(self, body: dict[str, Any]) -> None:
                what = asked(body)
                with double._lock:
                    double.at_once += 1
                    double.most_at_once = max(double.most_at_once, double.at_once)
                    double.begun[what] += 1
                    stumbles = double.begun[what] <= double.stumble or what in double.broken
                double.hold.wait(30)
                time.sleep(double.pause)
                with double._lock:
                    double.at_once -= 1
                if stumbles:
                    refusal = {"error": {"message": "try again", "code": None}}
                    self._send(double.status, "application/json", json.dumps(refusal).encode(), ("Retry-After", "0"))
                    return
                if what in double.calls and body["messages"][-1]["role"] == "user":
                    name, arguments = double.calls[what]
                    double.told[what] += 1
                    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
                    done = chunk({}, "tool_calls", usage=usage)
                    self._send(200, "text/event-stream", tool_call(name, arguments).pieces[0] + done + DONE)
                    return
                usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
                text = chunk({"content": double.answer(body)}, None) + chunk({}, "stop", usage=usage) + DONE
                with double._lock:
                    double.told[what] += 1
                self._send(200, "text/event-stream", text)

            def _json(self, value: object) -> None:
                self._send(200, "application/json", json.dumps(value).encode())

            def _send(self, status: int, kind: str, data: bytes, *more: tuple[str, str]) -> None:
                self.send_response(status)
                for name, value in (("Content-Type", kind), ("Content-Length", str(len(data))), *more):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def handle(self) -> None:
                with contextlib.suppress(ConnectionError, ValueError):  # it was killed
                    super().handle()

            def log_message(self, *args: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 200

        self._server = Server(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # The Batch API.

    def uploaded(self, data: bytes) -> dict[str, Any]:
        found = _DISPOSITION.search(data)
        assert found is not None
        assert b'name="purpose"' in data
        name = f"file-{len(self.files) + 1}"
        self.files[name] = found[1]
        return {"id": name, "object": "file"}

    def ordered(self, order: dict[str, Any]) -> dict[str, Any]:
        name = f"batch_{len(self.batches) + 1}"
        self.batches[name] = {"id": name, "status": "validating", **order}
        return self.batches[name]

    def looked(self, name: str) -> dict[str, Any]:
        batch = self.batches[name]
        self.looks += 1
        if self.looks >= self.looks_needed and batch["status"] != "completed":
            lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
            good = [self._answered(line) for line in lines if asked(line["body"]) not in self.broken]
            bad = [
                {"custom_id": line["custom_id"], "response": None, "error": {"code": "expired", "message": "too late"}}
                for line in lines
                if asked(line["body"]) in self.broken
            ]
            for key, results in (("output_file_id", good), ("error_file_id", bad)):
                if results:
                    self.files[f"{name}-{key}"] = "".join(json.dumps(one) + "\n" for one in results).encode()
                    batch[key] = f"{name}-{key}"
            counts = {"total": len(lines), "completed": len(good), "failed": len(bad)}
            batch |= {"status": "completed", "request_counts": counts}
        return batch

    def _answered(self, line: dict[str, Any]) -> dict[str, Any]:
        body = line["body"]
        assert "stream" not in body
        self.told[asked(body)] += 1
        message = {"role": "assistant", "content": self.answer(body)}
        answer = {
            "id": "x",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
        }
        return {"custom_id": line["custom_id"], "response": {"status_code": 200, "body": answer}, "error": None}
