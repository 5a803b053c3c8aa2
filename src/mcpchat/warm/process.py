"""The warm process: has everything imported, listens on a socket, and forks for each command.

It holds nothing of a command: the fork reads the request, with the environment and its secrets, not this process. It
starts with an almost empty environment, opens no connection, and ends when it was idle, when mcpchat was changed, or
when its socket has gone.
"""

import contextlib
import errno
import fcntl
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from mcpchat.util import foreground
from mcpchat.warm import fork, front
from mcpchat.warm import request as protocol

_CHECK_INTERVAL = 5.0  # seconds between looks at the socket's file
_GO_TIMEOUT = 5.0  # seconds for the front's word to begin
_MAX_COMMANDS = 64  # that run at the same time; more start cold
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
_RIGHTS = (b"Uid:", b"Gid:", b"Groups:", b"CapInh:", b"CapPrm:", b"CapEff:", b"CapBnd:", b"CapAmb:", b"NoNewPrivs:",
           b"Seccomp:", b"Seccomp_filters:")  # fmt: skip
_NO_COMMAND = 255  # the exit code of a fork that ran none
_F_SETSIG = 10  # fcntl: the signal for input on a file with O_ASYNC

RunCommand = Callable[[list[str]], int]


class WarmProcess:
    """Forks for each command that a front hands over. ``run`` runs one and returns its exit code.

    ``lock`` is the locked file that belongs to the socket at ``path``. ``idle`` is for how many seconds it waits for
    the next command, ``started`` when it began to import, in epoch seconds.
    """

    def __init__(self, path: str, lock: int, idle: float, run: RunCommand, started: float) -> None:
        self._path = path
        self._lock = lock
        self._idle = idle
        self._run = run
        self._commands: dict[int, socket.socket] = {}  # the connections of the fronts, by the command's process
        self._ended = 0  # commands that have ended
        self._started = started
        self._last_used = time.monotonic()
        self._ending = False
        self._failure_code = _NO_COMMAND  # of a fork in which something of ours fails
        self._rights = read_rights("self")
        self._groups = read_control_groups("self")
        self._own_process = os.pidfd_open(os.getpid())  # forks end this process by it, and never another
        self._proof = os.memfd_create("mcpchat")  # who can open it may look into this process

    def serve(self) -> None:
        """Listen until idle, changed or told to end. Raises OSError if it cannot listen."""
        self._files = list_program_files()
        self._times = read_times(self._files)
        changed = [when for path, when in zip(self._files, self._times, strict=True) if path.endswith(".py")]
        if any(self._started < when / 1e9 < time.time() for when in changed):
            return  # while it was imported; folders change by our own compiled files
        _raise_file_limit()
        with listen(self._path) as listener:
            self._listener = listener
            self._inode = os.stat(self._path).st_ino  # noqa: PTH116
            wake_read, wake_write = self._wake = os.pipe()
            for end in self._wake:
                os.set_blocking(end, False)
            signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
            signal.signal(signal.SIGCHLD, lambda number, frame: None)
            signal.signal(signal.SIGTERM, self._end)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            while not self._ending and self._seconds_left() > 0 and self._owns_socket():
                ready, _, _ = select.select(
                    [listener.fileno(), wake_read], [], [], min(_CHECK_INTERVAL, self._seconds_left())
                )
                if wake_read in ready:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake_read, 4096)
                self._report_children()
                if listener.fileno() in ready:
                    with contextlib.suppress(OSError):  # no files or no memory: this command starts cold
                        self._accept(listener)
            if self._owns_socket():
                os.unlink(self._path)  # noqa: PTH108
        os.close(self._lock)
        while self._commands:  # they go on without us listening
            select.select([wake_read], [], [], _CHECK_INTERVAL)
            with contextlib.suppress(BlockingIOError):
                os.read(wake_read, 4096)
            self._report_children()

    def _end(self, number: int, frame: object) -> None:
        self._ending = True

    def _seconds_left(self) -> float:
        return self._idle if self._commands else self._last_used + self._idle - time.monotonic()

    def _owns_socket(self) -> bool:
        try:
            return os.stat(self._path).st_ino == self._inode  # noqa: PTH116
        except OSError:
            return False

    def _accept(self, listener: socket.socket) -> None:
        """Fork for a front that has the same rights as we have; tell any other to start cold."""
        connection, _ = listener.accept()
        try:
            connection.settimeout(_GO_TIMEOUT)
            if reason := self._find_obstacle(connection):
                connection.send(protocol.COLD + b" " + reason.encode())
                connection.close()
                return
            pid = os.fork()
        except OSError:
            connection.close()
            raise
        if pid == 0:
            self._become_command(connection)
        self._commands[pid] = connection

    def _find_obstacle(self, connection: socket.socket) -> str:
        """Why the command must start cold; empty if it need not."""
        pid, uid, _ = front.peer_credentials(connection)
        try:
            if uid != os.geteuid() or read_rights(str(pid)) != self._rights:
                return "another user, sandbox or container"
        except OSError:
            return "the process cannot be looked at"
        if not may_leave_control_groups(self._groups, read_control_groups(str(pid))):
            return "a control group with limits"
        if read_times(self._files) != self._times:
            self._ending = True
            return "mcpchat was changed"
        if len(self._commands) >= _MAX_COMMANDS:
            return "too many commands at once"
        return "a thread is running" if threading.active_count() > 1 else ""

    def _report_children(self) -> None:
        """Tell the fronts which commands have stopped or ended."""
        while self._commands:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            ran_none = os.WIFEXITED(status) and os.WEXITSTATUS(status) == _NO_COMMAND
            if os.WIFSTOPPED(status):
                report = protocol.STOPPED
            elif ran_none:
                report = protocol.COLD
            elif os.WIFSIGNALED(status):
                report = protocol.KILLED + b" %d" % os.WTERMSIG(status)
            else:
                report = protocol.EXIT + b" %d" % os.WEXITSTATUS(status)
            connection = self._commands[pid]
            with contextlib.suppress(OSError):  # the front has gone
                connection.send(report, socket.MSG_DONTWAIT)  # the fork has this socket too: its mode is not ours alone
            if not os.WIFSTOPPED(status):
                del self._commands[pid]
                connection.close()
                if not ran_none:
                    self._ended += 1
                    self._last_used = time.monotonic()

    # In the fork.

    def _become_command(self, connection: socket.socket) -> NoReturn:
        """Be the command that the front asks for. Never returns."""
        code = _NO_COMMAND
        try:
            # A fork must not keep the socket and its lock after the end of this process.
            self._listener.close()
            signal.set_wakeup_fd(-1)
            for file in (self._lock, *self._wake):
                os.close(file)
            connection.send(protocol.HELLO + b" %d" % self._proof)
            # Besides the command's own files: life, proof and folder.
            message, files, _, _ = socket.recv_fds(connection, protocol.MAX_REQUEST, protocol.MAX_FILES + 3)
            request = protocol.unpack(message)
            if request[0] == [b"status"]:
                words = f"{os.getppid()} {self._started} {self._ended} {self._idle}".encode().split()
                connection.send(protocol.pack([words]))
            elif request[0] == [b"stop"]:
                signal.pidfd_send_signal(self._own_process, signal.SIGTERM)
            else:
                code = self._run_request(connection, request, files)
        except KeyboardInterrupt:
            code = 130 if self._failure_code != _NO_COMMAND else _NO_COMMAND
        except BaseException:  # noqa: BLE001 - the front is told that it did not begin, or how it ended
            code = self._failure_code
        finally:
            os._exit(code)

    def _run_request(self, connection: socket.socket, request: list[list[bytes]], files: list[int]) -> int:
        _, interpreter, words, variables, numbers, mask_and_nice, processors, limits, ignored = request
        environ = dict(variable.split(b"=", 1) for variable in variables)
        own_interpreter = protocol.describe_interpreter(os.environ)
        if interpreter != own_interpreter:
            if interpreter[:2] != own_interpreter[:2]:  # ours was replaced, and no command will come any more
                signal.pidfd_send_signal(self._own_process, signal.SIGTERM)
            connection.send(protocol.COLD + b" another interpreter")
            return _NO_COMMAND
        mask, nice = map(int, mask_and_nice)
        life, proof, folder, *rest = files
        if not os.path.samestat(os.fstat(proof), os.fstat(self._proof)):
            connection.send(protocol.COLD + b" a sandbox")
            return _NO_COMMAND
        os.setpgid(0, 0)
        os.umask(mask)
        os.fchdir(folder)
        fork.reset_signals(map(int, ignored))
        life, control, own_process = fork.take_files(
            rest, [int(number) for number in numbers], keep=[life, connection.detach(), self._own_process]
        )
        end_with(life)
        fork.take_environment(environ)
        fork.open_streams()
        sys.argv = [os.fsdecode(word) for word in words]
        connection = socket.socket(fileno=control)
        connection.settimeout(_GO_TIMEOUT)
        try:
            take_limits([int(number) for number in limits], nice, {int(number) for number in processors})
        except (OSError, ValueError):
            # Ours are lower and cannot be raised: the next process takes those of the command that starts it.
            signal.pidfd_send_signal(own_process, signal.SIGTERM)
            connection.send(protocol.COLD + b" other limits")
            return _NO_COMMAND
        connection.send(protocol.READY + b" %d" % os.getpid())
        if connection.recv(16) != protocol.GO:
            return _NO_COMMAND
        self._failure_code = 1
        os.close(own_process)
        connection.settimeout(None)
        foreground.use_front(FrontTerminal(connection))
        code = self._run(sys.argv[1:])
        connection.send(protocol.EXIT + b" %d" % code)
        return code


