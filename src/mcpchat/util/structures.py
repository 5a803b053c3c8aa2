"""A structure with each of its texts changed."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

_T = TypeVar("_T")
DEEPEST, DEEPEST_RESULT = 64, 256  # levels of what a server lists, and of what it answers


def mapped(value: _T, change: Callable[[str], str]) -> _T:
    """The structure with every text in it changed, keys of free objects too; bytes stay as they are.

    Of no more than ``DEEPEST_RESULT`` levels: what decodes the outside sees to that.
    """
    plain = msgspec.to_builtins(value, builtin_types=(bytes,))
    changed = _walk(plain, change)
    if changed == plain:
        return value
    try:
        return msgspec.convert(changed, type(value), builtin_types=(bytes,))
    except msgspec.ValidationError:  # a secret that is a word of ours: then keys stay as they are
        return msgspec.convert(_walk(plain, change, keys=False), type(value), builtin_types=(bytes,))


def too_deep(value: object, most: int = DEEPEST) -> bool:
    """Whether a value of JSON is nested more deeply than this."""
    level, found = [value], 0
    while level and found <= most:
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        found += 1
    return found > most


def _walk(value: object, change: Callable[[str], str], *, keys: bool = True) -> object:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        named = change if keys else str
        return {named(str(key)): _walk(inner, change, keys=keys) for key, inner in value.items()}
    return type(value)(_walk(inner, change, keys=keys) for inner in value) if isinstance(value, list | tuple) else value
