"""What a server said of its tools when the person last agreed, and what it says now."""

import difflib
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from mcpchat.core.catalog import Catalog
from mcpchat.util.sanitize import revealed

_MOST_LINES = 400  # of one change, as it is shown


class Pin(Struct, frozen=True, kw_only=True):
    """One text by its SHA-256, with the text itself: to show what changed."""

    sha256: str
    text: str


class Pins(Struct, frozen=True, kw_only=True):
    """One server's tools by name, and its instructions. ``server`` is its name, for people."""

    server: str
    tools: dict[str, Pin] = {}
    instructions: Pin | None = None


class Change(Struct, frozen=True, kw_only=True):
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
    def told(self) -> str:
        """What happened, in a sentence's middle."""
        return "is new" if self.before is None else "has changed"

    def shown(self) -> str:
        """The difference, line by line, with what hides made visible."""
        before = _lines(self.before or "")
        lines = difflib.unified_diff(before, _lines(self.after), n=3, lineterm="")
        changed = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
        left = len(changed) - _MOST_LINES
        return "\n".join([*changed[:_MOST_LINES], *([f"... {left:,} more lines"] if left > 0 else [])])


def pinned(server: str, catalog: Catalog) -> Pins:
    """The pins of all that the server says now."""
    tools = {spec.name: _pin(_written(spec.definition), spec.fingerprint) for spec in catalog.tools}
    return Pins(server=server, tools=tools, instructions=_pin(catalog.info.instructions))


def changes(pins: Pins, now: Pins, offers: Callable[[str], bool] = lambda name: True) -> list[Change]:
    """What differs from what was agreed, of the tools that ``offers`` lets through.

    What is gone is no matter: it comes back as it was, or shows.
    """
    offered = {name for name in now.tools if offers(name)}
    found = [
        Change(server=now.server, tool=name, before=old.text if (old := pins.tools.get(name)) else None, after=pin.text)
        for name, pin in now.tools.items()
        if name in offered and _differs(pins.tools.get(name), pin)
    ]
    words, agreed = now.instructions, pins.instructions
    if words is not None and words.text.strip() and _differs(agreed, words):
        found.append(Change(server=now.server, tool="", before=agreed.text if agreed else None, after=words.text))
    return found


def agreed(pins: Pins, now: Pins, names: Mapping[str, bool] | set[str]) -> Pins:
    """The pins with these tools (or, by the empty name, the instructions) as they are now."""
    tools = pins.tools | {name: pin for name, pin in now.tools.items() if name in names}
    return Pins(server=now.server, tools=tools, instructions=now.instructions if "" in names else pins.instructions)


def _pin(text: str, sha256: str = "") -> Pin:
    data = text.encode(errors="backslashreplace")  # half a character is JSON, and no text
    return Pin(sha256=sha256 or hashlib.sha256(data).hexdigest(), text=data.decode())


def _differs(before: Pin | None, now: Pin) -> bool:
    return before is None or before.sha256 != now.sha256


def _written(definition: Mapping[str, Any]) -> str:
    return json.dumps(definition, sort_keys=True, indent=1, ensure_ascii=False)


def _lines(text: str) -> list[str]:
    return [revealed(line) for line in text.splitlines()]
