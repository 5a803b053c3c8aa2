"""The lines of a long-lived process: what a script writes, what it reads besides the events, and their JSON forms."""

import json
import re
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from mcpchat.core.elicitation import Form, Visit
from mcpchat.core.events import VERSION, Event
from mcpchat.core.policy import Question
from mcpchat.core.report import Fault, Report
from mcpchat.util import struct_schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"
LONGEST_LINE = 10_000_000  # bytes


class _In(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Say(_In, frozen=True, kw_only=True, tag="message"):
    """A message of the user: one turn. ``attach`` are files that go along; ``id`` is the script's own."""

    text: str
    attach: tuple[str, ...] = ()
    id: str = ""


class Cancel(_In, frozen=True, kw_only=True, tag="cancel"):
    """End the turn that runs; what waits stays."""


class Approve(_In, frozen=True, kw_only=True, tag="approval"):
    """The answer to ``approval.requested``. ``arguments`` are what the call is to run with instead."""

    id: str
    allow: bool
    reason: str = ""
    remember: Literal["", "session", "always"] = ""
    arguments: dict[str, Any] | None = None


class Elicit(_In, frozen=True, kw_only=True, tag="elicitation"):
    """The answer to ``elicitation.requested``; ``content`` goes with accept alone."""

    id: str
    action: Literal["accept", "decline", "cancel"]
    content: dict[str, Any] | None = None


class Confirm(_In, frozen=True, kw_only=True, tag="confirmation"):
    """The answer to ``confirmation.requested``."""

    id: str
    yes: bool


class ToAgent(_In, frozen=True, kw_only=True, tag="agent"):
    """Go on with this agent, from the next message on."""

    name: str
    id: str = ""


class ToModel(_In, frozen=True, kw_only=True, tag="model"):
    """Go on with this model, from the next message on."""

    name: str
    id: str = ""


Line = Say | Cancel | Approve | Elicit | Confirm | ToAgent | ToModel


class InputAccepted(Struct, frozen=True, kw_only=True, tag="input.accepted"):
    """What a line wants begins now, or is done. ``line`` counts from 1, ``id`` is the line's own."""

    line: int
    id: str = ""


class InputRejected(Struct, frozen=True, kw_only=True, tag="input.rejected"):
    """A line that cannot be understood, or obeyed. Nothing comes of it, and the next one is read."""

    line: int
    message: str
    hint: str = ""


class ApprovalRequested(Struct, frozen=True, kw_only=True, tag="approval.requested"):
    """A call waits for an answer. ``lasting`` is how long a yes may be remembered; ``problem`` what was wrong."""

    id: str
    tool: str
    arguments: dict[str, Any]
    rule: str
    lasting: Literal["once", "session", "always"]
    title: str = ""
    description: str = ""
    problem: str = ""


class ElicitationRequested(Struct, frozen=True, kw_only=True, tag="elicitation.requested"):
    """A server asks something: a form, whose answer must fit ``schema``, or a ``url`` to be visited."""

    id: str
    server: str
    message: str
    schema: dict[str, Any] | None = None
    url: str = ""
    problem: str = ""


class ConfirmationRequested(Struct, frozen=True, kw_only=True, tag="confirmation.requested"):
    """A server asks for something, or the model wants to go on (``server`` is empty); ``details`` is all of it."""

    id: str
    wish: str
    server: str = ""
    details: str = ""


Told = InputAccepted | InputRejected | ApprovalRequested | ElicitationRequested | ConfirmationRequested
Written = Event | Told | Fault

_T = TypeVar("_T")
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_DECODER: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


def read_line(data: bytes) -> Line:
    """What the line says. Raises ValueError, with words on what is wrong and where."""
    return decoded(data, _DECODER)


def decoded(data: bytes, decoder: msgspec.json.Decoder[_T]) -> _T:
    """The value in the JSON; half a character, which JSON can spell, is a question mark. Raises ValueError."""
    try:
        if _HALF.search(data):
            data = json.dumps(json.loads(data), ensure_ascii=False).encode(errors="replace")
        return decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise ValueError("not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "nested too deeply") from error


def asked(question: Question, number: str) -> ApprovalRequested:
    tool = question.tool
    return ApprovalRequested(
        id=number,
        tool=tool.label,
        arguments=question.arguments,
        rule=question.rule,
        lasting=question.lasting,
        title=tool.title,
        description=tool.description,
        problem=question.problem,
    )


def elicited(question: Form | Visit, number: str, problem: str) -> ElicitationRequested:
    return ElicitationRequested(
        id=number,
        server=question.server,
        message=question.message,
        schema=question.schema if isinstance(question, Form) else None,
        url=question.url if isinstance(question, Visit) else "",
        problem=problem,
    )


def versioned(kind: Any) -> dict[str, Any]:
    """The JSON Schema of one line of this type, version and all."""
    schema = struct_schema.json_schema(kind)
    defs = schema.get("$defs", {})
    tops = schema["anyOf"] if "anyOf" in schema else [{"$ref": schema["$ref"]}]
    for top in tops:
        definition = defs[top["$ref"].rpartition("/")[2]]
        definition["properties"] = {"v": {"const": VERSION}, **definition["properties"]}
        definition["required"] = ["v", *definition.get("required", [])]
    return {"$schema": DIALECT, **schema}


def written_schema() -> dict[str, Any]:
    """What ``ask -o jsonl`` writes, a line each."""
    return versioned(Written)


def input_schema() -> dict[str, Any]:
    """What ``ask --input-format jsonl`` reads, a line each."""
    return {"$schema": DIALECT, **struct_schema.json_schema(Line)}


def answer_schema() -> dict[str, Any]:
    """What ``ask -o json`` writes: an answer, or an error."""
    return versioned(Report | Fault)
