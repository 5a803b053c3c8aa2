"""The front: what the user starts. It hands the command to the warm process and stands in for it at the terminal.

The command runs in a fork of the warm process, with the descriptors, the environment and the folder of this process.
It cannot have this process's terminal as its controlling terminal, nor its parent. So this process passes signals on,
stops when the command stops, ends as the command ends, and runs the programs that need the terminal, such as an editor.

Anything unusual starts cold: the functions here then return None, and nothing has run.
"""

import os
import select
import signal
import sys

from mcpchat.warm import request as protocol

TYPE_CHECKING = False  # as typing's, whose import takes long
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

_START_TIMEOUT = 3.0  # seconds for the fork; then the command starts cold
_FORWARDED = ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM", "WINCH"]
# If one is ignored here, it is ignored there.
_INHERITED = ["HUP", "INT", "QUIT", "TERM", "TSTP", "TTIN", "TTOU", "USR1", "USR2", "ALRM"]
_PIDFD_GONE = 1.0  # seconds between the exit code and the end of the process, at most


def run_warm(argv: "list[str]") -> int | None:
    """Run the command line in the warm process. Returns its exit code; None if it must start cold.

    If a signal ended the command, the same signal ends this process.
    """
    if os.environ.get("MCPCHAT_NO_WARM") or argv[1:2] == ["warm"] or sys.stdin is None:
        return None
    if not all(folder.startswith("/") for folder in os.environ.get("PYTHONPATH", "/").split(":")):
        return None  # it depends on the working folder
    path = protocol.find_socket(os.environ)
    if not path or not _is_private(os.path.dirname(path)):  # noqa: PTH120
        return None
    try:
        connection = connect(path)
    except (OSError, ValueError):
        return None
    command = None
    life_read, life_write = os.pipe()  # its end tells the command that we have gone
    try:
        message, files = _describe_command(argv)
        number = wait_for_hello(connection)
        # Only who may look into the warm process may use it: a sandbox such as Landlock does not show otherwise.
        proof = os.open(f"/proc/{peer_credentials(connection)[0]}/fd/{number}", os.O_RDONLY)
        send_files(connection, message, [life_read, proof, *files])
        kind, _, value = connection.recv(protocol.MAX_REQUEST).partition(b" ")
        command = _Command(connection, int(value)) if kind == protocol.READY else None
        os.close(proof)
    except (OSError, ValueError):
        command = None
    os.close(life_read)
    code = command.run() if command is not None else None
    connection.close()
    os.close(life_write)
    return code


def _is_private(folder: str) -> bool:
    """Whether nobody else can put a socket there, to get our environment."""
    try:
        info = os.lstat(folder)
    except OSError:
        return False
    return info.st_uid == os.geteuid() and info.st_mode & 0o170077 == 0o040000


def connect(path: str) -> "Any":
    """Connect to the warm process. Raises OSError if none listens, or if it belongs to another user."""
    import _socket  # the module around it takes longer to import than all this

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        connection.settimeout(_START_TIMEOUT)
        connection.connect(path)
        _, uid, _ = peer_credentials(connection)
        if uid != os.geteuid():
            raise PermissionError("the socket belongs to another user")
    except OSError:
        connection.close()
        raise
    return connection


def wait_for_hello(connection: "Any") -> int:
    """Wait until a fork listens: files that are sent before are open until somebody takes them.

    Returns the number of a file of the warm process. Raises OSError and ValueError.
    """
    kind, _, value = connection.recv(protocol.MAX_REQUEST).partition(b" ")
    if kind != protocol.HELLO:
        raise ConnectionError("the command must start cold")
    return int(value)


def peer_credentials(connection: "Any") -> "tuple[int, int, int]":
    """The process, user and group at the other end."""
    import _socket

    data = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    pid, uid, gid = (int.from_bytes(data[n : n + 4], sys.byteorder, signed=True) for n in (0, 4, 8))
    return pid, uid, gid


def send_files(connection: "Any", message: bytes, files: "list[int]") -> None:
    """Send a message with file descriptors. Raises OSError."""
    import _socket

    data = b"".join(file.to_bytes(4, sys.byteorder) for file in files)
    connection.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, data)] if files else [])


