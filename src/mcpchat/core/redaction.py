"""The secrets of this run, and texts without them."""

import base64
import json
import re
from typing import TypeVar
from urllib.parse import quote

import msgspec

_T = TypeVar("_T")
_SHORTEST = 8  # characters: what is shorter would blot out words that are no secret
REDACTED = "[secret]"
_IN_LOGS = re.compile(
    r"""(?i)(?P<name>[?&](?:code|state)|\b(?:access_token|refresh_token|id_token|client_secret|code_verifier|client_assertion))
        (?P<join>["']?\s*[=:]\s*["']?)(?P<value>[^\s&"',}]{6,})
      | \b(?P<scheme>Bearer|Basic)\s+[\w.~+/=-]{8,}
      | \beyJ[\w-]{8,}\.[\w-]+\.[\w-]*""",
    re.VERBOSE,
)


class Secrets:
    """Every secret that this run has read, been given or made, each in the forms in which it could show up."""

    def __init__(self) -> None:
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, *values: str | None) -> None:
        for value in values:
            if value and len(value) >= _SHORTEST and value not in self._forms:
                raw = value.encode(errors="replace")
                escaped = quote(value, safe="")
                self._forms |= {
                    value,
                    escaped,
                    re.sub(r"%..", lambda found: found[0].lower(), escaped),
                    json.dumps(value)[1:-1],
                    base64.b64encode(raw).decode().rstrip("="),
                    base64.urlsafe_b64encode(raw).decode().rstrip("="),
                    msgspec.json.encode(value).decode()[1:-1],
                }
                self._pattern = None

    def redact(self, text: str) -> str:
        """The text with each secret replaced by a mark."""
        if not self._forms:
            return text
        if self._pattern is None:  # the longest first: one may begin another
            self._pattern = re.compile("|".join(map(re.escape, sorted(self._forms, key=len, reverse=True))))
        return self._pattern.sub(REDACTED, text)

    def redact_log(self, text: str) -> str:
        """The same for what people read when something fails: also what only looks like a secret goes."""
        return _IN_LOGS.sub(_blot, self.redact(text))

    def redact_value(self, value: _T) -> _T:
        """A structure of ours without secrets in any of its texts."""
        if not self._forms:
            return value
        plain = msgspec.to_builtins(value, builtin_types=(bytes,))
        clean = self._walk(plain)
        return value if clean == plain else msgspec.convert(clean, type(value), builtin_types=(bytes,))

    def _walk(self, value: object) -> object:
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, dict):
            return {key: self._walk(inner) for key, inner in value.items()}
        return type(value)(map(self._walk, value)) if isinstance(value, list | tuple) else value


def _blot(found: "re.Match[str]") -> str:
    if found["name"]:
        return f"{found['name']}{found['join']}{REDACTED}"
    return f"{found['scheme']} {REDACTED}" if found["scheme"] else REDACTED
