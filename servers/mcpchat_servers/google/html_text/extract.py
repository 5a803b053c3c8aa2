"""Extracts the text of HTML as a person would see it."""

import re
from xml.etree.ElementTree import Element

from inscriptis.html_engine import Inscriptis
from inscriptis.model.config import ParserConfig
from tinyhtml5.parser import HTMLParser

from mcpchat_servers.google.html_text.css_values import TooComplexError
from mcpchat_servers.google.html_text.visibility import Hidden, has_text, remove_hidden_text


def extract_visible_text(html: str) -> tuple[str, Hidden]:
    """Return the text that a person would see, links with their URLs, and how much is left out.

    Raises TooComplexError.
    """
    parser = HTMLParser(namespace_html_elements=False)
    tree = parser.parse(html.replace("\0", ""), scripting=True)
    _remove_comments(tree)
    for element in [*tree.iter("noscript")]:  # mail programs run no scripts: its style sheets apply
        inner = HTMLParser(namespace_html_elements=False).parse(element.text or "")
        element.extend([*inner.iter("style")])
    hidden = remove_hidden_text(tree, is_quirky=parser.compatibility_mode == "quirks")
    for element in tree.iter():
        element.attrib.pop("style", None)  # it can request unbounded widths
        if element.tag == "a" and not has_text("".join(element.itertext())):
            element.attrib.pop("href", None)  # an invisible link
    try:
        text = str(Inscriptis(tree, ParserConfig(display_links=True)).get_text())
    except RecursionError:
        raise TooComplexError from None
    lines = [line.rstrip().replace("\xa0", " ") for line in text.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip(), hidden


def _remove_comments(root: Element) -> None:
    """Remove comments and processing instructions; the text after them stays."""
    for parent in [*root.iter()]:
        if not any(callable(child.tag) for child in parent):
            continue
        children, texts = [*parent], [parent.text or ""]
        kept: list[Element] = []
        for child in children:
            if callable(child.tag):
                texts[-1] += child.tail or ""
                parent.remove(child)
            else:
                kept.append(child)
                texts.append(child.tail or "")
        parent.text = texts[0]
        for child, text in zip(kept, texts[1:], strict=True):
            child.tail = text
