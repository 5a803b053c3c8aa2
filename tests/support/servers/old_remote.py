"""A streamable HTTP MCP server of the handshake era, without an SDK; prints its port.

The first argument selects how it misbehaves.
"""

import gzip
import http.server
import itertools
import json
import sys
import time
from pathlib import Path

MODE = sys.argv[1]
SESSIONS = itertools.count()
USED_SESSIONS: set[str | None] = set()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        method = request.get("method")
        if MODE == "moved" and self.path == "/mcp":
            self.respond(307, b"", location="/elsewhere")
        elif MODE == "moved-away":
            self.respond(307, b"", location="http://localhost:9/mcp")
        elif method == "tools/call" and MODE in {"401", "500"}:
            self.respond(int(MODE), b"")
        elif method == "tools/call" and MODE == "forgetful" and self.headers["Mcp-Session-Id"] in USED_SESSIONS:
            self.respond(404, b"")
        elif method == "tools/call" and MODE == "packed":
            self.respond(200, gzip.compress(b"{}"), compressed=True)
        elif "id" not in request:
            self.respond(202, b"")
        elif method == "initialize" and MODE == "silent":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Mcp-Session-Id", "s")
            self.end_headers()
            time.sleep(100)
        elif method == "initialize":
            info = {"name": "old", "version": "1"}
            result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
            self.respond_result(request, result, session=f"s{next(SESSIONS)}")
        elif method == "tools/list":
            self.respond_result(request, {"tools": [{"name": "go", "inputSchema": {"type": "object"}}]})
        elif method == "tools/call":
            USED_SESSIONS.add(self.headers["Mcp-Session-Id"])
            self.respond_result(request, {"content": [{"type": "text", "text": "gone"}]})
        else:
            error = {"code": -32601, "message": "method not found"}
            self.respond(200, json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}).encode())

    def do_DELETE(self) -> None:
        if MODE in {"hang-at-goodbye", "silent"}:
            time.sleep(100)
        self.respond(200, b"")

    def do_GET(self) -> None:
        self.respond(405, b"")

    def respond_result(self, request: dict[str, object], result: dict[str, object], session: str = "") -> None:
        self.respond(200, json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode(), session)

    def respond(
        self, status: int, body: bytes, session: str = "", location: str = "", compressed: bool = False
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if session:
            self.send_header("Mcp-Session-Id", session)
        if location:
            self.send_header("Location", location)
        if compressed:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def main() -> None:
    before = Path(sys.argv[2]) if sys.argv[2:] else None  # file with the port of an earlier run
    port = int(before.read_text()) if before is not None and before.exists() else 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


main()
