"""Values held against JSON Schemas, in bounded time and without a look at the network."""

import json
from collections import OrderedDict
from typing import Any

import jsonschema_rs

from mcpchat.util.json_pointer import resolve_pointer

_MOST_KEPT = 512  # compiled schemas
_MOST_TOLD = 3  # faults of one value
_BACKTRACKS = 10_000  # of a pattern: a hostile one ends here instead of never
_DEEPEST = 100  # of a schema or a value: the validator recurses on the machine's own stack
_MOST_WORK = 5_000_000  # schema nodes, references followed, times the value's nodes

_REFERENCE = ("$ref", "$dynamicRef", "$recursiveRef")

_compiled: OrderedDict[int, tuple[Any, Any, int, int]] = OrderedDict()


def problem(schema: object, value: object) -> str:
    """What is wrong with the value, in a line or two; empty where it fits, or where that cannot be said.

    A schema that is invalid, of an unknown dialect, with references to the network, or too large or deep to be worth
    it decides nothing: the server then judges by itself.
    """
    validator, cost, branches = _validator(schema)
    size = _size(value)
    if validator is None or size is None or cost * size[0] > _MOST_WORK or branches ** size[1] > _MOST_WORK:
        return ""
    found: list[str] = []
    try:
        for error in validator.iter_errors(value):
            if len(found) == _MOST_TOLD:
                found.append("and more")
                break
            where = ".".join(str(step) for step in error.instance_path)
            told = _in_words(error, schema)
            found.append(f"{where}: {told}" if where else told)
    except ValueError:  # a value that JSON has no word for
        return ""
    return "; ".join(text[:300] for text in found)


def _in_words(error: Any, schema: object) -> str:
    """The fault as the schema's author puts it where it has words: a pattern helps nobody, nor does half of a list."""
    steps = [str(step).replace("~", "~0").replace("/", "~1") for step in error.schema_path]
    place = resolve_pointer(schema, "#/" + "/".join(steps[:-1])) if isinstance(schema, dict) and steps else None
    if isinstance(place, dict):
        if steps[-1] == "pattern" and isinstance(place.get("description"), str):
            return f"{json.dumps(error.instance, ensure_ascii=False)[:80]} does not fit: {place['description']}"
        if steps[-1] == "enum" and isinstance(place.get("enum"), list):
            choices = [json.dumps(one, ensure_ascii=False) for one in place["enum"]]
            kept = [one for index, one in enumerate(choices) if sum(map(len, choices[: index + 1])) + 2 * index < 180]
            more = f" and {len(choices) - len(kept)} more" if len(kept) < len(choices) else ""
            return f"{json.dumps(error.instance, ensure_ascii=False)[:80]} is not one of {', '.join(kept)}{more}"
    return str(error.message)


def unusable(schema: dict[str, Any]) -> str:
    """Why nothing can be held against the schema, in a line; empty where something can."""
    validator, cost, _ = _validator(schema)
    if validator is not None:
        return ""
    if cost == 0 or cost > _MOST_WORK:
        return "the schema is too deep or too large"
    try:
        jsonschema_rs.validator_for(schema, offline=True)
    except ValueError as error:
        return f"not a valid JSON Schema: {str(error).splitlines()[0][:300]}"
    return "a pattern of the schema cannot be used"


def _validator(schema: object) -> tuple[Any, int, int]:
    """The compiled schema, or None, its size, and into how many branches it may part at each level of a value.

    Kept by the object's identity, with the object.
    """
    if not isinstance(schema, dict):
        return None, 0, 1
    kept = _compiled.get(id(schema))
    if kept is not None:
        _compiled.move_to_end(id(schema))
        return kept[1], kept[2], kept[3]
    validator = None
    cost, branches = _cost(schema)
    if cost is not None and cost <= _MOST_WORK:
        try:
            validator = jsonschema_rs.validator_for(
                schema, offline=True, pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACKS)
            )
        except ValueError:  # all that the library raises of a schema
            validator = None
    _compiled[id(schema)] = (schema, validator, cost or 0, branches)
    if len(_compiled) > _MOST_KEPT:
        _compiled.popitem(last=False)
    return validator, cost or 0, branches


def _size(value: object) -> tuple[int, int] | None:
    """The nodes of a JSON value, and its depth; None where it is deeper than any real one."""
    nodes, layer = 0, [value]
    for depth in range(_DEEPEST):
        if not layer:
            return nodes, depth
        nodes += len(layer)
        layer = [child for one in layer for child in _children(one)]
    return None


def _children(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _cost(schema: dict[str, Any]) -> tuple[int | None, int]:
    """The schema's nodes with every local reference unfolded once: ten lines can unfold to billions.

    And, of a schema that contains itself, how many references it holds: each may be followed at each level of a value.
    """
    if _size(schema) is None:
        return None, 1
    known: dict[int, int] = {}
    open_nodes: set[int] = set()
    cyclic = False

    def cost(node: object, depth: int) -> int:
        nonlocal cyclic
        if not isinstance(node, dict | list):
            return 1
        if depth > 2 * _DEEPEST:
            return _MOST_WORK
        cyclic = cyclic or id(node) in open_nodes
        if id(node) in known:
            return known[id(node)]
        known[id(node)] = 1
        open_nodes.add(id(node))
        total = 1 + sum(cost(child, depth + 1) for child in _children(node))
        if isinstance(node, dict) and isinstance(node.get("$dynamicRef") or node.get("$recursiveRef"), str):
            cyclic = True
        if isinstance(node, dict) and isinstance(ref := node.get("$ref"), str):
            total += cost(resolve_pointer(schema, ref), depth + 1) if ref.startswith("#") else 0
            cyclic = cyclic or not ref.startswith("#/")  # to itself, or to an anchor somewhere
        open_nodes.discard(id(node))
        known[id(node)] = min(total, _MOST_WORK + 1)
        return known[id(node)]

    total = cost(schema, 0)
    return total, max(1, _references(schema)) if cyclic else 1


def _references(schema: dict[str, Any]) -> int:
    found, layer = 0, [schema]
    while layer:
        found += sum(1 for node in layer if isinstance(node, dict) for key in node if key.endswith(_REFERENCE))
        layer = [child for node in layer for child in _children(node)]
    return found
