"""A terminal that is written from above to below, and the few lines at its bottom that are still changing."""

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment, Segments
from rich.style import Style
from rich.text import Text

# The first line by itself, and what is below from its second cell on: from the screen's first cell on, some terminals
# (tmux) would take it for a wish to keep what is there in their history.
CLEAR = "\x1b[K\x1b[C\x1b[J\x1b[D"
_UP_AND_CLEAR = "\x1b[{}A" + CLEAR
_TAB = 8
_HANGING, _NARROW = 2, 20  # cells


def reflows(environ: Mapping[str, str]) -> bool:
    """Whether this terminal breaks what is drawn anew when its window becomes narrower: all but two kinds do."""
    return not environ.get("XTERM_VERSION") and environ.get("TERM") != "linux"


class Screen(Protocol):
    """Where a conversation is drawn: what is final goes above, what is not yet stays at the bottom."""

    console: Console

    @property
    def room(self) -> int:
        """How many live lines there can be."""
        ...

    def commit(self, renderable: RenderableType, *, aside: bool = False) -> None:
        """Write something once and for all, above the live lines; ``aside`` is for what is no part of the answer."""
        ...

    def write(self, text: str) -> None:
        """Write text as it is, above the live lines; it ends in a newline."""
        ...

    def show(self, lines: Sequence[Sequence[Segment]]) -> None:
        """Replace the live lines; of more than there is room for, the last ones."""
        ...

    def alone(self) -> AbstractAsyncContextManager[None]:
        """While inside, somebody else has the terminal: nothing is drawn on it, and the keyboard is theirs."""
        ...


def lines_of(console: Console, renderable: RenderableType) -> list[list[Segment]]:
    """The lines as they are to be written: what the renderable leaves whole is not broken, and none ends in blanks."""
    segments = console.render(renderable, console.options.update(height=None))
    return [_trimmed(line) for line in Segment.split_lines(Segment.filter_control(segments))]


def rows_of(console: Console, renderable: RenderableType) -> list[list[Segment]]:
    """The lines as the screen shows them: each fits its width."""
    return [row for line in lines_of(console, renderable) for row in _rows(line, console.width)]


def divided(text: Text, console: Console, width: int, count: int) -> tuple[list[Text], Text]:
    """The first lines of a text at this width, so many but for the last one; and the rest of it."""
    text.expand_tabs()
    lines = list(text.wrap(console, width))
    done, at = lines[: max(0, min(count, len(lines) - 1))], 0
    for line in done:
        at += len(line.plain.rstrip(" "))
        while at < len(text) and text.plain[at] == " ":  # where a line ends, blanks are not drawn
            at += 1
        at += text.plain[at : at + 1] == "\n"
    return done, text[at:]


class Hanging:
    """A text whose lines go on, where they are broken, under themselves and not at the edge."""

    def __init__(self, text: Text) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self._text.split("\n", allow_blank=True):
            indent = len(line.plain) - len(line.plain.lstrip(" ")) + _HANGING
            width = options.max_width
            first, rest = divided(line, console, width, 1)
            if not first or not rest.plain or width < _NARROW + indent:
                yield line
                continue
            yield from first
            for more in rest.wrap(console, width - indent):
                yield Text(" " * indent, style=self._text.style).append_text(more)


def _trimmed(line: Sequence[Segment]) -> list[Segment]:
    kept = list(line)
    while kept and _blank(kept[-1].style):
        last = kept.pop()
        if text := last.text.rstrip(" "):
            kept.append(Segment(text, last.style))
            break
    return kept


def _blank(style: Style | None) -> bool:
    """Whether spaces in this style show nothing."""
    return style is None or not (style.bgcolor or style.underline or style.reverse or style.strike)


def _rows(line: Sequence[Segment], width: int) -> list[list[Segment]]:
    at, shown = 0, []
    for text, style, _ in line:
        first, *more = text.split("\t")
        spread = first
        for piece in more:  # a tab goes to the next stop
            spread += " " * (_TAB - (at + Segment(spread).cell_length) % _TAB) + piece
        at += Segment(spread).cell_length
        shown.append(Segment(spread, style))
    if at <= width:
        return [shown]
    return list(Segment.split_and_crop_lines(_folded(shown, width), width, pad=False, include_new_lines=False))


def _folded(line: Sequence[Segment], width: int) -> list[Segment]:
    """The line with a newline wherever it reaches the edge."""
    folded: list[Segment] = []
    left = width
    for text, style, _ in line:
        rest = Segment(text, style)
        while rest.cell_length > left:
            piece, rest = rest.split_cells(left)
            # A character of two cells that has one left goes to the next row, where the terminal puts it too.
            folded += (Segment(piece.text.rstrip(" ") if len(piece.text) else "", style), Segment.line())
            left = width
        left -= rest.cell_length
        folded.append(rest)
    return folded


class LiveRegion:
    """The screen of a run without a prompt, such as ask.

    The live lines end in a newline each, so that the cursor always stands on the line under them.
    """

    def __init__(self, console: Console, err: Console | None = None, *, reflows: bool = True) -> None:
        """``err`` is the same terminal, through its other door; ``reflows`` as of ``reflows``."""
        self.console = console
        self._err = err or console
        self._reflows = reflows
        self._shown: list[str] = []
        self._cells: list[int] = []

    @property
    def room(self) -> int:
        return max(1, self.console.height - 2)

    def commit(self, renderable: RenderableType, *, aside: bool = False) -> None:
        target = self._err if aside else self.console
        self.write("".join(f"{line}\n" for line in as_text(target, lines_of(target, renderable))), target)

    def write(self, text: str, target: Console | None = None) -> None:
        target = target or self.console
        live = "".join(f"{line}\n" for line in self._shown)
        if target is self.console:
            self._write(self._erase() + text + live)
        else:
            self._write(self._erase())
            target.file.write(text)
            target.file.flush()
            self._write(live)

    def show(self, lines: Sequence[Sequence[Segment]]) -> None:
        """As the Screen's. Only what differs is drawn."""
        lines = lines[-self.room :]
        wanted = as_text(self.console, lines)
        same = 0
        while same < min(len(wanted), len(self._shown)) and wanted[same] == self._shown[same]:
            same += 1
        out = self._erase(same) + "".join(f"{line}\n" for line in wanted[same:])
        self._shown, self._cells = wanted, [Segment.get_line_length(list(line)) for line in lines]
        self._write(out)

    def _erase(self, keep: int = 0) -> str:
        """What takes the live lines off the screen, but for the first; in a narrower window they take more rows."""
        width = self.console.width if self._reflows else sys.maxsize
        rows = sum(max(1, -(-cells // width)) for cells in self._cells[keep:])
        return _UP_AND_CLEAR.format(rows) if rows else ""

    def _write(self, text: str) -> None:
        if text:
            self.console.file.write(text)
            self.console.file.flush()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        self.show(())
        yield


def as_text(console: Console, lines: Sequence[Sequence[Segment]]) -> list[str]:
    """The lines with the escapes that this console's terminal takes."""
    if not lines:
        return []
    flat = [segment for line in lines for segment in (*line, Segment.line())]
    with console.capture() as captured:
        console.print(Segments(flat), crop=False, end="")
    return captured.get().split("\n")[: len(lines)]
