"""Detects a model that repeats the same call and gets the same result."""

import hashlib
import json
from collections import deque

from msgspec.structs import replace

from mcpchat.core.messages import Audio, File, Image, Text, ToolCall, ToolResult, result_text

_RECENT_CALLS = 10  # calls
_WARN_AT = 3
_STOP_AT = 5


class LoopDetector:
    """Watches the calls of one turn. ``is_looping`` if five of the last ten calls and results are the same."""

    def __init__(self) -> None:
        self._recent: deque[bytes] = deque(maxlen=_RECENT_CALLS)
        self.is_looping = False

    def annotate(self, call: ToolCall, result: ToolResult) -> ToolResult:
        """Record the call; from its third repetition on, add a note for the model to the result."""
        arguments = json.dumps(json.loads(call.arguments), sort_keys=True)
        fingerprint = hashlib.sha256(f"{call.name}\0{arguments}\0{result_text(result)}".encode(errors="replace"))
        for part in result.parts:
            if isinstance(part, Image | Audio | File):
                fingerprint.update(part.data)
        self._recent.append(fingerprint.digest())
        count = self._recent.count(fingerprint.digest())
        if count >= _STOP_AT:
            self.is_looping = True
        if count < _WARN_AT:
            return result
        note = f"[this call was made {count} times with the same result: do something else, or answer]"
        return replace(result, parts=(*(result.parts or (Text(text=result_text(result)),)), Text(text=note)))
