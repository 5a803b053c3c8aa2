"""Commands in a fork of the warm process: as ordinary commands, in every way that can be seen."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from mcpchat.warm import front, process, request
from tests.support.fake_openai import CannedResponse, FakeOpenAI, chunk, text
from tests.support.paths import GUARD, MCPCHAT
from tests.support.processes import connect_as_another_user
from tests.support.terminal import Terminal
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.no_cover, pytest.mark.skipif(sys.platform != "linux", reason="only on Linux")]
Ask = Callable[[dict[str, str]], "subprocess.Popen[str]"]
CTRL_C, CTRL_Z, ENTER = "\x03", "\x1a", "\r"

# A server whose only tool tells what its process has inherited.
SERVER = """
import json, os, resource, signal, sys
def describe():
    return {"umask": os.umask(0), "nice": os.nice(0), "files": resource.getrlimit(resource.RLIMIT_NOFILE),
            "folder": os.getcwd(), "variable": os.environ.get("COLOUR"), "zone": os.environ.get("TZ"),
            "hup": signal.getsignal(signal.SIGHUP) == signal.SIG_IGN}
for line in sys.stdin:
    message = json.loads(line)
    method = message.get("method")
    if method == "initialize":
        result = {"protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}},
                  "serverInfo": {"name": "inherited", "version": "1"}}
    elif method == "tools/list":
        result = {"tools": [{"name": "describe", "inputSchema": {"type": "object"}}]}
    elif method == "tools/call":
        result = {"content": [{"type": "text", "text": json.dumps(describe())}]}
    elif "id" in message:
        error = {"code": -32601, "message": "no such method"}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}), flush=True)
        continue
    else:
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""


@contextmanager
def runtime_folder() -> Iterator[Path]:
    """A folder for sockets; the warm process in it is ended."""
    folder = Path(f"/tmp/mcpchat-test-{os.getpid()}-{os.urandom(4).hex()}")  # a socket's path must be short
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        run(warm_environ(folder) | {"HOME": str(folder)}, "warm", "off")
        shutil.rmtree(folder)


