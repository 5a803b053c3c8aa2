"""The forms in which a program could read a text: normal, and with its percent encoding decoded."""

import unicodedata
from urllib.parse import unquote

from mcpchat.util.sanitize import limit_marks, strip_invisible

_MAX_DECODINGS = 3  # of percent encoding: a program decodes once, or twice behind a proxy
_DOTS = str.maketrans("\u3002\uff0e\uff61", "...")  # a browser reads them as dots of a host name


def normalize_text(text: str) -> str:
    """Return the text without invisible characters, with compatible characters and dots made equal."""
    # Many marks on one letter would take quadratic time.
    return unicodedata.normalize("NFKC", limit_marks(strip_invisible(text))).translate(_DOTS)


def fold_name(name: str) -> str:
    """Return what a lenient program may take a name for."""
    return normalize_text(name).casefold().strip(" \t\r\n\0")


def decoded_forms(text: str) -> list[str]:
    """Return the text, its normal form, and both with their percent encoding decoded, each once."""
    forms = dict.fromkeys((text, normalize_text(text)))
    for form in list(forms):
        for _ in range(_MAX_DECODINGS):
            decoded = unquote(form)
            if decoded == form:
                break
            forms[decoded] = forms[normalize_text(decoded)] = None
            form = decoded
    return list(forms)


def nonempty(pieces: list[str]) -> list[str]:
    """Return the pieces without blanks around them, and without those that have nothing else."""
    return [piece.strip() for piece in pieces if piece.strip()]
