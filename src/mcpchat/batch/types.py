"""A batch: many requests, one a line, and their results, one a line; as values."""

import base64
import binascii
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from mcpchat.core.jsonl_protocol import DIALECT, decoded, versioned
from mcpchat.core.messages import Image, Message, Part, Text
from mcpchat.core.report import Fault, Report
from mcpchat.errors import UsageError
from mcpchat.util import struct_schema
from mcpchat.util.sanitize import visible

LONGEST_LINE = 50_000_000  # bytes: images stand in it


class Said(Struct, frozen=True, kw_only=True):
    """A message as OpenAI's APIs write them. ``content`` is a text, or parts: texts, and images as data: URLs."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[dict[str, Any]]


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line: a ``prompt``, or ``messages`` of which the last is the user's.

    ``id`` names its result, the line's number if it has none. ``agent`` and ``model`` are over those of the command
    line; ``schema`` is the JSON Schema that the answer must fit; ``attach`` are files that go along.
    """

    prompt: str = ""
    messages: tuple[Said, ...] = ()
    id: str | int = ""
    agent: str | None = None
    model: str | None = None
    schema: dict[str, Any] | None = None
    attach: tuple[str, ...] = ()


class Asked(Struct, frozen=True, kw_only=True):
    """A request that can be run: its line, its name, what the model is told before, what is said."""

    line: int
    id: str
    request: Request
    system: str = ""
    said: tuple[Message, ...] = ()


class Result(Report, kw_only=True, tag="result"):
    """What came of one request."""

    id: str = ""
    line: int = 0


class _Key(Struct, frozen=True, kw_only=True):
    """What a result that was written must say to be gone on from."""

    type: Literal["result"]
    id: str
    line: int
    error: Fault | UnsetType = UNSET


_REQUESTS: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_KEYS: msgspec.json.Decoder[_Key] = msgspec.json.Decoder(_Key)


def read_request(line: int, data: bytes | None) -> Asked:
    """The request of a line; a plain JSON string is a prompt. Raises UsageError."""
    if data is None:
        raise UsageError(f"the line holds more than {LONGEST_LINE:,} bytes")
    try:
        if data.lstrip().startswith(b'"'):
            request = Request(prompt=decoded(data, msgspec.json.Decoder(str)))
        else:
            request = decoded(data, _REQUESTS)
    except (ValueError, RecursionError) as error:
        hint = 'a line is {"prompt": "..."}, or {"messages": [...]}; mcpchat schema batch has all of it'
        raise UsageError(f"not a request: {error}", hint=hint) from error
    name = str(request.id) if request.id != "" else str(line)
    if "-" in request.attach:
        raise UsageError("cannot attach -: standard input is no file of a request")
    if bool(request.prompt.strip()) == bool(request.messages):
        raise UsageError("a request has a prompt or messages, one of the two", hint='{"prompt": "..."}')
    if request.prompt.strip():
        return Asked(
            line=line, id=name, request=request, said=(_message("user", (Text(text=visible(request.prompt)),)),)
        )
    told = [_content(one) for one in request.messages if one.role in {"system", "developer"}]
    said = [_message(one.role, _content(one)) for one in request.messages if one.role in {"user", "assistant"}]
    if not said or said[-1].role != "user":
        raise UsageError("the last of the messages must be the user's")
    if not any(not isinstance(part, Text) or part.text.strip() for part in said[-1].parts):
        raise UsageError("the last of the messages is empty")
    system = "\n\n".join(part.text for parts in told for part in parts if isinstance(part, Text))
    return Asked(line=line, id=name, request=request, system=system, said=tuple(said))


def _message(role: str, parts: tuple[Part, ...]) -> Message:
    return Message(role="assistant" if role == "assistant" else "user", parts=parts)


def _content(said: Said) -> tuple[Part, ...]:
    if isinstance(said.content, str):
        return (Text(text=visible(said.content)),)
    return tuple(_part(part) for part in said.content)


def _part(part: dict[str, Any]) -> Part:
    match part:
        case {"type": "text" | "input_text" | "output_text", "text": str(text)}:
            return Text(text=visible(text))
        case {"type": "image_url", "image_url": {"url": str(url)}} | {"type": "input_image", "image_url": str(url)}:
            return _image(url)
        case _:
            raise UsageError(
                f"a part of the type {part.get('type')!r} cannot be sent",
                hint="text and image_url (a data: URL) can; attach files",
            )


def _image(url: str) -> Image:
    kind, comma, data = url.removeprefix("data:").partition(";base64,")
    if not url.startswith("data:image/") or not comma:
        raise UsageError("an image_url must be a data: URL in base64", hint="attach names files")
    try:
        return Image(media_type=kind, data=base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError) as error:
        raise UsageError("an image_url is not base64") from error


def key_of(name: str, line: int) -> str:
    """What a request is told apart by: its id, or its line's number where that is all it has."""
    return f"#{line}" if name == str(line) else f"={name}"


def name_of(line: int, data: bytes | None) -> str:
    """The id of a line that is no request, as far as it has one."""
    try:
        found = msgspec.json.decode(data or b"")
    except (ValueError, RecursionError):
        found = None
    given = found.get("id", "") if isinstance(found, dict) else ""
    return str(given) if isinstance(given, str | int) and given != "" else str(line)


def read_key(data: bytes) -> tuple[str, bool, int] | None:
    """Of a result that was written: its key, whether it is one of success, its line; None where it is no whole one."""
    try:
        key = _KEYS.decode(data)
    except (ValueError, RecursionError):
        return None
    return key_of(key.id, key.line), key.error is UNSET, key.line


def of_report(asked: Asked, report: Report) -> Result:
    fields = {name: getattr(report, name) for name in Report.__struct_fields__}
    return Result(id=asked.id, line=asked.line, **fields)


def with_files(asked: Asked, files: tuple[Part, ...]) -> Asked:
    """The request, with the files behind its last message."""
    last = asked.said[-1]
    return replace(asked, said=(*asked.said[:-1], replace(last, parts=(*last.parts, *files))))


class Shard(Struct, frozen=True, kw_only=True):
    """The part of the lines that one of several machines takes: every ``of``-th, from ``number`` on, which is 1 to
    ``of``."""

    number: int = 1
    of: int = 1

    def __contains__(self, line: int) -> bool:
        return (line - self.number) % self.of == 0


ALL = Shard()


def read_shard(text: str) -> Shard:
    """From K/N. Raises UsageError."""
    number, _, of = text.partition("/")
    if not (number.isascii() and number.isdigit() and of.isascii() and of.isdigit() and 1 <= int(number) <= int(of)):
        raise UsageError(f"--shard {text}: expected K/N, such as 1/4 to 4/4")
    return Shard(number=int(number), of=int(of))


def request_schema() -> dict[str, Any]:
    """What ``batch`` reads, a line each."""
    return {"$schema": DIALECT, **struct_schema.json_schema(Request)}


def result_schema() -> dict[str, Any]:
    """What ``batch`` writes, a line each."""
    return versioned(Result)
