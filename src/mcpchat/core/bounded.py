"""Results of a size that a model can take: a Toolbox around a Toolbox."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from mcpchat.core.events import Emit
from mcpchat.core.messages import Audio, Image, Link, Text, ToolResult, result_text
from mcpchat.core.ports import Toolbox
from mcpchat.core.tools import ToolSpec

_HEAD = 0.7  # of what is kept; the rest is the tail


class BoundedToolbox:
    """The inner toolbox, with each result's text cut to ``limit`` characters, visibly, out of its middle."""

    def __init__(self, inner: Toolbox, *, limit: int) -> None:
        self._inner = inner
        self._limit = limit

    async def tools(self) -> Sequence[ToolSpec]:
        return await self._inner.tools()

    def expect(self, spec: ToolSpec) -> None:
        self._inner.expect(spec)

    async def call(self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit) -> ToolResult:
        return bounded(await self._inner.call(spec, call_id, arguments, emit), self._limit)


def bounded(result: ToolResult, limit: int) -> ToolResult:
    """The result with at most ``limit`` characters of text in all; its structured form goes where it is cut."""
    if not result.parts and result.structured is not None:
        text = result_text(result)
        return result if len(text) <= limit else replace(result, parts=(Text(text=clip(text, limit)),), structured=None)
    left = limit
    unseen = 0
    parts: list[Text | Image | Audio | Link] = []
    for part in result.parts:
        size = _size(part)
        if size > 0 and (left <= 0 or (size > left and not isinstance(part, Text))):
            unseen += 1
        elif isinstance(part, Text):
            parts.append(Text(text=clip(part.text, left)))
        else:
            parts.append(part)
        left -= size
    if unseen:
        parts.append(Text(text=f"[… {unseen:,} more parts left out here: ask for less at a time …]"))
    return result if tuple(parts) == result.parts else replace(result, parts=tuple(parts), structured=None)


def _size(part: Text | Image | Audio | Link) -> int:
    """Characters of the part. Images and sounds have their own price: here they count as nothing."""
    match part:
        case Text(text=text):
            return len(text)
        case Link(uri=uri, title=title):
            return len(uri) + len(title)
        case _:
            return 0


def clip(text: str, limit: int) -> str:
    """The text, or its head and tail of ``limit`` characters in all with a line between that says what is missing."""
    if len(text) <= limit:
        return text
    head = int(limit * _HEAD)
    tail = limit - head
    missing = len(text) - limit
    end = text[len(text) - tail :]
    return f"{text[:head]}\n[… {missing:,} of {len(text):,} characters left out here: ask for less at a time …]\n{end}"
