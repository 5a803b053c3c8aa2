"""Files that the user names for output."""

import errno
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from mcpchat.errors import UsageError
from mcpchat.util.paths import expand_user
from mcpchat.util.sanitize import sanitize

_MAX_LINKS = 40  # as the system follows


def write_file(path: Path, chunks: Iterable[str | bytes]) -> None:
    """Write the chunks into a file that only its owner can read. A regular file is replaced atomically.

    What a link leads to is written in its place, such as /dev/stdout. Text for a terminal is made safe. Raises
    UsageError if it cannot be written, for bytes for a terminal, and as ``check_target``.
    """
    target = expand_user(path)
    try:
        check_target(target)
        if target.exists() and (target.is_symlink() or not target.is_file()):  # a pipe, a terminal
            with open_target(target) as file:
                file.writelines(_encode_chunks(_make_safe(chunks) if file.isatty() else chunks))
            return
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".mcpchat-")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(_encode_chunks(chunks))
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def check_target(path: Path) -> None:
    """Check that no other user decides what is written.

    Raises UsageError if the path leads through a link of another user, or to a file or a named pipe of one. Raises
    OSError if that cannot be found out.
    """
    if os.name != "posix":
        return
    for place in _iter_places(path.absolute()):
        info = place.lstat()
        if info.st_uid not in {os.geteuid(), 0} and not (stat.S_ISDIR(info.st_mode) or stat.S_ISCHR(info.st_mode)):
            what = "link" if stat.S_ISLNK(info.st_mode) else "file"
            raise UsageError(f"cannot write {path}: {place} is a {what} of another user", hint="name another file")


def _iter_places(path: Path) -> Iterator[Path]:
    """Yield each folder, link and file on the way to what the path names.

    What is missing ends it, and so does a file that this process has open, such as that of /dev/stdout.
    """
    place, rest, links = Path(path.anchor), list(reversed(path.parts[1:])), 0
    while rest:
        name = rest.pop()
        place = place.parent if name == ".." else place / name
        if not os.path.lexists(place):
            return
        yield place
        if place.is_symlink() and links < _MAX_LINKS:
            links += 1
            if place.parts[1] == "proc" and place.parent.name == "fd":
                return
            leads_to = place.readlink()
            rest += reversed(leads_to.parts[1:] if leads_to.is_absolute() else leads_to.parts)
            place = Path(leads_to.anchor) if leads_to.is_absolute() else place.parent


def open_target(path: Path) -> BinaryIO:
    """Open an existing file for writing, also a pipe or a terminal.

    Raises OSError if it cannot be opened, UsageError if no program reads from a named pipe: to wait for one could not
    be interrupted.
    """
    nonblocking = getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | nonblocking)
    except OSError as error:
        if error.errno != errno.ENXIO or not path.is_fifo():
            raise
        raise UsageError(f"cannot write {path}: no program reads from it", hint="start that program first") from None
    if nonblocking:
        os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "wb")


def _make_safe(chunks: Iterable[str | bytes]) -> Iterator[str]:
    for chunk in chunks:
        if isinstance(chunk, bytes):
            raise UsageError("the result is binary: it is not written to a terminal", hint="-f FILE, or | some-program")
        yield sanitize(chunk)


def _encode_chunks(chunks: Iterable[str | bytes]) -> Iterator[bytes]:
    return (chunk if isinstance(chunk, bytes) else chunk.encode(errors="replace") for chunk in chunks)
