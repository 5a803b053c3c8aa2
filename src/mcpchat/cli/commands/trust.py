"""mcpchat trust: project files, and tools that changed since they were agreed to."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcpchat.cli.options import (
    ConfigOption,
    DebugOption,
    JsonOutput,
    bad_choice,
    is_terminal,
    make_setup,
    run_async,
    user_config,
    write_json,
)
from mcpchat.config.run import default_paths
from mcpchat.errors import Denied, UsageError
from mcpchat.util.sanitize import one_line

if TYPE_CHECKING:
    from mcpchat.config.project_file import ProjectFile

app = typer.Typer(rich_markup_mode=None)

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Agree to all of it, without a question.")]


@app.callback(invoke_without_command=True)
def root(ctx: typer.Context, yes: Yes = False, config: ConfigOption = None, debug: DebugOption = False) -> int:
    """Show what the project's .mcpchat.toml, in this folder or above, would run and contact; and ask to trust it.

    Until then, and again after any change of it, nothing of it is used.

    \b
      mcpchat trust
      mcpchat trust review notes      tools of a server that have changed
      mcpchat trust show
    """
    if ctx.invoked_subcommand is not None:
        return 0
    from mcpchat.config import project_file

    paths = default_paths(os.environ)
    project = project_file.find_project(but=config or paths.config)
    if project is None:
        raise UsageError("there is no .mcpchat.toml in this folder or above")
    if project_file.is_trusted(project, paths):
        sys.stderr.write(f"{one_line(str(project.path), 500)} is trusted as it is\n")
        return 0
    if not agree(project, config, yes=yes):
        raise Denied(f"{one_line(str(project.path), 500)} is not trusted", hint="mcpchat trust --yes trusts it")
    project_file.trust(project, paths)
    sys.stderr.write("trusted, until it changes\n")
    return 0


def agree(project: "ProjectFile", config: Path | None, *, yes: bool = False) -> bool:
    """Show all that the file would do, and ask whether it may. Raises ConfigError for one that cannot be used."""
    from mcpchat.config.project import shown

    user = user_config(config)
    lines = shown(project.parsed(user), user)
    sys.stderr.write(f"{one_line(str(project.path), 500)} would have mcpchat use:\n")
    sys.stderr.write("".join(f"  {line}\n" for line in lines) or "  nothing\n")
    if yes:
        return True
    if not is_terminal(sys.stdin, sys.stderr):
        return False
    from rich.console import Console

    from mcpchat.ui.prompts.dialog import TerminalAsker

    asker = TerminalAsker(Console(stderr=True, highlight=False))
    answered: list[bool] = []

    async def ask() -> int:
        answered.append(await asker.yes_or_no("Trust it, as it is now?"))
        return 0

    run_async(ask())
    return answered[0]


@app.command()
def show(output: JsonOutput = "text", config: ConfigOption = None, debug: DebugOption = False) -> int:
    """List the project files that are trusted."""
    from mcpchat.config import project_file

    if output not in {"text", "json"}:
        bad_choice("--output", output, ("text", "json"))
    trusted = project_file.trusted_files(default_paths(os.environ))
    if output == "json":
        write_json(trusted)
    else:
        sys.stdout.write("".join(f"{one_line(one.path, 500)}  since {one.date}\n" for one in trusted))
        if not trusted:
            sys.stderr.write("no project file is trusted\n")
    return 0


@app.command()
def revoke(
    path: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Default: the one of this folder.")] = None,
    debug: DebugOption = False,
) -> int:
    """Trust a project file no longer."""
    from mcpchat.config import project_file

    paths = default_paths(os.environ)
    if path is None:
        project = project_file.find_project(but=paths.config)
        if project is None:
            raise UsageError("there is no .mcpchat.toml in this folder or above", hint="name the file")
        path = project.path
    if not project_file.trust_file(paths).forget(project_file.located(path)):
        raise UsageError(f"{path} is not trusted", hint="mcpchat trust show lists those that are")
    sys.stderr.write(f"{one_line(str(path), 500)} is not trusted any longer\n")
    return 0


@app.command()
def review(
    server: Annotated[str, typer.Argument(metavar="NAME", help="The server.")],
    yes: Yes = False,
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> int:
    """Show what of a server's tools and instructions changed since you agreed to them, and ask about each.

    Ends with exit code 6 while anything is left that was not agreed to.
    """
    from mcpchat.cli.commands import trust_review

    return run_async(trust_review.review(make_setup(config), server, yes=yes))


NAMES = tuple(command.callback.__name__ for command in app.registered_commands if command.callback)
