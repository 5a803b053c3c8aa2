"""Files for their owner's eyes alone: 0600 in folders of 0700, written whole or not at all, never through a link."""

import errno
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from mcpchat.errors import StoreError, UsageError

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_LARGEST = 16 * 2**20


def private_folder(path: Path) -> None:
    """Make the folder, or see that it is the user's own and closed to others. Raises StoreError."""
    try:
        for missing in reversed([place for place in (path, *path.parents) if not place.exists()]):
            missing.mkdir(exist_ok=True, mode=0o700)
        found = path.lstat()
    except OSError as error:
        raise StoreError(f"cannot make {path}: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode) or not _ours(found):
        raise StoreError(f"{path} is not a folder of yours: nothing is kept there", hint=f"look at it: ls -ld {path}")
    if stat.S_IMODE(found.st_mode) & 0o077 and os.name == "posix":
        path.chmod(0o700)


def read_private(path: Path) -> bytes | None:
    """The file's bytes, None where it is missing. Raises StoreError for a link, or what is not the user's own."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        why = "a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise StoreError(f"cannot read {path}: {why}", hint="remove it") from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or not _ours(found):
            raise StoreError(f"{path} is not a file of yours: it is not read", hint="remove it")
        return file.read(_LARGEST)


def write_private(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write the file, whole or not at all; ``durable``: to the disk before this returns. Raises StoreError."""
    private_folder(path.parent)
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # 0600, O_EXCL
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(descriptor)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error


def write_file(path: Path, pieces: Iterable[str | bytes]) -> None:
    """Write the pieces into a file that only its owner can read; in its place at once, or not at all.

    Raises UsageError.
    """
    target = path.expanduser()
    try:
        if target.exists() and not target.is_file():  # a pipe, a terminal
            with target.open("wb") as file:
                file.writelines(_bytes(pieces))
            return
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".mcpchat-")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(_bytes(pieces))
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def _bytes(pieces: Iterable[str | bytes]) -> Iterator[bytes]:
    return (piece if isinstance(piece, bytes) else piece.encode(errors="replace") for piece in pieces)


def open_to_append(path: Path) -> int:
    """A descriptor of the file, made if need be, to write at its end. Raises StoreError as ``read_private`` does."""
    private_folder(path.parent)
    try:
        descriptor = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY | _NO_FOLLOW, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StoreError(f"cannot write {path}: a symbolic link", hint="remove it") from error
        raise StoreError(f"cannot write {path}: {error.strerror}", hint=f"look at it: ls -ld {path}") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or not _ours(found):
        os.close(descriptor)
        raise StoreError(f"{path} is not a file of yours: nothing is written there", hint="remove it")
    if stat.S_IMODE(found.st_mode) & 0o077 and os.name == "posix":
        os.fchmod(descriptor, 0o600)
    return descriptor


def open_to_others(path: Path) -> tuple[str, str]:
    """Who else may change the file, or put another in its place, and what to type against it; nothing where nobody may.

    Looks at each folder above it, and where links lead, as ssh does with its keys. Raises OSError.
    """
    if os.name != "posix":
        return "", ""
    here = path.absolute()
    if not stat.S_ISREG(path.stat().st_mode):
        return "", ""  # /dev/null, or what a shell passes on
    for place in dict.fromkeys((here, *here.parents, here.resolve(), *here.resolve().parents)):
        found = place.lstat()
        if found.st_uid not in {os.geteuid(), 0}:
            return f"{place} belongs to another user", f"sudo chown {os.geteuid()} {place}"
        shared = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
        if stat.S_ISLNK(found.st_mode) or shared:
            continue
        if found.st_mode & stat.S_IWOTH:
            return f"every user can write to {place}", f"chmod o-w {place}"
        if found.st_mode & stat.S_IWGRP and not _own_group(found.st_gid):
            return f"its group can write to {place}", f"chmod g-w {place}"
    return "", ""


def _own_group(number: int) -> bool:
    """Whether it is the group that many systems make for one user alone."""
    import grp
    import pwd

    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return number == os.geteuid()  # a container's user, whom nobody wrote down
    try:
        group = grp.getgrgid(number)
    except KeyError:
        return number == os.getegid() == os.geteuid()
    return number == os.getegid() and group.gr_name in {user, "root"} and set(group.gr_mem) <= {user}


def _ours(found: os.stat_result) -> bool:
    return os.name != "posix" or found.st_uid == os.geteuid()
