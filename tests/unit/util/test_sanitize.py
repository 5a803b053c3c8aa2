"""Sanitizing of text for a terminal or a model: only visible text, with the joiners that scripts and emoji need."""

import re
import unicodedata

import pyte
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcpchat.util.sanitize import one_line, sanitize, sanitize_message, show_invisible, strip_invisible

VALID_TEXTS = [
    "plain\ttext\nlines",
    "e\u0301 a\u0308\u0304 \u1ec7",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, with a zero-width non-joiner
    "\u0915\u094d\u200d\u0937 \u0928\u092e\u0938\u094d\u0924\u0947",  # Hindi, with a zero-width joiner
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f44d\U0001f3fd 1\ufe0f\u20e3 \u2764\ufe0f",
    "\U0001f3f3\ufe0f\u200d\U0001f308 \U0001f1e9\U0001f1ea \U0001f441\ufe0f\u200d\U0001f5e8\ufe0f",
    "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # the flag of England
    "\u845b\U000e0100\u98fe \u65e5\u672c\u8a9e \ud55c\uad6d\uc5b4",
]


@pytest.mark.parametrize("text", VALID_TEXTS, ids=range(len(VALID_TEXTS)))
def test_characters_of_scripts_and_emoji_are_kept(text: str) -> None:
    assert sanitize(text) == text
    assert strip_invisible(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\x1b[31mb\x07", "a␛[31mb␇"),
        ("a\x9b31mb", "a\\x9b31mb"),
        ("overwrite\rme", "overwrite␍me"),
        ("\x1b]8;;http://evil.test\x1b\\bank.test\x1b]8;;\x1b\\", "␛]8;;http://evil.test␛\\bank.test␛]8;;␛\\"),
        ("user\u202etxt.exe", "usertxt.exe"),
        ("a\u200bb\u2060c\ufeffd\u00ade", "abcde"),
        ("pass\U000e0069\U000e0067\U000e006eword", "password"),
        ("a\u200db", "ab"),
        ("x\ufe01\ufe02\ufe03", "x"),
        ("\U0001f600\ufe0f\ufe0e\U000e0101\U000e0102", "\U0001f600\ufe0f"),
        ("\U0001f3f4\U000e0068\U000e0069\U000e007f", "\U0001f3f4"),
        ("\u3164\u115f\uffa0", ""),
        ("one\u2028two", "one\ntwo"),
        ("\ud800", "\ufffd"),
        ("a" + "\u0301" * 50, "a" + "\u0301" * 8),
    ],
)
def test_control_characters_are_escaped_or_dropped(text: str, expected: str) -> None:
    assert sanitize(text) == expected


def test_invisible_characters_are_escaped_in_diffs() -> None:
    assert show_invisible("a\u200bb\x1b") == "a\\u{200b}b␛"


ATTACKS = st.lists(
    st.one_of(
        st.text(),
        st.binary().map(lambda raw: raw.decode("utf-8", errors="replace")),
        st.binary().map(lambda raw: raw.decode("latin-1")),
        st.sampled_from(
            [
                "\x1b[",
                "\x1b]0;t\x07",
                "\x1b]52;c;YQ==\x07",
                "\x9b2J",
                "\x90q\x9c",
                "\x1bc",
                "\r",
                "\x08",
                "\u202e",
                "8;;x",
            ]
        ),
    ),
    max_size=8,
).map("".join)


@given(ATTACKS)
@example("\x1b]8;;file:///etc/passwd\x07click\x1b]8;;\x07")
def test_sanitized_text_does_not_control_a_terminal(text: str) -> None:
    sanitized = sanitize(text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", sanitized)
    assert not any(unicodedata.bidirectional(char) in {"LRE", "RLE", "LRO", "RLO", "PDF"} for char in sanitized)
    assert sanitize(sanitized) == sanitized
    screen = pyte.Screen(80, 24)
    initial_state = (set(screen.mode), screen.margins, screen.title, screen.charset)
    pyte.Stream(screen).feed(sanitized.replace("\n", "\r\n"))
    assert (set(screen.mode), screen.margins, screen.title, screen.charset) == initial_state
    assert {char.fg for line in screen.buffer.values() for char in line.values()} <= {"default"}


@given(ATTACKS)
def test_a_model_reads_only_visible_characters(text: str) -> None:
    visible = strip_invisible(text)
    assert strip_invisible(visible) == visible
    assert not re.search("[\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0001-\U000e001f]", visible)


@given(ATTACKS, st.integers(2, 200))
def test_one_line_is_limited(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert "\n" not in line
    assert len(line) <= limit


def test_a_message_has_no_line_that_looks_like_another() -> None:
    assert (
        sanitize_message("no\u2028error: gone\n\n  hint\r\nwarning: x") == "no\n  error: gone\n\n  hint\n  warning: x"
    )
    assert sanitize_message("one line") == "one line"
