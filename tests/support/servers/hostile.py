"""Hostile MCP servers, without an SDK. The first argument selects the behaviour."""

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

MODE = sys.argv[1]
SIZE = 100_000_000
STDOUT = sys.stdout.buffer


def send(message: object) -> None:
    STDOUT.write(json.dumps(message).encode() + b"\n")
    STDOUT.flush()


def reply(request: dict[str, Any], result: object) -> None:
    send({"jsonrpc": "2.0", "id": request["id"], "result": result})


def text_result(value: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": value}]}


def hang() -> None:
    while True:
        time.sleep(10)


def log(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def initialize(request: dict[str, Any]) -> None:
    result: dict[str, Any] = {
        "protocolVersion": "2025-06-18",
        "capabilities": {"tools": {"listChanged": True}, "logging": {}},
        "serverInfo": {"name": "hostile", "version": "1"},
    }
    match MODE:
        case "exit-at-initialize":
            log("no licence")
            sys.exit(4)
        case "silent-at-initialize":
            hang()
        case "version-unknown":
            result["protocolVersion"] = "1999-01-01"
        case "version-number":
            result["protocolVersion"] = 7
        case "info-missing":
            del result["serverInfo"]
            result["capabilities"] = {"tools": {}, "made-up": 7}
    reply(request, result)
    if MODE == "exit-after-initialize":
        log("that was all")
        sys.exit(0)


def list_tools(request: dict[str, Any]) -> None:
    tools: list[Any] = [{"name": "go", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}]
    match MODE:
        case "exit-at-list":
            log("list? what list?")
            sys.exit(5)
        case "silent-at-list":
            hang()
        case "many-tools":
            tools += [{"name": f"t{n}", "inputSchema": {"type": "object"}} for n in range(100_000)]
        case "endless-pages":
            number = int((request.get("params") or {}).get("cursor") or 0)
            page = [{"name": f"t{number}_{n}", "inputSchema": {"type": "object"}} for n in range(200)]
            reply(request, {"tools": tools + page, "nextCursor": str(number + 1)})
            return
        case "fat-pages":
            number = int((request.get("params") or {}).get("cursor") or 0)
            page = [{"name": f"t{number}", "description": "x" * 15_000_000, "inputSchema": {}}]
            reply(request, {"tools": (tools if number == 0 else []) + page, "nextCursor": str(number + 1)})
            return
        case "half-character":
            tools += [{"name": "half", "description": "a \ud800 b \ud83d\ude00", "inputSchema": {"title": "\udc00"}}]
        case "not-a-number":
            STDOUT.write(
                b'{"jsonrpc":"2.0","id":%d,"result":{"tools":[{"name":"go","inputSchema":{"type":"object",'
                b'"properties":{"n":{"default":NaN,"minLength":-1,"multipleOf":0}}}}]}}\n' % request["id"]
            )
            STDOUT.flush()
            return
        case "same-cursor":
            reply(request, {"tools": tools, "nextCursor": ""})
            return
        case "broken-tools":
            tools += [
                7,
                {"inputSchema": {}},
                {"name": "", "inputSchema": {}},
                {"name": "no_schema"},
                {"name": "list_schema", "inputSchema": [1]},
                {"name": "true_schema", "inputSchema": True},
                {"name": "bad_schema", "inputSchema": {"type": "nonsense", "properties": [], "required": "x"}},
                {"name": "go", "description": "the same again"},
                {"name": "net", "inputSchema": {"$ref": "http://127.0.0.1:9/schema"}},
                {"name": "bomb", "inputSchema": bomb(), "outputSchema": bomb()},
                {"name": "null title", "title": None, "description": 7, "annotations": "yes"},
            ]
        case "list-not-a-list":
            reply(request, {"tools": {"go": 1}})
            return
    reply(request, {"tools": tools})


def bomb() -> dict[str, Any]:
    """Return a schema of 30 definitions that expands to 4**30 subschemas."""
    steps: dict[str, Any] = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 4} for n in range(30)}
    return {"type": "object", "allOf": [{"$ref": "#/$defs/d0"}], "$defs": {**steps, "d30": {"type": "object"}}}


