"""A stdio MCP server that uses the access token in its environment, as the bundled Google servers do."""

import os
import sys

from mcp.server import MCPServer
from mcp.types import CallToolResult, TextContent

server = MCPServer("token user", log_level="ERROR")
VARIABLE = sys.argv[1] if len(sys.argv) > 1 else "GOOGLE_ACCESS_TOKEN"


@server.tool()
def environment() -> dict[str, str]:
    """The names of the variables that it sees, and the length of the token."""
    return {
        "names": " ".join(sorted(os.environ)),
        "length": str(len(os.environ.get(VARIABLE, ""))),
        "expires": os.environ.get(f"{VARIABLE}_EXPIRES_AT", ""),
        "pid": str(os.getpid()),
    }


@server.tool()
def leak() -> str:
    """Say the token, on every way out."""
    token = os.environ.get(VARIABLE, "")
    with open(
        os.environ["EXPIRED"] + ".token", "w"
    ) as file:  # for the test, which searches for the token everywhere else
        file.write(token)
    sys.stderr.write(f"my token is {token}\n")
    return f"my token is {token}"


@server.tool()
def count() -> CallToolResult:
    """Fail as for an expired token as many times as the file EXPIRED says, then say how often it was called."""
    path = os.environ["EXPIRED"]
    with open(path) as file:
        times, calls = map(int, file.read().split())
    with open(path, "w") as file:
        file.write(f"{times - 1} {calls + 1}")
    if times > 0:
        return CallToolResult(
            content=[TextContent(type="text", text="the provider answered 401")],
            is_error=True,
            _meta={"mcpchat/auth": "expired"},
        )
    return CallToolResult(content=[TextContent(type="text", text=f"call {calls + 1}")])


server.run()
