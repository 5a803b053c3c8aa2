"""Streams answers to a file or a pipe."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from mcpchat.util.sanitize import incomplete_tail, sanitize

HOLD_SECONDS = 2.0  # how long the beginning of a message is held back while a call may follow it


class AnswerStream:
    """Writes answers to ``out`` as they come.

    What a model says before a tool call is not the answer. So while tools are on offer, the beginning of a message is
    held back for ``hold_seconds``; if the message is complete by then, only an answer is written. None holds all of it
    back. ``before_write`` is called before each write.
    """

    def __init__(self, out: TextIO, hold_seconds: float | None) -> None:
        self._out = out
        self.before_write: Callable[[], None] = lambda: None
        self.hold_seconds = hold_seconds
        self._is_tty = out.isatty()
        self._held: list[str] = []
        self._written = ""  # of the current message, as the model wrote it
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        """Whether a part of the current message is written."""
        return bool(self._written)

    def feed(self, text: str) -> None:
        """Take a part of a message."""
        self._held.append(text)
        if self.hold_seconds is None:
            return
        if self._written or not self.hold_seconds:
            self._release()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.hold_seconds, self._release_late)

    def finish(self, text: str, *, is_answer: bool) -> bool:
        """Take the complete message. Returns whether it is written: always if it is an answer."""
        self._cancel_timer()
        self._held.clear()
        is_written, rest = self.is_open or is_answer, text.removeprefix(self._written)
        if self.is_open and not text.startswith(self._written):
            rest = ""  # a call that was written as text is cut off
        if is_written and text:
            self._write(rest if f"{self._written}{rest}".endswith("\n") else f"{rest}\n")
        if is_written and not is_answer:
            self._write("\n")  # a blank line before the next message
        self._written = ""
        return is_written

    def _release(self) -> None:
        """Write what is held back, except the beginning of a character or of an escape sequence."""
        self._cancel_timer()
        text, self._held = "".join(self._held), []
        if self._is_tty and (incomplete := incomplete_tail(text)):
            text, self._held = text[:-incomplete], [text[-incomplete:]]
        if text.strip() or self._written:
            self._written += text
            self._write(text)
        else:
            self._held.insert(0, text)

    def _release_late(self) -> None:
        with suppress(OSError):  # the next write fails too, and ends the run
            self._release()

    def _write(self, text: str) -> None:
        self.before_write()
        self._out.write(sanitize(text) if self._is_tty else text)  # files and pipes get the text unchanged
        self._out.flush()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
