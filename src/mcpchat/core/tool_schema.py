"""A tool's input schema in the form that model APIs accept: any JSON Schema in, an object schema out."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from mcpchat.util.json_pointer import resolve_pointer

_DEEPEST = 32
_MOST_NODES = 5000
_MOST_TEXT = 100_000  # characters of the whole
_TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_ONES = frozenset({"additionalProperties", "propertyNames", "items"})
# A part of these that admits more makes the whole admit less: they stay as they are, or go.
_TURNED = frozenset({"not", "if", "then", "else", "contains"})
_CONDITION = ("if", "then", "else")
_BOUNDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_COUNTS = frozenset(
    {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "minContains", "maxContains"}
)
_TEXTS = frozenset({"title", "description", "format", "contentEncoding", "contentMediaType"})
_FLAGS = frozenset({"uniqueItems", "deprecated", "readOnly", "writeOnly"})
_DEFINITIONS = frozenset({"$defs", "definitions"})
_ANY = frozenset({"default", "const"})


def object_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """An object schema that says as much of the given one as a model API takes.

    What is malformed, foreign, endless or twisted in it is left out, so that this admits more than the original, never
    less: the original still decides on each call.
    """
    try:
        cleaned = _without_lost_references(_Cleaner(schema).root())
        text = json.dumps(cleaned, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):  # numbers that JSON does not know
        return {"type": "object", "properties": {}}
    if len(text) > _MOST_TEXT:
        return {"type": "object", "properties": {}}
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character, which JSON can spell and nothing can send
        return dict(json.loads(text.encode(errors="replace")))
    return cleaned


_STRICT_KEYS = frozenset(
    {
        "type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "$ref", "$defs",
        "definitions", "title", "description", "pattern", "format", "minimum", "maximum", "exclusiveMinimum",
        "exclusiveMaximum", "multipleOf", "minItems", "maxItems", "$schema", "$id",
    }
)  # fmt: skip
_STRICT_DEPTH, _STRICT_PROPERTIES, _STRICT_CHOICES = 10, 5000, 1000


def fits_strict(schema: Mapping[str, Any]) -> bool:
    """Whether the schema, as it is, lies in the subset that model APIs can hold an answer to.

    Its root is an object; of every object all properties are required and no others allowed; no combinations but anyOf.
    """
    counts = {"properties": 0, "enum": 0}

    def fits(node: object, depth: int) -> bool:
        if not isinstance(node, Mapping) or depth > _STRICT_DEPTH or not _STRICT_KEYS.issuperset(node):
            return False
        properties = node.get("properties", {})
        if "properties" in node or node.get("type") == "object":
            if not isinstance(properties, Mapping) or node.get("additionalProperties") is not False:
                return False
            if sorted(_once(_listed(node.get("required", [])))) != sorted(properties):
                return False
        counts["properties"] += len(properties)
        counts["enum"] += len(node["enum"]) if isinstance(node.get("enum"), list) else 0
        branches = node.get("anyOf", [])
        inner = [*properties.values(), *([node["items"]] if "items" in node else []), *branches]
        defined = [one for key in _DEFINITIONS for one in node.get(key, {}).values()]
        return all(fits(one, depth + 1) for one in inner) and all(fits(one, depth) for one in defined)

    if schema.get("type") != "object" or "anyOf" in schema or "$ref" in schema:
        return False
    return fits(schema, 0) and counts["properties"] <= _STRICT_PROPERTIES and counts["enum"] <= _STRICT_CHOICES


class _Cleaner:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._left = _MOST_NODES

    def root(self) -> dict[str, Any]:
        """The top: model APIs want an object there, without combinations. What each branch says is joined."""
        merged: dict[str, Any] = {}
        properties: dict[str, list[dict[str, Any]]] = {}
        required: list[str] = []
        for branch, demanded in self._branches():
            cleaned = self._clean(branch, 0)
            for name, said in cleaned.pop("properties", {}).items():
                variants = properties.setdefault(name, [])
                if said not in variants:
                    variants.append(said)
            needed = cleaned.pop("required", ())
            if demanded:
                required += [name for name in needed if name not in required]
                merged = {**cleaned, **merged}
            else:  # it need not be the one: what it rules out may be ruled in by another
                merged = {**{key: one for key, one in cleaned.items() if key in _DEFINITIONS}, **merged}
                merged.pop("additionalProperties", None)
                merged.pop("patternProperties", None)
        for key in ("items", "prefixItems", "enum", "const", "$ref", *_LISTS, *_TURNED):
            merged.pop(key, None)
        joined = {name: said[0] if len(said) == 1 else {"anyOf": said} for name, said in properties.items()}
        result = {**merged, "type": "object", "properties": joined}
        if required := [name for name in required if name in joined]:
            result["required"] = required
        return result

    def _branches(self) -> Iterable[tuple[dict[str, Any], bool]]:
        """The root and all that it is combined of; and whether each of them holds for certain."""
        waiting: list[tuple[Mapping[str, Any], bool]] = [(self._root, True)]
        for _ in range(_DEEPEST):
            if not waiting:
                return
            branch, demanded = waiting.pop(0)
            target = resolve_pointer(self._root, branch.get("$ref"))
            if isinstance(target, dict) and target is not self._root:
                waiting.append((target, demanded))
            for key in ("allOf", "anyOf", "oneOf"):
                found = branch.get(key)
                within = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
                waiting += [(one, demanded and key == "allOf") for one in within]
            yield {key: value for key, value in branch.items() if key not in _LISTS and key != "$ref"}, demanded

    def _clean(self, schema: object, depth: int) -> dict[str, Any]:
        self._left -= 1
        if not isinstance(schema, dict) or depth > _DEEPEST or self._left < 0:
            return {}
        cleaned: dict[str, Any] = {}
        for key, value in schema.items():
            if key in _ANY:
                cleaned[key] = value
            elif key == "oneOf":
                kept = self._keyword(key, value, depth)
                if kept is not None:  # of altered branches more than one may fit
                    cleaned["oneOf" if kept == value else "anyOf"] = kept
            elif (kept := self._keyword(key, value, depth)) is not None:
                cleaned[key] = kept
        if any(key in schema and key not in cleaned for key in _CONDITION):
            for key in _CONDITION:
                cleaned.pop(key, None)
        if "contains" not in cleaned:
            cleaned.pop("minContains", None)
            cleaned.pop("maxContains", None)
        if "array" in _listed(cleaned.get("type")) and "items" not in cleaned:
            cleaned["items"] = {}
        return cleaned

    def _keyword(self, key: str, value: object, depth: int) -> Any:
        """The keyword's value as it may stay, None where it may not."""
        if key in _MAPS and isinstance(value, dict):
            kept = {
                str(name): self._clean(one, depth + 1)
                for name, one in value.items()
                if key != "patternProperties" or _is_pattern(name)
            }
            # A name that is ruled out is not offered; which only matters where others are ruled out too.
            return {name: one for name, one in kept.items() if value[name] is not False}
        if key in _LISTS and isinstance(value, list):
            return [self._clean(one, depth + 1) for one in value if one is not False] or None
        if key in _ONES:
            if isinstance(value, bool) and key == "additionalProperties":
                return value
            return self._clean(value, depth + 1) if isinstance(value, dict | bool) else None
        if key in _TURNED:
            return value if isinstance(value, dict) and self._clean(value, depth + 1) == value else None
        return self._plain(key, value)

    def _plain(self, key: str, value: object) -> Any:
        match key:
            case "$ref":
                return (
                    value if isinstance(value, str) and isinstance(resolve_pointer(self._root, value), dict) else None
                )
            case "type":
                types = _once(_listed(value))
                if not types or not _TYPES.issuperset(types):
                    return None
                return types[0] if isinstance(value, str) else types
            case "required":
                names = _once(name for name in value if isinstance(name, str)) if isinstance(value, list) else []
                return names or None
            case "enum" | "examples":
                return value if isinstance(value, list) and value else None
            case "pattern":
                return value if _is_pattern(value) else None
            case "multipleOf":
                return value if _is_number(value) and value > 0 else None  # type: ignore[operator]
        allowed: tuple[type, ...] = (str,) if key in _TEXTS else (bool,) if key in _FLAGS else ()
        if key in _COUNTS:
            return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
        if key in _BOUNDS:
            return value if _is_number(value) else None
        return value if allowed and isinstance(value, allowed) else None


def _without_lost_references(root: dict[str, Any]) -> dict[str, Any]:
    """The schema without references to what is no longer where it was."""

    def mended(node: Any) -> Any:
        if isinstance(node, dict):
            lost = isinstance(node.get("$ref"), str) and not isinstance(resolve_pointer(root, node["$ref"]), dict)
            return {key: mended(value) for key, value in node.items() if not (lost and key == "$ref")}
        return [mended(one) for one in node] if isinstance(node, list) else node

    return dict(mended(root))


def _is_pattern(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _listed(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
