"""Folding of long pastes."""

from mcpchat.ui.terminal.folded_pastes import FoldedPastes

LONG = "line\n" * 5000


def test_a_short_paste_is_not_folded() -> None:
    assert FoldedPastes().fold("one\ntwo") == "one\ntwo"


def test_a_long_paste_is_folded_and_unfolded() -> None:
    folded = FoldedPastes()
    assert folded.fold(LONG) == "[pasted: 5,000 lines, 25 kB]"
    assert folded.unfold_all("a [pasted: 5,000 lines, 25 kB] b") == f"a {LONG} b"
    assert folded.fold_all(f"a {LONG} b") == "a [pasted: 5,000 lines, 25 kB] b"


def test_two_pastes_of_the_same_size_have_labels_of_their_own() -> None:
    folded = FoldedPastes()
    labels = [folded.fold("a" * 3000), folded.fold("b" * 3000), folded.fold("a" * 3000)]
    assert labels == ["[pasted: 1 line, 3 kB]", "[pasted: 1 line, 3 kB, number 2]", "[pasted: 1 line, 3 kB]"]
    assert folded.unfold_all("".join(labels)) == "a" * 3000 + "b" * 3000 + "a" * 3000


def test_a_label_is_found_at_both_sides_of_the_cursor() -> None:
    folded = FoldedPastes()
    label = folded.fold(LONG)
    assert folded.find_label(f"see {label}", at_end=True) == label
    assert folded.find_label(f"{label} see", at_end=False) == label
    assert folded.find_label(f"see {label} ", at_end=True) == ""
