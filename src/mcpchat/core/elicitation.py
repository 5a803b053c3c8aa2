"""Requests of a server to the user or the model: forms, URLs to open, sampling; and their results."""

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Literal

from msgspec import Struct

FieldKind = Literal["text", "number", "integer", "boolean", "choice", "choices"]
_MAX_FIELDS = 50


class Choice(Struct, frozen=True, kw_only=True):
    value: str
    title: str = ""


class Field(Struct, frozen=True, kw_only=True):
    """One field of a form. ``default`` is None if the field has no default."""

    name: str
    kind: FieldKind
    title: str = ""
    description: str = ""
    required: bool = False
    default: Any = None
    choices: tuple[Choice, ...] = ()
    limits: dict[str, Any] = {}

    @property
    def input_hint(self) -> str:
        """A short description of valid input; empty for plain text."""
        hints = [_LIMIT_HINTS[key].format(value) for key, value in self.limits.items() if key in _LIMIT_HINTS]
        kind_hint = {"number": "a number", "integer": "a whole number", "boolean": "yes or no"}.get(self.kind, "")
        if self.kind == "choices":
            kind_hint = "any of them, separated by commas"
        return ", ".join([kind_hint, *hints] if kind_hint else hints)


_LIMIT_HINTS = {
    "format": "{}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minItems": "at least {} of them",
    "maxItems": "at most {} of them",
}


class Form(Struct, frozen=True, kw_only=True):
    """A form that a server asks the user to fill in. The answer must match ``schema``."""

    server: str
    message: str
    fields: tuple[Field, ...]
    schema: dict[str, Any]


class UrlRequest(Struct, frozen=True, kw_only=True):
    """A server asks the user to open a URL. ``url`` is exactly what the server sent, and unchecked."""

    server: str
    message: str
    url: str


class ElicitationResult(Struct, frozen=True, kw_only=True):
    """The user's answer. ``content`` is set only if ``action`` is "accept"."""

    action: Literal["accept", "decline", "cancel"]
    content: dict[str, Any] | None = None


class SamplingMessage(Struct, frozen=True, kw_only=True):
    role: Literal["user", "assistant"]
    text: str


class SamplingRequest(Struct, frozen=True, kw_only=True):
    """A server asks the model for an answer of at most ``max_tokens`` tokens."""

    server: str
    messages: tuple[SamplingMessage, ...]
    instructions: str = ""
    max_tokens: int
    temperature: float | None = None


class SamplingResult(Struct, frozen=True, kw_only=True):
    """The model's answer. ``truncated`` is set if it ended at ``max_tokens``."""

    model: str
    text: str
    truncated: bool = False


class InvalidValue(ValueError):
    """The input is not valid for the field; the message says what is expected."""


def parse_fields(schema: Mapping[str, Any]) -> tuple[Field, ...]:
    """The fields that a flat object schema describes, at most 50. A property of unknown type becomes a text field."""
    properties = schema.get("properties")
    required = schema.get("required")
    required_names = required if isinstance(required, list) else []
    if not isinstance(properties, dict):
        return ()
    return tuple(
        _parse_field(str(name), field_schema if isinstance(field_schema, dict) else {}, name in required_names)
        for name, field_schema in list(properties.items())[:_MAX_FIELDS]
    )


def _parse_field(name: str, schema: Mapping[str, Any], required: bool) -> Field:
    declared: Any = schema.get("type")
    if isinstance(declared, list):  # such as ["integer", "null"]
        declared = next((kind for kind in declared if isinstance(kind, str) and kind != "null"), None)
    items = schema.get("items")
    choices = _parse_choices(schema)
    kind: FieldKind = "choice" if choices else "text"
    if declared == "array":
        choices = _parse_choices(items) if isinstance(items, dict) else ()
        kind = "choices"
    elif not choices and declared in ("number", "integer", "boolean"):
        kind = declared
    return Field(
        name=name,
        kind=kind,
        title=_as_text(schema.get("title")),
        description=_as_text(schema.get("description")),
        required=required,
        default=schema.get("default"),
        choices=choices,
        limits={key: schema[key] for key in _LIMIT_HINTS if isinstance(schema.get(key), int | float | str)},
    )