class FrontTerminal:
    """The terminal of the front, which belongs to its session and not to ours."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()  # for one question at a time

    def run_program(self, argv: Sequence[str], env: Mapping[str, str], stdin: int | None) -> int:
        """Let the front run a program. Returns its exit code. Raises OSError."""
        variables = [os.fsencode(f"{name}={value}") for name, value in env.items()]
        order = protocol.pack([[os.fsencode(word) for word in argv], variables])
        return int(self._ask(protocol.PROGRAM + b" " + order, [] if stdin is None else [stdin]))

    def wait(self) -> None:
        """Wait until the front is in the foreground. Raises OSError if that cannot be."""
        if self._ask(protocol.TERMINAL, []) != protocol.YES:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _ask(self, message: bytes, files: list[int]) -> bytes:
        with self._lock:
            front.send_files(self._connection, message, files)
            return self._connection.recv(16)


def end_with(life: int) -> None:
    """Let the kernel kill this process once the other end of the pipe is closed."""
    fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)


def take_limits(limits: Sequence[int], nice: int, processors: set[int]) -> None:
    """Set resource limits (number, soft and hard, of each), niceness and processors. Raises OSError and ValueError."""
    for number in range(0, len(limits), 3):
        resource.setrlimit(limits[number], (limits[number + 1], limits[number + 2]))
    os.setpriority(os.PRIO_PROCESS, 0, nice)
    os.sched_setaffinity(0, processors)


def read_rights(pid: str) -> list[object]:
    """What a process may do, and where: users, capabilities, filters, namespaces, root folder. Raises OSError."""
    folder = f"/proc/{pid}"
    with open(f"{folder}/status", "rb") as file:  # noqa: PTH123
        rights: list[object] = [line.split() for line in file if line.startswith(_RIGHTS)]
    rights += [os.readlink(f"{folder}/ns/{name}") for name in _NAMESPACES]  # noqa: PTH115
    root = os.stat(f"{folder}/root")  # noqa: PTH116
    with contextlib.suppress(OSError), open(f"{folder}/attr/current", "rb") as file:  # noqa: PTH123
        rights.append(file.read())
    return [*rights, root.st_dev, root.st_ino]


def read_control_groups(pid: str) -> list[str]:
    """The control groups of the process, in the order of their hierarchies. Raises OSError."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
        return file.read().splitlines()


