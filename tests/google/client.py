"""A plain MCP client over stdio, for one server as a real process: JSON lines, one request at a time."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any

import jsonschema

from tests.google import Google
from tests.google.http import TOKEN


@dataclass
class Result:
    """What a tool answered: its texts joined, its structured content, and the rest as it came."""

    text: str
    structured: Any
    failed: bool
    raw: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        assert not self.failed, self.text
        return self.structured[name]


@dataclass
class Server:
    process: "subprocess.Popen[str]"
    lines: "Queue[dict[str, Any] | None]"
    log: list[str]
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)
    progress: list[dict[str, Any]] = field(default_factory=list)
    _id: int = 0

    def request(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a request, or {"error": ...}."""
        assert self.process.stdin is not None
        self._id += 1
        message = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        while True:
            answer = self.lines.get(timeout=50)
            assert answer is not None, "".join(self.log)
            if answer.get("method") == "notifications/progress":
                self.progress.append(answer["params"])
            if answer.get("id") == self._id and "method" not in answer:
                return answer["result"] if "result" in answer else {"error": answer["error"]}

    def call(self, tool: str, **arguments: Any) -> Result:
        """Call a tool; what it answers is held against its own output schema, as its arguments are."""
        answer = self.request("tools/call", name=tool, arguments=arguments, _meta={"progressToken": self._id})
        assert "error" not in answer, answer
        text = "\n".join(block["text"] for block in answer["content"] if block["type"] == "text")
        if not answer.get("isError"):
            jsonschema.validate(arguments, self.tools[tool]["inputSchema"])
            jsonschema.validate(answer["structuredContent"], self.tools[tool]["outputSchema"])
        return Result(text, answer.get("structuredContent"), bool(answer.get("isError")), answer)


@contextlib.contextmanager
def running(name: str, *options: str, google: Google | None = None, **environ: str) -> Iterator[Server]:
    """A bundled server, greeted, its tools listed."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "PYTHONPATH", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
            if key in os.environ}  # fmt: skip
    given = {"GOOGLE_API_URL": google.url, "GOOGLE_ACCESS_TOKEN": TOKEN} if google else {}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", f"mcpchat_servers.{name}", *options],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=kept | given | environ, cwd=Path(__file__).parent.parent.parent,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    lines: Queue[dict[str, Any] | None] = Queue()
    log: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(json.loads(line))
        lines.put(None)

    threads = [
        threading.Thread(target=read, daemon=True),
        threading.Thread(target=log.extend, args=(process.stderr,), daemon=True),
    ]
    for thread in threads:
        thread.start()
    server = Server(process, lines, log)
    try:
        client = {"name": "tests", "version": "1"}
        server.request("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=client)
        process.stdin.write('{"jsonrpc": "2.0", "method": "notifications/initialized"}\n')
        process.stdin.flush()
        server.tools = {one["name"]: one for one in server.request("tools/list")["tools"]}
        yield server
    finally:
        process.stdin.close()
        process.wait(10)
        for thread in threads:
            thread.join(5)
        process.stdout.close()
        process.stderr.close()
