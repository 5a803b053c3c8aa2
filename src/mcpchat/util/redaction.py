"""The secrets of this run, and texts without them."""

import base64
import html
import json
import re
from typing import TypeVar
from urllib.parse import quote, quote_plus

import msgspec

from mcpchat.util.structures import mapped

_T = TypeVar("_T")
_SHORTEST = 8  # characters: what is shorter would blot out words that are no secret
_LONGEST_HELD = 10_000  # characters that may wait for the end of what looks like a secret
REDACTED = "[secret]"

# What can only be a secret, whoever's it is: what its makers begin it with.
_BEGINNINGS = (
    "sk-", "ya29.", "1//0", "GOCSPX-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xoxa-",
    "xoxb-", "xoxe-", "xoxo-", "xoxp-", "xoxr-", "xoxs-", "AIza", "npm_", "hf_", "sk_live_", "rk_live_", "whsec_",
    "eyJ", "-----BEGIN ",
)  # fmt: skip
TOKEN = re.compile(
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
_INNER = re.compile(r"[\w-]")  # before which no token begins
_KEY_BEGINS = "-----BEGIN [A-Z ]*PRIVATE KEY-----"
_KEY_ENDS = "-----END [A-Z ]*PRIVATE KEY-----"
_UNFINISHED = re.compile(
    rf"(?<![\w-])(?:{'|'.join(map(re.escape, _BEGINNINGS[:-1]))})[\w./=-]*\Z"
    rf"|-----BEGIN [A-Z -]*\Z|{_KEY_BEGINS}(?:(?!{_KEY_ENDS}).)*\Z",
    re.DOTALL,
)
_GOES_ON = re.compile(r"[\w./=+-]*")
_IN_LOGS = re.compile(
    r"""(?i)(?P<name>[?&](?:code|state)|\b(?:access_token|refresh_token|id_token|client_secret|code_verifier|client_assertion))
        (?P<join>["']?\s*[=:]\s*["']?)(?P<value>[^\s&"',}]{6,})
      | \b(?P<scheme>Bearer|Basic)\s+[\w.~+/=-]{8,}
      | (?<![\w-])eyJ[\w-]{8,2000}\.[\w-]{1,9000}\.[\w-]*""",
    re.VERBOSE,
)


class Secrets:
    """Every secret that this run has read, been given or made, each in the forms in which it could show up."""

    def __init__(self) -> None:
        self.forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, *values: str | None) -> None:
        for value in values:
            if value and len(value) >= _SHORTEST and value not in self.forms:
                raw = value.encode(errors="replace")
                escaped, written = quote(value, safe=""), json.dumps(value)[1:-1]
                self.forms |= {
                    value,
                    escaped,
                    re.sub(r"%..", lambda found: found[0].lower(), escaped),
                    quote(value),
                    quote_plus(value),
                    html.escape(value),
                    written,
                    written.replace("/", "\\/"),
                    raw.hex().upper(),
                    base64.b64encode(raw).decode().rstrip("="),
                    base64.urlsafe_b64encode(raw).decode().rstrip("="),
                    raw.hex(),
                    msgspec.json.encode(value).decode()[1:-1],
                }
                self.forms |= {line for line in value.splitlines() if len(line) >= _SHORTEST and "-----" not in line}
                self._pattern = None

    def redact(self, text: str) -> str:
        """The text with each secret of ours, and all that can only be one, replaced by a mark."""
        if self.forms:
            text = self._known().sub(REDACTED, text)
        return TOKEN.sub(REDACTED, text) if any(beginning in text for beginning in _BEGINNINGS) else text

    def redact_log(self, text: str) -> str:
        """The same for what people read when something fails: also what only looks like a secret goes."""
        return _IN_LOGS.sub(_blot, self.redact(text))

    def redact_value(self, value: _T) -> _T:
        """A structure of ours without secrets in any of its texts."""
        return mapped(value, self.redact)

    def safe_length(self, text: str) -> int:
        """How much of the text can be shown before the rest of it is known: from there on a secret may have begun."""
        safe = len(text)
        if (open_end := _UNFINISHED.search(text)) is not None:
            safe = open_end.start()
        for form in (*self.forms, *_BEGINNINGS):
            anywhere = form in self.forms
            begun = max(0, len(text) - len(form) + 1)
            while (begun := text.find(form[0], begun, safe)) != -1:
                if form.startswith(text[begun:]) and (anywhere or not begun or not _INNER.match(text[begun - 1])):
                    safe = begun
                    break
                begun += 1
        whole = [*TOKEN.finditer(text), *(self._known().finditer(text) if self.forms else ())]
        for found in sorted(whole, key=lambda one: one.start(), reverse=True):
            if found.start() < safe < found.end():
                safe = found.start()
        return safe

    def _known(self) -> re.Pattern[str]:
        if self._pattern is None:  # the longest first: one may begin another
            self._pattern = re.compile("|".join(map(re.escape, sorted(self.forms, key=len, reverse=True))))
        return self._pattern


class RedactedStream:
    """Text that comes in pieces. What may be the beginning of a secret waits until it is known to be none."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._held = ""
        self._open = False

    def feed(self, piece: str) -> str:
        """What can be shown now: all that came, but for a held end."""
        text = self._held + piece
        if self._open and len(text) < _LONGEST_HELD and _GOES_ON.fullmatch(piece):
            self._held = text  # in the middle of what looks like a token: its end will tell
            return ""
        safe = self._secrets.safe_length(text)
        if len(text) - safe > _LONGEST_HELD:
            safe = len(text)
        self._held = text[safe:]
        self._open = _UNFINISHED.match(self._held) is not None
        return self._secrets.redact(text[:safe])

    def end(self) -> str:
        """The rest."""
        rest, self._held, self._open = self._held, "", False
        return self._secrets.redact(rest)


def _blot(found: "re.Match[str]") -> str:
    if found["name"]:
        return f"{found['name']}{found['join']}{REDACTED}"
    return f"{found['scheme']} {REDACTED}" if found["scheme"] else REDACTED
