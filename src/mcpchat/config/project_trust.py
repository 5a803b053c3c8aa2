"""The project files that the user trusts."""

import time
from pathlib import Path

from msgspec import Struct

from mcpchat.util.private_json import load_json, locked, save_json


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
        kept = load_json(self._path, _TrustedFiles)
        return kept.files if kept is not None else ()

    def trusts(self, path: Path, sha256: str) -> bool:
        """Whether this file was trusted with just this content. Raises StoreError."""
        return any((one.path, one.sha256) == (str(path), sha256) for one in self.all())

    def trust(self, path: Path, sha256: str) -> None:
        """Raises StoreError."""
        new = TrustedFile(path=str(path), sha256=sha256, since=time.time())
        with locked(self._path):
            kept = [one for one in self.all() if one.path != str(path)]
            save_json(self._path, _TrustedFiles(files=(*kept, new)))

    def forget(self, path: Path) -> bool:
        """Whether it was trusted. Raises StoreError."""
        with locked(self._path):
            before = self.all()
            kept = tuple(one for one in before if one.path != str(path))
            if kept == before:
                return False
            save_json(self._path, _TrustedFiles(files=kept))
            return True
