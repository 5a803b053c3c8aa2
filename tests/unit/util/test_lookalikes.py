"""Words that may imitate others are found, and ordinary words of any language are not."""

import pytest

from mcpchat.util.lookalikes import find_lookalikes


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


def test_the_number_is_limited() -> None:
    assert len(find_lookalikes(" ".join(f"a{number}@аррle.com" for number in range(50)))) == 5
