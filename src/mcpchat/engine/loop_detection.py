"""Calls that a model makes again and again, with the same result each time."""

import hashlib
import json
from collections import deque

from msgspec.structs import replace

from mcpchat.core.messages import Audio, File, Image, Text, ToolCall, ToolResult, result_text

_LOOK_BACK = 10  # calls
_TOLD_AT = 3
_STUCK_AT = 5


class Repeats:
    """Looks at the calls of one turn. ``stuck`` once the same call brought the same result five times of ten."""

    def __init__(self) -> None:
        self._recent: deque[bytes] = deque(maxlen=_LOOK_BACK)
        self.stuck = False

    def noted(self, call: ToolCall, result: ToolResult) -> ToolResult:
        """The result, with a word to the model where it has had the very same one before."""
        given = json.dumps(json.loads(call.arguments), sort_keys=True)
        mark = hashlib.sha256(f"{call.name}\0{given}\0{result_text(result)}".encode(errors="replace"))
        for part in result.parts:
            if isinstance(part, Image | Audio | File):
                mark.update(part.data)
        self._recent.append(mark.digest())
        times = self._recent.count(mark.digest())
        if times >= _STUCK_AT:
            self.stuck = True
        if times < _TOLD_AT:
            return result
        note = f"[this very call was made {times} times, with this very result: do something else, or answer]"
        return replace(result, parts=(*(result.parts or (Text(text=result_text(result)),)), Text(text=note)))
