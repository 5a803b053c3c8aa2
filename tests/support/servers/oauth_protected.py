"""A remote MCP server that requires a login. It introspects each token at the authorization server.

oauth_protected.py ISSUER [VARIATION...] prints its port. With the variation "no-metadata" it serves no resource
metadata, like servers of revision 2025-03-26.
"""

import json
import socket
import sys
from typing import Any
from urllib.parse import quote

import httpx2
import uvicorn
from mcp.server import MCPServer
from starlette.types import Message, Receive, Scope, Send

ISSUER, VARIATIONS = sys.argv[1], set(sys.argv[2:])
server = MCPServer("notes", log_level="ERROR")


@server.tool()
def read_notes() -> str:
    """Read all notes."""
    return "milk, eggs"


@server.tool()
def write_note(text: str) -> str:
    """Write a note."""
    return f"noted: {text}"


@server.tool()
def leak() -> str:
    """Say the token that the server was shown."""
    return f"I was shown {tokens_seen[-1]}"


tokens_seen: list[str] = []
app = server.streamable_http_app()
listener = socket.create_server(("127.0.0.1", 0))
BASE = f"http://127.0.0.1:{listener.getsockname()[1]}"


async def protected_app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        await app(scope, receive, send)
    elif scope["path"].startswith("/.well-known/oauth-protected-resource"):
        metadata = {
            "resource": f"{BASE}/mcp",
            "authorization_servers": [ISSUER],
            "scopes_supported": ["notes:read"],
        }
        await send_json(send, 404 if "no-metadata" in VARIATIONS else 200, metadata)
    else:
        await check_token(scope, receive, send)


async def check_token(scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    token = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
    token_info = await introspect(token)
    metadata = f'resource_metadata="{BASE}/.well-known/oauth-protected-resource/mcp"'
    if not token_info.get("active"):
        error = 'error="invalid_token", ' if token else ""
        await send_json(send, 401, {}, f'Bearer {error}scope="notes:read", {metadata}')
        return
    tokens_seen.append(token)
    if b'"write_note"' in body and "notes:write" not in token_info["scope"].split():
        await send_json(send, 403, {}, f'Bearer error="insufficient_scope", scope="notes:write", {metadata}')
        return
    sent = False

    async def replay_body() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    await app(scope, replay_body, send)


async def introspect(token: str) -> dict[str, Any]:
    if not token:
        return {}
    async with httpx2.AsyncClient() as client:
        info: dict[str, Any] = (await client.get(f"{ISSUER}/_control/introspect?token={quote(token)}")).json()
        return info


async def send_json(send: Send, status: int, value: object, challenge: str = "") -> None:
    headers = [(b"content-type", b"application/json")]
    headers += [(b"www-authenticate", challenge.encode())] if challenge else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(value).encode()})


print(listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(protected_app, log_level="error")).run(sockets=[listener])
