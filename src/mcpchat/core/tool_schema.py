"""Convert the input schema of a tool, any JSON Schema, to an object schema that model APIs accept."""

import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from mcpchat.util.json_pointer import resolve_pointer
from mcpchat.util.text import replace_surrogates

_MAX_DEPTH = 32
_MAX_NODES = 5000
_MAX_LENGTH = 100_000  # characters of the whole schema
_TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})
_SUBSCHEMA_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_SUBSCHEMA_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_SUBSCHEMAS = frozenset({"additionalProperties", "propertyNames", "items"})
# A simplified part of these keywords would make the whole schema stricter: they are kept unchanged or removed.
_NEGATING = frozenset({"not", "if", "then", "else", "contains"})
_CONDITIONALS = ("if", "then", "else")
_NUMBER_KEYWORDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_COUNT_KEYWORDS = frozenset(
    {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "minContains", "maxContains"}
)
_STRING_KEYWORDS = frozenset({"title", "description", "format", "contentEncoding", "contentMediaType"})
_BOOLEAN_KEYWORDS = frozenset({"uniqueItems", "deprecated", "readOnly", "writeOnly"})
# What many validators of model APIs do not know: groups other than (?:...), back references, possessive repetition,
# and Python's own anchors.
_NOT_PORTABLE = re.compile(r"\(\?(?!:)|\\[1-9AZk]|[*+?}]\+")
# Upper limits that a model does not come near: they cost tokens, and the original schema judges the call.
_REMOTE_LIMITS = {"maxLength": 2000, "maxItems": 1000, "maxProperties": 1000}
_NEAR_LIMITS = {"minLength": 2}  # a text that is not empty goes without saying
# A pattern that accepts any identifier tells a model nothing.
_PLAIN_WORD = re.compile(
    r"\^?\[(?=[^\]]*(?:A-Z|\\w))(?=[^\]]*(?:a-z|\\w))(?=[^\]]*(?:0-9|\\w|\\d))[\w\\.:@~-]+\](?:[+*]|\{[01],\d{2,}\})\$?"
)
_NOT_A_WORD = re.compile(r"[\W_]+")
_DEFINITIONS = frozenset({"$defs", "definitions"})
_ANY_VALUE_KEYWORDS = frozenset({"default", "const"})


def to_tool_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Simplify a schema to an object schema that model APIs accept.

    Malformed, unknown, recursive or too complex parts are removed. The result accepts more values than the original,
    never fewer; each call is still validated by the original schema.
    """
    try:
        simplified = _remove_dangling_references(_SchemaSimplifier(schema).simplify())
        text = json.dumps(simplified, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):  # numbers that JSON cannot express
        return {"type": "object", "properties": {}}
    if len(text) > _MAX_LENGTH:
        return {"type": "object", "properties": {}}
    clean = replace_surrogates(text)  # JSON can spell a lone surrogate, but UTF-8 cannot encode it
    return simplified if clean == text else dict(json.loads(clean))


def iter_keywords(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keywords of a schema and of the schemas within it, some of them several times."""
    yield from schema
    for inner in _subschemas(schema):
        yield from iter_keywords(inner)


def remove_keywords(schema: Mapping[str, Any], unwanted: Collection[str]) -> dict[str, Any]:
    """Remove keywords from a schema and from the schemas within it. Properties of these names stay."""
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key in unwanted:
            continue
        if key in _SUBSCHEMA_MAPS and isinstance(value, Mapping):
            value = {name: _without(inner, unwanted) for name, inner in value.items()}
        elif key in _SUBSCHEMA_LISTS and isinstance(value, list):
            value = [_without(inner, unwanted) for inner in value]
        elif key in _SUBSCHEMAS | _NEGATING:
            value = _without(value, unwanted)
        result[key] = value
    return result


def _without(schema: Any, unwanted: Collection[str]) -> Any:
    return remove_keywords(schema, unwanted) if isinstance(schema, Mapping) else schema


