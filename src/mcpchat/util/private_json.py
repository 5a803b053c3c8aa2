"""Private JSON files: one msgspec value per file, changed under a lock."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
from filelock import FileLock, Timeout
from msgspec import Struct

from mcpchat.errors import StoreError
from mcpchat.util.private_files import ensure_private_directory, read_private, write_private

_T = TypeVar("_T", bound=Struct)
LOCK_TIMEOUT = 5.0  # seconds to wait for another process that changes the same file


def load_json(path: Path, kind: type[_T]) -> _T | None:
    """The value in the file; None if it is missing. Raises StoreError if it is damaged or cannot be read safely."""
    data = read_private(path)
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is damaged", hint=f"check the file, then remove it: {path}") from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock the file against changes by other mcpchat processes. Raises StoreError if the lock cannot be acquired."""
    ensure_private_directory(path.parent)
    try:
        with FileLock(path.with_suffix(".lock"), timeout=LOCK_TIMEOUT, mode=0o600):
            yield
    except Timeout as error:
        raise StoreError(
            f"another mcpchat has been changing {path} for {LOCK_TIMEOUT:.0f} s", hint="try again"
        ) from error
    except OSError as error:
        raise StoreError(f"cannot lock {path}: {error.strerror}") from error


def save_json(path: Path, value: Struct) -> None:
    """Write the value. Raises StoreError if the file cannot be written."""
    write_private(path, msgspec.json.encode(value))
