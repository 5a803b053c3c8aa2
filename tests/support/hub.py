"""A hub for tests: with real servers, and with servers in the test's own process."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mcpchat.config.schema import ServerConfig
from mcpchat.core.events import Event, ServerChanged
from mcpchat.core.messages import ToolResult
from mcpchat.core.tools import ToolSpec
from mcpchat.mcp.connector import ServerConnector
from mcpchat.mcp.hub import McpHub
from mcpchat.mcp.kept_sessions import SessionFile
from mcpchat.mcp.process import RunningServer
from mcpchat.mcp.protocols import ServerAuth, ServerSpec
from mcpchat.mcp.transports.base import Transport
from tests.support.memory_transport import MemoryTransport
from tests.support.paths import QUIRKY

IN_MEMORY = "https://in-memory.invalid/mcp"  # a server's address is not used if it is in memory
OpenHub = Callable[..., Any]  # the fixture ``open_test_hub``
StartRemote = Callable[..., str]  # the fixture ``start_remote``


def quirky_server(mode: str = "good", **options: Any) -> ServerConfig:
    return ServerConfig(command=sys.executable, args=(str(QUIRKY), mode), **options)


@dataclass(kw_only=True)
class MemoryConnector(ServerConnector):
    """Connects to the servers of ``in_memory``, by name, within this process; to any other as usual."""

    in_memory: Mapping[str, Any] = field(default_factory=dict)

    async def _build_transport(
        self, spec: ServerSpec, auth: ServerAuth, process: RunningServer | None, kept: SessionFile | None
    ) -> Transport:
        if server := self.in_memory.get(spec.name):
            return MemoryTransport(server)
        return await super()._build_transport(spec, auth, process, kept)


class HubFixture:
    """A hub, its events, and shortcuts."""

    def __init__(self, hub: McpHub, events: list[Event]) -> None:
        self.hub = hub
        self.events = events

    async def spec(self, label: str) -> ToolSpec:
        return {spec.qualified_name: spec for spec in await self.hub.list_tools()}[label]

    async def call(self, label: str, **arguments: Any) -> ToolResult:
        return await self.hub.call(await self.spec(label), "c", arguments, self.events.append)

    def states(self, server: str) -> list[str]:
        return [event.state for event in self.events if isinstance(event, ServerChanged) and event.server == server]

    def active_calls(self, server: str) -> int:
        return self.hub._servers[server]._active_calls

    def failure(self, server: str) -> str:
        return next(status.detail for status in self.hub.status() if status.name == server)
