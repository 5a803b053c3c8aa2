"""Makes the HTML version of a message: from Markdown, quoted text and the account's signature.

Nothing in it can be hidden from the user who approves the text, or load anything from the network: HTML within Markdown
is shown as it is written, and an image becomes a link.
"""

from functools import cache
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

_QUOTE_STYLE = "margin:0 0 0 .8ex;border-left:1px solid #ccc;padding-left:1ex"


def build_html(markdown: str, *, signature: str = "", quotation_head: str = "", quotation: str = "") -> str:
    """Return the HTML of a body. ``signature`` is HTML, ``quotation`` the plain text of the quoted message."""
    renderer = _get_renderer()
    tokens = renderer.parse(markdown)
    is_cut = any(
        token.level >= renderer.options.maxNesting - 1 for token in tokens
    )  # the parser leaves out what is deeper
    parts = [
        f"<div>{text_to_html(markdown)}</div>\n" if is_cut else renderer.renderer.render(tokens, renderer.options, {})
    ]
    if signature:
        parts.append(f"<div>-- <br>{signature}</div>\n")
    if quotation_head:
        parts.append(
            f"<div>{escape(quotation_head)}</div>\n"
            f'<blockquote style="{_QUOTE_STYLE}">{text_to_html(quotation)}</blockquote>\n'
        )
    return f"<html><body>\n{''.join(parts)}</body></html>\n"


@cache
def _get_renderer() -> "MarkdownIt":
    from markdown_it import MarkdownIt  # imported only for HTML: a server starts faster without it

    renderer = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": 40}).enable(
        ["table", "strikethrough"]
    )
    return renderer.disable("image")


def text_to_html(text: str) -> str:
    """Return plain text as HTML with the same line breaks."""
    return "<br>\n".join(escape(line) for line in text.splitlines())
