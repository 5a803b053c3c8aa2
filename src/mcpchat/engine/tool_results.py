"""Shortens long results: a Toolbox around a Toolbox, with one more tool that reads the rest."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from msgspec.structs import replace

from mcpchat.core.events import Emit
from mcpchat.core.messages import Content, Link, Text, ToolResult, error_result, result_text
from mcpchat.core.protocols import Toolbox, ToolboxWrapper
from mcpchat.core.search_tools import NO_EFFECT
from mcpchat.core.tools import OWN_SERVER, ToolSpec

_HEAD_SHARE = 0.7  # of the limit; the rest is the tail
_MAX_GREP_LINES = 500  # of one search
_FOOTER_LENGTH = 100  # characters of the line below a page

READ_RESULT = ToolSpec(
    server=OWN_SERVER,
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
    annotations=NO_EFFECT,
    trusted=True,
)


class ResultStore(Protocol):
    """Stores the whole text of shortened results."""

    def save(self, text: str) -> str | None:
        """Store the text and return its id; None if it cannot be stored."""
        ...

    def load(self, key: str) -> str | None:
        """The text with this id; None if there is none."""
        ...


class TruncatingToolbox(ToolboxWrapper):
    """The inner toolbox, with each result's text shortened to ``limit`` characters: its middle is cut, visibly.

    The whole text goes to ``store``; the tool ``read_result`` reads it.
    """

    def __init__(self, inner: Toolbox, *, limit: int, store: ResultStore) -> None:
        super().__init__(inner)
        self._limit = limit
        self._store = store
        self._cached_tools: tuple[Sequence[ToolSpec], Sequence[ToolSpec]] = ((), ())

    async def list_tools(self) -> Sequence[ToolSpec]:
        inner = await self._inner.list_tools()
        if inner is not self._cached_tools[0]:
            self._cached_tools = inner, (*inner, READ_RESULT) if inner else ()
        return self._cached_tools[1]

    def prestart(self, spec: ToolSpec) -> None:
        if spec != READ_RESULT:
            self._inner.prestart(spec)

    async def call(self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit) -> ToolResult:
        if spec == READ_RESULT:
            return self._read_result(call_id, arguments)
        result = await self._inner.call(spec, call_id, arguments, emit)
        text = result_text(result)
        if len(text) <= self._limit:
            return result
        key = self._store.save(text)
        if key is None:
            return truncate_result(result, self._limit)
        hint = f'{READ_RESULT.model_name}(id="{key}", offset=..., grep=...) reads the rest'
        return replace(truncate_result(result, self._limit, hint), stored_as=key)

    def _read_result(self, call_id: str, arguments: Mapping[str, Any]) -> ToolResult:
        text = self._store.load(str(arguments["id"]))
        if text is None:
            return error_result(call_id, f"no result is stored under {arguments['id']!r}")
        offset, limit = int(arguments.get("offset") or 0), arguments.get("limit")
        if query := arguments.get("grep"):
            excerpt = _grep(text, str(query), offset, min(int(limit or 100), _MAX_GREP_LINES))
        else:
            max_chars = self._limit - _FOOTER_LENGTH
            excerpt = _page(text, offset, min(int(limit or max_chars), max_chars))
        return ToolResult(call_id=call_id, parts=(Text(text=truncate_middle(excerpt, self._limit)),))


def _page(text: str, offset: int, limit: int) -> str:
    chunk = text[offset : offset + limit]
    end = offset + len(chunk)
    more = f"; go on at offset={end}" if end < len(text) else ", the end"
    return f"{chunk}\n[characters {offset:,} to {end:,} of {len(text):,}{more}]"


def _grep(text: str, query: str, offset: int, limit: int) -> str:
    """Numbered lines that contain the text; of a very long line, the part around it and its offset."""
    matches: list[str] = []
    count = line_start = 0
    pattern = re.compile(re.escape(query), re.IGNORECASE)
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if match := pattern.search(line):
            position = match.start()
            if offset <= count < offset + limit:
                excerpt = line[max(0, position - 200) : match.end() + 200].rstrip("\r\n")
                matches.append(
                    f"{number}: {excerpt}  (offset {line_start + position})"
                    if len(line) > 400
                    else f"{number}: {excerpt}"
                )
            count += 1
        line_start += len(line)
    more = f"; go on at offset={offset + limit}" if count > offset + limit else ""
    return "\n".join([*matches, f"[{count:,} lines match{more}]"])


def truncate_result(result: ToolResult, limit: int, continue_hint: str = "ask for less at a time") -> ToolResult:
    """The result with at most ``limit`` characters of text in all. A shortened result loses its structured form.

    ``continue_hint`` is added to the mark, and says how to read the rest.
    """
    if not result.parts and result.structured is not None:
        text = result_text(result)
        if len(text) <= limit:
            return result
        return replace(result, parts=(Text(text=truncate_middle(text, limit, continue_hint)),), structured=None)
    remaining = limit
    omitted = 0
    parts: list[Content] = []
    for part in result.parts:
        size = _text_length(part)
        if size > 0 and (remaining <= 0 or (size > remaining and not isinstance(part, Text))):
            omitted += 1
        elif isinstance(part, Text):
            parts.append(Text(text=truncate_middle(part.text, remaining, continue_hint)))
        else:
            parts.append(part)
        remaining -= size
    if omitted:
        parts.append(Text(text=f"[… {omitted:,} more parts left out here: {continue_hint} …]"))
    return result if tuple(parts) == result.parts else replace(result, parts=tuple(parts), structured=None)


def _text_length(part: Content) -> int:
    """Characters of the part. Images and audio count as nothing here: they have their own limits."""
    match part:
        case Text(text=text):
            return len(text)
        case Link(uri=uri, title=title):
            return len(uri) + len(title)
        case _:
            return 0


def truncate_middle(text: str, limit: int, continue_hint: str = "ask for less at a time") -> str:
    """The text, or its head and tail, ``limit`` characters in all, with a line between them on what is missing."""
    limit = max(0, limit)
    if len(text) <= limit:
        return text
    head = int(limit * _HEAD_SHARE)
    tail = limit - head
    missing = len(text) - limit
    end = text[len(text) - tail :]
    marker = f"[… {missing:,} of {len(text):,} characters left out here: {continue_hint} …]"
    return f"{text[:head]}\n{marker}\n{end}"
