"""A tool's input schema in the form that model APIs accept: any JSON Schema in, an object schema out."""

import json
from collections.abc import Mapping
from typing import Any

_DEEPEST = 32
_MOST_NODES = 5000
_TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_ONES = frozenset({"additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", "items"})
_NUMBERS = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minItems"}
    | {"maxItems", "minProperties", "maxProperties", "minContains", "maxContains"}
)
_TEXTS = frozenset({"title", "description", "format", "pattern", "contentEncoding", "contentMediaType"})
_FLAGS = frozenset({"uniqueItems", "deprecated", "readOnly", "writeOnly"})
_ANY = frozenset({"default", "const", "examples"})
_KEPT_REFS = ("#/$defs/", "#/definitions/", "#/properties/")


def object_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """An object schema that says as much of the given one as a model API takes.

    What is malformed, foreign or endless in it is left out, so that this admits more than the original, never less:
    the original still decides on each call.
    """
    cleaned = _Cleaner(schema).root()
    try:
        json.dumps(cleaned, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a character, which JSON can spell and nothing can send
        cleaned = json.loads(json.dumps(cleaned, ensure_ascii=False).encode(errors="replace"))
    return cleaned


class _Cleaner:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._left = _MOST_NODES

    def root(self) -> dict[str, Any]:
        """The top: model APIs want an object there, without combinations."""
        branches = [dict(self._root)]
        merged: dict[str, Any] = {}
        properties: dict[str, Any] = {}
        required: list[str] = []
        seen = 0
        while branches and seen < _DEEPEST:
            branch = branches.pop(0)
            # A branch of oneOf or anyOf need not be the one: what it requires is required of nobody.
            optional = branch.pop("", False)
            seen += 1
            target = self._target(branch.get("$ref"))
            if isinstance(target, dict) and target is not self._root:
                branches.append({**target, "": optional})
            for key in ("allOf", "anyOf", "oneOf"):
                found = branch.pop(key, None)
                within = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
                branches += [{**one, "": optional or key != "allOf"} for one in within]
            for key in ("not", "if", "then", "else", "enum", "const", "$ref"):
                branch.pop(key, None)
            cleaned = self._clean(branch, 0)
            for name, said in cleaned.pop("properties", {}).items():
                properties.setdefault(name, said)
            required += [name for name in cleaned.pop("required", ()) if not optional and name not in required]
            if optional and "additionalProperties" in cleaned:
                del cleaned["additionalProperties"]
            merged = {**cleaned, **merged}
        merged.pop("items", None)
        result = {**merged, "type": "object", "properties": properties}
        if required := [name for name in required if name in properties]:
            result["required"] = required
        return result

    def _target(self, ref: object) -> object:
        """What a reference within the schema points to, None where it points nowhere."""
        if not isinstance(ref, str) or not ref.startswith("#"):
            return None
        here: Any = self._root
        for piece in ref[1:].split("/")[1:]:
            key = piece.replace("~1", "/").replace("~0", "~")
            if isinstance(here, dict) and key in here:
                here = here[key]
            elif isinstance(here, list) and key.isdecimal() and int(key) < len(here):
                here = here[int(key)]
            else:
                return None
        return here

    def _clean(self, schema: object, depth: int) -> dict[str, Any]:
        self._left -= 1
        if not isinstance(schema, dict) or depth > _DEEPEST or self._left < 0:
            return {}
        cleaned: dict[str, Any] = {}
        for key, value in schema.items():
            if key in _ANY:
                cleaned[key] = value
            elif (kept := self._keyword(key, value, depth)) is not None:
                cleaned[key] = kept
        if "array" in _listed(cleaned.get("type")) and "items" not in cleaned:
            cleaned["items"] = {}
        return cleaned

    def _keyword(self, key: str, value: object, depth: int) -> Any:
        """The keyword's value as it may stay, None where it may not."""
        if key in _MAPS and isinstance(value, dict):
            return {str(name): self._clean(one, depth + 1) for name, one in value.items() if one is not False}
        if key in _LISTS and isinstance(value, list):
            return [self._clean(one, depth + 1) for one in value if one is not False] or None
        if key in _ONES:
            if isinstance(value, bool) and key == "additionalProperties":
                return value
            first = value[0] if isinstance(value, list) and value else value  # a tuple, as older drafts write it
            return self._clean(first, depth + 1)
        return self._plain(key, value, depth)

    def _plain(self, key: str, value: object, depth: int) -> Any:
        if key == "$ref":
            return self._reference(value)
        if key == "type":
            types = [name for name in _listed(value) if name in _TYPES]
            return (types[0] if isinstance(value, str) or len(types) == 1 else types) if types else None
        if key == "required":
            return [name for name in value if isinstance(name, str)] or None if isinstance(value, list) else None
        if key == "enum":
            return value if isinstance(value, list) and value else None
        allowed: tuple[type, ...] = (str,) if key in _TEXTS else (bool,) if key in _FLAGS else ()
        if key in _NUMBERS and not isinstance(value, bool):
            allowed = (int, float)
        return value if allowed and isinstance(value, allowed) else None

    def _reference(self, ref: object) -> str | None:
        found = self._target(ref)
        if isinstance(found, dict) and isinstance(ref, str) and (ref == "#" or ref.startswith(_KEPT_REFS)):
            return ref
        return None


def _listed(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
