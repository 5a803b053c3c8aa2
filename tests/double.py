"""A model server over real HTTP: plays prepared answers, keeps a journal of the requests."""

import contextlib
import http.server
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Reply:
    """One answer. ``pieces`` are sent one by one, each after ``pause`` seconds; ``hang`` leaves the stream open."""

    pieces: Sequence[bytes] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/event-stream"})
    pause: float = 0.0
    hang: bool = False


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "x", "choices": [choice], **more}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def text(*pieces: str, finish: str = "stop") -> Reply:
    return Reply([*(chunk({"content": piece}) for piece in pieces), chunk({}, finish), DONE])


def tool_call(name: str, arguments: str, call_id: str = "call_1") -> Reply:
    call = {"index": 0, "id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return Reply([chunk({"tool_calls": [call]}), chunk({}, "tool_calls"), DONE])


def error(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    return Reply([body], status, {"Content-Type": "application/json", **headers})


class ModelDouble:
    """Answers each POST with the next reply; the last one is repeated. ``base_url`` ends in /v1."""

    def __init__(self) -> None:
        self.replies: list[Reply] = [text("Hello.")]
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.models = ["small", "large"]
        self._closing = threading.Event()

    def __enter__(self) -> "ModelDouble":
        double = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                double.requests.append(json.loads(body))
                double.headers.append({name.lower(): value for name, value in self.headers.items()})
                reply = double.replies.pop(0) if len(double.replies) > 1 else double.replies[0]
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                for piece in reply.pieces:
                    double._closing.wait(reply.pause)
                    self.wfile.write(piece)
                    self.wfile.flush()
                if reply.hang:
                    double._closing.wait(30)

            def do_GET(self) -> None:
                body = json.dumps({"data": [{"id": name} for name in double.models]}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(body)

            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):  # the client hung up, as some tests want
                    super().handle()

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
