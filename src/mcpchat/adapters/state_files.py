"""What the person agreed to, in private files: pins of tools, calls to be made without a question, project files."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
from filelock import FileLock, Timeout
from msgspec import Struct

from mcpchat.adapters.private_files import private_folder, read_private, write_private
from mcpchat.core.errors import StoreError
from mcpchat.core.pins import Pins
from mcpchat.core.tools import ToolSpec

_T = TypeVar("_T", bound=Struct)
_PATIENCE = 5.0  # seconds, for another process that changes the same file


def _load(path: Path, kind: type[_T]) -> _T | None:
    """Raises StoreError for a file that is damaged, a link, or another's."""
    data = read_private(path)
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is damaged", hint=f"look at it, and remove it: {path}") from error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No other mcpchat changes the file meanwhile. Raises StoreError."""
    private_folder(path.parent)
    try:
        with FileLock(path.with_suffix(".lock"), timeout=_PATIENCE, mode=0o600):
            yield
    except Timeout as error:
        raise StoreError(f"another mcpchat has been changing {path} for {_PATIENCE:.0f} s", hint="try again") from error
    except OSError as error:
        raise StoreError(f"cannot lock {path}: {error.strerror}") from error


def _save(path: Path, value: Struct) -> None:
    write_private(path, msgspec.json.encode(value))


class PinFiles:
    """A PinStore of one file for each server's identity; ``identities`` has those by the servers' names."""

    def __init__(self, folder: Path, identities: Mapping[str, str]) -> None:
        self._folder = folder
        self._identities = identities

    def load(self, server: str) -> Pins | None:
        return _load(self._path(server), Pins)

    def save(self, server: str, pins: Pins) -> None:
        _save(self._path(server), pins)

    def _path(self, server: str) -> Path:
        return self._folder / f"{self._identities[server][:32]}.json"


class Approval(Struct, frozen=True, kw_only=True):
    """A tool that needs no question: of this server and definition, and no other. ``since`` is in epoch seconds."""

    tool: str
    identity: str
    fingerprint: str
    since: float

    @property
    def date(self) -> str:
        return time.strftime("%Y-%m-%d", time.localtime(self.since))


class _Approvals(Struct, frozen=True, kw_only=True):
    approvals: tuple[Approval, ...] = ()


class ApprovalFile:
    """The Approvals in one file; ``identities`` has the servers' by their names."""

    def __init__(self, path: Path, identities: Mapping[str, str]) -> None:
        self._path = path
        self._identities = identities

    def all(self) -> tuple[Approval, ...]:
        """Raises StoreError."""
        kept = _load(self._path, _Approvals)
        return kept.approvals if kept is not None else ()

    def given(self, tool: ToolSpec) -> str:
        identity = self._identities.get(tool.server)
        try:
            kept = self.all()
        except StoreError:
            return ""  # then it is asked
        for one in kept:
            if (one.tool, one.identity, one.fingerprint) == (tool.label, identity, tool.fingerprint):
                return one.date
        return ""

    def give(self, tool: ToolSpec) -> None:
        identity = self._identities.get(tool.server)
        if identity is None:
            raise StoreError(f"{tool.server} is no configured server")
        new = Approval(tool=tool.label, identity=identity, fingerprint=tool.fingerprint, since=time.time())
        with _alone(self._path):
            kept = [one for one in self.all() if (one.tool, one.identity) != (new.tool, new.identity)]
            _save(self._path, _Approvals(approvals=(*kept, new)))

    def revoke(self, gone: set[Approval]) -> None:
        """Raises StoreError."""
        with _alone(self._path):
            _save(self._path, _Approvals(approvals=tuple(one for one in self.all() if one not in gone)))


class TrustedFile(Struct, frozen=True, kw_only=True):
    """A project file by its whole path and the SHA-256 of its content. ``since`` is in epoch seconds."""

    path: str
    sha256: str
    since: float

    @property
    def date(self) -> str:
        return time.strftime("%Y-%m-%d", time.localtime(self.since))


class _TrustedFiles(Struct, frozen=True, kw_only=True):
    files: tuple[TrustedFile, ...] = ()


class TrustFile:
    """The project files that the person trusts, in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> tuple[TrustedFile, ...]:
        """Raises StoreError."""
        kept = _load(self._path, _TrustedFiles)
        return kept.files if kept is not None else ()

    def trusts(self, path: Path, sha256: str) -> bool:
        """Whether this file was trusted with just this content. Raises StoreError."""
        return any((one.path, one.sha256) == (str(path), sha256) for one in self.all())

    def trust(self, path: Path, sha256: str) -> None:
        """Raises StoreError."""
        new = TrustedFile(path=str(path), sha256=sha256, since=time.time())
        with _alone(self._path):
            kept = [one for one in self.all() if one.path != str(path)]
            _save(self._path, _TrustedFiles(files=(*kept, new)))

    def forget(self, path: Path) -> bool:
        """Whether it was trusted. Raises StoreError."""
        with _alone(self._path):
            before = self.all()
            kept = tuple(one for one in before if one.path != str(path))
            if kept == before:
                return False
            _save(self._path, _TrustedFiles(files=kept))
            return True
