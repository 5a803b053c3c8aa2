"""Files for their owner's eyes alone: 0600 in folders of 0700, written whole or not at all, never through a link."""

import errno
import os
import stat
import tempfile
from pathlib import Path

from mcpchat.core.errors import StoreError

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_LARGEST = 16 * 2**20


def private_folder(path: Path) -> None:
    """Make the folder, or see that it is the user's own and closed to others. Raises StoreError."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
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
        raise StoreError(f"cannot read {path}: {why}", hint="remove it, and sign in again") from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or not _ours(found):
            raise StoreError(f"{path} is not a file of yours: it is not read", hint="remove it, and sign in again")
        return file.read(_LARGEST)


def write_private(path: Path, data: bytes) -> None:
    """Write the file, whole or not at all, and to the disk before this returns. Raises StoreError."""
    private_folder(path.parent)
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # 0600, O_EXCL
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error


def _ours(found: os.stat_result) -> bool:
    return os.name != "posix" or found.st_uid == os.geteuid()
