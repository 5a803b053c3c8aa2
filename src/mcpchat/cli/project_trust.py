"""The question whether a project file is trusted."""

import os
import sys
from collections.abc import Iterable
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

_INDENT = "  "
_QUESTION_ROWS = 6  # of the screen: the heading, the question, its answer and room for a prompt
_MIN_LENGTH, _MAX_LENGTH = 20, 400  # characters of a command or an address in the summary


def ask_trust(project: ProjectFile, config: Path | None, *, yes: bool = False) -> bool:
    """Show everything that the file would do, and ask the user whether to trust it. With ``yes`` only show it.

    False without a terminal. Raises ConfigError for a file that cannot be used.
    """
    user = load_user_config(config)
    content = project.parse(user)
    lines = describe_project(content, user, project.programs)
    console = Console(stderr=True, highlight=False)
    columns, rows = console.width, max(1, console.height - _QUESTION_ROWS)
    sys.stderr.write(f"{one_line(project.label, 500)} would make mcpchat use:\n")
    _write(lines or ["nothing"])
    changed = [one_line(path, 500) for path in changed_programs(project, default_paths(os.environ))]
    if changed:
        sys.stderr.write("Changed since you trusted it:\n")
        _write(changed)
    pages: list[list[str]] = [[]]
    if sum(_count_rows(line, columns) for line in (*lines, *changed)) > rows:
        # The description scrolls off: a summary follows, so that every command is beside a question.
        pages = _split_pages(content, user, columns, rows)
        sys.stderr.write("In short:\n")
    if yes or not is_terminal(sys.stdin, sys.stderr):
        _write(line for page in pages for line in page)
        return yes
    asker = TerminalDialog(console)

    async def ask() -> int:
        for number, page in enumerate(pages, 1):
            _write(page)
            left = sum(map(len, pages[number:]))
            more = f"{left} more servers follow" if left > 1 else "1 more server follows"
            if not await asker.ask_yes_no(f"Go on? {more}." if left else "Trust it, as it is now?"):
                return 1
        return 0

    return run_async(ask()) == 0


def _write(lines: Iterable[str]) -> None:
    sys.stderr.write("".join(f"{_INDENT}{line}\n" for line in lines))


def _count_rows(line: str, columns: int) -> int:
    return max(1, -(-cell_len(_INDENT + line) // columns))


def _split_pages(content: Project, user: Config, columns: int, rows: int) -> list[list[str]]:
    """Return the summary in parts of at most ``rows``."""
    length = _MAX_LENGTH
    lines = summarize_project(content, user, length)
    while length > _MIN_LENGTH and any(_count_rows(line, columns) > rows for line in lines):
        length //= 2
        lines = summarize_project(content, user, length)
    pages: list[list[str]] = [[]]
    free = rows
    for line in lines:
        height = _count_rows(line, columns)
        if height > free and pages[-1]:
            pages.append([])
            free = rows
        pages[-1].append(line)
        free -= height
    return pages
