"""Transform all strings in a structure; check how deeply a value is nested."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

_T = TypeVar("_T")
MAX_DEPTH, MAX_RESULT_DEPTH = 64, 256  # levels allowed in a server's catalog and in its results


def map_strings(value: _T, transform: Callable[[str], str]) -> _T:
    """Apply ``transform`` to every string in the structure, including the keys of plain objects; bytes stay unchanged.

    The structure must have at most ``MAX_RESULT_DEPTH`` levels; the decoders of external data enforce that.
    """
    plain = msgspec.to_builtins(value, builtin_types=(bytes,))
    changed = _map_value(plain, transform)
    if changed == plain:
        return value
    try:
        return msgspec.convert(changed, type(value), builtin_types=(bytes,))
    except msgspec.ValidationError:
        # A transformed key broke the type, for example a secret that equals a field name: leave all keys unchanged.
        return msgspec.convert(_map_value(plain, transform, keys=False), type(value), builtin_types=(bytes,))


def exceeds_depth(value: object, max_depth: int = MAX_DEPTH) -> bool:
    """Whether a JSON value has more than ``max_depth`` levels."""
    level, depth = [value], 0
    while level and depth <= max_depth:
        level = [
            inner
            for node in level
            if isinstance(node, dict | list)
            for inner in (node.values() if isinstance(node, dict) else node)
        ]
        depth += 1
    return depth > max_depth


def _map_value(value: object, transform: Callable[[str], str], *, keys: bool = True) -> object:
    if isinstance(value, str):
        return transform(value)
    if isinstance(value, dict):
        map_key = transform if keys else str
        return {map_key(str(key)): _map_value(inner, transform, keys=keys) for key, inner in value.items()}
    return (
        type(value)(_map_value(inner, transform, keys=keys) for inner in value)
        if isinstance(value, list | tuple)
        else value
    )
