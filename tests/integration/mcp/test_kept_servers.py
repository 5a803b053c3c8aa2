"""Servers that stay after a command, and the keepers that own them."""

import json
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mcpchat.mcp.kept_servers import KeepOrder, _start, keeper_folder, list_kept
from tests.support.command_line import CommandLine, unpack
from tests.support.processes import connect_as_another_user
from tests.support.waiting import wait_until

pytestmark = pytest.mark.no_cover

# Counts its calls; other tools do what their names say. Every line that it gets goes to its log.
SERVER = """
import json, os, sys
n = 0
log = open(os.environ.get("RECORD", os.devnull), "a")
def send(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
asked = {}
for line in sys.stdin:
    log.write(line); log.flush()
    message = json.loads(line)
    method, number = message.get("method"), message.get("id")
    if method is None:
        call = asked.pop(number)
        send(id=call, result={"content": [{"type": "text", "text": json.dumps(message.get("result", message.get("error")))}]})
        continue
    if number is None:
        continue
    if method == "initialize":
        send(id=number, result={"protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}},
                                "serverInfo": {"name": "counter", "version": "1"}})
    elif method == "tools/list":
        names = ("increment", "crash", "wait", "ask", "progress", "flood", "stray", "large", "dense")
        send(id=number, result={"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names]})
    elif method == "tools/call":
        name = message["params"]["name"]
        n += 1
        if name == "crash":
            sys.stderr.write("no more memory\\n"); sys.stderr.flush(); os._exit(7)
        if name == "wait":
            continue
        if name == "ask":
            asked[f"q{n}"] = number
            send(id=f"q{n}", method="elicitation/create", params={"message": "?"})
            continue
        if name == "progress":
            send(method="notifications/progress", params={"progressToken": message["params"]["_meta"]["progressToken"], "progress": 1})
        if name == "flood":
            for _ in range(3000):
                send(method="notifications/message", params={"level": "info", "data": "x" * 50_000})
        if name == "large":
            send(id=number, result={"content": "x" * 2_000_000})
            continue
        if name == "dense":
            send(id=number, result={"content": [{}] * 150_000})
            continue
        if name == "stray":
            print("not a message", flush=True)
        send(id=number, result={"content": [{"type": "text", "text": str(n)}]})
    else:
        send(id=number, error={"code": -32601, "message": "no"})
"""


@pytest.fixture
def server(tmp_path: Path) -> Path:
    path = tmp_path / "server.py"
    path.write_text(SERVER)
    return path


@pytest.fixture
def folder(kept_folder: Path) -> Path:
    return kept_folder


def config(server: Path, keep: str = "1m", **settings: str) -> str:
    more = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    return (
        f'[servers.counter]\ncommand = "{sys.executable}"\nargs = ["{server}"]\nkeep = "{keep}"\n{more}'
        '[approvals]\ndefault = "allow"\n'
    )


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def call(run: CommandLine, tool: str = "increment", **environ: str) -> str:
    code, out, err = unpack(run("call", f"counter.{tool}", **environ))
    assert code == 0, err
    return out.strip()


def test_a_kept_server_keeps_its_state(run: CommandLine, server: Path, folder: Path, tmp_path: Path) -> None:
    unpack(run("tools", config=config(server)))
    assert [call(run), call(run)] == ["1", "2"]
    ((_, kept),) = list_kept(folder)
    assert (kept.name, kept.folder, kept.idle, kept.clients) == ("counter", str(tmp_path), 60.0, 0)
    out = run("servers").stdout
    assert "counter is kept for" in out
    assert "until it is idle for 60 s" in out.replace("1 min", "60 s")
    (status,) = [item for item in json.loads(run("servers", "-o", "json").stdout) if item["name"] == "counter"]
    assert status["kept"]["pid"] == kept.pid
    assert unpack(run("servers", "stop", "nope"))[0] == 2
    assert "stopped counter" in unpack(run("servers", "stop", "counter"))[2]
    assert (is_running(kept.pid), list(folder.glob("*.sock"))) == (False, [])
    assert call(run) == "1"
    assert "stopped counter" in unpack(run("servers", "stop", "--all"))[2]
    assert "no server is kept" in unpack(run("servers", "stop"))[2]


