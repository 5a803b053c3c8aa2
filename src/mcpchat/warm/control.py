"""Starts, stops and looks at the warm process, and remembers whether the user wants one."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct

from mcpchat.errors import UsageError
from mcpchat.util.private_files import ensure_private_directory, read_private, write_private
from mcpchat.warm import front, request

DEFAULT_IDLE = 900.0  # seconds
NO_WARM = "MCPCHAT_NO_WARM"  # the variable that turns it off for a command
_CHOICE = "warm"  # the file in the folder for state that has the seconds; 0 is off
_KEPT_VARIABLES = re.compile("|".join(("HOME$", "PATH$", *request.START_VARIABLES)).encode())  # none is a secret
_WAIT = 20.0  # seconds for the start, and for the end


class WarmStatus(Struct, frozen=True, kw_only=True):
    """The warm process: its id, since when (epoch seconds), how many commands ended in it, its idle time in seconds."""

    pid: int
    since: float
    commands: int
    idle: float


def is_supported(environ: Mapping[str, str]) -> bool:
    """Whether there can be a warm process: on Linux, with a folder for its socket."""
    return bool(request.find_socket(environ))


def choose_idle(state: Path, configured: float | None) -> float:
    """For how many seconds a warm process shall wait; 0 for none. ``mcpchat warm on|off`` overrides the config.

    ``state`` is the folder for state. Raises StoreError.
    """
    content = read_private(state / _CHOICE)
    try:
        return float(content) if content is not None else configured or 0.0
    except ValueError:
        return configured or 0.0


def has_choice(state: Path) -> bool:
    """Whether ``mcpchat warm on|off`` said something that holds."""
    return (state / _CHOICE).exists()


def remember_choice(state: Path, idle: float | None) -> None:
    """Store for how many seconds a warm process shall wait, 0 for none; None leaves it to the config.

    Raises StoreError.
    """
    ensure_private_directory(state)
    if idle is None:
        (state / _CHOICE).unlink(missing_ok=True)
    else:
        write_private(state / _CHOICE, f"{idle:g}\n".encode())


def start(environ: Mapping[str, str], idle: float) -> None:
    """Start a warm process in the background, unless one runs. Does nothing where there can be none.

    Raises StoreError if its folder cannot be made.
    """
    path = request.find_socket(environ)
    if not path:
        return
    ensure_private_directory(Path(path).parent)
    # As this process got them: an interpreter in the C locale changes its own LC_CTYPE.
    variables = (entry.partition(b"=") for entry in Path("/proc/self/environ").read_bytes().split(b"\0"))
    kept = {os.fsdecode(name): os.fsdecode(value) for name, _, value in variables if _KEPT_VARIABLES.match(name)}
    with suppress(OSError), _lock(path) as lock:
        subprocess.Popen(
            [sys.executable, "-P", "-m", "mcpchat", "__warm", path, str(lock), f"{idle:g}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env={**kept, "PYDANTIC_DISABLE_PLUGINS": "1"},
            pass_fds=[lock],  # it holds the lock from now on
        )


@contextmanager
def _lock(path: str) -> Iterator[int]:
    """Yield the locked file that belongs to the socket. Raises BlockingIOError if another process has locked it."""
    import fcntl  # not on Windows

    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield lock
    finally:
        os.close(lock)


def _is_starting(path: str) -> bool:
    """Whether a process has the lock, and no socket yet."""
    try:
        with _lock(path):
            return False
    except BlockingIOError:
        return not Path(path).exists()
    except OSError:
        return False


def read_status(environ: Mapping[str, str]) -> WarmStatus | None:
    """The state of the warm process; None if no process answers."""
    try:
        answer = _ask(environ, b"status")
        [[pid, since, commands, idle]] = request.unpack(answer)
        return WarmStatus(pid=int(pid), since=float(since), commands=int(commands), idle=float(idle))
    except (OSError, ValueError):
        return None


def wait_for_start(environ: Mapping[str, str]) -> WarmStatus:
    """Wait until the warm process that was started answers. Raises UsageError if it does not."""
    end = time.monotonic() + _WAIT
    while time.monotonic() < end:
        if status := read_status(environ):
            return status
        time.sleep(0.05)
    raise UsageError("the warm process does not start", hint="mcpchat warm off, then report it")


def stop(environ: Mapping[str, str]) -> bool:
    """Let the warm process end; commands that run in it go on. Returns whether there was one."""
    end = time.monotonic() + _WAIT
    while _is_starting(request.find_socket(environ)) and time.monotonic() < end:
        time.sleep(0.05)
    try:
        _ask(environ, b"stop")
    except (OSError, ValueError):
        pid = find_process(environ)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return pid is not None
    while Path(request.find_socket(environ)).exists() and time.monotonic() < end:
        time.sleep(0.01)
    return True


def find_process(environ: Mapping[str, str]) -> int | None:
    """The id of the warm process, which may not answer; None if no process runs."""
    path = request.find_socket(environ)
    try:
        with _lock(path):
            return None
    except OSError:
        pass
    with suppress(OSError, ValueError):
        pid = int(Path(f"{path}.lock").read_text())
        if b"__warm" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            return pid
    return None


def _ask(environ: Mapping[str, str], what: bytes) -> bytes:
    """Send the warm process a question, and return its answer. Raises OSError if no process answers."""
    path = request.find_socket(environ)
    if not path:
        raise FileNotFoundError
    connection = front.connect(path)
    try:
        front.wait_for_hello(connection)
        connection.send(request.pack([[what]]))
        return bytes(connection.recv(request.MAX_REQUEST))
    finally:
        connection.close()
