"""Limits on what a server sends: its messages, the length of descriptions, the size of schemas."""

import json
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from mcpchat.core.tools import ToolSpec
from mcpchat.util.sanitize import strip_invisible
from mcpchat.util.structures import map_strings

_BATCH = 100  # schemas that are encoded together
MAX_CONTAINERS = 1_000_000  # objects and arrays in one message: a small text can need much memory


class ToolLimits(Struct, frozen=True, kw_only=True):
    """Maximum characters of a description, and of an input schema as JSON."""

    max_description: int = 4000
    max_schema: int = 32_000


def enforce_tool_limits(tools: Sequence[ToolSpec], limits: ToolLimits) -> tuple[tuple[ToolSpec, ...], tuple[str, ...]]:
    """The tools within the limits, without invisible characters, and a notice for each kind of change."""
    notices: list[str] = []
    accepted = []
    too_large: list[str] = []
    renamed: list[str] = []
    truncated = 0
    for spec, encoded in zip(tools, _encode_schemas(tools), strict=True):
        # It has no blanks; with them, it has at most half as much again.
        if len(encoded) * 1.5 > limits.max_schema and _json_length(spec.schema) > limits.max_schema:
            too_large.append(spec.name)
            continue
        if not (encoded.isascii() and spec.description.isascii()):  # else nothing is invisible
            schema = map_strings(spec.schema, strip_invisible)
            if _schema_keys(schema) != _schema_keys(spec.schema):
                renamed.append(spec.name)  # the server would not know an argument by its cleaned name
                continue
            spec = replace(spec, description=strip_invisible(spec.description), schema=schema)
        if len(spec.description) > limits.max_description:
            spec = replace(spec, description=spec.description[: limits.max_description - 1] + "…")
            truncated += 1
        accepted.append(spec)
    if too_large:
        notices.append(
            f"{_sample(too_large)} left out: a schema of more than {limits.max_schema:,} characters (limits.max_schema)"
        )
    if renamed:
        notices.append(f"{_sample(renamed)} left out: arguments with invisible characters in their names")
    if truncated:
        notices.append(
            f"{truncated} descriptions cut at {limits.max_description:,} characters (limits.max_description)"
        )
    return tuple(accepted), tuple(notices)


def _encode_schemas(tools: Sequence[ToolSpec]) -> Iterator[bytes]:
    """The schemas as JSON without blanks. Lone surrogates, which UTF-8 cannot encode, become question marks."""
    encoder = msgspec.json.Encoder()
    for start in range(0, len(tools), _BATCH):
        schemas = [spec.schema for spec in tools[start : start + _BATCH]]
        try:
            yield from encoder.encode_lines(schemas).splitlines()
        except UnicodeEncodeError:
            for schema in schemas:
                text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
                yield text.encode(errors="replace") + b"\xff"


def _json_length(schema: object) -> int:
    """Characters of the schema as JSON."""
    return len(json.dumps(schema, ensure_ascii=False))


def _schema_keys(schema: object) -> set[str]:
    """Every key in the schema."""
    keys: set[str] = set()
    nodes = [schema]
    while nodes:
        keys |= {key for node in nodes if isinstance(node, dict) for key in node}
        nodes = [
            child
            for node in nodes
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
    return keys


def _sample(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + ("..." if len(names) > 3 else "")
