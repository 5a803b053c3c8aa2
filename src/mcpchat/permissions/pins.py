"""Pinned tool definitions and instructions of servers, and what changed since the user accepted them."""

import difflib
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from mcpchat.core.catalog import Catalog
from mcpchat.util.sanitize import show_invisible

_MAX_DIFF_LINES = 400  # lines shown of one change
_BATCH = 100  # tools that are encoded together: little memory for thousands of tools


class PinnedText(Struct, frozen=True, kw_only=True):
    """A text and its SHA-256. The text is kept to show what changed.

    ``since`` is when it was pinned, in epoch seconds; 0 if an earlier version stored it.
    """

    sha256: str
    text: str
    since: float = 0.0

    @property
    def date(self) -> str:
        """The local date since when it is pinned, YYYY-MM-DD; empty if it is not known."""
        return time.strftime("%Y-%m-%d", time.localtime(self.since)) if self.since else ""


class ServerPins(Struct, frozen=True, kw_only=True):
    """The pins of one server: its tools by name, its instructions, and its title. ``server`` is its name, for display.

    ``title`` is None if an earlier version stored the pins. Another title is no change that has to be accepted, because
    some servers put the time into it; but questions show the title that was pinned. ``catalog`` is the digest
    of the latest catalog that was equal to the pins; empty if the latest one differed.
    """

    server: str
    tools: dict[str, PinnedText] = {}
    instructions: PinnedText | None = None
    title: str | None = None
    catalog: str = ""


class PinSummary(Struct, frozen=True, kw_only=True):
    """What ServerPins tell of a catalog that has not changed, without the tools' texts."""

    title: str | None = None
    catalog: str = ""


class DefinitionChange(Struct, frozen=True, kw_only=True):
    """A tool that differs from what the user accepted, or the instructions if ``tool`` is empty.

    ``before`` is None for a new tool or for new instructions.
    """

    server: str
    tool: str
    before: str | None
    after: str

    @property
    def label(self) -> str:
        return f"{self.server}.{self.tool}" if self.tool else f"the instruction text of {self.server}"

    @property
    def summary(self) -> str:
        """The predicate of a sentence about the change: "is new" or "has changed"."""
        return "is new" if self.before is None else "has changed"

    def diff_text(self) -> str:
        """Return the diff, with invisible characters made visible; at most 400 lines."""
        before = _visible_lines(self.before or "")
        lines = difflib.unified_diff(before, _visible_lines(self.after), lineterm="")
        # The first two lines are the names of files. A line of the texts never begins with "@@": "+", "-" or " " does.
        diff = [line for line in islice(lines, 2, None) if not line.startswith("@@")]
        remaining = len(diff) - _MAX_DIFF_LINES
        return "\n".join([*diff[:_MAX_DIFF_LINES], *([f"... {remaining:,} more lines"] if remaining > 0 else [])])


def digest_catalog(catalog: Catalog) -> str:
    """The digest of all that pins are about: an equal catalog needs no comparison. Empty if it has lone surrogates."""
    digest, separator = hashlib.sha256(), b"[["
    try:
        for start in range(0, len(catalog.tools), _BATCH):
            digest.update(separator + msgspec.json.encode(catalog.tools[start : start + _BATCH])[1:-1])
            separator = b","
        rest = msgspec.json.encode((catalog.info.instructions, catalog.info.title))
    except UnicodeEncodeError:
        return ""
    digest.update((b"]," if catalog.tools else b"[[],") + rest[1:])
    return digest.hexdigest()


def pin_catalog(server: str, catalog: Catalog) -> ServerPins:
    """Return the pins of the server's current catalog."""
    tools = {spec.name: _pin_text(_format_definition(spec.definition), spec.fingerprint) for spec in catalog.tools}
    title = _pin_text(catalog.info.title).text
    return ServerPins(server=server, tools=tools, instructions=_pin_text(catalog.info.instructions), title=title)


def diff_pins(
    pins: ServerPins, current: ServerPins, is_exposed: Callable[[str], bool] = lambda name: True
) -> list[DefinitionChange]:
    """Return the changes since the user accepted the pins, for the tools for which ``is_exposed`` is true.

    Removed tools are no change: if one comes back, it is compared with its pin.
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
    """Return the pins, with the current definitions of these tools; the empty name stands for the instructions."""
    current = set_dates(current)
    tools = pins.tools | {name: pin for name, pin in current.tools.items() if name in names}
    return ServerPins(
        server=current.server,
        tools=tools,
        instructions=current.instructions if "" in names else pins.instructions,
        title=current.title if pins.title is None else pins.title,
    )


def set_dates(pins: ServerPins) -> ServerPins:
    """The pins, accepted now."""
    now = time.time()
    tools = {name: replace(pin, since=now) for name, pin in pins.tools.items()}
    return replace(pins, tools=tools, instructions=pins.instructions and replace(pins.instructions, since=now))


def _pin_text(text: str, sha256: str = "") -> PinnedText:
    data = text.encode(errors="backslashreplace")  # JSON can contain lone surrogates, which UTF-8 cannot encode
    digest = sha256 or hashlib.sha256(data).hexdigest()
    return PinnedText(sha256=digest, text=data.decode())


def _differs(before: PinnedText | None, current: PinnedText) -> bool:
    return before is None or before.sha256 != current.sha256


def _format_definition(definition: Mapping[str, Any]) -> str:
    return json.dumps(definition, sort_keys=True, indent=1, ensure_ascii=False)


def _visible_lines(text: str) -> list[str]:
    return [show_invisible(line) for line in text.splitlines()]
