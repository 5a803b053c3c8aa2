"""ask --input-format jsonl: a session that lasts as long as its input; messages and calls come in, events go out."""

import asyncio
import sys
import time
from collections.abc import Mapping
from contextlib import aclosing

from msgspec.structs import replace

from mcpchat.api import ChatSession, session_from_context
from mcpchat.app.attachments import read_attachments
from mcpchat.app.tool_call import tool_failure
from mcpchat.cli.display import add_explanations
from mcpchat.cli.runtime import INTERRUPTED
from mcpchat.config.run import RunContext, RunOptions
from mcpchat.core import jsonl_protocol
from mcpchat.core.events import Emit
from mcpchat.core.jsonl_protocol import (
    Approve,
    CallFinished,
    CallTool,
    Cancel,
    Confirm,
    Elicit,
    InputAccepted,
    InputLine,
    InputRejected,
    SendMessage,
)
from mcpchat.core.messages import Message, ToolResult, user_message
from mcpchat.core.report import ErrorReport, error_report
from mcpchat.errors import McpChatError, UsageError
from mcpchat.ui.prompts.jsonl_dialog import JsonlDialog
from mcpchat.ui.prompts.sign_in import PlainSignIn
from mcpchat.ui.render.plain import JsonLines
from mcpchat.util import stdin
from mcpchat.util.sanitize import strip_invisible

_MAX_QUEUED = 1000  # lines


def validate_options(output: str, options: Mapping[str, object]) -> None:
    """Raise UsageError for options that do not go with --input-format jsonl."""
    if output != "jsonl":
        raise UsageError("--input-format jsonl needs -o jsonl", hint="mcpchat ask --input-format jsonl -o jsonl")
    if wrong := [name for name, value in options.items() if value]:
        raise UsageError(f"{wrong[0]} does not go with --input-format jsonl", hint="each line has its own message")
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("no lines are piped in", hint="some-program | mcpchat ask --input-format jsonl -o jsonl")


async def run(context: RunContext, options: RunOptions, *, timeout: float | None = None, verbose: bool = False) -> int:
    """Process the input to its end. Raises the error of the last turn or call, or UsageError if lines were rejected."""
    write = JsonLines(sys.stdout)
    asker = JsonlDialog(write)
    emit = add_explanations(write, "jsonl") if verbose else write
    async with session_from_context(
        context, options, on_event=emit, asker=asker, screen=PlainSignIn(sys.stderr)
    ) as session:
        jsonl = JsonlSession(session, asker, write, emit, timeout)
        async with asyncio.TaskGroup() as group:
            group.create_task(jsonl.read_input())
            group.create_task(jsonl.process())
        await session.chat.name_thread()
    if jsonl.final_error is not None:
        raise jsonl.final_error
    return 0


class JsonlSession:
    """Two tasks: one reads lines and handles those about the running turn; the other processes the others in order."""

    def __init__(
        self, session: ChatSession, asker: JsonlDialog, write: JsonLines, emit: Emit, timeout: float | None
    ) -> None:
        self._session = session
        self._asker = asker
        self._write = write
        self._emit = emit
        self._timeout = timeout  # of a turn or call
        self._rejected = 0
        self._failed: McpChatError | None = None
        self._call: asyncio.Task[ToolResult] | None = None  # the running one
        self._waiting: asyncio.Queue[tuple[int, InputLine] | None] = asyncio.Queue(_MAX_QUEUED)

    @property
    def final_error(self) -> McpChatError | None:
        if self._failed is not None:
            return self._failed
        if self._rejected:
            return UsageError(
                f"{self._rejected} lines of the input were rejected", hint="input.rejected says which, and why"
            )
        return None

    async def read_input(self) -> None:
        async with aclosing(stdin.read_lines(sys.stdin.buffer, jsonl_protocol.MAX_LINE_BYTES)) as lines:
            async for number, data in lines:
                await self._take(number, data)
        self._asker.close()
        await self._waiting.put(None)

    async def _take(self, number: int, data: bytes | None) -> None:
        if data is None:
            return self._reject(number, f"the line holds more than {jsonl_protocol.MAX_LINE_BYTES:,} bytes")
        try:
            line = jsonl_protocol.parse_line(data)
        except ValueError as error:
            return self._reject(number, str(error), hint="mcpchat schema input has the lines that are understood")
        match line:
            case Cancel():
                self._write(InputAccepted(line=number))
                self._session.cancel()
                if self._call is not None:
                    self._call.cancel()
            case Approve() | Elicit() | Confirm():
                if problem := self._asker.resolve(line):
                    self._reject(number, problem)
            case _:
                try:
                    self._waiting.put_nowait((number, line))
                except asyncio.QueueFull:
                    self._reject(
                        number, f"{_MAX_QUEUED} lines wait already", hint="wait for turn.finished or call.finished"
                    )
        return None

    def _reject(self, number: int, message: str, hint: str = "") -> None:
        self._rejected += 1
        self._write(InputRejected(line=number, message=message, hint=hint))

    async def process(self) -> None:
        while (item := await self._waiting.get()) is not None:
            number, line = item
            try:
                if isinstance(line, SendMessage):
                    await self._run_turn(number, line)
                elif isinstance(line, CallTool):
                    await self._call_tool(number, line)
                elif isinstance(line, jsonl_protocol.SwitchAgent):
                    await self._session.switch_agent(line.name)
                    self._write(InputAccepted(line=number, id=line.id))
                elif isinstance(line, jsonl_protocol.SwitchModel):
                    await self._session.switch_model(line.name)
                    self._write(InputAccepted(line=number, id=line.id))
            except McpChatError as error:
                self._reject(number, error.message, error.hint)

    async def _call_tool(self, number: int, line: CallTool) -> None:
        """Run one call and keep its error."""
        self._write(InputAccepted(line=number, id=line.id))
        started, result, error = time.monotonic(), None, None
        call = self._call = asyncio.create_task(
            self._session.call_tool(line.tool, line.arguments, timeout=self._timeout)
        )
        try:
            await asyncio.wait({call})
        finally:
            call.cancel()
            self._call = None
        try:
            result = call.result()
            self._failed = tool_failure(line.tool) if result.is_error else None
        except asyncio.CancelledError:
            self._failed = None
            error = ErrorReport(kind="interrupted", code=INTERRUPTED, message="the call was cancelled")
        except McpChatError as failure:
            self._failed, error = failure, error_report(failure)
        seconds = round(time.monotonic() - started, 3)
        self._write(CallFinished(line=number, id=line.id, tool=line.tool, seconds=seconds, result=result, error=error))

    async def _run_turn(self, number: int, line: SendMessage) -> None:
        """Run one turn and keep its error. Raises UsageError for a line that cannot be sent."""
        if not line.text.strip() and not line.attach:
            raise UsageError("the message is empty")
        if "-" in line.attach:
            raise UsageError("cannot attach -: standard input is where the lines come from")
        message = user_message(strip_invisible(line.text)) if line.text else Message(role="user", parts=())
        message = replace(message, parts=(*message.parts, *read_attachments(line.attach)))
        self._write(InputAccepted(line=number, id=line.id))
        self._failed = None
        try:
            async with aclosing(self._session.send(message, timeout=self._timeout)) as turn:
                async for event in turn:
                    self._emit(event)
            self._failed = self._session.last_error
        except McpChatError as error:
            self._failed = error
