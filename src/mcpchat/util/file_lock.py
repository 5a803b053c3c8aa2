"""A lock between processes, waited for without blocking this one; the system frees it when its holder dies."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mcpchat.errors import StoreError
from mcpchat.util.private_files import private_folder

PATIENCE = 200.0  # seconds: longer than a renewal may take where a person has to unlock the keyring
_LATE = 2.0
_POLL = 0.05


@asynccontextmanager
async def locked(
    folder: Path,
    name: str,
    *,
    tell: Callable[[], None] = lambda: None,
    patience: float = PATIENCE,
    late: float = _LATE,
) -> AsyncIterator[None]:
    """Hold the lock of this name. ``tell`` is called after ``late`` seconds of waiting. Raises StoreError."""
    private_folder(folder)
    path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.lock"
    lock = FileLock(path, timeout=0, mode=0o600, thread_local=False)
    loop = asyncio.get_running_loop()
    began, told = loop.time(), False
    while True:
        try:
            lock.acquire(blocking=False)
            break
        except Timeout as error:
            waited = loop.time() - began
            if waited > patience:
                raise StoreError(
                    f"another mcpchat has been working on this login for {patience:.0f} s", hint="end it, or try again"
                ) from error
            if waited > late and not told:
                told = True
                tell()
        except OSError as error:
            raise StoreError(f"cannot lock {path}: {error.strerror}") from error
        await asyncio.sleep(_POLL)
    try:
        yield
    finally:
        lock.release()
