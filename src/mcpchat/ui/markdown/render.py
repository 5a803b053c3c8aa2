"""Renders Markdown for the terminal: whole messages, or the part that has arrived."""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import ClassVar

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from rich import markdown as rich_markdown
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.rule import Rule
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text
from rich.theme import Theme

from mcpchat.ui.markdown.highlight import Highlighter
from mcpchat.ui.markdown.nesting import keep_deep_text
from mcpchat.ui.terminal.hyperlinks import has_hyperlinks
from mcpchat.util.sanitize import one_line, sanitize

# Colours that are readable on dark and light backgrounds. They replace rich's, some of which have a black background.
THEME = Theme(
    {
        "markdown.code": "cyan",
        "markdown.code_block": "none",
        "markdown.block_quote": "italic",
        "markdown.h1": "bold underline",
        "markdown.h2": "bold underline",
        "markdown.h3": "bold",
        "markdown.h4": "bold italic",
        "markdown.h5": "italic",
        "markdown.h6": "dim",
        "markdown.item.number": "bold",
        "markdown.link": "none",
        "markdown.link_url": "dim underline",
        "markdown.table.border": "dim",
        "markdown.table.header": "bold",
    }
)
_FORMULAS = {"$$": "$$", "$": "$", "\\(": "\\)", "\\[": "\\]"}
# What only TeX has: a command, a power, an index of one letter.
_TEX_SIGN = re.compile(r"\\[A-Za-z]|\^|(?<![A-Za-z])[A-Za-z)\]}]_\{?\w")
_ALGEBRA = re.compile(r"(?:[^\W\d_]|[\d.,]+|[\s=+\-*/<>()|!'])+")  # letters that stand alone, numbers and operators
_OPERATOR = re.compile(r"[=+\-*/<>]")
_PRICE = r"\d[\d.,]*(?![\w\\^{])"  # a dollar and a number
_BEFORE_DOLLAR = re.compile(r"[\w$/.=&?%@#~:\\-]")  # of a name, an address or an amount, not of a formula
_AFTER_DOLLAR = re.compile(r"[\w${(@]")
_MAX_LANGUAGE = 40  # characters
_MAX_FORMULA = 200  # characters: text after a price is soon known to be no formula


def _parse_formula(state: StateInline, silent: bool) -> bool:
    """The rule of markdown-it for a formula: Unicode text where that is exact, else the TeX as it stands."""
    source, start = state.src, state.pos
    opening = next((opening for opening in _FORMULAS if source.startswith(opening, start)), "")
    if not opening:
        return False
    start += len(opening)
    end = source.find(_FORMULAS[opening], start, start + _MAX_FORMULA)
    after = end + len(opening)
    before, following = source[max(0, state.pos - 1) : state.pos], source[after : after + 1]
    if end <= start or not _is_formula(source[start:end], opening, before, following):
        return False
    if not silent:
        from mcpchat.ui.markdown.tex import format_tex  # few answers have formulas; a TeX parser is slow to load

        token = state.push("text", "", 0)
        token.content = (format_tex(source[start:end]) if _has_unicode() else None) or source[state.pos : after]
    state.pos = after
    return True


def _is_formula(text: str, opening: str, before: str, following: str) -> bool:
    """Whether the text between these brackets is TeX: not $name$, ${name}, a price, a shell's word, or (text)."""
    if "`" in text or "$" in text:
        return False
    if opening == "$":
        touches = not (text[0].isspace() or text[-1].isspace() or "\n" in text or text[0] in "{(_")
        if not touches or _BEFORE_DOLLAR.match(before) or _AFTER_DOLLAR.match(following):
            return False
        if re.match(_PRICE, text) and not re.search(r"\\[A-Za-z]", text):
            return False
    elif opening == "$$" and "$" in (before, following):
        return False
    if _TEX_SIGN.search(text):
        return True
    is_algebra = bool(_ALGEBRA.fullmatch(text)) and not re.search(r"[^\W\d_]{2}", text)
    if opening in {"$$", "\\["}:
        return is_algebra and "=" in text
    return is_algebra and bool(_OPERATOR.search(text) or re.fullmatch(r"[^\W\d_]", text))


