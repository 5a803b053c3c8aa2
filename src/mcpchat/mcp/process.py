"""A server's process: started in its own process group, its stderr logged, and stopped with all its children."""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from mcpchat.errors import ServerError
from mcpchat.mcp.reaper import ProcessReaper
from mcpchat.util.sanitize import one_line

_CHUNK = 2**16  # bytes to read at once
LOG_LINES = 20  # last lines of stderr, kept for error messages
GRACE = 2.0  # seconds to wait after closing stdin, and again after SIGTERM
_POLL_INTERVAL = 0.01  # seconds
_BATCH_SPECIAL = re.compile(r"""[%!^&|<>"\r\n]""")

INHERITED_VARIABLES = (
    (
        "APPDATA",
        "HOMEDRIVE",
        "HOMEPATH",
        "LOCALAPPDATA",
        "PATH",
        "PATHEXT",
        "PROCESSOR_ARCHITECTURE",
        "SYSTEMDRIVE",
        "SYSTEMROOT",
        "TEMP",
        "USERNAME",
        "USERPROFILE",
    )
    if sys.platform == "win32"
    else ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")
)
_CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
# Without them, npx and uvx cannot download a server in a network that has a proxy.
_PROXY_VARIABLES = tuple(
    variant for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY") for variant in (name, name.lower())
)


def build_environment(
    environ: Mapping[str, str], *, passthrough: Sequence[str], overrides: Mapping[str, str]
) -> dict[str, str]:
    """A server's environment: a few harmless variables, those in ``passthrough`` if set, and ``overrides``.

    A proxy's variable is harmless unless it has a user or a password.
    """
    proxies = [name for name in _PROXY_VARIABLES if "@" not in environ.get(name, "")]
    names = (*INHERITED_VARIABLES, *_CERTIFICATE_VARIABLES, *proxies, *passthrough)
    return {name: environ[name] for name in names if name in environ} | dict(overrides)


def find_withheld_proxies(environ: Mapping[str, str], passed: Mapping[str, str]) -> list[str]:
    """The variables of proxies that a server's environment lacks because they may have a password."""
    return [name for name in _PROXY_VARIABLES if environ.get(name) and name not in passed]


def check_batch_arguments(program: str, args: Sequence[str]) -> None:
    """Raise ServerError if the program is a batch file, as npx is on Windows, and its shell would misread an argument.

    Windows runs batch files with cmd.exe, which takes some characters for commands, also within quotes.
    """
    if not program.lower().endswith((".cmd", ".bat")):
        return
    for arg in args:
        if found := _BATCH_SPECIAL.search(arg):
            raise ServerError(
                f"{one_line(arg, 100)!r}: a batch file cannot have {found[0]!r} in an argument",
                hint="start the program that it runs, such as node, with the script",
            )


class RunningServer(Protocol):
    """A server's process, as a connection uses it: our child, or one that a keeper has."""

    @property
    def stdin(self) -> asyncio.StreamWriter: ...
    @property
    def stdout(self) -> asyncio.StreamReader: ...
    @property
    def pid(self) -> int: ...
    @property
    def exit_code(self) -> int | None: ...
    @property
    def log(self) -> tuple[str, ...]: ...
    @property
    def stray_output(self) -> str: ...
    def add_to_log(self, line: bytes) -> None:
        """Record a line that is no message."""
        ...

    async def stop(self) -> None:
        """Stop the server, or leave it to its keeper."""
        ...

    async def final_log(self) -> tuple[str, ...]:
        """The log of a dying server."""
        ...


def find_program(argv: Sequence[str], env: Mapping[str, str], cwd: str | None) -> str:
    """The program's path. Raises ServerError if it or the folder is missing."""
    if cwd is not None and not Path(cwd).is_dir():
        raise ServerError(f"its folder does not exist: {cwd}", hint="check cwd in the config")
    program = shutil.which(argv[0], path=env.get("PATH")) if os.sep not in argv[0] else argv[0]
    if program is None and len(words := argv[0].split()) > 1 and shutil.which(words[0], path=env.get("PATH")):
        args = ", ".join(json.dumps(word) for word in words[1:])
        raise ServerError(
            f"command has several words: {argv[0]!r}",
            hint=f"in the config: command = {json.dumps(words[0])}, args = [{args}]",
        )
    if program is None:
        raise ServerError(f"no program named {argv[0]!r} on PATH", hint="check its command")
    return program


