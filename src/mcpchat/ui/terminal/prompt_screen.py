"""The chat's screen: the line being typed at the bottom, with what moves above it and how things stand below.

One application of prompt_toolkit lives as long as the chat. What is final is written above it, so that a notice breaks
no line that is being typed, and a line can be typed while an answer comes.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from prompt_toolkit import search
from prompt_toolkit.application import Application, in_terminal
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import Completer
from prompt_toolkit.document import Document
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.filters import Condition, emacs_mode, has_focus, vi_navigation_mode
from prompt_toolkit.formatted_text import ANSI, AnyFormattedText, FormattedText
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent, merge_key_bindings
from prompt_toolkit.key_binding.bindings.auto_suggest import load_auto_suggest_bindings
from prompt_toolkit.key_binding.vi_state import InputMode
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import ConditionalContainer, Dimension, Float, FloatContainer, HSplit, Layout, Window
from prompt_toolkit.layout.controls import BufferControl, FormattedTextControl
from prompt_toolkit.layout.menus import CompletionsMenu
from prompt_toolkit.layout.processors import AppendAutoSuggestion, HighlightIncrementalSearchProcessor
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.widgets import SearchToolbar
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.segment import Segment
from rich.text import Text

from mcpchat.ui.prompts.keys import Early
from mcpchat.ui.terminal import external
from mcpchat.ui.terminal.inline_app import STYLE, Above, InlineApp, terminal_output
from mcpchat.ui.terminal.screen import as_text, lines_of
from mcpchat.util.sanitize import clean, one_line

_MENU = 8  # rows of suggestions
_REDRAW = 1 / 30  # seconds, at least, between two drawings
_TURN = 0.12  # seconds between two drawings while something moves
_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"  # one picture, for terminals that can wait for the whole of it
_PASTED_TABS = 4


class Bottom:
    """A Screen with a line to type in. Lines that were sent are taken by ``next_line``, in order.

    ``status`` says in so many cells how things stand. ``interrupt`` is called for Ctrl-C while something is being done.
    ``console`` makes a console of a file: what is printed on it goes above the line.
    """

    def __init__(
        self,
        console: Callable[[Any], Console],
        *,
        history: History,
        completer: Completer,
        vi: bool = False,
        status: Callable[[int], str] = lambda width: "",
        interrupt: Callable[[], None] = lambda: None,
        reflows: bool = True,
    ) -> None:
        self.console = console(Above(self.write))
        self._status = status
        self._working: Callable[[], str] = lambda: ""
        self._fold: Callable[[], None] = lambda: None
        self._interrupt = interrupt
        self._live: list[str] = []
        self._above: list[str] = []
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self.queued: list[str] = []
        self.pasted: list[str] = []
        self.busy = False
        self.leaving = False
        self._lent = 0
        self._one_guest = asyncio.Lock()
        self._guests: set[asyncio.Task[None]] = set()
        self._presses = 0
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._ticking = False
        self._touched = time.monotonic()
        self.buffer = Buffer(
            history=history,
            completer=completer,
            complete_while_typing=True,
            auto_suggest=AutoSuggestFromHistory(),
            multiline=True,
        )
        toolbar = SearchToolbar(ignore_case=True)
        prompt = BufferControl(
            buffer=self.buffer,
            search_buffer_control=toolbar.control,
            preview_search=True,
            input_processors=[HighlightIncrementalSearchProcessor(), AppendAutoSuggestion()],
        )
        self._output = terminal_output()
        self._app = InlineApp(
            layout=Layout(self._container(prompt, toolbar), focused_element=prompt),
            key_bindings=merge_key_bindings([load_auto_suggest_bindings(), self._keys()]),
            editing_mode=EditingMode.VI if vi else EditingMode.EMACS,
            style=STYLE,
            color_depth=ColorDepth.DEPTH_1_BIT if self.console.no_color else None,
            output=self._output,
            min_redraw_interval=_REDRAW,
            erase_when_done=True,
            before_render=self._write_above,
            after_render=self._shown,
        )
        self._app.ttimeoutlen = 0.05
        self._app.reflows = reflows
        self.buffer.on_text_changed += lambda buffer: self.touch()

    def _container(self, prompt: BufferControl, toolbar: SearchToolbar) -> FloatContainer:
        def lines(read: Callable[[], AnyFormattedText], shown: Callable[[], bool], style: str = "") -> Any:
            control = FormattedTextControl(read)
            window = Window(control, style=style, dont_extend_height=True, wrap_lines=False)
            return ConditionalContainer(window, Condition(shown))

        body = HSplit(
            [
                lines(lambda: ANSI("\n".join(self._live)), lambda: bool(self._live)),
                lines(self._queue, lambda: bool(self.queued), "class:queued"),
                Window(
                    prompt,
                    height=self._input_height,
                    wrap_lines=True,
                    dont_extend_height=True,
                    get_line_prefix=lambda line, wraps: FormattedText(
                        [("class:prompt", "> " if line == wraps == 0 else "  ")]
                    ),
                ),
                toolbar,
                lines(lambda: ANSI(self._bottom_line()), lambda: True, "class:status"),
            ]
        )
        menu = Float(xcursor=True, ycursor=True, content=CompletionsMenu(max_height=_MENU, scroll_offset=1))
        return FloatContainer(body, floats=[menu])

    # As a Screen.

    @property
    def room(self) -> int:
        taken = self._input_height().preferred + len(self.queued) + 1
        return max(1, self.console.height - taken - 1)

    def commit(self, renderable: RenderableType, *, aside: bool = False) -> None:
        self.write("".join(f"{line}\n" for line in as_text(self.console, lines_of(self.console, renderable))))

    def write(self, text: str) -> None:
        if self._lent or not self._app.is_running:
            sys.stdout.write(text)
            sys.stdout.flush()
        elif text:
            self._above.append(text)
            self._app.invalidate()

    def raw(self, text: str) -> None:
        """Write what moves nothing on the screen: a bell, a notification, something for the clipboard."""
        self._output.write_raw(text)
        self._output.flush()

    def show(self, lines: Sequence[Sequence[Segment]]) -> None:
        self._live = as_text(self.console, lines[-self.room :])
        self._app.invalidate()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        # One at a time, and not by prompt_toolkit's own queue: who is cancelled in it would leave it shut for ever.
        async with self._one_guest:
            self._flush()
            async with in_terminal():
                self._lent += 1
                try:
                    yield
                finally:
                    self._lent -= 1

    def _write_above(self, app: Application[None]) -> None:
        """Just before the bottom is drawn: what is to stand above it."""
        text, self._above = "".join(self._above), []
        self._output.write_raw(_BEGIN)
        self._app.mend()  # what is drawn before the signal of a resize comes would stand in the wrong place
        if text:
            app.renderer.erase()
            self._output.write_raw(text if text.endswith("\n") else f"{text}\n")

    def _shown(self, app: Application[None]) -> None:
        self._output.write_raw(_END)
        self._output.flush()

    def _flush(self) -> None:
        if self._above and self._app.is_running and not self._lent:
            self._app.renderer.erase()
            self._output.write_raw("".join(self._above))
            self._output.flush()
            self._above = []

    # As a prompt.

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While inside, the line is there to be typed in."""
        started = asyncio.Event()
        self._task = task = asyncio.create_task(
            self._app.run_async(pre_run=started.set, set_exception_handler=False, handle_sigint=False)
        )
        try:
            await asyncio.wait(
                {task, waiting := asyncio.create_task(started.wait())}, return_when=asyncio.FIRST_COMPLETED
            )
            waiting.cancel()
            if task.done():
                await task
            task.add_done_callback(lambda ended: self._gone())
            yield
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Take the line away: nothing more is typed."""
        self._stopping = True
        for guest in self._guests:
            guest.cancel()
        if self._task is not None and not self._task.done():
            self._flush()
            self._app.exit()
            await asyncio.gather(self._task, *self._guests, return_exceptions=True)

    def _gone(self) -> None:
        """The terminal went away, and with it whoever could say something."""
        if not self._stopping:
            self._leave()
            if self.busy:
                self._interrupt()

    async def next_line(self) -> str | None:
        """The next line that was sent, None where the person wants to leave."""
        line = await self._lines.get()
        if line:
            self.queued.pop(0)
        self._app.invalidate()
        return line

    def give_back(self, early: Early) -> None:
        """Put what was typed where it did not belong after what is typed so far."""
        self.pasted += early.pasted
        self.buffer.cursor_position = len(self.buffer.text)
        self.buffer.insert_text(early.text.strip("\n"))

    def echo(self, line: str) -> None:
        """Show a line that was sent as part of the conversation."""
        self.commit(Text().append("> ", style="bold").append(clean(line).replace("\n", "\n  ")))

    def draft(self, text: str) -> None:
        """Put text before what is typed so far."""
        if text:
            self.buffer.document = Document(text + self.buffer.text)
            self._app.invalidate()

    def take_back(self) -> None:
        """Put what was sent and not yet taken back into the line: what came before it did not go as thought."""
        lines = list(self.queued)
        while not self._lines.empty():
            self._lines.get_nowait()
        self.queued.clear()
        self.leaving = False
        self.draft("\n".join(lines) + ("\n" if lines and self.buffer.text else ""))

    def on_work(self, working: Callable[[], str], fold: Callable[[], None]) -> None:
        """``working`` says what is being done, ``fold`` is called for Ctrl-T."""
        self._working, self._fold = working, fold

    @property
    def idle(self) -> float:
        """Seconds since a key was pressed."""
        return time.monotonic() - self._touched

    def work(self, on: bool) -> None:
        """Whether something is being done: a line that is sent meanwhile waits, and Ctrl-C is for that."""
        self.busy = on
        self._presses = 0
        self.leaving = self.leaving and on
        self._app.invalidate()
        if on and not self._ticking:
            self._tick()

    def _tick(self) -> None:
        self._ticking = self.busy
        if self.busy:
            self._app.invalidate()
            asyncio.get_running_loop().call_later(_TURN, self._tick)

    def _queue(self) -> str:
        width = max(10, self.console.width - 12)
        return "\n".join(f"  next: {one_line(line, width)}" for line in self.queued)

    def _bottom_line(self) -> str:
        working = self._working() if self.busy else ""
        if self.leaving and self.busy:
            working += " · leaving after this"
        left = f"{working} · " if working else ""
        width = max(1, self.console.width - 1)
        rest = self._status(max(0, width - cell_len(left)))
        line = f"{left}{rest}" if rest else working
        return f"\x1b[2m{line}\x1b[0m"

    def _input_height(self) -> Dimension:
        rows = 0
        width = max(1, self.console.width - 3)
        for line in self.buffer.text.split("\n"):
            rows += 1 + cell_len(line.expandtabs(_PASTED_TABS)) // width
        menu = self.buffer.complete_state
        wanted = rows + (min(_MENU, len(menu.completions)) if menu is not None else 0)
        most = max(3, self.console.height - 4)
        return Dimension(min=1, preferred=min(wanted, most), max=min(wanted, most))

    def _send(self) -> None:
        text = self.buffer.text
        if self.busy and not text.strip():
            return
        self.buffer.reset(append_to_history=bool(text.strip()))
        self._lines.put_nowait(text)
        if text:
            self.queued.append(text)

    def _leave(self) -> None:
        self.leaving = True
        self._lines.put_nowait(None)

    # The keys.

    def _keys(self) -> KeyBindings:
        typing = has_focus(self.buffer)
        empty = typing & Condition(lambda: not self.buffer.text)
        keys = KeyBindings()
        keys.add("enter", filter=typing)(self._on_enter)
        keys.add("escape", "enter", filter=typing & emacs_mode)(self._on_new_line)
        keys.add("c-j", filter=typing)(self._on_new_line)
        keys.add(Keys.BracketedPaste, filter=typing)(self._on_paste)
        keys.add("c-c")(self._on_stop)
        keys.add("c-d", filter=empty)(lambda event: self._leave())
        keys.add("c-x", "c-e", filter=typing)(lambda event: self._invite(self._edit()))
        keys.add("v", filter=typing & vi_navigation_mode)(lambda event: self._invite(self._edit()))
        keys.add("c-z")(lambda event: self._invite(self._suspend()))
        keys.add("c-l")(lambda event: event.app.renderer.clear())
        keys.add("c-t")(lambda event: self._fold())
        keys.add("up", filter=empty & Condition(lambda: bool(self.queued)))(lambda event: self.take_back())
        suggesting = Condition(lambda: self.buffer.complete_state is not None)
        keys.add("escape", filter=suggesting, eager=True)(self._on_close)
        return keys

    def _on_enter(self, event: KeyPressEvent) -> None:
        self.touch()
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            self._send()

    def _on_new_line(self, event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    def _on_paste(self, event: KeyPressEvent) -> None:
        text = event.data.replace("\r\n", "\n").replace("\r", "\n")
        self.pasted.append(text)
        event.current_buffer.insert_text(text)

    def _on_stop(self, event: KeyPressEvent) -> None:
        """Ctrl-C: out of a search, cancels what is being done, clears the line, leaves: the first that can be."""
        self.touch()
        if event.current_buffer is not self.buffer:
            search.stop_search()
        elif self.busy:
            self._interrupt()
        elif self.buffer.text:
            self.buffer.reset()
            self._lines.put_nowait("")  # nothing goes on from what was begun
            self._presses = 0
        elif self._presses:
            self._leave()
        else:
            self._presses = 1
            self._lines.put_nowait("")
            self.write("  Ctrl-C again, or Ctrl-D, leaves\n")

    def _on_close(self, event: KeyPressEvent) -> None:
        """Escape from the suggestions; with vi keys out of inserting too."""
        self.buffer.cancel_completion()
        if self._app.editing_mode == EditingMode.VI:
            event.app.vi_state.input_mode = InputMode.NAVIGATION
            self.buffer.cursor_left()

    def _invite(self, guest: Coroutine[Any, Any, None]) -> None:
        """Let somebody else have the terminal, in their turn."""
        task = asyncio.ensure_future(guest)
        self._guests.add(task)
        task.add_done_callback(self._guests.discard)

    async def _edit(self) -> None:
        command = external.editor()
        if not command:
            self.write("  $VISUAL or $EDITOR names no program that is there\n")
            return
        async with self.alone():
            edited = await external.edited(self.buffer.text, command, suffix=".md")
        if edited is not None:
            self.buffer.document = Document(edited.rstrip("\n"))

    async def _suspend(self) -> None:
        if sys.platform != "win32":
            async with self.alone():
                os.kill(0, signal.SIGTSTP)  # the whole job, as the terminal itself would

    def touch(self) -> None:
        self._touched = time.monotonic()
