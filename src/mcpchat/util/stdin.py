"""Standard input: whole, as bytes or text, of a bounded size; or line by line while other work goes on."""

import asyncio
import codecs
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from typing import BinaryIO

from mcpchat.errors import UsageError

MAX_BYTES = 20_000_000
MAX_QUESTION = 10_000_000  # characters
_PATIENCE = 2.0  # seconds of waiting for standard input before saying so
_AHEAD = 4_000_000  # bytes that are read ahead, or one line of more


def read_bytes(what: str, most: int = MAX_BYTES) -> bytes:
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


def read_text(what: str, most: int = MAX_BYTES) -> str:
    """All of it, as text. Raises UsageError also for what is none."""
    try:
        return read_bytes(what, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{what}: standard input is not text (UTF-8)") from error


def read_question() -> str:
    """All of standard input, as text; empty where it is closed. Raises UsageError for what is too long, or no text."""
    if sys.stdin is None:
        return ""
    waiting = threading.Timer(
        _PATIENCE, lambda: sys.stderr.write("reading standard input to its end (give it </dev/null to skip)\n")
    )
    waiting.daemon = True
    waiting.start()
    try:
        data = sys.stdin.buffer.read(4 * MAX_QUESTION + 1)
        found = data.decode("utf-8-sig", "strict" if len(data) <= 4 * MAX_QUESTION else "ignore")
    except UnicodeDecodeError as error:
        raise _no_text() from error
    except OSError:
        return ""  # closed from the start
    finally:
        waiting.cancel()
    if "\0" in found:
        raise _no_text()
    if len(found) > MAX_QUESTION:
        told = f"standard input holds more than {MAX_QUESTION:,} characters"
        raise UsageError(told, hint="pipe in the part that matters")
    return found.replace("\r\n", "\n")


def _no_text() -> UsageError:
    return UsageError("standard input is not text (UTF-8)", hint="an image or a PDF goes along with --attach -")


async def read_lines(file: BinaryIO, longest: int) -> AsyncGenerator[tuple[int, bytes | None], None]:
    """The lines with their numbers, from 1, without their ends; None for one of more than ``longest`` bytes.

    They are read in a thread of its own, which nobody waits for: the next line may never come. The last need not have
    an end. Lines of blanks alone are left out.
    """
    loop = asyncio.get_running_loop()
    ready: asyncio.Queue[tuple[int, bytes | None] | OSError | None] = asyncio.Queue()
    room = threading.Condition()
    ahead = 0

    def tell(item: tuple[int, bytes | None] | OSError | None) -> bool:
        nonlocal ahead
        with room:
            room.wait_for(lambda: ahead < _AHEAD)
            ahead += _size(item)
        try:
            loop.call_soon_threadsafe(ready.put_nowait, item)
        except RuntimeError:
            return False  # nobody listens any more
        return True

    def read() -> None:
        try:
            for number, line in _split(file, longest):
                if (line is None or line.strip()) and not tell((number, line)):
                    return
            tell(None)
        except OSError as error:
            tell(error)
        except ValueError:  # closed under our hands
            tell(None)

    threading.Thread(target=read, daemon=True, name="input").start()
    while (item := await ready.get()) is not None:
        with room:
            ahead -= _size(item)
            room.notify()
        if isinstance(item, OSError):
            raise item
        yield item


def _size(item: object) -> int:
    data = item[1] if isinstance(item, tuple) else None
    return 100 + (len(data) if data else 0)


def _split(file: BinaryIO, longest: int) -> Iterator[tuple[int, bytes | None]]:
    number = 0
    while line := file.readline(longest + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line) > longest and not line.endswith(b"\n"):
            while (rest := file.readline(longest)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        else:
            yield number, line.rstrip(b"\r\n")
