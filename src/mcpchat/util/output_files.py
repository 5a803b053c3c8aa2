"""Files that the user names for output."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from mcpchat.errors import UsageError
from mcpchat.util.paths import expand_user
from mcpchat.util.sanitize import sanitize


def write_file(path: Path, chunks: Iterable[str | bytes]) -> None:
    """Write the chunks into a file that only its owner can read. A regular file is replaced atomically.

    What a link leads to is written in its place, such as /dev/stdout. Text for a terminal is made safe. Raises
    UsageError if it cannot be written, and for bytes for a terminal.
    """
    target = expand_user(path)
    try:
        if target.exists() and (target.is_symlink() or not target.is_file()):  # a pipe, a terminal
            with target.open("wb") as file:
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


def _make_safe(chunks: Iterable[str | bytes]) -> Iterator[str]:
    for chunk in chunks:
        if isinstance(chunk, bytes):
            raise UsageError("the result is binary: it is not written to a terminal", hint="-f FILE, or | some-program")
        yield sanitize(chunk)


def _encode_chunks(chunks: Iterable[str | bytes]) -> Iterator[bytes]:
    return (chunk if isinstance(chunk, bytes) else chunk.encode(errors="replace") for chunk in chunks)
