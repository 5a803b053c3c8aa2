"""mcpchat completion: the script that a shell needs to complete mcpchat."""

import sys
from typing import Annotated

import typer

from mcpchat.cli.completion import SHELLS, read_script
from mcpchat.cli.options import argument_choice

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def completion(shell: Annotated[str, argument_choice("SHELL", of=SHELLS)]) -> int:
    """Print the completion script of a shell: commands, options, names of servers, tools, threads, agents.

    \b
      eval "$(mcpchat completion bash)"                                       in ~/.bashrc; zsh in ~/.zshrc
      mcpchat completion fish > ~/.config/fish/completions/mcpchat.fish
      mcpchat completion powershell | Out-String | Invoke-Expression          in $PROFILE
    """
    sys.stdout.write(read_script(shell))
    return 0