def _subschemas(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for key, value in schema.items():
        if key in _SUBSCHEMA_MAPS and isinstance(value, Mapping):
            candidates: Iterable[Any] = value.values()
        elif key in _SUBSCHEMA_LISTS and isinstance(value, list):
            candidates = value
        else:
            candidates = [value] if key in _SUBSCHEMAS | _NEGATING else []
        yield from (inner for inner in candidates if isinstance(inner, Mapping))


_STRICT_KEYS = frozenset(
    {
        "type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "$ref", "$defs",
        "definitions", "title", "description", "pattern", "format", "minimum", "maximum", "exclusiveMinimum",
        "exclusiveMaximum", "multipleOf", "minItems", "maxItems", "$schema", "$id",
    }
)  # fmt: skip
_STRICT_DEPTH, _STRICT_PROPERTIES, _STRICT_ENUM_VALUES = 10, 5000, 1000


def supports_strict_mode(schema: Mapping[str, Any]) -> bool:
    """Whether the unchanged schema is in the subset that model APIs can enforce ("strict" mode).

    In this subset the root is an object, each object requires all its properties and allows no others, and the only
    combination is anyOf.
    """
    counts = {"properties": 0, "enum": 0}

    def fits(node: object, depth: int) -> bool:
        if not isinstance(node, Mapping) or depth > _STRICT_DEPTH or not _STRICT_KEYS.issuperset(node):
            return False
        properties = node.get("properties", {})
        if "properties" in node or node.get("type") == "object":
            if not isinstance(properties, Mapping) or node.get("additionalProperties") is not False:
                return False
            if sorted(_unique(_as_list(node.get("required", [])))) != sorted(properties):
                return False
        counts["properties"] += len(properties)
        counts["enum"] += len(node["enum"]) if isinstance(node.get("enum"), list) else 0
        branches, tables = node.get("anyOf", []), [node.get(key, {}) for key in _DEFINITIONS]
        if not isinstance(branches, list) or not all(isinstance(table, Mapping) for table in tables):
            return False
        children = [*properties.values(), *([node["items"]] if "items" in node else []), *branches]
        definitions = [definition for table in tables for definition in table.values()]
        return all(fits(child, depth + 1) for child in children) and all(
            fits(definition, depth) for definition in definitions
        )

    if schema.get("type") != "object" or "anyOf" in schema or "$ref" in schema:
        return False
    return fits(schema, 0) and counts["properties"] <= _STRICT_PROPERTIES and counts["enum"] <= _STRICT_ENUM_VALUES


def _without_derived_title(schema: Any, name: str) -> Any:
    """The schema of a property without a title that only repeats its name: libraries add one to each."""
    if not isinstance(schema, dict) or not isinstance(title := schema.get("title"), str):
        return schema
    if _NOT_A_WORD.sub("", title).lower() != _NOT_A_WORD.sub("", name).lower():
        return schema
    return {key: value for key, value in schema.items() if key != "title"}


class _SchemaSimplifier:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._remaining_nodes = _MAX_NODES
        self._in_condition = False  # within a schema that is kept unchanged or removed

    def simplify(self) -> dict[str, Any]:
        """Simplify the root: model APIs require an object without combinations, so all branches are merged."""
        merged: dict[str, Any] = {}
        properties: dict[str, list[dict[str, Any]]] = {}
        required: list[str] = []
        for branch, always_applies in self._branches():
            simplified = self._simplify(branch, 0)
            for name, property_schema in simplified.pop("properties", {}).items():
                variants = properties.setdefault(name, [])
                if property_schema not in variants:
                    variants.append(property_schema)
            branch_required = simplified.pop("required", ())
            if always_applies:
                required += [name for name in branch_required if name not in required]
                merged = {**simplified, **merged}
            else:  # another branch may apply and allow what this one forbids
                merged = {**{key: value for key, value in simplified.items() if key in _DEFINITIONS}, **merged}
                merged.pop("additionalProperties", None)
                merged.pop("patternProperties", None)
        # The tool's own name and description say what the title says.
        for key in ("title", "items", "prefixItems", "enum", "const", "$ref", *_SUBSCHEMA_LISTS, *_NEGATING):
            merged.pop(key, None)
        merged_properties = {
            name: schemas[0] if len(schemas) == 1 else {"anyOf": schemas} for name, schemas in properties.items()
        }
        result = {**merged, "type": "object", "properties": merged_properties}
        if required := [name for name in required if name in merged_properties]:
            result["required"] = required
        return result

    def _branches(self) -> Iterable[tuple[dict[str, Any], bool]]:
        """The root and its combined subschemas, each with a flag: whether it always applies."""
        queue: list[tuple[Mapping[str, Any], bool]] = [(self._root, True)]
        for _ in range(_MAX_DEPTH):
            if not queue:
                return
            branch, always_applies = queue.pop(0)
            target = resolve_pointer(self._root, branch.get("$ref"))
            if isinstance(target, dict) and target is not self._root:
                queue.append((target, always_applies))
            for key in ("allOf", "anyOf", "oneOf"):
                subschemas = branch.get(key)
                branches = (
                    [subschema for subschema in subschemas if isinstance(subschema, dict)]
                    if isinstance(subschemas, list)
                    else []
                )
                queue += [(subschema, always_applies and key == "allOf") for subschema in branches]
            yield (
                {key: value for key, value in branch.items() if key not in _SUBSCHEMA_LISTS and key != "$ref"},
                always_applies,
            )

    def _simplify(self, schema: object, depth: int) -> dict[str, Any]:
        self._remaining_nodes -= 1
        if not isinstance(schema, dict) or depth > _MAX_DEPTH or self._remaining_nodes < 0:
            return {}
        simplified: dict[str, Any] = {}
        for key, value in schema.items():
            if key in _ANY_VALUE_KEYWORDS:
                simplified[key] = value
            elif key == "oneOf":
                result = self._simplify_keyword(key, value, depth)
                if result is not None:  # several simplified branches may match
                    simplified["oneOf" if result == value else "anyOf"] = result
            elif (result := self._simplify_keyword(key, value, depth)) is not None:
                simplified[key] = result
        if any(key in schema and key not in simplified for key in _CONDITIONALS):
            for key in _CONDITIONALS:
                simplified.pop(key, None)
        if "contains" not in simplified:
            simplified.pop("minContains", None)
            simplified.pop("maxContains", None)
        if "array" in _as_list(simplified.get("type")) and "items" not in simplified:
            simplified["items"] = {}
        return simplified

    def _simplify_keyword(self, key: str, value: object, depth: int) -> Any:
        """The simplified value of the keyword; None if the keyword must be removed."""
        if key in _SUBSCHEMA_MAPS and isinstance(value, dict):
            properties = {
                str(name): self._simplify(subschema, depth + 1)
                for name, subschema in value.items()
                if key != "patternProperties" or _is_pattern(name)
            }
            if key == "properties" and not self._in_condition:
                properties = {name: _without_derived_title(subschema, name) for name, subschema in properties.items()}
            # A forbidden property is removed. That changes the meaning only if other properties are forbidden, too.
            return {name: subschema for name, subschema in properties.items() if value[name] is not False}
        if key in _SUBSCHEMA_LISTS and isinstance(value, list):
            return [self._simplify(subschema, depth + 1) for subschema in value if subschema is not False] or None
        if key in _SUBSCHEMAS:
            if isinstance(value, bool) and key == "additionalProperties":
                return value
            return self._simplify(value, depth + 1) if isinstance(value, dict | bool) else None
        if key in _NEGATING:
            was_in_condition, self._in_condition = self._in_condition, True
            is_kept = isinstance(value, dict) and self._simplify(value, depth + 1) == value
            self._in_condition = was_in_condition
            return value if is_kept else None
        return self._simplify_value(key, value)

    def _simplify_value(self, key: str, value: object) -> Any:
        match key:
            case "$ref":
                return (
                    value if isinstance(value, str) and isinstance(resolve_pointer(self._root, value), dict) else None
                )
            case "type":
                types = _unique(_as_list(value))
                if not types or not _TYPES.issuperset(types):
                    return None
                return types[0] if isinstance(value, str) else types
            case "required":
                names = _unique(name for name in value if isinstance(name, str)) if isinstance(value, list) else []
                return names or None
            case "enum" | "examples":
                return value if isinstance(value, list) and value else None
            case "pattern":
                return value if _is_pattern(value) and not _PLAIN_WORD.fullmatch(str(value)) else None
            case "multipleOf":
                return value if _is_number(value) and value > 0 else None  # type: ignore[operator]
        allowed: tuple[type, ...] = (str,) if key in _STRING_KEYWORDS else (bool,) if key in _BOOLEAN_KEYWORDS else ()
        if key in _COUNT_KEYWORDS:
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                return None
            return value if _NEAR_LIMITS.get(key, 0) <= value < _REMOTE_LIMITS.get(key, math.inf) else None
        if key in _NUMBER_KEYWORDS:
            return value if _is_number(value) else None
        return value if allowed and isinstance(value, allowed) else None


def _remove_dangling_references(root: dict[str, Any]) -> dict[str, Any]:
    """Remove references to parts of the schema that were removed."""

    def remove(node: Any) -> Any:
        if isinstance(node, dict):
            dangling = isinstance(node.get("$ref"), str) and not isinstance(resolve_pointer(root, node["$ref"]), dict)
            return {key: remove(value) for key, value in node.items() if not (dangling and key == "$ref")}
        return [remove(item) for item in node] if isinstance(node, list) else node

    return dict(remove(root))


def _is_pattern(value: object) -> bool:
    """Whether a value is a regular expression that every schema validator knows."""
    if not isinstance(value, str):
        return False
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError):
        return False
    return not _NOT_PORTABLE.search(value.replace("\\\\", ""))  # without escaped backslashes


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _as_list(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
