"""A streamable HTTP MCP server on loopback. Prints its port; requires a bearer token if one is passed as argument."""

import socket
import sys

import uvicorn
from mcp.server import MCPServer
from starlette.types import ASGIApp, Receive, Scope, Send

server = MCPServer("remote", log_level="ERROR")


@server.tool()
def echo(text: str) -> str:
    """Echo a text."""
    return f"far echo: {text}"


def require_token(app: ASGIApp, token: bytes) -> ASGIApp:
    async def check(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and dict(scope["headers"]).get(b"authorization") != b"Bearer " + token:
            await send({"type": "http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Bearer")]})
            await send({"type": "http.response.body", "body": b""})
        else:
            await app(scope, receive, send)

    return check


def main() -> None:
    app: ASGIApp = server.streamable_http_app()
    if len(sys.argv) > 1:
        app = require_token(app, sys.argv[1].encode())
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])


main()