def may_leave_control_groups(own: Sequence[str], theirs: Sequence[str]) -> bool:
    """Whether a command of these control groups may run in ours: its own have no limits that ours lack."""
    if own == theirs:
        return True
    if len(own) != 1 or len(theirs) != 1:  # not the unified hierarchy
        return False
    own_path, path = (groups[0].partition("::")[2].rstrip("/") for groups in (own, theirs))
    while path and not f"{own_path}/".startswith(f"{path}/"):
        for name in ("memory.max", "memory.high", "cpu.max", "pids.max"):
            with contextlib.suppress(OSError), open(f"/sys/fs/cgroup{path}/{name}", "rb") as file:  # noqa: PTH123
                if not file.read().startswith(b"max"):
                    return False
        path = path.rpartition("/")[0]
    return True


def _raise_file_limit() -> None:
    """Allow as many open files as we may: a command takes its own limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def list_program_files() -> list[str]:
    """The folders of all imported modules, in which an installation changes something, and each file of ours."""
    modules = [(name, getattr(module, "__file__", None)) for name, module in sys.modules.items()]
    files = {path for name, path in modules if path and name.partition(".")[0] in {"mcpchat", "mcpchat_servers"}}
    data = {str(path) for path in Path(__file__).parents[1].joinpath("data").rglob("*")}
    return sorted(files | data | {os.path.dirname(path) for _, path in modules if path})  # noqa: PTH120


def read_times(paths: Sequence[str]) -> list[int]:
    """When each file was changed; 0 for one that has gone."""
    times = []
    for path in paths:
        try:
            times.append(os.stat(path).st_mtime_ns)  # noqa: PTH116
        except OSError:
            times.append(0)
    return times


def listen(path: str) -> socket.socket:
    """A socket at the path, whose lock we have. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - of one that was killed
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(before)
    listener.listen(100)
    return listener


def main(args: Sequence[str], *, prepare: Callable[[], None], run: RunCommand) -> int:
    """Be the warm process; ``args`` are the socket's path, its lock and the idle seconds; ``prepare`` is done once."""
    started = time.time()
    path, lock, idle = args
    os.ftruncate(int(lock), 0)
    os.pwrite(int(lock), b"%d" % os.getpid(), 0)  # to end this process even if it does not answer
    try:
        fork.import_all()
        prepare()
        fork.freeze_objects()
        WarmProcess(path, int(lock), float(idle), run, started).serve()
    except OSError:  # the socket cannot be made: commands start cold
        return 1
    return 0
