"""The JSON lines protocol for scripts: input lines, output lines other than events, and their JSON Schemas."""

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from mcpchat.core.elicitation import Form, UrlRequest
from mcpchat.core.events import VERSION, Event
from mcpchat.core.messages import ToolResult
from mcpchat.core.policy import ApprovalRequest
from mcpchat.core.report import ErrorReport, Report
from mcpchat.util import struct_schema
from mcpchat.util.text import replace_surrogates

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_LINE_BYTES = 10_000_000  # bytes


class _InputBase(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class SendMessage(_InputBase, frozen=True, kw_only=True, tag="message"):
    """A user message; it starts one turn. ``attach`` lists files to attach; ``id`` is chosen by the script."""

    text: str
    attach: tuple[str, ...] = ()
    id: str = ""


class Cancel(_InputBase, frozen=True, kw_only=True, tag="cancel"):
    """Cancel the running turn or call. Queued lines stay queued."""


class Approve(_InputBase, frozen=True, kw_only=True, tag="approval"):
    """The answer to ``approval.requested``. ``arguments`` replace the arguments of the call."""

    id: str
    allow: bool
    reason: str = ""
    remember: Literal["", "session", "always"] = ""
    arguments: dict[str, Any] | None = None


class Elicit(_InputBase, frozen=True, kw_only=True, tag="elicitation"):
    """The answer to ``elicitation.requested``. ``content`` is allowed only if ``action`` is "accept"."""

    id: str
    action: Literal["accept", "decline", "cancel"]
    content: dict[str, Any] | None = None


class Confirm(_InputBase, frozen=True, kw_only=True, tag="confirmation"):
    """The answer to ``confirmation.requested``."""

    id: str
    yes: bool


class SwitchAgent(_InputBase, frozen=True, kw_only=True, tag="agent"):
    """Use this agent from the next message on."""

    name: str
    id: str = ""


class SwitchModel(_InputBase, frozen=True, kw_only=True, tag="model"):
    """Use this model from the next message on."""

    name: str
    id: str = ""


class CallTool(_InputBase, frozen=True, kw_only=True, tag="call"):
    """Call the tool ``server.tool`` without the model, under the session's rules. It does not enter the history."""

    tool: str
    arguments: dict[str, Any] = {}
    id: str = ""


InputLine = SendMessage | Cancel | Approve | Elicit | Confirm | SwitchAgent | SwitchModel | CallTool


class InputAccepted(Struct, frozen=True, kw_only=True, tag="input.accepted"):
    """The action of an input line starts now or is done. ``line`` counts from 1, ``id`` is the id in the line."""

    line: int
    id: str = ""


class InputRejected(Struct, frozen=True, kw_only=True, tag="input.rejected"):
    """An input line is invalid or cannot be carried out. It has no effect; the next line is read."""

    line: int
    message: str
    hint: str = ""


class CallFinished(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="call.finished"):
    """The end of a call line, after its ``input.accepted``: a result, or the error that kept the tool from running.

    A result with ``is_error`` is the tool's own failure. ``seconds`` is the duration, with the start of the server and
    with questions.
    """

    line: int
    id: str
    tool: str
    seconds: float
    result: ToolResult | None = None
    error: ErrorReport | None = None


class ApprovalRequested(Struct, frozen=True, kw_only=True, tag="approval.requested"):
    """A call waits for approval.

    ``lasting`` is the longest scope for which a yes may be remembered; ``problem`` is the error in the previous
    answer.
    """

    id: str
    tool: str
    arguments: dict[str, Any]
    rule: str
    lasting: Literal["once", "session", "always"]
    title: str = ""
    description: str = ""
    problem: str = ""


class ElicitationRequested(Struct, frozen=True, kw_only=True, tag="elicitation.requested"):
    """A server asks the user to fill in a form, whose answer must match ``schema``, or to open a ``url``.

    ``problem`` is the error in the previous answer.
    """

    id: str
    server: str
    message: str
    schema: dict[str, Any] | None = None
    url: str = ""
    problem: str = ""


class ConfirmationRequested(Struct, frozen=True, kw_only=True, tag="confirmation.requested"):
    """A server needs permission for ``wish``, or the model wants to continue (``server`` is then empty).

    ``details`` is the full text of the request.
    """

    id: str
    wish: str
    server: str = ""
    details: str = ""


ProtocolEvent = (
    InputAccepted | InputRejected | CallFinished | ApprovalRequested | ElicitationRequested | ConfirmationRequested
)
OutputLine = Event | ProtocolEvent | ErrorReport

_T = TypeVar("_T")
_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_DECODER: msgspec.json.Decoder[InputLine] = msgspec.json.Decoder(InputLine)


def parse_line(data: bytes) -> InputLine:
    """Decode an input line. Raises ValueError, with a message that says what is wrong and where, if it is invalid."""
    return decode_json(data, _DECODER)


def decode_json(data: bytes, decoder: msgspec.json.Decoder[_T]) -> _T:
    """Decode JSON, with lone surrogates replaced. Raises ValueError if it is invalid."""
    try:
        if not data.isascii():
            data.decode()  # raises UnicodeDecodeError; msgspec's own error differs between its versions
        if _LONE_SURROGATE.search(data):
            data = replace_surrogates(json.dumps(json.loads(data), ensure_ascii=False)).encode()
        return decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise ValueError("not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "nested too deeply") from error


def approval_requested(request: ApprovalRequest, request_id: str) -> ApprovalRequested:
    """Build the output line for an approval request."""
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
    """The JSON Schema of one line of this type, with the version field ``v``."""
    schema = struct_schema.json_schema(kind)
    defs = schema.get("$defs", {})
    variants = schema["anyOf"] if "anyOf" in schema else [{"$ref": schema["$ref"]}]
    nested = json.dumps(defs)
    for variant in variants:
        reference = variant["$ref"]
        name = reference.rpartition("/")[2]
        definition = defs[name]
        versioned = {
            **definition,
            "properties": {"v": {"const": VERSION}, **definition["properties"]},
            "required": ["v", *definition.get("required", [])],
        }
        if f'"{reference}"' not in nested:
            defs[name] = versioned
            continue
        # Within another object it has no version.
        defs[f"{name}Line"] = versioned
        schema = _replace_reference(schema, reference)
    return {"$schema": DIALECT, **schema, **({"$defs": defs} if defs else {})}


def _replace_reference(schema: Mapping[str, Any], reference: str) -> dict[str, Any]:
    """The schema whose root refers to the definition of a whole line."""
    root = {key: value for key, value in schema.items() if key != "$defs"}
    return dict(json.loads(json.dumps(root).replace(f'"{reference}"', f'"{reference}Line"')))


def output_schema() -> dict[str, Any]:
    """The JSON Schema of a line that ``ask -o jsonl`` writes."""
    return versioned_schema(OutputLine)


def input_schema() -> dict[str, Any]:
    """The JSON Schema of a line that ``ask --input-format jsonl`` reads."""
    return {"$schema": DIALECT, **struct_schema.json_schema(InputLine)}


def answer_schema() -> dict[str, Any]:
    """The JSON Schema of the object that ``ask -o json`` writes: an answer or an error."""
    return versioned_schema(Report | ErrorReport)