def _describe_command(argv: "list[str]") -> "tuple[bytes, list[int]]":
    """The request, and the files that go with it: the folder, then each open descriptor. Raises OSError, ValueError."""
    import resource

    numbers = sorted(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208
    numbers = [number for number in numbers if number < 3 or _is_inheritable(number)]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    if numbers[:3] != [0, 1, 2] or len(numbers) > protocol.MAX_FILES or numbers[-1] >= protocol.MAX_NUMBER:
        raise ValueError("unusual files")
    if blocked or not _is_foreground(numbers):
        raise ValueError("unusual signals, or in the background")
    mask = os.umask(0o077)
    os.umask(mask)
    limits = [
        value
        for name in sorted(dir(resource))
        if name.startswith("RLIMIT_")
        for value in (getattr(resource, name), *resource.getrlimit(getattr(resource, name)))
    ]
    ignored = [
        number for name in _INHERITED if signal.getsignal(number := getattr(signal, f"SIG{name}")) is signal.SIG_IGN
    ]
    folder = os.open(".", os.O_PATH | os.O_DIRECTORY)
    lists = [
        [b"run"],
        protocol.describe_interpreter(os.environ),
        [os.fsencode(word) for word in argv],
        [b"%s=%s" % pair for pair in os.environb.items()],
        protocol.pack_numbers(numbers),
        protocol.pack_numbers([mask, os.getpriority(os.PRIO_PROCESS, 0)]),
        protocol.pack_numbers(sorted(os.sched_getaffinity(0))),
        protocol.pack_numbers(limits),
        protocol.pack_numbers(ignored),
    ]
    message = protocol.pack(lists)
    if len(message) >= protocol.MAX_REQUEST:
        raise ValueError("a long command")
    return message, [folder, *numbers]


def _is_inheritable(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:  # the one that listed the folder
        return False


def _is_foreground(numbers: "list[int]") -> bool:
    """Whether the terminal, if there is one, is ours to read.

    Raises OSError for a terminal that is not the one of our session.
    """
    return all(os.tcgetpgrp(number) == os.getpgrp() for number in numbers[:3] if os.isatty(number))


class _Command:
    """The command that runs for us, and its process."""

    def __init__(self, connection: "Any", pid: int) -> None:
        self._connection = connection
        self._pid = pid
        self._process = os.pidfd_open(pid)
        self._files: list[int] = []  # that came with the latest report

    def run(self) -> int | None:
        """Let it run, and return its exit code; None if it has not begun."""
        handlers = {getattr(signal, f"SIG{name}"): self._forward for name in _FORWARDED}
        previous = {
            number: signal.signal(number, handler)
            for number, handler in {**handlers, signal.SIGTSTP: self._suspend}.items()
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        try:
            self._connection.settimeout(None)
            self._connection.send(protocol.GO)
            return self._wait()
        except OSError:
            return None
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _wait(self) -> int | None:
        while report := self._receive():
            kind, _, value = report.partition(b" ")
            if kind == protocol.COLD:
                return None
            if kind == protocol.EXIT:
                select.select([self._process], [], [], _PIDFD_GONE)
                return int(value)
            if kind == protocol.KILLED:
                _end_by_signal(int(value))
                return 128 + int(value)
            if kind == protocol.STOPPED and self._is_stopped():
                self._stop(0)  # the whole job, as the command meant to
            elif kind == protocol.PROGRAM:
                self._answer(b"%d" % _run_program(value, self._files))
            elif kind == protocol.TERMINAL:
                self._answer(protocol.YES if _wait_for_terminal() else protocol.NO)
        sys.stderr.write("error: the command was killed\n")
        return 1

    def _answer(self, answer: bytes) -> None:
        try:
            self._connection.send(answer)
        except OSError:  # it has ended
            return

    def _receive(self) -> bytes:
        """The next report; empty once the command has gone."""
        import _socket

        try:
            report, extra, _, _ = self._connection.recvmsg(protocol.MAX_REQUEST, _socket.CMSG_LEN(4))
        except OSError:
            return b""
        self._files = [int.from_bytes(data[:4], sys.byteorder) for _, _, data in extra]
        return bytes(report)

    def _forward(self, number: int, frame: "FrameType | None") -> None:
        try:
            signal.pidfd_send_signal(self._process, number)
        except OSError:  # it has ended
            return

    def _is_stopped(self) -> bool:
        try:
            with open(f"/proc/{self._pid}/stat", "rb") as file:  # noqa: PTH123
                return file.read().rpartition(b")")[2].split()[0] == b"T"
        except OSError:
            return False

    def _suspend(self, number: int, frame: "FrameType | None") -> None:
        """Stop as we are told, and the command too."""
        self._forward(signal.SIGTSTP, None)
        self._stop(os.getpid())

    def _stop(self, target: int) -> None:
        """Stop, and let the command go on once we are continued."""
        _stop_by(signal.SIGTSTP, self._suspend, target)
        self._forward(signal.SIGCONT, None)
        self._forward(signal.SIGWINCH, None)


def _wait_for_terminal() -> bool:
    """Wait until the terminal is ours, stopped as by a read in the background. Returns False if that cannot be."""
    try:
        while not _is_foreground([0]):
            if os.getsid(os.getppid()) != os.getsid(0):  # an orphan: nobody could continue it
                return False
            _stop_by(signal.SIGTTIN, signal.SIG_DFL, 0)
    except OSError:  # it has gone
        return False
    return True


def _stop_by(number: int, handler: "Any", target: int) -> None:
    """Let the signal stop us, or with 0 the whole job, and set its handler once we are continued."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(target, number)
    signal.signal(number, handler)


def _end_by_signal(number: int) -> None:
    """End as the command ended, so that a shell sees it."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _run_program(order: bytes, files: "list[int]") -> int:
    """Run a program of the command's in its place at the terminal, such as an editor. Returns its exit code."""
    import subprocess

    argv, env = protocol.unpack(order)
    variables = dict(variable.split(b"=", 1) for variable in env)
    stdin = files[0] if files else None
    try:
        return subprocess.run(argv, env=variables, stdin=stdin, check=False).returncode
    except (OSError, ValueError):
        return 127
    finally:
        for file in files:
            os.close(file)
