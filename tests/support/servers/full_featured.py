"""An MCP server with every feature of the protocol, built with the official SDK, so that it supports all revisions.

It uses stdio; with the argument "http", "json" or "sse" it uses that transport on loopback and prints its port.
"""

import asyncio
import contextlib
import socket
import sys
import warnings
from typing import Annotated, Any

from mcp import types
from mcp.server import CacheHint, MCPServer
from mcp.server.mcpserver import AcceptedElicitation, Context, Elicit, ElicitationResult, Resolve
from pydantic import BaseModel

warnings.simplefilter("ignore")


class Size(BaseModel):
    size: int


async def ask_size() -> Elicit[Size]:
    return Elicit("Which size?", Size)


_LISTS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")
HINTS: Any = dict.fromkeys(_LISTS, CacheHint(ttl_ms=86_400_000, scope="private"))


def build_server() -> MCPServer:
    """Return a new server with every feature."""
    server = MCPServer(
        "capable", title="All of it", version="7", instructions="Count slowly.", log_level="ERROR", cache_hints=HINTS
    )
    active = 0
    max_active = 0

    @server.tool(annotations=types.ToolAnnotations(read_only_hint=True))
    async def busy(seconds: float) -> int:
        """Take some time; how many of these ran at once, at most."""
        nonlocal active, max_active
        active += 1
        max_active = max(max_active, active)
        await asyncio.sleep(seconds)
        active -= 1
        return max_active

    @server.tool()
    async def order(answer: Annotated[ElicitationResult[Size], Resolve(ask_size)]) -> str:
        """Order in a size that is asked for."""
        return f"size {answer.data.size}" if isinstance(answer, AcceptedElicitation) else f"no order: {answer.action}"

    @server.tool()
    async def think(ctx: Context[Any, Any]) -> str:
        """Ask the client's model."""
        message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text="Why?"))
        answer = await ctx.session.create_message([message], max_tokens=50, system_prompt="Be brief.")
        assert isinstance(answer.content, types.TextContent)
        return f"{answer.model} says: {answer.content.text}"

    @server.tool()
    async def folders(ctx: Context[Any, Any]) -> str:
        """The client's roots."""
        roots = await ctx.session.list_roots()
        return ",".join(str(root.uri) for root in roots.roots) or "none"

    @server.tool()
    async def steps(ctx: Context[Any, Any], count: int, pause: float) -> str:
        """Report progress now and then."""
        for number in range(count):
            await asyncio.sleep(pause)
            await ctx.report_progress(number + 1, count, f"step {number + 1}")
        return "done"

    @server.tool(structured_output=False)
    def big(size: int) -> str:
        """A long text."""
        return "x" * size

    @server.tool()
    async def grow(ctx: Context[Any, Any]) -> str:
        """Offer one more tool."""

        def grown() -> str:
            return "grown"

        server.add_tool(grown)
        await ctx.notify_tools_changed()
        with contextlib.suppress(Exception):
            await ctx.session.send_tool_list_changed()
        return "there is one more"

    @server.resource("note://today")
    def today() -> str:
        """Today's note."""
        return "buy milk"

    @server.resource("note://{day}/all")
    def of_day(day: str) -> str:
        """The notes of a day."""
        return f"notes of {day}"

    @server.prompt()
    def greet(name: str, style: str = "kind") -> str:
        """Greet somebody."""
        return f"Greet {name} in a {style} way."

    @server.completion()
    async def complete(
        ref: types.PromptReference | types.ResourceTemplateReference,
        argument: types.CompletionArgument,
        context: types.CompletionContext | None,
    ) -> types.Completion:
        known = ["kind", "kurt", "cold"] if argument.name == "style" else []
        return types.Completion(values=[value for value in known if value.startswith(argument.value)])

    return server


def main() -> None:
    server = build_server()
    if len(sys.argv) < 2:
        server.run()
        return
    import uvicorn

    app = server.sse_app() if sys.argv[1] == "sse" else server.streamable_http_app(json_response=sys.argv[1] == "json")
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])


if __name__ == "__main__":
    main()
