"""The question whether a project file is trusted."""

import sys
from pathlib import Path

from rich.console import Console

from mcpchat.cli.output import is_terminal
from mcpchat.cli.runtime import load_user_config, run_async
from mcpchat.config.project import describe_project
from mcpchat.config.project_file import ProjectFile
from mcpchat.ui.prompts.dialog import TerminalDialog
from mcpchat.util.sanitize import one_line


def ask_trust(project: ProjectFile, config: Path | None, *, yes: bool = False) -> bool:
    """Show everything that the file would do, and ask the user whether to trust it. With ``yes`` only show it.

    False without a terminal. Raises ConfigError for a file that cannot be used.
    """
    user = load_user_config(config)
    lines = describe_project(project.parse(user), user)
    sys.stderr.write(f"{one_line(str(project.path), 500)} would make mcpchat use:\n")
    sys.stderr.write("".join(f"  {line}\n" for line in lines) or "  nothing\n")
    if yes:
        return True
    if not is_terminal(sys.stdin, sys.stderr):
        return False
    asker = TerminalDialog(Console(stderr=True, highlight=False))

    async def ask() -> int:
        return 0 if await asker.ask_yes_no("Trust it, as it is now?") else 1

    return run_async(ask()) == 0
