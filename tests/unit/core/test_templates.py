"""Templates: variables, defaults, and the words and the text that a user adds to them."""

import pytest

from mcpchat.core.templates import compose_prompt
from mcpchat.errors import UsageError


def compose(text: str, *args: str, stdin: str = "", **default_values: str) -> str:
    return compose_prompt("review", text, args, stdin, default_values)


@pytest.mark.parametrize(
    ("text", "args", "stdin", "prompt"),
    [
        ("Review $file for $$5.", ("file=a.py",), "", "Review a.py for $5."),
        ("In ${tone:-plain} words, $tone.", (), "", "In plain words, plain."),
        ("In ${tone:-plain} words.", ("tone=kind",), "", "In kind words."),
        ("Review.", ("the", "rest"), "a = 1", "Review.\n\nthe rest\n\na = 1"),
        ("Review $stdin: $words", ("the", "rest"), "a = 1", "Review a = 1: the rest"),
        ("Review $file.", ("file=$words",), "", "Review $words."),
        ("Review.", ("x=1",), "", "Review.\n\nx=1"),
    ],
)
def test_words_and_piped_text_fill_a_template(text: str, args: tuple[str, ...], stdin: str, prompt: str) -> None:
    assert compose(text, *args, stdin=stdin) == prompt


def test_a_word_overrides_a_default_value() -> None:
    assert compose("$agent, $date", "date=today", agent="mail", date="2026-12-24", other="x") == "mail, today"


@pytest.mark.parametrize(
    ("text", "args", "message", "hint"),
    [
        ("Review $stdin", ("stdin=x",), "$stdin stands for the piped text and cannot be set with stdin=", ""),
        ("Review $words", ("words=x",), "$words stands for the other words and cannot be set with words=", ""),
        (
            "Review $file ${tone:-plain}",
            ("fiel=a.py",),
            "the template review has no variable 'fiel'; did you mean file?",
            "review takes file= [tone=plain]",
        ),
        ("Review $file and $other", ("other=x",), "the template review needs file", "review takes file= other="),
    ],
)
def test_a_template_that_cannot_be_filled_is_an_error(
    text: str, args: tuple[str, ...], message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as raised:
        compose(text, *args)
    assert (raised.value.message, raised.value.hint) == (message, hint)