def test_the_option_keeps_for_one_run(run: CommandLine, server: Path, folder: Path) -> None:
    run("tools", config=config(server).replace('keep = "1m"\n', ""))
    assert (call(run), list(list_kept(folder))) == ("1", [])
    assert unpack(run("call", "--keep", "5m", "counter.increment"))[1].strip() == "1"
    assert unpack(run("call", "--keep", "5m", "counter.increment"))[1].strip() == "2"
    assert call(run) == "1"
    assert "expected a duration" in unpack(run("call", "--keep", "soon", "counter.increment"))[2]


def test_another_value_is_another_server(run: CommandLine, server: Path, folder: Path) -> None:
    run(
        "tools",
        config=config(server).replace("[approvals]", '[servers.counter.env]\nTOKEN = "env:TOKEN"\n[approvals]'),
        TOKEN="a",
    )
    assert [call(run, TOKEN="a"), call(run, TOKEN="b"), call(run, TOKEN="a")] == ["1", "1", "2"]
    assert len(list(list_kept(folder))) == 2


@pytest.mark.parametrize("victim", ["keeper", "server"])
def test_a_kill_leaves_no_orphan_and_the_next_call_starts_anew(
    run: CommandLine, server: Path, folder: Path, victim: str
) -> None:
    run("tools", config=config(server))
    assert [call(run), call(run)] == ["1", "2"]
    ((_, kept),) = list_kept(folder)
    keeper = int(Path(f"/proc/{kept.pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(keeper if victim == "keeper" else kept.pid, signal.SIGKILL)
    wait_until(lambda: not is_running(keeper) and not is_running(kept.pid), seconds=10)
    assert call(run) == "1"


def test_a_crash_is_told_and_the_call_is_not_repeated(
    run: CommandLine, server: Path, folder: Path, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    run(
        "tools",
        config=config(server).replace("[approvals]", f'[servers.counter.env]\nRECORD = "{record}"\n[approvals]'),
    )
    call(run)
    code, _, err = unpack(run("call", "counter.crash"))
    assert (code, "no more memory" in err) == (4, True), err
    assert record.read_text().count('"crash"') == 1
    assert call(run) == "1"


def test_it_ends_when_it_was_idle_or_its_socket_is_gone(run: CommandLine, server: Path, folder: Path) -> None:
    run("tools", config=config(server, keep="1s"))
    call(run)
    ((path, kept),) = list_kept(folder)
    wait_until(lambda: not is_running(kept.pid) and not path.exists(), seconds=10)
    run("tools", config=config(server, keep="1h"))
    call(run)
    ((path, kept),) = list_kept(folder)
    path.unlink()
    wait_until(lambda: not is_running(kept.pid), seconds=10)


class RawClient:
    """A client of a keeper that sends and receives single messages."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(10)
        self.socket.connect(str(path))
        self.stream = self.socket.makefile("rwb")
        self.hello = json.loads(self.stream.readline())

    def send(self, method: str | None = None, number: Any = None, **fields: Any) -> None:
        message = {
            "jsonrpc": "2.0",
            **({"method": method} if method else {}),
            **({"id": number} if number is not None else {}),
            **fields,
        }
        self.stream.write(json.dumps(message).encode() + b"\n")
        self.stream.flush()

    def call(self, number: Any, name: str, **meta: Any) -> None:
        self.send("tools/call", number, params={"name": name, "arguments": {}, "_meta": meta})

    def read(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.stream.readline())
        return message

    def close(self) -> None:
        self.stream.close()
        self.socket.close()


@pytest.fixture
def keeper(server: Path, folder: Path, tmp_path: Path) -> Path:
    return start_keeper(server, folder, tmp_path)


def start_keeper(server: Path, folder: Path, tmp_path: Path) -> Path:
    folder.mkdir(mode=0o700)
    path = folder / "counter-0.sock"
    env = {"RECORD": str(tmp_path / "record"), "PATH": os.environ["PATH"]}
    order = KeepOrder(
        name="counter", program=sys.executable, argv=[sys.executable, str(server)], env=env, cwd=str(tmp_path),
        idle=60, max_bytes=1_000_000, max_containers=100_000,
    )  # fmt: skip
    _start(order, path)
    return path


def test_a_server_that_ends_before_anybody_connects_is_heard(server: Path, folder: Path, tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    program = "import pathlib, sys\nprint('no licence', file=sys.stderr)\npathlib.Path({!r}).touch()\nsys.exit(3)\n"
    server.write_text(program.format(str(ended)))
    path = start_keeper(server, folder, tmp_path)
    wait_until(ended.exists)
    time.sleep(0.2)  # the keeper must not see its end before us
    client = RawClient(path)
    assert client.read() == {"keeper": "stderr", "text": "no licence\n"}
    assert client.read() == {"keeper": "exit", "code": 3}
    client.close()


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def text_of(message: dict[str, Any]) -> Any:
    return message["result"]["content"][0]["text"]


def test_each_client_gets_its_own_answers_and_one_greeting_is_sent(keeper: Path, tmp_path: Path) -> None:
    first, second = RawClient(keeper), RawClient(keeper)
    for client in (first, second):
        client.send("initialize", 0, params={"protocolVersion": "2025-06-18"})
        assert client.read()["result"]["serverInfo"]["name"] == "counter"
        client.send("notifications/initialized")
    first.call(1, "increment")
    second.call(1, "progress", progressToken="mine")
    second.call("a", "increment")
    assert first.read()["id"] == 1
    assert second.read()["params"] == {"progressToken": "mine", "progress": 1}
    assert [second.read()["id"], second.read()["id"]] == [1, "a"]
    record = [json.loads(line) for line in (tmp_path / "record").read_text().splitlines()]
    assert [message["method"] for message in record].count("initialize") == 1
    assert [message["method"] for message in record].count("notifications/initialized") == 1
    ids = [message["id"] for message in record if "id" in message]
    assert len(ids) == len(set(ids))
    first.close()
    second.close()


@pytest.mark.parametrize("tool", ["large", "dense"])
def test_an_answer_that_is_too_large_fails_its_own_call_only(keeper: Path, tool: str) -> None:
    first, second = RawClient(keeper), RawClient(keeper)
    second.call(1, "wait")
    second.call(2, "increment")
    assert second.read()["id"] == 2
    first.call("a", tool)
    answer = json.loads(first.stream.readline())  # perhaps after a space, which told of its arrival
    assert (answer["id"], answer["error"]["code"]) == ("a", -31999)
    second.call(3, "increment")
    assert second.read()["id"] == 3
    first.close()
    second.close()


def test_what_a_client_leaves_behind_is_cancelled(keeper: Path, tmp_path: Path) -> None:
    client = RawClient(keeper)
    client.call(5, "wait")
    wait_until(lambda: '"wait"' in read(tmp_path / "record"))
    client.send("notifications/cancelled", params={"requestId": 5})
    wait_until(lambda: "notifications/cancelled" in read(tmp_path / "record"))
    client.call(6, "wait")
    wait_until(lambda: read(tmp_path / "record").count('"wait"') == 2)
    client.close()
    wait_until(lambda: "the client has gone" in read(tmp_path / "record"))
    messages = [json.loads(line) for line in (tmp_path / "record").read_text().splitlines()]
    calls = [message["id"] for message in messages if message["method"] == "tools/call"]
    cancelled = [
        message["params"]["requestId"] for message in messages if message["method"] == "notifications/cancelled"
    ]
    assert cancelled == calls


def test_a_servers_question_goes_to_the_client_whose_call_it_is(keeper: Path) -> None:
    first, second = RawClient(keeper), RawClient(keeper)
    first.call(1, "ask")
    question = first.read()
    assert question["method"] == "elicitation/create"
    second.send(None, question["id"], result={"action": "accept", "content": {"from": "another"}})
    first.send(None, question["id"], result={"action": "decline"})
    assert json.loads(text_of(first.read())) == {"action": "decline"}
    second.call(1, "wait")
    first.call(2, "ask")
    assert "it is not clear whose" in text_of(first.read())
    second.close()
    first.call(3, "ask")
    assert first.read()["method"] == "elicitation/create"
    first.close()
    third = RawClient(keeper)
    third.call(1, "increment")
    assert third.read()["id"] == 1
    third.close()


def test_garbage_and_half_open_clients_harm_nobody(keeper: Path) -> None:
    good, bad, silent = RawClient(keeper), RawClient(keeper), RawClient(keeper)
    for line in (
        b"garbage",
        b"[1, 2]",
        b'{"id": {"a": 1}, "method": "ping"}',
        b'{"keeper": 5}',
        b"[" * 50_000,
        b"\xff\xfe",
        b'{"id": [], "result": {}}',
    ):
        bad.stream.write(line + b"\n")
    bad.stream.write(b'{"unfinished": ')
    bad.stream.flush()
    good.call(1, "stray")
    assert good.read() == {"keeper": "stray", "text": "not a message"}
    assert good.read()["id"] == 1
    with suppress(OSError):  # it is dropped meanwhile
        bad.socket.sendall(b"x" * 1_100_000 + b"\n")  # longer than a message may be
    good.call(2, "increment")
    assert good.read()["id"] == 2
    silent.close()
    good.close()
    with suppress(OSError):
        bad.close()


def test_a_client_that_reads_nothing_cannot_fill_the_keepers_memory(keeper: Path) -> None:
    deaf, good = RawClient(keeper), RawClient(keeper)
    pid = int(Path(f"/proc/{good.hello['pid']}/stat").read_text().rpartition(")")[2].split()[1])
    received = threading.Thread(target=lambda: [good.read() for _ in range(3001)])
    received.start()
    good.call(1, "flood")  # 150 MB to everybody
    received.join(50)
    assert not received.is_alive()
    peak = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    assert int(peak.split()[1]) < 250_000  # kB
    deaf.close()
    good.close()


def test_a_client_that_reads_slowly_loses_nothing(keeper: Path) -> None:
    client = RawClient(keeper)
    client.call(1, "flood")  # 150 MB
    pid = int(Path(f"/proc/{client.hello['pid']}/stat").read_text().rpartition(")")[2].split()[1])
    sizes = [0]
    while len(sizes) < 5 or sizes[-1] > sizes[-4]:  # until the keeper takes no more
        time.sleep(0.1)
        sizes.append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]))
    assert sum(client.read().get("id") == 1 for _ in range(3001)) == 1
    client.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_gets_nothing(keeper: Path) -> None:
    assert connect_as_another_user(keeper, socket.SOCK_STREAM) == b"connected: "
    client = RawClient(keeper)  # it serves on
    client.close()


def test_the_memory_of_a_keeper_is_small(keeper: Path) -> None:
    client = RawClient(keeper)
    pid = int(Path(f"/proc/{client.hello['pid']}/stat").read_text().rpartition(")")[2].split()[1])
    size = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    assert int(size.split()[1]) < 15_000  # kB
    client.close()


def test_the_folder_is_short_enough_for_a_socket() -> None:
    assert keeper_folder({}, Path("/home/me/.local/state/mcpchat")) == Path("/home/me/.local/state/mcpchat/kept")
    assert keeper_folder({"XDG_RUNTIME_DIR": "/"}, Path("/s")) == Path("/mcpchat")
    assert keeper_folder({"XDG_RUNTIME_DIR": "/none"}, Path("/s")) == Path("/s/kept")
    long = keeper_folder({}, Path("/" + "x" * 200))
    assert len(str(long)) < 60
    assert long != keeper_folder({}, Path("/" + "y" * 200))


def test_a_changed_script_is_another_server_and_says_why_it_does_not_start(
    run: CommandLine, server: Path, folder: Path
) -> None:
    run("tools", config=config(server))
    server.write_text("import sys\nsys.exit('no licence')\n")
    code, _, err = unpack(run("call", "counter.increment"))
    assert (code, "no licence" in err) == (4, True), err
    assert len(list(list_kept(folder))) == 1  # the one of the script before
