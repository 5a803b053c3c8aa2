"""Extracts text from a document: reads it from stdin, writes its text to stdout.

    python -m mcpchat_servers.google.document_worker pdf|html

It runs as a separate process, so that untrusted documents are not parsed in the process that holds the token.
"""

import io
import logging
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

ENCRYPTED = 3  # exit code if a PDF needs a password
TOO_DEEP = 4  # exit code if HTML is nested too deeply for the parser
TIME_LIMIT = 30  # seconds
MAX_TEXT_LENGTH = 5_000_000  # characters
_MEMORY_LIMIT = 2**30  # bytes
_HIDDEN_STYLE = re.compile(
    r"(?i)display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(\.0+)?(px|pt|em|rem|%)?\s*(;|!|$)"
)
_MAX_STYLE_LENGTH = 1000  # characters; the rest of a style attribute is ignored


class _TooDeep(Exception):
    """The HTML is nested too deeply: the parser has dropped a part of it."""


def main() -> int:
    _limit_resources()
    logging.disable()
    data = sys.stdin.buffer.read()
    remaining = MAX_TEXT_LENGTH

    def write(text: str) -> bool:
        """Write as much as the length limit allows. Returns False once the limit is reached."""
        nonlocal remaining
        sys.stdout.buffer.write(text[:remaining].encode(errors="replace"))
        remaining -= len(text)
        return remaining > 0

    extractors: dict[str, Callable[[bytes, Callable[[str], bool]], int]] = {"pdf": _extract_pdf, "html": _extract_html}
    code = extractors[sys.argv[1]](data, write)
    if remaining < 0:
        sys.stdout.buffer.write(b"\n\n[the rest of the text is left out]")
    sys.stdout.flush()
    return code


def _limit_resources() -> None:
    """Limit the memory and CPU time of this process, if the operating system supports it."""
    try:
        import resource
    except ImportError:
        return
    for kind, maximum in ((resource.RLIMIT_AS, _MEMORY_LIMIT), (resource.RLIMIT_CPU, TIME_LIMIT)):
        hard = resource.getrlimit(kind)[1]
        limit = maximum if hard == resource.RLIM_INFINITY else min(maximum, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (limit, limit))


def _extract_pdf(data: bytes, write: Callable[[str], bool]) -> int:
    from pypdf import PdfReader

    reader = PdfReader(io.BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        return ENCRYPTED
    for number, page in enumerate(reader.pages, 1):
        text = page.extract_text().strip()
        if text and not write(f"[page {number}]\n{text}\n\n"):
            break
    return 0


def _extract_html(data: bytes, write: Callable[[str], bool]) -> int:
    try:
        write(extract_visible_text(data.decode(errors="replace")))
    except _TooDeep:
        return TOO_DEEP
    return 0


def extract_visible_text(html: str) -> str:
    """Return the text that a browser would show, links with their URLs; hidden elements are left out.

    Raises _TooDeep if the HTML is nested too deeply.
    """
    from inscriptis.html_engine import Inscriptis
    from inscriptis.model.config import ParserConfig
    from lxml.etree import ParserError
    from lxml.html import HTMLParser, document_fromstring

    parser = HTMLParser(remove_comments=True, remove_pis=True, encoding="utf-8")
    try:
        tree: Any = document_fromstring(html.replace("\0", "").encode(errors="replace"), parser=parser)
    except ParserError:
        return ""  # nothing but white space and comments
    if any("depth" in str(error.message).lower() for error in parser.error_log):
        raise _TooDeep
    for element in list(tree.iter("script", "style", "noscript", "template")):
        element.drop_tree()
    for element in list(tree.iter()):
        style = str(element.attrib.pop("style", ""))[:_MAX_STYLE_LENGTH]  # removed: it can request unbounded widths
        if ("hidden" in element.attrib or _HIDDEN_STYLE.search(style)) and element.getparent() is not None:
            element.drop_tree()
    try:
        text = str(Inscriptis(tree, ParserConfig(display_links=True, display_images=True)).get_text())
    except RecursionError:
        raise _TooDeep from None
    lines = [line.rstrip().replace("\xa0", " ") for line in text.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


if __name__ == "__main__":
    sys.exit(main())
