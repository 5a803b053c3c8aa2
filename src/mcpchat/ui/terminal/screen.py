"""The screen: final lines, written from top to bottom, and a few live lines at the bottom that still change."""

import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment, Segments
from rich.style import Style
from rich.text import Text

from mcpchat.ui.terminal.hyperlinks import remove_link_ids

# Clears the current line, and then everything below from the second cell of the line on. If a terminal such as tmux is
# asked to clear from the screen's first cell on, it saves the cleared lines in its scrollback.
CLEAR_BELOW = "\x1b[K\x1b[C\x1b[J\x1b[D"
# Seconds without a change of the window's size before anything is drawn again. A terminal rewraps its lines before it
# tells the size, tmux up to 0.25 s before, and what is drawn in between lands in the wrong rows.
RESIZE_PAUSE = 0.3
_UP_AND_CLEAR = "\x1b[{}A" + CLEAR_BELOW
_TAB_WIDTH = 8
_HANGING_INDENT, _MIN_TEXT_WIDTH = 2, 20  # cells


def rewraps_on_resize(environ: Mapping[str, str]) -> bool:
    """Whether this terminal rewraps lines when its window becomes narrower: all but xterm and the Linux console do."""
    return not environ.get("XTERM_VERSION") and environ.get("TERM") != "linux"


class Screen(Protocol):
    """The surface that a conversation is drawn on: final lines above, live lines at the bottom."""

    console: Console

    @property
    def max_live_rows(self) -> int:
        """The maximum number of live lines."""
        ...

    def print_final(self, renderable: RenderableType, *, to_stderr: bool = False) -> None:
        """Write something permanently above the live lines; ``to_stderr`` if it is not part of the answer."""
        ...

    def write(self, text: str) -> None:
        """Write raw text above the live lines; it must end in a newline."""
        ...

    def show(self, lines: Sequence[Sequence[Segment]]) -> None:
        """Replace the live lines. If there are more than ``max_live_rows``, the last ones are shown."""
        ...

    def exclusive(self) -> AbstractAsyncContextManager[None]:
        """Give the terminal to other code while inside: nothing is drawn on it, and the keyboard is not read."""
        ...


def render_lines(console: Console, renderable: RenderableType) -> list[list[Segment]]:
    """The lines of the renderable, without trailing blanks. Lines that it does not wrap stay unwrapped."""
    segments = console.render(renderable, console.options.update(height=None))
    return [_strip_trailing_blanks(line) for line in Segment.split_lines(Segment.filter_control(segments))]


def render_rows(console: Console, renderable: RenderableType) -> list[list[Segment]]:
    """The lines as the screen shows them: each fits the width of the console."""
    return [row for line in render_lines(console, renderable) for row in _split_rows(line, console.width)]


def split_at_row(text: Text, console: Console, width: int, count: int) -> tuple[list[Text], Text]:
    """Wrap a text at ``width`` cells: its first ``count`` rows, but never the last one, and the rest of the text."""
    text.expand_tabs()
    lines = list(text.wrap(console, width))
    first_rows, offset = lines[: max(0, min(count, len(lines) - 1))], 0
    for line in first_rows:
        offset += len(line.plain.rstrip(" "))
        while offset < len(text) and text.plain[offset] == " ":  # blanks at the end of a row are not drawn
            offset += 1
        offset += text.plain[offset : offset + 1] == "\n"
    return first_rows, text[offset:]


class HangingIndent:
    """A text whose wrapped lines continue with an indent instead of at the left edge."""

    def __init__(self, text: Text) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self._text.split("\n", allow_blank=True):
            indent = len(line.plain) - len(line.plain.lstrip(" ")) + _HANGING_INDENT
            width = options.max_width
            first, rest = split_at_row(line, console, width, 1)
            if not first or not rest.plain or width < _MIN_TEXT_WIDTH + indent:
                yield line
                continue
            yield from first
            for continuation in rest.wrap(console, width - indent):
                yield Text(" " * indent, style=self._text.style).append_text(continuation)


def _strip_trailing_blanks(line: Sequence[Segment]) -> list[Segment]:
    segments = list(line)
    while segments and _is_blank_style(segments[-1].style):
        last = segments.pop()
        if text := last.text.rstrip(" "):
            segments.append(Segment(text, last.style))
            break
    return segments


def _is_blank_style(style: Style | None) -> bool:
    """Whether spaces in this style are invisible."""
    return style is None or not (style.bgcolor or style.underline or style.reverse or style.strike)


