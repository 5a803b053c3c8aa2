"""JSON Schemas of our types, the same on every Python."""

from typing import Any

import msgspec


def json_schema(kind: Any) -> dict[str, Any]:
    """The JSON Schema of a type, each description on one line: Pythons differ in how they indent docstrings."""
    schema = msgspec.json.schema(kind)
    for definition in schema.get("$defs", {}).values():
        for described in (definition, *definition.get("properties", {}).values()):
            if "description" in described:
                described["description"] = " ".join(described["description"].split())
    return schema
