"""The protocol's results as our values, taking from each what is usable."""

import base64
import json
from collections.abc import Mapping
from typing import Any, Literal

from msgspec.structs import replace

from mcpchat.core.catalog import Prompt, PromptArgument, Resource, ServerInfo, Template
from mcpchat.core.elicitation import Form, SampleMessage, Visit, fields_of
from mcpchat.core.messages import Audio, Content, File, Image, Link, Message, Text, ToolResult
from mcpchat.core.tools import Annotations, ToolSpec
from mcpchat.util.structures import DEEPEST_RESULT, too_deep

Raw = Mapping[str, Any]
_MOST_PARTS = 2000  # of one result


def server_info(result: Raw, revision: str, capabilities: Raw) -> ServerInfo:
    """From an initialize or discover result."""
    meta = _dict(result.get("_meta"))
    said = _dict(result.get("serverInfo")) or _dict(meta.get("io.modelcontextprotocol/serverInfo"))
    nested = _dict(result.get("capabilities"))
    flags = [f"{kind}.{flag}" for kind in capabilities for flag, on in _dict(nested.get(kind)).items() if on is True]
    return ServerInfo(
        name=_text(said, "name"),
        title=_text(said, "title"),
        version=_text(said, "version"),
        revision=revision,
        instructions=_text(result, "instructions"),
        capabilities=tuple(sorted([*capabilities, *flags]))[:100],
    )


def tool(server: str, raw: Raw) -> ToolSpec:
    hints = _dict(raw.get("annotations"))
    schema, output = raw.get("inputSchema"), raw.get("outputSchema")
    spec = ToolSpec(
        server=server,
        name=raw["name"],
        title=_text(raw, "title") or _text(hints, "title"),
        description=_text(raw, "description"),
        schema=schema if isinstance(schema, dict) else {},
        output_schema=output if isinstance(output, dict) else None,
        annotations=Annotations(
            read_only=_flag(hints, "readOnlyHint"),
            destructive=_flag(hints, "destructiveHint"),
            idempotent=_flag(hints, "idempotentHint"),
            open_world=_flag(hints, "openWorldHint"),
        ),
    )
    return replace(spec, origin=spec.fingerprint)


def resource(server: str, raw: Raw) -> Resource:
    size = raw.get("size")
    return Resource(
        server=server,
        uri=raw["uri"],
        name=_text(raw, "title") or _text(raw, "name"),
        description=_text(raw, "description"),
        media_type=_text(raw, "mimeType"),
        size=size if isinstance(size, int) else None,
    )


def template(server: str, raw: Raw) -> Template:
    return Template(
        server=server,
        uri=raw["uriTemplate"],
        name=_text(raw, "title") or _text(raw, "name"),
        description=_text(raw, "description"),
        media_type=_text(raw, "mimeType"),
    )


def prompt(server: str, raw: Raw) -> Prompt:
    arguments = raw.get("arguments")
    return Prompt(
        server=server,
        name=raw["name"],
        title=_text(raw, "title"),
        description=_text(raw, "description"),
        arguments=tuple(
            PromptArgument(
                name=one["name"], description=_text(one, "description"), required=one.get("required") is True
            )
            for one in (arguments if isinstance(arguments, list) else ())
            if isinstance(one, dict) and isinstance(one.get("name"), str)
        ),
    )


def tool_result(call_id: str, raw: Raw) -> ToolResult:
    content = raw.get("content")
    parts = [part(block) for block in content[:_MOST_PARTS]] if isinstance(content, list) else []
    if isinstance(content, list) and len(content) > _MOST_PARTS:
        parts.append(Text(text=f"[{len(content) - _MOST_PARTS:,} more pieces of content left out]"))
    structured = raw.get("structuredContent")
    if too_deep(structured, DEEPEST_RESULT):
        structured = None
        parts.append(Text(text="[a structured result that is nested too deeply to be used]"))
    return ToolResult(
        call_id=call_id,
        parts=tuple(parts),
        structured=structured,
        is_error=raw.get("isError") is True,
    )


