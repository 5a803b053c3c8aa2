"""mcpchat config: where the file is, what it says, whether it is right."""

import json
import os
import sys

import typer

from mcpchat.cli.options import ConfigOption, DebugOption, is_terminal, make_setup, write_json
from mcpchat.config import edit
from mcpchat.config.load import load_config, starter
from mcpchat.config.run import default_paths
from mcpchat.errors import UsageError
from mcpchat.util.sanitize import clean

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Show, make and check the config file.")


@app.command()
def path(config: ConfigOption = None) -> int:
    """Print where the config file is, or would be."""
    path = str(config or default_paths(os.environ).config)
    sys.stdout.write(f"{clean(path) if is_terminal(sys.stdout) else path}\n")
    return 0


@app.command()
def show(config: ConfigOption = None, debug: DebugOption = False) -> int:
    """Print the config in effect, defaults included, as JSON. References to secrets stay references."""
    from mcpchat.config import schema as configuration

    write_json(configuration.without_secrets(make_setup(config).config))
    return 0


@app.command()
def init(
    config: ConfigOption = None,
) -> int:
    """Write a commented config file to start from, and its JSON Schema beside it for editors."""
    from mcpchat.config import schema as configuration

    target = config or default_paths(os.environ).config
    if target.exists():
        raise UsageError(f"{target} exists", hint="edit it, or move it away first")
    schema = json.dumps(configuration.json_schema(), indent=2) + "\n"
    edit.begin(target, f"#:schema ./mcpchat.schema.json\n\n{starter()}", schema)
    sys.stdout.write(f"{target}\n")
    return 0


@app.command()
def validate(config: ConfigOption = None) -> int:
    """Check the config file; every problem is named with its line."""
    target = config or default_paths(os.environ).config
    settings = load_config(target, must_exist=True)
    sys.stdout.write(f"{target}: ok ({len(settings.servers)} servers, {len(settings.agents)} agents)\n")
    return 0


@app.command()
def schema() -> int:
    """Print the JSON Schema of the config file, for editors."""
    from mcpchat.config import schema as configuration

    sys.stdout.write(json.dumps(configuration.json_schema(), indent=2) + "\n")
    return 0


NAMES = tuple(command.callback.__name__ for command in app.registered_commands if command.callback)