def _make_parser() -> MarkdownIt:
    # No HTML: rich would drop it, and with it text such as List<String>. No reference links: a definition that comes
    # later would change text that is already printed, and hide an address.
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("reference")
    parser.inline.ruler.before("escape", "formula", _parse_formula)
    keep_deep_text(parser)
    return parser


_PARSER = _make_parser()
# Markers that are closed, or cannot be markers in their position. Every other marker may still open something.
_CLOSED_TEX = re.compile(r"\\\(.{1,200}?\\\)|\\\[.{1,200}?\\\]", re.DOTALL)
_OPEN_TEX = re.compile(r"\\[(\[](?=.{0,200}\Z)", re.DOTALL)
_CLOSED_MARKERS = re.compile(r"\[[^\[\]]*\](?!\()|(?<=\w)_+(?=\w)|(?<=\s)[*_]+(?=\s)")
_MIN_WIDTH = 6  # columns for the text of an item, a quotation or a cell
_TABLE_GAP = 2  # columns between two cells
_SCHEMES = ("https://", "http://", "mailto:")
# An address in text, without the punctuation of its sentence. Not before a letter that it may have and we cannot know.
_ADDRESS = re.compile(r"(?<![\w/:.])https?://(?>[!-~]*[\w/&#=%~])(?![^\x00-\x7f])", re.ASCII)
_TASK = re.compile(r"\[([ xX])\] ")
_TICKED, _UNTICKED = "\u2611", "\u2610"
_OPEN_MARKER = re.compile(rf"[*_`\[\\]|~~|[<&](?=\S*$)|\$\$|\$(?!{_PRICE})(?=\S[^$]{{0,{_MAX_FORMULA}}}$)")


def parse_markdown(text: str) -> list[Token]:
    """The tokens of a sanitized text."""
    tokens = _PARSER.parse(text)
    _sanitize_tokens(tokens)
    if _has_unicode():
        _draw_boxes(tokens)
    return tokens


def _has_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().startswith("utf")


def _draw_boxes(tokens: Sequence[Token]) -> None:
    """Turn the ``[x]`` and ``[ ]`` at the beginning of list items into boxes."""
    for item, paragraph, inline in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if (item.type, paragraph.type, inline.type) != ("list_item_open", "paragraph_open", "inline"):
            continue
        first = next(iter(inline.children or ()), None)
        if first is not None and first.type == "text" and (box := _TASK.match(first.content)):
            first.content = f"{_UNTICKED if box[1] == ' ' else _TICKED} {first.content[box.end() :]}"


def _sanitize_tokens(tokens: Sequence[Token]) -> None:
    """Sanitize the tokens' text again, because of entities, and turn images into their text and address."""
    for token in tokens:
        token.content = sanitize(token.content)
        if token.type in {"text", "code_inline"}:
            token.content = token.content.replace("\t", " ")  # a paragraph has no tab stops
        _sanitize_tokens(token.children or ())
        if token.children:
            token.children = _show_addresses(token.children)
        if token.type == "image":
            address = sanitize(str(token.attrs.get("src", "")))
            token.type, token.tag, token.content = "text", "", f"{token.content} ({address})".strip()
            token.children = None


def _show_addresses(tokens: Sequence[Token]) -> list[Token]:
    """The tokens with the address of each link after its label: a label could hide it. Only an address is a link."""
    shown: list[Token] = []
    links: list[tuple[str, int]] = []  # the address of each open link, and where its label begins
    for token in tokens:
        if token.type == "link_open":
            links.append((sanitize(str(token.attrs.get("href", ""))), len(shown)))
        elif token.type == "link_close" and links:
            address, start = links.pop()
            if "".join(part.content for part in shown[start:]) == address:
                shown[start:] = _make_link(address)
            else:
                shown += (_make_text(" ("), *_make_link(address), _make_text(")"))
        elif token.type == "text" and not links:
            shown += _find_addresses(token.content)
        else:
            shown.append(token)
    return shown


