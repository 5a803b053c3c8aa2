"""Servers that stay after a command: finds, starts and stops their keepers, and connects to them.

Each kept server has a socket in a private folder, named after the server and a digest of everything that makes it this
server: program, arguments, environment, folder and mcpchat's version.
"""

import asyncio
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import Struct

from mcpchat.errors import ServerError, StoreError
from mcpchat.mcp import keeper as keeper_program
from mcpchat.mcp.process import OutputLog
from mcpchat.mcp.reaper import REAPER_SCRIPT
from mcpchat.util.file_lock import locked
from mcpchat.util.private_files import ensure_private_directory
from mcpchat.version import __version__

IS_SUPPORTED = hasattr(socket, "AF_UNIX") and sys.platform != "win32"
_MAX_PATH = 100  # bytes that the address of a Unix socket can have, with some to spare
_TIMEOUT = 10.0  # seconds for a keeper's start, and for its first line
_TERMINAL_VARIABLES = frozenset({"TERM"})  # another terminal is no other server
_MAX_NAME = 24  # characters of the server's name in the socket's


@dataclass(frozen=True, kw_only=True)
class KeepOrder:
    """What a keeper starts, and how long it stays idle, in seconds."""

    name: str
    program: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str | None
    idle: float
    max_bytes: int
    max_containers: int  # objects and arrays in one message
    files: Sequence[tuple[str, int]] = ()  # programs and scripts with their times: a changed one is another server

    @property
    def key(self) -> str:
        """A digest of everything that makes it this server."""
        program = [self.program, list(self.argv), list(self.files)]
        variables = sorted((name, value) for name, value in self.env.items() if name not in _TERMINAL_VARIABLES)
        parts = [__version__, self.name, program, variables, self._folder]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]

    @property
    def _folder(self) -> str:
        return self.cwd or str(Path.cwd())

    def encode(self) -> bytes:
        order = {
            "name": self.name, "program": self.program, "argv": list(self.argv), "env": dict(self.env),
            "cwd": self._folder, "folder": self._folder, "idle": self.idle, "max_bytes": self.max_bytes,
            "max_containers": self.max_containers, "reaper": REAPER_SCRIPT,
        }  # fmt: skip
        return json.dumps(order).encode() + b"\n"


class KeptServer(Struct, frozen=True, kw_only=True):
    """A server that is kept: its process id, the folder it was started in, since when (epoch seconds), its clients.

    A remote server, of which only a session is kept, has no process id.
    """

    name: str
    pid: int | None
    folder: str
    since: float
    idle: float
    clients: int = 0


def keeper_folder(environ: Mapping[str, str], state: Path) -> Path:
    """The folder of the sockets: of the user's session, else of mcpchat's state, if the path is short enough."""
    runtime = environ.get("XDG_RUNTIME_DIR")
    candidates = [Path(runtime) / "mcpchat"] if runtime and Path(runtime).is_dir() else []
    candidates.append(state / "kept")
    longest = _MAX_NAME + 32
    for folder in candidates:
        if len(os.fsencode(folder)) + longest < _MAX_PATH:
            return folder
    digest = hashlib.sha256(os.fsencode(state)).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"mcpchat-{os.getuid()}-{digest}"


class KeptProcess:
    """A connection to a kept server: what a connection needs of a ``ServerProcess``.

    ``stop`` ends the connection; the server stays.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        path: Path,
        pid: int,
        on_log: Callable[[str], None],
        redact: Callable[[str], str],
    ) -> None:
        self.stdin, self.stdout = writer, reader
        self.pid = pid
        self._path = path
        self.exit_code: int | None = None
        self._output = OutputLog(on_log, redact)

    @property
    def log(self) -> tuple[str, ...]:
        return tuple(self._output.lines)

    @property
    def stray_output(self) -> str:
        return self._output.stray_output

    def add_to_log(self, line: bytes) -> None:
        """Take a line that is no message: the keeper's own, which tell what the server wrote, or that it has ended."""
        try:
            told = json.loads(line)
        except ValueError:
            return
        text = str(told.get("text", "")).encode(errors="surrogateescape")
        match told.get("keeper"):
            case "exit":
                self.exit_code = told["code"] if isinstance(told.get("code"), int) else -1
                self._output.end()
            case "stderr":
                self._output.feed(text)
            case "stray":
                self._output.add_stray(text)

    async def stop(self) -> None:
        self.stdin.close()
        with suppress(OSError):
            await self.stdin.wait_closed()

    async def discard(self) -> None:
        """Stop the server itself, unless others use it: it did not start as it should."""
        await self.stop()
        await asyncio.to_thread(_ask, self._path, {"keeper": "stop"})

    async def final_log(self) -> tuple[str, ...]:
        """The log of a server that has ended, after the keeper's last lines have arrived."""
        with suppress(TimeoutError, OSError):  # OSError: the keeper was killed
            async with asyncio.timeout(0.5):
                while line := await self.stdout.readline():
                    self.add_to_log(line)
        self._output.end()
        return self.log


