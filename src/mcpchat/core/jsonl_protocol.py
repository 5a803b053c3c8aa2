"""The lines of a long-lived process: what a script writes, what it reads besides the events, and their JSON forms."""

import json
import re
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from mcpchat.core.elicitation import Form, UrlRequest
from mcpchat.core.events import VERSION, Event
from mcpchat.core.policy import ApprovalRequest
from mcpchat.core.report import ErrorReport, Report
from mcpchat.util import struct_schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_LINE_BYTES = 10_000_000  # bytes


class _InputBase(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class SendMessage(_InputBase, frozen=True, kw_only=True, tag="message"):
    """A message of the user: one turn. ``attach`` are files that go along; ``id`` is the script's own."""

    text: str
    attach: tuple[str, ...] = ()
    id: str = ""


class Cancel(_InputBase, frozen=True, kw_only=True, tag="cancel"):
    """End the turn that runs; what waits stays."""


class Approve(_InputBase, frozen=True, kw_only=True, tag="approval"):
    """The answer to ``approval.requested``. ``arguments`` are what the call is to run with instead."""

    id: str
    allow: bool
    reason: str = ""
    remember: Literal["", "session", "always"] = ""
    arguments: dict[str, Any] | None = None


class Elicit(_InputBase, frozen=True, kw_only=True, tag="elicitation"):
    """The answer to ``elicitation.requested``; ``content`` goes with accept alone."""

    id: str
    action: Literal["accept", "decline", "cancel"]
    content: dict[str, Any] | None = None


class Confirm(_InputBase, frozen=True, kw_only=True, tag="confirmation"):
    """The answer to ``confirmation.requested``."""

    id: str
    yes: bool


class SwitchAgent(_InputBase, frozen=True, kw_only=True, tag="agent"):
    """Go on with this agent, from the next message on."""

    name: str
    id: str = ""


class SwitchModel(_InputBase, frozen=True, kw_only=True, tag="model"):
    """Go on with this model, from the next message on."""

    name: str
    id: str = ""


InputLine = SendMessage | Cancel | Approve | Elicit | Confirm | SwitchAgent | SwitchModel


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


ProtocolEvent = InputAccepted | InputRejected | ApprovalRequested | ElicitationRequested | ConfirmationRequested
OutputLine = Event | ProtocolEvent | ErrorReport

_T = TypeVar("_T")
_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_DECODER: msgspec.json.Decoder[InputLine] = msgspec.json.Decoder(InputLine)


def parse_line(data: bytes) -> InputLine:
    """What the line says. Raises ValueError, with words on what is wrong and where."""
    return decode_json(data, _DECODER)


def decode_json(data: bytes, decoder: msgspec.json.Decoder[_T]) -> _T:
    """The value in the JSON; half a character, which JSON can spell, is a question mark. Raises ValueError."""
    try:
        if _LONE_SURROGATE.search(data):
            data = json.dumps(json.loads(data), ensure_ascii=False).encode(errors="replace")
        return decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise ValueError("not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "nested too deeply") from error


def approval_requested(request: ApprovalRequest, request_id: str) -> ApprovalRequested:
    tool = request.tool
    return ApprovalRequested(
        id=request_id,
        tool=tool.qualified_name,
        arguments=request.arguments,
        rule=request.rule,
        lasting=request.max_scope,
        title=tool.title,
        description=tool.description,
        problem=request.error,
    )


def elicitation_requested(request: Form | UrlRequest, request_id: str, problem: str) -> ElicitationRequested:
    return ElicitationRequested(
        id=request_id,
        server=request.server,
        message=request.message,
        schema=request.schema if isinstance(request, Form) else None,
        url=request.url if isinstance(request, UrlRequest) else "",
        problem=problem,
    )


def versioned_schema(kind: Any) -> dict[str, Any]:
    """The JSON Schema of one line of this type, version and all."""
    schema = struct_schema.json_schema(kind)
    defs = schema.get("$defs", {})
    variants = schema["anyOf"] if "anyOf" in schema else [{"$ref": schema["$ref"]}]
    for variant in variants:
        definition = defs[variant["$ref"].rpartition("/")[2]]
        definition["properties"] = {"v": {"const": VERSION}, **definition["properties"]}
        definition["required"] = ["v", *definition.get("required", [])]
    return {"$schema": DIALECT, **schema}


def output_schema() -> dict[str, Any]:
    """What ``ask -o jsonl`` writes, a line each."""
    return versioned_schema(OutputLine)


def input_schema() -> dict[str, Any]:
    """What ``ask --input-format jsonl`` reads, a line each."""
    return {"$schema": DIALECT, **struct_schema.json_schema(InputLine)}


def answer_schema() -> dict[str, Any]:
    """What ``ask -o json`` writes: an answer, or an error."""
    return versioned_schema(Report | ErrorReport)
