"""Which part of a streamed document is final."""

import pytest

from mcpchat.ui.markdown import closed_length


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ("one", ""),
        ("one\n\ntwo", "one\n\n"),
        ("# Title\nfirst", "# Title\n"),
        ("- a\n- b\n\n- c", ""),
        ("text\n\n```\nopen", "text\n\n"),
        ("| a |\n|---|\n| 1 |", ""),
        ("one\n\n```\na\x0cb\u2028c\n```\n\nend", "one\n\n```\na\x0cb\u2028c\n```\n\n"),
    ],
)
def test_all_but_the_last_block_is_final(text: str, closed: str) -> None:
    assert text[: closed_length(text)] == closed
