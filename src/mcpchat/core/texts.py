"""A structure with each of its texts changed."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

_T = TypeVar("_T")


def mapped(value: _T, change: Callable[[str], str]) -> _T:
    """The structure, of any depth that JSON has, with every text in it changed; keys and bytes stay as they are."""
    plain = msgspec.to_builtins(value, builtin_types=(bytes,))
    changed = _walk(plain, change)
    return value if changed == plain else msgspec.convert(changed, type(value), builtin_types=(bytes,))


def _walk(value: object, change: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _walk(inner, change) for key, inner in value.items()}
    return type(value)(_walk(inner, change) for inner in value) if isinstance(value, list | tuple) else value
