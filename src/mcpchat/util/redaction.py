"""Collect the secrets of a run and redact them from texts and streams."""

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator
from typing import Literal, TypeVar
from urllib.parse import quote, quote_plus, unquote

import msgspec

from mcpchat.util.sanitize import INVISIBLE_CHARACTER
from mcpchat.util.structures import map_strings

_T = TypeVar("_T")
_MIN_LENGTH = 8  # characters; shorter secrets would redact ordinary words
_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")  # of an address
_MAX_PENDING = 10_000  # characters held back until the end of a possible secret is known
REDACTED = "[secret]"

# Well-known token formats: how they begin, and what follows. Text of such a format is always treated as a secret.
_FORMATS: tuple[tuple[str, str], ...] = (
    ("GOCSPX- xapp- xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs-", r"[\w-]{10,}"),
    ("glpat- gldt- glrt- glcbt- glptt- glft- glimt- glagent- gloas- glsoat-", r"[\w-]{16,}"),
    ("sk_live_ sk_test_ rk_live_ rk_test_ whsec_", r"\w{16,}"),
    ("ya29. 1//0 dckr_pat_ dckr_oat_ hvs. hvb. hvr. tskey- sq0atp- sq0csp- sb_secret_", r"[\w-]{20,}"),
    ("ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", r"\w{20,}"),
    ("ATATT3 ATCTT3", r"[\w=-]{20,}"),
    ("AIza figd_ PMAK- pscale_tkn_ pscale_pw_ pscale_oauth_", r"[\w-]{30,}"),
    ("npm_ hf_ ntn_ shpat_ shpss_ shpca_ shppa_ lin_api_ lin_oauth_ r8_ pplx-", r"[A-Za-z0-9]{30,}"),
    ("dp.pt. dp.st. dp.sa. dp.ct.", r"[\w.]{30,}"),
    ("glsa_ glc_ sntrys_ sntryu_", r"[\w=+/-]{30,}"),
    ("key- dapi", r"[0-9a-f]{32,}"),
    ("secret_ gsk_ pul- rubygems_ sbp_", r"[A-Za-z0-9]{40,}"),
    ("nvapi-", r"[\w-]{40,}"),
    ("pypi-", r"[\w-]{50,}"),
    ("AGE-SECRET-KEY-1", r"[A-Z0-9]{50,}"),
    ("dop_v1_ doo_v1_ xai-", r"[A-Za-z0-9]{60,}"),
    ("SG.", r"[\w-]{16,}\.[\w-]{16,}"),
    ("sk-", r"(?=[\w-]*[A-Za-z0-9]{16})[\w-]{20,}"),
    ("eyJ", r"[\w-]{8,}\.eyJ[\w-]{4,}\.[\w-]*"),
)
_KEY_BEGIN = "-----BEGIN "
_PREFIXES = (*(prefix for prefixes, _ in _FORMATS for prefix in prefixes.split()), _KEY_BEGIN)
_TOKEN = "|".join(f"(?:{'|'.join(map(re.escape, prefixes.split()))}){rest}" for prefixes, rest in _FORMATS)
# A token begins where no ASCII word goes on. An escape (\\n, %20, \\u0022, a colour) ends a word too.
_BEGINNING = (
    r"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2})|(?<=\\u[0-9A-Fa-f]{4})"
    r"|(?<=\[[0-9]m)|(?<=\[[0-9]{2}m)|(?<=;[0-9]m)|(?<=;[0-9]{2}m))"
)
_KEY_LABEL = r"[A-Z\ ]{0,40}PRIVATE\ KEY(?:\ BLOCK)?-----"
TOKEN_PATTERN = re.compile(
    rf"""{_BEGINNING}(?a:{_TOKEN})"""
    rf"""|-----BEGIN\ {_KEY_LABEL}(?:\\[nr]|[\w+/=\s:,.()<>@]|-(?!----))*(?:-----END\ {_KEY_LABEL})?""",
    re.DOTALL,
)
# An escaped character of JSON, C, a URL or HTML; or a NUL, as between the letters of UTF-16.
_ESCAPE = re.compile(
    r"(?:\\u|\\x|%|&\#[xX])(?P<hex>(?<=\\u)[0-9A-Fa-f]{4}|(?<=\\x)[0-9A-Fa-f]{2}|(?<=%)[0-9A-Fa-f]{2}|(?<=&\#[xX])[0-9A-Fa-f]{1,6}(?=;));?"
    r"|&\#(?P<entity>[0-9]{1,7});|&(?:amp|lt|gt|quot|apos);|\\(?P<plain>[\"'/\\])|\0"
)
_PARTIAL_ESCAPE = re.compile(
    r"(?:\\(?:u[0-9A-Fa-f]{0,3}|x[0-9A-Fa-f]?)?|%[0-9A-Fa-f]?|&(?:\#[xX]?[0-9A-Fa-f]{0,7}|[a-z]{0,4}))\Z"
)
_MAX_ESCAPE = 12  # characters
_NAMED_ESCAPES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'"}
# Control characters, but for white space, and the sequences that set a terminal's colours, also as escapes or pictures.
_ESCAPE_CHARACTER = r"(?:[\x1b\u241b]|\\(?:u001[bB]|x1[bB]|033|e)(?=\[|\Z))"
_CONTROL = re.compile(
    rf"{_ESCAPE_CHARACTER}(?:\[[0-9;:]{{0,40}}[@-~])?|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2400-\u2421]"
)
_PARTIAL_CONTROL = re.compile(rf"(?:{_ESCAPE_CHARACTER}(?:\[[0-9;:]{{0,40}})?|\\(?:u(?:0(?:01?)?)?|x1?|03?)?)\Z")
_MAX_CONTROL = 50  # characters
_CAN_BEGIN = re.compile(_BEGINNING)
_TAIL_CHAR = re.compile(r"[\w./=+-]", re.ASCII)  # the characters of an unfinished token
_TOKEN_START = re.compile(rf"{_BEGINNING}(?:{'|'.join(map(re.escape, _PREFIXES[:-1]))})")
_KEY_EDGE = re.compile(rf"-----(?P<kind>BEGIN|END) {_KEY_LABEL}")
_OPEN_HEADER = re.compile(r"-----BEGIN [A-Z ]{0,60}-{0,4}\Z")
_MAX_HEADER = 80  # characters
_CONTINUATION = re.compile(r"[\w./=+-]*", re.ASCII)
_KEY_BODY = re.compile(r"[\w+/=\s:,.()<>@\\-]*")
_LOG_SECRET = re.compile(
    r"""(?i)(?P<name>[?&](?:code|state)|\b(?:access_token|refresh_token|id_token|client_secret|code_verifier|client_assertion))
        (?P<join>["']?\s*[=:]\s*["']?)(?P<value>[^\s&"',}]{6,})
      | \b(?P<scheme>Bearer|Basic)\s+[\w.~+/=-]{8,}
      | (?P<user>://[^\s/:@"']{0,100}:)[^\s/@"']{3,200}(?=@)
      | (?<![\w-])eyJ[\w-]{8,2000}\.[\w-]{1,9000}\.[\w-]*""",
    re.VERBOSE,
)


