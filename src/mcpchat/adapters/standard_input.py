"""What is piped in, once and bounded; nothing waits for it where nobody pipes."""

import sys

from mcpchat.core.errors import UsageError


def data(what: str, most: int) -> bytes:
    """All of it; ``what`` is for errors. Raises UsageError where nothing is piped in, or more than ``most`` bytes."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(f"{what}: nothing is piped in", hint="some-command | mcpchat ...")
    try:
        found = sys.stdin.buffer.read(most + 1)
    except OSError as error:
        raise UsageError(f"{what}: standard input cannot be read: {error.strerror}") from error
    if len(found) > most:
        raise UsageError(f"{what}: standard input holds more than {most:,} bytes", hint="pipe in the part that matters")
    return found


def text(what: str, most: int) -> str:
    """All of it, as text. Raises UsageError also for what is none."""
    try:
        return data(what, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{what}: standard input is not text (UTF-8)") from error
