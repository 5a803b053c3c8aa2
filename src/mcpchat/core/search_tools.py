"""The two tools with which a model finds and calls others, and the call within a call of ``call_tool``."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

from mcpchat.core.messages import ToolCall
from mcpchat.core.tools import OWN_SERVER, Annotations, InvalidArguments, ToolSpec, parse_arguments

NO_EFFECT = Annotations(read_only=True, destructive=False, idempotent=True, open_world=False)

SEARCH_TOOLS = ToolSpec(
    server=OWN_SERVER,
    name="search_tools",
    title="Search the tools",
    description=(
        "Find tools by what they do. Returns up to 10 tools with their input schemas; call one with "
        f"{OWN_SERVER}__call_tool. Describe what the tool does in a few words, not the data of the task."
    ),
    schema={
        "type": "object",
        "properties": {
            "query": {
                "type": "string",
                "description": "What the tool does, such as: create calendar event. One search per line, up to 5.",
            },
            "server": {"type": "string", "description": "Search the tools of this server only."},
        },
        "required": ["query"],
        "additionalProperties": False,
    },
    annotations=NO_EFFECT,
    trusted=True,
)
CALL_TOOL = ToolSpec(
    server=OWN_SERVER,
    name="call_tool",
    title="Call a found tool",
    description=f"Call a tool that {OWN_SERVER}__search_tools found, with arguments that fit its input schema.",
    schema={
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "The tool's name, as search_tools gave it."},
            "arguments": {"type": "object", "description": "The arguments of the tool."},
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    },
    annotations=Annotations(),
)


def read_wrapped_call(call: ToolCall) -> ToolCall:
    """The call of the real tool that a call of ``call_tool`` is about; any other call unchanged.

    Its name is what the model wrote, its arguments are JSON. Raises InvalidArguments.
    """
    if call.name != CALL_TOOL.model_name:
        return call
    name, arguments = unwrap_arguments(parse_arguments(call.arguments))
    if name in {"", CALL_TOOL.model_name, CALL_TOOL.qualified_name}:
        raise InvalidArguments('call_tool takes {"name": ..., "arguments": {...}}')
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return replace(call, name=name, arguments=text)


def unwrap_arguments(wrapper: Mapping[str, Any]) -> tuple[str, Any]:
    """The tool's name and arguments in the arguments of ``call_tool``. The name is empty if it is missing."""
    name, arguments = wrapper.get("name"), wrapper.get("arguments", {})
    others = {key: value for key, value in wrapper.items() if key not in {"name", "arguments"}}
    # Small models write the arguments beside the name.
    return (name if isinstance(name, str) else ""), (others if others and not arguments else arguments)


def wrap_arguments(name: str, arguments: Mapping[str, Any]) -> str:
    """The arguments of ``call_tool`` for a call of this tool, as JSON."""
    return json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)


def describe_call(call: ToolCall) -> tuple[str, str]:
    """The name of the tool that a call is about, for people, and its arguments as JSON."""
    with suppress(InvalidArguments):
        call = read_wrapped_call(call)
    return call.name.replace("__", ".", 1), call.arguments
