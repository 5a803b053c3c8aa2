"""What options name: JSON Schemas."""

import json
from pathlib import Path
from typing import Any

from mcpchat.errors import UsageError
from mcpchat.util import json_schema, stdin


def read_schema(text: str) -> dict[str, Any]:
    """The JSON Schema in this text, or in the file that it names. Raises UsageError for what is none."""
    source = "--schema"
    if not text.strip():
        raise UsageError("--schema is empty", hint="a file, or the schema itself")
    if text.strip() in {"true", "false"} or text.lstrip().startswith("["):
        raise UsageError("--schema: a JSON Schema is an object here", hint='{"type": "object", ...}')
    if not text.lstrip().startswith("{"):
        source = f"--schema {text}"
        try:
            text = stdin.read_text("--schema -") if text == "-" else Path(text).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError, ValueError, RuntimeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise UsageError(f"{source}: cannot be read: {reason}", hint="a file, or the schema itself") from error
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{source}: not JSON: {error}") from error
    if not isinstance(schema, dict):
        raise UsageError(f"{source}: a JSON Schema is an object")
    if problem := json_schema.find_schema_error(schema):
        raise UsageError(f"{source}: {problem}")
    return schema