def warm_environ(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TESTS_", "COV", "XDG_"))}
    return kept | {
        "XDG_RUNTIME_DIR": str(folder),
        "PYTHONPATH": GUARD,
        "PROMPT_TOOLKIT_NO_CPR": "1",
        "TERM": "xterm-256color",
    }


@pytest.fixture(scope="module")
def shared_folder() -> Iterator[Path]:
    """The folder of a warm process for all tests that do not end it."""
    with runtime_folder() as folder:
        assert run(warm_environ(folder) | {"HOME": str(folder)}, "warm", "on").returncode == 0
        yield folder


@pytest.fixture
def settings(fake_openai: FakeOpenAI, tmp_path: Path) -> dict[str, str]:
    script = tmp_path / "inherited.py"
    script.write_text(SERVER)
    config = tmp_path / "warm.toml"
    config.write_text(
        f'[servers.box]\ncommand = "{sys.executable}"\nargs = ["{script}"]\nenv_pass = ["COLOUR", "TZ"]\n'
        '[approvals]\ndefault = "allow"\n'
    )
    return {
        "OPENAI_BASE_URL": fake_openai.base_url, "OPENAI_API_KEY": "sk-very-secret", "MCPCHAT_MODEL": "m",
        "MCPCHAT_CONFIG": str(config),
    }  # fmt: skip


@pytest.fixture
def environ(shared_folder: Path, settings: dict[str, str]) -> dict[str, str]:
    """The environment of commands that start warm."""
    return warm_environ(shared_folder) | settings


@pytest.fixture
def own_environ(settings: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment of commands with a warm process of this test's own, once it is on."""
    with runtime_folder() as folder:
        yield warm_environ(folder) | settings


@contextmanager
def expect_warm(environ: dict[str, str], count: int) -> Iterator[None]:
    """So many commands run warm inside."""
    before = status(environ)
    yield
    assert status(environ) == before | {"commands": before["commands"] + count}


def run(environ: dict[str, str], *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MCPCHAT, *args], env=environ, text=True, timeout=60, check=False,
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )  # fmt: skip


@pytest.fixture
def ask() -> Iterator[Ask]:
    """Starts a question; it is killed at the end."""
    with ExitStack() as stack:

        def start(environ: dict[str, str]) -> "subprocess.Popen[str]":
            pipe = subprocess.PIPE
            front = stack.enter_context(
                subprocess.Popen([MCPCHAT, "ask", "x"], env=environ, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe,
                                 text=True, process_group=0)
            )  # fmt: skip
            stack.callback(front.kill)
            return front

        yield start


def status(environ: dict[str, str]) -> dict[str, int]:
    """The warm process: its id, how many commands have run in it, its idle seconds. Raises OSError if there is none."""
    connection = front.connect(str(find_socket(environ)))
    front.wait_for_hello(connection)
    connection.send(request.pack([[b"status"]]))
    [[pid, _, commands, idle]] = request.unpack(connection.recv(1000))
    connection.close()
    return {"pid": int(pid), "commands": int(commands), "idle": int(float(idle))}


def waits(environ: dict[str, str]) -> bool:
    """Whether a warm process waits."""
    try:
        return bool(status(environ))
    except OSError:
        return False


def find_command(warm: int) -> int:
    """The process of the only command that runs warm."""
    found: list[str] = []

    def find() -> bool:
        children = Path(f"/proc/{warm}/task/{warm}/children").read_text().split()
        with suppress(ProcessLookupError):  # one of them ended just now
            found[:] = [pid for pid in children if is_running(int(pid)) and os.getpgid(int(pid)) == int(pid)]
        return len(found) == 1

    wait_until(find)
    return int(found[0])


def find_socket(environ: dict[str, str]) -> Path | None:
    return next(Path(environ["XDG_RUNTIME_DIR"], "mcpchat").glob("warm-*.sock"), None)


def read_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def is_running(pid: int) -> bool:
    try:
        return read_state(pid) != "Z"
    except OSError:
        return False


def slow(words: int = 40) -> CannedResponse:
    return CannedResponse([*(chunk({"content": f"word{n} "}) for n in range(words)), chunk({}, "stop")], pause=0.05)


def test_a_command_runs_warm_and_answers_as_ever(environ: dict[str, str], fake_openai: FakeOpenAI) -> None:
    with expect_warm(environ, 2):
        fake_openai.replies = [text("Hello."), text("Hello.")]
        warm, cold = run(environ, "ask", "x"), run(environ | {"MCPCHAT_NO_WARM": "1"}, "ask", "x")
        assert (
            (warm.returncode, warm.stdout, warm.stderr)
            == (cold.returncode, cold.stdout, cold.stderr)
            == (0, "Hello.\n", "")
        )
        failed = run(environ, "call", "box.nothing")
        assert (failed.returncode, "no tool" in failed.stderr) == (2, True), failed.stderr


def test_it_inherits_what_an_ordinary_command_does(environ: dict[str, str], tmp_path: Path) -> None:
    with expect_warm(environ, 1):
        folder = tmp_path / "a folder"
        folder.mkdir()
        nice = min(os.nice(0) + 3, 19)
        line = f"umask 027; ulimit -Sn 321; cd '{folder}'; trap '' HUP; export COLOUR=$'gr\\xfcn' TZ=Asia/Tokyo; "
        for no_warm in ("", "1"):
            shell = f"{line} MCPCHAT_NO_WARM={no_warm} exec nice -n 3 {MCPCHAT} call box.describe"
            result = subprocess.run(
                ["bash", "-c", shell],
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=60,
                check=False,
            )
            assert result.returncode == 0, result.stderr
            told = json.loads(result.stdout)
            assert (told["umask"], told["nice"], told["files"][0], told["folder"]) == (0o027, nice, 321, str(folder))
            assert (told["zone"], told["variable"].encode(errors="surrogateescape")) == ("Asia/Tokyo", b"gr\xfcn")


def test_other_open_files_are_handed_over(environ: dict[str, str], fake_openai: FakeOpenAI) -> None:
    with expect_warm(environ, 1):
        fake_openai.replies = [text("Hello.")]
        line = f'{MCPCHAT} batch <(echo \'{{"prompt": "hello"}}\')'
        result = subprocess.run(["bash", "-c", line], env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                timeout=60, check=False)  # fmt: skip
        assert '"answer":"Hello."' in result.stdout, result


def test_what_is_unusual_starts_cold(environ: dict[str, str], fake_openai: FakeOpenAI) -> None:
    with expect_warm(environ, 0):
        fake_openai.replies = [text("Hello.")] * 5
        for change in (
            {"PYTHONOPTIMIZE": "1"},
            {"LC_ALL": "C"},
            {"LD_LIBRARY_PATH": "/none"},
            {"MCPCHAT_NO_WARM": "1"},
        ):
            assert run(environ | change, "ask", "x").stdout == "Hello.\n"
        closed = ["bash", "-c", f"exec {MCPCHAT} ask x <&-"]
        assert (
            subprocess.run(closed, env=environ, capture_output=True, text=True, timeout=60, check=False).returncode == 0
        )


def test_it_holds_no_secrets(environ: dict[str, str], fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [text("Hello.")]
    assert run(environ, "ask", "x").stdout == "Hello.\n"
    pid = status(environ)["pid"]
    assert b"very-secret" not in Path(f"/proc/{pid}/environ").read_bytes()
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb") as memory:
        for line in maps:
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw.*(\[heap\]|\[stack\]| 0\s*$)", line)
            if match:
                memory.seek(int(match[1], 16))
                assert b"sk-very-secret" not in memory.read(int(match[2], 16) - int(match[1], 16))
    connections = os.listdir(f"/proc/{pid}/fd")
    assert len(connections) < 12


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_reaches_the_command(
    environ: dict[str, str], ask: Ask, fake_openai: FakeOpenAI, number: signal.Signals, code: int
) -> None:
    fake_openai.replies = [slow()]
    command_line = ask(environ)
    command = find_command(status(environ)["pid"])
    wait_until(lambda: fake_openai.requests)
    command_line.send_signal(number)
    assert command_line.wait(20) == code
    assert not is_running(command)


def test_a_command_that_a_signal_ends_is_seen_so(environ: dict[str, str], ask: Ask, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [slow()]
    command_line = ask(environ)
    command = find_command(status(environ)["pid"])
    wait_until(lambda: fake_openai.requests)
    os.kill(command, signal.SIGKILL)
    assert command_line.wait(20) == -signal.SIGKILL


def test_a_killed_front_takes_its_command_along(environ: dict[str, str], ask: Ask, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [slow(400)]
    command_line = ask(environ)
    command = find_command(status(environ)["pid"])
    wait_until(lambda: fake_openai.requests)
    command_line.kill()
    wait_until(lambda: not is_running(command))


def test_a_command_survives_the_warm_process_and_the_next_starts_another(
    own_environ: dict[str, str], ask: Ask, fake_openai: FakeOpenAI
) -> None:
    environ = own_environ
    assert run(environ, "warm", "on").returncode == 0
    fake_openai.replies = [slow(), text("Hello."), text("Hello.")]
    command_line = ask(environ)
    warm = status(environ)["pid"]
    command = find_command(warm)
    wait_until(lambda: fake_openai.requests)
    os.kill(warm, signal.SIGKILL)
    out, err = command_line.communicate(timeout=20)
    assert (command_line.returncode, out.count("word"), err) == (0, 40, "")
    assert not is_running(command)
    assert run(environ, "ask", "x").stdout == "Hello.\n"  # cold
    wait_until(lambda: waits(environ))
    assert status(environ)["pid"] != warm
    with expect_warm(environ, 1):
        assert run(environ, "ask", "x").stdout == "Hello.\n"


def test_a_stopped_warm_process_delays_a_command_only(own_environ: dict[str, str], fake_openai: FakeOpenAI) -> None:
    environ = own_environ
    assert run(environ, "warm", "on").returncode == 0
    fake_openai.replies = [text("Hello.")]
    warm = status(environ)["pid"]
    os.kill(warm, signal.SIGSTOP)
    try:
        assert run(environ, "ask", "x").stdout == "Hello.\n"
        assert f"process {warm} does not answer" in run(environ, "warm").stdout
        assert "off: commands start cold\n" in run(environ, "warm", "off").stderr
    finally:
        with suppress(ProcessLookupError):
            os.kill(warm, signal.SIGCONT)
    assert len(fake_openai.requests) == 1  # not a second time, once it goes on


def test_garbage_and_silence_do_no_harm(environ: dict[str, str], fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [text("Hello.")]
    clients = []
    for message in (b"", b"\0" * 1000, b"run", request.pack([[b"run"]]), request.pack([[b"run"], *[[b"x"]] * 8])):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.connect(str(find_socket(environ)))
        clients.append(client)
        if message:
            client.send(message)
    assert run(environ, "ask", "x").stdout == "Hello.\n"
    for client in clients:
        client.close()
    assert status(environ)["commands"] >= 1


def test_it_ends_when_it_is_told_idle_or_without_its_socket(
    own_environ: dict[str, str], ask: Ask, fake_openai: FakeOpenAI
) -> None:
    environ = own_environ
    assert run(environ, "warm", "on").returncode == 0
    fake_openai.replies = [slow()]
    warm = status(environ)["pid"]
    command_line = ask(environ)
    find_command(warm)
    wait_until(lambda: fake_openai.requests)
    assert run(environ, "warm", "off").returncode == 0
    out, _ = command_line.communicate(timeout=20)
    assert (command_line.returncode, out.count("word")) == (0, 40)
    wait_until(lambda: not is_running(warm))
    assert run(environ, "warm", "on", "4s").returncode == 0
    wait_until(lambda: find_socket(environ) is None)
    assert "no process waits" in run(environ, "warm").stdout


def test_the_config_turns_it_on(own_environ: dict[str, str], fake_openai: FakeOpenAI) -> None:
    environ = own_environ
    fake_openai.replies = [text("Hello.")]
    run(environ, "warm", "off")
    config = Path(environ["MCPCHAT_CONFIG"])
    config.write_text(config.read_text() + '[start]\nwarm = "1m"\n')
    assert run(environ, "ask", "x").stdout == "Hello.\n"
    wait_until(lambda: waits(environ))
    assert status(environ)["idle"] == 60.0
    assert f"[start] warm in {config}" in run(environ, "warm").stdout
    assert "off" in run(environ, "warm", "off").stderr
    assert run(environ, "warm").stdout == "off (mcpchat warm)\n"


def test_the_chat_has_its_terminal(environ: dict[str, str], fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    """Ctrl-C, Ctrl-Z, a resize, and an editor that opens /dev/tty."""
    fake_openai.replies = [CannedResponse([chunk({"content": "Once"})], hang=True), text("Well.")]
    editor = tmp_path / "editor.sh"
    editor.write_text('#!/bin/sh\nprintf "your line: " >/dev/tty\nread line </dev/tty\necho "$line" >"$1"\n')
    editor.chmod(0o700)
    environ = environ | {"EDITOR": str(editor), "PS1": "$ "}
    warm = status(environ)["pid"]
    with Terminal(["bash", "--norc", "-i"], environ=environ) as terminal:
        terminal.send(f"{MCPCHAT}\r")
        terminal.wait_for("m · box")
        find_command(warm)
        terminal.send("one" + ENTER)
        terminal.wait_for("Once")
        terminal.send(CTRL_C)
        terminal.wait_for("\n  cancelled")
        terminal.send(CTRL_Z)
        terminal.wait_for("Stopped")
        terminal.send("fg" + ENTER)
        terminal.wait_for("m · box", count=1)
        terminal.settle()
        terminal.send("\x18\x05")  # Ctrl-X Ctrl-E
        terminal.wait_for("your line:")
        terminal.send("from the editor" + ENTER)
        terminal.wait_for("> from the editor")
        terminal.send(ENTER)
        terminal.wait_for("Well.")
        terminal.send("/exit" + ENTER)
        terminal.wait_for("continues it")
        terminal.send("echo code $?\r")
        terminal.wait_for("code 0")
    assert fake_openai.requests[1]["messages"][-1]["content"].endswith("from the editor")


def test_a_stopped_command_goes_on_in_the_background(environ: dict[str, str], fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [slow(60)]
    with Terminal(["bash", "--norc", "-i"], environ=environ | {"PS1": "$ "}) as terminal:
        terminal.send(f"{MCPCHAT} ask x\r")
        terminal.wait_for("word2")
        terminal.send(CTRL_Z)
        terminal.wait_for("Stopped")
        terminal.send("bg\r")
        terminal.wait_for("word59")


def test_a_signal_that_stops_stops_the_command_too(environ: dict[str, str], ask: Ask, fake_openai: FakeOpenAI) -> None:
    fake_openai.replies = [slow(200)]
    command_line = ask(environ)
    command = find_command(status(environ)["pid"])
    wait_until(lambda: fake_openai.requests)
    os.kill(command_line.pid, signal.SIGTSTP)
    wait_until(lambda: [read_state(pid) for pid in (command, command_line.pid)] == ["T", "T"])
    os.kill(command_line.pid, signal.SIGTERM)
    os.kill(command_line.pid, signal.SIGCONT)
    assert command_line.wait(20) == 143
    assert not is_running(command)


def test_a_limit_of_the_file_size_is_an_error(environ: dict[str, str], tmp_path: Path) -> None:
    """Python ignores the signal for it; so does a fork."""
    for no_warm in ("", "1"):
        line = f"ulimit -f 1; MCPCHAT_NO_WARM={no_warm} exec {MCPCHAT} schema events >{tmp_path / 'big'}"
        result = subprocess.run(
            ["bash", "-c", line], env=environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert (result.returncode, "file too large" in result.stderr) == (1, True), result


def test_in_the_background_it_starts_cold(environ: dict[str, str], fake_openai: FakeOpenAI) -> None:
    with expect_warm(environ, 0):
        """Nothing would stop a warm command that reads the terminal there."""
        fake_openai.replies = [text("Hello.")]
        with Terminal(["bash", "--norc", "-i"], environ=environ | {"PS1": "$ "}) as terminal:
            terminal.send(f"{MCPCHAT} ask x &\r")
            end = time.monotonic() + 30
            while "Stopped" not in terminal.text:  # by the terminal, as an ordinary command is
                assert time.monotonic() < end, terminal.text
                terminal.send("jobs\r")
                terminal.settle()


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("x = 1\n")
    before = process.read_times([str(file)])
    os.utime(file, ns=(1, time.time_ns() + 1))
    changed = process.read_times([str(file)])
    file.unlink()
    assert len({*before, *changed, *process.read_times([str(file)])}) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_gets_nothing(own_environ: dict[str, str]) -> None:
    assert run(own_environ, "warm", "on").returncode == 0
    path = find_socket(own_environ)
    assert path is not None
    assert connect_as_another_user(path, socket.SOCK_SEQPACKET).startswith(b"connected: cold ")
    with expect_warm(own_environ, 0):  # a folder that others can enter is not used
        assert run(own_environ, "tools").returncode == 0
    path.parent.chmod(0o700)
    with expect_warm(own_environ, 1):
        assert run(own_environ, "tools").returncode == 0


def test_another_sandbox_is_noticed() -> None:
    """A process that may do less than the warm process must not use it."""
    own = process.read_rights("self")
    child = subprocess.Popen(["setpriv", "--no-new-privs", "sleep", "60"])
    try:
        wait_until(lambda: Path(f"/proc/{child.pid}/comm").read_text() == "sleep\n")
        assert process.read_rights(str(child.pid)) != own
    finally:
        child.kill()
        child.wait()
    assert process.read_rights("self") == own
