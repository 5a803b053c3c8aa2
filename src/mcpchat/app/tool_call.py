"""One tool call without a model, under the same rules as a chat's."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mcpchat.config.run import RunContext, RunOptions
from mcpchat.core.events import Emit
from mcpchat.core.messages import ToolCall, ToolResult
from mcpchat.core.protocols import Asker
from mcpchat.core.tools import ToolSpec, explain_arguments, parse_arguments
from mcpchat.errors import Denied, UsageError
from mcpchat.mcp.hub import McpHub
from mcpchat.permissions.factory import make_gate, pinned
from mcpchat.permissions.pinned_toolbox import PinnedToolbox
from mcpchat.util.text import suggest
from mcpchat.util.time_limit import time_limit


@dataclass(frozen=True, kw_only=True)
class ToolCaller:
    """Calls tools of the servers of a hub. ``warn`` hears of servers that are down and of tools that are withheld."""

    context: RunContext
    options: RunOptions
    hub: McpHub
    asker: Asker
    emit: Emit
    warn: Emit

    async def call(
        self,
        name: str,
        read_arguments: Callable[[ToolSpec], Mapping[str, Any]],
        *,
        timeout: float | None = None,
    ) -> tuple[ToolSpec, ToolResult]:
        """Call the tool ``server.tool``; ``timeout`` is in seconds.

        ``read_arguments`` gives the arguments once the tool's definition is known. A result with ``is_error`` is the
        tool's own failure. Raises UsageError for an unknown tool or arguments that do not fit its schema, Denied,
        ServerError, SignInNeeded, LimitReached.
        """
        toolbox = pinned(self.context, self.hub, self.asker, self.warn)
        spec = await self._find(toolbox, name)
        arguments = read_arguments(spec)
        if problem := self.hub.check(spec, arguments):
            raise UsageError(problem, hint=f"{spec.label}: {explain_arguments(spec)}")
        call = ToolCall(id="call", name=spec.exposed, arguments=json.dumps(arguments, ensure_ascii=False))
        gate = make_gate(self.context, self.options, self.asker, self.hub, self.emit)
        decision = await gate.decide(spec, call)
        if not decision.allowed:
            raise Denied(f"{spec.label} was not run: {decision.reason or 'you said no'}")
        decided = parse_arguments(decision.arguments or call.arguments)  # the user may have changed them
        async with time_limit(timeout):
            return spec, await self.hub.call(spec, call.id, decided, lambda event: None)

    async def _find(self, toolbox: PinnedToolbox, name: str) -> ToolSpec:
        """Find the tool; a name that the cached catalog does not have is asked of the server itself."""
        server = name.partition(".")[0]
        tools = {spec.label: spec for spec in await toolbox.tools()}
        self._require_running(server)
        if name not in tools and any(s.name == server and s.state == "idle" for s in self.hub.status()):
            await self.hub.refresh()
            tools = {spec.label: spec for spec in await toolbox.tools()}
            self._require_running(server)
        if name in tools:
            return tools[name]
        if (refusal := toolbox.refusal(name)) is not None:
            raise refusal
        raise UsageError(f"no tool {name}; {suggest(name, sorted(tools))}")

    def _require_running(self, server: str) -> None:
        for status in self.hub.status():
            if status.name == server and (error := status.error()) is not None:
                raise error