def _parse_choices(schema: Mapping[str, Any]) -> tuple[Choice, ...]:
    for key in ("oneOf", "anyOf"):
        if isinstance(options := schema.get(key), list):
            return tuple(
                Choice(value=str(option["const"]), title=_as_text(option.get("title")))
                for option in options
                if isinstance(option, dict) and "const" in option
            )
    values = schema.get("enum")
    if not isinstance(values, list):
        return ()
    titles = schema.get("enumNames")
    labels = titles if isinstance(titles, list) and len(titles) == len(values) else [""] * len(values)
    return tuple(Choice(value=str(value), title=_as_text(title)) for value, title in zip(values, labels, strict=True))


# As RFC 3339 writes them, which JSON Schema refers to; Python reads more.
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else ""


def read_value(field: Field, typed: str) -> Any:
    """Parse the user's input for a field. Empty input gives the default, or None if the field is optional.

    Raises InvalidValue if the input is not valid for the field.
    """
    typed = typed if field.kind == "text" else typed.strip()
    if not typed:
        if field.default is not None:
            return field.default
        if field.required:
            raise InvalidValue("it is required")
        return None
    match field.kind:
        case "boolean":
            return _parse_boolean(typed)
        case "integer" | "number":
            return _parse_number(field, typed)
        case "choice":
            return _parse_choice(field, typed)
        case "choices":
            values = [_parse_choice(field, part.strip()) for part in typed.split(",") if part.strip()]
            _check_range(field, len(values), "minItems", "maxItems")
            return values
        case "text":
            _check_range(field, len(typed), "minLength", "maxLength")
            _check_format(field.limits.get("format"), typed)
            return typed


def _parse_boolean(typed: str) -> bool:
    answer = typed.lower()
    if answer in {"y", "yes", "true", "1", "on"}:
        return True
    if answer in {"n", "no", "false", "0", "off"}:
        return False
    raise InvalidValue("expected yes or no")


def _parse_number(field: Field, typed: str) -> int | float:
    try:
        value = int(typed) if field.kind == "integer" else float(typed)
    except ValueError as error:
        raise InvalidValue("expected a whole number" if field.kind == "integer" else "expected a number") from error
    if value != value or value in {float("inf"), float("-inf")}:
        raise InvalidValue("expected a number")
    _check_range(field, value, "minimum", "maximum")
    return int(value) if isinstance(value, float) and value.is_integer() and "." not in typed else value


def find_format_error(form: "Form", content: Mapping[str, Any]) -> str:
    """Describe the first text of a form's content that does not have its field's format; empty if all have."""
    for field in form.fields:
        value = content.get(field.name)
        if isinstance(value, str):
            try:
                _check_format(field.limits.get("format"), value)
            except InvalidValue as error:
                return f"{field.name}: {error}"
    return ""


def _check_format(format_name: object, typed: str) -> None:
    try:
        match format_name:
            case "email" if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", typed):
                raise InvalidValue("expected an e-mail address")
            case "uri" if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:\S+", typed):
                raise InvalidValue("expected a URL, such as https://example.com")
            case "date":
                if not _DATE.fullmatch(typed):
                    raise ValueError
                date.fromisoformat(typed)
            case "date-time":
                if not _DATE_TIME.fullmatch(typed):
                    raise ValueError
                datetime.fromisoformat(typed.upper().replace("Z", "+00:00"))
    except InvalidValue:
        raise
    except ValueError as error:
        raise InvalidValue("expected 2026-12-31" + ("" if format_name == "date" else "T23:59:00Z")) from error


def _parse_choice(field: Field, typed: str) -> str:
    """Find a choice by its number, value or title. Raises InvalidValue if none matches."""
    if typed.isdecimal() and len(typed) < 10 and 1 <= int(typed) <= len(field.choices):
        same_values = [choice.value for choice in field.choices if choice.value == typed]
        return same_values[0] if same_values else field.choices[int(typed) - 1].value
    # A value comes before any title, and the exact spelling before another case.
    for fold in (str, str.lower):
        for attribute in ("value", "title"):
            for choice in field.choices:
                if fold(typed) == fold(getattr(choice, attribute)):
                    return choice.value
    if not field.choices:
        return typed
    raise InvalidValue(f"expected one of {', '.join(choice.value for choice in field.choices[:20])}")


def _check_range(field: Field, value: float, min_key: str, max_key: str) -> None:
    low, high = field.limits.get(min_key), field.limits.get(max_key)
    if isinstance(low, int | float) and value < low:
        raise InvalidValue(_LIMIT_HINTS[min_key].format(low))
    if isinstance(high, int | float) and value > high:
        raise InvalidValue(_LIMIT_HINTS[max_key].format(high))


def format_value(field: Field, value: object) -> str:
    """Format a value as the user would type it."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(str(item) for item in value)
        case _:
            return str(value)