def _find_addresses(text: str) -> Iterator[Token]:
    end = 0
    for match in _ADDRESS.finditer(text):
        yield _make_text(text[end : match.start()])
        yield from _make_link(match[0])
        end = match.end()
    yield _make_text(text[end:])


def _make_link(address: str) -> tuple[Token, Token, Token]:
    """An address; a link where the terminal has links and the address is one of the web or of mail."""
    is_link = address.lower().startswith(_SCHEMES) and has_hyperlinks(os.environ)
    opening = Token("link_open", "a", 1, attrs={"href": address if is_link else ""})
    return opening, _make_text(address), Token("link_close", "a", -1)


def _make_text(content: str) -> Token:
    return Token("text", "", 0, content=content)


class _Heading(rich_markdown.Heading):
    LEVEL_ALIGN: ClassVar[dict[str, JustifyMethod]] = {}  # all left-aligned, so that they can be copied


class _Rule(rich_markdown.HorizontalRule):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Rule(style="markdown.hr", characters="-")


class _Code(rich_markdown.TextElement):
    """Code that can be copied: outside lists and quotes, lines are not wrapped, indented or padded."""

    style_name = "markdown.code_block"

    @classmethod
    def create(cls, markdown: rich_markdown.Markdown, token: Token) -> "_Code":  # noqa: ARG003 - as rich calls it
        return cls(code_language(token), outermost=token.level == 0)

    def __init__(self, language: str, *, outermost: bool) -> None:
        self._language = language
        self._outermost = outermost

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._language:
            yield name_language(self._language)
        for line in Highlighter(self._language).highlight(self.text.plain):
            if self._outermost:
                yield from render_unwrapped(line, console)
            else:
                line.expand_tabs()
                yield from line.wrap(console, options.max_width, overflow="fold") or [Text()]


def code_language(fence: Token) -> str:
    """The language that a code block names, its first word; empty without one."""
    return next(iter(one_line(fence.info, _MAX_LANGUAGE).split()), "")


def name_language(language: str) -> Text:
    """The line above a code block of this language."""
    return Text(language, "dim")


def render_unwrapped(line: Text, console: Console) -> Iterator[Segment]:
    """A line with its tabs and a newline; only the terminal wraps it."""
    yield from line.render(console)
    yield Segment.line()


def _fit_mark(mark: str, options: ConsoleOptions) -> str:
    """The mark before the lines of an item or a quotation; empty if it would leave no room for their text."""
    return mark if options.max_width - len(mark) >= _MIN_WIDTH else ""


class _Quote(rich_markdown.BlockQuote):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        mark = _fit_mark("| " if options.ascii_only else "▌ ", options)
        lines = console.render_lines(self.elements, options.update(width=options.max_width - len(mark)))
        for line in lines:
            yield Segment(mark, self.style)
            yield from line
            yield Segment.line()


