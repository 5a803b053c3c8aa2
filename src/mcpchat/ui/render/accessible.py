"""The chat for screen readers, logs and dumb terminals: every line is written once, and says whose it is."""

import asyncio
import itertools
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TextIO, assert_never

from mcpchat.core import events
from mcpchat.core.elicitation import Answer
from mcpchat.core.events import Event
from mcpchat.ui.prompts.keys import POLL, QUIET, Early
from mcpchat.ui.render import stats, tool_lines
from mcpchat.ui.terminal import tty
from mcpchat.util.sanitize import clean
from mcpchat.util.signals import cancelled_by

YOU, MODEL = "you: ", "mcpchat: "


class SpokenRenderer:
    """Events as lines with prefixes. The answer comes line by line, as the model wrote it."""

    def __init__(self, say: Callable[[str], None], *, stats: bool = False, reasoning: bool = True) -> None:
        self._say = say
        self._stats = stats
        self._reasoning = reasoning
        self._line: list[str] = []  # the pieces of a line that goes on
        self._prefix = MODEL
        self._named = False  # whether it was said whose the lines are

    def __call__(self, event: Event) -> None:
        match event:
            case events.TextDelta(text=text):
                self._feed(text, MODEL)
            case events.ReasoningDelta(text=text):
                if self._reasoning:
                    self._feed(text, "reasoning: ")
            case events.MessageAdded(message=message) if message.role == "assistant":
                self._finish()
                if message.cut and message.cut not in {"length", "cancelled"}:
                    self._say(f"warning: the answer ends early: {message.cut}")
            case events.ToolStarted() | events.ToolFinished():
                self._call(event)
            case events.ServerChanged(state="failed" | "login"):
                self._say(f"warning: {tool_lines.down(event)}")
            case events.Notice(level=level, text=text):
                self._say(f"{'warning' if level == 'warning' else 'notice'}: {clean(text)}")
            case events.TurnFinished() | events.TurnFailed():
                self._finish()
                if isinstance(event, events.TurnFinished) and self._stats and event.usage.total:
                    self._say(f"took: {stats.turn(event)}")
            case (
                events.MessageAdded()
                | events.BranchChanged()
                | events.TurnStarted()
                | events.ToolDecided()
                | events.ToolProgress()
                | events.ServerChanged()
            ):
                pass
            case _:
                assert_never(event)

    def _call(self, event: events.ToolStarted | events.ToolFinished) -> None:
        self._finish()
        if isinstance(event, events.ToolStarted):
            self._say(f"tool: {tool_lines.started(event)}")
        else:
            self._say(f"tool {'failed' if event.result.is_error else 'done'}: {tool_lines.finished(event)}")

    def _feed(self, text: str, prefix: str) -> None:
        if prefix != self._prefix:
            self._finish()
            self._prefix = prefix
        *lines, rest = text.split("\n")
        for line in lines:
            self._end_line(line)
        self._line.append(rest)

    def _end_line(self, rest: str) -> None:
        """Say the line; the first of an answer says whose it is, and blank ones before it are left out."""
        line, self._line = clean("".join((*self._line, rest))), []
        if line.strip() and not self._named:
            self._say(f"{self._prefix}{line}")
            self._named = True
        elif self._named:
            self._say(line)

    def _finish(self) -> None:
        if any(piece.strip() for piece in self._line):
            self._end_line("")
        self._line, self._prefix, self._named = [], MODEL, False


