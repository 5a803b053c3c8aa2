"""The limits of sanitizing: which characters are invisible, where joiners and selectors may stay, and what is held back.

The characters are written as code points, because the file must show what it tests.
"""

import json
import unicodedata

import pytest

from mcpchat.util.sanitize import (
    escape_unsafe_json,
    incomplete_tail,
    one_line,
    sanitize,
    show_invisible,
    strip_invisible,
)

INVISIBLE = [
    (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFFB), (0x1107F, 0x1107F), (0x13430, 0x1343F), (0x16FE4, 0x16FE4),
    (0x1BCA0, 0x1BCA3), (0x1D159, 0x1D159), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
]  # fmt: skip
# Marks of Arabic, Syriac and Kaithi that enclose or precede digits: format characters that are visible.
VISIBLE_FORMAT = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
MARKS = [
    (0x300, 0x36F), (0x483, 0x489), (0x591, 0x5BD), (0x610, 0x61A), (0x64B, 0x65F), (0xE31, 0xE31), (0xE34, 0xE3A),
    (0xE47, 0xE4E), (0xEB1, 0xEB1), (0xEB4, 0xEBC), (0xEC8, 0xECE), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF), (0xFE20, 0xFE2F),
]  # fmt: skip
JOINER_SCRIPTS = [(0x590, 0x1FFF)]
EMOJI = [(0x2190, 0x2BFF), (0x1F000, 0x1FAFF)]
IDEOGRAPHS = [(0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)]


