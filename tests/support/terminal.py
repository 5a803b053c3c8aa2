"""Runs a program in a pseudo-terminal and reads its screen with a terminal emulator."""

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyte
from rich.style import Style
from rich.text import Text

from tests.support.processes import start_process

_EXIT_TIMEOUT = 5.0  # seconds


class Terminal:
    """A command running in a terminal of the given size. ``text`` is the screen with its scrollback."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environ: Mapping[str, str] | None = None,
        columns: int = 80,
        lines: int = 30,
        stdout: int | None = None,
        cwd: Path | None = None,
    ) -> None:
        self._screen = pyte.HistoryScreen(columns, lines, history=5000)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""
        self._fd, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = start_process(
            command,
            terminal=True,
            stdin=terminal,
            stdout=terminal if stdout is None else stdout,
            stderr=terminal,
            env={**os.environ, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", **(environ or {})},
            cwd=cwd,
        )
        os.close(terminal)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()  # not killed at once: it stops its servers
            end = time.monotonic() + _EXIT_TIMEOUT
            while self.process.poll() is None and time.monotonic() < end:
                self.read(0.05)
            self.process.kill()
        self.process.wait()
        os.close(self._fd)

    @property
    def text(self) -> str:
        """The screen and the scrollback, without trailing blanks."""
        history = ["".join(line[x].data for x in range(self._screen.columns)) for line in self._screen.history.top]
        return "\n".join(line.rstrip() for line in (*history, *self._screen.display)).rstrip()

    def rows(self) -> list[Text]:
        """Return the screen as rich texts with colours, without empty rows at the end."""
        rows = [self._row(y) for y in range(self._screen.lines)]
        while rows and not rows[-1].plain.strip():
            rows.pop()
        return rows

    def _row(self, y: int) -> Text:
        row = Text()
        for x in range(self._screen.columns):
            char = self._screen.buffer[y][x]
            style = Style(
                color=_rich_colour(char.fg),
                bgcolor=_rich_colour(char.bg),
                bold=char.bold,
                italic=char.italics,
                underline=char.underscore,
                reverse=char.reverse,
            )
            row.append(char.data, style)
        return row

    @property
    def title(self) -> str:
        """The window title."""
        return self._screen.title

    def send(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def read(self, seconds: float) -> None:
        """Read the output that arrives within this time."""
        end = time.monotonic() + seconds
        while (remaining := end - time.monotonic()) > 0:
            ready, _, _ = select.select([self._fd], [], [], min(remaining, 0.05))
            if ready:
                try:
                    data = os.read(self._fd, 65536)
                except OSError:  # the program has closed the terminal
                    return
                if not data:
                    return
                self.raw += data
                self._stream.feed(data)

    def settle(self, quiet: float = 0.25, seconds: float = 20) -> None:
        """Read until the program has written nothing for ``quiet`` seconds."""
        end = time.monotonic() + seconds
        size = -1
        while len(self.raw) != size:
            assert time.monotonic() < end, f"the program does not stop writing. The screen:\n{self.text}"
            size = len(self.raw)
            self.read(quiet)

    def wait_for_absence(self, unexpected: str, *, seconds: float = 20) -> None:
        """Read until the text is not on the screen. Raises AssertionError after ``seconds``."""
        end = time.monotonic() + seconds
        while unexpected in self.text:
            assert time.monotonic() < end, f"{unexpected!r} did not disappear. The screen:\n{self.text}"
            self.read(0.05)

    def wait_for(self, expected: str, *, count: int = 1, seconds: float = 20) -> str:
        """Read until the text appears ``count`` times; returns the screen. Raises AssertionError after ``seconds``."""
        end = time.monotonic() + seconds
        while self.text.count(expected) < count:
            assert time.monotonic() < end, f"{expected!r} did not appear. The screen:\n{self.text}"
            self.read(0.05)
        return self.text

    def wait_exit(self, seconds: float = 20) -> int:
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, f"the program did not exit. The screen:\n{self.text}"
            self.read(0.05)
        self.settle(0.1)
        return int(self.process.returncode)


def _rich_colour(name: str) -> str | None:
    """The name of an emulator's colour as rich spells it; None for the default."""
    if re.fullmatch(r"[0-9a-f]{6}", name):
        return f"#{name}"
    return None if name == "default" else {"brown": "yellow"}.get(name, name.replace("bright", "bright_"))
