"""What may reach a terminal, or a model: text that can be seen, and nothing that acts or hides."""

import json
import re

# Characters that show nothing, or turn around what others show. A joiner or selector between what it is made for is
# right; anywhere else it can only carry what a person does not see.
_SELECTORS = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
_INVISIBLE_CHARS = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\U0001107f\U00013430-\U0001343f\U00016fe4\U0001d159"
    "\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff" + _SELECTORS
)
_JOINER_SCRIPTS = "\u0590-\u1fff"  # scripts whose letters a joiner or its opposite may follow
_EMOJI = "\u2190-\u2bff\U0001f000-\U0001faff"  # of which emoji are joined
_IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_SUBDIVISION_FLAGS = "|".join(  # of England, Scotland, Wales: the three that are written with invisible letters
    "\U0001f3f4" + "".join(chr(0xE0000 + ord(letter)) for letter in country) + "\U000e007f"
    for country in ("gbeng", "gbsct", "gbwls")
)
_INVISIBLE = re.compile(
    f"(?P<right>{_SUBDIVISION_FLAGS}"
    f"|(?<=[{_JOINER_SCRIPTS}])(?<![{_INVISIBLE_CHARS}])[\u200c\u200d](?![{_INVISIBLE_CHARS}])"
    f"|(?<=[{_EMOJI}\ufe0f])\u200d(?=[{_EMOJI}])"
    f"|(?<=[0-9#*\u00a9-\U0010ffff])(?<![{_INVISIBLE_CHARS}])[\ufe0e\ufe0f]"
    f"|(?<=[\u2190-\u2aff])\ufe00|(?<=[\u1820-\u18aa])[\u180b-\u180f]"
    f"|(?<=[{_IDEOGRAPHS}])[\U000e0100-\U000e01ef])"
    f"|[{_INVISIBLE_CHARS}]"
)
_COMBINING_MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc"
    "\u0ec8-\u0ece\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
)
_STACKED_MARKS = re.compile(f"([{_COMBINING_MARKS}]{{8}})[{_COMBINING_MARKS}]+")

_INCOMPLETE = re.compile(
    f"\r|[^{_INVISIBLE_CHARS}{_COMBINING_MARKS}](?:[{_INVISIBLE_CHARS}{_COMBINING_MARKS}]+[^{_INVISIBLE_CHARS}{_COMBINING_MARKS}]?)*"
)
_MAX_CLUSTER_LENGTH = 40  # characters of one sign that is made of many


def _build_terminal_table() -> dict[int, str | None]:
    table: dict[int, str | None] = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
    table[0x7F] = "\u2421"
    table |= {code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}
    table |= dict.fromkeys((0x2028, 0x2029), "\n")
    table |= dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
    return table


_TERMINAL_TABLE = _build_terminal_table()


def sanitize(text: str) -> str:
    """The text with control characters made visible and invisible ones dropped; newlines and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    result = strip_invisible(text).replace("\r\n", "\n").translate(_TERMINAL_TABLE)
    return result if result.isascii() else _STACKED_MARKS.sub(r"\1", result)  # no tower of accents over other lines


def incomplete_tail(text: str) -> int:
    """How many characters at the end are to wait for what comes next, since it may make one sign with them."""
    if text[-1:].isascii() and not text.endswith("\r"):
        return 0
    tail = text[-_MAX_CLUSTER_LENGTH:]
    return next((len(tail) - start for start in range(len(tail)) if _INCOMPLETE.fullmatch(tail, start)), 0)


def strip_invisible(text: str) -> str:
    """The text without characters that show nothing: what a model reads is what a person sees."""
    return text if text.isascii() else _INVISIBLE.sub(lambda match: match["right"] or "", text)


def show_invisible(text: str) -> str:
    """Clean text with invisible characters spelt out, as ``\\u{200b}``: for who looks for what has changed."""
    if not text.isascii():
        text = _INVISIBLE.sub(lambda match: match["right"] or f"\\u{{{ord(match[0]):x}}}", text)
    return sanitize(text)


def escape_unsafe_json(text: str) -> str:
    """JSON with all that would act on a terminal, or hide, as escapes: still the same JSON."""

    def escape(match: re.Match[str]) -> str:
        return json.dumps(match[0])[1:-1]

    if text.isascii() and "\x7f" not in text:
        return text
    text = _INVISIBLE.sub(lambda match: match["right"] or escape(match), text)
    return re.sub("[\x7f-\x9f\u2028\u2029\ud800-\udfff]", escape, text)


def one_line(text: str, limit: int = 80) -> str:
    """Clean text on one line, of at most ``limit`` characters, an ellipsis where it was cut."""
    # What lies beyond a generous multiple of the limit cannot show: do not walk through megabytes for it.
    line = " ".join(sanitize(text[: limit * 8]).split())
    return line if len(line) <= limit and len(text) <= limit * 8 else line[: limit - 1] + "…"
