"""Streams Markdown to the screen: final parts are printed once and never redrawn."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from markdown_it.token import Token
from rich.console import RenderableType
from rich.segment import Segment, Segments
from rich.text import Text

from mcpchat.ui.markdown.highlight import Highlighter
from mcpchat.ui.markdown.render import (
    Markdown,
    code_language,
    is_settled,
    name_language,
    parse_markdown,
    render_inline,
    render_unwrapped,
)
from mcpchat.ui.terminal.screen import Screen, render_rows, split_at_row
from mcpchat.util.sanitize import incomplete_tail, sanitize

REDRAW_INTERVAL = 1 / 12  # seconds
_DRAW_TIME_FACTOR = 10  # drawing takes at most a tenth of the time
_LIST_TOKENS = frozenset({"bullet_list_open", "ordered_list_open"})
# A paragraph can only be cut before a letter, since no block or marker begins with one: after a space, or between two
# letters of a script without spaces.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff"
_WORD_START = re.compile(
    rf"(?<=\S)\s(?=[^\W\d_])|(?<=[{_UNSPACED}\u3001\u3002\uff01\uff0c-\uff0f\uff1a-\uff1f])(?=(?![\W\d_])[{_UNSPACED}])"
)
_MIN_LIVE_ROWS = 6  # rows of an open block that are always shown
_LARGE_BLOCK = 8000  # characters; a block that cannot be cut is not parsed for each drawing from this length on
_TAIL_LENGTH = 2000  # characters of the end of a large block that are shown
_RECHECK_GROWTH = 1.25  # a large block is parsed again when it has grown by this factor
_REDRAWN_ROWS = 2  # rows of a paragraph that stay live
_MAX_CUT_TRIES = 8  # positions in a paragraph where a cut is tried


@dataclass
class _OpenCode:
    """An open code fence: the pattern of its end, the indent of its lines, and its highlighter."""

    end: re.Pattern[str]
    indent: int
    highlighter: Highlighter
    lines: list[Text] = field(default_factory=list)  # not printed yet; the last may be incomplete


@dataclass
class _OpenParagraph:
    """A paragraph whose upper rows are printed. ``head`` is rendered text that is not printed yet."""

    head: Text


class MarkdownStream:
    """Takes a message in chunks and shows it on a screen.

    A block stays open until the next one begins, and is redrawn as a whole. Three kinds of blocks print final parts
    earlier: a list prints its finished items, a paragraph its upper rows, and code the lines that do not fit on the
    screen. The fewer rows are live, the fewer can be pushed out of reach when the window becomes narrower.
    """

    def __init__(
        self, screen: Screen, on_change: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``on_change`` is called when ``rows``, the live rows, have changed; ``clock`` returns seconds."""
        self._screen = screen
        self._clock = clock
        self._on_change = on_change
        self._pending: list[str] = []  # text since the last drawing
        self._text = ""  # not final yet
        self._open_block: _OpenCode | _OpenParagraph | None = None  # the block that the text continues
        self._item_number: int | None = None  # the number of the list item at the beginning of the text
        self._checked_length = 0  # characters of the text when it was last parsed
        self._needs_blank_line = False  # before the next block
        self._next_draw = 0.0
        self.rows: list[list[Segment]] = []

    def separate(self) -> None:
        """Print a blank line before the message, unless it has begun."""
        self._needs_blank_line = self._needs_blank_line or not (self._text or self._open_block)

    def feed(self, text: str) -> None:
        self._pending.append(text)
        self.flush_if_due()

    @property
    def has_pending(self) -> bool:
        """Whether there is text that is not drawn yet."""
        return bool(self._pending)

    def flush_if_due(self) -> None:
        """Draw the pending text if the next drawing is due; needed when the model pauses."""
        if self._pending and self._clock() >= self._next_draw:
            self._draw(final=False)

    def finish(self) -> None:
        """Print the rest: the message is complete."""
        if self._text or self._pending or self._open_block:
            self._draw(final=True)
        self._pending, self._needs_blank_line, self._item_number, self._next_draw = [], False, None, 0.0

    def _draw(self, *, final: bool) -> None:
        started = self._clock()
        new = "".join(self._pending)
        incomplete = 0 if final else incomplete_tail(new)
        self._text += sanitize(new[: len(new) - incomplete])
        self._pending = [new[len(new) - incomplete :]] if incomplete else []
        # A large block that cannot be cut is parsed less and less often; in between only its end is shown.
        if final or len(self._text) < _LARGE_BLOCK or len(self._text) >= self._checked_length * _RECHECK_GROWTH:
            while self._settle_next(final=final):
                pass
            self._checked_length = len(self._text)
        self.rows = [] if final else self._live_rows()[-max(_MIN_LIVE_ROWS, self._screen.max_live_rows // 2) :]
        self._on_change()
        finished = self._clock()
        # If a block cannot be cut or the terminal is slow, most of the time is still left for other tasks.
        self._next_draw = finished + max(REDRAW_INTERVAL, _DRAW_TIME_FACTOR * (finished - started))

    def _settle_next(self, *, final: bool) -> bool:
        """Print the part that later text cannot change. Returns whether there may be more of it."""
        if isinstance(self._open_block, _OpenCode):
            return self._settle_code(self._open_block, final=final)
        if isinstance(self._open_block, _OpenParagraph):
            return self._settle_paragraph(self._open_block, final=final)
        return self._settle_blocks(final=final)

    def _print(self, renderable: RenderableType) -> None:
        if self._needs_blank_line:
            self._screen.print_final(Text())
        self._screen.print_final(renderable)
        self._needs_blank_line = False

    def _live_rows(self) -> list[list[Segment]]:
        if len(self._text) >= _LARGE_BLOCK:
            tail = self._text[-_TAIL_LENGTH:]
            return render_rows(self._screen.console, Text(tail[tail.find("\n") + 1 :].expandtabs(4)))
        gap: list[list[Segment]] = [[]] if self._needs_blank_line else []
        if isinstance(self._open_block, _OpenCode):
            fence_end = self._open_block.end.match(self._text.rpartition("\n")[2])  # or its beginning
            return gap + self._render_code(self._open_block.lines[: -1 if fence_end else None])
        if isinstance(self._open_block, _OpenParagraph):
            text = self._open_block.head + render_inline(self._screen.console, self._text)
            return gap + render_rows(self._screen.console, text)
        tokens = self._parse(self._text)
        return gap + render_rows(self._screen.console, Markdown(tokens)) if tokens else []

    # Whole blocks.

    def _parse(self, text: str) -> list[Token]:
        tokens = parse_markdown(text)
        if self._item_number is not None and tokens and tokens[0].type == "ordered_list_open":
            tokens[0].attrs["start"] = self._item_number
        return tokens

    def _settle_blocks(self, *, final: bool) -> bool:
        # An incomplete line may still become another block, so it is ignored.
        complete = self._text if final else self._text[: self._text.rfind("\n") + 1]
        tokens = self._parse(complete)
        blocks = [token for token in tokens if token.level == 0 and token.nesting >= 0]
        if final:
            self._print_blocks(tokens)
            self._text, self._item_number = "", None
            return False
        if not blocks:
            return self._open_paragraph()
        last_block, first_line, item_number = blocks[-1], _first_line(blocks[-1]), None
        if last_block.type in _LIST_TOKENS:
            list_tokens = tokens[tokens.index(last_block) :]
            items = [token for token in list_tokens if token.type == "list_item_open" and token.level == 1]
            first_line = _first_line(items[-1])
            item_number = int(last_block.attrs.get("start", 1)) + len(items) - 1 if len(items) > 1 else None
        if first_line:
            cut = _offset(complete, first_line)
            self._print_blocks(self._parse(complete[:cut]))
            self._text, self._item_number = self._text[cut:], item_number
            self._needs_blank_line = self._needs_blank_line and item_number is None  # none between the items of a list
        if last_block.type == "fence":
            self._open_fence(last_block)
            return True
        return self._open_paragraph()

    def _print_blocks(self, tokens: list[Token]) -> None:
        if tokens:
            self._print(Markdown(tokens))
            self._needs_blank_line = True

    # Code.

    def _open_fence(self, fence: Token) -> None:
        opening, _, self._text = self._text.partition("\n")
        marker = re.escape(fence.markup[0])
        self._open_block = _OpenCode(
            end=re.compile(rf"^ {{0,3}}{marker}{{{len(fence.markup)},}}[ \t]*$\n?", re.MULTILINE),
            indent=len(opening) - len(opening.lstrip(" ")),
            highlighter=Highlighter(language := code_language(fence)),
        )
        if self._needs_blank_line:
            self._screen.print_final(Text())
        self._needs_blank_line = False
        if language:
            self._screen.print_final(name_language(language))

    def _settle_code(self, code: _OpenCode, *, final: bool) -> bool:
        complete = self._text if final else self._text[: self._text.rfind("\n") + 1]
        end = code.end.search(complete)
        if end or final:
            body = complete[: end.start()] if end else complete
            self._print_code(_highlight_lines(code, body))
            self._text = self._text[end.end() if end else len(complete) :]
            self._open_block, self._needs_blank_line, self._item_number = None, True, None
            return bool(self._text)
        if len(self._text) >= _LARGE_BLOCK and "\n" not in self._text:
            return False
        code.lines = _highlight_lines(code, self._text)
        overflow = self._code_overflow(self._render_code(code.lines))
        points = [
            point for point in code.highlighter.resume_points() if point <= min(overflow, complete.count("\n") - 1)
        ]
        if points:
            self._print_code(code.lines[: points[-1]])
            code.highlighter.resume_at(points[-1])
            code.lines = code.lines[points[-1] :]
            self._text = self._text[_offset(self._text, points[-1]) :]
        return False

    def _print_code(self, lines: list[Text]) -> None:
        console = self._screen.console
        if lines:
            self._screen.print_final(
                Segments([segment for line in lines for segment in render_unwrapped(line, console)])
            )

    def _render_code(self, lines: list[Text]) -> list[list[Segment]]:
        console = self._screen.console
        segments = [segment for line in lines for segment in render_unwrapped(line, console)]
        return render_rows(console, Segments(segments)) if segments else []

    def _code_overflow(self, rows: list[list[Segment]]) -> int:
        """The number of rows of code to print: 0, or enough that printing is not needed for each line."""
        max_rows = max(_MIN_LIVE_ROWS, self._screen.max_live_rows // 2)
        return len(rows) - max_rows // 2 if len(rows) > max_rows else 0

    # A paragraph.

    def _paragraph_overflow(self, rows: list[list[Segment]]) -> int:
        """The number of rows of a paragraph to print."""
        max_rows = min(_REDRAWN_ROWS, self._screen.max_live_rows)
        return len(rows) - max_rows + 1 if len(rows) > max_rows else 0

    def _open_paragraph(self) -> bool:
        """Treat the text as a paragraph to cut if it is one of many rows. Returns whether it is."""
        if not self._text.strip():
            return False
        parsed_tokens = parse_markdown(self._text)
        if [token.type for token in parsed_tokens if token.level == 0] != ["paragraph_open", "paragraph_close"]:
            return False
        if "|" in self._text or not self._paragraph_overflow(
            render_rows(self._screen.console, Markdown(parsed_tokens))
        ):
            return False  # a possible table head is not cut
        self._open_block, self._text = _OpenParagraph(Text()), self._text.lstrip()
        return True

    def _settle_paragraph(self, paragraph: _OpenParagraph, *, final: bool) -> bool:
        console = self._screen.console
        complete = self._text if final else self._text[: self._text.rfind("\n") + 1]
        tokens = parse_markdown(complete)
        blocks = [token for token in tokens if token.level == 0 and token.nesting >= 0]
        paragraph_end = re.search(r"\n[ \t]*\n", complete)
        if final or len(blocks) > 1 or paragraph_end:
            rest = tokens[1].content if blocks else ""
            cut = _first_line(blocks[1]) if len(blocks) > 1 else None
            self._print(paragraph.head + render_inline(console, rest))
            self._text = self._text[_offset(complete, cut) :] if cut is not None else self._text[len(complete) :]
            self._open_block, self._needs_blank_line, self._item_number = None, True, None
            return bool(self._text)
        overflow = self._paragraph_overflow(render_rows(console, paragraph.head + render_inline(console, self._text)))
        if overflow > 0 and (cut := _find_safe_cut(self._text)):
            paragraph.head += render_inline(console, self._text[:cut])
            self._text = self._text[cut:]
        if overflow > 0:
            rows, paragraph.head = split_at_row(paragraph.head, console, console.width, overflow)
            for row in rows:
                self._print(row)
        return False


def _first_line(token: Token) -> int:
    assert token.map is not None
    return token.map[0]


def _offset(text: str, line: int) -> int:
    """The offset of the line with this number, counted from 0."""
    offset = 0
    for _ in range(line):
        offset = text.index("\n", offset) + 1
    return offset


def _highlight_lines(code: _OpenCode, text: str) -> list[Text]:
    """The highlighted lines of code, without the indent of their fence."""
    if code.indent:
        text = re.sub(r"^[ \t]+", lambda match: _remove_indent(match[0], code.indent), text, flags=re.MULTILINE)
    return code.highlighter.highlight(text)


def _remove_indent(blanks: str, indent: int) -> str:
    """Remove the fence's indent from a line's leading blanks; a tab stop is four columns."""
    column = index = 0
    while index < len(blanks) and column < indent:
        column += 4 - column % 4 if blanks[index] == "\t" else 1
        index += 1
    return " " * max(0, column - indent) + blanks[index:]


def _find_safe_cut(text: str) -> int:
    """The offset where a paragraph can be cut so that later text cannot change the part before; 0 if it cannot."""
    cuts = [match.end() for match in _WORD_START.finditer(text)][:-1]
    candidates = (cuts[len(cuts) * part // _MAX_CUT_TRIES - 1] for part in range(_MAX_CUT_TRIES, 0, -1) if cuts)
    return next((cut for cut in candidates if is_settled(text[:cut])), 0)
