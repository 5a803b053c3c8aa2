"""A handshake-era streamable HTTP server without any SDK; prints its port, misbehaves as its first argument says."""

import http.server
import json
import sys
import time

MODE = sys.argv[1]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        method = request.get("method")
        if method == "tools/call" and MODE in {"401", "500"}:
            self.answer(int(MODE), b"")
        elif "id" not in request:
            self.answer(202, b"")
        elif method == "initialize":
            info = {"name": "old", "version": "1"}
            result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
            self.result(request, result, session="s1")
        elif method == "tools/list":
            self.result(request, {"tools": [{"name": "go", "inputSchema": {"type": "object"}}]})
        elif method == "tools/call":
            self.result(request, {"content": [{"type": "text", "text": "gone"}]})
        else:
            error = {"code": -32601, "message": "method not found"}
            self.answer(200, json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}).encode())

    def do_DELETE(self) -> None:
        if MODE == "hang-at-goodbye":
            time.sleep(100)
        self.answer(200, b"")

    def do_GET(self) -> None:
        self.answer(405, b"")

    def result(self, request: dict[str, object], result: dict[str, object], session: str = "") -> None:
        self.answer(200, json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode(), session)

    def answer(self, status: int, body: bytes, session: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if session:
            self.send_header("Mcp-Session-Id", session)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def main() -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


main()
