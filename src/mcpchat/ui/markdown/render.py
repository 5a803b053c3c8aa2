"""Renders Markdown for the terminal: whole messages, or the part that has arrived."""

import re
import sys
from collections.abc import Iterator, Sequence
from typing import ClassVar

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich import markdown as rich_markdown
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.rule import Rule
from rich.segment import Segment
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from mcpchat.ui.markdown.highlight import Highlighter
from mcpchat.util.sanitize import sanitize

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
# No HTML: rich would drop it, and with it text such as List<String>. No reference links: a definition that comes later
# would change text that is already printed, and hide an address.
_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("reference")
# Markers that are closed, or cannot be markers in their position. Every other marker may still open something.
_CLOSED_MARKERS = re.compile(r"\[[^\[\]]*\](?!\()|(?<=\w)_+(?=\w)|(?<=\s)[*_]+(?=\s)")
_TASK = re.compile(r"\[([ xX])\] ")
_TICKED, _UNTICKED = "\u2611", "\u2610"
_OPEN_MARKER = re.compile(r"[*_`\[\\]|~~|[<&](?=\S*$)")


def parse_markdown(text: str) -> list[Token]:
    """The tokens of a sanitized text."""
    tokens = _PARSER.parse(text)
    _sanitize_tokens(tokens)
    if (sys.stdout.encoding or "").lower().startswith("utf"):
        _draw_boxes(tokens)
    return tokens


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
        if token.type == "image":
            address = sanitize(str(token.attrs.get("src", "")))
            token.type, token.tag, token.content = "text", "", f"{token.content} ({address})".strip()
            token.children = None


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
        return cls(token.info.split(maxsplit=1)[0] if token.info.strip() else "", outermost=token.level == 0)

    def __init__(self, language: str, *, outermost: bool) -> None:
        self._language = language
        self._outermost = outermost

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in Highlighter(self._language).highlight(self.text.plain):
            if self._outermost:
                yield from render_unwrapped(line, console)
            else:
                line.expand_tabs()
                yield from line.wrap(console, options.max_width, overflow="fold") or [Text()]


def render_unwrapped(line: Text, console: Console) -> Iterator[Segment]:
    """A line with its tabs and a newline; only the terminal wraps it."""
    yield from line.render(console)
    yield Segment.line()


class _Quote(rich_markdown.BlockQuote):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self.elements, options.update(width=max(1, options.max_width - 2)))
        for line in lines:
            yield Segment("| " if options.ascii_only else "▌ ", self.style)
            yield from line
            yield Segment.line()


class _Table(rich_markdown.TableElement):
    """A table whose cells wrap instead of being cut in a narrow terminal."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        (table,) = super().__rich_console__(console, options)
        assert isinstance(table, Table)
        table.show_edge = False  # an edge would be blank lines above and below
        for column in table.columns:
            column.overflow = "fold"
        yield table


class _List(rich_markdown.ListElement):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ordered = self.list_type == "ordered_list_open"
        bullet = " - " if options.ascii_only else " • "
        for index, item in enumerate(self.items):
            # The width of a number does not depend on the number of items, which is unknown while streaming.
            mark = f"{(self.list_start or 0) + index:>2} " if ordered else bullet
            style = console.get_style("markdown.item.number" if ordered else "markdown.item.bullet")
            width = max(1, options.max_width - len(mark))
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
    """Renders Markdown tokens. Links show their address, because the model could hide it behind a label."""

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
        super().__init__("", hyperlinks=False)
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
