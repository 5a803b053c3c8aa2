"""The line-mode chat, for screen readers, logs and dumb terminals: each line is written once, with a prefix."""

import asyncio
import io
import itertools
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TextIO, assert_never

from mcpchat.core import events
from mcpchat.core.elicitation import ElicitationResult
from mcpchat.core.events import Event
from mcpchat.ui.prompts.choices import Choice, format_labels
from mcpchat.ui.prompts.keys import POLL_INTERVAL, QUIET_SECONDS
from mcpchat.ui.render import stats, tool_lines
from mcpchat.ui.render.retries import RetryCounter
from mcpchat.ui.terminal import tty
from mcpchat.ui.terminal.typed_ahead import TypedAhead
from mcpchat.util.sanitize import sanitize, sanitize_message
from mcpchat.util.signals import cancel_on_signals

USER_PREFIX, MODEL_PREFIX = "you: ", "mcpchat: "
_CONTINUATION = "  "


class LineRenderer:
    """Prints events as lines with prefixes. The answer appears line by line, as the model wrote it."""

    def __init__(
        self, print_line: Callable[[str], None], *, show_stats: bool = False, show_reasoning: bool = True
    ) -> None:
        self._print_line = print_line
        self._show_stats = show_stats
        self._show_reasoning = show_reasoning
        self._line_parts: list[str] = []  # the parts of an incomplete line
        self._prefix = MODEL_PREFIX
        self._prefix_printed = False  # whether the current text has its prefix
        self._retries = RetryCounter()

    def __call__(self, event: Event) -> None:
        if self._retries.update(event) <= 1:  # of several retries the first is told
            self._render(event)

    def _render(self, event: Event) -> None:
        match event:
            case events.TextDelta(text=text):
                self._feed(text, MODEL_PREFIX)
            case events.ReasoningDelta(text=text):
                if self._show_reasoning:
                    self._feed(text, "reasoning: ")
            case events.MessageAdded(message=message) if message.role == "assistant":
                self._finish()
                if message.cut and message.cut not in {"length", "cancelled"}:
                    self._print_line(f"warning: the answer ends early: {message.cut}")
            case events.ToolStarted() | events.ToolFinished() | events.ToolTask():
                self._print_call(event)
            case events.ServerChanged(state="failed" | "login"):
                self._print_line(f"warning: {tool_lines.format_server_down(event)}")
            case events.Notice(level=level, text=text):
                self._print_line(f"{'warning' if level == 'warning' else 'notice'}: {sanitize_message(text)}")
            case events.TurnFinished() | events.TurnFailed():
                self._finish()
                if isinstance(event, events.TurnFinished) and self._show_stats and event.usage.total:
                    self._print_line(f"took: {'; '.join(stats.format_turn(event))}")
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

    def _print_call(self, event: events.ToolStarted | events.ToolFinished | events.ToolTask) -> None:
        self._finish()
        if isinstance(event, events.ToolStarted):
            self._print_line(f"tool: {tool_lines.format_running(event)}")
        elif isinstance(event, events.ToolTask):
            self._print_line(f"tool: {tool_lines.format_task(event)}")
        else:
            self._print_line(
                f"tool {'failed' if event.result.is_error else 'done'}: {tool_lines.format_finished(event)}"
            )

    def _feed(self, text: str, prefix: str) -> None:
        if prefix != self._prefix:
            self._finish()
            self._prefix = prefix
        *lines, rest = text.split("\n")
        for line in lines:
            self._end_line(line)
        self._line_parts.append(rest)

    def _end_line(self, rest: str) -> None:
        """Print the line. The first line of a text gets the prefix; blank lines before it are left out.

        Later lines are indented, so that none of them looks like a line of mcpchat's own.
        """
        text, self._line_parts = sanitize("".join((*self._line_parts, rest))), []
        for line in text.split("\n"):  # sanitizing makes newlines of other separators
            if line.strip() and not self._prefix_printed:
                self._print_line(f"{self._prefix}{line}")
                self._prefix_printed = True
            elif self._prefix_printed:
                self._print_line(f"{_CONTINUATION}{line}" if line.strip() else "")

    def _finish(self) -> None:
        if any(part.strip() for part in self._line_parts):
            self._end_line("")
        self._line_parts, self._prefix, self._prefix_printed = [], MODEL_PREFIX, False


class PrefixedLines(io.TextIOBase):
    """A file that writes each line to ``print_line`` with a prefix that says who speaks. Blank lines are left out."""

    def __init__(self, print_line: Callable[[str], None], prefix: str) -> None:
        self._print_line = print_line
        self._prefix = prefix
        self._partial = ""

    def write(self, text: str) -> int:
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            if line.strip():
                self._print_line(f"{self._prefix}{line.removeprefix(_CONTINUATION).rstrip()}")
        return len(text)


