"""Sessions with HTTP servers that go on after a command: a private file for each has the id and the server's greeting.

The file's modification time is when the session was last used.
"""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from mcpchat.errors import StoreError
from mcpchat.mcp.kept_servers import KeptServer
from mcpchat.util.private_files import read_private, write_private

_MAX_NAME = 24  # characters of the server's name in the file's
_SUFFIX = ".session"


class KeptSession(Struct, frozen=True, kw_only=True):
    """A session: its id, the server's result of ``initialize``, and the folder and time (epoch seconds) of its start.

    ``idle`` is how many seconds it may be unused.
    """

    name: str
    session_id: str
    greeting: dict[str, Any]
    folder: str
    since: float
    idle: float


@dataclass(frozen=True, kw_only=True)
class SessionFile:
    """Where the session with one server is kept: the server by its name, and by the ``key`` of its settings and login.

    ``idle`` is how many seconds it may be unused.
    """

    folder: Path
    name: str
    key: str
    idle: float

    @property
    def path(self) -> Path:
        digest = hashlib.sha256(f"{self.name}\n{self.key}\n{Path.cwd()}".encode()).hexdigest()[:24]
        return self.folder / f"{self.name[:_MAX_NAME]}-{digest}{_SUFFIX}"

    def load(self) -> KeptSession | None:
        """The session; None if there is none. One that was unused for too long is forgotten, as is a damaged file."""
        session = _load(self.path)
        if session is not None and _unused_seconds(self.path) <= self.idle:
            return session
        forget_session(self.path)
        return None

    def save(self, session_id: str, greeting: Mapping[str, Any]) -> None:
        """Keep a new session. Write errors are ignored: the next command starts another one."""
        forget_expired(self.folder)
        session = KeptSession(
            name=self.name,
            session_id=session_id,
            greeting=dict(greeting),
            folder=str(Path.cwd()),
            since=time.time(),
            idle=self.idle,
        )
        with suppress(StoreError, ValueError):
            write_private(self.path, msgspec.json.encode(session), durable=False)

    def touch(self) -> None:
        """Record that the session is in use."""
        with suppress(OSError):
            os.utime(self.path)

    def forget(self, session_id: str) -> None:
        """Forget this session, not one that another command has started since."""
        session = _load(self.path)
        if session is None or session.session_id == session_id:
            forget_session(self.path)


def session_folder(state: Path) -> Path:
    """The folder of the files, below mcpchat's state."""
    return state / "sessions"


def list_sessions(folder: Path) -> Iterator[tuple[Path, KeptServer]]:
    """The kept sessions, each with its file."""
    forget_expired(folder)
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        if (session := _load(path)) is not None:
            kept = KeptServer(
                name=session.name, pid=None, folder=session.folder, since=session.since, idle=session.idle
            )
            yield path, kept


def forget_expired(folder: Path) -> None:
    """Remove the files of sessions that were unused for too long, and damaged files."""
    for path in folder.glob(f"*{_SUFFIX}"):
        session = _load(path)
        if session is None or _unused_seconds(path) > session.idle:
            forget_session(path)


def forget_session(path: Path) -> None:
    """Remove the file of a session."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _load(path: Path) -> KeptSession | None:
    try:
        data = read_private(path)
        return msgspec.json.decode(data, type=KeptSession) if data is not None else None
    except (StoreError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _unused_seconds(path: Path) -> float:
    """How long the session was not used; without end if its file has gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")