class _Table(rich_markdown.TableElement):
    """A table whose cells wrap in a narrow terminal. If even that leaves no room, each row is a list of its cells."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        (table,) = super().__rich_console__(console, options)
        assert isinstance(table, Table)
        table.show_edge = False  # an edge would be blank lines above and below
        for column in table.columns:
            column.overflow = "fold"
        if sum(_least_width(column, console) for column in table.columns) > options.max_width:
            yield from _list_cells(table)
        else:
            yield table


def _least_width(column: Column, console: Console) -> int:
    """The columns of the terminal that a column needs to be readable, with its gap."""
    return min(_MIN_WIDTH, max(console.measure(cell).minimum for cell in (column.header, *column.cells))) + _TABLE_GAP


def _list_cells(table: Table) -> Iterator[Text]:
    """The cells of each row, one a line, after the head of their column."""
    headings = [heading for column in table.columns if isinstance(heading := column.header, Text)]
    rows = [*zip(*(column.cells for column in table.columns), strict=True)]
    for number, row in enumerate(rows):
        if number:
            yield Text()
        for heading, cell in zip(headings, row, strict=True):
            yield Text.assemble(heading, ": " if heading.plain and str(cell) else "", cell)
    if not rows:
        yield from headings


class _List(rich_markdown.ListElement):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ordered = self.list_type == "ordered_list_open"
        bullet = " - " if options.ascii_only else " • "
        for index, item in enumerate(self.items):
            # The width of a number does not depend on the number of items, which is unknown while streaming.
            mark = _fit_mark(f"{(self.list_start or 0) + index:>2} " if ordered else bullet, options)
            style = console.get_style("markdown.item.number" if ordered else "markdown.item.bullet")
            width = options.max_width - len(mark)
            lines = console.render_lines(item.elements, options.update(width=width), style=item.style)
            for number, line in enumerate(lines or [[]]):
                yield Segment(mark if number == 0 else " " * len(mark), style)
                yield from line
                yield Segment.line()


class _InlineParagraph(rich_markdown.Paragraph):
    """A paragraph on one line."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.text.render(console)


class Markdown(rich_markdown.Markdown):
    """Renders the tokens of ``parse_markdown``."""

    elements: ClassVar[dict[str, type[rich_markdown.MarkdownElement]]] = {
        **rich_markdown.Markdown.elements,
        "heading_open": _Heading,
        "hr": _Rule,
        "fence": _Code,
        "code_block": _Code,
        "blockquote_open": _Quote,
        "table_open": _Table,
        "bullet_list_open": _List,
        "ordered_list_open": _List,
    }

    def __init__(self, tokens: Sequence[Token]) -> None:
        super().__init__("", hyperlinks=True)
        self._blocks = _split_blocks(tokens)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The blocks, with exactly one blank line between two blocks."""
        for number, block in enumerate(self._blocks):
            self.parsed = block
            if number:
                yield Segment.line()
            segments = iter(super().__rich_console__(console, options))
            first = next(segments, None)
            # rich begins a block that contains others with their blank line, which is dropped.
            if first is not None and not (first == Segment.line() and len(block) > 1):
                yield first
            yield from segments


def _split_blocks(tokens: Sequence[Token]) -> list[list[Token]]:
    """The tokens of each outermost block."""
    blocks: list[list[Token]] = []
    for token in tokens:
        if token.level == 0 and token.nesting >= 0:
            blocks.append([])
        blocks[-1].append(token)
    return blocks


class _InlineMarkdown(Markdown):
    elements: ClassVar[dict[str, type[rich_markdown.MarkdownElement]]] = {
        **Markdown.elements,
        "paragraph_open": _InlineParagraph,
    }


def is_settled(text: str) -> bool:
    """Whether every marker in this part of a paragraph is closed."""
    (inline,) = _PARSER.parseInline(text)
    if _OPEN_TEX.search(_CLOSED_TEX.sub("", text)):
        return False
    plain = "".join(child.content for child in inline.children or () if child.type in {"text", "text_special"})
    return not _OPEN_MARKER.search(_CLOSED_MARKERS.sub("", plain))


def render_inline(console: Console, text: str) -> Text:
    """Render a part of a paragraph, not wrapped into lines."""
    (inline,) = _PARSER.parseInline(text)
    inline.level = 1
    tokens = [Token("paragraph_open", "p", 1), inline, Token("paragraph_close", "p", -1)]
    _sanitize_tokens(tokens)
    segments = console.render(_InlineMarkdown(tokens), console.options)
    return Text.assemble(*((segment.text, segment.style or "") for segment in segments))


def find_code_blocks(text: str) -> list[str]:
    """The contents of a message's code blocks, in order."""
    return [token.content for token in _PARSER.parse(text) if token.type == "fence"]
