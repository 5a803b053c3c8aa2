"""Questions that a server asks of the person: a form by a schema, or an address to visit; and the answers."""

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Literal

from msgspec import Struct

Kind = Literal["text", "number", "integer", "boolean", "choice", "choices"]
_MOST_FIELDS = 50


class Choice(Struct, frozen=True, kw_only=True):
    value: str
    title: str = ""


class Field(Struct, frozen=True, kw_only=True):
    """One value of a form. ``default`` is None where there is none."""

    name: str
    kind: Kind
    title: str = ""
    description: str = ""
    required: bool = False
    default: Any = None
    choices: tuple[Choice, ...] = ()
    limits: dict[str, Any] = {}

    @property
    def expects(self) -> str:
        """What may be typed, in a few words; empty for plain text."""
        said = [_LIMITS[key].format(value) for key, value in self.limits.items() if key in _LIMITS]
        words = {"number": "a number", "integer": "a whole number", "boolean": "yes or no"}.get(self.kind, "")
        if self.kind == "choices":
            words = "any of them, with commas between"
        return ", ".join([words, *said] if words else said)


_LIMITS = {
    "format": "{}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minItems": "at least {} of them",
    "maxItems": "at most {} of them",
}


class Form(Struct, frozen=True, kw_only=True):
    """A server's question. ``schema`` is the one that the answer must fit."""

    server: str
    message: str
    fields: tuple[Field, ...]
    schema: dict[str, Any]


class Visit(Struct, frozen=True, kw_only=True):
    """A server asks the person to open an address. ``url`` is as the server wrote it."""

    server: str
    message: str
    url: str


class Answer(Struct, frozen=True, kw_only=True):
    """``content`` goes with accept alone."""

    action: Literal["accept", "decline", "cancel"]
    content: dict[str, Any] | None = None


class SampleMessage(Struct, frozen=True, kw_only=True):
    role: Literal["user", "assistant"]
    text: str


class SampleRequest(Struct, frozen=True, kw_only=True):
    """A server asks for an answer of the model. ``max_tokens`` bounds it."""

    server: str
    messages: tuple[SampleMessage, ...]
    instructions: str = ""
    max_tokens: int
    temperature: float | None = None


class Sample(Struct, frozen=True, kw_only=True):
    """What the model said. ``cut`` is set where it ends at ``max_tokens``."""

    model: str
    text: str
    cut: bool = False


class BadValue(ValueError):
    """What was typed does not fit the field; the text says what does."""


def fields_of(schema: Mapping[str, Any]) -> tuple[Field, ...]:
    """The form that a flat object schema describes; what it says in no known way becomes plain text."""
    properties = schema.get("properties")
    required = schema.get("required")
    needed = required if isinstance(required, list) else []
    if not isinstance(properties, dict):
        return ()
    return tuple(
        _field(str(name), said if isinstance(said, dict) else {}, name in needed)
        for name, said in list(properties.items())[:_MOST_FIELDS]
    )


def _field(name: str, schema: Mapping[str, Any], required: bool) -> Field:
    declared = schema.get("type")
    items = schema.get("items")
    choices = _choices(schema)
    kind: Kind = "choice" if choices else "text"
    if declared == "array":
        choices = _choices(items) if isinstance(items, dict) else ()
        kind = "choices"
    elif not choices and declared in {"number", "integer", "boolean"}:
        kind = declared
    return Field(
        name=name,
        kind=kind,
        title=_text(schema.get("title")),
        description=_text(schema.get("description")),
        required=required,
        default=schema.get("default"),
        choices=choices,
        limits={key: schema[key] for key in _LIMITS if isinstance(schema.get(key), int | float | str)},
    )


def _choices(schema: Mapping[str, Any]) -> tuple[Choice, ...]:
    for key in ("oneOf", "anyOf"):
        if isinstance(titled := schema.get(key), list):
            return tuple(
                Choice(value=str(one["const"]), title=_text(one.get("title")))
                for one in titled
                if isinstance(one, dict) and "const" in one
            )
    values = schema.get("enum")
    if not isinstance(values, list):
        return ()
    titles = schema.get("enumNames")
    named = titles if isinstance(titles, list) and len(titles) == len(values) else [""] * len(values)
    return tuple(Choice(value=str(value), title=_text(title)) for value, title in zip(values, named, strict=True))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def read_value(field: Field, typed: str) -> Any:
    """The value that was typed; None for an empty line where the field may be left out. Raises BadValue."""
    typed = typed if field.kind == "text" else typed.strip()
    if not typed:
        if field.default is not None:
            return field.default
        if field.required:
            raise BadValue("it is required")
        return None
    match field.kind:
        case "boolean":
            return _boolean(typed)
        case "integer" | "number":
            return _number(field, typed)
        case "choice":
            return _chosen(field, typed)
        case "choices":
            picked = [_chosen(field, piece.strip()) for piece in typed.split(",") if piece.strip()]
            _within(field, len(picked), "minItems", "maxItems")
            return picked
        case "text":
            _within(field, len(typed), "minLength", "maxLength")
            _of_format(field.limits.get("format"), typed)
            return typed


def _boolean(typed: str) -> bool:
    word = typed.lower()
    if word in {"y", "yes", "true", "1", "on"}:
        return True
    if word in {"n", "no", "false", "0", "off"}:
        return False
    raise BadValue("expected yes or no")


def _number(field: Field, typed: str) -> int | float:
    try:
        value = int(typed) if field.kind == "integer" else float(typed)
    except ValueError as error:
        raise BadValue("expected a whole number" if field.kind == "integer" else "expected a number") from error
    if value != value or value in {float("inf"), float("-inf")}:
        raise BadValue("expected a number")
    _within(field, value, "minimum", "maximum")
    return int(value) if isinstance(value, float) and value.is_integer() and "." not in typed else value


def _of_format(name: object, typed: str) -> None:
    try:
        match name:
            case "email" if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", typed):
                raise BadValue("expected an e-mail address")
            case "uri" if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:\S+", typed):
                raise BadValue("expected an address, such as https://example.com")
            case "date":
                date.fromisoformat(typed)
            case "date-time":
                datetime.fromisoformat(typed)
    except BadValue:
        raise
    except ValueError as error:
        raise BadValue("expected 2026-12-31" + ("" if name == "date" else "T23:59:00Z")) from error


def _chosen(field: Field, typed: str) -> str:
    """A choice by its number, its value or its title."""
    if typed.isdecimal() and 1 <= int(typed) <= len(field.choices):
        by_value = [choice.value for choice in field.choices if choice.value == typed]
        return by_value[0] if by_value else field.choices[int(typed) - 1].value
    for choice in field.choices:
        if typed.lower() in {choice.value.lower(), choice.title.lower()}:
            return choice.value
    if not field.choices:
        return typed
    raise BadValue(f"expected one of {', '.join(choice.value for choice in field.choices[:20])}")


def _within(field: Field, value: float, least: str, most: str) -> None:
    low, high = field.limits.get(least), field.limits.get(most)
    if isinstance(low, int | float) and value < low:
        raise BadValue(_LIMITS[least].format(low))
    if isinstance(high, int | float) and value > high:
        raise BadValue(_LIMITS[most].format(high))


def shown(field: Field, value: object) -> str:
    """A value as a person would type it."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(str(item) for item in value)
        case _:
            return str(value)
