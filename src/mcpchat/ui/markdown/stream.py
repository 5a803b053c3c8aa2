"""Markdown while it streams: what is final is printed once and never touched again."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from markdown_it.token import Token
from rich.console import RenderableType
from rich.segment import Segment, Segments
from rich.text import Text

from mcpchat.ui.markdown.highlight import Highlighter
from mcpchat.ui.markdown.render import Markdown, inline_text, is_settled, parsed, unbroken
from mcpchat.ui.terminal.screen import Screen, divided, rows_of
from mcpchat.util.sanitize import clean, unfinished

REDRAW_EVERY = 1 / 12  # seconds
_SHARE = 10  # drawing takes at most a tenth of the time
_LISTS = frozenset({"bullet_list_open", "ordered_list_open"})
# Before a letter nothing begins but what goes on: after a blank, or in scripts that are written without any.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff"
_WORD = re.compile(
    rf"(?<=\S)\s(?=[^\W\d_])|(?<=[{_UNSPACED}\u3001\u3002\uff01\uff0c-\uff0f\uff1a-\uff1f])(?=(?![\W\d_])[{_UNSPACED}])"
)
_LEAST = 6  # rows of an open block that are shown in any case
_LARGE, _TAIL, _MORE = 8000, 2000, 1.25  # characters of one block that cannot be cut; its end; how much it has grown
_KEPT = 2  # rows of a paragraph that are drawn again
_CUTS = 8  # places of a paragraph where a cut is tried


@dataclass
class _Code:
    """A fence that is open: how it ends, how far its lines are indented, and where its grammar stands."""

    end: re.Pattern[str]
    indent: int
    highlighter: Highlighter
    lines: list[Text] = field(default_factory=list)  # that are not printed yet, the last perhaps not complete


@dataclass
class _Paragraph:
    """A paragraph whose upper lines are printed: what of it is drawn, and not printed yet."""

    head: Text


class MarkdownStream:
    """Takes a message in pieces and shows it on a screen.

    A block stays open until the next one begins, and is drawn whole. Three kinds give up what is final before: a list
    its finished items, a paragraph its upper lines, and code those that the screen cannot hold. The less is live, the
    less a window that becomes narrower can push out of reach.
    """

    def __init__(
        self, screen: Screen, changed: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``changed`` is called when ``rows``, the live ones, are others."""
        self._screen = screen
        self._clock = clock
        self._changed = changed
        self._new: list[str] = []  # what came since the last drawing
        self._text = ""  # what is not final
        self._within: _Code | _Paragraph | None = None  # what the text goes on with
        self._item: int | None = None  # the number of the list's item that the text begins with
        self._seen = 0  # characters of the text when it was last looked at for what is final
        self._gap = False  # whether what comes next has a blank line before it
        self._due = 0.0
        self.rows: list[list[Segment]] = []

    def feed(self, text: str) -> None:
        self._new.append(text)
        self.catch_up()

    @property
    def behind(self) -> bool:
        """Whether something came that is not drawn yet."""
        return bool(self._new)

    def catch_up(self) -> None:
        """Draw what came since the last drawing, if it is time: for when the model pauses."""
        if self._new and self._clock() >= self._due:
            self._draw(final=False)

    def finish(self) -> None:
        """The message is complete: all of it is final."""
        if self._text or self._new or self._within:
            self._draw(final=True)
        self._new, self._gap, self._item, self._due = [], False, None, 0.0

    def _draw(self, *, final: bool) -> None:
        began = self._clock()
        new = "".join(self._new)
        held = 0 if final else unfinished(new)
        self._text += clean(new[: len(new) - held])
        self._new = [new[len(new) - held :]] if held else []
        # Of a block that is large and cannot be cut, only the end is looked at, and all of it ever more seldom.
        if final or len(self._text) < _LARGE or len(self._text) >= self._seen * _MORE:
            while self._settled(final=final):
                pass
            self._seen = len(self._text)
        self.rows = [] if final else self._live()[-max(_LEAST, self._screen.room // 2) :]
        self._changed()
        ended = self._clock()
        # Also where a block cannot be cut, or the terminal is slow, most of the time is left for others.
        self._due = ended + max(REDRAW_EVERY, _SHARE * (ended - began))

    def _settled(self, *, final: bool) -> bool:
        """Print what nothing can change that comes later; whether there may be more of it."""
        if isinstance(self._within, _Code):
            return self._settle_code(self._within, final=final)
        if isinstance(self._within, _Paragraph):
            return self._settle_paragraph(self._within, final=final)
        return self._settle_blocks(final=final)

    def _print(self, renderable: RenderableType) -> None:
        if self._gap:
            self._screen.commit(Text())
        self._screen.commit(renderable)
        self._gap = False

    def _live(self) -> list[list[Segment]]:
        if len(self._text) >= _LARGE:
            tail = self._text[-_TAIL:]
            return rows_of(self._screen.console, Text(tail[tail.find("\n") + 1 :].expandtabs(4)))
        gap: list[list[Segment]] = [[]] if self._gap else []
        if isinstance(self._within, _Code):
            ends = self._within.end.match(self._text.rpartition("\n")[2])  # or begins to
            return gap + self._rows_of_code(self._within.lines[: -1 if ends else None])
        if isinstance(self._within, _Paragraph):
            whole = self._within.head + inline_text(self._screen.console, self._text)
            return gap + rows_of(self._screen.console, whole)
        tokens = self._tokens(self._text)
        return gap + rows_of(self._screen.console, Markdown(tokens)) if tokens else []

    # Whole blocks.

    def _tokens(self, text: str) -> list[Token]:
        tokens = parsed(text)
        if self._item is not None and tokens and tokens[0].type == "ordered_list_open":
            tokens[0].attrs["start"] = self._item
        return tokens

    def _settle_blocks(self, *, final: bool) -> bool:
        # A line that is not complete may turn out to be something else: it decides nothing.
        whole = self._text if final else self._text[: self._text.rfind("\n") + 1]
        tokens = self._tokens(whole)
        blocks = [token for token in tokens if token.level == 0 and token.nesting >= 0]
        if final:
            self._print_blocks(tokens)
            self._text, self._item = "", None
            return False
        if not blocks:
            return self._outgrown(tokens)
        last, begins, item = blocks[-1], _first_line(blocks[-1]), None
        if last.type in _LISTS:
            within = tokens[tokens.index(last) :]
            items = [token for token in within if token.type == "list_item_open" and token.level == 1]
            begins = _first_line(items[-1])
            item = int(last.attrs.get("start", 1)) + len(items) - 1 if len(items) > 1 else None
        if begins:
            cut = _offset(whole, begins)
            self._print_blocks(self._tokens(whole[:cut]))
            self._text, self._item = self._text[cut:], item
            self._gap = self._gap and item is None  # between the items of a list there is none
        if last.type == "fence":
            self._open_fence(last)
            return True
        return self._outgrown(self._tokens(self._text))

    def _print_blocks(self, tokens: list[Token]) -> None:
        if tokens:
            self._print(Markdown(tokens))
            self._gap = True

    # Code.

    def _open_fence(self, fence: Token) -> None:
        opening, _, self._text = self._text.partition("\n")
        marker = re.escape(fence.markup[0])
        self._within = _Code(
            end=re.compile(rf"^ {{0,3}}{marker}{{{len(fence.markup)},}}[ \t]*$\n?", re.MULTILINE),
            indent=len(opening) - len(opening.lstrip(" ")),
            highlighter=Highlighter(fence.info.split(maxsplit=1)[0] if fence.info.strip() else ""),
        )
        if self._gap:
            self._screen.commit(Text())
        self._gap = False

    def _settle_code(self, code: _Code, *, final: bool) -> bool:
        whole = self._text if final else self._text[: self._text.rfind("\n") + 1]
        end = code.end.search(whole)
        if end or final:
            body = whole[: end.start()] if end else whole
            self._commit_code(_lines(code, body))
            self._text = self._text[end.end() if end else len(whole) :]
            self._within, self._gap, self._item = None, True, None
            return bool(self._text)
        if len(self._text) >= _LARGE and "\n" not in self._text:
            return False
        code.lines = _lines(code, self._text)
        over = self._over(self._rows_of_code(code.lines))
        fits = [mark for mark in code.highlighter.marks() if mark <= min(over, whole.count("\n") - 1)]
        if fits:
            self._commit_code(code.lines[: fits[-1]])
            code.highlighter.go_on(fits[-1])
            code.lines = code.lines[fits[-1] :]
            self._text = self._text[_offset(self._text, fits[-1]) :]
        return False

    def _commit_code(self, lines: list[Text]) -> None:
        console = self._screen.console
        if lines:
            self._screen.commit(Segments([segment for line in lines for segment in unbroken(line, console)]))

    def _rows_of_code(self, lines: list[Text]) -> list[list[Segment]]:
        console = self._screen.console
        segments = [segment for line in lines for segment in unbroken(line, console)]
        return rows_of(console, Segments(segments)) if segments else []

    def _over(self, rows: list[list[Segment]]) -> int:
        """How many rows of code to print, where there are many: so many that it need not be done for each line."""
        most = max(_LEAST, self._screen.room // 2)
        return len(rows) - most // 2 if len(rows) > most else 0

    # A paragraph.

    def _too_many(self, rows: list[list[Segment]]) -> int:
        """How many rows of a paragraph to print."""
        kept = min(_KEPT, self._screen.room)
        return len(rows) - kept + 1 if len(rows) > kept else 0

    def _outgrown(self, tokens: list[Token]) -> bool:
        """Whether the text is a paragraph of many rows: it is one to cut from now on."""
        if not self._text.strip():
            return False
        opened = parsed(self._text)
        if [token.type for token in opened if token.level == 0] != ["paragraph_open", "paragraph_close"]:
            return False
        if "|" in self._text or not self._too_many(rows_of(self._screen.console, Markdown(opened))):
            return False  # what may be the head of a table is not cut
        self._within, self._text = _Paragraph(Text()), self._text.lstrip()
        return True

    def _settle_paragraph(self, paragraph: _Paragraph, *, final: bool) -> bool:
        console = self._screen.console
        whole = self._text if final else self._text[: self._text.rfind("\n") + 1]
        tokens = parsed(whole)
        blocks = [token for token in tokens if token.level == 0 and token.nesting >= 0]
        ended = re.search(r"\n[ \t]*\n", whole)
        if final or len(blocks) > 1 or ended:
            rest = tokens[1].content if blocks else ""
            cut = _first_line(blocks[1]) if len(blocks) > 1 else None
            self._print(paragraph.head + inline_text(console, rest))
            self._text = self._text[_offset(whole, cut) :] if cut is not None else self._text[len(whole) :]
            self._within, self._gap, self._item = None, True, None
            return bool(self._text)
        over = self._too_many(rows_of(console, paragraph.head + inline_text(console, self._text)))
        if over > 0 and (cut := _safe_cut(self._text)):
            paragraph.head += inline_text(console, self._text[:cut])
            self._text = self._text[cut:]
        if over > 0:
            done, paragraph.head = divided(paragraph.head, console, console.width, over)
            for line in done:
                self._print(line)
        return False


def _first_line(token: Token) -> int:
    assert token.map is not None
    return token.map[0]


def _offset(text: str, line: int) -> int:
    """Where this line begins."""
    at = 0
    for _ in range(line):
        at = text.index("\n", at) + 1
    return at


def _lines(code: _Code, text: str) -> list[Text]:
    """The lines of code, coloured; what the fence is indented by is no part of them."""
    if code.indent:
        text = re.sub(r"^[ \t]+", lambda found: _without(found[0], code.indent), text, flags=re.MULTILINE)
    return code.highlighter.lines(text)


def _without(blanks: str, indent: int) -> str:
    """What is left of a line's blanks without the fence's own, where a tab goes to the next stop of four."""
    column = at = 0
    while at < len(blanks) and column < indent:
        column += 4 - column % 4 if blanks[at] == "\t" else 1
        at += 1
    return " " * max(0, column - indent) + blanks[at:]


def _safe_cut(text: str) -> int:
    """Where a paragraph can be cut so that nothing that follows changes what comes before; 0 where it cannot."""
    cuts = [found.end() for found in _WORD.finditer(text)][:-1]
    tried = (cuts[len(cuts) * part // _CUTS - 1] for part in range(_CUTS, 0, -1) if cuts)
    return next((cut for cut in tried if is_settled(text[:cut])), 0)
