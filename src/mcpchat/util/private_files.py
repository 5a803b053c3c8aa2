"""Files that only their owner can read: mode 0600 in folders of mode 0700, written atomically, never through a link."""

import errno
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from mcpchat.errors import StoreError

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_MAX_BYTES = 16 * 2**20  # the most that is read from a file


_OWN_NAME = "mcpchat"  # the folder of each kind that has all other folders of ours


def ensure_private_directory(path: Path) -> None:
    """Create the folder if it is missing, and close it to other users; they cannot change our folders above.

    Raises StoreError if it cannot be created, is not a folder or belongs to another user, or if others can change the
    folder in which it is.
    """
    try:
        missing, parent = [], path.absolute()
        while not os.path.lexists(parent):
            missing.append(parent)
            parent = parent.parent
        if missing:
            _require_safe_parent(parent)
        for directory in reversed(missing):
            with suppress(FileExistsError):  # another process was faster; whose folder it is, is checked next
                directory.mkdir(mode=0o700)
            _close_to_others(directory)
        _close_to_others(path)
        for directory in _own_parents(path):
            info = directory.lstat()
            if os.name == "posix" and stat.S_ISDIR(info.st_mode) and _is_owned(info) and info.st_mode & 0o022:
                directory.chmod(stat.S_IMODE(info.st_mode) & ~0o022)
        if not missing:
            _require_safe_parent((path.absolute(), *_own_parents(path.absolute()))[-1].parent)
    except OSError as error:
        raise StoreError(f"cannot create {path}: {error.strerror}") from error


def _own_parents(path: Path) -> list[Path]:
    """The folders of ours above ``path``."""
    parents = list(path.parents)
    names = [parent.name for parent in parents]
    return parents[: names.index(_OWN_NAME) + 1] if path.name != _OWN_NAME and _OWN_NAME in names else []


def _close_to_others(directory: Path) -> None:
    info = directory.lstat()
    if not stat.S_ISDIR(info.st_mode) or not _is_owned(info):
        raise StoreError(
            f"{directory} is not a folder that you own: nothing is stored there", hint=f"check it: ls -ld {directory}"
        )
    if stat.S_IMODE(info.st_mode) & 0o077 and os.name == "posix":
        directory.chmod(0o700)


def _require_safe_parent(parent: Path) -> None:
    """Raise StoreError if another user can change the folder, or a folder or link on the way to it."""
    if os.name == "posix":
        exposure, hint = _find_writer(parent)
        if exposure:
            raise StoreError(f"nothing is stored below {parent}: {exposure}", hint=hint)


def read_private(path: Path) -> bytes | None:
    """The bytes of the file, at most 16 MiB; None if it is missing.

    Raises StoreError if it cannot be read, is a symbolic link or not a regular file, or belongs to another user.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = "a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise StoreError(f"cannot read {path}: {reason}", hint="remove it") from error
    with os.fdopen(descriptor, "rb") as file:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or not _is_owned(info):
            raise StoreError(f"{path} is not a file that you own: it is not read", hint="remove it")
        return file.read(min(info.st_size, _MAX_BYTES))  # as much memory is taken as is asked for


def write_private(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write the file atomically. If ``durable`` is set, the data is on the disk before this returns.

    Raises StoreError if it cannot be written.
    """
    ensure_private_directory(path.parent)
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


def ensure_private_file(path: Path) -> None:
    """Create an empty file if it is missing, and close it to other users, without opening one that is there.

    For databases: if a process closes a file, it loses all its locks on it, also those of its other connections. Raises
    StoreError as ``open_to_append``.
    """
    ensure_private_directory(path.parent)
    try:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, 0o600))
            return
        info = path.lstat()
        if stat.S_ISLNK(info.st_mode):
            raise StoreError(f"cannot write {path}: a symbolic link", hint="remove it")
        if not stat.S_ISREG(info.st_mode) or not _is_owned(info):
            raise StoreError(f"{path} is not a file that you own: it is not written", hint="remove it")
        if stat.S_IMODE(info.st_mode) & 0o077 and os.name == "posix":
            path.chmod(0o600)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error


def open_to_append(path: Path) -> int:
    """A file descriptor for appending; the file is created if it is missing.

    Raises StoreError if it cannot be opened, is a symbolic link or not a regular file, or belongs to another user.
    """
    ensure_private_directory(path.parent)
    try:
        descriptor = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY | _NO_FOLLOW, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StoreError(f"cannot write {path}: a symbolic link", hint="remove it") from error
        raise StoreError(f"cannot write {path}: {error.strerror}", hint=f"check it: ls -ld {path}") from error
    info = os.fstat(descriptor)
    if not stat.S_ISREG(info.st_mode) or not _is_owned(info):
        os.close(descriptor)
        raise StoreError(f"{path} is not a file that you own: nothing is written there", hint="remove it")
    if stat.S_IMODE(info.st_mode) & 0o077 and os.name == "posix":
        os.fchmod(descriptor, 0o600)
    return descriptor


def writable_by_others(path: Path) -> tuple[str, str]:
    """Who else can change or replace the file, and the command that fixes it; both empty if no other user can.

    Checks each parent folder and the targets of links, as ssh does for its keys; the file itself may be missing. Raises
    OSError if one of them cannot be examined.
    """
    if os.name != "posix":
        return "", ""
    absolute = path.absolute()
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        return "", ""  # /dev/null, or a pipe from the shell
    return _find_writer(absolute)


def _find_writer(absolute: Path) -> tuple[str, str]:
    for candidate in dict.fromkeys((absolute, *absolute.parents, absolute.resolve(), *absolute.resolve().parents)):
        if not os.path.lexists(candidate):
            continue
        info = candidate.lstat()
        if info.st_uid not in {os.geteuid(), 0}:
            return f"{candidate} belongs to another user", f"sudo chown {os.geteuid()} {candidate}"
        is_sticky = stat.S_ISDIR(info.st_mode) and info.st_mode & stat.S_ISVTX
        if stat.S_ISLNK(info.st_mode) or is_sticky:
            continue
        if info.st_mode & stat.S_IWOTH:
            return f"every user can write to {candidate}", f"chmod o-w {candidate}"
        if info.st_mode & stat.S_IWGRP and not _is_private_group(info.st_gid):
            return f"its group can write to {candidate}", f"chmod g-w {candidate}"
    return "", ""


def _is_private_group(gid: int) -> bool:
    """Whether it is the private group that many systems create for each user."""
    import grp
    import pwd

    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return gid == os.geteuid()  # a container's user without an entry in the user database
    try:
        group = grp.getgrgid(gid)
    except KeyError:
        return gid == os.getegid() == os.geteuid()
    return gid == os.getegid() and group.gr_name in {user, "root"} and set(group.gr_mem) <= {user}


def _is_owned(info: os.stat_result) -> bool:
    return os.name != "posix" or info.st_uid == os.geteuid()
