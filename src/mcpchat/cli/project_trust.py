"""The question whether a project file is trusted."""

import os
import shutil
import sys
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console

from mcpchat.cli.output import is_terminal
from mcpchat.cli.runtime import load_user_config, run_async
from mcpchat.config.project import Project, describe_project, summarize_project
from mcpchat.config.project_file import ProjectFile, changed_programs
from mcpchat.config.run import default_paths
from mcpchat.config.schema import Config
from mcpchat.ui.prompts.dialog import TerminalDialog
from mcpchat.util.sanitize import one_line

_SCREEN_LINES = 20  # a longer description ends with a summary, so that the commands are beside the question
_INDENT = "  "
_QUESTION_LINES = 6  # of the screen: the heading, the question, its answer and room for a prompt
_MIN_LENGTH, _MAX_LENGTH = 20, 400  # characters of a command or an address in the summary
_MAX_WIDTH = 2  # columns of a character


def ask_trust(project: ProjectFile, config: Path | None, *, yes: bool = False) -> bool:
    """Show everything that the file would do, and ask the user whether to trust it. With ``yes`` only show it.

    False without a terminal. Raises ConfigError for a file that cannot be used.
    """
    user = load_user_config(config)
    content = project.parse(user)
    lines = describe_project(content, user, project.programs)
    sys.stderr.write(f"{one_line(project.label, 500)} would make mcpchat use:\n")
    sys.stderr.write("".join(f"{_INDENT}{line}\n" for line in lines) or "  nothing\n")
    changed = changed_programs(project, default_paths(os.environ))
    if changed:
        sys.stderr.write(
            "Changed since you trusted it:\n" + "".join(f"{_INDENT}{one_line(path, 500)}\n" for path in changed)
        )
    pages: list[list[str]] = [[]]
    if len(lines) + len(changed) > _SCREEN_LINES or sum(map(len, lines)) > _SCREEN_LINES * 80:
        pages = _split_pages(content, user)
        sys.stderr.write("In short:\n")
    if yes or not is_terminal(sys.stdin, sys.stderr):
        sys.stderr.write("".join(f"{_INDENT}{line}\n" for page in pages for line in page))
        return yes
    asker = TerminalDialog(Console(stderr=True, highlight=False))

    async def ask() -> int:
        for number, page in enumerate(pages, 1):
            sys.stderr.write("".join(f"{_INDENT}{line}\n" for line in page))
            left = sum(map(len, pages[number:]))
            question = f"Go on? {left} more servers follow." if left else "Trust it, as it is now?"
            if not await asker.ask_yes_no(question):
                return 1
        return 0

    return run_async(ask()) == 0


def _split_pages(content: Project, user: Config) -> list[list[str]]:
    """Return the summary in parts that fit on the screen, so that every command is beside a question."""
    columns, rows = shutil.get_terminal_size()
    rows = max(1, rows - _QUESTION_LINES)
    shortest = [cell_len(_INDENT + line) for line in summarize_project(content, user, _MIN_LENGTH)]
    length = max(1, rows // max(1, len(shortest))) * columns - max(shortest, default=0)
    lines = summarize_project(content, user, min(max(length // _MAX_WIDTH, _MIN_LENGTH), _MAX_LENGTH))
    pages: list[list[str]] = [[]]
    free = rows
    for line in lines:
        height = -(-(cell_len(line) + len(_INDENT)) // columns)
        if height > free and pages[-1]:
            pages.append([])
            free = rows
        pages[-1].append(line)
        free -= height
    return pages
