"""The keyboard while nobody reads it: what is typed ahead is neither echoed into the output nor lost."""

import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

if sys.platform != "win32":
    import termios


@contextmanager
def hold_input() -> Iterator[None]:
    """While inside, typed keys wait unseen and unchanged for the next prompt; Ctrl-C still interrupts.

    In the usual mode the terminal would echo them amid the answer, and turn Enter into another key (Ctrl-J) than the
    one that a prompt waits for.
    """
    with _modified_flags(lambda iflag, lflag: (iflag & ~termios.ICRNL, lflag & ~(termios.ECHO | termios.ICANON))):
        yield


@contextmanager
def restore_terminal() -> Iterator[None]:
    """Whatever happens inside, the terminal is afterwards as it was before."""
    with _modified_flags(lambda iflag, lflag: (iflag, lflag)):
        yield


@contextmanager
def lend_terminal() -> Iterator[None]:
    """While inside, another program reads the keyboard, in the usual mode; Ctrl-C is a key of that program's."""
    cooked_mode = lambda iflag, lflag: (iflag | termios.ICRNL, (lflag | termios.ECHO | termios.ICANON) & ~termios.ISIG)  # noqa: E731
    with _modified_flags(cooked_mode):
        yield


@contextmanager
def _modified_flags(change: Callable[[int, int], tuple[int, int]]) -> Iterator[None]:
    """The terminal with other input and local flags; nothing where there is none, and on Windows."""
    if sys.platform == "win32" or not sys.stdin.isatty():
        yield
        return
    fd = sys.stdin.fileno()
    saved, attributes = termios.tcgetattr(fd), termios.tcgetattr(fd)
    attributes[0], attributes[3] = change(attributes[0], attributes[3])
    termios.tcsetattr(fd, termios.TCSANOW, attributes)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, saved)


def read_typed_ahead() -> str:
    """Take what was typed and not yet read, so that it cannot answer a question that it was not meant for."""
    if sys.platform == "win32" or not sys.stdin.isatty():
        return ""
    fd = sys.stdin.fileno()
    typed = b""
    while select.select([fd], [], [], 0)[0] and (chunk := os.read(fd, 4096)):
        typed += chunk
    return typed.decode(errors="ignore")