class SecretRegistry:
    """The secrets that a run has read, received or created, each in the encodings in which it could appear."""

    def __init__(self) -> None:
        self.forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    @property
    def max_length(self) -> int:
        """The length of the longest known form of a secret."""
        return max(map(len, self.forms), default=0)

    def add(self, *values: str | None) -> None:
        """Add secrets; those that are too short are left out. Of an address, its password is a secret by itself too."""
        passwords = (unquote(match[1]) for value in values for match in _PASSWORD.finditer(value or ""))
        for value in (*values, *passwords):
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
                    *_hex_forms(raw),
                    *_base64_forms(raw),
                    *_base64_forms(text.encode("utf-16-le")),
                    raw.decode("latin-1"),  # percent encoding of letters beyond ASCII, decoded byte by byte
                    msgspec.json.encode(text).decode()[1:-1],
                }
                self.forms |= {line for line in value.splitlines() if len(line) >= _MIN_LENGTH and "-----" not in line}
                self._pattern = None

    def redact(self, text: str) -> str:
        """Replace each known secret, and each token of a well-known format, with ``[secret]``.

        Invisible characters within a secret do not hide it.
        """
        spans = self._find_spans(text)
        if not spans:
            return text
        parts, end = [], 0
        for start, stop in spans:
            parts += [text[end:start], REDACTED]
            end = stop
        return "".join((*parts, text[end:]))

    def _find_spans(self, text: str) -> list[tuple[int, int]]:
        """The places of secrets, in order, without overlaps."""
        spans: list[tuple[int, int]] = []
        for visible, positions in _read(text):
            found = self._find_known(visible) if self.forms else []
            if any(prefix in visible for prefix in _PREFIXES):
                found += [match.span() for match in TOKEN_PATTERN.finditer(visible)]
            spans += [(positions[start], positions[stop - 1] + 1) for start, stop in found] if positions else found
        return _merge(spans)

    def _find_known(self, text: str) -> list[tuple[int, int]]:
        pattern = self._compiled_pattern()
        spans = [match.span() for match in pattern.finditer(text)]
        if _ESCAPE.search(text):
            decoded, starts = _decode_escapes(text)
            spans += [(starts[match.start()], starts[match.end()]) for match in pattern.finditer(decoded)]
        return spans

    def redact_log(self, text: str) -> str:
        """Redact text of logs and error details: as ``redact``, and also text that only looks like a secret."""
        return _LOG_SECRET.sub(_replacement, self.redact(text))

    def redact_value(self, value: _T) -> _T:
        """Redact every string in a structure."""
        return map_strings(value, self.redact)

    def safe_prefix_length(self, text: str) -> int:
        """How many characters of an unfinished text can be shown: a secret may have begun after them."""
        control = _PARTIAL_CONTROL.search(text, max(0, len(text) - _MAX_CONTROL))
        length = control.start() if control else len(text)
        for visible, positions in _read(text[:length]):
            safe = self._safe_length(visible)
            if safe < len(visible):
                length = min(length, positions[safe] if positions else safe)
        for start, stop in reversed(self._find_spans(text)):
            if start < length < stop:
                length = start
        return length

    def _safe_length(self, text: str) -> int:
        open_end = find_open_end(text)
        safe = len(text) if open_end is None else open_end
        for form in (*self.forms, *_PREFIXES):
            anywhere = form in self.forms or form == _KEY_BEGIN
            start = max(0, len(text) - len(form) + 1)
            while (start := text.find(form[0], start, safe)) != -1:
                if form.startswith(text[start:]) and (anywhere or _CAN_BEGIN.match(text, start)):
                    safe = start
                    break
                start += 1
        if self.forms:
            safe = min(safe, self._safe_length_of_escapes(text))
        return safe

    def _safe_length_of_escapes(self, text: str) -> int:
        """How much of a text can be shown if an escaped secret may have begun, or an escape is not complete."""
        partial = _PARTIAL_ESCAPE.search(text, max(0, len(text) - _MAX_ESCAPE))
        end = partial.start() if partial else len(text)
        if partial is None and not _ESCAPE.search(text):
            return len(text)
        decoded, starts = _decode_escapes(text[:end])
        safe = len(decoded)
        for form in self.forms:
            start = max(0, len(decoded) - len(form) + 1)
            while (start := decoded.find(form[0], start, safe)) != -1:
                if form.startswith(decoded[start:]):
                    safe = start
                    break
                start += 1
        return starts[safe]

    def _compiled_pattern(self) -> re.Pattern[str]:
        if self._pattern is None:  # longest first: one secret may be a prefix of another
            self._pattern = re.compile("|".join(map(re.escape, sorted(self.forms, key=len, reverse=True))))
        return self._pattern