async def open_kept(
    order: KeepOrder, folder: Path, *, on_log: Callable[[str], None], redact: Callable[[str], str]
) -> KeptProcess:
    """Connect to the kept server, which is started if it does not run. Raises ServerError."""
    path = folder / f"{order.name[:_MAX_NAME]}-{order.key}.sock"
    try:
        ensure_private_directory(folder)
        async with locked(folder, "start", timeout=_TIMEOUT):
            connected = await _connect(path)
            if connected is None:
                await asyncio.to_thread(_start, order, path)
                connected = await _connect(path)
            if connected is None:
                raise ServerError("its keeper does not answer", hint="mcpchat servers stop --all, then try again")
    except StoreError as error:
        raise ServerError(error.message, hint=error.hint) from error
    reader, writer, hello = connected
    if hello["idle"] != order.idle:
        writer.write(json.dumps({"keeper": "idle", "seconds": order.idle}).encode() + b"\n")
    return KeptProcess(reader, writer, path=path, pid=hello["pid"], on_log=on_log, redact=redact)


_Connected = tuple[asyncio.StreamReader, asyncio.StreamWriter, dict[str, Any]]


async def _connect(path: Path) -> _Connected | None:
    """Connect and read the keeper's first line; None if there is no keeper."""
    try:
        async with asyncio.timeout(_TIMEOUT):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                hello = json.loads(await reader.readline())
                if hello["keeper"] == "hello":
                    return reader, writer, hello
            except (ValueError, KeyError, TypeError):
                pass
            writer.close()
    except (OSError, TimeoutError):
        pass
    return None


def _start(order: KeepOrder, path: Path) -> None:
    """Start a keeper and wait until it listens. Raises ServerError."""
    path.unlink(missing_ok=True)  # of a keeper that was killed
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", keeper_program.__file__, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
        env={},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process, process.stdin, process.stdout:
        try:
            process.stdin.write(order.encode())
            process.stdin.flush()
            answer = process.stdout.readline().decode(errors="replace").strip()
        except OSError:
            answer = ""
    if answer != "ready":
        raise ServerError(f"its keeper does not start: {answer.removeprefix('error ') or 'it ended at once'}")


def list_kept(folder: Path) -> Iterator[tuple[Path, KeptServer]]:
    """The kept servers, each with its socket. Sockets without a keeper are removed."""
    for path in sorted(folder.glob("*.sock")) if folder.is_dir() else ():
        hello = _ask(path)
        if hello is None:
            path.unlink(missing_ok=True)
            continue
        yield (
            path,
            KeptServer(
                name=str(hello["name"]),
                pid=int(hello["pid"]),
                folder=str(hello["folder"]),
                since=float(hello["since"]),
                idle=float(hello["idle"]),
                clients=int(hello["clients"]) - 1,  # without us
            ),
        )


def stop_kept(path: Path) -> None:
    """Stop a kept server and its keeper, and wait until both have ended."""
    _ask(path, {"keeper": "stop", "force": True})


def _ask(path: Path, message: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """The keeper's first line; None without a keeper. With a message, wait until it ends the connection, if it does."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_TIMEOUT)
            connection.connect(str(path))
            with connection.makefile("rwb") as stream:
                hello: dict[str, Any] = json.loads(stream.readline())
                if message is not None:
                    stream.write(json.dumps(message).encode() + b"\n")
                    stream.flush()
                    while stream.readline():
                        pass
        return hello if hello.get("keeper") == "hello" else None
    except (OSError, ValueError):
        return None
