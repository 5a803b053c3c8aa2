"""Store which project files the user trusts."""

import time
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from mcpchat.util.private_json import load_json, locked, save_json


class TrustedFile(Struct, frozen=True, kw_only=True):
    """A trusted project file: its absolute path, and the SHA-256 of its content. ``since`` is in seconds since 1970.

    ``programs`` has the SHA-256 of each file of the folder that the file's command lines name, by path.
    """

    path: str
    sha256: str
    since: float
    programs: dict[str, str] = {}

    @property
    def date(self) -> str:
        return time.strftime("%Y-%m-%d", time.localtime(self.since))


class _Decisions(Struct, frozen=True, kw_only=True):
    """What the user decided. ``ignored`` has the paths of project files that are left out without a word."""

    files: tuple[TrustedFile, ...] = ()
    ignored: tuple[str, ...] = ()


class ProjectTrustStore:
    """The trusted project files, stored in one private JSON file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def list_files(self) -> tuple[TrustedFile, ...]:
        """All trusted files. Raises StoreError if the store cannot be read."""
        return self._load().files

    def _load(self) -> _Decisions:
        return load_json(self._path, _Decisions) or _Decisions()

    def has(self, path: Path, sha256: str) -> bool:
        """Whether the file itself is trusted with this content. Raises StoreError if the store cannot be read."""
        return any((file.path, file.sha256) == (str(path), sha256) for file in self.list_files())

    def is_trusted(self, path: Path, sha256: str, programs: Mapping[str, str]) -> bool:
        """Whether the file is trusted with exactly this content. Raises StoreError if the store cannot be read."""
        return any(
            (file.path, file.sha256, file.programs) == (str(path), sha256, programs) for file in self.list_files()
        )

    def trust(self, path: Path, sha256: str, programs: Mapping[str, str]) -> None:
        """Trust the file with this content. Raises StoreError if the store cannot be changed."""
        new = TrustedFile(path=str(path), sha256=sha256, since=time.time(), programs=dict(programs))
        with locked(self._path):
            decisions = self._load()
            others = [file for file in decisions.files if file.path != str(path)]
            ignored = tuple(other for other in decisions.ignored if other != str(path))
            save_json(self._path, _Decisions(files=(*others, new), ignored=ignored))

    def ignore(self, path: Path) -> None:
        """Leave the file out without a word, until it is trusted. Raises StoreError if the store cannot be changed."""
        with locked(self._path):
            decisions = self._load()
            files = tuple(file for file in decisions.files if file.path != str(path))
            save_json(self._path, _Decisions(files=files, ignored=tuple({*decisions.ignored, str(path)})))

    def is_ignored(self, path: Path) -> bool:
        """Whether the user ignores the file. Raises StoreError if the store cannot be read."""
        return str(path) in self._load().ignored

    def forget(self, path: Path) -> bool:
        """Stop trusting or ignoring the file. Returns whether it was either. Raises StoreError if that fails."""
        with locked(self._path):
            decisions = self._load()
            files = tuple(file for file in decisions.files if file.path != str(path))
            ignored = tuple(other for other in decisions.ignored if other != str(path))
            if (files, ignored) == (decisions.files, decisions.ignored):
                return False
            save_json(self._path, _Decisions(files=files, ignored=ignored))
            return True