def _split_rows(line: Sequence[Segment], width: int) -> list[list[Segment]]:
    column, segments = 0, []
    for text, style, _ in line:
        first, *more = text.split("\t")
        expanded = first
        for part in more:  # a tab advances to the next tab stop
            expanded += " " * (_TAB_WIDTH - (column + Segment(expanded).cell_length) % _TAB_WIDTH) + part
        column += Segment(expanded).cell_length
        segments.append(Segment(expanded, style))
    if column <= width:
        return [segments]
    return list(
        Segment.split_and_crop_lines(_wrap_at_width(segments, width), width, pad=False, include_new_lines=False)
    )


def _wrap_at_width(line: Sequence[Segment], width: int) -> list[Segment]:
    """The line, with a newline at each position where it reaches the edge."""
    segments: list[Segment] = []
    remaining = width
    for text, style, _ in line:
        rest = Segment(text, style)
        while rest.cell_length > remaining:
            part, rest = rest.split_cells(remaining)
            # If a wide character has only one cell left, it goes to the next row, as the terminal does it.
            segments += (Segment(part.text.rstrip(" ") if len(part.text) else "", style), Segment.line())
            remaining = width
        remaining -= rest.cell_length
        segments.append(rest)
    return segments


class LiveScreen:
    """The screen of a command without an input line, such as ask.

    Each live line ends in a newline, so that the cursor is always on the line below them. While the size of the window
    changes and there are live lines, nothing is drawn (see RESIZE_PAUSE): the frames of what moves draw it later.
    """

    def __init__(
        self,
        console: Console,
        err: Console | None = None,
        *,
        rewraps: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``err`` writes to the same terminal through stderr. ``rewraps`` is the value of ``rewraps_on_resize``."""
        self.console = console
        self._err = err or console
        self._rewraps = rewraps
        self._clock = clock
        self._size, self._resized_at = console.size, -RESIZE_PAUSE
        self._drawn: list[tuple[str, int]] = []  # the live lines on the screen, each with its cells
        self._live_lines = self._drawn  # as they should be
        self._pending: list[tuple[Console, str]] = []  # final text that is not written yet

    @property
    def max_live_rows(self) -> int:
        return max(1, self.console.height - 2)

    def print_final(self, renderable: RenderableType, *, to_stderr: bool = False) -> None:
        target = self._err if to_stderr else self.console
        self.write("".join(f"{line}\n" for line in render_ansi(target, render_lines(target, renderable))), target)

    def write(self, text: str, target: Console | None = None) -> None:
        self._pending.append((target or self.console, text))
        self._draw()

    def show(self, lines: Sequence[Sequence[Segment]]) -> None:
        lines = lines[-self.max_live_rows :]
        cells = (Segment.get_line_length(list(line)) for line in lines)
        self._live_lines = list(zip(render_ansi(self.console, lines), cells, strict=True))
        self._draw()

    def _draw(self) -> None:
        """Write the pending text, and draw the live lines from the first one that differs."""
        if self._drawn and self._live_lines and self._is_resizing():
            return
        unchanged = 0
        while not self._pending and self._drawn[unchanged:] and self._live_lines[unchanged:]:
            if self._drawn[unchanged] != self._live_lines[unchanged]:
                break
            unchanged += 1
        out = self._erase(unchanged)
        for target, text in self._pending:
            if target is self.console:
                out += text
            else:
                self._write(out)
                target.file.write(text)
                target.file.flush()
                out = ""
        self._write(out + "".join(f"{line}\n" for line, _ in self._live_lines[unchanged:]))
        self._drawn, self._pending = self._live_lines, []

    def _is_resizing(self) -> bool:
        if self.console.size != self._size:
            self._size, self._resized_at = self.console.size, self._clock()
        return self._clock() < self._resized_at + RESIZE_PAUSE

    def _erase(self, keep: int = 0) -> str:
        """The escape sequence that erases the live lines except the first ``keep``.

        In a window that has become narrower, they take more rows.
        """
        width = self.console.width if self._rewraps else sys.maxsize
        rows = sum(max(1, -(-cells // width)) for _, cells in self._drawn[keep:])
        return _UP_AND_CLEAR.format(rows) if rows else ""

    def _write(self, text: str) -> None:
        if text:
            self.console.file.write(text)
            self.console.file.flush()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        self.show(())
        yield


def render_ansi(console: Console, lines: Sequence[Sequence[Segment]]) -> list[str]:
    """The lines as text with the escape sequences that the console's terminal supports."""
    if not lines:
        return []
    flat = [segment for line in lines for segment in (*line, Segment.line())]
    with console.capture() as captured:
        console.print(Segments(flat), crop=False, end="")
    return remove_link_ids(captured.get()).split("\n")[: len(lines)]
