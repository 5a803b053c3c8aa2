"""Converts the protocol's JSON into our values. Malformed fields are ignored; only their usable part is kept."""

import base64
import json
from collections.abc import Mapping
from typing import Any, Literal

from msgspec.structs import replace

from mcpchat.core.catalog import Prompt, PromptArgument, Resource, ResourceTemplate, ServerInfo
from mcpchat.core.elicitation import Form, SamplingMessage, UrlRequest, parse_fields
from mcpchat.core.messages import Audio, Content, File, Image, Link, Message, Text, ToolResult
from mcpchat.core.tools import Annotations, ToolSpec
from mcpchat.util.structures import MAX_RESULT_DEPTH, exceeds_depth

Raw = Mapping[str, Any]
DEFERRED_META_KEY = "mcpchat/deferLoading"  # in a tool's _meta: the model gets it only by a search
TASK_CALLS = "tasks.requests.tools.call"  # the capability to run tools as tasks, of revision 2025-11-25
_MAX_PARTS = 2000  # content parts of one result


def parse_server_info(result: Raw, revision: str, capabilities: Raw) -> ServerInfo:
    """From an initialize or discover result."""
    meta = _as_dict(result.get("_meta"))
    info = _as_dict(result.get("serverInfo")) or _as_dict(meta.get("io.modelcontextprotocol/serverInfo"))
    nested = _as_dict(result.get("capabilities"))
    flags = [f"{kind}.{flag}" for kind in capabilities for flag, on in _as_dict(nested.get(kind)).items() if on is True]
    requests = _as_dict(_as_dict(nested.get("tasks")).get("requests"))
    if isinstance(_as_dict(requests.get("tools")).get("call"), dict):
        flags.append(TASK_CALLS)
    return ServerInfo(
        name=_get_text(info, "name"),
        title=_get_text(info, "title"),
        version=_get_text(info, "version"),
        revision=revision,
        instructions=_get_text(result, "instructions"),
        capabilities=tuple(sorted([*capabilities, *flags]))[:100],
    )


def parse_tool(server: str, raw: Raw) -> ToolSpec:
    hints = _as_dict(raw.get("annotations"))
    schema, output = raw.get("inputSchema"), raw.get("outputSchema")
    spec = ToolSpec(
        server=server,
        name=raw["name"],
        title=_get_text(raw, "title") or _get_text(hints, "title"),
        description=_get_text(raw, "description"),
        schema=schema if isinstance(schema, dict) else {},
        output_schema=output if isinstance(output, dict) else None,
        annotations=Annotations(
            read_only=_get_bool(hints, "readOnlyHint"),
            destructive=_get_bool(hints, "destructiveHint"),
            idempotent=_get_bool(hints, "idempotentHint"),
            open_world=_get_bool(hints, "openWorldHint"),
        ),
        task_support=parse_task_support(raw),
        deferred=_get_bool(_as_dict(raw.get("_meta")), DEFERRED_META_KEY) is True,
    )
    return replace(spec, origin=spec.fingerprint)


def parse_task_support(raw: Raw) -> Literal["", "optional", "required"]:
    """Whether a tool may, or must, be run as a task, by a server of revision 2025-11-25."""
    value = _as_dict(raw.get("execution")).get("taskSupport")
    return value if value in {"optional", "required"} else ""


def parse_resource(server: str, raw: Raw) -> Resource:
    size = raw.get("size")
    return Resource(
        server=server,
        uri=raw["uri"],
        name=_get_text(raw, "title") or _get_text(raw, "name"),
        description=_get_text(raw, "description"),
        media_type=_get_text(raw, "mimeType"),
        size=size if isinstance(size, int) else None,
    )


def parse_template(server: str, raw: Raw) -> ResourceTemplate:
    return ResourceTemplate(
        server=server,
        uri=raw["uriTemplate"],
        name=_get_text(raw, "title") or _get_text(raw, "name"),
        description=_get_text(raw, "description"),
        media_type=_get_text(raw, "mimeType"),
    )


def parse_prompt(server: str, raw: Raw) -> Prompt:
    arguments = raw.get("arguments")
    return Prompt(
        server=server,
        name=raw["name"],
        title=_get_text(raw, "title"),
        description=_get_text(raw, "description"),
        arguments=tuple(
            PromptArgument(
                name=argument["name"],
                description=_get_text(argument, "description"),
                required=argument.get("required") is True,
            )
            for argument in (arguments if isinstance(arguments, list) else ())
            if isinstance(argument, dict) and isinstance(argument.get("name"), str)
        ),
    )


