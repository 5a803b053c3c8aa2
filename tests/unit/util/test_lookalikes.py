"""Words that may imitate others are found, and ordinary words of any language are not."""

import pytest

from mcpchat.util.lookalikes import excerpt, find_lookalikes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a@аррle.com", ["a@аррle.com"]),
        ("to аnn@example.com, bob@example.com", ["аnn@example.com"]),
        ("Ann <ann@exаmple.com>;eve@evil.example", ["ann@exаmple.com"]),
        ('["ann@example.com", "ann@exampIe.com", "ann@xn--exmple-4nf.com"]', ["ann@xn--exmple-4nf.com"]),
        ("see https://раураl.com/login and http://example.com", ["раураl.com"]),
        ("https://münchen.example/x", ["münchen.example"]),
        ("delete pаyroll", ["pаyroll"]),
        ("Αdmin", ["Αdmin"]),
        ("ａdmin", ["ａdmin"]),
        ("Привет, мир! Grüße aus Köln. 日本語のtext こんにちは Ελληνικά hello123 naïve", []),
        ("x@y", []),
        ("", []),
    ],
)
def test_imitations_are_found(text: str, words: list[str]) -> None:
    assert find_lookalikes(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\uff20evil.example", ["a\uff20evil.example"]),
        ("a\ufe6bevil.example", ["a\ufe6bevil.example"]),
        ("a@%D0%B0pple.com", ["a@аpple.com"]),
        ("https://%D0%B0pple.com/x", ["аpple.com"]),
        ("mailto:a@xn--pple-43d.com?x", ["mailto:a@xn--pple-43d.com?x"]),
        ("\U0001d41admin", ["\U0001d41admin"]),
        ("@everybody 50% off", []),
    ],
)
def test_imitations_are_found_in_other_spellings(text: str, words: list[str]) -> None:
    assert find_lookalikes(text) == words


def test_every_word_is_found_however_many_there_are() -> None:
    assert len(find_lookalikes(" ".join(f"a{number}@аррle.com" for number in range(50)))) == 50
    assert find_lookalikes("x" * 150_000 + " a@аррle.com") == ["a@аррle.com"]


def test_a_long_word_is_shown_around_what_is_foreign() -> None:
    assert excerpt("a@аррle.com") == "a@аррle.com"
    assert "xxа.com" in excerpt("y@" + "x" * 500 + "а.com" + "z" * 500)
    assert len(excerpt("y@" + "x" * 500 + "а.com" + "z" * 500)) == 60


@pytest.mark.no_cover
@pytest.mark.parametrize("unit", ["x", "@", "а", "://", "%", "x@", "а@ "])
def test_a_long_text_takes_no_long_time(unit: str) -> None:
    """In time in proportion to its length, else the test's time limit is exceeded."""
    find_lookalikes(unit * (500_000 // len(unit)))
