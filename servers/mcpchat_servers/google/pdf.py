"""A PDF on stdin, its text on stdout: a process of its own, since PDFs are strangers' programs."""

import logging
import sys
from io import BytesIO

ENCRYPTED = 3  # the exit code where a password is wanted
PDF_SECONDS = 90.0
MOST_TEXT = 5_000_000  # characters
_MEMORY = 2 * 2**30  # bytes


def main() -> int:
    from pypdf import PdfReader  # not for those who want the numbers above

    _bounded()
    logging.disable()
    reader = PdfReader(BytesIO(sys.stdin.buffer.read()))
    if reader.is_encrypted and not reader.decrypt(""):
        return ENCRYPTED
    written = 0
    for number, page in enumerate(reader.pages, 1):
        text = page.extract_text().strip()
        piece = f"[page {number}]\n{text}\n\n" if text else ""
        sys.stdout.buffer.write(piece.encode(errors="replace"))
        written += len(piece)
        if written > MOST_TEXT:
            sys.stdout.write(f"[the text of {len(reader.pages) - number} more pages is left out]\n")
            break
    sys.stdout.flush()
    return 0


def _bounded() -> None:
    """Where the system has limits for a process: memory, and time."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (int(PDF_SECONDS), int(PDF_SECONDS)))


if __name__ == "__main__":
    sys.exit(main())
