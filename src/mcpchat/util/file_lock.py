"""A lock between processes for async code; the operating system releases it if its holder dies."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mcpchat.errors import StoreError
from mcpchat.util.private_files import ensure_private_directory

LOCK_TIMEOUT = 200.0  # seconds; longer than a token renewal for which the user must unlock the keyring
_SLOW_AFTER = 2.0  # seconds
_POLL_INTERVAL = 0.05  # seconds


@asynccontextmanager
async def locked(
    folder: Path,
    name: str,
    *,
    on_slow: Callable[[], None] = lambda: None,
    timeout: float = LOCK_TIMEOUT,
    slow_after: float = _SLOW_AFTER,
) -> AsyncIterator[None]:
    """Hold the lock of this name, in ``folder``, for the duration of the block.

    Calls ``on_slow`` once after ``slow_after`` seconds of waiting. Raises StoreError after ``timeout`` seconds, or if
    the lock file cannot be used.
    """
    ensure_private_directory(folder)
    path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.lock"
    lock = FileLock(path, timeout=0, mode=0o600, thread_local=False)
    loop = asyncio.get_running_loop()
    started, notified = loop.time(), False
    while True:
        try:
            lock.acquire(blocking=False)
            break
        except Timeout as error:
            elapsed = loop.time() - started
            if elapsed > timeout:
                raise StoreError(
                    f"another mcpchat has been working on this login for {timeout:.0f} s", hint="end it, or try again"
                ) from error
            if elapsed > slow_after and not notified:
                notified = True
                on_slow()
        except OSError as error:
            raise StoreError(f"cannot lock {path}: {error.strerror}") from error
        await asyncio.sleep(_POLL_INTERVAL)
    try:
        yield
    finally:
        lock.release()
