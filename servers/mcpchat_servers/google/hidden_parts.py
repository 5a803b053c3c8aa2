"""What a person does not see in a document: counted, and named in a last line."""

_NEAR_WHITE = 0xF0  # of each colour, on white


class HiddenParts:
    """Counts what is left out, by kind."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, kind: str, count: int = 1) -> None:
        self._counts[kind] = self._counts.get(kind, 0) + count

    def __str__(self) -> str:
        parts = [f"{count:,} hidden {kind}{'' if count == 1 else 's'}" for kind, count in self._counts.items() if count]
        return f"\n[{' and '.join(parts)} left out]\n" if parts else ""


def is_near_white(color: str) -> bool:
    """Whether a colour in hexadecimal digits, with or without # and alpha, cannot be told from white."""
    digits = color.lstrip("#")[-6:]
    try:
        value = int(digits, 16)
    except ValueError:
        return False
    return len(digits) == 6 and all((value >> shift) & 0xFF >= _NEAR_WHITE for shift in (16, 8, 0))
