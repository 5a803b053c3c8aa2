"""Resolve JSON Pointers within one schema."""

import re
from typing import Any

_LOCAL_REFERENCE = re.compile(r"#(/.*)?")


def resolve_pointer(root: object, ref: object) -> object:
    """The node that a local reference (``#/...``) points to; None if it points nowhere."""
    if not isinstance(ref, str) or not _LOCAL_REFERENCE.fullmatch(ref):
        return None
    node: Any = root
    for part in ref[1:].split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and key in node:
            node = node[key]
        elif isinstance(node, list) and key.isdecimal() and int(key) < len(node):
            node = node[int(key)]
        else:
            return None
    return node
