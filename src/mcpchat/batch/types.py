"""Requests and results of a batch, one JSON object per line: their types and how they are parsed."""

import base64
import binascii
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from mcpchat.core.jsonl_protocol import DIALECT, decode_json, versioned_schema
from mcpchat.core.messages import Image, Message, Part, Text
from mcpchat.core.report import ErrorReport, Report
from mcpchat.errors import UsageError
from mcpchat.util import struct_schema
from mcpchat.util.sanitize import strip_invisible

MAX_LINE_BYTES = 50_000_000  # lines can contain images


class InputMessage(Struct, frozen=True, kw_only=True):
    """A message in the format of OpenAI's APIs. ``content`` is a text, or a list of texts and images (data: URLs)."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[dict[str, Any]]


class BatchRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of input: a ``prompt``, or ``messages`` of which the last is the user's.

    ``id`` names the result; without it the line number does. ``agent`` and ``model`` override those of the command
    line. ``schema`` is the JSON Schema that the answer must fit. ``attach`` lists files to send along. ``answers`` are
    values for the forms of servers, by field.
    """

    prompt: str = ""
    messages: tuple[InputMessage, ...] = ()
    id: str | int = ""
    agent: str | None = None
    model: str | None = None
    schema: dict[str, Any] | None = None
    attach: tuple[str, ...] = ()
    answers: dict[str, Any] = {}


class PreparedRequest(Struct, frozen=True, kw_only=True):
    """A validated request: its line number, its id, the system text and the messages."""

    line: int
    id: str
    source: BatchRequest
    system: str = ""
    messages: tuple[Message, ...] = ()


class BatchResult(Report, kw_only=True, tag="result"):
    """The result of one request."""

    id: str = ""
    line: int = 0


class _ResultKey(Struct, frozen=True, kw_only=True):
    """The fields of a written result that ``--resume`` needs."""

    type: Literal["result"]
    id: str
    line: int
    error: ErrorReport | UnsetType = UNSET


_REQUEST_DECODER: msgspec.json.Decoder[BatchRequest] = msgspec.json.Decoder(BatchRequest)
_RESULT_KEY_DECODER: msgspec.json.Decoder[_ResultKey] = msgspec.json.Decoder(_ResultKey)


def parse_request(line: int, data: bytes | None) -> PreparedRequest:
    """Parse one line; a plain JSON string is a prompt. ``data`` is None for a line that is too long.

    Raises UsageError if the line is not a valid request.
    """
    if data is None:
        raise UsageError(f"the line is longer than {MAX_LINE_BYTES:,} bytes")
    try:
        if data.lstrip().startswith(b'"'):
            request = BatchRequest(prompt=decode_json(data, msgspec.json.Decoder(str)))
        else:
            request = decode_json(data, _REQUEST_DECODER)
    except (ValueError, RecursionError) as error:
        hint = 'a line is {"prompt": "..."}, or {"messages": [...]}; mcpchat schema batch shows the full format'
        raise UsageError(f"not a request: {error}", hint=hint) from error
    name = str(request.id) if request.id != "" else str(line)
    if "-" in request.attach:
        raise UsageError("cannot attach -: a request cannot attach standard input")
    if bool(request.prompt.strip()) == bool(request.messages):
        raise UsageError("a request must have either a prompt or messages", hint='{"prompt": "..."}')
    if request.prompt.strip():
        return PreparedRequest(
            line=line,
            id=name,
            source=request,
            messages=(_to_message("user", (Text(text=strip_invisible(request.prompt)),)),),
        )
    system_parts = [_parse_content(message) for message in request.messages if message.role in {"system", "developer"}]
    messages = [
        _to_message(message.role, _parse_content(message))
        for message in request.messages
        if message.role in {"user", "assistant"}
    ]
    if not messages or messages[-1].role != "user":
        raise UsageError("the last message must be the user's")
    if not any(not isinstance(part, Text) or part.text.strip() for part in messages[-1].parts):
        raise UsageError("the last message is empty")
    system = "\n\n".join(part.text for parts in system_parts for part in parts if isinstance(part, Text))
    return PreparedRequest(line=line, id=name, source=request, system=system, messages=tuple(messages))


def _to_message(role: str, parts: tuple[Part, ...]) -> Message:
    return Message(role="assistant" if role == "assistant" else "user", parts=parts)


