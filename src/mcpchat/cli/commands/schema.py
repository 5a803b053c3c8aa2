"""mcpchat schema: the JSON Schemas of what mcpchat reads and writes."""

import json
import sys
from typing import Annotated

import typer

from mcpchat.batch.types import request_schema, result_schema
from mcpchat.cli.options import argument_choice
from mcpchat.config import schema as configuration
from mcpchat.core import jsonl_protocol

app = typer.Typer(add_completion=False, rich_markup_mode=None)
SCHEMAS = {
    "events": jsonl_protocol.output_schema,
    "input": jsonl_protocol.input_schema,
    "answer": jsonl_protocol.answer_schema,
    "batch": request_schema,
    "result": result_schema,
    "config": configuration.json_schema,
}


@app.command()
def schema(
    name: Annotated[str, argument_choice("NAME", of=tuple(SCHEMAS))],
) -> int:
    """Print the JSON Schema of what mcpchat reads or writes.

    \b
      events   each line of ask -o jsonl          input    each line of ask --input-format jsonl
      answer   the object of ask -o json          config   the config file
      batch    each line that batch reads         result   each line that batch writes
    """
    sys.stdout.write(json.dumps(SCHEMAS[name](), indent=2) + "\n")
    return 0
