"""External programs: the user's pager, editor and clipboard."""

import asyncio
import base64
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from mcpchat.ui.terminal import tty
from mcpchat.util import foreground

# Each with the environment variables that tell whether its desktop is running.
_CLIPBOARD_COMMANDS = (
    ("", "pbcopy"),
    ("WAYLAND_DISPLAY", "wl-copy"),
    ("DISPLAY", "xclip", "-selection", "clipboard"),
    ("DISPLAY", "xsel", "--clipboard", "--input"),
)
_CLIPBOARD_TIMEOUT = 2.0  # seconds


async def show_in_pager(text: str, print_text: Callable[[str], None], environ: Mapping[str, str] = os.environ) -> None:
    """Show sanitized text in $PAGER or less. If neither exists, print it with ``print_text``."""
    args = shlex.split(environ.get("PAGER", "")) or ["less"]
    program = shutil.which(args[0])
    if program is None:
        print_text(text)
        return
    # Without this, less runs shell commands after an exclamation mark.
    env = {**environ, "LESSSECURE": "1"}
    with tempfile.TemporaryFile() as file:  # a pager of the terminal's session reads it at its own pace
        file.write(text.encode(errors="replace"))
        file.seek(0)
        with tty.lend_terminal():
            await asyncio.to_thread(foreground.run_program, [program, *args[1:]], env, stdin=file.fileno())


async def copy_to_clipboard(
    text: str, write_raw: Callable[[str], None], environ: Mapping[str, str] = os.environ
) -> str:
    """Copy text to the clipboard with the desktop's program, else through the terminal. Returns which was used."""
    for variables, *command in _CLIPBOARD_COMMANDS:
        program = shutil.which(command[0])
        if program is None or not any(environ.get(name) for name in variables.split() or ["PATH"]):
            continue
        process = await asyncio.create_subprocess_exec(
            program, *command[1:], stdin=asyncio.subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(_CLIPBOARD_TIMEOUT):
                await process.communicate(text.encode(errors="replace"))
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            continue
        if process.returncode == 0:
            return command[0]
    write_raw(f"\x1b]52;c;{base64.b64encode(text.encode(errors='replace')).decode()}\x07")
    return "the terminal (OSC 52), if it allows that"


def find_editor(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The command of $VISUAL or $EDITOR; empty if neither is set or the program does not exist."""
    try:
        args = shlex.split(environ.get("VISUAL") or environ.get("EDITOR") or "")
    except ValueError:  # a quote is not closed
        return []
    return args if args and shutil.which(args[0]) else []


async def edit_text(text: str, command: list[str], *, suffix: str) -> str | None:
    """Let the user edit text in their editor. Returns the new text; None if the editor fails."""
    with tty.lend_terminal():
        return await asyncio.to_thread(_run_editor, text, command, suffix)


def _run_editor(text: str, command: list[str], suffix: str) -> str | None:
    descriptor, name = tempfile.mkstemp(prefix="mcpchat-", suffix=suffix)  # readable by the owner only
    path = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        if foreground.run_program([*command, name], os.environ):
            return None
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    finally:
        path.unlink(missing_ok=True)
