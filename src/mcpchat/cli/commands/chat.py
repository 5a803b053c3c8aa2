"""mcpchat chat: the REPL."""

import typer

from mcpchat.cli.chat_app import start_chat
from mcpchat.cli.options import (
    DisplayOptions,
    chat_display,
    config_and_servers,
    conversation_options,
    with_options,
)
from mcpchat.config.run import ConfigChoice, RunOptions

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@with_options(options=conversation_options, display=chat_display, config=config_and_servers)
def chat(options: RunOptions, display: DisplayOptions, config: ConfigChoice) -> int:
    """Chat at the terminal; mcpchat alone does the same."""
    return start_chat(options, display, config)
