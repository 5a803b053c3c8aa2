"""Access to local files, limited to the folders that the user allowed."""

import os
import re
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mcp.server.mcpserver.exceptions import ToolError

MAX_NAME_BYTES = 200  # of a file name
_RESERVED_NAMES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


class AllowedFolders:
    """Folders that the server may read and write.

    ``allowed`` are absolute paths with links resolved; relative paths start at the first one.
    """

    def __init__(self, allowed: Sequence[Path]) -> None:
        self._allowed = tuple(allowed)

    def describe(self) -> str:
        return ", ".join(str(folder) for folder in self._allowed)

    def resolve(self, path: str) -> Path:
        """Return the path with links resolved. Raises ToolError if it is not in an allowed folder."""
        if not self._allowed:
            raise ToolError(
                'no local folder is allowed: the user adds folders = ["~/Downloads"] to this server in '
                "mcpchat's config, or starts the server with --folder"
            )
        if "\0" in path:
            raise ToolError("the path contains a NUL character")
        try:
            resolved = (self._allowed[0] / Path(path).expanduser()).resolve()
        except (OSError, RuntimeError) as error:
            raise ToolError(f"{path!r} cannot be resolved") from error
        folder = next((allowed for allowed in self._allowed if resolved.is_relative_to(allowed)), None)
        if folder is not None and not folder.is_dir():
            raise ToolError(f"the folder {str(folder)!r}, which the user allowed, does not exist: create it first")
        if folder is None:
            raise ToolError(f"{path!r} is outside the folders that the user allowed: {self.describe()}")
        return resolved

    def _relative_parts(self, path: Path) -> tuple[str, ...]:
        """Return the parts of the path below the allowed folder."""
        folder = next(allowed for allowed in self._allowed if path.is_relative_to(allowed))
        return path.relative_to(folder).parts

    @contextmanager
    def open_for_reading(self, path: str, *, max_bytes: int) -> Iterator[tuple[BinaryIO, int, str]]:
        """Open a file for reading; yields the file, its size in bytes and its name.

        Raises ToolError if the file cannot be read, is not a regular file or has more than ``max_bytes``.
        """
        resolved = self.resolve(path)
        try:
            descriptor = os.open(resolved, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        except OSError as error:
            raise ToolError(f"cannot read {path!r}: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as file:
            file_stat = os.fstat(file.fileno())
            if not stat.S_ISREG(file_stat.st_mode):
                raise ToolError(f"{path!r} is not a file")
            if file_stat.st_size > max_bytes:
                raise ToolError(f"{path!r} has {file_stat.st_size:,} bytes; the limit is {max_bytes:,}")
            yield file, file_stat.st_size, resolved.name

    @contextmanager
    def open_for_writing(self, path: str | None, name: str) -> Iterator[tuple[BinaryIO, Path]]:
        """Open a new file for writing; yields the file and its final path. Never replaces an existing file.

        The file appears under its final path only when it is complete. ``path`` is a file or an existing folder;
        ``name`` is the file name if ``path`` is a folder or None. Raises ToolError if the file cannot be written.
        """
        target = self.resolve(path or ".")
        try:
            if path is None or path.endswith(("/", os.sep)) or target.is_dir():
                target = self.resolve(str(target / sanitize_file_name(name)))
            if any(component.startswith(".") for component in self._relative_parts(target)):
                raise ToolError(f"{str(target)!r}: hidden files and folders are not written")
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
    """Move the file to ``target``. Raises FileExistsError if that exists.

    If the file system has no hard links, there is a race: another program could create ``target`` in between.
    """
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:
        if target.exists():
            raise FileExistsError from None
        temporary.replace(target)


def sanitize_file_name(name: str) -> str:
    """Make a remote file's name valid on every system: no separators or unprintable characters, not hidden."""
    cleaned = "".join("_" if c in '/\\:*?"<>|' or not c.isprintable() else c for c in name).strip(" .")
    stem, dot, suffix = cleaned.rpartition(".")
    if not dot or len(suffix) > 20:
        stem, suffix = cleaned, ""
    max_stem_bytes = MAX_NAME_BYTES - len(suffix.encode()) - 1
    stem = stem.encode()[:max_stem_bytes].decode(errors="ignore").rstrip(" .")
    cleaned = f"{stem}.{suffix}" if suffix and stem else stem or suffix
    return f"_{cleaned}" if not cleaned or _RESERVED_NAMES.fullmatch(cleaned) else cleaned
