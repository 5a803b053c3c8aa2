"""The limits on a server's tools: long descriptions, large schemas, invisible characters."""

from typing import Any

import pytest

from mcpchat.mcp.limits import ToolLimits, enforce_tool_limits
from tests.support.fakes import make_tool

LIMITS = ToolLimits(max_description=100, max_schema=1000)


@pytest.mark.parametrize(
    ("schema", "is_kept"),
    [
        ({"type": "object", "description": "x" * 900}, True),
        ({"type": "object", "description": "x" * 1000}, False),
        ({"enum": [1] * 320}, True),  # 1,000 characters with blanks
        ({"enum": [1] * 340}, False),
        ({"description": "\ud800" * 900}, True),
        ({"description": "\ud800" * 1000}, False),
    ],
)
def test_a_tool_with_a_large_schema_is_left_out(schema: dict[str, Any], is_kept: bool) -> None:
    tools, notices = enforce_tool_limits([make_tool(schema=schema)], LIMITS)
    assert (len(tools) == 1) is is_kept
    assert bool(notices) is not is_kept


def test_invisible_characters_are_removed_and_no_argument_is_renamed() -> None:
    hidden = {"type": "object", "properties": {"a": {"description": "x\u200by"}}}
    renamed = {"type": "object", "properties": {"a\u200b": {}}}
    tools, notices = enforce_tool_limits(
        [
            make_tool("clean", description="Says it."),
            make_tool("hidden", description="Says\u200b it.", schema=hidden),
            make_tool("renamed", schema=renamed),
            make_tool("long", description="d" * 101),
        ],
        LIMITS,
    )
    assert [(tool.name, len(tool.description)) for tool in tools] == [("clean", 8), ("hidden", 8), ("long", 100)]
    assert tools[1].schema["properties"]["a"]["description"] == "xy"
    assert len(notices) == 2
