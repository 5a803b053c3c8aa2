"""What a server said of its tools when the person last agreed, and what it says now."""

import difflib
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from mcpchat.core.catalog import Catalog
from mcpchat.util.sanitize import show_invisible

_MAX_DIFF_LINES = 400  # of one change, as it is shown


class PinnedText(Struct, frozen=True, kw_only=True):
    """One text by its SHA-256, with the text itself: to show what changed."""

    sha256: str
    text: str


class ServerPins(Struct, frozen=True, kw_only=True):
    """One server's tools by name, and its instructions. ``server`` is its name, for people."""

    server: str
    tools: dict[str, PinnedText] = {}
    instructions: PinnedText | None = None


class DefinitionChange(Struct, frozen=True, kw_only=True):
    """A tool, or the instructions (``tool`` is empty), that differ from what was agreed; ``before`` is None of a new
    one."""

    server: str
    tool: str
    before: str | None
    after: str

    @property
    def label(self) -> str:
        return f"{self.server}.{self.tool}" if self.tool else f"the instruction text of {self.server}"

    @property
    def summary(self) -> str:
        """What happened, in a sentence's middle."""
        return "is new" if self.before is None else "has changed"

    def diff_text(self) -> str:
        """The difference, line by line, with what hides made visible."""
        before = _visible_lines(self.before or "")
        lines = difflib.unified_diff(before, _visible_lines(self.after), n=3, lineterm="")
        diff = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
        left = len(diff) - _MAX_DIFF_LINES
        return "\n".join([*diff[:_MAX_DIFF_LINES], *([f"... {left:,} more lines"] if left > 0 else [])])


def pin_catalog(server: str, catalog: Catalog) -> ServerPins:
    """The pins of all that the server says now."""
    tools = {spec.name: _pin_text(_format_definition(spec.definition), spec.fingerprint) for spec in catalog.tools}
    return ServerPins(server=server, tools=tools, instructions=_pin_text(catalog.info.instructions))


def diff_pins(
    pins: ServerPins, current: ServerPins, is_exposed: Callable[[str], bool] = lambda name: True
) -> list[DefinitionChange]:
    """What differs from what was agreed, of the tools that ``offers`` lets through.

    What is gone is no matter: it comes back as it was, or shows.
    """
    exposed = {name for name in current.tools if is_exposed(name)}
    changes = [
        DefinitionChange(
            server=current.server, tool=name, before=old.text if (old := pins.tools.get(name)) else None, after=pin.text
        )
        for name, pin in current.tools.items()
        if name in exposed and _differs(pins.tools.get(name), pin)
    ]
    instructions, previous = current.instructions, pins.instructions
    if instructions is not None and instructions.text.strip() and _differs(previous, instructions):
        changes.append(
            DefinitionChange(
                server=current.server, tool="", before=previous.text if previous else None, after=instructions.text
            )
        )
    return changes


def accept(pins: ServerPins, current: ServerPins, names: Mapping[str, bool] | set[str]) -> ServerPins:
    """The pins with these tools (or, by the empty name, the instructions) as they are now."""
    tools = pins.tools | {name: pin for name, pin in current.tools.items() if name in names}
    return ServerPins(
        server=current.server, tools=tools, instructions=current.instructions if "" in names else pins.instructions
    )


def _pin_text(text: str, sha256: str = "") -> PinnedText:
    data = text.encode(errors="backslashreplace")  # half a character is JSON, and no text
    return PinnedText(sha256=sha256 or hashlib.sha256(data).hexdigest(), text=data.decode())


def _differs(before: PinnedText | None, current: PinnedText) -> bool:
    return before is None or before.sha256 != current.sha256


def _format_definition(definition: Mapping[str, Any]) -> str:
    return json.dumps(definition, sort_keys=True, indent=1, ensure_ascii=False)


def _visible_lines(text: str) -> list[str]:
    return [show_invisible(line) for line in text.splitlines()]