def limits(ranges: list[tuple[int, int]]) -> list[str]:
    """Return the first, a middle and the last character of each range."""
    return [chr(code) for first, last in ranges for code in sorted({first, (first + last) // 2, last})]


def neighbours(ranges: list[tuple[int, int]]) -> list[str]:
    return [chr(code) for first, last in ranges for code in (first - 1, last + 1)]


def is_in(code: int, ranges: list[tuple[int, int]]) -> bool:
    return any(first <= code <= last for first, last in ranges)


@pytest.mark.no_cover
def test_exactly_the_invisible_characters_are_removed() -> None:
    codes = [code for code in range(0x110000) if chr(code) not in "\n\r"]
    lines = strip_invisible("\n".join(f"a{chr(code)}b" for code in codes)).split("\n")
    removed = {code for code, line in zip(codes, lines, strict=True) if line == "ab"}
    assert removed == {code for code in codes if is_in(code, INVISIBLE)}
    format_characters = {code for code in codes if unicodedata.category(chr(code)) == "Cf"}
    assert format_characters - removed <= VISIBLE_FORMAT


def test_an_invisible_character_is_removed_from_a_terminal_and_shown_in_a_review() -> None:
    for char in limits(INVISIBLE):
        assert sanitize(char) == ""
        assert show_invisible(f"a{char}b") == f"a\\u{{{ord(char):x}}}b"
        escaped = escape_unsafe_json(f'"{char}"')
        assert escaped.isascii()
        assert json.loads(escaped) == char


# --- where an invisible character may stay -----------------------------------------------------------------------

KEPT = [
    *(f"{letter}{joiner}x" for letter in limits(JOINER_SCRIPTS) for joiner in "\u200c\u200d"),
    *(f"{emoji}\u200d\u2190" for emoji in [*limits(EMOJI), "\u2764\ufe0f"]),
    *(f"\u2190\u200d{emoji}" for emoji in limits(EMOJI)),
    *(f"{char}{selector}" for char in "09#*\u00a9\U0010ffff" for selector in "\ufe0e\ufe0f"),
    *(f"{arrow}\ufe00" for arrow in "\u2190\u2600\u2aff"),
    *(f"{letter}{selector}" for letter in "\u1820\u1850\u18aa" for selector in "\u180b\u180c\u180d\u180e\u180f"),
    *(f"{char}{selector}" for char in limits(IDEOGRAPHS) for selector in "\U000e0100\U000e0150\U000e01ef"),
    *(
        "\U0001f3f4" + "".join(chr(0xE0000 + ord(letter)) for letter in country) + "\U000e007f"
        for country in ("gbeng", "gbsct", "gbwls")
    ),
]
REMOVED = [
    *((f"{letter}{joiner}x", f"{letter}x") for letter in neighbours(JOINER_SCRIPTS) for joiner in "\u200c\u200d"),
    ("\u0628\u200d\u200d", "\u0628"),
    ("\u0628\u200d\u200bx", "\u0628x"),
    ("\u0628\u061c\u200dx", "\u0628x"),
    *((f"{char}\u200d\u2190", f"{char}\u2190") for char in [*neighbours(EMOJI), "x"]),
    *((f"\u2190\u200d{char}", f"\u2190{char}") for char in [*neighbours(EMOJI), "x", "\u00e9"]),
    ("\u2764\u200d", "\u2764"),
    *((f"{char}{selector}", char) for char in "/:a \u00a8" for selector in "\ufe0e\ufe0f"),
    ("\u2764\ufe0f\ufe0f", "\u2764\ufe0f"),
    ("\u2764\u200b\ufe0f", "\u2764"),
    *((f"{char}\ufe00", char) for char in "\u218f\u2b00"),
    ("\u2190\ufe01", "\u2190"),
    *((f"{char}{selector}", char) for char in "\u181f\u18ab" for selector in "\u180b\u180f"),
    *((f"{char}\U000e0100", char) for char in neighbours(IDEOGRAPHS)),
    ("\u4e00\U000e00ff", "\u4e00"),
    ("\u4e00\U000e01f0", "\u4e00"),
    ("\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067", "\U0001f3f4"),
    ("x\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "x"),
]


def test_a_joiner_or_selector_stays_where_it_belongs() -> None:
    for function in (strip_invisible, sanitize, show_invisible, escape_unsafe_json):
        assert [function(text) for text in KEPT] == KEPT


def test_a_joiner_or_selector_is_removed_elsewhere() -> None:
    assert [(text, strip_invisible(text)) for text, _ in REMOVED] == REMOVED
    for text, visible in REMOVED:
        assert show_invisible(text).count("\\u{") == len(text) - len(visible)


# --- control characters and accents ------------------------------------------------------------------------------

CONTROLS = {
    **{code: chr(0x2400 + code) for code in range(0x20)}, 0x7F: "\u2421",
    **{code: f"\\x{code:02x}" for code in range(0x80, 0xA0)},
    0x09: "\t", 0x0A: "\n", 0x2028: "\n", 0x2029: "\n", 0xD800: "\ufffd", 0xDFFF: "\ufffd",
}  # fmt: skip


def test_a_control_character_is_shown_as_a_visible_one() -> None:
    codes = [*range(0xAD), *range(0xAE, 0x100), 0x2027, 0x2028, 0x2029, 0xD7FF, 0xD800, 0xDFFF, 0xE000]
    for before in "a\u00e9":
        shown = [f"{before}{CONTROLS.get(code, chr(code))}b" for code in codes]
        assert [sanitize(f"{before}{chr(code)}b") for code in codes] == shown


def test_a_carriage_return_before_a_newline_is_no_control_character() -> None:
    assert sanitize("a\r\nb\r") == "a\nb\u240d"


def test_at_most_eight_accents_are_stacked() -> None:
    for mark in limits(MARKS):
        assert sanitize(f"a{mark * 8}b") == f"a{mark * 8}b"
        assert sanitize(f"a{mark * 12}b") == f"a{mark * 8}b"


def test_other_characters_may_be_repeated() -> None:
    others = [char * 12 for char in neighbours(MARKS) if not is_in(ord(char), INVISIBLE)]
    assert [sanitize(text) for text in others] == others


# --- chunks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("", 0),
        ("abc", 0),
        ("ab\n", 0),
        ("ab\r", 1),
        ("\r\r", 1),
        ("caf\u00e9", 1),
        ("cafe\u0301", 2),
        ("cafe\u0301\u0302", 3),
        ("cafe\u0301s", 0),
        ("a\U0001f469\u200d", 2),
        ("a\U0001f469\u200d\U0001f469", 3),
        ("a\U0001f469\u200d\U0001f469\u200d\U0001f469\ufe0f", 6),
        ("\U0001f469\U0001f469", 1),
        ("\u0301", 0),
        ("a" + "\u0301" * 39, 40),
        ("a" + "\u0301" * 40, 0),
    ],
    ids=ascii,
)
def test_the_end_of_a_chunk_waits_if_the_next_may_change_it(text: str, held: int) -> None:
    assert incomplete_tail(text) == held


# --- JSON and single lines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("char", "escaped"),
    [
        ("\x7f", "\\u007f"), ("\x80", "\\u0080"), ("\x9f", "\\u009f"), ("\xa0", "\xa0"), ("\xe9", "\xe9"),
        ("\u2027", "\u2027"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029"), ("\u200b", "\\u200b"),
        ("\U000e0041", "\\udb40\\udc41"), ("\ud7ff", "\ud7ff"), ("\ud800", "\\ud800"), ("\udabc", "\\udabc"), ("\udfff", "\\udfff"),
        ("\ue000", "\ue000"), ("~", "~"),
    ],
    ids=ascii,
)  # fmt: skip
def test_unsafe_characters_of_a_json_text_are_escaped(char: str, escaped: str) -> None:
    assert escape_unsafe_json(f'{{"a": "{char}"}}') == f'{{"a": "{escaped}"}}'
    assert json.loads(escape_unsafe_json(f'"{char}"')) == char


@pytest.mark.parametrize(
    ("text", "limit", "line"),
    [
        ("x" * 10, 10, "x" * 10),
        ("x" * 11, 10, "x" * 9 + "…"),
        ("x\x1b\u200b\ny", 10, "x␛ y"),
        ("x" + " " * 79, 10, "x"),
        ("x" + " " * 80, 10, "x…"),
        (" " * 79 + "x", 10, "x"),
        (" " * 80 + "x", 10, "…"),
    ],
)
def test_one_line_ends_in_dots_if_it_was_cut(text: str, limit: int, line: str) -> None:
    assert one_line(text, limit) == line


def test_one_line_has_at_most_80_characters_by_default() -> None:
    assert one_line("x" * 80) == "x" * 80
    assert one_line("x" * 81) == "x" * 79 + "…"
