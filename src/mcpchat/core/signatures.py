"""JSON Schemas in words: the type of a value, the parameters and the output of a tool, a call to copy."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mcpchat.core.tools import ToolSpec, required_names

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_MAX_VALUES = 12  # allowed values that are listed
_MAX_BRANCHES = 6  # branches of a union
_MAX_FIELDS = 8  # of a result that are named
_MAX_DEPTH = 4  # levels of arrays and references
_SHORT_NAMES = {"integer": "int", "boolean": "bool"}
_LIMITS = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "above", "exclusiveMaximum": "below"}


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a tool. ``default`` is JSON, or empty. ``notes`` are limits and formats."""

    name: str
    type: str
    required: bool
    default: str
    notes: str
    description: str


def list_parameters(spec: ToolSpec) -> list[Parameter]:
    """The parameters in the schema's order, the required ones first."""
    properties, required = spec.schema.get("properties"), required_names(spec.schema)
    found = [
        _read_parameter(str(name), schema if isinstance(schema, dict) else {}, spec.schema, required=name in required)
        for name, schema in (properties.items() if isinstance(properties, dict) else ())
    ]
    return sorted(found, key=lambda parameter: not parameter.required)


def _read_parameter(name: str, schema: dict[str, Any], root: Mapping[str, Any], *, required: bool) -> Parameter:
    resolved = _resolve(schema, root)
    notes = [str(resolved["format"])] if isinstance(resolved.get("format"), str) else []
    notes += [f"{word} {resolved[key]}" for key, word in _LIMITS.items() if isinstance(resolved.get(key), int | float)]
    description = schema.get("description") or resolved.get("description") or schema.get("title") or ""
    return Parameter(
        name=name,
        type=describe_type(schema, root),
        required=required,
        default=_to_json(schema["default"]) if "default" in schema else "",
        notes=", ".join(notes),
        description=description if isinstance(description, str) else "",
    )


def describe_type(schema: object, root: Mapping[str, Any], depth: int = _MAX_DEPTH) -> str:
    """The type of a value in a few words: ``string``, ``int | null``, ``list of string``, ``"a" | "b"``, ``any``."""
    if not isinstance(schema, dict) or not depth:
        return "any"
    schema = _resolve(schema, root)
    if "const" in schema:
        return _to_json(schema["const"])
    if isinstance(schema.get("enum"), list):
        values = [_to_json(value) for value in schema["enum"]]
        return " | ".join([*values[:_MAX_VALUES], *(["..."] if len(values) > _MAX_VALUES else [])]) or "any"
    branches = [branch for key in ("anyOf", "oneOf") if isinstance(schema.get(key), list) for branch in schema[key]]
    declared = schema.get("type")
    if branches and declared is None:
        names = [describe_type(branch, root, depth - 1) for branch in branches[:_MAX_BRANCHES]]
        return " | ".join([*dict.fromkeys(names), *(["..."] if len(branches) > _MAX_BRANCHES else [])])
    kinds = [declared] if isinstance(declared, str) else declared if isinstance(declared, list) else []
    names = [_describe_kind(kind, schema, root, depth) for kind in kinds[:_MAX_BRANCHES] if isinstance(kind, str)]
    return " | ".join(names) or "any"


def _describe_kind(kind: str, schema: dict[str, Any], root: Mapping[str, Any], depth: int) -> str:
    if kind == "array" and "items" in schema:
        items = describe_type(schema["items"], root, depth - 1)
        return "list" if items == "any" else f"list of {f'({items})' if ' | ' in items else items}"
    return "list" if kind == "array" else _SHORT_NAMES.get(kind, kind)


def _resolve(schema: dict[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """Follow a reference within ``root``. A schema without one is returned as it is."""
    for _ in range(_MAX_DEPTH):
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            break
        target: Any = root
        for key in reference[2:].split("/"):
            target = target.get(key) if isinstance(target, dict) else None
        if not isinstance(target, dict):
            break
        schema = target
    return schema


def format_signature(spec: ToolSpec) -> str:
    """The tool as a function, such as ``increment(by: int = 1) -> int``; ``name?`` may be left out."""
    parameters = []
    for parameter in list_parameters(spec):
        mark = "" if parameter.required or parameter.default else "?"
        default = f" = {parameter.default}" if parameter.default else ""
        parameters.append(f"{parameter.name}{mark}: {parameter.type}{default}")
    result = _describe_result(spec.output_schema) if spec.output_schema else ""
    fields = spec.output_schema.get("properties") if spec.output_schema else None
    if result == "object" and isinstance(fields, dict) and fields:
        names = [str(name) for name in fields]
        result = f"{{{', '.join([*names[:_MAX_FIELDS], *(['...'] if len(names) > _MAX_FIELDS else [])])}}}"
    return f"{spec.name}({', '.join(parameters)})" + (f" -> {result}" if result else "")


def _describe_result(schema: Mapping[str, Any]) -> str:
    properties = schema.get("properties")
    if isinstance(properties, dict) and list(properties) == ["result"]:  # how SDKs wrap a plain value
        return describe_type(properties["result"], schema)
    return describe_type(dict(schema), schema)


def describe_output(spec: ToolSpec) -> str:
    """What the tool's structured result has; empty if its server does not say."""
    if not spec.output_schema:
        return ""
    properties = spec.output_schema.get("properties")
    if not isinstance(properties, dict) or not properties:
        return _describe_result(spec.output_schema)
    return ", ".join(f"{name}: {describe_type(schema, spec.output_schema)}" for name, schema in properties.items())


def example_call(spec: ToolSpec) -> str:
    """A command line that calls the tool, with a value for each required parameter to be replaced."""
    words = [f"mcpchat call {shlex.quote(spec.qualified_name)}"]
    required = (parameter for parameter in list_parameters(spec) if parameter.required)
    words += [shlex.quote(f"{parameter.name}={_example_value(parameter)}") for parameter in required]
    return " ".join(words)


def _example_value(parameter: Parameter) -> str:
    first = next(_alternatives(parameter.type), "")
    if first.startswith("list"):
        return "[]"
    fixed = {"int": "1", "number": "1.5", "bool": "true", "object": "{}"}
    if first.startswith('"'):
        return first.strip('"')
    return fixed.get(first) or (first if _NUMBER.fullmatch(first) else parameter.name.upper())


def _alternatives(type_name: str) -> Iterator[str]:
    return (name for name in type_name.split(" | ") if name != "null")


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
