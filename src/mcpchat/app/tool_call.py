"""One tool call without a model, under the same approval rules as in a chat."""

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mcpchat.app.call_recorder import record_calls
from mcpchat.config.run import RunContext
from mcpchat.core.call_record import Origin
from mcpchat.core.events import Emit, ToolDecided, ToolFinished, ToolStarted
from mcpchat.core.messages import Text, ToolCall, ToolResult, error_result
from mcpchat.core.protocols import UserDialog
from mcpchat.core.server_task import ServerTask
from mcpchat.core.tools import InvalidArguments, ToolSpec, describe_arguments, parse_arguments
from mcpchat.engine.approval_gate import ApprovalGate
from mcpchat.errors import Denied, ServerError, SignInNeeded, ToolFailed, UsageError
from mcpchat.mcp.hub import McpHub
from mcpchat.permissions.factory import pinned_toolbox
from mcpchat.permissions.pinned_toolbox import PinnedToolbox
from mcpchat.util.text import suggest
from mcpchat.util.time_limit import time_limit

_Outcome = TypeVar("_Outcome", bound=ToolResult | ServerTask)


def _normalize(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments as JSON carries them, so that what is decided on is what is sent. Raises UsageError."""
    try:
        return parse_arguments(json.dumps(dict(arguments), ensure_ascii=False))
    except (TypeError, ValueError, RecursionError, InvalidArguments) as error:
        raise UsageError(f"the arguments cannot be sent as JSON: {error}") from error


def _describe_task(call_id: str, task: ServerTask) -> ToolResult:
    return ToolResult(call_id=call_id, parts=(Text(text=f"task {task.id}"),))


def tool_failure(name: str) -> ToolFailed:
    """The error for a result with ``is_error`` of the tool ``server.tool``."""
    return ToolFailed(f"{name} reported an error")


@dataclass(frozen=True, kw_only=True)
class ToolCaller:
    """Calls tools of a hub's servers; ``gate`` decides on each call.

    ``warn`` receives notices of servers that are down and of withheld tools, ``emit`` the events of the call.
    """

    context: RunContext
    hub: McpHub
    gate: ApprovalGate
    asker: UserDialog
    warn: Emit
    emit: Emit = lambda event: None
    origin: Origin = "call"

    async def call(
        self,
        name: str,
        read_arguments: Callable[[ToolSpec], Awaitable[Mapping[str, Any]]],
        *,
        timeout: float | None = None,
    ) -> tuple[ToolSpec, ToolResult]:
        """Call the tool ``server.tool``; ``timeout`` is in seconds, with the start of its server and with questions.

        ``read_arguments`` returns the arguments once the tool's definition is known. A result with ``is_error`` is the
        tool's own failure. Raises UsageError for an unknown tool or arguments that do not fit its schema, Denied,
        ServerError, SignInNeeded, LimitReached.
        """
        async with time_limit(timeout):
            return await self._run(name, read_arguments, self.hub.call)

    async def start(
        self, name: str, read_arguments: Callable[[ToolSpec], Awaitable[Mapping[str, Any]]]
    ) -> tuple[ToolSpec, ToolResult | ServerTask]:
        """Like ``call``, but without waiting for a task that the server makes of the call."""
        return await self._run(name, read_arguments, self.hub.start_call)

    async def _run(
        self,
        name: str,
        read_arguments: Callable[[ToolSpec], Awaitable[Mapping[str, Any]]],
        send: Callable[[ToolSpec, str, Mapping[str, Any], Emit], Awaitable[_Outcome]],
    ) -> tuple[ToolSpec, _Outcome]:
        toolbox = pinned_toolbox(self.context, self.hub, self.asker, self.warn)
        spec = await self._find_tool(toolbox, name)
        arguments = _normalize(await read_arguments(spec))
        if problem := self.hub.validate_arguments(spec, arguments):
            raise UsageError(problem, hint=f"{spec.qualified_name}: {describe_arguments(spec)}")
        decision, arguments = await self.gate.decide(spec, arguments)
        record = record_calls(self.context, lambda event: None, self.origin)
        call = ToolCall(id="call", name=spec.name, arguments=json.dumps(arguments, ensure_ascii=False))
        record(ToolDecided(call=call, tool=spec.qualified_name, decision=decision))
        record(ToolStarted(call=call, tool=spec.qualified_name, title=spec.title, account=spec.account))
        started_at, result = time.monotonic(), error_result(call.id, "cancelled")
        outcome: _Outcome
        try:
            if not decision.allowed:
                raise Denied(f"{spec.qualified_name} was not run: {decision.reason or 'you said no'}")
            outcome = await send(spec, call.id, arguments, self.emit)
            result = outcome if isinstance(outcome, ToolResult) else _describe_task(call.id, outcome)
        except (ServerError, SignInNeeded, Denied) as error:
            result = error_result(call.id, error.message)
            raise
        finally:
            seconds = round(time.monotonic() - started_at, 3)
            record(ToolFinished(call=call, tool=spec.qualified_name, result=result, seconds=seconds))
        return spec, outcome

    async def _find_tool(self, toolbox: PinnedToolbox, name: str) -> ToolSpec:
        """Find the tool. If the cached catalog does not have it, the server is started and its catalog refreshed.

        Raises UsageError if there is no such tool, Denied or StoreError if it is withheld, and the server's error if
        the server is down.
        """
        server = name.partition(".")[0]
        tools = {spec.qualified_name: spec for spec in await toolbox.list_tools()}
        self._require_running(server)
        if name not in tools and any(status.name == server and status.state == "idle" for status in self.hub.status()):
            await self.hub.refresh()
            tools = {spec.qualified_name: spec for spec in await toolbox.list_tools()}
            self._require_running(server)
        if name in tools:
            return tools[name]
        if (denial := toolbox.denial_for(name)) is not None:
            raise denial
        raise UsageError(f"no tool {name}; {suggest(name, sorted(tools))}")

    def _require_running(self, server: str) -> None:
        for status in self.hub.status():
            if status.name == server and (error := status.error()) is not None:
                raise error
