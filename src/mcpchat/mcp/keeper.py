"""A keeper: owns the pipes of one server, so that the server outlives the command that started it.

A program of the standard library alone, run by its path: ``python -I -S keeper.py SOCKET``. It reads what to start as
one JSON line on standard input. Commands connect to its Unix socket and exchange the server's messages, one a line;
several may be connected at once. The keeper

- gives each request an id of its own, and sends the answer to whoever asked,
- greets a server of the handshake revisions once, and answers later greetings from memory,
- sends a request of the server to the one client that has calls open, and refuses it if that is not clear,
- cancels what a client leaves behind, and ends with the server, or after it was idle for the given time.

Lines that begin with {"keeper" are its own: "hello" with its status, "stderr" and "stray" with what the server wrote,
"exit" with the server's exit code. A client may send {"keeper": "stop"}.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import socket
import struct
import sys
import time

TYPE_CHECKING = False  # as typing's, whose import takes as long as all the others
if TYPE_CHECKING:
    from typing import Any

_CHUNK = 65536
_MAX_PENDING = 64 * 2**20  # bytes that wait for one reader; a client that lets more wait is dropped
_PAUSE_PENDING = 16 * 2**20  # bytes that wait for a client that reads: the server waits for it then
_PATIENCE = 3.0  # seconds in which such a client reads something; otherwise nobody waits for it
_MAX_CLIENTS = 64
_MAX_OPEN = 10_000  # requests of one client, and of the server
_MAX_STDERR = 65536  # bytes of stderr that are kept for the next client
_GRACE = 2.0  # seconds for the server's exit after its input was closed, and after SIGTERM
_MAX_OVERSIZE_FACTOR = 64  # times the limit; a line longer than that ends the server
_TOO_LARGE = -31999
_FIRST_WAIT = 10.0  # seconds for the command that started us to connect
_CHECK_INTERVAL = 2.0  # seconds between looks at the socket's file
_HEAD = 4096  # bytes kept of a line that is too large, to find which request it answers
_ARRIVAL_INTERVAL = 0.5  # seconds between two spaces that tell of a message that is arriving
_ID_FIRST = re.compile(rb'^\s*\{(?:\s*"jsonrpc"\s*:\s*"2\.0"\s*,)?\s*"id"\s*:\s*"?(\d{1,15})\b')


def encode(value: Any) -> bytes:
    """The value as a JSON line."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _to_text(data: bytes | bytearray) -> str:
    """Bytes as a string of JSON that has them all: a chunk may end within a character."""
    return data.decode(errors="surrogateescape")


class Oversized:
    """A line with too many bytes, objects or arrays. ``head`` is how it begins."""

    def __init__(self, head: bytes) -> None:
        self.head = head


class Lines:
    """Splits what arrives into lines. One that is too large is reported as soon as that is known.

    ``is_endless`` tells that one is so long that its end is not waited for.
    """

    def __init__(self, limit: int, max_containers: int) -> None:
        self._limit = limit
        self._max_containers = max_containers
        self._buffer = bytearray()
        self._discarded = 0  # bytes of a line that is too long

    @property
    def is_endless(self) -> bool:
        return self._discarded > _MAX_OVERSIZE_FACTOR * self._limit

    @property
    def has_part(self) -> bool:
        """Whether a line has begun to arrive."""
        return bool(self._buffer)

    def feed(self, chunk: bytes) -> list[bytes | Oversized]:
        """The lines that end in the chunk, and those that have become too large."""
        lines: list[bytes | Oversized] = []
        *parts, rest = chunk.split(b"\n")
        for part in parts:
            lines += self._add(part)
            if not self._discarded:
                # A small text can need much memory.
                is_dense = self._buffer.count(b"{") + self._buffer.count(b"[") > self._max_containers
                lines.append(Oversized(bytes(self._buffer[:_HEAD])) if is_dense else bytes(self._buffer))
            self._buffer.clear()
            self._discarded = 0
        return lines + self._add(rest)

    def _add(self, part: bytes) -> list[Oversized]:
        if self._discarded:
            self._discarded += len(part)
            return []
        self._buffer += part
        if len(self._buffer) <= self._limit:
            return []
        self._discarded = len(self._buffer)
        head = bytes(self._buffer[:_HEAD])
        self._buffer.clear()
        return [Oversized(head)]


