"""Commands of the user's own shell, after an exclamation mark."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Any

from mcpchat.core.messages import Text
from mcpchat.errors import UsageError
from mcpchat.ui.chat.context import CommandContext

_MAX_KEPT = 100_000  # characters of the output that can be sent
_MAX_LINE_BYTES = 1_000_000


def take_shell_command(context: CommandContext, line: str) -> bool:
    """Whether the user typed the line after an exclamation mark of their own; no other text runs anything."""
    if line not in context.shell_lines:
        return False
    context.shell_lines.remove(line)
    context.editing_index = None
    return True


async def run_line(context: CommandContext, line: str) -> None:
    """Run ``!command`` and show its output. ``!!`` sends the output with the next message, ``!!command`` does both.

    Raises UsageError if there is nothing to run or to send.
    """
    attach, command = line.startswith("!!"), line.lstrip("!").strip()
    if command:
        context.shell_output = await _run(context, command)
    elif not attach:
        raise UsageError("usage: !COMMAND runs a command of your shell; !! sends its output with the next message")
    if not context.shell_output:
        raise UsageError("there is no output of a command to send")
    if attach:
        context.attachments.append(Text(text=f"\n\nThe output of a command that I ran:\n\n{context.shell_output}"))
        context.print("  the output goes with the next message", "dim")
    else:
        context.print("  !! sends this output with your next message", "dim")


async def _run(context: CommandContext, command: str) -> str:
    """Run the command, print its output as it comes, and return the command and its output."""
    options: dict[str, Any] = {} if sys.platform == "win32" else {"executable": os.environ.get("SHELL") or "/bin/sh"}
    try:
        process = await asyncio.create_subprocess_shell(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            limit=_MAX_LINE_BYTES,
            start_new_session=True,
            **options,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"the command cannot be started: {reason}", hint="check $SHELL and this folder") from error
    lines, size = [f"$ {command}"], 0
    try:
        assert process.stdout is not None
        while line := await _read_line(process.stdout):
            text = line.decode(errors="replace").rstrip("\r\n")
            context.print(f"  {text}")
            size += len(text) + 1
            await asyncio.sleep(0)  # Ctrl-C must get through
            if size <= _MAX_KEPT:
                lines.append(text)
        code = await process.wait()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            if sys.platform == "win32":
                process.terminate()
            else:
                os.killpg(process.pid, signal.SIGTERM)
        await process.wait()
        raise
    if size > _MAX_KEPT:
        lines.append(f"[cut after {_MAX_KEPT:,} characters]")
    if code:
        lines.append(f"[exit code {code}]")
        context.print(f"  exit code {code}", "yellow")
    return "\n".join(lines)


async def _read_line(stream: asyncio.StreamReader) -> bytes:
    """The next line, or a part of a very long one; empty at the end."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await stream.read(error.consumed)