class OutputLog:
    """What a server writes that is no message: its stderr, and stray words on its stdout.

    ``lines`` are the last ones, redacted and sanitized; ``on_log`` gets all. ``stray_output`` is the first words on
    stdout that are no message.
    """

    def __init__(self, on_log: Callable[[str], None], redact: Callable[[str], str]) -> None:
        self._on_log = on_log
        self._redact = redact
        self.lines: deque[str] = deque(maxlen=LOG_LINES)
        self.stray_output = ""
        self._remainder = b""  # the beginning of a line that has not ended

    def feed(self, chunk: bytes) -> None:
        """Take a part of stderr."""
        *lines, remainder = (self._remainder + chunk).split(b"\n")
        self._record(lines)
        self._remainder = remainder[:_CHUNK]  # the beginning: cut at the front, the line could start within a secret

    def end(self) -> None:
        """Take note that stderr has ended."""
        self._record([self._remainder])
        self._remainder = b""

    def add_stray(self, line: bytes) -> None:
        """Take a line of stdout that is no message."""
        self._record([line[:_CHUNK]])
        self.stray_output = self.stray_output or self._redact(line[:_CHUNK].decode(errors="replace")).strip()

    def _record(self, lines: Sequence[bytes]) -> None:
        texts = [line.decode(errors="replace") for line in lines if line.strip()]
        self.lines.extend(one_line(self._redact(line), 300) for line in texts[-LOG_LINES:])
        self._on_log("\n".join(texts))


class ServerProcess:
    """A running server. ``log`` has the last lines of its stderr, redacted and sanitized; ``on_log`` gets all lines."""

    def __init__(
        self, process: Process, *, on_log: Callable[[str], None], redact: Callable[[str], str], reaper: ProcessReaper
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.stdin = process.stdin
        self.stdout = process.stdout
        self._process = process
        self._output = OutputLog(on_log, redact)
        self._reaper = reaper
        reaper.add(process.pid)
        self._log_task = asyncio.create_task(self._read_log(process.stderr))

    @classmethod
    async def spawn(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | None,
        on_log: Callable[[str], None],
        redact: Callable[[str], str],
        reaper: ProcessReaper,
    ) -> "ServerProcess":
        """Start the program in ``cwd``. ``redact`` removes secrets from its stderr.

        Raises ServerError if the program or the directory is missing, or the program cannot be started.
        """
        program = find_program(argv, env, cwd)
        check_batch_arguments(program, argv[1:])
        try:
            process = await asyncio.create_subprocess_exec(
                program,
                *argv[1:],
                env=dict(env),
                cwd=cwd,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                start_new_session=True,
                limit=4 * _CHUNK,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ServerError(f"cannot start {argv[0]!r}: {reason}", hint="check its command") from error
        return cls(process, on_log=on_log, redact=redact, reaper=reaper)

    @property
    def log(self) -> tuple[str, ...]:
        return tuple(self._output.lines)

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    @property
    def pid(self) -> int:
        return self._process.pid

    async def _read_log(self, stderr: asyncio.StreamReader) -> None:
        while chunk := await stderr.read(_CHUNK):
            self._output.feed(chunk)
        self._output.end()

    def add_to_log(self, line: bytes) -> None:
        """Record what the server wrote to stdout although it is no message."""
        self._output.add_stray(line)

    @property
    def stray_output(self) -> str:
        """The first words on stdout that are no message."""
        return self._output.stray_output

    async def stop(self) -> None:
        """Stop the whole process group: close stdin, then SIGTERM, then SIGKILL."""
        try:
            self.stdin.close()
            if not await self._wait_for_exit():
                self._signal_group(signal.SIGTERM)
                await self._wait_for_exit()
        finally:
            # Even if the leader has exited, its children may still run. This does not wait.
            self._signal_group(_KILL_SIGNAL)
        await self._wait_for_exit()
        self._reaper.remove(self.pid)
        self._log_task.cancel()
        self._process._transport.close()  # type: ignore[attr-defined]  # closes pipes that a grandchild may hold open

    async def final_log(self) -> tuple[str, ...]:
        """The log of a dying server, after its stderr has ended or half a second has passed."""
        await asyncio.wait({self._log_task}, timeout=0.5)
        await self._wait_for_exit(0.5)
        return self.log

    async def _wait_for_exit(self, timeout: float = GRACE) -> bool:
        """Whether the leader exits within ``timeout`` seconds.

        This polls, because ``Process.wait`` also waits for pipes that a grandchild may hold open.
        """
        elapsed = 0.0
        while self._process.returncode is None and elapsed < timeout:
            await asyncio.sleep(_POLL_INTERVAL)
            elapsed += _POLL_INTERVAL
        return self._process.returncode is not None

    def _signal_group(self, signal_number: int) -> None:
        try:
            if sys.platform == "win32":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal_number)
        except (ProcessLookupError, PermissionError):
            pass  # the group has ended


_KILL_SIGNAL = signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL
