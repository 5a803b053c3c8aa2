"""A server's process: started in a group of its own, its stderr kept, its end made certain."""

import asyncio
import os
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mcpchat.errors import ServerError
from mcpchat.mcp.reaper import Orphans
from mcpchat.util.sanitize import one_line

_CHUNK = 2**16  # bytes read at once
LOG_LINES = 20  # of stderr, kept for the error message
GRACE = 2.0  # seconds, between closing stdin, terminating and killing
_POLL = 0.01

_INHERITED = (
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
_TRUST_STORES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")


def child_environment(environ: Mapping[str, str], *, passed: Sequence[str], own: Mapping[str, str]) -> dict[str, str]:
    """What a server sees: a few harmless variables, those the config passes on, and the config's own."""
    names = (*_INHERITED, *_TRUST_STORES, *passed)
    return {name: environ[name] for name in names if name in environ} | dict(own)


class ServerProcess:
    """A running server. ``log`` holds the last lines that it wrote to stderr, cleaned; ``tell`` gets all of them."""

    def __init__(
        self, process: Process, *, tell: Callable[[str], None], redact: Callable[[str], str], orphans: Orphans
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.stdin = process.stdin
        self.stdout = process.stdout
        self._process = process
        self._tell = tell
        self._redact = redact
        self._orphans = orphans
        orphans.add(process.pid)
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._reading_log = asyncio.create_task(self._read_log(process.stderr))

    @classmethod
    async def spawn(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | None,
        tell: Callable[[str], None],
        redact: Callable[[str], str],
        orphans: Orphans,
    ) -> "ServerProcess":
        """Start the program; ``redact`` takes secrets out of what it says.

        Raises ServerError that says whether the program or the folder is missing."""
        if cwd is not None and not Path(cwd).is_dir():  # noqa: ASYNC240 - one stat
            raise ServerError(f"its folder does not exist: {cwd}", hint="check cwd in the config")
        program = shutil.which(argv[0], path=env.get("PATH")) if os.sep not in argv[0] else argv[0]
        if program is None:
            raise ServerError(f"no program named {argv[0]!r} on PATH", hint="check command in the config")
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
            raise ServerError(f"cannot start {argv[0]!r}: {reason}", hint="check command in the config") from error
        return cls(process, tell=tell, redact=redact, orphans=orphans)

    @property
    def log(self) -> tuple[str, ...]:
        return tuple(self._log)

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    @property
    def pid(self) -> int:
        return self._process.pid

    async def _read_log(self, stderr: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await stderr.read(_CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            self._keep(lines)
            rest = rest[:_CHUNK]  # its beginning: an end of it could begin within a secret
        self._keep([rest])

    def _keep(self, lines: Sequence[bytes]) -> None:
        said = [line.decode(errors="replace") for line in lines if line.strip()]
        self._log.extend(one_line(self._redact(line), 300) for line in said[-LOG_LINES:])
        self._tell("\n".join(said))

    async def stop(self) -> None:
        """End the whole process group: stdin closed, then terminate, then kill."""
        try:
            self.stdin.close()
            if not await self._left():
                self._signal_group(signal.SIGTERM)
                await self._left()
        finally:
            # Also where the leader left by itself: its children may still be there. This does not wait.
            self._signal_group(_KILL)
        await self._left()
        self._orphans.remove(self.pid)
        self._reading_log.cancel()

    async def last_words(self) -> tuple[str, ...]:
        """The log of a server that is dying, once its end has arrived or half a second has passed."""
        await asyncio.wait({self._reading_log}, timeout=0.5)
        await self._left(0.5)
        return self.log

    async def _left(self, patience: float = GRACE) -> bool:
        """Whether the leader is gone within this many seconds.

        Polled: ``Process.wait`` also waits for pipes, which a grandchild may hold open.
        """
        waited = 0.0
        while self._process.returncode is None and waited < patience:
            await asyncio.sleep(_POLL)
            waited += _POLL
        return self._process.returncode is not None

    def _signal_group(self, number: int) -> None:
        try:
            if sys.platform == "win32":
                self._process.kill()
            else:
                os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # nobody is left


_KILL = signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL
