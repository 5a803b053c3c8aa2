"""A document on stdin, its text on stdout, as a process of its own: what strangers write is not read beside a token.

python -m mcpchat_servers.google.documents pdf | html
"""

import io
import logging
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

ENCRYPTED = 3  # the exit code where a PDF wants a password
TOO_INVOLVED = 4  # ... where HTML is nested more deeply than the parser goes
SECONDS = 30
MOST_TEXT = 5_000_000  # characters
_MEMORY = 2**30  # bytes
_UNSEEN = re.compile(
    r"(?i)display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(\.0+)?(px|pt|em|rem|%)?\s*(;|!|$)"
)
_LONGEST_STYLE = 1000  # characters of a style that are looked at


class _TooInvolved(Exception):
    """The parser has left out what is nested too deeply."""


def main() -> int:
    _bounded()
    logging.disable()
    data = sys.stdin.buffer.read()
    left = MOST_TEXT

    def write(text: str) -> bool:
        """Write as much as there is room for; False when there is no more."""
        nonlocal left
        sys.stdout.buffer.write(text[:left].encode(errors="replace"))
        left -= len(text)
        return left > 0

    kinds: dict[str, Callable[[bytes, Callable[[str], bool]], int]] = {"pdf": _pdf, "html": _html}
    code = kinds[sys.argv[1]](data, write)
    if left < 0:
        sys.stdout.buffer.write(b"\n\n[the rest of the text is left out]")
    sys.stdout.flush()
    return code


def _bounded() -> None:
    """Where the system has limits for a process: memory, and time."""
    try:
        import resource
    except ImportError:
        return
    for kind, most in ((resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CPU, SECONDS)):
        hard = resource.getrlimit(kind)[1]
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (limit, limit))


def _pdf(data: bytes, write: Callable[[str], bool]) -> int:
    from pypdf import PdfReader

    reader = PdfReader(io.BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        return ENCRYPTED
    for number, page in enumerate(reader.pages, 1):
        text = page.extract_text().strip()
        if text and not write(f"[page {number}]\n{text}\n\n"):
            break
    return 0


def _html(data: bytes, write: Callable[[str], bool]) -> int:
    try:
        write(shown(data.decode(errors="replace")))
    except _TooInvolved:
        return TOO_INVOLVED
    return 0


def shown(html: str) -> str:
    """What a person would see of it, links with their addresses; nothing that is hidden from people."""
    from inscriptis.html_engine import Inscriptis
    from inscriptis.model.config import ParserConfig
    from lxml.etree import ParserError
    from lxml.html import HTMLParser, document_fromstring

    parser = HTMLParser(remove_comments=True, remove_pis=True, encoding="utf-8")
    try:
        tree: Any = document_fromstring(html.replace("\0", "").encode(errors="replace"), parser=parser)
    except ParserError:
        return ""  # nothing but white space and comments
    if any("depth" in str(entry.message).lower() for entry in parser.error_log):
        raise _TooInvolved
    for element in list(tree.iter("script", "style", "noscript", "template")):
        element.drop_tree()
    for element in list(tree.iter()):
        style = str(element.attrib.pop("style", ""))[:_LONGEST_STYLE]  # popped: it asks for widths without bounds
        if ("hidden" in element.attrib or _UNSEEN.search(style)) and element.getparent() is not None:
            element.drop_tree()
    try:
        text = str(Inscriptis(tree, ParserConfig(display_links=True, display_images=True)).get_text())
    except RecursionError:
        raise _TooInvolved from None
    lines = [line.rstrip().replace("\xa0", " ") for line in text.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


if __name__ == "__main__":
    sys.exit(main())
