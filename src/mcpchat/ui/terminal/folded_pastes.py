"""Long pastes, folded to a label in the input line and in the transcript."""

_LABEL_START = "[pasted: "
_MAX_LINES, _MAX_LENGTH = 10, 2000  # lines and characters of a paste that is shown whole


class FoldedPastes:
    """Replaces long pastes by labels, ``[pasted: 5,000 lines, 289 kB]``, and the labels by the pastes."""

    def __init__(self) -> None:
        self._pastes: dict[str, str] = {}  # by label

    def fold(self, paste: str) -> str:
        """The label of a long paste; a short one unchanged."""
        if len(paste) <= _MAX_LENGTH and paste.count("\n") < _MAX_LINES:
            return paste
        for label, known in self._pastes.items():
            if known == paste:
                return label
        label = describe_paste(paste)
        number = 1 + sum(known.startswith(label[:-1]) for known in self._pastes)
        label = label if number == 1 else f"{label[:-1]}, number {number}]"
        self._pastes[label] = paste
        return label

    def fold_all(self, text: str) -> str:
        """The text with every known paste folded."""
        for label, paste in self._pastes.items():
            text = text.replace(paste, label)
        return text

    def unfold_all(self, text: str) -> str:
        """The text with every label replaced by its paste."""
        for label, paste in self._pastes.items():
            text = text.replace(label, paste)
        return text

    def has_damaged_label(self, text: str) -> bool:
        """Whether an unfolded text has a part of a label: its paste would be missing."""
        return bool(self._pastes) and _LABEL_START in text and not any(_LABEL_START in p for p in self._pastes.values())

    def find_label(self, text: str, *, at_end: bool) -> str:
        """The label at the end or at the beginning of the text. Empty without one."""
        is_there = text.endswith if at_end else text.startswith
        return next((label for label in self._pastes if is_there(label)), "")


def describe_paste(paste: str) -> str:
    """The number of lines and the size of a text, in brackets."""
    lines, size = paste.count("\n") + (not paste.endswith("\n")), len(paste.encode(errors="replace"))
    return f"{_LABEL_START}{lines:,} line{'s' * (lines != 1)}, {_format_size(size)}]"


def _format_size(size: int) -> str:
    return f"{size:,} bytes" if size < 1000 else f"{max(1, round(size / 1000)):,} kB"
