"""The keyboard while nobody reads it: what is typed ahead is neither echoed into the output nor lost."""

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

if sys.platform != "win32":
    import termios


@contextmanager
def held() -> Iterator[None]:
    """While inside, typed keys wait unseen and unchanged for the next prompt; Ctrl-C still interrupts.

    In the usual mode the terminal would echo them amid the answer, and turn Enter into another key (Ctrl-J) than the
    one that a prompt waits for. Does nothing where standard input is no terminal, and on Windows.
    """
    if sys.platform == "win32" or not sys.stdin.isatty():
        yield
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    quiet = termios.tcgetattr(fd)
    quiet[0] &= ~termios.ICRNL
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(fd, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)


def typed_ahead() -> str:
    """Take what was typed and not yet read, so that it cannot answer a question that it was not meant for."""
    if sys.platform == "win32" or not sys.stdin.isatty():
        return ""
    fd = sys.stdin.fileno()
    typed = b""
    while select.select([fd], [], [], 0)[0] and (piece := os.read(fd, 4096)):
        typed += piece
    return typed.decode(errors="ignore")
