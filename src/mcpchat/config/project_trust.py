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


class ProjectTrustStore:
    """The project files that the person trusts, in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def list_files(self) -> tuple[TrustedFile, ...]:
        """Raises StoreError."""
        stored = load_json(self._path, _TrustedFiles)
        return stored.files if stored is not None else ()

    def is_trusted(self, path: Path, sha256: str) -> bool:
        """Whether this file was trusted with just this content. Raises StoreError."""
        return any((file.path, file.sha256) == (str(path), sha256) for file in self.list_files())

    def trust(self, path: Path, sha256: str) -> None:
        """Raises StoreError."""
        new = TrustedFile(path=str(path), sha256=sha256, since=time.time())
        with locked(self._path):
            others = [file for file in self.list_files() if file.path != str(path)]
            save_json(self._path, _TrustedFiles(files=(*others, new)))

    def forget(self, path: Path) -> bool:
        """Whether it was trusted. Raises StoreError."""
        with locked(self._path):
            existing = self.list_files()
            remaining = tuple(file for file in existing if file.path != str(path))
            if remaining == existing:
                return False
            save_json(self._path, _TrustedFiles(files=remaining))
            return True
