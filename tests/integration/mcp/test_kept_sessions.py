"""Sessions with HTTP servers that go on after a command."""

import http.server
import itertools
import json
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import CommandLine, unpack
from tests.support.http_server import HttpServer

pytestmark = pytest.mark.no_cover


class StatefulServer(HttpServer):
    """Counts in each session; refuses a session that it does not know, and a request id that a session has had."""

    def __init__(self) -> None:
        super().__init__(Handler)
        self.numbers = itertools.count(1)
        self.sessions: dict[str, int] = {}
        self.ids: set[tuple[str, Any]] = set()
        self.methods: list[str] = []
        self.unknown_status = 404  # with which it refuses a session that it does not know
        self.has_sessions = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/mcp"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StatefulServer

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        method, session = message.get("method", ""), self.headers["Mcp-Session-Id"] or ""
        self.server.methods.append(method)
        if method == "initialize":
            session = f"session-{next(self.server.numbers)}" if self.server.has_sessions else ""
            self.server.sessions[session] = 0
            result: dict[str, Any] = {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "stateful", "version": "1"},
            }
            self.respond(200, {"id": message["id"], "result": result}, session=session)
        elif method == "server/discover":
            self.respond(200, {"id": message["id"], "error": {"code": -32601, "message": "no"}})
        elif session not in self.server.sessions:
            self.respond(self.server.unknown_status, {"id": None, "error": {"code": -32000, "message": "who?"}})
        elif "id" not in message:
            self.respond(202)
        elif session and (session, message["id"]) in self.server.ids:
            self.respond(200, {"id": message["id"], "error": {"code": -32600, "message": "this id was used"}})
        else:
            self.server.ids.add((session, message["id"]))
            self.answer(message, session)

    def answer(self, message: dict[str, Any], session: str) -> None:
        match message["method"]:
            case "tools/list":
                result: dict[str, Any] = {"tools": [{"name": "increment", "inputSchema": {"type": "object"}}]}
            case "tools/call":
                self.server.sessions[session] += 1
                result = {"content": [{"type": "text", "text": str(self.server.sessions[session])}]}
            case _:
                result = {}
        answer = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result})
        self.respond(200, f"event: message\ndata: {answer}\n\n")

    def do_DELETE(self) -> None:
        self.server.methods.append("DELETE")
        known = self.server.sessions.pop(self.headers["Mcp-Session-Id"], None) is not None
        self.respond(200 if known else 404)

    def do_GET(self) -> None:
        self.respond(405)

    def respond(self, status: int, body: dict[str, Any] | str = "", session: str = "") -> None:
        is_stream = isinstance(body, str)
        data = (body if isinstance(body, str) else json.dumps({"jsonrpc": "2.0", **body})).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/event-stream" if is_stream else "application/json")
        self.send_header("Content-Length", str(len(data)))
        if session:
            self.send_header("Mcp-Session-Id", session)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[StatefulServer]:
    with StatefulServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def config(server: StatefulServer, keep: str = 'keep = "5m"') -> str:
    return f'[servers.far]\nurl = "{server.url}"\nallow_http = true\n{keep}\n[approvals]\ndefault = "allow"\n'


def call(run: CommandLine, *options: str, **environ: str) -> str:
    code, out, err = unpack(run("call", *options, "far.increment", **environ))
    assert code == 0, err
    return out.strip()


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "mcpchat" / "sessions"


def test_a_session_goes_on_in_the_next_command(run: CommandLine, server: StatefulServer, files: Path) -> None:
    unpack(run("tools", config=config(server)))
    assert [call(run) for _ in range(3)] == ["1", "2", "3"]
    assert server.methods.count("initialize") == server.methods.count("notifications/initialized") == 1
    assert "DELETE" not in server.methods
    (file,) = files.glob("*")
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(files.stat().st_mode)) == (0o600, 0o700)


