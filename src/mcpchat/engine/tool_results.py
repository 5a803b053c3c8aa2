"""Results of a size that a model can take, the rest kept where it can page to it: a Toolbox around a Toolbox."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from msgspec.structs import replace

from mcpchat.core.events import Emit
from mcpchat.core.messages import Content, Link, Text, ToolResult, error_result, result_text
from mcpchat.core.protocols import Toolbox
from mcpchat.core.tools import Annotations, ToolSpec

_HEAD = 0.7  # of what is kept; the rest is the tail
_MOST_LINES = 500  # that one search shows
_FOOTER = 100  # characters that say where a page is

READ_RESULT = ToolSpec(
    server="mcpchat",
    name="read_result",
    title="Read a long result",
    description=(
        "Read on in a tool's result that was too long to be shown whole. Results that were cut say their id. "
        "Without grep: `limit` characters from `offset`. With grep: the lines that contain that text, numbered."
    ),
    schema={
        "type": "object",
        "properties": {
            "id": {"type": "string", "description": "The id that the cut result names."},
            "offset": {
                "type": "integer",
                "minimum": 0,
                "description": "Where to begin, in characters (with grep: in matching lines). Default 0.",
            },
            "limit": {"type": "integer", "minimum": 1, "description": "How many characters (with grep: lines)."},
            "grep": {"type": "string", "description": "Plain text to look for, in either case."},
        },
        "required": ["id"],
        "additionalProperties": False,
    },
    annotations=Annotations(read_only=True, destructive=False, idempotent=True, open_world=False),
    trusted=True,
)


class ResultStore(Protocol):
    """Where whole results are kept."""

    def save(self, text: str) -> str | None:
        """Keep the text; its id, or None where it cannot be kept."""
        ...

    def load(self, key: str) -> str | None:
        """The text under the id, or None where there is none."""
        ...


class BoundedToolbox:
    """The inner toolbox, with each result's text cut to ``limit`` characters, visibly, out of its middle.

    What is cut is kept whole in ``store``, and one more tool reads it.
    """

    def __init__(self, inner: Toolbox, *, limit: int, store: ResultStore) -> None:
        self._inner = inner
        self._limit = limit
        self._store = store
        self._offer: tuple[Sequence[ToolSpec], Sequence[ToolSpec]] = ((), ())

    async def tools(self) -> Sequence[ToolSpec]:
        inner = await self._inner.tools()
        if inner is not self._offer[0]:
            self._offer = inner, (*inner, READ_RESULT) if inner else ()
        return self._offer[1]

    def expect(self, spec: ToolSpec) -> None:
        if spec != READ_RESULT:
            self._inner.expect(spec)

    def check(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> str:
        return self._inner.check(spec, arguments)

    def instructions(self) -> Mapping[str, str]:
        return self._inner.instructions()

    async def call(self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit) -> ToolResult:
        if spec == READ_RESULT:
            return self._read(call_id, arguments)
        result = await self._inner.call(spec, call_id, arguments, emit)
        whole = result_text(result)
        if len(whole) <= self._limit:
            return result
        key = self._store.save(whole)
        if key is None:
            return bounded(result, self._limit)
        return bounded(result, self._limit, f'{READ_RESULT.exposed}(id="{key}", offset=..., grep=...) reads the rest')

    def _read(self, call_id: str, arguments: Mapping[str, Any]) -> ToolResult:
        text = self._store.load(str(arguments["id"]))
        if text is None:
            return error_result(call_id, f"no result is kept under {arguments['id']!r}")
        offset, limit = int(arguments.get("offset") or 0), arguments.get("limit")
        if wanted := arguments.get("grep"):
            shown = _matching(text, str(wanted), offset, min(int(limit or 100), _MOST_LINES))
        else:
            most = self._limit - _FOOTER
            shown = _slice(text, offset, min(int(limit or most), most))
        return ToolResult(call_id=call_id, parts=(Text(text=clip(shown, self._limit)),))


def _slice(text: str, offset: int, limit: int) -> str:
    piece = text[offset : offset + limit]
    end = offset + len(piece)
    more = f"; go on at offset={end}" if end < len(text) else ", the end"
    return f"{piece}\n[characters {offset:,} to {end:,} of {len(text):,}{more}]"


def _matching(text: str, wanted: str, offset: int, limit: int) -> str:
    """Numbered lines with the wanted text; of a very long line the part around it, with its place."""
    found: list[str] = []
    count = begins = 0
    pattern = re.compile(re.escape(wanted), re.IGNORECASE)
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if match := pattern.search(line):
            at = match.start()
            if offset <= count < offset + limit:
                piece = line[max(0, at - 200) : match.end() + 200].rstrip("\r\n")
                found.append(f"{number}: {piece}  (offset {begins + at})" if len(line) > 400 else f"{number}: {piece}")
            count += 1
        begins += len(line)
    more = f"; go on at offset={offset + limit}" if count > offset + limit else ""
    return "\n".join([*found, f"[{count:,} lines match{more}]"])


def bounded(result: ToolResult, limit: int, way_on: str = "ask for less at a time") -> ToolResult:
    """The result with at most ``limit`` characters of text in all; its structured form goes where it is cut.

    ``way_on`` says in the mark how to get at the rest.
    """
    if not result.parts and result.structured is not None:
        text = result_text(result)
        if len(text) <= limit:
            return result
        return replace(result, parts=(Text(text=clip(text, limit, way_on)),), structured=None)
    left = limit
    unseen = 0
    parts: list[Content] = []
    for part in result.parts:
        size = _size(part)
        if size > 0 and (left <= 0 or (size > left and not isinstance(part, Text))):
            unseen += 1
        elif isinstance(part, Text):
            parts.append(Text(text=clip(part.text, left, way_on)))
        else:
            parts.append(part)
        left -= size
    if unseen:
        parts.append(Text(text=f"[… {unseen:,} more parts left out here: {way_on} …]"))
    return result if tuple(parts) == result.parts else replace(result, parts=tuple(parts), structured=None)


def _size(part: Content) -> int:
    """Characters of the part. Images and sounds have their own price: here they count as nothing."""
    match part:
        case Text(text=text):
            return len(text)
        case Link(uri=uri, title=title):
            return len(uri) + len(title)
        case _:
            return 0


def clip(text: str, limit: int, way_on: str = "ask for less at a time") -> str:
    """The text, or its head and tail of ``limit`` characters in all with a line between that says what is missing."""
    limit = max(0, limit)
    if len(text) <= limit:
        return text
    head = int(limit * _HEAD)
    tail = limit - head
    missing = len(text) - limit
    end = text[len(text) - tail :]
    mark = f"[… {missing:,} of {len(text):,} characters left out here: {way_on} …]"
    return f"{text[:head]}\n{mark}\n{end}"
