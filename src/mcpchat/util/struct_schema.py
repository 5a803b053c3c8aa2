"""JSON Schemas of our types, identical on every Python version."""

from typing import Any

import msgspec


def json_schema(kind: Any) -> dict[str, Any]:
    """The JSON Schema of a type. Descriptions are joined to one line: Python versions indent docstrings differently."""
    schema = msgspec.json.schema(kind)
    for definition in schema.get("$defs", {}).values():
        for described in (definition, *definition.get("properties", {}).values()):
            if "description" in described:
                described["description"] = " ".join(described["description"].split())
    return schema
