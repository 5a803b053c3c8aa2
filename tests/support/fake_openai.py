"""Fake OpenAI server over real HTTP: plays canned responses and records the requests."""

import contextlib
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.support.http_server import HttpServer


@dataclass
class CannedResponse:
    """One response. Each of the ``chunks`` is sent after ``pause`` seconds; ``hang`` keeps the stream open.

    A generator of chunks is run by the server's thread while it sends them.
    With a ``gate``, the chunks from number ``gate_at`` on are sent only when the test has opened it.
    """

    chunks: Iterable[bytes] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/event-stream"})
    pause: float = 0.0
    hang: bool = False
    gate: threading.Event | None = None
    gate_at: int = 0


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "x", "choices": [choice], **more}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def text(*parts: str, finish: str = "stop") -> CannedResponse:
    return CannedResponse([*(chunk({"content": part}) for part in parts), chunk({}, finish), DONE])


def tool_call(name: str, arguments: str, call_id: str = "call_1") -> CannedResponse:
    call = {"index": 0, "id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return CannedResponse([chunk({"tool_calls": [call]}), chunk({}, "tool_calls"), DONE])


def event(kind: str, **fields: Any) -> bytes:
    """Return one event of the Responses API."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def message_item(text: str, item_id: str = "msg_1") -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": item_id, "status": "completed", "role": "assistant", "content": content}


def call_item(name: str, arguments: str, call_id: str = "call_1") -> dict[str, Any]:
    return {
        "type": "function_call", "id": f"fc_{call_id}", "call_id": call_id, "status": "completed",
        "name": name, "arguments": arguments,
    }  # fmt: skip


def reasoning_item(item_id: str = "rs_1") -> dict[str, Any]:
    return {"type": "reasoning", "id": item_id, "summary": [], "encrypted_content": "gAAAAsecret"}


def response(*items: dict[str, Any], usage: dict[str, Any] | None = None, **more: Any) -> list[bytes]:
    """Return the events of a response of the Responses API with these items."""
    chunks = [event("response.created", response={"id": "resp_1", "status": "in_progress"})]
    for index, item in enumerate(items):
        started = item | ({"arguments": ""} if item["type"] == "function_call" else {})
        chunks.append(event("response.output_item.added", output_index=index, item=started))
        if item["type"] == "message":
            text = item["content"][0]["text"]
            chunks += [
                event("response.output_text.delta", output_index=index, item_id=item["id"], delta=part)
                for part in (text[: len(text) // 2], text[len(text) // 2 :])
            ]
        chunks.append(event("response.output_item.done", output_index=index, item=item))
    completed = {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "output": list(items),
        "usage": usage,
        **more,
    }
    kind = {"incomplete": "response.incomplete", "failed": "response.failed"}.get(
        completed["status"], "response.completed"
    )
    return [*chunks, event(kind, response=completed)]


def error(status: int, message: str, code: str | None = None, **headers: str) -> CannedResponse:
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    return CannedResponse([body], status, {"Content-Type": "application/json", **headers})


SYNONYMS = {"mail": "letter", "email": "letter", "message": "letter", "remove": "delete", "erase": "delete"}


def embed(text: str, size: int = 64) -> list[float]:
    """Embed the text as a server does: texts whose words mean the same have the same vector."""
    vector = [0.0] * size
    for word in re.findall(r"[a-z]+", text.lower()):
        digest = hashlib.sha256(SYNONYMS.get(word, word).encode()).digest()
        for position in range(size):
            vector[position] += 1 if digest[position % 32] >> (position // 32) & 1 else -1
    return vector


class FakeOpenAI:
    """Answers each POST with the next reply; the last one is repeated. ``base_url`` ends in /v1.

    It also answers ``/embeddings``, and with ``counts_tokens`` it counts 4 characters of a request as a token.
    """

    def __init__(self) -> None:
        self.replies: list[CannedResponse] = [text("Hello.")]
        self.requests: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.models: list[Any] = ["small", "large"]
        self.counts_tokens = False
        self.embeds = True
        self._closing = threading.Event()

    def __enter__(self) -> "FakeOpenAI":
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                fake.bodies.append(body)
                fake.paths.append(self.path)
                fake.requests.append(json.loads(body))
                fake.headers.append({name.lower(): value for name, value in self.headers.items()})
                if (answer := fake._answer_at_once(self.path, fake.requests[-1])) is not None:
                    self._send_json(answer)
                    return
                canned = fake.replies.pop(0) if len(fake.replies) > 1 else fake.replies[0]
                self.send_response(canned.status)
                for name, value in canned.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                for number, data in enumerate(canned.chunks):
                    if canned.gate is not None and number == canned.gate_at:
                        canned.gate.wait(30)
                    fake._closing.wait(canned.pause)
                    self.wfile.write(data)
                    self.wfile.flush()
                if canned.hang:
                    fake._closing.wait(30)

            def do_GET(self) -> None:
                self._send_json({"data": [{"id": model} if isinstance(model, str) else model for model in fake.models]})

            def _send_json(self, value: object) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(value).encode())

            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):  # some tests close the connection
                    super().handle()

            def log_message(self, *args: object) -> None:
                pass

        self._server = HttpServer(Handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def _answer_at_once(self, path: str, request: dict[str, Any]) -> dict[str, Any] | None:
        if path.endswith("/embeddings") and self.embeds:
            texts = enumerate(request["input"])
            return {"data": [{"index": index, "embedding": embed(text)} for index, text in reversed(list(texts))]}
        if path.endswith("/responses/input_tokens") and self.counts_tokens:
            return {"object": "response.input_tokens", "input_tokens": len(json.dumps(request)) // 4}
        return None

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def slow_response(*pieces: str, pause: float = 0.1) -> CannedResponse:
    """Return a response that streams the pieces, ``pause`` seconds apart."""
    return CannedResponse([*(chunk({"content": piece}) for piece in pieces), chunk({}, "stop")], pause=pause)