def test_without_keep_a_session_ends_with_its_command(run: CommandLine, server: StatefulServer, files: Path) -> None:
    run("tools", config=config(server, keep=""))
    assert [call(run), call(run)] == ["1", "1"]
    assert server.methods.count("DELETE") == 3
    assert [call(run, "--keep", "5m"), call(run, "--keep", "5m")] == ["1", "2"]
    assert call(run) == "1"


def test_kept_sessions_are_shown_and_stopped(
    run: CommandLine, server: StatefulServer, files: Path, tmp_path: Path
) -> None:
    run("tools", config=config(server))
    assert call(run) == "1"
    out = run("servers").stdout
    assert "far is kept for" in out
    assert f", in {tmp_path}, until it is idle for" in out
    (status,) = [item for item in json.loads(run("servers", "-o", "json").stdout) if item["name"] == "far"]
    assert (status["kept"]["pid"], status["kept"]["idle"]) == (None, 300)
    assert "stopped far" in unpack(run("servers", "stop", "far"))[2]
    assert (server.sessions, server.methods.count("DELETE"), list(files.glob("*"))) == ({}, 1, [])
    assert call(run) == "1"


@pytest.mark.parametrize("status", [404, 400, 503])
def test_a_session_that_the_server_has_ended_is_begun_anew(
    run: CommandLine, server: StatefulServer, files: Path, status: int
) -> None:
    run("tools", config=config(server))
    assert [call(run), call(run)] == ["1", "2"]
    server.sessions.clear()
    server.unknown_status = status
    code, out, err = unpack(run("call", "far.increment"))
    assert (code, out.strip()) == (0, "1"), err
    assert "far has ended the session, with its state; a new one begins" in err
    assert (call(run), server.sessions) == ("2", {"session-2": 2})


def test_an_idle_session_is_not_used_again(run: CommandLine, server: StatefulServer, files: Path) -> None:
    run("tools", config=config(server))
    assert call(run) == "1"
    (file,) = files.glob("*")
    long_ago = time.time() - 301
    os.utime(file, (long_ago, long_ago))
    assert [call(run), call(run)] == ["1", "2"]
    os.utime(file, (long_ago, long_ago))
    assert "no server is kept" in unpack(run("servers", "stop"))[2]
    assert list(files.glob("*")) == []


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"session_id": 1}'])
def test_a_damaged_file_counts_as_none(run: CommandLine, server: StatefulServer, files: Path, data: bytes) -> None:
    run("tools", config=config(server))
    call(run)
    (file,) = files.glob("*")
    file.write_bytes(data)
    assert [call(run), call(run)] == ["1", "2"]


def test_another_header_or_folder_is_another_session(
    run: CommandLine, server: StatefulServer, files: Path, tmp_path: Path
) -> None:
    settings = config(server, keep='keep = "5m"\nheaders = {Authorization = "Bearer env:FAR_TOKEN"}')
    run("tools", config=settings)
    assert [call(run, FAR_TOKEN="first-token"), call(run, FAR_TOKEN="other-token")] == ["1", "1"]
    assert call(run, FAR_TOKEN="first-token") == "2"
    (tmp_path / "folder").mkdir()
    elsewhere = CommandLine(tmp_path / "folder")
    elsewhere("tools", config=settings, FAR_TOKEN="first-token")
    assert call(elsewhere, FAR_TOKEN="first-token") == "1"


def test_a_server_without_sessions_works_as_before(run: CommandLine, server: StatefulServer, files: Path) -> None:
    server.has_sessions = False
    run("tools", config=config(server))
    assert [call(run), call(run)] == ["1", "1"]
    assert server.methods.count("initialize") == 3
    assert list(files.glob("*")) == []


def test_keep_is_refused_for_the_older_transport(run: CommandLine, server: StatefulServer) -> None:
    result = run("config", "validate", config=config(server, keep='keep = "5m"\ntransport = "sse"'))
    assert result.returncode == 2
    assert "its session ends with the connection" in result.stderr
