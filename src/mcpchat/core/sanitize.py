"""What may reach a terminal: text, and nothing that the terminal would act on."""

_ZERO_WIDTH = "\u200b\u2060\u2061\u2062\u2063\u2064\ufeff\u00ad\u180e"
_BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def _table() -> dict[int, str | None]:
    table: dict[int, str | None] = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
    table[0x7F] = "\u2421"
    table |= {code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}
    table |= {ord(char): None for char in _ZERO_WIDTH + _BIDI}
    table |= dict.fromkeys(range(0xE0000, 0xE0080))
    table |= dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
    return table


_FOR_TERMINAL = _table()


def clean(text: str) -> str:
    """The text with control characters made visible and invisible ones dropped; newlines and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return text.replace("\r\n", "\n").translate(_FOR_TERMINAL)


def one_line(text: str, limit: int = 80) -> str:
    """Clean text on one line, of at most ``limit`` characters, an ellipsis where it was cut."""
    # What lies beyond a generous multiple of the limit cannot show: do not walk through megabytes for it.
    line = " ".join(clean(text[: limit * 8]).split())
    return line if len(line) <= limit and len(text) <= limit * 8 else line[: limit - 1] + "…"
