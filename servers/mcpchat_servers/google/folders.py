"""The folders of this machine that the user lets a server read and write files in; nothing outside is touched."""

import os
import re
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mcp.server.mcpserver.exceptions import ToolError

MAX_NAME_BYTES = 200  # bytes
_RESERVED_NAMES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


class AllowedFolders:
    """``allowed`` folders are absolute, with links resolved; the first is where relative paths begin."""

    def __init__(self, allowed: Sequence[Path]) -> None:
        self._allowed = tuple(allowed)

    def describe(self) -> str:
        return ", ".join(str(folder) for folder in self._allowed)

    def resolve(self, path: str) -> Path:
        """The path with links resolved. Raises ToolError where it lies in no allowed folder."""
        if not self._allowed:
            raise ToolError(
                'no folder of this machine is allowed: the user adds folders = ["~/Downloads"] to this server in '
                "mcpchat's config, or starts the server with --folder"
            )
        if "\0" in path:
            raise ToolError("a path without NUL, please")
        try:
            resolved = (self._allowed[0] / Path(path).expanduser()).resolve()
        except (OSError, RuntimeError) as error:
            raise ToolError(f"{path!r} is no path that can be followed") from error
        folder = next((allowed for allowed in self._allowed if resolved.is_relative_to(allowed)), None)
        if folder is not None and not folder.is_dir():
            raise ToolError(f"the folder {str(folder)!r}, which the user allowed, does not exist: make it first")
        if folder is None:
            raise ToolError(f"{path!r} is outside the folders that the user allowed: {self.describe()}")
        return resolved

    def _relative_parts(self, path: Path) -> tuple[str, ...]:
        """The names that lead from an allowed folder to the file."""
        folder = next(allowed for allowed in self._allowed if path.is_relative_to(allowed))
        return path.relative_to(folder).parts

    @contextmanager
    def open_for_reading(self, path: str, *, most: int) -> Iterator[tuple[BinaryIO, int, str]]:
        """A file to read: open, with its size in bytes and its name. Raises ToolError."""
        resolved = self.resolve(path)
        try:
            descriptor = os.open(resolved, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        except OSError as error:
            raise ToolError(f"cannot read {path!r}: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as file:
            file_stat = os.fstat(file.fileno())
            if not stat.S_ISREG(file_stat.st_mode):
                raise ToolError(f"{path!r} is no file")
            if file_stat.st_size > most:
                raise ToolError(f"{path!r} has {file_stat.st_size:,} bytes; at most {most:,} are sent")
            yield file, file_stat.st_size, resolved.name

    @contextmanager
    def open_for_writing(self, path: str | None, name: str) -> Iterator[tuple[BinaryIO, Path]]:
        """A new file to write, which takes its place whole and at the end, never another's. Raises ToolError.

        ``path`` is a file or an existing folder; ``name`` is what to call the file where path does not say.
        """
        target = self.resolve(path or ".")
        try:
            if path is None or path.endswith(("/", os.sep)) or target.is_dir():
                target = self.resolve(str(target / sanitize_file_name(name)))
            if any(component.startswith(".") for component in self._relative_parts(target)):
                raise ToolError(f"{str(target)!r}: nothing hidden is written, and nothing into hidden folders")
            if target.exists():
                raise ToolError(f"{target} exists already: choose another name")
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".part-")
        except OSError as error:
            raise ToolError(f"cannot write into {target.parent}: {error.strerror}") from error
        try:
            with os.fdopen(descriptor, "w+b") as file:
                yield file, target
            _move_into_place(Path(temporary), target)
        except FileExistsError as error:
            raise ToolError(f"{target} exists already: choose another name") from error
        except OSError as error:
            raise ToolError(f"cannot write {target}: {error.strerror}") from error
        finally:
            with suppress(FileNotFoundError):
                Path(temporary).unlink()


def _move_into_place(temporary: Path, target: Path) -> None:
    """Put the file where none may be. Where links cannot be made, another program could come in between."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:
        if target.exists():
            raise FileExistsError from None
        temporary.replace(target)


def sanitize_file_name(name: str) -> str:
    """A remote file's name as one that every system takes: no separators, nothing unprinted, not hidden."""
    cleaned = "".join("_" if c in '/\\:*?"<>|' or not c.isprintable() else c for c in name).strip(" .")
    stem, dot, suffix = cleaned.rpartition(".")
    if not dot or len(suffix) > 20:
        stem, suffix = cleaned, ""
    max_stem_bytes = MAX_NAME_BYTES - len(suffix.encode()) - 1
    stem = stem.encode()[:max_stem_bytes].decode(errors="ignore").rstrip(" .")
    cleaned = f"{stem}.{suffix}" if suffix and stem else stem or suffix
    return f"_{cleaned}" if not cleaned or _RESERVED_NAMES.fullmatch(cleaned) else cleaned
