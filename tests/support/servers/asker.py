"""A server that asks with a form before it answers, and answers with what it got.

With an argument it waits until that many requests are open before it asks about any of them.
"""

import json
import sys
from typing import Any

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2},
        "count": {"type": "integer", "minimum": 1, "maximum": 5},
        "colour": {"type": "string", "enum": ["red", "blue"]},
        "size": {"type": "string", "default": "large"},
    },
    "required": ["name"],
}
LISTS: dict[str, dict[str, Any]] = {
    "tools/list": {"tools": [{"name": "register", "inputSchema": {"type": "object"}}]},
    "resources/list": {"resources": [{"uri": "form:r", "name": "r"}]},
    "prompts/list": {"prompts": [{"name": "p"}]},
}


def send(**fields: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", **fields}), flush=True)


def result_of(method: str, text: str) -> dict[str, Any]:
    if method == "resources/read":
        return {"contents": [{"uri": "form:r", "text": text}]}
    content = {"type": "text", "text": text}
    return {"content": [content]} if method == "tools/call" else {"messages": [{"role": "user", "content": content}]}


def main() -> None:
    together = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    waiting: list[tuple[Any, str]] = []  # requests of which the user was not asked yet
    asked: dict[str, tuple[Any, str]] = {}
    for line in sys.stdin:
        message = json.loads(line)
        method, number = message.get("method"), message.get("id")
        if method is None:
            request, kind = asked.pop(number)
            send(id=request, result=result_of(kind, json.dumps(message.get("result", message.get("error")))))
        elif method == "initialize":
            capabilities: dict[str, Any] = {"tools": {}, "resources": {}, "prompts": {}}
            version = message["params"]["protocolVersion"]
            info = {"name": "asker", "version": "1"}
            send(id=number, result={"protocolVersion": version, "capabilities": capabilities, "serverInfo": info})
        elif method in LISTS:
            send(id=number, result=LISTS[method])
        elif method in {"tools/call", "resources/read", "prompts/get"}:
            waiting.append((number, method))
            if len(waiting) >= together:
                for request in waiting:
                    asked[f"q{request[0]}"] = request
                    params = {"message": "Who are you?", "requestedSchema": SCHEMA}
                    send(id=f"q{request[0]}", method="elicitation/create", params=params)
                waiting = []
        elif number is not None:
            send(id=number, error={"code": -32601, "message": "no such method"})


main()
