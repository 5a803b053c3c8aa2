"""Collect the secrets of a run and redact them from texts and streams."""

import base64
import html
import json
import re
from typing import TypeVar
from urllib.parse import quote, quote_plus

import msgspec

from mcpchat.util.structures import map_strings

_T = TypeVar("_T")
_MIN_LENGTH = 8  # characters; shorter secrets would redact ordinary words
_MAX_PENDING = 10_000  # characters held back until the end of a possible secret is known
REDACTED = "[secret]"

# The prefixes of well-known token formats: text that begins with one is always treated as a secret.
_PREFIXES = (
    "sk-", "ya29.", "1//0", "GOCSPX-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xoxa-",
    "xoxb-", "xoxe-", "xoxo-", "xoxp-", "xoxr-", "xoxs-", "AIza", "npm_", "hf_", "sk_live_", "rk_live_", "whsec_",
    "eyJ", "-----BEGIN ",
)  # fmt: skip
TOKEN_PATTERN = re.compile(
    r"""(?<![\w-])(?:
          sk-(?=[\w-]*[A-Za-z0-9]{16})[\w-]{20,}
        | ya29\.[\w-]{20,} | 1//0[\w-]{20,} | GOCSPX-[\w-]{10,}
        | gh[pousr]_\w{20,} | github_pat_\w{20,} | glpat-[\w-]{16,} | xox[abeoprs]-[\w-]{10,}
        | AIza[\w-]{30,} | npm_[A-Za-z0-9]{30,} | hf_[A-Za-z0-9]{30,} | [sr]k_live_\w{16,} | whsec_\w{16,}
        | eyJ[\w-]{8,}\.eyJ[\w-]{4,}\.[\w-]*
      )
      | -----BEGIN\ [A-Z\ ]*PRIVATE\ KEY-----(?:\\[nr]|[\w+/=\s:,.]|-(?!----))*
        (?:-----END\ [A-Z\ ]*PRIVATE\ KEY-----)?""",
    re.VERBOSE | re.DOTALL,
)
_TOKEN_CHAR = re.compile(r"[\w-]")  # a token cannot begin right after such a character
_KEY_HEADER = "-----BEGIN [A-Z ]*PRIVATE KEY-----"
_KEY_FOOTER = "-----END [A-Z ]*PRIVATE KEY-----"
_OPEN_END = re.compile(
    rf"(?<![\w-])(?:{'|'.join(map(re.escape, _PREFIXES[:-1]))})[\w./=-]*\Z"
    rf"|-----BEGIN [A-Z -]*\Z|{_KEY_HEADER}(?:(?!{_KEY_FOOTER}).)*\Z",
    re.DOTALL,
)
_CONTINUATION = re.compile(r"[\w./=+-]*")
_LOG_SECRET = re.compile(
    r"""(?i)(?P<name>[?&](?:code|state)|\b(?:access_token|refresh_token|id_token|client_secret|code_verifier|client_assertion))
        (?P<join>["']?\s*[=:]\s*["']?)(?P<value>[^\s&"',}]{6,})
      | \b(?P<scheme>Bearer|Basic)\s+[\w.~+/=-]{8,}
      | (?<![\w-])eyJ[\w-]{8,2000}\.[\w-]{1,9000}\.[\w-]*""",
    re.VERBOSE,
)


class SecretRegistry:
    """The secrets that a run has read, received or created, each in the encodings in which it could appear."""

    def __init__(self) -> None:
        self.forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, *values: str | None) -> None:
        for value in values:
            if value and len(value) >= _MIN_LENGTH and value not in self.forms:
                raw = value.encode(errors="replace")  # a variable may have bytes that are no UTF-8
                text = raw.decode()
                percent_encoded, json_escaped = quote(text, safe=""), json.dumps(value)[1:-1]
                self.forms |= {
                    value,
                    percent_encoded,
                    re.sub(r"%..", lambda match: match[0].lower(), percent_encoded),
                    quote(text),
                    quote_plus(text),
                    html.escape(value),
                    json_escaped,
                    json_escaped.replace("/", "\\/"),
                    raw.hex().upper(),
                    base64.b64encode(raw).decode().rstrip("="),
                    base64.urlsafe_b64encode(raw).decode().rstrip("="),
                    raw.hex(),
                    msgspec.json.encode(text).decode()[1:-1],
                }
                self.forms |= {line for line in value.splitlines() if len(line) >= _MIN_LENGTH and "-----" not in line}
                self._pattern = None

    def redact(self, text: str) -> str:
        """Replace each known secret, and each token of a well-known format, with ``[secret]``."""
        if self.forms:
            text = self._compiled_pattern().sub(REDACTED, text)
        return TOKEN_PATTERN.sub(REDACTED, text) if any(prefix in text for prefix in _PREFIXES) else text

    def redact_log(self, text: str) -> str:
        """Redact text of logs and error details: as ``redact``, and also text that only looks like a secret."""
        return _LOG_SECRET.sub(_replacement, self.redact(text))

    def redact_value(self, value: _T) -> _T:
        """Redact every string in a structure."""
        return map_strings(value, self.redact)

    def safe_prefix_length(self, text: str) -> int:
        """How many characters of an unfinished text can be shown: a secret may have begun after them."""
        safe = len(text)
        if (open_end := _OPEN_END.search(text)) is not None:
            safe = open_end.start()
        for form in (*self.forms, *_PREFIXES):
            anywhere = form in self.forms
            start = max(0, len(text) - len(form) + 1)
            while (start := text.find(form[0], start, safe)) != -1:
                if form.startswith(text[start:]) and (anywhere or not start or not _TOKEN_CHAR.match(text[start - 1])):
                    safe = start
                    break
                start += 1
        matches = [*TOKEN_PATTERN.finditer(text), *(self._compiled_pattern().finditer(text) if self.forms else ())]
        for match in sorted(matches, key=lambda match: match.start(), reverse=True):
            if match.start() < safe < match.end():
                safe = match.start()
        return safe

    def _compiled_pattern(self) -> re.Pattern[str]:
        if self._pattern is None:  # longest first: one secret may be a prefix of another
            self._pattern = re.compile("|".join(map(re.escape, sorted(self.forms, key=len, reverse=True))))
        return self._pattern


class StreamRedactor:
    """Redacts a text stream. Holds back text that may be the beginning of a secret until that is decided."""

    def __init__(self, secrets: SecretRegistry) -> None:
        self._secrets = secrets
        self._pending = ""
        self._in_token = False

    def feed(self, chunk: str) -> str:
        """The text that can be shown now: everything received so far, except a held-back end."""
        text = self._pending + chunk
        if self._in_token and len(text) < _MAX_PENDING and _CONTINUATION.fullmatch(chunk):
            self._pending = text  # inside a possible token: decided when it ends
            return ""
        safe = self._secrets.safe_prefix_length(text)
        if len(text) - safe > _MAX_PENDING:
            safe = len(text)
        self._pending = text[safe:]
        self._in_token = _OPEN_END.match(self._pending) is not None
        return self._secrets.redact(text[:safe])

    def flush(self) -> str:
        """The held-back rest, at the end of the stream."""
        rest, self._pending, self._in_token = self._pending, "", False
        return self._secrets.redact(rest)


def _replacement(match: "re.Match[str]") -> str:
    if match["name"]:
        return f"{match['name']}{match['join']}{REDACTED}"
    return f"{match['scheme']} {REDACTED}" if match["scheme"] else REDACTED