def call(request: dict[str, Any]) -> None:
    head = b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"' % request["id"]
    match MODE:
        case "exit-at-call":
            log("out of cheese")
            os._exit(7)
        case "silent-at-call":
            hang()
        case "huge":
            STDOUT.write(head)
            for _ in range(SIZE // 1_000_000):
                STDOUT.write(b"x" * 1_000_000)
            STDOUT.write(b'"}]}}\n')
            STDOUT.flush()
            return
        case "huge-id-last":
            STDOUT.write(b'{"result":{"content":[{"type":"text","text":"')
            for _ in range(30):
                STDOUT.write(b"x" * 1_000_000)
            STDOUT.write(b'"}]},"jsonrpc":"2.0","id":%d}\n' % request["id"])
            STDOUT.flush()
            return
        case "bomb":
            STDOUT.write(b'{"jsonrpc":"2.0","id":%d,"result":{"content":[' % request["id"] + b"{}," * 5_000_000)
            STDOUT.write(b"{}]}}\n")
            STDOUT.flush()
            return
        case "slow-answer":
            for byte in json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": text_result("fine")}).encode():
                STDOUT.write(bytes([byte]))
                STDOUT.flush()
                time.sleep(0.05)
            STDOUT.write(b"\n")
            STDOUT.flush()
            return
        case "many-parts":
            reply(request, {"content": [{"type": "text", "text": "x"}] * 5000})
            return
        case "endless":
            STDOUT.write(head)
            while True:
                STDOUT.write(b"x" * 1_000_000)
        case "invalid-utf8":
            STDOUT.write(head + b"caf\xe9 \xff\xfe" + b'"}]}}\n')
            STDOUT.flush()
            return
        case "text-id":
            send({"jsonrpc": "2.0", "id": str(request["id"]), "result": text_result("fine")})
            return
        case "wrong-ids":
            for wrong in (None, 424242, "nobody", -1, {"a": 1}, request["id"] + 1000):
                send({"jsonrpc": "2.0", "id": wrong, "result": text_result("not yours")})
        case "batch":
            note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "hello"}}
            send([note, {"jsonrpc": "2.0", "id": request["id"], "result": text_result("fine")}])
            return
        case "odd-content":
            content = [{"type": "hologram", "beam": 1}, "bare", 7, {"type": "text"}, {"type": "image", "data": "%"}]
            reply(request, {"content": content, "isError": "no", "_meta": 5})
            return
        case "no-content":
            reply(request, {"structuredContent": {"a": 1}})
            return
        case "result-a-list":
            send({"jsonrpc": "2.0", "id": request["id"], "result": [1]})
            return
        case "odd-error":
            send({"jsonrpc": "2.0", "id": request["id"], "error": "everything is wrong"})
            return
        case "log-flood" | "progress-flood" | "change-flood" | "request-flood":
            flood(request)
        case "stderr-flood":
            for _ in range(30):
                sys.stderr.write("x" * 1_000_000 + "\n" + "line\n" * 1000)
        case "deep":
            STDOUT.write(
                b'{"jsonrpc":"2.0","id":%d,"result":' % request["id"] + b'{"a":' * 100_000 + b"1" + b"}" * 100_000
            )
            STDOUT.write(b"}\n")
            STDOUT.flush()
    reply(request, text_result("fine"))


def flood(request: dict[str, Any]) -> None:
    token = (request["params"].get("_meta") or {}).get("progressToken")
    notes: dict[str, dict[str, Any]] = {
        "log-flood": {"method": "notifications/message", "params": {"level": "info", "data": "x" * 1000}},
        "progress-flood": {"method": "notifications/progress", "params": {"progressToken": token, "progress": 1}},
        "request-flood": {"method": "ping", "id": "again"},
        "change-flood": {"method": "notifications/tools/list_changed"},
    }
    line = json.dumps({"jsonrpc": "2.0", **notes[MODE]}).encode() + b"\n"
    for _ in range(20_000):
        STDOUT.write(line)
    STDOUT.flush()


def misbehave_at_start() -> None:
    match MODE:
        case "exit-at-once":
            log("no such disk")
            sys.exit(3)
        case "banner":
            STDOUT.write(b"Welcome!\n" + b"=" * 500_000 + b"\n\x1b[31m{not json}\n\xff\xfe\xfa\nnull\n7\n[]\n{}\n")
            STDOUT.flush()
        case "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            ignore = "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (1, 15)]; time.sleep(300)"
            for _ in range(2):
                log(f"child {subprocess.Popen([sys.executable, '-c', ignore]).pid}")
            log(f"leader {os.getpid()}")


def main() -> None:
    misbehave_at_start()
    for line in sys.stdin:
        request = json.loads(line)
        match request.get("method") if "id" in request else None:
            case "server/discover" if MODE == "silent-at-discover":
                pass
            case "server/discover":
                send({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": "unknown"}})
            case "initialize":
                initialize(request)
            case "tools/list":
                list_tools(request)
            case "tools/call":
                call(request)
            case str():
                send({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": "unknown"}})
    if MODE == "stubborn":
        hang()


main()
