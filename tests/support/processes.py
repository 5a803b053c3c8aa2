"""Starts programs as real processes: mcpchat and Python scripts by the fork server where it can, anything else cold."""

import atexit
import contextlib
import functools
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tests.support.paths import MCPCHAT, ROOT

PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL
Completed = subprocess.CompletedProcess[Any]
_PATH_VARIABLE = "TESTS_FORK_SERVER"
PASSED_ON = (_PATH_VARIABLE, "TESTS_MEASURE_COVERAGE")  # variables of the fork server
RUN_TIMEOUT = 50.0  # seconds
Process = "subprocess.Popen[Any] | ForkedProcess"


class ForkedProcess:
    """A process started by the fork server, with the interface of ``subprocess.Popen``."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        env: Mapping[str, str],
        cwd: Path | str | None = None,
        text: bool = False,
        start_new_session: bool = False,
        terminal: bool = False,
    ) -> None:
        self.args = command
        self.returncode: int | None = None
        self._text = text
        self.stdin, self.stdout, self.stderr = None, None, None
        with contextlib.ExitStack() as stack:
            streams = []
            for number, (name, target) in enumerate((("stdin", stdin), ("stdout", stdout), ("stderr", stderr))):
                theirs, ours = _open_stream(number, target, streams)
                if target in (PIPE, DEVNULL) and target is not None:
                    stack.callback(os.close, theirs)
                streams.append(theirs)
                if ours is not None:
                    setattr(self, name, _open_file(ours, "w" if number == 0 else "r", text))
            self._status, write_end = os.pipe()
            stack.callback(os.close, write_end)
            request = {
                "command": [str(word) for word in command],
                "env": dict(env),
                "cwd": str(cwd or Path.cwd()),
                "new_session": start_new_session or terminal,
                "terminal": terminal,
            }
            socket.send_fds(_fork_server(), [json.dumps(request).encode()], [*streams, write_end])
        self._unread = b""
        self.pid = self._read_status(None)

    def _read_status(self, timeout: float | None) -> int:
        """Return the next number of the status pipe. Raises TimeoutError."""
        while b"\n" not in self._unread:
            if not select.select([self._status], [], [], timeout)[0]:
                raise TimeoutError
            data = os.read(self._status, 64)
            assert data, "the fork server has ended"
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return int(line)

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            try:
                self.returncode = self._read_status(timeout)
            except TimeoutError:
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            os.close(self._status)
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended in between
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:  # noqa: A002 - like Popen
        written: dict[str, Any] = {"stdout": None, "stderr": None}
        threads = []
        if self.stdin is not None:
            threads.append(threading.Thread(target=_write_all, args=(self.stdin, input), daemon=True))
        for name in written:
            if (stream := getattr(self, name)) is not None:
                read = functools.partial(_read_all, stream, name, written)
                threads.append(threading.Thread(target=read, daemon=True))
        for thread in threads:
            thread.start()
        end = None if timeout is None else time.monotonic() + timeout
        for thread in threads:
            thread.join(None if end is None else max(end - time.monotonic(), 0))
            if thread.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.wait(None if end is None else max(end - time.monotonic(), 0))
        return written["stdout"], written["stderr"]

    def __enter__(self) -> "ForkedProcess":
        return self

    def __exit__(self, *exc: object) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self.wait()


def _open_stream(number: int, target: Any, streams: Sequence[int]) -> tuple[int, int | None]:
    """Return the file descriptor for the process, and our end of a pipe."""
    if target is None:
        return number, None
    if target == PIPE:
        read_end, write_end = os.pipe()
        return (read_end, write_end) if number == 0 else (write_end, read_end)
    if target == DEVNULL:
        return os.open(os.devnull, os.O_RDWR), None
    if target == subprocess.STDOUT:
        return streams[1], None
    return (target if isinstance(target, int) else target.fileno()), None


def _open_file(file: int, mode: str, text: bool) -> IO[Any]:
    return os.fdopen(file, mode, encoding="utf-8") if text else os.fdopen(file, f"{mode}b", -1 if mode == "r" else 0)


def _write_all(stream: IO[Any], data: Any) -> None:
    with contextlib.suppress(BrokenPipeError):
        if data:
            stream.write(data)
        stream.close()


def _read_all(stream: IO[Any], name: str, written: dict[str, Any]) -> None:
    written[name] = stream.read()
    stream.close()


@functools.cache
def _fork_server() -> socket.socket:
    """The connection of this process to its fork server."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(_fork_server_path())
    atexit.register(connection.close)
    return connection


