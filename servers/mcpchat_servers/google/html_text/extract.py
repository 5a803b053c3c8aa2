"""Extracts the text of HTML as a person would see it."""

import re

import tinyhtml5
from inscriptis.html_engine import Inscriptis
from inscriptis.model.config import ParserConfig

from mcpchat_servers.google.html_text.cascade import TooComplexError
from mcpchat_servers.google.html_text.visibility import Hidden, remove_hidden_text


def extract_visible_text(html: str) -> tuple[str, Hidden]:
    """Return the text that a person would see, links with their URLs, and how much is left out.

    Raises TooComplexError.
    """
    tree = tinyhtml5.parse(html.replace("\0", ""), namespace_html_elements=False, scripting=True)
    hidden = remove_hidden_text(tree)
    for element in tree.iter():
        element.attrib.pop("style", None)  # it can request unbounded widths
    try:
        text = str(Inscriptis(tree, ParserConfig(display_links=True)).get_text())
    except RecursionError:
        raise TooComplexError from None
    lines = [line.rstrip().replace("\xa0", " ") for line in text.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip(), hidden