class Lines:
    """Lines of standard input, read in a thread of their own: the kernel's editing, and nobody waits meanwhile."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._wanted: asyncio.Future[str | None] | None = None
        self._prompt = ""  # that stands there, and is waited at

    async def read(self, prompt: str) -> str | None:
        """The next line, without its newline; None at the end of input."""
        loop = asyncio.get_running_loop()
        self._out.write(prompt)
        self._out.flush()
        self._prompt = prompt
        try:
            if self._wanted is None:  # else somebody stopped waiting for it, and the thread still reads
                self._wanted = loop.create_future()
                threading.Thread(target=self._take, args=(loop, self._wanted), daemon=True).start()
            line = await asyncio.shield(self._wanted)
            self._wanted = None
            if line is None:
                self._out.write("\n")
            return line
        finally:
            self._prompt = ""

    def early(self) -> str:
        """Take what was typed while nobody asked, without its last newline."""
        lines = ""
        if self._wanted is not None and self._wanted.done():
            lines, self._wanted = self._wanted.result() or "", None
        return "\n".join(filter(None, (lines, tty.typed_ahead().rstrip("\n"))))

    def say(self, text: str) -> None:
        """Write a line; where somebody is being asked, the question stands under it once more."""
        again = self._prompt
        self._out.write(f"\n{text}\n{again}" if again else f"{text}\n")
        self._out.flush()

    def _take(self, loop: asyncio.AbstractEventLoop, wanted: "asyncio.Future[str | None]") -> None:
        try:
            line: str | None = sys.stdin.readline() or None
        except (OSError, ValueError, UnicodeDecodeError):
            line = None
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, wanted, line and line.rstrip("\n"))


def _settle(wanted: "asyncio.Future[str | None]", line: str | None) -> None:
    if not wanted.done():
        wanted.set_result(line)


class SpokenPrompt:
    """The repl's Prompt: one line after the other. A trailing backslash goes on with the next."""

    def __init__(self, lines: Lines, out: TextIO) -> None:
        self._lines = lines
        self._out = out
        self._presses = 0
        self._draft = ""

    async def next_line(self) -> str | None:
        if self._draft:
            self._out.write(f"so far: {clean(self._draft)} (Enter sends it, Ctrl-C lets it go)\n")
        whole: list[str] = []
        for prompt in itertools.chain([YOU], itertools.repeat("and: ")):
            reading = asyncio.ensure_future(self._lines.read(prompt))
            with cancelled_by(reading, (signal.SIGINT,)) as caught:
                try:
                    line = await reading
                except asyncio.CancelledError:
                    if not caught:
                        raise
                    self._draft = ""
                    self._presses += 1
                    if self._presses > 1:
                        return None
                    self._out.write("\nCtrl-C again, or Ctrl-D, leaves\n")
                    return ""
            self._presses = 0
            if line is None:
                return None
            whole.append(line.removesuffix("\\"))
            if not line.endswith("\\"):
                break
        draft, self._draft = self._draft, ""
        return "\n".join(filter(None, (draft, *whole)))  # an empty line sends what was said so far

    def echo(self, line: str) -> None:
        """It stands there already."""

    def work(self, on: bool) -> None:
        """What is typed meanwhile waits in the terminal."""

    def draft(self, text: str) -> None:
        self._draft = "\n".join(filter(None, (self._draft, text)))

    def give_back(self, early: Early) -> None:
        """What was typed before a question stood there: the next line begins with it."""
        self.draft(early.text.strip("\n"))

    def take_back(self) -> None:
        """Nothing is taken before its time."""


class SpokenKeys:
    """Answers to questions, as whole lines: the letter, and Enter."""

    hint = "an empty line takes what stands there, Ctrl-D declines"

    def __init__(self, lines: Lines, out: TextIO) -> None:
        self._lines = lines
        self._out = out
        self._early = Early()

    def held(self) -> AbstractContextManager[None]:
        return nullcontext()  # the terminal keeps lines by itself

    def take_early(self) -> Early:
        early, self._early = self._early, Early()
        return early

    async def quiet(self) -> None:
        left = QUIET
        while left > 0:
            if early := self._lines.early():
                self._early.text += f"\n{early}"
                left = QUIET
            left -= POLL
            await asyncio.sleep(POLL)

    async def key(self, prompt: str, keys: str, *, enter: bool = False) -> str:
        words = {**{key: key for key in keys}, **{word: word[0] for word in ("yes", "no") if word[0] in keys}}
        while (line := await self._lines.read(f"question: {' '.join(prompt.split())} ")) is not None:
            typed = line.strip().casefold()
            if typed in words:  # and nothing that merely begins so: it may have been meant for something else
                return words[typed]
            if not typed and enter:
                return "enter"
            self._out.write(f"warning: one of {', '.join(keys)}, and Enter\n")
        return "escape"

    async def line(self, prompt: str, default: str, problem: Callable[[str], str] | None = None) -> str | Answer:
        asked = prompt.strip().rstrip(":") or "your answer"
        told = f" (it stands: {clean(default)})" if default else ""
        while (line := await self._lines.read(f"question: {asked}{told}: ")) is not None:
            typed = line or default
            if problem is None or not (wrong := problem(typed)):
                return typed
            self._out.write(f"warning: {wrong}\n")
        return Answer(action="decline")
