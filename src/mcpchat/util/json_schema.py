"""Validate values by JSON Schemas, in bounded time and without network access."""

import json
from collections import OrderedDict
from typing import Any

import jsonschema_rs

from mcpchat.util.json_pointer import resolve_pointer

_MAX_CACHED = 512  # compiled schemas
_MAX_ERRORS = 3  # errors reported for one value
_MAX_BACKTRACKS = 10_000  # limit for one pattern: stops a hostile pattern that would never end
_MAX_DEPTH = 100  # levels of a schema or a value: the validator recurses on the native stack
_MAX_WORK = 5_000_000  # limit for schema nodes (with references followed) times nodes of the value

_REFERENCE_KEYWORDS = ("$ref", "$dynamicRef", "$recursiveRef")

_cache: OrderedDict[int, tuple[Any, Any, int, int]] = OrderedDict()


def find_error(schema: object, value: object) -> str:
    """Describe in a line or two why the value does not match the schema; empty if it matches or cannot be checked.

    A value cannot be checked if the schema is invalid, uses an unknown dialect, refers to the network, or is too large
    or too deep. The server then has to validate the value itself.
    """
    validator, cost, branches = _compile(schema)
    size = _size(value)
    if validator is None or size is None or cost * size[0] > _MAX_WORK or branches ** size[1] > _MAX_WORK:
        return ""
    messages: list[str] = []
    try:
        for error in validator.iter_errors(value):
            if len(messages) == _MAX_ERRORS:
                messages.append("and more")
                break
            location = ".".join(str(step) for step in error.instance_path)
            message = _format_error(error, schema)
            messages.append(f"{location}: {message}" if location else message)
    except ValueError:  # a value that JSON cannot express
        return ""
    return "; ".join(text[:300] for text in messages)


def _format_error(error: Any, schema: object) -> str:
    """Describe the error: with the schema's own description instead of a bare pattern, and with few enum values."""
    steps = [str(step).replace("~", "~0").replace("/", "~1") for step in error.schema_path]
    subschema = resolve_pointer(schema, "#/" + "/".join(steps[:-1])) if isinstance(schema, dict) and steps else None
    if isinstance(subschema, dict):
        if steps[-1] == "pattern" and isinstance(subschema.get("description"), str):
            return f"{json.dumps(error.instance, ensure_ascii=False)[:80]} does not match: {subschema['description']}"
        if steps[-1] == "enum" and isinstance(subschema.get("enum"), list):
            choices = [json.dumps(value, ensure_ascii=False) for value in subschema["enum"]]
            listed = [
                choice for index, choice in enumerate(choices) if sum(map(len, choices[: index + 1])) + 2 * index < 180
            ]
            more = f" and {len(choices) - len(listed)} more" if len(listed) < len(choices) else ""
            return f"{json.dumps(error.instance, ensure_ascii=False)[:80]} is not one of {', '.join(listed)}{more}"
    return str(error.message)


def find_schema_error(schema: dict[str, Any]) -> str:
    """Describe in one line why the schema cannot be used for validation; empty if it can be used."""
    validator, cost, _ = _compile(schema)
    if validator is not None:
        return ""
    if cost == 0 or cost > _MAX_WORK:
        return "the schema is too deep or too large"
    try:
        jsonschema_rs.validator_for(schema, offline=True)
    except ValueError as error:
        return f"not a valid JSON Schema: {str(error).splitlines()[0][:300]}"
    return "a pattern of the schema cannot be used"


def _compile(schema: object) -> tuple[Any, int, int]:
    """The compiled schema or None, its cost in nodes, and its number of branches at each level of a value.

    Results are cached by the identity of the schema object; the cache holds the object, so that the identity stays
    unique.
    """
    if not isinstance(schema, dict):
        return None, 0, 1
    cached = _cache.get(id(schema))
    if cached is not None:
        _cache.move_to_end(id(schema))
        return cached[1], cached[2], cached[3]
    validator = None
    cost, branches = _cost(schema)
    if cost is not None and cost <= _MAX_WORK:
        try:
            validator = jsonschema_rs.validator_for(
                schema, offline=True, pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_MAX_BACKTRACKS)
            )
        except ValueError:  # the only error that the library raises for a schema
            validator = None
    _cache[id(schema)] = (schema, validator, cost or 0, branches)
    if len(_cache) > _MAX_CACHED:
        _cache.popitem(last=False)
    return validator, cost or 0, branches


def _size(value: object) -> tuple[int, int] | None:
    """The number of nodes of a JSON value, and its depth in levels; None if it is deeper than ``_MAX_DEPTH``."""
    nodes, layer = 0, [value]
    for depth in range(_MAX_DEPTH):
        if not layer:
            return nodes, depth
        nodes += len(layer)
        layer = [child for node in layer for child in _children(node)]
    return None


def _children(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _cost(schema: dict[str, Any]) -> tuple[int | None, int]:
    """The number of schema nodes with every local reference expanded once, and the number of branches per level.

    Ten lines can expand to billions of nodes. A recursive schema has as many branches as references, because each
    reference may be followed at each level of a value; other schemas have 1. The number of nodes is None if the schema
    is too deep.
    """
    if _size(schema) is None:
        return None, 1
    costs: dict[int, int] = {}
    open_nodes: set[int] = set()
    cyclic = False

    def cost(node: object, depth: int) -> int:
        nonlocal cyclic
        if not isinstance(node, dict | list):
            return 1
        if depth > 2 * _MAX_DEPTH:
            return _MAX_WORK
        cyclic = cyclic or id(node) in open_nodes
        if id(node) in costs:
            return costs[id(node)]
        costs[id(node)] = 1
        open_nodes.add(id(node))
        total = 1 + sum(cost(child, depth + 1) for child in _children(node))
        if isinstance(node, dict) and isinstance(node.get("$dynamicRef") or node.get("$recursiveRef"), str):
            cyclic = True
        if isinstance(node, dict) and isinstance(ref := node.get("$ref"), str):
            total += cost(resolve_pointer(schema, ref), depth + 1) if ref.startswith("#") else 0
            cyclic = cyclic or not ref.startswith("#/")  # a reference to the root or to an anchor
        open_nodes.discard(id(node))
        costs[id(node)] = min(total, _MAX_WORK + 1)
        return costs[id(node)]

    total = cost(schema, 0)
    return total, max(1, _count_references(schema)) if cyclic else 1


def _count_references(schema: dict[str, Any]) -> int:
    count, layer = 0, [schema]
    while layer:
        count += sum(1 for node in layer if isinstance(node, dict) for key in node if key.endswith(_REFERENCE_KEYWORDS))
        layer = [child for node in layer for child in _children(node)]
    return count
