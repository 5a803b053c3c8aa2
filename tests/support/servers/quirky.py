"""An MCP server of the handshake era, without an SDK. The first argument selects how it misbehaves."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MODE = sys.argv[1] if len(sys.argv) > 1 else "good"
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
TOOLS: list[dict[str, Any]] = [
    {
        "name": "echo",
        "description": "Echo a text",
        "inputSchema": TEXT,
        "annotations": {"readOnlyHint": True, "idempotentHint": True},
    },
    {"name": "write", "description": "Pretend to write a text", "inputSchema": TEXT},
    {"name": "wipe", "inputSchema": {"type": "object"}, "annotations": {"destructiveHint": True}},
]


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def handle(request: dict[str, Any]) -> dict[str, Any]:
    params = request.get("params") or {}
    match request["method"]:
        case "initialize":
            info = {"name": "odd", "version": "1"}
            capabilities: dict[str, Any] = {"tools": {}}
            if MODE == "updates":
                capabilities["resources"] = {"subscribe": True}
            revision = "2025-11-25" if MODE == "visit" else "2025-06-18"
            return {"protocolVersion": revision, "capabilities": capabilities, "serverInfo": info}
        case "tools/list" if MODE == "no-list":
            raise ValueError("no list today")
        case "tools/list" if MODE == "slow-list":
            time.sleep(1)
            return {"tools": TOOLS}
        case "tools/list" if MODE == "silent-list":
            time.sleep(60)
            raise ValueError("too late")
        case "tools/list" if MODE == "paged":
            start = int(params.get("cursor") or 0)
            page = [{"name": f"t{n:03}", "inputSchema": {"type": "object"}} for n in range(start, start + 10)]
            return {"tools": page, **({"nextCursor": str(start + 10)} if start < 90 else {})}
        case "tools/list":
            added = Path(sys.argv[2]).read_text().split() if MODE == "adds" else []
            return {"tools": TOOLS + [{"name": name, "inputSchema": TEXT} for name in added]}
        case "resources/read":
            return {"contents": [{"uri": params["uri"], "text": "hello"}]}
        case "resources/subscribe":
            return {}
        case "tools/call":
            return call_tool(params["name"], params.get("arguments") or {}, params.get("_meta") or {})
        case _:
            raise LookupError


def call_tool(name: str, arguments: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
    match MODE:
        case "dies":
            sys.stderr.write("out of cheese\n")
            sys.stderr.flush()
            os._exit(7)
        case "dies-once":
            runs = Path(sys.argv[2])
            with runs.open("a") as file:
                file.write("run\n")
            if runs.read_text() == "run\n":
                os._exit(7)
        case "updates":
            send({"method": "notifications/resources/updated", "params": {"uri": "note://a"}})
            send({"method": "notifications/resources/updated", "params": {"uri": "note://unread"}})
        case "visit":
            params = {"mode": "url", "message": "Log in, please", "elicitationId": "1"}
            params["url"] = "https://example.com/login?a=1&b=%20"
            send({"id": "v", "method": "elicitation/create", "params": params})
            action = json.loads(sys.stdin.readline())["result"]["action"]
            return {"content": [{"type": "text", "text": f"visited: {action}"}]}
        case "slow":
            time.sleep(60)
        case "protocol-error":
            raise ValueError("unknown tool: " + name)
        case "environment":
            return {"content": [{"type": "text", "text": json.dumps(dict(os.environ))}]}
        case "rich":
            token = meta.get("progressToken")
            send({"method": "notifications/progress", "params": {"progressToken": token, "progress": 1, "total": 2}})
            content = [
                {"type": "text", "text": "a text"},
                {"type": "image", "data": "iVBORw==", "mimeType": "image/png"},
                {"type": "audio", "data": "UklGRg==", "mimeType": "audio/wav"},
                {"type": "resource_link", "uri": "file:///a", "name": "a"},
                {"type": "resource", "resource": {"uri": "file:///b", "text": "inside"}},
                {"type": "resource", "resource": {"uri": "file:///c", "blob": "AA==", "mimeType": "application/zip"}},
            ]
            return {"content": content, "structuredContent": {"n": 1}}
    if name == "echo" and arguments["text"] == "slowly":
        time.sleep(1)
    if name == "wipe":
        return {"content": [{"type": "text", "text": "cannot wipe"}], "isError": True}
    return {"content": [{"type": "text", "text": f"echo: {arguments['text']}"}]}


def main() -> None:
    if MODE == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        sys.stderr.write(f"child {child.pid}\n")
        sys.stderr.flush()
    if MODE == "leaves-child":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        sys.stderr.write(f"child {child.pid}\n")
        sys.stderr.flush()
    if MODE == "noisy":
        sys.stdout.write("Welcome to the noisy server!\n\x1b[31mred\x1b[0m\n{not json}\n")
        sys.stderr.write("warning: \x1b[2Jnoise\n")
    first = True
    for line in sys.stdin:
        request = json.loads(line)
        if MODE == "silent":
            continue
        if MODE == "strict" and first and request.get("method") != "initialize":
            sys.stderr.write("expected initialize\n")
            sys.exit(1)
        first = False
        if "id" not in request:
            continue
        try:
            send({"id": request["id"], "result": handle(request)})
        except LookupError:
            send({"id": request["id"], "error": {"code": -32601, "message": "method not found"}})
        except ValueError as error:
            send({"id": request["id"], "error": {"code": -32602, "message": str(error)}})
    if MODE == "stubborn":
        time.sleep(300)


main()
