"""A mail MCP server that sends nothing, for scripts/pictures.py."""

from mcp.server import MCPServer
from mcp_types import ToolAnnotations

server = MCPServer("Gmail")


@server.tool(annotations=ToolAnnotations(destructive_hint=True))
def send_email(to: str, subject: str, body: str) -> str:
    """Send a mail."""
    return f"sent to {to}"


if __name__ == "__main__":
    server.run()
