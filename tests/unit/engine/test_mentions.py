"""Mentions in pasted text attach nothing; mentions that the user typed do."""

import pytest

from mcpchat.engine.mentions import is_pasted, keep_pasted, unmark_pasted


@pytest.mark.parametrize(
    ("mention", "paste", "pasted"),
    [
        ("@/etc/passwd", "see @/etc/passwd", True),
        ('@"/etc/passwd"', 'see @"/etc/passwd" please', True),
        ('@"two words.txt"', '@"two words.txt"', True),
        ("@box:note://today", "and @box:note://today.", True),
        ("@/etc/passwd", "@/etc/pass", True),  # the user has typed the rest
        ("@/etc", "@/etc/passwd", True),  # the user has deleted the rest
        ("@/etc/passwd", "@", True),
        ("@/etc/passwd", "(@/etc/passwd)", True),
        ("@/etc/passwd", "/etc/passwd", False),  # the user has typed the @
        ("@notes.txt", "see @other.txt", False),
        ("@notes.txt", "", False),
    ],
)
def test_a_mention_is_pasted_if_its_at_sign_was(mention: str, paste: str, pasted: bool) -> None:
    assert is_pasted(mention, [paste]) == pasted
    assert is_pasted(mention, ["x", paste]) == pasted


def test_the_mentions_of_pastes_that_were_sent_are_known_later() -> None:
    sent, waiting = 'see @/etc/passwd, @"two words" and @ or @x, me@a.example', "not yet @b.txt"
    kept = keep_pasted([sent, waiting], f"{sent} and more")
    assert kept == [waiting, "@/etc/passwd,", '@"two words"', "@a.example"]
    assert keep_pasted(kept, "other text") == kept
    assert is_pasted("@/etc/passwd", kept)
    assert not is_pasted("@notes.txt", kept)


def test_a_pasted_mention_is_kept_without_its_at_sign() -> None:
    line = 'sum up @mine.txt and @"/etc/passwd", @box:note://a me@example.com'
    kept = 'sum up @mine.txt and "/etc/passwd", box:note://a me@example.com'
    assert unmark_pasted(line, ['and @"/etc/passwd", @box:note://a']) == kept
    assert unmark_pasted(line, []) == line
