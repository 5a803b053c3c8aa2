"""Other programs that have the terminal for a while: the person's pager and their editor."""

import asyncio
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path


async def page(text: str, show: Callable[[str], None], environ: Mapping[str, str] = os.environ) -> None:
    """Show clean text in $PAGER, or less; where there is neither, all at once through ``show``."""
    words = shlex.split(environ.get("PAGER", "")) or ["less"]
    program = shutil.which(words[0])
    if program is None:
        show(text)
        return
    # A pager that runs commands for who types an exclamation mark is not what was asked for.
    env = {**environ, "LESSSECURE": "1"}
    process = await asyncio.create_subprocess_exec(program, *words[1:], stdin=asyncio.subprocess.PIPE, env=env)
    try:
        await process.communicate(text.encode(errors="replace"))
    except (BrokenPipeError, ConnectionResetError):
        await process.wait()


def editor(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The command of $VISUAL or $EDITOR; empty where neither is set, or none is there."""
    try:
        words = shlex.split(environ.get("VISUAL") or environ.get("EDITOR") or "")
    except ValueError:  # a quote that does not end
        return []
    return words if words and shutil.which(words[0]) else []


def edit(text: str, command: list[str], *, suffix: str) -> str | None:
    """What the person made of the text in their editor; None where it did not end well. Blocks until they leave it."""
    descriptor, name = tempfile.mkstemp(prefix="mcpchat-", suffix=suffix)  # for the owner's eyes
    path = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        if subprocess.run([*command, name], check=False).returncode:
            return None
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    finally:
        path.unlink(missing_ok=True)
