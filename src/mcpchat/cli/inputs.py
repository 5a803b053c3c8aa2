"""What options name: JSON Schemas."""

import json
from typing import Any

from mcpchat.errors import UsageError
from mcpchat.util import json_schema, stdin
from mcpchat.util.json_problems import describe_json_error
from mcpchat.util.paths import expand_user
from mcpchat.util.text_files import read_text


def read_schema(text: str) -> dict[str, Any]:
    """The JSON Schema in this text, or in the file that it names. Raises UsageError if it is not a schema."""
    source = "--schema"
    if not text.strip():
        raise UsageError("--schema is empty", hint="a file, or the schema itself")
    if text.strip() in {"true", "false"} or text.lstrip().startswith("["):
        raise UsageError("--schema: a JSON Schema is an object here", hint='{"type": "object", ...}')
    if not text.lstrip().startswith("{"):
        source = f"--schema {text}"
        if text == "-":
            text = stdin.read_text(source)
        else:
            path = expand_user(text)
            hint = "a file, or the schema itself"
            text = read_text(path, max_bytes=stdin.MAX_BYTES, error=UsageError, source="--schema", hint=hint)
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{source}: not JSON: {describe_json_error(error)}") from error
    if not isinstance(schema, dict):
        raise UsageError(f"{source}: a JSON Schema is an object")
    if problem := json_schema.find_schema_error(schema):
        raise UsageError(f"{source}: {problem}")
    return schema
