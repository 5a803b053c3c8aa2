"""Collect the secrets of a run and redact them from texts and streams."""

import re
from collections.abc import Iterable
from typing import Literal, TypeVar
from urllib.parse import unquote

from mcpchat.util.secret_encodings import (
    MIN_LENGTH,
    Reading,
    base64_forms,
    encode_secret,
    find_partial_control,
    find_partial_escape,
    hex_forms,
    read_escapes,
    read_hex,
    read_lines,
    read_open_hex,
    read_open_lines,
    read_visible,
    to_plain,
)
from mcpchat.util.secret_formats import (
    CONTINUATION,
    MAX_CONTEXT,
    begins_key,
    begins_token,
    find_open_end,
    find_tokens,
    is_random,
    skip_key,
)
from mcpchat.util.structures import map_strings

_T = TypeVar("_T")
_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")  # of an address
_MAX_PENDING = 10_000  # characters held back until the end of a possible secret is known
_KEY_STEP, _MAX_SKIPPED = 200, 200  # characters of a key between two looks at it, and kept of one that is dropped
REDACTED = "[secret]"
_LOG_SECRET = re.compile(
    r"""(?i)(?P<name>[?&](?:code|state)|\b(?:access_token|refresh_token|id_token|client_secret|code_verifier|client_assertion))
        (?P<join>["']?\s*[=:]\s*["']?)(?P<value>[^\s&"',}]{6,})
      | \b(?P<scheme>Bearer|Basic)\s+[\w.~+/=-]{8,}
      | (?P<user>://[^\s/:@"']{0,100}:)[^\s/@"']{3,200}(?=@)
      | (?<![\w-])eyJ[\w-]{8,2000}\.[\w-]{1,9000}\.[\w-]*""",
    re.VERBOSE,
)


class _Forms:
    """Texts that are looked for together."""

    def __init__(self) -> None:
        self.texts: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, texts: Iterable[str]) -> None:
        self.texts |= set(texts)
        self._pattern = None

    def find(self, text: str) -> list[tuple[int, int]]:
        """The places of the texts."""
        if not self.texts:
            return []
        if self._pattern is None:  # longest first: one secret may be a prefix of another
            self._pattern = re.compile("|".join(map(re.escape, sorted(self.texts, key=len, reverse=True))))
        return [match.span() for match in self._pattern.finditer(text)]

    def find_begun(self, text: str) -> int:
        """Where one begins that goes on after the end of ``text``; the length of ``text`` without one."""
        safe = len(text)
        for form in self.texts:
            start = max(0, len(text) - len(form) + 1)
            while (start := text.find(form[0], start, safe)) != -1:
                if form.startswith(text[start:]):
                    safe = start
                    break
                start += 1
        return safe


class SecretRegistry:
    """The secrets that a run has read, received or created, each in the encodings in which it could appear."""

    def __init__(self) -> None:
        self._forms, self._hex, self._base64 = _Forms(), _Forms(), _Forms()

    @property
    def forms(self) -> set[str]:
        """The secrets, each as it is, and as escapes, URLs, HTML and base64 write it."""
        return self._forms.texts

    @property
    def max_length(self) -> int:
        """The length of the longest known form of a secret."""
        return max(map(len, self.forms), default=0)

    def add(self, *values: str | None) -> None:
        """Add secrets, and the passwords within addresses. Those that are too short are left out."""
        passwords = (unquote(match[1]) for value in values for match in _PASSWORD.finditer(value or ""))
        for value in (*values, *passwords):
            if value and len(value) >= MIN_LENGTH and value not in self.forms:
                self._forms.add(encode_secret(value))
                self._hex.add(hex_forms(value))
                self._base64.add(base64_forms(value))

    def redact(self, text: str, start: int = 0, end: int | None = None) -> str:
        """Return the text from ``start`` to ``end``, with ``[secret]`` for known secrets and tokens of known formats.

        Invisible characters within a secret do not hide it.
        """
        end = len(text) if end is None else end
        parts, done = [], start
        for begin, stop in self._find_spans(text):
            if stop > done and begin < end:
                parts += [text[done:begin], REDACTED]
                done = stop
        return "".join((*parts, text[done:end]))

    def _find_spans(self, text: str) -> list[tuple[int, int]]:
        """The places of secrets, in order, without overlaps."""
        spans: list[tuple[int, int]] = []
        for reading in read_visible(text):
            found = find_tokens(reading.text)
            if self.forms:
                found += self._find_known(reading)
            spans += [reading.span(*span) for span in found]
            for decoded in read_escapes(reading) if self.forms else ():
                spans += [decoded.span(*span) for span in self._forms.find(decoded.text)]
        return _merge(spans)

    def _find_known(self, reading: Reading) -> list[tuple[int, int]]:
        spans = self._forms.find(reading.text)
        for forms, read in ((self._hex, read_hex), (self._base64, read_lines)):
            for start, part in read(reading.text):
                places = (part.span(*span) for span in forms.find(part.text))
                spans += [(start + begin, start + stop) for begin, stop in places]
        return spans

    def redact_log(self, text: str) -> str:
        """Redact text of logs and error details: as ``redact``, and also text that only looks like a secret."""
        return _LOG_SECRET.sub(_replacement, self.redact(text))

    def redact_value(self, value: _T) -> _T:
        """Redact every string in a structure."""
        return map_strings(value, self.redact)

    def safe_prefix_length(self, text: str, shown: int = 0) -> int:
        """How many characters of an unfinished text can be shown: a secret may have begun after them.

        The first ``shown`` characters are shown already.
        """
        length = find_partial_control(text)
        for reading in read_visible(text[:length]):
            length = min(length, reading.place(self._safe_length(reading.text, reading.find_index(shown))))
        for start, stop in reversed(self._find_spans(text)):
            if start < length < stop:
                length = start
        return max(shown, length)

    def _safe_length(self, text: str, shown: int) -> int:
        open_end = find_open_end(text, shown)
        safe = len(text) if open_end is None else open_end
        if not self.forms:
            return safe
        safe = min(safe, self._forms.find_begun(text))
        for forms, parts in ((self._hex, read_open_hex(text)), (self._base64, read_open_lines(text))):
            for start, part in parts:
                if (begun := forms.find_begun(part.text)) < len(part.text):
                    safe = min(safe, start + part.place(begun))
        partial = find_partial_escape(text)
        safe = min(safe, self._forms.find_begun(text[:partial]))
        for decoded in read_escapes(Reading(text[:partial], None)):
            safe = min(safe, decoded.place(self._forms.find_begun(decoded.text)))
        return min(safe, partial)


