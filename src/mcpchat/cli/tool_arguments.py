"""The arguments of a tool as they are typed: values, JSON, files, standard input."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mcpchat.core.tools import (
    BadArguments,
    ToolSpec,
    explain_arguments,
    missing_arguments,
    no_constant,
    parse_arguments,
    typed_arguments,
)
from mcpchat.errors import UsageError
from mcpchat.util.stdin import read_bytes

_MOST_BYTES = 20_000_000  # of one argument
_PAIR = re.compile(r"(?P<key>[^=]*?)(?P<how>:?=)(?P<text>.*)", re.DOTALL)


def tool_arguments(spec: ToolSpec, pairs: Sequence[str], given: str | None) -> Mapping[str, Any]:
    """The arguments: ``key=value`` typed by the schema, ``key:=json``, and after either ``@FILE`` for a file's.

    A value that begins with @ is written @@; - is @-, standard input. Raises UsageError.
    """
    if sum(text in {"-", "@-"} for text in (given, *(pair.partition("=")[2] for pair in pairs))) > 1:
        raise UsageError("standard input can be one argument, not several")
    typed: list[tuple[str, str]] = []
    whole: dict[str, Any] = {}
    for pair in pairs:
        found = _PAIR.fullmatch(pair)
        if found is None or not found["key"]:
            raise UsageError(f"{pair!r} is not KEY=VALUE", hint=f"{spec.label}: {explain_arguments(spec)}")
        key, text = found["key"], found["text"]
        if found["how"] == ":=":
            whole[key] = _json(pair, _said(pair, text, {}))
        else:
            schema = spec.schema.get("properties")
            typed.append((key, _said(pair, text, schema.get(key) if isinstance(schema, dict) else None)))
    try:
        base = parse_arguments(_said("--json", given, None) if given else "")
        arguments = base | typed_arguments(typed, spec.schema) | whole
    except BadArguments as error:
        raise UsageError(str(error), hint=f"{spec.label}: {explain_arguments(spec)}") from error
    if lacking := missing_arguments(spec, arguments):
        raise UsageError(lacking, hint=f"{spec.label}: {explain_arguments(spec)}")
    return arguments


def _said(pair: str, text: str, schema: object) -> str:
    """The text itself, or of the file that @ names."""
    if text.startswith("@@"):
        return text[1:]
    if text != "-" and not text.startswith("@"):
        return text
    name = text[1:] if text.startswith("@") else text
    try:
        if name == "-":
            data = read_bytes(pair)
        else:
            with Path(name).expanduser().open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"{pair}: cannot read {name}: {reason}", hint="a value that begins with @ is written @@"
        ) from error
    if len(data) > _MOST_BYTES:
        raise UsageError(f"{pair}: it holds more than {_MOST_BYTES:,} bytes")
    if isinstance(schema, dict) and schema.get("contentEncoding") == "base64":
        return base64.b64encode(data).decode()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{pair}: it is not text (UTF-8)", hint="only an argument in base64 takes other files"
        ) from error


def _json(pair: str, text: str) -> Any:
    try:
        return json.loads(text, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{pair}: not JSON: {error}", hint="KEY=VALUE is typed by the tool's schema") from error
