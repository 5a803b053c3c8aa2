"""Private JSON files: one msgspec value a file, changed under a lock."""

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
LOCK_TIMEOUT = 5.0  # seconds, for another process that changes the same file


def load_json(path: Path, kind: type[_T]) -> _T | None:
    """Raises StoreError for a file that is damaged, a link, or another's."""
    data = read_private(path)
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is damaged", hint=f"look at it, and remove it: {path}") from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """No other mcpchat changes the file meanwhile. Raises StoreError."""
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
    write_private(path, msgspec.json.encode(value))
