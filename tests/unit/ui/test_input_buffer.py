"""What a person sees as one character is passed and deleted as one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
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


def test_words_are_deleted_as_before() -> None:
    buffer = InputBuffer()
    buffer.insert_text("né 👩‍👩‍👧 wörter")
    assert buffer.delete_before_cursor(len("wörter")) == "wörter"