class StdinLines:
    """Reads lines of standard input in a thread, so that the terminal edits them and the event loop is not blocked."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._pending_line: asyncio.Future[str | None] | None = None
        self._prompt = ""  # the prompt that is waiting for a line

    async def read(self, prompt: str) -> str | None:
        """Read the next line, without its newline; None at the end of input."""
        loop = asyncio.get_running_loop()
        self._out.write(prompt)
        self._out.flush()
        self._prompt = prompt
        try:
            if self._pending_line is None:  # else a cancelled read left its thread running
                self._pending_line = loop.create_future()
                threading.Thread(target=self._read_in_thread, args=(loop, self._pending_line), daemon=True).start()
            line = await asyncio.shield(self._pending_line)
            self._pending_line = None
            if line is None:
                self._out.write("\n")
            return line
        finally:
            self._prompt = ""

    def take_typed_ahead(self) -> str:
        """Take the text that was typed while no prompt was waiting, without its last newline."""
        text = ""
        if self._pending_line is not None and self._pending_line.done():
            text, self._pending_line = self._pending_line.result() or "", None
        return "\n".join(filter(None, (text, tty.read_typed_ahead().rstrip("\n"))))

    def print_line(self, text: str) -> None:
        """Print a line. If a prompt is waiting, it is repeated below the line."""
        prompt = self._prompt
        self._out.write(f"\n{text}\n{prompt}" if prompt else f"{text}\n")
        self._out.flush()

    def _read_in_thread(self, loop: asyncio.AbstractEventLoop, future: "asyncio.Future[str | None]") -> None:
        try:
            line: str | None = sys.stdin.readline() or None
        except (OSError, ValueError, UnicodeDecodeError):
            line = None
        if not loop.is_closed():
            loop.call_soon_threadsafe(_set_result, future, line and line.rstrip("\n"))


def _set_result(future: "asyncio.Future[str | None]", line: str | None) -> None:
    if not future.done():
        future.set_result(line)


class LinePrompt:
    """The Prompt of the line-mode chat. A trailing backslash continues on the next line."""

    def __init__(self, lines: StdinLines, out: TextIO) -> None:
        self._lines = lines
        self._out = out
        self._interrupt_count = 0
        self._draft = ""

    async def next_line(self) -> str | None:
        if self._draft:
            self._out.write(f"so far: {sanitize(self._draft)} (Enter sends it, Ctrl-C discards it)\n")
        parts: list[str] = []
        for prompt in itertools.chain([USER_PREFIX], itertools.repeat("and: ")):
            read_task = asyncio.ensure_future(self._lines.read(prompt))
            with cancel_on_signals(read_task, (signal.SIGINT,)) as signals:
                try:
                    line = await read_task
                except asyncio.CancelledError:
                    if not signals:
                        raise
                    self._draft = ""
                    self._interrupt_count += 1
                    if self._interrupt_count > 1:
                        return None
                    self._out.write("\nCtrl-C again, or Ctrl-D, leaves\n")
                    return ""
            self._interrupt_count = 0
            if line is None:
                return None
            parts.append(line.removesuffix("\\"))
            if not line.endswith("\\"):
                break
        draft, self._draft = self._draft, ""
        return "\n".join(filter(None, (draft, *parts)))  # an empty line sends the draft

    def echo(self, line: str) -> None:
        """Nothing to do: the terminal shows the line already."""

    def set_busy(self, busy: bool) -> None:
        """Nothing to do: the terminal keeps text typed meanwhile."""

    def prefill(self, text: str) -> None:
        self._draft = "\n".join(filter(None, (self._draft, text)))

    def restore_typed(self, typed_ahead: TypedAhead) -> None:
        """Put text typed before a question at the beginning of the next line."""
        self.prefill(typed_ahead.text.strip("\n"))

    def recall_cancelled(self) -> None:
        """Nothing to do: no lines are queued."""


class LineKeyInput:
    """Reads the answer to a question as a line: a letter, and Enter."""

    hint = "an empty line accepts the value, Ctrl-D declines"

    def __init__(self, lines: StdinLines, out: TextIO) -> None:
        self._lines = lines
        self._out = out
        self._typed_ahead = TypedAhead()

    def hold_input(self) -> AbstractContextManager[None]:
        return nullcontext()  # the terminal keeps lines itself

    def take_typed_ahead(self) -> TypedAhead:
        typed_ahead, self._typed_ahead = self._typed_ahead, TypedAhead()
        return typed_ahead

    async def wait_until_idle(self) -> None:
        remaining = QUIET_SECONDS
        while remaining > 0:
            if text := self._lines.take_typed_ahead():
                self._typed_ahead.text += f"\n{text}"
                remaining = QUIET_SECONDS
            remaining -= POLL_INTERVAL
            await asyncio.sleep(POLL_INTERVAL)

    async def read_key(self, prompt: str, keys: str, *, allow_enter: bool = False) -> str:
        answers = {**{key: key for key in keys}, **{word: word[0] for word in ("yes", "no") if word[0] in keys}}
        while (line := await self._lines.read(f"question: {' '.join(prompt.split())} ")) is not None:
            typed = line.strip()
            typed = typed if typed in answers or typed == "A" else typed.casefold()  # "A" and "a" are different answers
            if typed in answers:  # only the exact word: a longer line may have been meant for something else
                return answers[typed]
            if not typed and allow_enter:
                return "enter"
            self._out.write(f"warning: type one of {', '.join(keys)}, and press Enter\n")
        return "escape"

    async def choose(self, choices: Sequence[Choice], *, columns: int, rows: int) -> str:
        return await self.read_key(format_labels(choices, columns), "".join(choice.key for choice in choices))

    async def read_line(
        self, prompt: str, default: str, find_problem: Callable[[str], str] | None = None
    ) -> str | ElicitationResult:
        label = prompt.strip().rstrip(":") or "your answer"
        current = f" (now: {sanitize(default)})" if default else ""
        while (line := await self._lines.read(f"question: {label}{current}: ")) is not None:
            typed = line or default
            if find_problem is None or not (problem := find_problem(typed)):
                return typed
            self._out.write(f"warning: {problem}\n")
        return ElicitationResult(action="decline")
