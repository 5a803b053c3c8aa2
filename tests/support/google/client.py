"""A minimal MCP client over stdio for one server process: JSON lines, one request at a time."""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from queue import Queue
from typing import Any

import jsonschema

from tests.support.google import FakeGoogle
from tests.support.google.http import TOKEN
from tests.support.paths import ROOT
from tests.support.processes import PASSED_ON, PIPE, start_process


@dataclass
class ToolResult:
    """A tool result: its joined text, its structured content, and the raw result."""

    text: str
    structured: Any
    is_error: bool
    raw: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        assert not self.is_error, self.text
        return self.structured[name]


@dataclass
class ServerProcess:
    process: Any
    messages: "Queue[dict[str, Any] | None]"
    log: list[str]
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)
    progress: list[dict[str, Any]] = field(default_factory=list)
    _id: int = 0

    def request(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a request and return its result, or {"error": ...}."""
        assert self.process.stdin is not None
        self._id += 1
        request = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        while True:
            request = self.messages.get(timeout=50)
            assert request is not None, "".join(self.log)
            if request.get("method") == "notifications/progress":
                self.progress.append(request["params"])
            if request.get("id") == self._id and "method" not in request:
                return request["result"] if "result" in request else {"error": request["error"]}

    def call(self, tool: str, **arguments: Any) -> ToolResult:
        """Call a tool; its arguments and its result are validated against its schemas."""
        response = self.request("tools/call", name=tool, arguments=arguments, _meta={"progressToken": self._id})
        assert "error" not in response, response
        text = "\n".join(block["text"] for block in response["content"] if block["type"] == "text")
        if not response.get("isError"):
            jsonschema.validate(arguments, self.tools[tool]["inputSchema"])
            jsonschema.validate(response["structuredContent"], self.tools[tool]["outputSchema"])
        return ToolResult(text, response.get("structuredContent"), bool(response.get("isError")), response)


@contextlib.contextmanager
def run_server(name: str, *args: str, google: FakeGoogle | None = None, **environ: str) -> Iterator[ServerProcess]:
    """Run a bundled server; yields it once it is initialized and its tools are listed."""
    names = ("PATH", "HOME", *PASSED_ON, *(name for name in os.environ if name.startswith(("PYTHON", "LANG", "LC_"))))
    inherited = {name: os.environ[name] for name in names if name in os.environ}
    google_environ = {"GOOGLE_API_URL": google.url, "GOOGLE_ACCESS_TOKEN": TOKEN} if google else {}
    process = start_process(
        [sys.executable, "-m", f"mcpchat_servers.{name}", *args],
        stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True, env=inherited | google_environ | environ, cwd=ROOT,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    messages: Queue[dict[str, Any] | None] = Queue()
    log: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            messages.put(json.loads(line))
        messages.put(None)

    threads = [
        threading.Thread(target=read, daemon=True),
        threading.Thread(target=log.extend, args=(process.stderr,), daemon=True),
    ]
    for thread in threads:
        thread.start()
    server = ServerProcess(process, messages, log)
    try:
        client = {"name": "tests", "version": "1"}
        server.request("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=client)
        process.stdin.write('{"jsonrpc": "2.0", "method": "notifications/initialized"}\n')
        process.stdin.flush()
        server.tools = {tool["name"]: tool for tool in server.request("tools/list")["tools"]}
        yield server
    finally:
        process.stdin.close()
        process.wait(10)
        for thread in threads:
            thread.join(5)
        process.stdout.close()
        process.stderr.close()
