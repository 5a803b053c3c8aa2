"""Fake model server over real HTTP for many requests: echoes messages, fails on request, implements the Batch API."""

import contextlib
import http.server
import json
import re
import threading
import time
from collections import Counter
from typing import Any

from tests.support.fake_openai import DONE, chunk, tool_call
from tests.support.http_server import HttpServer

_DISPOSITION = re.compile(rb'name="file".*?\r\n\r\n(.*?)\r\n--', re.DOTALL)


def last_user_text(body: dict[str, Any]) -> str:
    """Return the text of the last user message."""
    content = next(m["content"] for m in reversed(body["messages"]) if m["role"] == "user")
    return content if isinstance(content, str) else json.dumps(content)


class FakeBatchApi:
    """The server. Requests are identified by the text of their last user message.

    ``answer_counts`` counts the answered requests by text. Each text fails ``fail_first`` times with ``status`` before
    it is answered; the texts in ``failing`` always fail. Responses wait until ``may_answer`` is set. ``base_url`` ends
    in /v1.
    """

    def __init__(self) -> None:
        self.answer_counts: Counter[str] = Counter()
        self.request_counts: Counter[str] = Counter()
        self.fail_first = 0
        self.status = 503
        self.failing: set[str] = set()
        self.calls: dict[str, tuple[str, str]] = {}  # text -> name and arguments of the tool call to respond with first
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.pause = 0.0  # seconds before each response
        self.active = self.max_active = 0
        self.unanswered = 0  # requests whose answers are not written yet
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.polls = 0
        self.polls_needed = 2
        self.failing_polls = 0
        self._lock = threading.Lock()

    def answer_text(self, body: dict[str, Any]) -> str:
        return f"You said: {last_user_text(body)}"

    def __enter__(self) -> "FakeBatchApi":
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/files":
                    self._json(fake.upload_file(data))
                elif self.path == "/v1/batches":
                    self._json(fake.create_batch(json.loads(data)))
                else:
                    self._chat(json.loads(data))

            def do_GET(self) -> None:
                if match := re.fullmatch(r"/v1/files/(.*)/content", self.path):
                    self._send(200, "application/octet-stream", fake.files[match[1]])
                elif self.path.startswith("/v1/batches?"):
                    self._json({"data": list(fake.batches.values())})
                elif self.path.startswith("/v1/batches/") and fake.failing_polls:
                    fake.failing_polls -= 1
                    self._send(503, "application/json", b'{"error":{"message":"try again"}}')
                elif self.path.startswith("/v1/batches/"):
                    self._json(fake.poll_batch(self.path.rpartition("/")[2]))
                else:
                    self._json({"data": [{"id": "m"}]})

            def _chat(self, body: dict[str, Any]) -> None:
                with fake._lock:
                    fake.unanswered += 1
                try:
                    self._answer(body)
                finally:
                    with fake._lock:
                        fake.unanswered -= 1

            def _answer(self, body: dict[str, Any]) -> None:
                question = last_user_text(body)
                with fake._lock:
                    fake.active += 1
                    fake.max_active = max(fake.max_active, fake.active)
                    fake.request_counts[question] += 1
                    fails = fake.request_counts[question] <= fake.fail_first or question in fake.failing
                fake.may_answer.wait(30)
                time.sleep(fake.pause)
                with fake._lock:
                    fake.active -= 1
                if fails:
                    error = {"error": {"message": "try again", "code": None}}
                    self._send(fake.status, "application/json", json.dumps(error).encode(), ("Retry-After", "0"))
                    return
                if question in fake.calls and body["messages"][-1]["role"] == "user":
                    name, arguments = fake.calls[question]
                    fake.answer_counts[question] += 1
                    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
                    end = chunk({}, "tool_calls", usage=usage)
                    self._send(200, "text/event-stream", tool_call(name, arguments).chunks[0] + end + DONE)
                    return
                usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
                text = chunk({"content": fake.answer_text(body)}, None) + chunk({}, "stop", usage=usage) + DONE
                with fake._lock:
                    fake.answer_counts[question] += 1
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
                with contextlib.suppress(ConnectionError, ValueError):  # the client was killed
                    super().handle()

            def log_message(self, *args: object) -> None:
                pass

        self._server = HttpServer(Handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.may_answer.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # The Batch API.

    def upload_file(self, data: bytes) -> dict[str, Any]:
        match = _DISPOSITION.search(data)
        assert match is not None
        assert b'name="purpose"' in data
        name = f"file-{len(self.files) + 1}"
        self.files[name] = match[1]
        return {"id": name, "object": "file"}

    def create_batch(self, payload: dict[str, Any]) -> dict[str, Any]:
        name = f"batch_{len(self.batches) + 1}"
        self.batches[name] = {"id": name, "status": "validating", **payload}
        return self.batches[name]

    def poll_batch(self, name: str) -> dict[str, Any]:
        batch = self.batches[name]
        self.polls += 1
        if self.polls >= self.polls_needed and batch["status"] != "completed":
            lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
            succeeded = [
                self._batch_response(line) for line in lines if last_user_text(line["body"]) not in self.failing
            ]
            failed = [
                {"custom_id": line["custom_id"], "response": None, "error": {"code": "expired", "message": "too late"}}
                for line in lines
                if last_user_text(line["body"]) in self.failing
            ]
            for key, results in (("output_file_id", succeeded), ("error_file_id", failed)):
                if results:
                    self.files[f"{name}-{key}"] = "".join(json.dumps(result) + "\n" for result in results).encode()
                    batch[key] = f"{name}-{key}"
            counts = {"total": len(lines), "completed": len(succeeded), "failed": len(failed)}
            batch |= {"status": "completed", "request_counts": counts}
        return batch

    def _batch_response(self, line: dict[str, Any]) -> dict[str, Any]:
        body = line["body"]
        assert "stream" not in body
        self.answer_counts[last_user_text(body)] += 1
        message = {"role": "assistant", "content": self.answer_text(body)}
        answer = {
            "id": "x",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
        }
        return {"custom_id": line["custom_id"], "response": {"status_code": 200, "body": answer}, "error": None}
