"""mcpchat models: the models to choose from."""

import sys
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import typer

from mcpchat.cli.options import TextOrJson, config_file, with_options
from mcpchat.cli.output import print_table, write_json
from mcpchat.cli.runtime import build_context, current_run, run_async
from mcpchat.config.run import RunContext
from mcpchat.models.selection import ModelSelector
from mcpchat.ui.render import tables

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@with_options(config=config_file)
def models(
    config: Path | None,
    table: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only the models of this [model.NAME]'s server.")
    ] = None,
    output: TextOrJson = "text",
) -> int:
    """List the models to choose from: those in the config, and those that the model's server lists.

    Any other name can be used too: the server decides whether it knows it.

    \b
      mcpchat models
      mcpchat models local
      mcpchat ask -m qwen3@local "Hello"      a model of that server
    """
    return run_async(_list_models(build_context(config), table, output))


async def _list_models(context: RunContext, table: str | None, output: str) -> int:
    """Raises UsageError, NoModel, ModelError; the models of the config are shown even then."""
    async with aclosing(ModelSelector(context)) as selector:
        rows, problem = await selector.list_all(table)
    if output == "json":
        write_json(rows)
    else:
        print_table(tables.model_table([(row.model, row.at, row.window, row.note) for row in rows]))
    sys.stdout.flush()
    if problem is not None:
        current_run().error_written = output == "json"
        raise problem
    return 0