@functools.cache
def _fork_server_path() -> str:
    """Start a fork server, unless a process above has one; returns the path of its socket."""
    if path := os.environ.get(_PATH_VARIABLE):
        return path
    folder = tempfile.mkdtemp(prefix="fork-server-")
    path = os.environ[_PATH_VARIABLE] = f"{folder}/socket"
    command = [sys.executable, "-m", "tests.support.fork_server", path]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    server = subprocess.Popen(command, cwd=ROOT, env=environ, stdin=PIPE, stdout=PIPE)
    assert server.stdin is not None
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    stdin = server.stdin

    def stop() -> None:
        stdin.close()
        server.wait(10)
        shutil.rmtree(folder)

    atexit.register(stop)
    return path


def script_command(script: Path, *arguments: str) -> list[str]:
    """Return a command that runs a Python script: in a fork, where there is a fork server."""
    if sys.platform != "linux":
        return [sys.executable, str(script), *arguments]
    launcher = [sys.executable, "-I", "-S", str(ROOT / "tests/support/forked.py"), _fork_server_path()]
    return [*launcher, str(script), *arguments]


def _interpreter_settings(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that an interpreter reads when it starts."""
    return {name: value for name, value in env.items() if name.startswith(("PYTHON", "LANG", "LC_"))}


def start_process(command: Sequence[str], *, terminal: bool = False, **options: Any) -> Any:
    """Start a program; the options are those of ``subprocess.Popen``. Returns a Popen, or its like.

    With ``terminal``, its stdin is a terminal that becomes its controlling terminal.
    """
    env = options.pop("env", None) or os.environ
    is_python = command[0] == sys.executable and (command[1] == "-m" or command[1].endswith(".py"))
    forkable = command[0] == MCPCHAT or is_python
    if sys.platform == "linux" and forkable and _interpreter_settings(env) == _interpreter_settings(os.environ):
        return ForkedProcess(command, env=env, terminal=terminal, **options)
    if terminal:
        command = [sys.executable, "-c", _TAKE_TERMINAL, *command]
        options["start_new_session"] = True
    return subprocess.Popen(command, env=env, **options)


_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)


def run_process(
    command: Sequence[str],
    *,
    input: Any = None,  # noqa: A002 - like subprocess.run
    timeout: float = RUN_TIMEOUT,
    text: bool = True,
    **options: Any,
) -> Completed:
    """Run a program to its end and return its output and exit code; the options are those of ``subprocess.run``.

    Its stdin is empty unless ``input`` is given.
    """
    options = {"stdout": PIPE, "stderr": PIPE, **options}
    options["stdin"] = PIPE if input is not None else options.get("stdin", DEVNULL)
    process = start_process(command, text=text, **options)
    try:
        out, err = process.communicate(input, timeout)
    except BaseException:
        process.kill()
        raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def server_table(name: str, script: Path, *arguments: str) -> str:
    """Return the config table of a server that is a Python script; for those that import an SDK, which takes a second."""
    command, *args = script_command(script, *arguments)
    return f"[servers.{name}]\ncommand = {json.dumps(command)}\nargs = {json.dumps(args)}\n"


@contextlib.contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[Any]:
    """Start a process; at the end it is terminated, and its pipes are closed."""
    process = start_process(command, **options)
    try:
        yield process
    finally:
        process.terminate()
        with process:
            pass


def connect_as_another_user(path: Path, kind: socket.SocketKind) -> bytes:
    """Connect to the socket as the user nobody, and return "connected: " and what it says at first.

    Only root can do that. The folders and the socket are opened to everybody before.
    """
    path.parent.parent.chmod(0o755)
    path.parent.chmod(0o755)
    path.chmod(0o666)
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX, kind) as client:
                client.settimeout(10)
                client.connect(str(path))
                os.write(write_end, b"connected: " + client.recv(1000))
        finally:
            os._exit(0)
    os.close(write_end)
    os.waitpid(pid, 0)
    with os.fdopen(read_end, "rb") as pipe:
        return pipe.read()
