"""The question whether a project file is trusted."""

import os
import sys
from pathlib import Path

from rich.console import Console

from mcpchat.cli.output import is_terminal
from mcpchat.cli.runtime import load_user_config, run_async
from mcpchat.config.project import describe_project, summarize_project
from mcpchat.config.project_file import ProjectFile, changed_programs
from mcpchat.config.run import default_paths
from mcpchat.ui.prompts.dialog import TerminalDialog
from mcpchat.util.sanitize import one_line

_SCREEN_LINES = 20  # a longer description ends with a summary, so that the commands are beside the question


def ask_trust(project: ProjectFile, config: Path | None, *, yes: bool = False) -> bool:
    """Show everything that the file would do, and ask the user whether to trust it. With ``yes`` only show it.

    False without a terminal. Raises ConfigError for a file that cannot be used.
    """
    user = load_user_config(config)
    content = project.parse(user)
    lines = describe_project(content, user, project.programs)
    sys.stderr.write(f"{one_line(project.label, 500)} would make mcpchat use:\n")
    sys.stderr.write("".join(f"  {line}\n" for line in lines) or "  nothing\n")
    changed = changed_programs(project, default_paths(os.environ))
    if changed:
        sys.stderr.write("Changed since you trusted it:\n" + "".join(f"  {one_line(path, 500)}\n" for path in changed))
    if len(lines) + len(changed) > _SCREEN_LINES or sum(map(len, lines)) > _SCREEN_LINES * 80:
        summary = summarize_project(content, user)
        sys.stderr.write("In short:\n" + "".join(f"  {line}\n" for line in summary))
    if yes:
        return True
    if not is_terminal(sys.stdin, sys.stderr):
        return False
    asker = TerminalDialog(Console(stderr=True, highlight=False))

    async def ask() -> int:
        return 0 if await asker.ask_yes_no("Trust it, as it is now?") else 1

    return run_async(ask()) == 0