def _decode_escapes(text: str) -> tuple[str, list[int]]:
    """The text with its escapes (of JSON, URLs, HTML) decoded, and where each of its characters began, and its end."""
    parts: list[str] = []
    starts: list[int] = []
    end = 0
    for match in _ESCAPE.finditer(text):
        parts.append(text[end : match.start()])
        starts += range(end, match.start())
        character = _decode_escape(match)
        parts.append(character)
        starts += [match.start()] * len(character)
        end = match.end()
    parts.append(text[end:])
    starts += range(end, len(text) + 1)
    return "".join(parts), starts


def _decode_escape(match: re.Match[str]) -> str:
    if match["hex"] or match["entity"]:
        code = int(match["hex"], 16) if match["hex"] else int(match["entity"])
        return chr(code) if code < 0x110000 else "\ufffd"
    return _NAMED_ESCAPES.get(match[0], match["plain"] or "")


def _hex_forms(secret: bytes) -> Iterator[str]:
    for digits in (secret.hex(), secret.hex(" "), secret.hex(":"), secret.hex("-"), secret.hex(",")):
        yield from (digits, digits.upper())


def _base64_forms(secret: bytes) -> Iterator[str]:
    """How the secret appears in base64, also within a longer text, such as ``user:secret``."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(secret).decode().rstrip("=")
        for before, cut in ((0, 0), (1, 2), (2, 3)):  # bytes before it, and the characters that depend on them
            encoded = encode(b"\0" * before + secret).decode().rstrip("=")
            inner = encoded[cut : len(encoded) - (1 if (before + len(secret)) % 3 else 0)]
            if len(inner) >= _MIN_LENGTH:
                yield inner


def find_open_end(text: str) -> int | None:
    """Where a token or a private key begins that is not finished at the end of the text; None if none is.

    Takes time in proportion to the length of the text, whatever it contains.
    """
    starts = []
    if _KEY_BEGIN in text:
        open_key = None
        for edge in _KEY_EDGE.finditer(text):
            if edge["kind"] == "END":
                open_key = None
            elif open_key is None:
                open_key = edge.start()
        header = _OPEN_HEADER.search(text, max(0, len(text) - _MAX_HEADER))
        starts += [start for start in (open_key, header and header.start()) if start is not None]
    tail = len(text)
    while tail and _TAIL_CHAR.match(text[tail - 1]):
        tail -= 1
    if (token := _TOKEN_START.search(text, tail)) is not None:
        starts.append(token.start())
    return min(starts, default=None)


def _merge(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans in order, without overlaps."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        else:
            merged.append((start, stop))
    return merged


def _read(text: str) -> Iterator[tuple[str, list[int] | None]]:
    """The text as a reader sees it, and where each character was; and once more without the colours of a terminal.

    ``grep --color`` puts them into the middle of a word. The positions are None if the text is as it was.
    """
    yield _drop_invisible(text)
    if _CONTROL.search(text):
        positions: list[int] = []
        end = 0
        for match in _CONTROL.finditer(text):
            positions += range(end, match.start())
            end = match.end()
        positions += range(end, len(text))
        positions = [index for index in positions if not INVISIBLE_CHARACTER.match(text[index])]
        yield "".join(text[index] for index in positions), positions


def _drop_invisible(text: str) -> tuple[str, list[int] | None]:
    """The text without invisible characters, and the position of each of its characters; None if they are the same."""
    if text.isascii() or INVISIBLE_CHARACTER.search(text) is None:
        return text, None
    positions = [index for index, character in enumerate(text) if not INVISIBLE_CHARACTER.match(character)]
    return "".join(text[index] for index in positions), positions


def _to_plain(text: str) -> str:
    """The text without invisible characters and colours, also without the beginning of one at the end."""
    control = _PARTIAL_CONTROL.search(text, max(0, len(text) - _MAX_CONTROL))
    return _drop_invisible(_CONTROL.sub("", text[: control.start()] if control else text))[0]


class StreamRedactor:
    """Redacts a text stream. Holds back text that may be the beginning of a secret until that is decided."""

    def __init__(self, secrets: SecretRegistry) -> None:
        self._secrets = secrets
        self._pending = ""
        self._in_token = self._in_key = False
        self._dropped: Literal["", "token", "key"] = ""  # what is too long to be held back
        self._recent = ""  # the latest part of a dropped key

    def feed(self, chunk: str) -> str:
        """The text that can be shown now: everything received so far, except a held-back end."""
        if self._dropped:
            chunk = self._skip(chunk)
        text = self._pending + chunk
        if len(text) < _MAX_PENDING and self._is_undecided(chunk):
            self._pending = text
            return ""
        safe = self._secrets.safe_prefix_length(text)
        if len(text) - safe > max(_MAX_PENDING, self._secrets.max_length):
            # Too long to be held back, and not to be shown: the rest of it is dropped.
            self._dropped = "key" if _to_plain(text[safe:]).startswith(_KEY_BEGIN) else "token"
            self._pending = ""
            return self._secrets.redact(text[:safe]) + REDACTED
        self._pending = text[safe:]
        pending = _to_plain(self._pending)
        self._in_key = pending.startswith(_KEY_BEGIN) and find_open_end(pending) == 0
        self._in_token = not self._in_key and _TOKEN_START.match(pending) is not None and find_open_end(pending) == 0
        return self._secrets.redact(text[:safe])

    def _skip(self, chunk: str) -> str:
        """What follows the end of the token or key that is being dropped; empty if it goes on."""
        text = self._recent + chunk
        control = _PARTIAL_CONTROL.search(text, max(0, len(text) - _MAX_CONTROL))
        rest = control[0] if control else ""
        text = _to_plain(text.removesuffix(rest))
        footer = _KEY_EDGE.search(text) if self._dropped == "key" else None
        inside = _KEY_BODY if self._dropped == "key" else _CONTINUATION
        match = inside.match(text)
        end = footer.end() if footer is not None else match.end() if match is not None else 0
        if end == len(text) and footer is None:
            self._recent = (text[-_MAX_HEADER:] if self._dropped == "key" else "") + rest
            return ""
        self._dropped, self._recent = "", ""
        return text[end:] + rest

    def _is_undecided(self, chunk: str) -> bool:
        """Whether the held-back text goes on: with another piece of a token, or within a private key."""
        if self._in_key:
            recent = _to_plain(self._pending[-_MAX_HEADER:] + chunk)
            return all(edge["kind"] == "BEGIN" for edge in _KEY_EDGE.finditer(recent))
        if not self._in_token:
            return False
        control = _PARTIAL_CONTROL.search(self._pending, max(0, len(self._pending) - _MAX_CONTROL))
        return _CONTINUATION.fullmatch(_to_plain((control[0] if control else "") + chunk)) is not None

    def flush(self) -> str:
        """The held-back rest, at the end of the stream."""
        rest, self._pending, self._in_token, self._in_key = self._pending, "", False, False
        self._dropped, self._recent = "", ""
        return self._secrets.redact(rest)


def _replacement(match: "re.Match[str]") -> str:
    if match["name"]:
        return f"{match['name']}{match['join']}{REDACTED}"
    if match["user"]:
        return f"{match['user']}{REDACTED}"
    return f"{match['scheme']} {REDACTED}" if match["scheme"] else REDACTED
