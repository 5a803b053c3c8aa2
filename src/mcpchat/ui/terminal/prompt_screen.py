"""The chat's screen: the input line at the bottom, live lines above it, the status line below it.

One prompt_toolkit application runs as long as the chat. Final output is written above it, so that a notice does not
disturb the input line, and the user can type while an answer streams in.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from prompt_toolkit.application import Application, in_terminal
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import Completer
from prompt_toolkit.document import Document
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import ANSI, AnyFormattedText, FormattedText
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import merge_key_bindings
from prompt_toolkit.key_binding.bindings.auto_suggest import load_auto_suggest_bindings
from prompt_toolkit.key_binding.vi_state import InputMode
from prompt_toolkit.layout import ConditionalContainer, Dimension, Float, FloatContainer, HSplit, Layout, Window
from prompt_toolkit.layout.controls import BufferControl, FormattedTextControl
from prompt_toolkit.layout.menus import CompletionsMenu
from prompt_toolkit.layout.processors import AppendAutoSuggestion, HighlightIncrementalSearchProcessor
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.widgets import SearchToolbar
from rich.cells import cell_len
from rich.color_triplet import ColorTriplet
from rich.console import Console, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from mcpchat.ui.terminal import external, tty
from mcpchat.ui.terminal.background import QUERY, parse_report, tint
from mcpchat.ui.terminal.folded_pastes import FoldedPastes
from mcpchat.ui.terminal.hyperlinks import remove_hyperlinks
from mcpchat.ui.terminal.inline_app import STYLE, AboveWriter, InlineApp, terminal_output
from mcpchat.ui.terminal.input_buffer import InputBuffer
from mcpchat.ui.terminal.key_bindings import build_key_bindings
from mcpchat.ui.terminal.screen import HangingIndent, render_ansi, render_lines, render_rows
from mcpchat.ui.terminal.typed_ahead import TypedAhead
from mcpchat.util.sanitize import one_line, sanitize, strip_invisible

_MAX_MENU_ROWS = 8  # rows of suggestions
_MIN_REDRAW_INTERVAL = 1 / 30  # seconds between two drawings, at least
_FRAME_SECONDS = 0.12  # seconds between two frames of the spinner
_BEGIN_SYNC, _END_SYNC = "\x1b[?2026h", "\x1b[?2026l"  # synchronized output, on terminals that support it
_TAB_WIDTH = 4
_MAX_REPORT_SECONDS = 3.0  # how long a terminal's answer is waited for
_VI_MODES = {InputMode.NAVIGATION: "NORMAL", InputMode.REPLACE: "REPLACE", InputMode.REPLACE_SINGLE: "REPLACE"}


def _shows_tints(console: Console) -> bool:
    """Whether the terminal has enough colours for a tint of its background."""
    return not console.no_color and console.color_system in {"256", "truecolor"}


class PromptScreen:
    """A Screen with an input line. ``next_line`` returns the sent lines in order.

    ``make_console`` makes a console of a file; text printed on it appears above the input line. ``status`` returns the
    status line for a width in cells. ``interrupt`` cancels the line that is being handled, and returns whether it can.
    ``rewraps`` is the value of ``rewraps_on_resize``. ``background`` is the terminal's colour; None asks the terminal.
    """

    def __init__(
        self,
        make_console: Callable[[Any], Console],
        *,
        history: History,
        completer: Completer,
        vi: bool = False,
        status: Callable[[int], str] = lambda width: "",
        interrupt: Callable[[], bool] = lambda: False,
        rewraps: bool = True,
        background: ColorTriplet | None = None,
    ) -> None:
        self.console = make_console(AboveWriter(self.write))
        self._background = background
        self._asked_background: float | None = None
        self._status = status
        self._activity: Callable[[], str] = lambda: ""
        self._toggle_reasoning: Callable[[], bool] = lambda: False
        self._count_tasks: Callable[[], int] = lambda: 0
        self._put_tasks_aside: Callable[[], int] = lambda: 0
        self._raise_interrupt = interrupt
        self._queued_at_interrupt: int | None = None  # entries in the queue at Ctrl-C
        self._live_lines: list[str] = []
        self._live_widths: list[int] = []  # cells of each live line
        self._drawn_widths: list[int] = []  # the same of the lines on the screen
        self._pending_output: list[str] = []
        self._line_queue: asyncio.Queue[str | None] = asyncio.Queue()
        self.queued_lines: list[str] = []
        self.pastes: list[str] = []
        self.shell_mode = False  # whether the line is a command for the user's shell
        self.shell_lines: list[str] = []  # lines that were sent in shell mode, not handled yet
        self.folded = FoldedPastes()
        self._warned_of = ""
        self._last_paste = ""  # the latest line that was sent with a folded paste, in full
        self.busy = False
        self.exit_requested = False
        self._exclusive_depth = 0
        self._exclusive_lock = asyncio.Lock()
        self._exclusive_tasks: set[asyncio.Task[None]] = set()
        self._interrupt_count = 0
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._animating = False
        self._last_key_time = time.monotonic()
        self.buffer: Buffer = InputBuffer(
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
            rewraps_on_resize=rewraps,
            layout=Layout(self._build_container(prompt, toolbar), focused_element=prompt),
            key_bindings=merge_key_bindings([load_auto_suggest_bindings(), build_key_bindings(self)]),
            editing_mode=EditingMode.VI if vi else EditingMode.EMACS,
            style=STYLE,
            color_depth=ColorDepth.DEPTH_1_BIT if self.console.no_color else None,
            output=self._output,
            min_redraw_interval=_MIN_REDRAW_INTERVAL,
            erase_when_done=True,
            before_render=self._write_above,
            after_render=self._end_sync,
        )
        self._app.ttimeoutlen = 0.05
        self.buffer.on_text_changed += lambda buffer: self.mark_activity()

    def _build_container(self, prompt: BufferControl, toolbar: SearchToolbar) -> FloatContainer:
        def make_window(read: Callable[[], AnyFormattedText], visible: Callable[[], bool], style: str = "") -> Any:
            control = FormattedTextControl(read)
            window = Window(control, style=style, dont_extend_height=True, wrap_lines=False)
            return ConditionalContainer(window, Condition(visible))

        body = HSplit(
            [
                make_window(lambda: ANSI("\n".join(self._live_lines)), lambda: bool(self._live_lines)),
                make_window(self._format_queue, lambda: bool(self.queued_lines), "class:queued"),
                Window(
                    prompt,
                    height=self._input_height,
                    wrap_lines=True,
                    dont_extend_height=True,
                    get_line_prefix=lambda line, wraps: FormattedText(
                        [("class:prompt", self._prompt_mark if line == wraps == 0 else "  ")]
                    ),
                ),
                toolbar,
                make_window(lambda: ANSI(self._format_status_line()), lambda: True, "class:status"),
            ]
        )
        menu = Float(xcursor=True, ycursor=True, content=CompletionsMenu(max_height=_MAX_MENU_ROWS, scroll_offset=1))
        return FloatContainer(body, floats=[menu])

    # Implementation of Screen.

    @property
    def max_live_rows(self) -> int:
        used_rows = self._input_height().preferred + len(self.queued_lines) + 1
        return max(1, self.console.height - used_rows - 1)

    def print_final(self, renderable: RenderableType, *, to_stderr: bool = False) -> None:
        self.write("".join(f"{line}\n" for line in render_ansi(self.console, render_lines(self.console, renderable))))

    def write(self, text: str) -> None:
        if self._exclusive_depth or not self._app.is_running:
            sys.stdout.write(text)
            sys.stdout.flush()
        elif text:
            self._pending_output.append(text)
            self._app.invalidate()

    def write_raw(self, text: str) -> None:
        """Write an escape sequence that does not change the screen: a bell, a notification or a clipboard text."""
        self._output.write_raw(text)
        self._output.flush()

    def show(self, lines: Sequence[Sequence[Segment]]) -> None:
        rows = render_ansi(self.console, lines[-self.max_live_rows :])
        self._live_lines = [remove_hyperlinks(row) for row in rows]  # prompt_toolkit cannot draw them
        self._live_widths = [Segment.get_line_length(list(line)) for line in lines[-self.max_live_rows :]]
        self._app.invalidate()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        typed_ahead = TypedAhead()
        async with self._take_terminal():
            with tty.hold_input():
                yield
                # While a pager or an editor had the terminal, Enter was turned into Ctrl-J.
                typed_ahead.feed(tty.read_typed_ahead())
        if self.buffer.text:  # not sent unseen together with this
            self.restore_typed(typed_ahead)
        else:
            self._take_first_lines(typed_ahead.text)

    @asynccontextmanager
    async def _take_terminal(self) -> AsyncIterator[None]:
        """Remove the input line while inside; the terminal is in its default mode."""
        # A lock instead of prompt_toolkit's own queue: a task that is cancelled in that queue would block it forever.
        async with self._exclusive_lock:
            await self._app.wait_for_size()
            self._flush()
            async with in_terminal():
                self._exclusive_depth += 1
                try:
                    yield
                finally:
                    self._exclusive_depth -= 1

    def _write_above(self, app: Application[None]) -> None:
        """Write the pending output, just before the application is drawn below it."""
        text, self._pending_output = "".join(self._pending_output), []
        self._output.write_raw(_BEGIN_SYNC)
        widths = [*self._live_widths, *(0 for _ in self.queued_lines)]
        before, self._drawn_widths = self._drawn_widths, widths
        # tmux rewraps a row that became shorter as long as it was, unless all of the row was erased.
        if text or len(widths) != len(before) or any(new < old for new, old in zip(widths, before, strict=True)):
            self._app.erase()
        if text:
            self._output.write_raw(text if text.endswith("\n") else f"{text}\n")

    def _end_sync(self, app: Application[None]) -> None:
        self._output.write_raw(_END_SYNC)
        self._output.flush()

    def _flush(self) -> None:
        if self._pending_output and self._app.is_running and not self._exclusive_depth:
            self._app.erase()
            self._output.write_raw("".join(self._pending_output))
            self._output.flush()
            self._pending_output = []

    # Implementation of Prompt.

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Show the input line while inside. A line that was typed before is sent."""
        typed_ahead = TypedAhead()
        typed_ahead.feed(tty.read_typed_ahead())
        started = asyncio.Event()
        self._task = task = asyncio.create_task(
            self._app.run_async(pre_run=started.set, set_exception_handler=False, handle_sigint=False)
        )
        try:
            await asyncio.wait(
                {task, start_waiter := asyncio.create_task(started.wait())}, return_when=asyncio.FIRST_COMPLETED
            )
            start_waiter.cancel()
            if task.done():
                await task
            task.add_done_callback(lambda done_task: self._on_terminal_lost())
            self._take_first_lines(typed_ahead.text)
            if self._background is None and _shows_tints(self.console):
                self._asked_background = time.monotonic()
                self.write_raw(QUERY)
            yield
        finally:
            await self.stop()

    def _take_first_lines(self, text: str) -> None:
        """Send a line that was typed while the input line was not there; several may be a paste, and are not sent."""
        line, newline, rest = sanitize(text).partition("\n")
        if line:
            self.pastes.append(line + newline + rest)  # it may have been: no mention in it counts
        self.buffer.insert_text(f"{line}{newline}{rest}" if rest else line)
        if newline and not rest and line.strip():
            self.submit()

    async def stop(self) -> None:
        """Remove the input line."""
        self._stopping = True
        for task in self._exclusive_tasks:
            task.cancel()
        if self._task is not None and not self._task.done():
            self._flush()
            self._app.exit()
            await asyncio.gather(self._task, *self._exclusive_tasks, return_exceptions=True)

    def _on_terminal_lost(self) -> None:
        """End the chat, because the terminal is gone."""
        if not self._stopping:
            self.interrupt()
            self.request_exit()  # after it: what was queued before is recalled

    async def next_line(self) -> str | None:
        """Wait for the next line that the user sends; None if the user leaves."""
        line = await self._line_queue.get()
        if line:
            self.queued_lines.pop(0)
        self._app.invalidate()
        return line

    def restore_typed(self, typed_ahead: TypedAhead) -> None:
        """Append text that was typed before a question appeared to the text in the input line."""
        self.pastes += typed_ahead.pastes
        self.buffer.cursor_position = len(self.buffer.text)
        for paste in typed_ahead.pastes:
            self.folded.fold(paste)
        self.buffer.insert_text(self.folded.fold_all(typed_ahead.text.strip("\n")))

    def echo(self, line: str) -> None:
        """Show a line that was sent as part of the conversation: after a blank line, tinted over the whole width.

        Without a known background it is bold. Long pastes in it are folded.
        """
        folded = self.folded.fold_all(line)
        self._last_paste = line if folded != line else self._last_paste
        background = self._background if _shows_tints(self.console) else None
        style = Style(bgcolor=tint(background)) if background is not None else Style(bold=True)
        text = Text("> ", style=style).append(sanitize(folded).replace("\n", "\n  "))
        text.stylize("bold" if background is not None else "bold cyan", 0, 1)
        self.print_final(Text())
        if background is None:
            self.print_final(HangingIndent(text))
            return
        # The terminal fills the rest of each row itself: blanks would wrap when the window becomes narrower.
        fill = style.render("\x1b[K", color_system=self.console._color_system)
        rows = render_ansi(self.console, render_rows(self.console, HangingIndent(text)))
        self.write("".join(f"{row}{fill}\n" for row in rows))

    @property
    def expects_background_report(self) -> bool:
        """Whether the terminal may still answer the question for its background colour."""
        return self._asked_background is not None and time.monotonic() - self._asked_background < _MAX_REPORT_SECONDS

    def take_background_report(self, report: str) -> None:
        """Take the terminal's answer to the question for its background colour."""
        self._background = self._background or parse_report(report)
        self._asked_background = None

    def prefill(self, text: str) -> None:
        """Put text before the text in the input line."""
        if text:
            self.buffer.document = Document(self.folded.fold_all(text) + self.buffer.text)
            self._app.invalidate()

    def recall_queued(self) -> None:
        """Move the queued lines back into the input line, to change them."""
        self._recall(self._line_queue.qsize())

    def recall_cancelled(self) -> None:
        """Move the lines back that were queued when the line before them was cancelled. Later ones stay queued."""
        count = self._queued_at_interrupt
        self._recall(self._line_queue.qsize() if count is None else count)

    def _recall(self, count: int) -> None:
        """Move the first entries of the queue back into the input line."""
        entries = [self._line_queue.get_nowait() for _ in range(self._line_queue.qsize())]
        lines = [entry for entry in entries[:count] if entry]
        del self.queued_lines[: len(lines)]
        for entry in entries[count:]:
            self._line_queue.put_nowait(entry)
        self.exit_requested = None in entries[count:]
        self._queued_at_interrupt = None if self._queued_at_interrupt is None else 0
        self.prefill("\n".join(lines) + ("\n" if lines and self.buffer.text else ""))

    def set_activity(self, activity: Callable[[], str], toggle_reasoning: Callable[[], bool]) -> None:
        """Set the function that describes the current activity, and the one that folds reasoning or shows it."""
        self._activity, self._toggle_reasoning = activity, toggle_reasoning

    def set_tasks(self, count: Callable[[], int], put_aside: Callable[[], int]) -> None:
        """Set the functions that count the tasks that are waited for, and that put them aside."""
        self._count_tasks, self._put_tasks_aside = count, put_aside

    @property
    def has_tasks(self) -> bool:
        return self.busy and self._count_tasks() > 0

    def put_tasks_aside(self) -> None:
        count = self._put_tasks_aside()
        text = "the task goes on" if count == 1 else f"{count} tasks go on"
        self.write(f"  {text} in the background\n")

    @property
    def idle_seconds(self) -> float:
        """Seconds since the last key."""
        return time.monotonic() - self._last_key_time

    def set_busy(self, busy: bool) -> None:
        """Tell whether a line is being handled: then lines that are sent are queued, and Ctrl-C cancels it."""
        self.busy = busy
        self._interrupt_count = 0
        self._queued_at_interrupt = None
        self.exit_requested = self.exit_requested and busy
        self._app.invalidate()
        if busy and not self._animating:
            self._animate()

    def _animate(self) -> None:
        self._animating = self.busy
        if self.busy:
            self._app.invalidate()
            asyncio.get_running_loop().call_later(_FRAME_SECONDS, self._animate)

    def _format_queue(self) -> str:
        width = max(10, self.console.width - 12)
        return "\n".join(f"  next: {one_line(self.folded.fold_all(line), width)}" for line in self.queued_lines)

    def _format_status_line(self) -> str:
        activity = self._activity() if self.busy else ""
        if self.has_tasks:
            activity += " · Ctrl-B goes on without it"
        if self.exit_requested and self.busy:
            activity += " · leaving after this"
        if self._app.editing_mode == EditingMode.VI:
            activity = " · ".join(filter(None, (_VI_MODES.get(self._app.vi_state.input_mode, ""), activity)))
        prefix = f"{activity} · " if activity else ""
        width = max(1, self.console.width - 1)
        status = self._status(max(0, width - cell_len(prefix)))
        line = f"{prefix}{status}" if status else activity
        return f"\x1b[2m{line}\x1b[0m"

    @property
    def _prompt_mark(self) -> str:
        return "! " if self.shell_mode else "> "

    def _input_height(self) -> Dimension:
        rows = 0
        width = max(1, self.console.width - 3)
        for line in self.buffer.text.split("\n"):
            rows += 1 + cell_len(line.expandtabs(_TAB_WIDTH)) // width
        menu = self.buffer.complete_state
        preferred = rows + (min(_MAX_MENU_ROWS, len(menu.completions)) if menu is not None else 0)
        max_rows = max(3, self.console.height - 4)
        return Dimension(min=1, preferred=min(preferred, max_rows), max=min(preferred, max_rows))

    # Actions of the keys.

    def mark_activity(self) -> None:
        self._last_key_time = time.monotonic()

    def submit(self) -> None:
        text = self.folded.unfold_all(self.buffer.text)
        if self.busy and not (text.strip() or self.shell_mode):
            return
        if self.folded.has_damaged_label(text) and self._warned_of != text:
            self._warned_of = text
            self.write("  a folded paste was changed, and its text is missing: paste it again (Enter sends it so)\n")
            return
        if self.shell_mode:
            text, self.shell_mode = f"!{text}", False
            self.shell_lines.append(text)
        if text != self.buffer.text:
            self.buffer.text = text  # the history keeps it whole
        self.buffer.reset(append_to_history=bool(text.strip()))
        self._line_queue.put_nowait(text)
        if text:
            self.queued_lines.append(text)

    def insert_paste(self, text: str) -> None:
        """Insert pasted text, a long one as a label, without what is invisible: the model gets what the user sees."""
        text = strip_invisible(text)
        self.pastes.append(text)
        self.buffer.insert_text(self.folded.fold(text))

    def open_pastes(self) -> None:
        """Show the folded pastes: in the input line, or if there are none, those of the latest line, in the pager."""
        unfolded = self.folded.unfold_all(self.buffer.text)
        if unfolded != self.buffer.text:
            self.buffer.document = Document(unfolded)
        elif self._last_paste:
            self._start_exclusive(self._show_last_paste())

    async def _show_last_paste(self) -> None:
        async with self.exclusive():
            await external.show_in_pager(sanitize(self._last_paste), lambda text: self.write(f"{text}\n"))

    def cancel_or_leave(self) -> None:
        """Cancel the line that is being handled, else clear the input line, else leave at the second Ctrl-C."""
        if self.busy:
            self.interrupt()
        elif self.buffer.text or self.shell_mode:
            self.buffer.reset()
            self.shell_mode = False
            self._line_queue.put_nowait("")  # an empty line also ends the editing of a message
            self._interrupt_count = 0
        elif self._interrupt_count:
            self.request_exit()
        else:
            self._interrupt_count = 1
            self._line_queue.put_nowait("")
            self.write("  Ctrl-C again, or Ctrl-D, leaves\n")

    def interrupt(self) -> bool:
        """Cancel the line that is being handled. Returns whether there was one, and it could be cancelled."""
        if not self.busy or not self._raise_interrupt():
            return False
        if self._queued_at_interrupt is None:
            self._queued_at_interrupt = self._line_queue.qsize()
        return True

    def request_exit(self) -> None:
        self.exit_requested = True
        self._line_queue.put_nowait(None)

    def open_editor(self) -> None:
        self._start_exclusive(self._edit_line())

    def suspend(self) -> None:
        self._start_exclusive(self._suspend())

    def toggle_reasoning(self) -> None:
        is_folded = self._toggle_reasoning()
        self.write(f"  reasoning is {'folded' if is_folded else 'shown'} from now on\n")

    def _start_exclusive(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task that takes the terminal."""
        task = asyncio.ensure_future(work)
        self._exclusive_tasks.add(task)
        task.add_done_callback(self._exclusive_tasks.discard)

    async def _edit_line(self) -> None:
        command = external.find_editor()
        if not command:
            self.write("  the program in $VISUAL or $EDITOR does not exist\n")
            return
        async with self.exclusive():
            new_text = await external.edit_text(self.folded.unfold_all(self.buffer.text), command, suffix=".md")
            if new_text is not None:
                self.buffer.document = Document(self.folded.fold_all(new_text.rstrip("\n")))

    async def _suspend(self) -> None:
        if sys.platform != "win32":
            async with self._take_terminal():
                tty.suspend()
