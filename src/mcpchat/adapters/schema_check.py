"""Values held against JSON Schemas, in bounded time and without a look at the network."""

from collections import OrderedDict
from typing import Any

import jsonschema_rs

_MOST_KEPT = 512  # compiled schemas
_MOST_TOLD = 3  # faults of one value
_BACKTRACKS = 10_000  # of a pattern: a hostile one ends here instead of never
_DEEPEST = 100  # of a schema or a value: the validator recurses on the machine's own stack
_MOST_WORK = 5_000_000  # schema nodes, references followed, times the value's nodes

_compiled: OrderedDict[int, tuple[Any, Any, int]] = OrderedDict()


def problem(schema: object, value: object) -> str:
    """What is wrong with the value, in a line or two; empty where it fits, or where that cannot be said.

    A schema that is invalid, of an unknown dialect, with references to the network, or too large or deep to be worth
    it decides nothing: the server then judges by itself.
    """
    validator, cost = _validator(schema)
    size = _size(value)
    if validator is None or size is None or cost * size > _MOST_WORK:
        return ""
    found: list[str] = []
    try:
        for error in validator.iter_errors(value):
            if len(found) == _MOST_TOLD:
                found.append("and more")
                break
            where = ".".join(str(step) for step in error.instance_path)
            found.append(f"{where}: {error.message}" if where else str(error.message))
    except ValueError:  # a value that JSON has no word for
        return ""
    return "; ".join(text[:300] for text in found)


def _validator(schema: object) -> tuple[Any, int]:
    """The compiled schema, or None, and its size; kept by the object's identity, with the object."""
    if not isinstance(schema, dict):
        return None, 0
    kept = _compiled.get(id(schema))
    if kept is not None:
        _compiled.move_to_end(id(schema))
        return kept[1], kept[2]
    validator = None
    cost = _cost(schema)
    if cost is not None and cost <= _MOST_WORK:
        try:
            validator = jsonschema_rs.validator_for(
                schema, offline=True, pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACKS)
            )
        except ValueError:  # all that the library raises of a schema
            validator = None
    _compiled[id(schema)] = (schema, validator, cost or 0)
    if len(_compiled) > _MOST_KEPT:
        _compiled.popitem(last=False)
    return validator, cost or 0


def _size(value: object) -> int | None:
    """The nodes of a JSON value; None where it is deeper than any real one."""
    nodes, layer = 0, [value]
    for _ in range(_DEEPEST):
        if not layer:
            return nodes
        nodes += len(layer)
        layer = [child for one in layer for child in _children(one)]
    return None


def _children(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _cost(schema: dict[str, Any]) -> int | None:
    """The schema's nodes with every local reference unfolded once: ten lines can unfold to billions."""
    if _size(schema) is None:
        return None
    known: dict[int, int] = {}

    def cost(node: object, depth: int) -> int:
        if depth > 2 * _DEEPEST:
            return _MOST_WORK
        if id(node) in known:
            return known[id(node)]
        known[id(node)] = 1  # what a cycle counts
        total = 1 + sum(cost(child, depth + 1) for child in _children(node))
        if isinstance(node, dict) and isinstance(ref := node.get("$ref"), str) and ref.startswith("#"):
            total += cost(_pointed(schema, ref), depth + 1)
        known[id(node)] = min(total, _MOST_WORK + 1)
        return known[id(node)]

    return cost(schema, 0)


def _pointed(schema: object, ref: str) -> object:
    here: Any = schema
    for piece in ref[1:].split("/")[1:]:
        key = piece.replace("~1", "/").replace("~0", "~")
        here = here.get(key) if isinstance(here, dict) else None
    return here
