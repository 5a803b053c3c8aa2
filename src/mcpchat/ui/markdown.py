"""Markdown while it streams: a block that is closed is printed once and never touched again."""

import time
from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.markdown import Markdown

from mcpchat.core.sanitize import clean
from mcpchat.ui.live import LiveRegion

REDRAW_EVERY = 1 / 12  # seconds

# Without HTML: rich would drop it, and with it what the model said (List<String>).
_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def closed_length(text: str) -> int:
    """How many characters of the text belong to blocks that nothing later can change: all but the last block."""
    starts = [token.map[0] for token in _PARSER.parse(text) if token.level == 0 and token.map and token.nesting >= 0]
    if len(starts) < 2:
        return 0
    return sum(len(line) + 1 for line in text.split("\n")[: starts[-1]])


class MarkdownStream:
    """Takes a message in pieces and shows it in a LiveRegion."""

    def __init__(self, region: LiveRegion) -> None:
        self._region = region
        self._open = ""
        self._drawn_at = 0.0

    def feed(self, text: str) -> None:
        self._open += text
        if time.monotonic() - self._drawn_at >= REDRAW_EVERY:
            self._draw()

    def finish(self) -> None:
        """The message is complete: all of it is final."""
        rest, self._open = self._open, ""
        self._region.show(())
        if rest.strip():
            self._region.commit(_render(rest))

    def _draw(self) -> None:
        self._drawn_at = time.monotonic()
        if closed := closed_length(self._open):
            self._region.show(())
            self._region.commit(_render(self._open[:closed]))
            self._open = self._open[closed:]
        if self._open.strip():
            self._region.show(self._region.lines_of(_render(self._open)))


def _render(text: str) -> Markdown:
    # Links show their address: a label of the model's choosing could hide it.
    rendered = Markdown("", hyperlinks=False)
    rendered.parsed = _PARSER.parse(clean(text))
    _see_through(rendered.parsed)
    return rendered


def _see_through(tokens: Sequence[Token]) -> None:
    """What was written as an entity is cleaned too, and an image is its words and its address."""
    for token in tokens:
        token.content = clean(token.content)
        _see_through(token.children or ())
        if token.type == "image":
            address = clean(str(token.attrs.get("src", "")))
            token.type, token.content = "text", f"{token.content} ({address})".strip()
            token.children = None
