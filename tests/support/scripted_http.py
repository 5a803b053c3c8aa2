"""An MCP server over HTTP in this process, whose every answer a test decides."""

import http.server
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.support.http_server import HttpServer

Answer = tuple[int, dict[str, str], bytes]
Respond = Callable[[dict[str, Any], dict[str, str]], Answer | None]
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}}
TOOL = {"name": "echo", "inputSchema": TEXT, "annotations": {"readOnlyHint": True, "idempotentHint": False}}


def result(request: dict[str, Any], value: dict[str, Any], **headers: str) -> Answer:
    """A JSON-RPC result."""
    body = json.dumps({"jsonrpc": "2.0", "id": request.get("id"), "result": value}).encode()
    return 200, {"Content-Type": "application/json", **headers}, body


def error(request: dict[str, Any], status: int, code: int, message: str) -> Answer:
    """A JSON-RPC error with an HTTP status."""
    body = json.dumps({"jsonrpc": "2.0", "id": request.get("id"), "error": {"code": code, "message": message}}).encode()
    return status, {"Content-Type": "application/json"}, body


class ScriptedHttpServer:
    """Answers each message with ``respond(message, headers)``; None stands for the usual answer.

    The usual answers are those of a server of revision 2025-06-18 with one tool. ``methods`` has what was asked.
    """

    def __init__(self, respond: Respond = lambda message, headers: None) -> None:
        self.respond = respond
        self.methods: list[str] = []
        self.tools: list[dict[str, Any]] = [TOOL]
        self.capabilities: dict[str, Any] = {"tools": {}}
        self.byte_interval = 0.0  # seconds between the bytes of a tool's answer

    def answer(self, message: dict[str, Any]) -> Answer:
        match message.get("method"):
            case "initialize":
                info = {"name": "scripted", "version": "1"}
                value = {"protocolVersion": "2025-06-18", "capabilities": self.capabilities, "serverInfo": info}
                return result(message, value)
            case "tools/list":
                return result(message, {"tools": self.tools})
            case "tools/call":
                return result(message, {"content": [{"type": "text", "text": "done"}]})
            case str() as method if "id" in message:
                return error(message, 200, -32601, f"no {method}")
        return 202, {}, b""

    def __enter__(self) -> "ScriptedHttpServer":
        scripted = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                scripted.methods.append(message.get("method", ""))
                status, fields, body = scripted.respond(message, headers) or scripted.answer(message)
                self.send_response(status)
                for name, value in fields.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if message.get("method") == "tools/call" and scripted.byte_interval:
                    for byte in body:
                        self.wfile.write(bytes([byte]))
                        time.sleep(scripted.byte_interval)
                else:
                    self.wfile.write(body)

            def do_GET(self) -> None:
                self.send_error(405)

            def do_DELETE(self) -> None:
                self.send_error(405)

            def log_message(self, *args: object) -> None:
                pass

        self._server = HttpServer(Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/mcp"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
