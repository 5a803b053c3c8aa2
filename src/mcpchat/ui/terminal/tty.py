"""Terminal modes while no prompt is active: text typed ahead is neither echoed into the output nor lost."""

import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mcpchat.util import foreground

if sys.platform != "win32":
    import termios


@contextmanager
def hold_input() -> Iterator[None]:
    """While inside, keep typed keys, without echo, for the next prompt; Ctrl-C still interrupts.

    In the default mode the terminal would echo them into the answer, and turn Enter into Ctrl-J, which is not the key
    that a prompt expects.
    """
    with _modified_flags(lambda iflag, lflag: (iflag & ~termios.ICRNL, lflag & ~(termios.ECHO | termios.ICANON))):
        yield


@contextmanager
def restore_terminal() -> Iterator[None]:
    """Restore the terminal's modes at the end."""
    with _modified_flags(lambda iflag, lflag: (iflag, lflag)):
        yield


@contextmanager
def lend_terminal() -> Iterator[None]:
    """While inside, another program reads the keyboard in the default mode; Ctrl-C is a key for that program."""
    cooked_mode = lambda iflag, lflag: (iflag | termios.ICRNL, (lflag | termios.ECHO | termios.ICANON) & ~termios.ISIG)  # noqa: E731
    with _modified_flags(cooked_mode):
        yield


@contextmanager
def _modified_flags(change: Callable[[int, int], tuple[int, int]]) -> Iterator[None]:
    """Change the terminal's input and local flags while inside. Does nothing without a terminal, and on Windows."""
    if sys.platform == "win32" or not sys.stdin.isatty():
        yield
        return
    foreground.wait_for_terminal()
    fd = sys.stdin.fileno()
    saved, attributes = termios.tcgetattr(fd), termios.tcgetattr(fd)
    attributes[0], attributes[3] = change(attributes[0], attributes[3])
    termios.tcsetattr(fd, termios.TCSANOW, attributes)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, saved)


def suspend() -> None:
    """Stop the whole job, as the terminal does, and wait until it is in the foreground again."""
    os.kill(0, signal.SIGTSTP)
    foreground.wait_for_terminal()


def read_typed_ahead() -> str:
    """Read the text that was typed ahead, so that it cannot answer a question that appears later."""
    if sys.platform == "win32" or not sys.stdin.isatty():
        return ""
    fd = sys.stdin.fileno()
    typed = b""
    while select.select([fd], [], [], 0)[0] and (chunk := os.read(fd, 4096)):
        typed += chunk
    return typed.decode(errors="ignore")