def part(block: object) -> Content:
    """One piece of content; of a kind that nobody knows yet, its JSON."""
    raw = _dict(block)
    match raw.get("type"):
        case "text" if isinstance(raw.get("text"), str):
            return Text(text=raw["text"])
        case "image" | "audio" as kind if isinstance(raw.get("data"), str):
            return _media(kind, _text(raw, "mimeType"), raw["data"])
        case "resource_link" if isinstance(raw.get("uri"), str):
            title = _text(raw, "title") or _text(raw, "name")
            return Link(uri=raw["uri"], title=title, media_type=_text(raw, "mimeType"))
        case "resource":
            inside = _dict(raw.get("resource"))
            found = contents(inside)
            return Text(text=f"{_text(inside, 'uri')}:\n{found.text}") if isinstance(found, Text) else found
        case _:
            return Text(text=block if isinstance(block, str) else json.dumps(block, ensure_ascii=False))


def contents(raw: Raw) -> Content:
    """A resource's content: its text, an image, sound or PDF as such, else a link to it."""
    uri, media_type = _text(raw, "uri"), _text(raw, "mimeType") or "application/octet-stream"
    if isinstance(raw.get("text"), str):
        return Text(text=raw["text"])
    blob = raw.get("blob")
    kind = media_type.partition("/")[0]
    if isinstance(blob, str) and kind in {"image", "audio"}:
        return _media(kind, media_type, blob)
    if isinstance(blob, str) and (kind == "text" or media_type in {"application/json", "application/xml"}):
        return Text(text=_bytes(blob).decode(errors="replace"))
    if isinstance(blob, str) and media_type == "application/pdf" and (data := _bytes(blob)):
        return File(media_type=media_type, data=data, name=uri.rpartition("/")[2])
    size = f", {len(_bytes(blob)):,} bytes" if isinstance(blob, str) else ""
    return Link(uri=uri, title=f"{media_type}{size}", media_type=media_type)


def _media(kind: str, media_type: str, data: str) -> Text | Image | Audio:
    decoded = _bytes(data)
    if not decoded:
        return Text(text=f"[{kind} that cannot be decoded]")
    if kind == "image":
        return Image(media_type=media_type or "image/png", data=decoded)
    return Audio(media_type=media_type or "audio/wav", data=decoded)


def prompt_messages(raw: Raw) -> tuple[Message, ...]:
    found = raw.get("messages")
    return tuple(
        Message(role="assistant" if one.get("role") == "assistant" else "user", parts=(part(one.get("content")),))
        for one in (found if isinstance(found, list) else ())
        if isinstance(one, dict)
    )


def completions(raw: Raw) -> tuple[str, ...]:
    values = _dict(raw.get("completion")).get("values")
    return tuple(value for value in values if isinstance(value, str)) if isinstance(values, list) else ()


def form(server: str, message: str, schema: Raw) -> Form:
    return Form(server=server, message=message, fields=fields_of(schema), schema=dict(schema))


def visit(server: str, raw: Raw) -> Visit:
    return Visit(server=server, message=_text(raw, "message"), url=_text(raw, "url"))


def sample_message(role: str, content: object) -> SampleMessage:
    blocks = content if isinstance(content, list) else [content]
    pieces = [part(block) for block in blocks]
    text = "\n".join(piece.text if isinstance(piece, Text) else f"[{type(piece).__name__.lower()}]" for piece in pieces)
    known: Literal["user", "assistant"] = "assistant" if role == "assistant" else "user"
    return SampleMessage(role=known, text=text)


def _bytes(data: str) -> bytes:
    try:
        return base64.b64decode(data)
    except ValueError:
        return b""


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(raw: Raw, key: str) -> str:
    value = raw.get(key)
    return value if isinstance(value, str) else ""


def _flag(raw: Raw, key: str) -> bool | None:
    value = raw.get(key)
    return value if isinstance(value, bool) else None
