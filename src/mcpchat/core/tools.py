"""Tools: their definitions, their names for users and models, and the parsing of arguments."""

import ast
import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from msgspec import Struct

from mcpchat.core.tool_schema import to_tool_schema
from mcpchat.util.json_problems import describe_json_error
from mcpchat.util.text import closest_matches, did_you_mean, replace_surrogates

OWN_SERVER = "mcpchat"  # the server's name of the tools that mcpchat itself offers; no other server has it
MAX_MODEL_NAME_LENGTH = 64
_INVALID_NAME_CHARS = re.compile(r"[^a-zA-Z0-9_-]+")
_VALID_NAME = re.compile(rf"[a-zA-Z0-9_-]{{1,{MAX_MODEL_NAME_LENGTH}}}")
_LOOKS_HASHED = re.compile(r"_[0-9a-f]{12}")


class Annotations(Struct, frozen=True, kw_only=True):
    """Claims of the server about a tool; None if it makes no claim. They are hints and must not be trusted."""

    read_only: bool | None = None
    destructive: bool | None = None
    idempotent: bool | None = None
    open_world: bool | None = None


class ToolSpec(Struct, frozen=True, kw_only=True):
    """One tool of one server. ``schema`` and ``output_schema`` are exactly what the server sent.

    ``trusted`` and ``account`` come from the config: whether the server's annotations are trusted, and which account it
    uses. ``server_title`` is the server's own title. ``origin`` is the fingerprint of the original definition; it is
    set only if secrets were redacted from the definition. ``task_support`` is whether a server of revision 2025-11-25
    may, or must, run the tool as a task. ``deferred`` is whether the server asks that the model gets the tool only by a
    search, because it is seldom used.
    """

    server: str
    name: str
    title: str = ""
    description: str = ""
    schema: dict[str, Any]
    output_schema: dict[str, Any] | None = None
    annotations: Annotations = Annotations()
    trusted: bool = False
    account: str = ""
    server_title: str = ""
    origin: str = ""
    task_support: Literal["", "optional", "required"] = ""
    deferred: bool = False

    @property
    def definition(self) -> dict[str, Any]:
        """The definition of the tool, with the keys of the protocol."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": self.schema,
            "outputSchema": self.output_schema,
            "annotations": {
                "readOnlyHint": self.annotations.read_only,
                "destructiveHint": self.annotations.destructive,
                "idempotentHint": self.annotations.idempotent,
                "openWorldHint": self.annotations.open_world,
            },
        }

    @property
    def fingerprint(self) -> str:
        """The SHA-256, in hexadecimal digits, of the definition that the server sent, as canonical JSON."""
        if self.origin:
            return self.origin
        text = json.dumps(self.definition, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def qualified_name(self) -> str:
        """The name for users, ``server.tool``. Approval globs match this name."""
        return f"{self.server}.{self.name}"

    @property
    def model_name(self) -> str:
        """The name for models, ``server__tool``: at most 64 characters, only those that every API allows.

        If replacing or cutting characters could make two names equal, the name ends in a hash of the original names.
        """
        return _build_model_name(self.server, self.name)

    @property
    def is_idempotent(self) -> bool:
        """Whether the server claims that repeating a call has no further effect."""
        return self.annotations.idempotent is True

    @property
    def read_only(self) -> bool:
        """Whether a trusted server claims that the tool changes nothing."""
        return self.trusted and self.annotations.read_only is True


@lru_cache(maxsize=1 << 15)
def _build_model_name(server_name: str, tool_name: str) -> str:
    plain = f"{server_name}__{tool_name}"
    ambiguous = "__" in server_name or server_name.endswith("_") or tool_name.startswith("_")
    if not ambiguous and _VALID_NAME.fullmatch(plain) and not _LOOKS_HASHED.fullmatch(plain[-13:]):
        return plain
    plain = _INVALID_NAME_CHARS.sub("_", plain)
    digest = hashlib.sha256(f"{server_name}\0{tool_name}".encode()).hexdigest()[:12]
    return f"{plain[: MAX_MODEL_NAME_LENGTH - 13]}_{digest}"


_CODE_FENCE = re.compile(r"\s*```\w*\s*\n(?P<content>.*?)\n?\s*```\s*", re.DOTALL)
_MAX_LITERAL = 100_000  # characters


class InvalidArguments(ValueError):
    """The arguments of a call are invalid; the message says what is wrong and where."""


def parse_arguments(text: str) -> dict[str, Any]:
    """Parse the arguments that a model wrote. Empty text and null give no arguments.

    JSON within a string or a code fence is decoded, and so are Python's literals (``{'a': True}``), which small models
    write. Raises InvalidArguments if the result is not an object: a wrong guess would call a real tool.
    """
    value: object = text
    for _ in range(2):
        if not isinstance(value, str):
            break
        if not value.strip():
            return {}
        fenced = _CODE_FENCE.fullmatch(value)
        written = fenced["content"] if fenced else value
        try:
            value = json.loads(written, parse_constant=reject_constant, parse_float=_parse_finite)
        except ValueError as error:
            value = _parse_python_literal(written)
            if value is None:
                raise InvalidArguments(f"the arguments are not valid JSON: {describe_json_error(error)}") from error
        except RecursionError as error:
            raise InvalidArguments("the arguments are nested too deeply") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidArguments(f"the arguments must be a JSON object, not {type(value).__name__}")
    encoded = json.dumps(value, ensure_ascii=False)
    clean = replace_surrogates(encoded)  # JSON can spell a lone surrogate, but UTF-8 cannot encode it
    return value if clean == encoded else dict(json.loads(clean))


def _parse_python_literal(text: str) -> dict[str, Any] | None:
    """The value of a dictionary in Python's notation that JSON can express; None for any other text."""
    if not text.lstrip().startswith("{") or len(text) > _MAX_LITERAL:
        return None
    try:
        value = ast.literal_eval(text.strip())
        return value if isinstance(value, dict) and json.loads(json.dumps(value, allow_nan=False)) == value else None
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def read_strings_by_schema(spec: ToolSpec, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Decode strings that stand for another type, such as "3" for an integer or "[1]" for an array.

    Only if the schema allows no string there, and the decoded value has a type that it allows.
    """
    properties = spec.schema.get("properties")
    schemas = properties if isinstance(properties, dict) else {}
    return {name: _read_by_schema(value, _only_types(schemas.get(name))) for name, value in arguments.items()}


def _only_types(schema: object) -> frozenset[str]:
    """The types that a schema allows; empty if it may allow others too."""
    table = schema if isinstance(schema, dict) else {}
    unions = [table[key] for key in ("anyOf", "oneOf") if isinstance(table.get(key), list)]
    is_open = any(not schema_types(branch) for branches in unions for branch in branches)
    return frozenset() if is_open else schema_types(schema)


def _read_by_schema(value: Any, types: Collection[str]) -> Any:
    if not isinstance(value, str) or not types or "string" in types:
        return value
    try:
        decoded = json.loads(value, parse_constant=reject_constant, parse_float=_parse_finite)
    except (ValueError, RecursionError):
        return value
    return decoded if any(_has_type(decoded, kind) for kind in types) else value


def _has_type(value: object, kind: str) -> bool:
    if isinstance(value, bool) or value is None:
        return kind == ("null" if value is None else "boolean")
    python_types: dict[str, type | tuple[type, ...]] = {
        "integer": int, "number": (int, float), "array": list, "object": dict,
    }  # fmt: skip
    return isinstance(value, python_types.get(kind, ()))


def _parse_finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is too large for a number")
    return value


def reject_constant(name: str) -> None:
    """For ``parse_constant``: raises ValueError, because NaN and Infinity are not valid JSON."""
    raise ValueError(f"{name} is not JSON")


def drop_null_arguments(spec: ToolSpec, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Remove null values of optional arguments that do not allow null: models write null for a missing argument."""
    properties = spec.schema.get("properties")
    property_schemas = properties if isinstance(properties, dict) else {}
    required = required_names(spec.schema)

    def is_droppable(name: str) -> bool:
        types = schema_types(property_schemas.get(name))
        return name not in required and bool(types) and "null" not in types

    return {name: value for name, value in arguments.items() if value is not None or not is_droppable(name)}


def describe_arguments(spec: ToolSpec) -> str:
    """One line that lists the arguments of the tool, for error messages to a model or a user."""
    properties = spec.schema.get("properties")
    if not isinstance(properties, dict) or not properties:
        return "it takes no arguments"
    required = required_names(spec.schema)
    names = [f"{name} (required)" if name in required else str(name) for name in properties]
    return "it takes " + ", ".join(names)


def describe_missing_arguments(spec: ToolSpec, arguments: Mapping[str, Any]) -> str:
    """Describe the missing required arguments and their likely misspellings; empty if none is missing."""
    missing = [name for name in required_names(spec.schema) if name not in arguments]
    if not missing:
        return ""
    properties = spec.schema.get("properties")
    unknown = [name for name in arguments if not isinstance(properties, dict) or name not in properties]
    close = {name: matches[0] for name in missing if (matches := closest_matches(name, unknown, 1))}
    names = [f"{name} (not {close[name]})" if name in close else name for name in missing]
    return f"{spec.qualified_name} needs {', '.join(names)}"


def openai_function(spec: ToolSpec) -> dict[str, Any]:
    """The tool as an OpenAI function definition, exactly as it is sent to the model."""
    description = spec.description or spec.title
    return {
        "type": "function",
        "function": {"name": spec.model_name, "description": description, "parameters": to_tool_schema(spec.schema)},
    }


def required_names(schema: Mapping[str, Any]) -> list[str]:
    """The names that an object schema requires; malformed entries are ignored."""
    required = schema.get("required")
    return [name for name in required if isinstance(name, str)] if isinstance(required, list) else []


def schema_types(schema: object, depth: int = 8) -> frozenset[str]:
    """The JSON types that a schema allows; empty if it allows any. Follows unions to ``depth`` levels."""
    if not isinstance(schema, dict) or depth == 0:
        return frozenset()
    declared = schema.get("type")
    if isinstance(declared, str):
        return frozenset({declared})
    if isinstance(declared, list):
        return frozenset(name for name in declared if isinstance(name, str))
    branch_lists = [branches for key in ("anyOf", "oneOf") if isinstance(branches := schema.get(key), list)]
    return frozenset[str]().union(
        *(schema_types(branch, depth - 1) for branches in branch_lists for branch in branches)
    )


def parse_pairs(pairs: Sequence[tuple[str, str]], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Convert ``key=value`` words to arguments of the types in the tool's schema.

    A value stays text if the schema allows a string. Raises InvalidArguments, with the key and the expected type, if a
    value does not match.
    """
    properties = schema.get("properties")
    property_schemas = properties if isinstance(properties, dict) else {}
    arguments: dict[str, Any] = {}
    for key, text in pairs:
        if property_schemas and key not in property_schemas and schema.get("additionalProperties") is False:
            raise InvalidArguments(f"no argument named {key!r}{did_you_mean(key, property_schemas)}")
        arguments[key] = _parse_value(key, text, property_schemas.get(key))
    return arguments


def _parse_value(key: str, text: str, schema: object) -> Any:
    types = schema_types(schema)
    if "string" in types:
        return text
    if not types:  # the schema does not say: use JSON if it is valid
        try:
            return json.loads(text)
        except ValueError:
            return text
    try:
        value = json.loads(text)
    except ValueError:
        value = None if "null" in types and text == "" else text
    if _admits(types, value):
        return value
    if "array" in types and not isinstance(value, dict):
        items = schema.get("items") if isinstance(schema, dict) else None
        if schema_types(items) & {"array", "object"}:
            raise InvalidArguments(f"{key}={text}: expected JSON, such as {key}='{_format_example(schema)}'")
        return [_parse_value(key, part.strip(), items) for part in text.split(",")]
    raise InvalidArguments(f"{key}={text}: expected {' or '.join(sorted(types))}")


def _format_example(schema: object) -> str:
    """An example value for an array schema, as JSON: its first own example, if it has one."""
    examples = schema.get("examples") if isinstance(schema, dict) else None
    if isinstance(examples, list) and examples:
        return json.dumps(examples[0], ensure_ascii=False)
    items = schema.get("items") if isinstance(schema, dict) else None
    return '[["a", 1]]' if "array" in schema_types(items) else '[{"a": 1}]'


def _admits(types: frozenset[str], value: object) -> bool:
    match value:
        case None:
            return "null" in types
        case bool():
            return "boolean" in types
        case int():
            return bool(types & {"integer", "number"})
        case float():
            return "number" in types
        case list():
            return "array" in types
        case dict():
            return "object" in types
        case _:
            return False