def parse_tool_result(call_id: str, raw: Raw) -> ToolResult:
    content = raw.get("content")
    parts = [parse_content(block) for block in content[:_MAX_PARTS]] if isinstance(content, list) else []
    if isinstance(content, list) and len(content) > _MAX_PARTS:
        parts.append(Text(text=f"[{len(content) - _MAX_PARTS:,} more pieces of content left out]"))
    structured = raw.get("structuredContent")
    if exceeds_depth(structured, MAX_RESULT_DEPTH):
        structured = None
        parts.append(Text(text="[a structured result that is nested too deeply to be used]"))
    return ToolResult(
        call_id=call_id,
        parts=tuple(parts),
        structured=structured,
        is_error=raw.get("isError") is True,
    )


def parse_content(block: object) -> Content:
    """One content block; for an unknown type, its JSON as text."""
    raw = _as_dict(block)
    match raw.get("type"):
        case "text" if isinstance(raw.get("text"), str):
            return Text(text=raw["text"])
        case "image" | "audio" as kind if isinstance(raw.get("data"), str):
            return _parse_media(kind, _get_text(raw, "mimeType"), raw["data"])
        case "resource_link" if isinstance(raw.get("uri"), str):
            title = _get_text(raw, "title") or _get_text(raw, "name")
            return Link(uri=raw["uri"], title=title, media_type=_get_text(raw, "mimeType"))
        case "resource":
            resource = _as_dict(raw.get("resource"))
            content = parse_resource_contents(resource)
            return Text(text=f"{_get_text(resource, 'uri')}:\n{content.text}") if isinstance(content, Text) else content
        case _:
            return Text(text=block if isinstance(block, str) else json.dumps(block, ensure_ascii=False))


def parse_resource_contents(raw: Raw) -> Content:
    """A resource's content: text, image, audio or PDF; for other types a link to it."""
    uri, media_type = _get_text(raw, "uri"), _get_text(raw, "mimeType") or "application/octet-stream"
    if isinstance(raw.get("text"), str):
        return Text(text=raw["text"])
    blob = raw.get("blob")
    kind = media_type.partition("/")[0]
    if isinstance(blob, str) and kind in {"image", "audio"}:
        return _parse_media(kind, media_type, blob)
    if isinstance(blob, str) and (kind == "text" or media_type in {"application/json", "application/xml"}):
        return Text(text=_decode_base64(blob).decode(errors="replace"))
    if isinstance(blob, str) and media_type == "application/pdf" and (data := _decode_base64(blob)):
        return File(media_type=media_type, data=data, name=uri.rpartition("/")[2])
    size = f", {len(_decode_base64(blob)):,} bytes" if isinstance(blob, str) else ""
    return Link(uri=uri, title=f"{media_type}{size}", media_type=media_type)


def _parse_media(kind: str, media_type: str, data: str) -> Text | Image | Audio:
    decoded = _decode_base64(data)
    if not decoded:
        return Text(text=f"[{kind} that cannot be decoded]")
    if kind == "image":
        return Image(media_type=media_type or "image/png", data=decoded)
    return Audio(media_type=media_type or "audio/wav", data=decoded)


def parse_prompt_messages(raw: Raw) -> tuple[Message, ...]:
    messages = raw.get("messages")
    return tuple(
        Message(
            role="assistant" if message.get("role") == "assistant" else "user",
            parts=(parse_content(message.get("content")),),
        )
        for message in (messages if isinstance(messages, list) else ())
        if isinstance(message, dict)
    )


def parse_completions(raw: Raw) -> tuple[str, ...]:
    values = _as_dict(raw.get("completion")).get("values")
    return tuple(value for value in values if isinstance(value, str)) if isinstance(values, list) else ()


def parse_form(server: str, message: str, schema: Raw) -> Form:
    return Form(server=server, message=message, fields=parse_fields(schema), schema=dict(schema))


def parse_url_request(server: str, raw: Raw) -> UrlRequest:
    return UrlRequest(server=server, message=_get_text(raw, "message"), url=_get_text(raw, "url"))


def parse_sampling_message(role: str, content: object) -> SamplingMessage:
    blocks = content if isinstance(content, list) else [content]
    parts = [parse_content(block) for block in blocks]
    text = "\n".join(part.text if isinstance(part, Text) else f"[{type(part).__name__.lower()}]" for part in parts)
    known_role: Literal["user", "assistant"] = "assistant" if role == "assistant" else "user"
    return SamplingMessage(role=known_role, text=text)


def _decode_base64(data: str) -> bytes:
    try:
        return base64.b64decode(data)
    except ValueError:
        return b""


def _as_dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _get_text(raw: Raw, key: str) -> str:
    value = raw.get(key)
    return value if isinstance(value, str) else ""


def _get_bool(raw: Raw, key: str) -> bool | None:
    value = raw.get(key)
    return value if isinstance(value, bool) else None
