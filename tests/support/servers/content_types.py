"""An MCP server that returns its arguments, and images."""

import asyncio
import base64
from typing import Annotated, Any

import mcp_types as types
from mcp.server import MCPServer
from pydantic import Field

IMAGE_BYTES = b"\x89PNG\r\n\x1a\n\x00\xff"
server = MCPServer("contents")
READ_ONLY = types.ToolAnnotations(read_only_hint=True)


@server.tool(annotations=READ_ONLY)
def repeat(
    text: str, value: Any = None, data: Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})] = ""
) -> dict[str, Any]:
    """Give back the arguments."""
    return {"text": text, "value": value, "data": data}


@server.tool(annotations=READ_ONLY, structured_output=False)
def picture(count: int) -> Any:
    """So many pictures, and a word."""
    image = types.ImageContent(type="image", data=base64.b64encode(IMAGE_BYTES).decode(), mime_type="image/png")
    return [*[image] * count, types.TextContent(type="text", text="here")]


@server.tool(annotations=READ_ONLY)
async def slow() -> str:
    """Takes its time."""
    await asyncio.sleep(30)
    return "late"


@server.resource("file:///p.png", mime_type="image/png")
def stored() -> bytes:
    """A picture."""
    return IMAGE_BYTES


if __name__ == "__main__":
    server.run()