def _merge(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans in order, without overlaps."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        else:
            merged.append((start, stop))
    return merged


class StreamRedactor:
    """Redacts a text stream. Holds back text that may be the beginning of a secret until that is decided."""

    def __init__(self, secrets: SecretRegistry) -> None:
        self._secrets = secrets
        self._pending = ""
        self._context = ""  # what was shown last: it says whether a token begins after it
        self._in_token = self._in_key = False
        self._looked_at = 0  # characters of a held-back key
        self._dropped: Literal["", "token", "key"] = ""  # what is too long to be held back
        self._recent = ""  # the latest part of what is dropped

    def feed(self, chunk: str) -> str:
        """The text that can be shown now: everything received so far, except a held-back end."""
        if self._dropped:
            chunk = self._skip(chunk)
        is_undecided = len(self._pending) + len(chunk) < _MAX_PENDING and self._is_undecided(chunk)
        self._pending += chunk
        if is_undecided:
            return ""
        text, shown = self._context + self._pending, len(self._context)
        safe = self._secrets.safe_prefix_length(text, shown)
        held = text[safe:]
        pending = to_plain(held)
        is_key, is_token = begins_key(pending), begins_token(pending)
        if len(held) > max(_MAX_PENDING, self._secrets.max_length):
            # Too long to be held back. If it is a secret, it is dropped to its end.
            if not (is_key or (is_token and is_random(pending))):
                return self._show(text, len(text))
            self._dropped, self._recent = "key" if is_key else "token", held[-_MAX_SKIPPED:]
            return self._show(text, safe) + self._forget(REDACTED)
        self._in_key, self._in_token = is_key and find_open_end(pending) == 0, is_token and find_open_end(pending) == 0
        self._looked_at = len(held)
        return self._show(text, safe)

    def _show(self, text: str, end: int) -> str:
        """The text up to ``end``, redacted, without what was shown already; the rest is held back."""
        redacted = self._secrets.redact(text, len(self._context), end)
        self._pending, self._context = text[end:], text[max(0, end - MAX_CONTEXT) : end]
        return redacted

    def _forget(self, instead: str) -> str:
        self._pending, self._context, self._in_key, self._in_token = "", "", False, False
        return instead

    def _skip(self, chunk: str) -> str:
        """What follows the end of the token or key that is being dropped; empty if it goes on."""
        text = self._recent + chunk
        control = find_partial_control(text)
        plain, rest = to_plain(text[:control]), text[control:]
        recent = len(to_plain(self._recent))
        if self._dropped == "key":
            end = skip_key(plain)
        else:
            match = CONTINUATION.match(plain)
            end = match.end() if match is not None and match.end() < len(plain) else None
        if end is None:
            self._recent = (plain[-_MAX_SKIPPED:] if self._dropped == "key" else plain[-1:]) + rest
            return ""
        self._dropped, self._recent = "", ""
        return plain[max(end, recent) :] + rest

    def _is_undecided(self, chunk: str) -> bool:
        """Whether the held-back text goes on: with another piece of a token, or within a private key."""
        if self._in_key:
            return "-" not in chunk and len(self._pending) + len(chunk) - self._looked_at < _KEY_STEP
        if not self._in_token:
            return False
        partial = self._pending[find_partial_control(self._pending) :]
        return CONTINUATION.fullmatch(to_plain(partial + chunk)) is not None

    def flush(self) -> str:
        """The held-back rest, at the end of the stream."""
        rest = self._show(self._context + self._pending, len(self._context) + len(self._pending))
        self._dropped, self._recent = "", ""
        return rest + self._forget("")


def _replacement(match: "re.Match[str]") -> str:
    if match["name"]:
        return f"{match['name']}{match['join']}{REDACTED}"
    if match["user"]:
        return f"{match['user']}{REDACTED}"
    return f"{match['scheme']} {REDACTED}" if match["scheme"] else REDACTED
