"""Answers to the forms of servers that are known beforehand, so that a script can fill them in."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from msgspec import Struct

from mcpchat.core.elicitation import Field, Form, InvalidValue, read_value


class FormAnswers(Struct, frozen=True, kw_only=True):
    """Values by the name of a form's field, or by SERVER.FIELD for the forms of one server.

    ``typed`` are texts that the field reads, as a user types them; ``values`` are of JSON.
    """

    typed: dict[str, str] = {}
    values: dict[str, Any] = {}

    def __bool__(self) -> bool:
        return bool(self.typed or self.values)

    def matches(self, form: Form) -> bool:
        """Whether there is a value for a field of the form."""
        return any(self._find_key(form, field) is not None for field in form.fields)

    def fill_in(self, form: Form) -> dict[str, Any]:
        """The content of the form: our values, and the defaults of the other fields.

        Raises InvalidValue if a typed value is not valid for its field, or a required one is missing.
        """
        content = {}
        for field in form.fields:
            try:
                value = self._read(form, field)
            except InvalidValue as error:
                raise InvalidValue(f"{field.name}: {error}") from error
            if value is not None:
                content[field.name] = value
        return content

    def _find_key(self, form: Form, field: Field) -> str | None:
        names = (f"{form.server}.{field.name}", field.name)
        return next((name for name in names if name in self.typed or name in self.values), None)

    def _read(self, form: Form, field: Field) -> Any:
        key = self._find_key(form, field)
        return self.values[key] if key in self.values else read_value(field, self.typed.get(key or "", ""))


_current: ContextVar[FormAnswers] = ContextVar("form answers")


def current_answers() -> FormAnswers:
    """The answers that hold for the work in progress."""
    return _current.get(FormAnswers())


@contextmanager
def use_answers(answers: FormAnswers) -> Iterator[None]:
    """Let these answers hold inside, and for tasks that are started inside."""
    token = _current.set(answers)
    try:
        yield
    finally:
        _current.reset(token)
