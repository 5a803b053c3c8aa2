"""The bottom of a terminal that is still changing, under what is final."""

import io
from collections.abc import Sequence

from rich.console import Console, RenderableType

_UP_AND_CLEAR = "\x1b[{}A\x1b[J"


class LiveRegion:
    """Prints what is final once and for all, and below it a few lines that can be drawn again.

    The live lines end in a newline each, so that the cursor always stands on the line under them.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: list[str] = []

    def commit(self, renderable: RenderableType, console: Console | None = None) -> None:
        """Print something final above the live lines; ``console`` may be another one of the same terminal."""
        live = self._shown
        self.show(())
        (console or self._console).print(renderable)
        self.show(live)

    def show(self, lines: Sequence[str]) -> None:
        """Replace the live lines. Only what differs is drawn; more than fits the screen is cut at the top."""
        wanted = list(lines)[-max(1, self._console.height - 2) :] if lines else []
        same = 0
        while same < min(len(wanted), len(self._shown)) and wanted[same] == self._shown[same]:
            same += 1
        out = ""
        if stale := len(self._shown) - same:
            out += _UP_AND_CLEAR.format(stale)
        out += "".join(line + "\n" for line in wanted[same:])
        self._shown = wanted
        if out:
            self._console.file.write(out)
            self._console.file.flush()

    def lines_of(self, renderable: RenderableType) -> list[str]:
        """The renderable as terminal lines, as this console would draw it."""
        target = io.StringIO()
        twin = Console(
            file=target,
            force_terminal=True,
            width=self._console.width,
            color_system=self._console.color_system,  # type: ignore[arg-type]  # typed as any string, not as its names
            no_color=self._console.no_color,
            legacy_windows=self._console.legacy_windows,
        )
        twin.print(renderable)
        return target.getvalue().splitlines()