def _parse_content(message: InputMessage) -> tuple[Part, ...]:
    if isinstance(message.content, str):
        return (Text(text=strip_invisible(message.content)),)
    return tuple(_parse_part(part) for part in message.content)


def _parse_part(part: dict[str, Any]) -> Part:
    match part:
        case {"type": "text" | "input_text" | "output_text", "text": str(text)}:
            return Text(text=strip_invisible(text))
        case {"type": "image_url", "image_url": {"url": str(url)}} | {"type": "input_image", "image_url": str(url)}:
            return _parse_image(url)
        case _:
            raise UsageError(
                f"a part of type {part.get('type')!r} cannot be sent",
                hint="use text or image_url (a data: URL); attach other files with attach",
            )


def _parse_image(url: str) -> Image:
    media_type, comma, data = url.removeprefix("data:").partition(";base64,")
    if not url.startswith("data:image/") or not comma:
        raise UsageError("an image_url must be a data: URL in base64", hint="use attach for files")
    try:
        return Image(media_type=media_type, data=base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError) as error:
        raise UsageError("an image_url is not base64") from error


def request_key(name: str, line: int) -> str:
    """Return the unique key of a request: its id, or its line number if it has no id."""
    return f"#{line}" if name == str(line) else f"={name}"


def request_id(line: int, data: bytes | None) -> str:
    """Return the id of a line that is not a valid request; its line number if it has none."""
    try:
        value = msgspec.json.decode(data or b"")
    except (ValueError, RecursionError):
        value = None
    own_id = value.get("id", "") if isinstance(value, dict) else ""
    return str(own_id) if isinstance(own_id, str | int) and own_id != "" else str(line)


def parse_result_key(data: bytes) -> tuple[str, bool, int] | None:
    """Parse a written result: its key, whether it is a success, and its line number.

    Returns None if the line is not a complete result.
    """
    try:
        key = _RESULT_KEY_DECODER.decode(data)
    except (ValueError, RecursionError):
        return None
    return request_key(key.id, key.line), key.error is UNSET, key.line


def result_from_report(request: PreparedRequest, report: Report) -> BatchResult:
    """Build the result of a request from the report of its turn."""
    fields = {name: getattr(report, name) for name in Report.__struct_fields__}
    return BatchResult(id=request.id, line=request.line, **fields)


def attach_files(request: PreparedRequest, files: tuple[Part, ...]) -> PreparedRequest:
    """Return the request with the files appended to its last message."""
    last = request.messages[-1]
    return replace(request, messages=(*request.messages[:-1], replace(last, parts=(*last.parts, *files))))


class Shard(Struct, frozen=True, kw_only=True):
    """The lines that one of ``count`` machines runs: every ``count``-th line, starting at line ``number``.

    ``number`` is from 1 to ``count``.
    """

    number: int = 1
    count: int = 1

    def __contains__(self, line: int) -> bool:
        return (line - self.number) % self.count == 0


ALL_SHARDS = Shard()


def parse_shard(text: str) -> Shard:
    """Parse ``K/N``. Raises UsageError if it is not valid."""
    number, _, count = text.partition("/")
    if not (
        number.isascii() and number.isdigit() and count.isascii() and count.isdigit() and 1 <= int(number) <= int(count)
    ):
        raise UsageError(f"--shard {text}: expected K/N, such as 1/4 to 4/4")
    return Shard(number=int(number), count=int(count))


def parse_scheduler(address: str) -> tuple[str, int]:
    """The host and the port of a Dask scheduler, ``tcp://HOST:PORT`` or ``tls://HOST:PORT``. Raises UsageError."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port or parts.scheme not in {"tcp", "tls"}:
        raise UsageError(f"--workers {address}: expected tcp://HOST:PORT or tls://HOST:PORT", hint="tcp://HOST:8786")
    return host, port


def request_schema() -> dict[str, Any]:
    """Return the JSON Schema of a line that ``batch`` reads: an object, or a string, which is a prompt."""
    schema = struct_schema.json_schema(BatchRequest)
    return {
        "$schema": DIALECT,
        "anyOf": [{"$ref": schema["$ref"]}, {"type": "string", "minLength": 1}],
        "$defs": schema["$defs"],
    }


def result_schema() -> dict[str, Any]:
    """Return the JSON Schema of a line that ``batch`` writes."""
    return versioned_schema(BatchResult)
