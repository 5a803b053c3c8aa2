"""What a person sees as one character is passed and deleted as one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit import PromptSession
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from wcwidth import iter_graphemes

from mcpchat.ui.terminal.input_buffer import InputBuffer

CLUSTERS = ["👩‍👩‍👧", "🇩🇪", "e\u0301", "👍🏽", "नि", "ก็", "☺️", "x", "日", "\u1112\u1161\u11ab", "\n", "\u0301"]


@pytest.mark.parametrize("cluster", CLUSTERS[:9])
def test_a_cluster_is_passed_and_deleted_as_one(cluster: str) -> None:
    buffer = InputBuffer()
    buffer.insert_text(f"a{cluster}{cluster}b")
    buffer.cursor_left(2)
    assert buffer.document.text_after_cursor == f"{cluster}b"
    assert buffer.delete_before_cursor() == cluster
    assert buffer.delete() == cluster
    assert buffer.text == "ab"
    buffer.insert_text(cluster)
    buffer.cursor_position = 1
    buffer.cursor_right()
    assert buffer.document.text_after_cursor == "b"


@given(
    st.lists(st.sampled_from(CLUSTERS), max_size=12).map("".join),
    st.lists(st.tuples(st.sampled_from(["cursor_left", "cursor_right", "delete", "delete_before_cursor"]), st.integers(0, 4))),
)  # fmt: skip
def test_no_key_leaves_the_cursor_within_a_cluster(text: str, keys: list[tuple[str, int]]) -> None:
    buffer = InputBuffer()
    buffer.insert_text(text)
    for name, count in keys:
        getattr(buffer, name)(count)
        ends = {0}
        for cluster in iter_graphemes(buffer.text):
            ends.add(max(ends) + len(cluster))
        if "cursor" in name and "delete" not in name:
            assert buffer.cursor_position in ends


@pytest.mark.parametrize(
    ("keys", "text", "expected"),
    [
        ("0rz", "é{family}b".replace("é", "e\u0301"), "z{family}b"),
        ("0ldl", "a{family}b", "ab"),
        ("0lx", "a{family}b", "ab"),
        ("0lcly\x1b", "a{family}b", "ayb"),
        ("$dh", "a{family}b", "ab"),
        ("0ll~", "a{family}b", "a{family}B"),
        ("0d2l", "{flag}{flag}b", "b"),
    ],
)
def test_vi_keys_take_a_cluster_as_one(keys: str, text: str, expected: str) -> None:
    names = {"family": CLUSTERS[0], "flag": CLUSTERS[1]}
    with create_pipe_input() as pipe:
        session: PromptSession[str] = PromptSession(vi_mode=True, input=pipe, output=DummyOutput())
        session.default_buffer.__class__ = InputBuffer
        session.default_buffer._document_cache = InputBuffer()._document_cache
        pipe.send_text(text.format(**names) + f"\x1b{keys}\r")
        assert session.prompt() == expected.format(**names)


def test_a_large_count_is_quick() -> None:
    buffer = InputBuffer()
    buffer.insert_text("abc")
    buffer.cursor_left(10**9)
    assert buffer.cursor_position == 0
    buffer.cursor_right(10**9)
    assert buffer.cursor_position == 3


def test_words_are_deleted_as_before() -> None:
    buffer = InputBuffer()
    buffer.insert_text("né 👩‍👩‍👧 wörter")
    assert buffer.delete_before_cursor(len("wörter")) == "wörter"
