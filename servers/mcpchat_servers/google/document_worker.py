"""Extracts text from a document: reads it from stdin, writes its text to stdout.

    python -m mcpchat_servers.google.document_worker pdf|html|replies|docx|xlsx|pptx|odt

It runs as a separate process, so that untrusted documents are not parsed in the process that holds the token.
"""

import io
import json
import logging
import re
import sys
from collections.abc import Callable
from contextlib import suppress

ENCRYPTED = 3  # exit code if a document needs a password
TOO_COMPLEX = 4  # exit code if what HTML shows cannot be told
TIME_LIMIT = 30  # seconds
MAX_TEXT_LENGTH = 5_000_000  # characters
_QUOTE_LANGUAGES = [
    "cs",
    "da",
    "de",
    "en",
    "es",
    "fi",
    "fr",
    "it",
    "ja",
    "ko",
    "nl",
    "no",
    "pl",
    "pt",
    "sv",
    "tr",
    "zh",
]
_OLE_FILE = bytes.fromhex("d0cf11e0a1b11ae1")
_FORWARD = re.compile(r"(?im)^(-+ ?forwarded message ?-+|begin forwarded message:|-+ ?weitergeleitete nachricht ?-+)")
_RECURSION_LIMIT = 10_000  # function calls; deeply nested HTML needs two for each element
_MEMORY_LIMIT = 2**30  # bytes


def main() -> int:
    _limit_resources()
    sys.setrecursionlimit(_RECURSION_LIMIT)
    logging.disable()
    data = sys.stdin.buffer.read()
    remaining = MAX_TEXT_LENGTH

    def write(text: str) -> bool:
        """Write as much as the length limit allows. Returns False once the limit is reached."""
        nonlocal remaining
        sys.stdout.buffer.write(text[:remaining].encode(errors="replace"))
        remaining -= len(text)
        return remaining > 0

    extractors: dict[str, Callable[[bytes, Callable[[str], bool]], int]] = {
        "pdf": _extract_pdf,
        "html": _extract_html,
        "replies": _extract_replies,
    }
    code = extractors.get(sys.argv[1], _extract_office)(data, write)
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
    """Write how many passages and image descriptions are left out, and the text from the next line on."""
    from mcpchat_servers.google.html_text.css_values import TooComplexError
    from mcpchat_servers.google.html_text.extract import extract_visible_text

    try:
        text, hidden = extract_visible_text(data.decode(errors="replace"))
    except TooComplexError:
        return TOO_COMPLEX
    write(f"{hidden.passages} {hidden.descriptions}\n{text}")
    return 0


def _extract_office(data: bytes, write: Callable[[str], bool]) -> int:
    from mcpchat_servers.google.office_text import EXTRACTORS

    if data.startswith(_OLE_FILE):  # what a password protects is within another file
        return ENCRYPTED
    EXTRACTORS[sys.argv[1]](data, write)
    return 0


def _extract_replies(data: bytes, write: Callable[[str], bool]) -> int:
    """Read a JSON array of the texts of messages, and write it without what they quote of other messages."""
    from mailparser_reply import EmailReplyParser

    parser = EmailReplyParser(languages=_QUOTE_LANGUAGES)

    def cut(text: str) -> str:
        if _FORWARD.search(text):  # what is forwarded is what the message says
            return text
        reply = str(parser.parse_reply(text=text) or "").strip()
        lines = text.splitlines()
        quoted = [number for number, line in enumerate(lines) if line.startswith(">")]
        below = "\n".join(lines[quoted[-1] + 1 :]).strip() if quoted else ""  # an answer below the quotation
        if below and below not in reply:
            reply = f"{reply}\n\n{below}".strip()
        is_cut = len("".join(reply.split())) < len("".join(text.split()))
        return f"{reply}\n[quotation cut]" if reply and is_cut else reply

    write(json.dumps([cut(text) for text in json.loads(data)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
