"""Read standard input: all of it, as bytes or text, up to a size limit; or line by line while other work runs."""

import asyncio
import codecs
import os
import stat
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from mcpchat.errors import UsageError

MAX_BYTES = 20_000_000
MAX_QUESTION_LENGTH = 10_000_000  # characters
_NOTICE_DELAY = 2.0  # seconds to wait for standard input before showing a notice
_SPLICE_F_NONBLOCK = 2
_MAX_BUFFERED = 4_000_000  # bytes to read ahead; a single line may be longer


def read_bytes(source: str, max_bytes: int = MAX_BYTES) -> bytes:
    """All of standard input. ``source`` is the option that asks for it; error messages begin with it.

    Raises UsageError if standard input is a terminal, cannot be read or holds more than ``max_bytes``.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(f"{source}: nothing is piped in", hint="some-command | mcpchat ...")
    try:
        data = sys.stdin.buffer.read(max_bytes + 1)
    except OSError as error:
        raise UsageError(f"{source}: cannot read standard input: {error.strerror}") from error
    if len(data) > max_bytes:
        raise UsageError(
            f"{source}: standard input holds more than {max_bytes:,} bytes", hint="pipe in the part that matters"
        )
    return data


def read_text(source: str, max_bytes: int = MAX_BYTES) -> str:
    """All of standard input, as text. Raises UsageError as ``read_bytes`` does, and if it is not UTF-8."""
    try:
        return read_bytes(source, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{source}: standard input is not UTF-8 text") from error


def read_piped(source: str) -> str:
    """All of standard input, as text, if it is no terminal; else an empty text. A notice says so if it takes long.

    Raises UsageError as ``read_text`` does.
    """
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return ""
    with _notice_of_reading():
        return read_text(source)


def peek_pipe() -> bytes:
    """The first byte that waits in a pipe on standard input. It stays there, for whoever reads the pipe next.

    Empty if nothing waits, if standard input is no pipe, and on systems other than Linux, which cannot tell.
    """
    if sys.platform != "linux":
        return b""
    import ctypes  # only for this: tee(2) has no other name in Python

    try:
        number = sys.stdin.fileno()
        if not stat.S_ISFIFO(os.fstat(number).st_mode):
            return b""
        reader, writer = os.pipe()
        try:
            copied = ctypes.CDLL(None).tee(number, writer, ctypes.c_size_t(1), ctypes.c_uint(_SPLICE_F_NONBLOCK))
            return os.read(reader, 1) if copied == 1 else b""
        finally:
            os.close(reader)
            os.close(writer)
    except (OSError, AttributeError):
        return b""


@contextmanager
def _notice_of_reading() -> Iterator[None]:
    """Show a notice on stderr if what happens inside takes long."""
    notice = threading.Timer(
        _NOTICE_DELAY, lambda: sys.stderr.write("reading standard input to its end (-n does not read it)\n")
    )
    notice.daemon = True
    notice.start()
    try:
        yield
    finally:
        notice.cancel()


def read_question() -> str:
    """All of standard input, as text; empty if it is closed. Shows a notice on stderr if reading takes long.

    Raises UsageError if it is not UTF-8, contains null characters or is longer than ``MAX_QUESTION_LENGTH``.
    """
    if sys.stdin is None:
        return ""
    try:
        with _notice_of_reading():
            data = sys.stdin.buffer.read(4 * MAX_QUESTION_LENGTH + 1)
        text = data.decode("utf-8-sig", "strict" if len(data) <= 4 * MAX_QUESTION_LENGTH else "ignore")
    except UnicodeDecodeError as error:
        raise _not_text_error() from error
    except OSError:
        return ""  # closed before the start
    if "\0" in text:
        raise _not_text_error()
    if len(text) > MAX_QUESTION_LENGTH:
        message = f"standard input holds more than {MAX_QUESTION_LENGTH:,} characters"
        raise UsageError(message, hint="pipe in the part that matters")
    return text.replace("\r\n", "\n")


def _not_text_error() -> UsageError:
    return UsageError("standard input is not UTF-8 text", hint="use --attach - for an image or a PDF")


async def read_lines(file: BinaryIO, max_length: int) -> AsyncGenerator[tuple[int, bytes | None], None]:
    """Yield each line with its number, which counts from 1, and without its line end.

    None takes the place of a line of more than ``max_length`` bytes. The last line may lack its line end. Blank lines
    are skipped. A daemon thread reads the lines and is never joined, because the next line may never come.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[int, bytes | None] | OSError | None] = asyncio.Queue()
    buffer_changed = threading.Condition()
    buffered = 0

    def put(item: tuple[int, bytes | None] | OSError | None) -> bool:
        nonlocal buffered
        with buffer_changed:
            buffer_changed.wait_for(lambda: buffered < _MAX_BUFFERED)
            buffered += _size(item)
        try:
            loop.call_soon_threadsafe(queue.put_nowait, item)
        except RuntimeError:
            return False  # the loop is closed
        return True

    def read() -> None:
        try:
            for number, line in _split(file, max_length):
                if (line is None or line.strip()) and not put((number, line)):
                    return
            put(None)
        except OSError as error:
            put(error)
        except ValueError:  # the file was closed meanwhile
            put(None)

    threading.Thread(target=read, daemon=True, name="input").start()
    while (item := await queue.get()) is not None:
        with buffer_changed:
            buffered -= _size(item)
            buffer_changed.notify()
        if isinstance(item, OSError):
            raise item
        yield item


def _size(item: object) -> int:
    data = item[1] if isinstance(item, tuple) else None
    return 100 + (len(data) if data else 0)


def _split(file: BinaryIO, max_length: int) -> Iterator[tuple[int, bytes | None]]:
    number = 0
    while line := file.readline(max_length + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line) > max_length and not line.endswith(b"\n"):
            while (rest := file.readline(max_length)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        else:
            yield number, line.rstrip(b"\r\n")