class Writer:
    """Bytes that wait to be written to a descriptor that does not block."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.pending = bytearray()
        self.last_read = time.monotonic()  # when the reader took something, or began

    def write(self) -> bool:
        """Write what the reader takes now. Returns False if it has gone."""
        try:
            while self.pending:
                count = os.write(self.fd, self.pending[:_CHUNK])
                del self.pending[:count]
                self.last_read = time.monotonic()
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True


class Client:
    """A connected command."""

    def __init__(self, connection: socket.socket, lines: Lines) -> None:
        self.connection = connection
        self.lines = lines
        self.writer = Writer(connection.fileno())
        self.requests: dict[str | int, int] = {}  # our id by the client's

    @property
    def has_calls(self) -> bool:
        return bool(self.requests)


class Keeper:
    """Serves one server to all clients. ``order`` says what to start; its keys are those of ``KeepOrder``."""

    def __init__(self, path: str, order: dict[str, Any]) -> None:
        self._path = path
        self._order = order
        self._idle = float(order["idle"])
        self._limit = int(order["max_bytes"])
        self._max_containers = int(order["max_containers"])
        self._selector = selectors.DefaultSelector()
        self._clients: dict[int, Client] = {}
        self._last_used = time.monotonic()
        self._started = time.time()
        self._next_id = 0
        self._open: dict[int, tuple[Client, Any]] = {}  # the client and its id, by our id
        self._methods: dict[int, str] = {}  # by our id
        self._tokens: dict[str, tuple[Client, Any]] = {}  # the client and its progress token, by ours
        self._asked: dict[str, tuple[Client, Any]] = {}  # the client and the server's id, by the id that the client got
        self._greeting: dict[str, Any] | None = None  # the server's answer to initialize
        self._greeted = False  # whether notifications/initialized was sent
        self._waiting_greetings: list[tuple[Client, Any]] = []  # clients and ids that wait for it
        self._stderr = bytearray()
        self._ending = False
        self._is_paused = False  # whether the server's output waits for a client that reads slowly
        self._is_read = False  # whether a client has come, and the server's output is read

    # Start and end.

    def start(self) -> None:
        """Listen, and start the server. Raises OSError."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listener.bind(self._path)
        finally:
            os.umask(before)
        listener.listen(16)
        listener.setblocking(False)
        self._listener = listener
        self._inode = os.stat(self._path).st_ino
        self._start_server()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def _read_server(self) -> None:
        """Begin to read what the server writes: with the first client, so that it learns of an early end."""
        self._is_read = True
        for fd, handler in ((self._stdout, self._read_stdout), (self._stderr_fd, self._read_stderr)):
            self._selector.register(fd, selectors.EVENT_READ, handler)

    def _start_server(self) -> None:
        order = self._order
        (input_read, input_write), (output_read, output_write), (error_read, error_write) = (os.pipe() for _ in "123")
        reaper_read, self._reaper = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                for source, target in ((input_read, 0), (output_write, 1), (error_write, 2)):
                    os.dup2(source, target)
                os.closerange(3, 256)
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.signal(signal.SIGHUP, signal.SIG_DFL)
                if order["cwd"]:
                    os.chdir(order["cwd"])
                os.execve(order["program"], order["argv"], order["env"])
            except OSError as error:
                os.write(2, f"cannot start: {error.strerror}\n".encode())
            finally:
                os._exit(127)
        self.pid = pid
        watcher = os.fork()
        if watcher == 0:  # a shell that ends the server if we are killed
            os.setsid()
            os.dup2(reaper_read, 0)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            os.closerange(3, 256)
            os.execv("/bin/sh", ["/bin/sh", "-c", order["reaper"]])
        os.write(self._reaper, f"+ {pid}\n".encode())
        self._watcher = watcher
        for fd in (input_read, output_write, error_write, reaper_read):
            os.close(fd)
        self._stdin = Writer(input_write)
        self._stdout, self._stderr_fd = output_read, error_read
        self._server_lines = self._new_lines()
        self._arrival_told = 0.0
        for fd in (input_write, output_read, error_read):
            os.set_blocking(fd, False)

    def _new_lines(self) -> Lines:
        return Lines(self._limit, self._max_containers)

    def run(self) -> None:
        """Serve until the server has gone, or nobody was connected for the idle time."""
        next_check = time.monotonic() + _CHECK_INTERVAL
        while not self._ending:
            now = time.monotonic()
            idle = self._idle if self._is_read else _FIRST_WAIT
            if not self._clients and now - self._last_used >= idle:
                break
            if now >= next_check:
                if not self._owns_socket():
                    break
                next_check = now + _CHECK_INTERVAL
            wait = next_check - now
            if not self._clients:
                wait = min(wait, self._last_used + idle - now)
            if self._is_paused:
                wait = min(wait, _PATIENCE / 10)
            for key, mask in self._selector.select(max(0.0, wait)):
                key.data(mask)
            if self._is_paused:
                self._regulate()
        self._end()

    def _regulate(self) -> None:
        """Read nothing of the server while much waits for a client that reads: none is dropped for its speed."""
        now = time.monotonic()
        is_slow = any(
            len(client.writer.pending) > _PAUSE_PENDING and now - client.writer.last_read < _PATIENCE
            for client in self._clients.values()
        )
        if is_slow and not self._is_paused and self._stdout in self._selector.get_map():
            self._selector.unregister(self._stdout)
            self._is_paused = True
        elif not is_slow and self._is_paused:
            self._selector.register(self._stdout, selectors.EVENT_READ, self._read_stdout)
            self._is_paused = False

    def _owns_socket(self) -> bool:
        try:
            return os.stat(self._path).st_ino == self._inode
        except OSError:
            return False

    def _end(self) -> None:
        if self._owns_socket():
            os.unlink(self._path)
        code = self._stop_server()
        for client in list(self._clients.values()):
            self._send(client, {"keeper": "exit", "code": code})
        self._part()
        os.write(self._reaper, f"- {self.pid}\n".encode())
        os.close(self._reaper)

    def _part(self) -> None:
        """Let each client read what waits for it, until it closes its connection.

        A connection that is closed before what the client sent was read would be broken for it, its last lines lost.
        """
        end = time.monotonic() + _GRACE
        waiting = list(self._clients.values())
        while waiting and time.monotonic() < end:
            for client in list(waiting):
                if not client.writer.write() or self._is_closed(client):
                    waiting.remove(client)
            time.sleep(0.01)

    def _is_closed(self, client: Client) -> bool:
        """Say that nothing more comes, once all is written, and discard what the client sends until it closes."""
        try:
            if not client.writer.pending:
                client.connection.shutdown(socket.SHUT_WR)
            return not client.connection.recv(_CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _stop_server(self) -> int | None:
        """Stop the server's process group as an ordinary command does. Returns its exit code."""
        os.close(self._stdin.fd)
        code = self._wait(_GRACE)
        if code is None:
            self._kill(signal.SIGTERM)
            code = self._wait(_GRACE)
        self._kill(signal.SIGKILL)
        return self._wait(_GRACE) if code is None else code

    def _wait(self, seconds: float) -> int | None:
        end = time.monotonic() + seconds
        while True:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                return -1
            if pid:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() >= end:
                return None
            time.sleep(0.01)

    def _kill(self, number: int) -> None:
        try:
            os.killpg(self.pid, number)
        except OSError:
            pass

    # Clients.

    def _accept(self, mask: int) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if not is_own_user(connection) or len(self._clients) >= _MAX_CLIENTS:
            connection.close()
            return
        connection.setblocking(False)
        client = Client(connection, self._new_lines())
        self._clients[connection.fileno()] = client
        self._selector.register(connection, selectors.EVENT_READ, lambda mask: self._serve(client, mask))
        self._send(client, {
            "keeper": "hello", "pid": self.pid, "name": self._order["name"], "folder": self._order["folder"],
            "since": self._started, "clients": len(self._clients), "idle": self._idle,
        })  # fmt: skip
        if not self._is_read:
            self._read_server()
        if self._stderr:
            self._send(client, {"keeper": "stderr", "text": _to_text(self._stderr)})
            self._stderr.clear()

    def _serve(self, client: Client, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._flush(client)
        if not mask & selectors.EVENT_READ or client.connection.fileno() not in self._clients:
            return
        if len(self._stdin.pending) > _MAX_PENDING:
            time.sleep(0.01)  # the server does not read: nobody may fill our memory
            return
        try:
            chunk = client.connection.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._drop(client)
            return
        for line in client.lines.feed(chunk):
            if isinstance(line, Oversized):
                self._drop(client)
                return
            try:
                self._take_from_client(client, line)
            except (TypeError, ValueError, KeyError, AttributeError):  # no message of ours
                self._drop(client)
                return

    def _send(self, client: Client, message: dict[str, Any]) -> None:
        client.writer.pending += encode(message)
        self._flush(client)

    def _flush(self, client: Client) -> None:
        fd = client.writer.fd
        if fd not in self._clients:
            return
        if not client.writer.write() or len(client.writer.pending) > _MAX_PENDING:
            self._drop(client)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.writer.pending else 0)
        self._selector.modify(client.connection, events, lambda mask: self._serve(client, mask))
        if len(client.writer.pending) > _PAUSE_PENDING and not self._is_paused:
            self._regulate()

    def _drop(self, client: Client) -> None:
        """Forget a client: cancel its requests at the server, and refuse what the server asked it."""
        fd = client.writer.fd
        if self._clients.pop(fd, None) is None:
            return
        self._selector.unregister(client.connection)
        client.connection.close()
        for number in list(client.requests.values()):
            self._open.pop(number, None)
            if self._methods.pop(number, "") != "initialize":
                params = {"requestId": number, "reason": "the client has gone"}
                self._to_server({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
        self._tokens = {token: owner for token, owner in self._tokens.items() if owner[0] is not client}
        self._waiting_greetings = [waiting for waiting in self._waiting_greetings if waiting[0] is not client]
        for asked, (owner, server_id) in list(self._asked.items()):
            if owner is client:
                del self._asked[asked]
                self._refuse(server_id, "the client has gone")
        self._last_used = time.monotonic()

    def _take_from_client(self, client: Client, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            return
        if not isinstance(message, dict):
            return
        if message.get("keeper") == "stop":
            self._ending = bool(message.get("force")) or len(self._clients) == 1
            if not self._ending:
                self._drop(client)
            return
        if message.get("keeper") == "idle":
            self._idle = float(message["seconds"])
            return
        method, number = message.get("method"), message.get("id")
        if method is None:
            self._answer_server(client, message)
        elif number is None:
            self._notify_server(client, method, message)
        else:
            self._ask_server(client, method, number, message)

    def _ask_server(self, client: Client, method: str, number: Any, message: dict[str, Any]) -> None:
        if method == "initialize":
            if self._greeting is not None:
                self._send(client, {**self._greeting, "id": number})
                return
            self._waiting_greetings.append((client, number))
            if len(self._waiting_greetings) > 1:
                return
        self._next_id += 1
        self._open[self._next_id] = (client, number)
        self._methods[self._next_id] = method
        if isinstance(number, (str, int)):
            client.requests[number] = self._next_id
        if len(client.requests) > _MAX_OPEN:
            self._drop(client)
            return
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        meta = params.get("_meta")
        if isinstance(meta, dict) and "progressToken" in meta:
            token = f"k{self._next_id}"
            self._tokens[token] = (client, meta["progressToken"])
            message = {**message, "params": {**params, "_meta": {**meta, "progressToken": token}}}
        self._to_server({**message, "id": self._next_id})

    def _notify_server(self, client: Client, method: str, message: dict[str, Any]) -> None:
        if method == "notifications/initialized":
            if not self._greeted:
                self._greeted = True
                self._to_server(message)
            return
        params = message.get("params")
        if method == "notifications/cancelled" and isinstance(params, dict):
            request = params.get("requestId")
            number = client.requests.pop(request, None) if isinstance(request, (str, int)) else None
            if number is not None:  # the server does not answer it then
                self._open.pop(number, None)
                self._methods.pop(number, None)
                self._to_server({**message, "params": {**params, "requestId": number}})
            return
        self._to_server(message)

    def _answer_server(self, client: Client, message: dict[str, Any]) -> None:
        """Pass a client's answer on, if the server asked this client."""
        number = message.get("id")
        owner, server_id = self._asked.get(number, (None, None)) if isinstance(number, str) else (None, None)
        if owner is client and isinstance(number, str):
            del self._asked[number]
            self._to_server({**message, "id": server_id})

    # The server.

    def _to_server(self, message: dict[str, Any]) -> None:
        self._stdin.pending += encode(message)
        if len(self._stdin.pending) > 2 * _MAX_PENDING:  # the server floods us and reads nothing
            self._ending = True
            return
        self._write_stdin(selectors.EVENT_WRITE)

    def _write_stdin(self, mask: int) -> None:
        if not self._stdin.write():
            self._ending = True
            return
        is_registered = self._stdin.fd in self._selector.get_map()
        if self._stdin.pending and not is_registered:
            self._selector.register(self._stdin.fd, selectors.EVENT_WRITE, self._write_stdin)
        elif not self._stdin.pending and is_registered:
            self._selector.unregister(self._stdin.fd)

    def _read_stderr(self, mask: int) -> None:
        chunk = self._read(self._stderr_fd)
        if chunk == b"":
            self._selector.unregister(self._stderr_fd)
        elif chunk and self._clients:
            for client in list(self._clients.values()):
                self._send(client, {"keeper": "stderr", "text": _to_text(chunk)})
        elif chunk:
            self._stderr = (self._stderr + chunk)[-_MAX_STDERR:]

    def _read_stdout(self, mask: int) -> None:
        chunk = self._read(self._stdout)
        if chunk == b"":
            self._ending = True
            return
        for line in self._server_lines.feed(chunk or b""):
            if isinstance(line, Oversized):
                self._refuse_oversized(line)
            elif line.strip():
                try:
                    self._take_from_server(line)
                except (TypeError, ValueError, KeyError, AttributeError):
                    continue  # no message of the protocol
        if self._server_lines.has_part:
            self._tell_arrival()
        self._ending = self._ending or self._server_lines.is_endless

    def _tell_arrival(self) -> None:
        """Tell those who wait for an answer that one is arriving, by a space before the next line."""
        now = time.monotonic()
        if now - self._arrival_told >= _ARRIVAL_INTERVAL:
            self._arrival_told = now
            for client in list(self._clients.values()):
                if client.has_calls:
                    client.writer.pending += b" "
                    self._flush(client)

    def _read(self, fd: int) -> bytes | None:
        """What can be read now; None for nothing, empty at the end."""
        try:
            return os.read(fd, _CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _refuse_oversized(self, line: Oversized) -> None:
        """Answer the request whose answer was too large. Every open one, if the line does not begin with its id."""
        text = f"the answer is larger than {self._limit:,} bytes (limits.max_message) and was discarded"
        match = _ID_FIRST.match(line.head)
        for number in [int(match[1])] if match else list(self._open):
            self._answer_client({"jsonrpc": "2.0", "id": number, "error": {"code": _TOO_LARGE, "message": text}})

    def _take_from_server(self, line: bytes) -> None:
        try:
            value = json.loads(line.decode(errors="replace"))
        except (ValueError, RecursionError):
            value = None
        messages = value if isinstance(value, list) else [value]
        if not all(isinstance(message, dict) and "jsonrpc" in message for message in messages):
            for client in list(self._clients.values()):
                self._send(client, {"keeper": "stray", "text": _to_text(line[:_CHUNK])})
            return
        for message in messages:
            method = message.get("method")
            if method is None:
                self._answer_client(message)
            elif "id" in message:
                self._ask_client(method, message)
            else:
                self._notify_clients(method, message)

    def _answer_client(self, message: dict[str, Any]) -> None:
        number = message.get("id")
        if isinstance(number, str) and number.isdecimal():  # some servers answer with their own kind of id
            number = int(number)
        client, original = self._open.pop(number, (None, None)) if isinstance(number, int) else (None, None)
        method = self._methods.pop(number, "") if isinstance(number, int) else ""
        self._tokens.pop(f"k{number}", None)
        if method == "initialize":
            if "result" in message:
                self._greeting = message
            for waiting, waiting_id in self._waiting_greetings:
                self._send(waiting, {**message, "id": waiting_id})
            self._waiting_greetings = []
        if client is None:
            return
        if isinstance(original, (str, int)):
            client.requests.pop(original, None)
        if method != "initialize":
            self._send(client, {**message, "id": original})

    def _ask_client(self, method: str, message: dict[str, Any]) -> None:
        """Send a request of the server to the client that has calls open."""
        if method == "ping":
            self._to_server({"jsonrpc": "2.0", "id": message["id"], "result": {}})
            return
        if len(self._asked) >= _MAX_OPEN:
            self._refuse(message["id"], "too many requests wait for an answer")
            return
        busy = [client for client in self._clients.values() if client.has_calls]
        if len(busy) != 1:
            reason = "nobody is connected" if not busy else "several clients have calls open: it is not clear whose"
            self._refuse(message["id"], reason)
            return
        self._next_id += 1
        number = f"k{self._next_id}"
        self._asked[number] = (busy[0], message["id"])
        self._send(busy[0], {**message, "id": number})

    def _refuse(self, server_id: Any, reason: str) -> None:
        error = {"code": -32603, "message": f"mcpchat keeps this server: {reason}"}
        self._to_server({"jsonrpc": "2.0", "id": server_id, "error": error})

    def _notify_clients(self, method: str, message: dict[str, Any]) -> None:
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        if method == "notifications/progress":
            token = params.get("progressToken")
            client, original = self._tokens.get(token, (None, None)) if isinstance(token, str) else (None, None)
            if client is not None:
                self._send(client, {**message, "params": {**params, "progressToken": original}})
            return
        if method == "notifications/cancelled":
            for asked, (owner, server_id) in list(self._asked.items()):
                if server_id == params.get("requestId"):
                    del self._asked[asked]
                    self._send(owner, {**message, "params": {**params, "requestId": asked}})
            return
        for client in list(self._clients.values()):
            self._send(client, message)


def is_own_user(connection: socket.socket) -> bool:
    """Whether the process at the other end belongs to our user, where the system tells."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the socket's folder is closed to others
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return bool(uid == os.getuid())


def main() -> int:
    """Read what to start, say whether it works, and serve until the end."""
    order = json.loads(sys.stdin.buffer.readline())
    if os.fork():
        return 0  # the command that started us need not wait for our end
    keeper = Keeper(sys.argv[1], order)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        keeper.start()
    except OSError as error:
        sys.stdout.write(f"error {error.strerror}\n")
        return 1
    signal.signal(signal.SIGTERM, lambda number, frame: setattr(keeper, "_ending", True))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    keeper.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
