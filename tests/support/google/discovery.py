"""Checks requests and answers against Google's discovery documents, as google-api-python-client ships them."""

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.paths import PUBLISHED

FOLDER = PUBLISHED / "discovery"  # from scripts/published.py; without it, nothing is checked
_DOCUMENTS = {
    "/calendar/v3/": "calendar.v3",
    "/drive/v3/": "drive.v3",
    "/gmail/v1/": "gmail.v1",
    "/v1/documents": "docs.v1",
    "/v4/spreadsheets": "sheets.v4",
}
_WRITABLE = {"emailAddress"}  # of a permission: the document says read-only, the guide for sharing says required
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str, "boolean": bool, "integer": int, "number": (int, float), "array": list, "object": dict,
}  # fmt: skip


class Method:
    """A method of an API that a request calls."""

    def __init__(self, document: dict[str, Any], raw: dict[str, Any]) -> None:
        self._schemas, self._global = document["schemas"], document["parameters"]
        self.id, self._raw = raw["id"], raw
        self.scopes = set(raw.get("scopes", ()))

    def check_request(self, target: str, body: bytes) -> Iterator[str]:
        """Yield what is wrong with a request. ``target`` is its path and query."""
        query = parse_qs(urlsplit(target).query, keep_blank_values=True)
        parameters = self._raw.get("parameters", {})
        known = {name: item for name, item in parameters.items() if item["location"] == "query"} | self._global
        for name, values in query.items():
            if name not in known:
                if name != "upload_id":
                    yield f"no parameter {name}"
                continue
            if len(values) > 1 and not known[name].get("repeated"):
                yield f"{name} is repeated"
            for value in values:
                yield from _check_parameter(name, value, known[name])
        yield from (f"{name} is missing" for name, item in known.items() if item.get("required") and name not in query)
        if "fields" in query and "response" in self._raw:
            yield from self._check_mask(query["fields"][0], {"$ref": self._raw["response"]["$ref"]})
        if not body:
            return
        if "request" not in self._raw:
            yield from [f"it takes no body, not {body[:80]!r}"] if body not in {b"{}", b"null"} else []
            return
        yield from self._check_value(json.loads(body), self._raw["request"], "body", is_request=True)

    def check_answer(self, value: Any) -> Iterator[str]:
        """Yield what is wrong with a JSON answer of the double."""
        if "response" in self._raw:
            yield from self._check_value(value, self._raw["response"], "answer", is_request=False)
        elif value not in (None, {}):
            yield f"it has no answer, not {value!r}"

    def _check_value(self, value: Any, schema: dict[str, Any], where: str, *, is_request: bool) -> Iterator[str]:
        schema = self._schemas[schema["$ref"]] if "$ref" in schema else schema
        kind = schema.get("type")
        if kind == "any" or kind is None or (value is None and is_request):  # null removes a value
            return
        if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
            yield f"{where} is not of type {kind}: {value!r}"
        elif kind == "array":
            for number, item in enumerate(value):
                yield from self._check_value(item, schema["items"], f"{where}[{number}]", is_request=is_request)
        elif kind == "object":
            properties, other = schema.get("properties", {}), schema.get("additionalProperties")
            for name, item in value.items():
                inner = properties.get(name, other)
                if inner is None:
                    yield f"{where} has no {name}"
                    continue
                if is_request and inner.get("readOnly") and name not in _WRITABLE:
                    yield f"{where}.{name} cannot be written"
                yield from self._check_value(item, inner, f"{where}.{name}", is_request=is_request)
        elif kind == "string" and "enum" in schema and value not in schema["enum"]:
            yield f"{where} is none of {schema['enum']}: {value!r}"

    def _check_mask(self, mask: str, schema: dict[str, Any]) -> Iterator[str]:
        yield from self._check_fields(parse_mask(mask), schema, "fields")

    def _check_fields(self, tree: dict[str, Any], schema: dict[str, Any], where: str) -> Iterator[str]:
        schema = self._schemas[schema["$ref"]] if "$ref" in schema else schema
        if schema.get("type") == "array":
            yield from self._check_fields(tree, schema["items"], where)
            return
        for name, inner in tree.items():
            found = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if name == "*" or found is None:
                yield from [] if name == "*" else [f"{where} has no {name}"]
            elif inner:
                yield from self._check_fields(inner, found, f"{where}.{name}")


def find_method(verb: str, path: str) -> Method | str | None:
    """Return the method that a request calls, or what is wrong with it; None if there is nothing to check with."""
    path = path.removeprefix("/resumable").removeprefix("/upload")
    name = next((name for prefix, name in _DOCUMENTS.items() if path.startswith(prefix)), None)
    if name is None or not FOLDER.is_dir():
        return None
    document, methods = _load(name)
    matches = [
        (len(template), raw) for template, pattern, raw in methods if raw["httpMethod"] == verb and pattern(path)
    ]
    if not matches:
        return f"{name} has no method for {verb} {path}"
    return Method(document, max(matches, key=lambda match: match[0])[1])


@functools.cache
def _load(name: str) -> tuple[dict[str, Any], list[tuple[str, Any, dict[str, Any]]]]:
    document = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))

    def iterate(resource: dict[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
        for raw in resource.get("methods", {}).values():
            path = f"/{document['servicePath']}{raw['path']}"
            template = re.sub(r"\{\+?\w+\}", "", path)
            pattern = "[^/]+?".join(map(re.escape, re.split(r"\{\+?\w+\}", path)))
            yield template, re.compile(pattern).fullmatch, raw
        for inner in resource.get("resources", {}).values():
            yield from iterate(inner)

    return document, list(iterate(document))


def _check_parameter(name: str, value: str, schema: dict[str, Any]) -> Iterator[str]:
    kind = schema["type"]
    if kind == "boolean" and value not in {"true", "false"}:
        yield f"{name} is not a boolean: {value!r}"
    elif kind == "integer" and not re.fullmatch(r"-?\d+", value):
        yield f"{name} is not a number: {value!r}"
    elif kind == "integer" and not int(schema.get("minimum", value)) <= int(value) <= int(schema.get("maximum", value)):
        yield f"{name} is out of range: {value}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{name} is none of {schema['enum']}: {value!r}"
    elif "pattern" in schema and not re.fullmatch(schema["pattern"], value):
        yield f"{name} does not match {schema['pattern']}: {value!r}"


def parse_mask(mask: str) -> dict[str, Any]:
    """Return the fields of a mask as a tree."""
    tree: dict[str, Any] = {}
    depth, start = 0, 0
    parts = []
    for index, char in enumerate(mask):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append(mask[start:index])
            start = index + 1
    for part in [*parts, mask[start:]]:
        match = re.match(r"([^/(]+)/(.*)$", part) or re.match(r"([^/(]+)\((.*)\)$", part)
        name, rest = (match[1], match[2]) if match else (part, "")
        inner = parse_mask(rest) if rest else {}
        tree[name.strip()] = {**tree.get(name.strip(), {}), **inner}
    return tree
