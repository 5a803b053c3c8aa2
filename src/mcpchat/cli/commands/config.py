"""mcpchat config: show, create and check the config file."""

import json
import os
import sys
import tomllib
from pathlib import Path
from typing import Annotated

import tomlkit
import typer

from mcpchat.cli.lazy_group import CommandGroup
from mcpchat.cli.options import choice, config_file, with_options
from mcpchat.cli.output import is_terminal, write_json
from mcpchat.cli.runtime import build_context, literal_secret_warnings
from mcpchat.cli.server_entries import move_secrets
from mcpchat.config import edit
from mcpchat.config import schema as configuration
from mcpchat.config.file_table import to_file_table
from mcpchat.config.load import load_config, starter_config
from mcpchat.config.run import default_paths
from mcpchat.config.stored_secrets import StoredSecrets
from mcpchat.config.validation import iter_literal_secrets
from mcpchat.errors import UsageError
from mcpchat.util.sanitize import sanitize

app = typer.Typer(
    cls=CommandGroup,
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Show, create and check the config file.",
)


@app.command()
@with_options(config=config_file)
def path(config: Path | None) -> int:
    """Print the path of the config file, even if it does not exist."""
    path = str(config or default_paths(os.environ).config)
    sys.stdout.write(f"{sanitize(path) if is_terminal(sys.stdout) else path}\n")
    return 0


@app.command()
@with_options(config=config_file)
def show(
    config: Path | None,
    output: Annotated[str, choice("--output", "-o", of=("toml", "json"), help="toml, or json with defaults.")] = "toml",
    everything: Annotated[bool, typer.Option("--all", help="With the defaults.")] = False,
) -> int:
    """Print the config in effect as TOML, without defaults. References to secrets stay references."""
    settings = configuration.to_redacted(build_context(config).config)
    if output == "json":
        write_json(settings)
        return 0
    text = tomlkit.dumps(to_file_table(settings, defaults=everything))
    sys.stdout.write(sanitize(text) if is_terminal(sys.stdout) else text)
    return 0


@app.command()
@with_options(config=config_file)
def init(config: Path | None) -> int:
    """Write a commented config file to start from, and its JSON Schema beside it for editors."""
    target = config or default_paths(os.environ).config
    if target.exists():
        raise UsageError(f"{target} exists", hint="edit it, or move it away first")
    schema = json.dumps(configuration.json_schema(), indent=2) + "\n"
    edit.create(target, f"#:schema ./mcpchat.schema.json\n\n{starter_config()}", schema)
    sys.stdout.write(f"{target}\n")
    return 0


@app.command()
@with_options(config=config_file)
def validate(config: Path | None) -> int:
    """Check the config file; each problem is shown with its line.

    At a terminal it offers to move secrets in plain text into the keyring.
    """
    paths = default_paths(os.environ)
    target = config or paths.config
    settings = load_config(target, must_exist=True)
    sys.stderr.write("".join(f"{line}\n" for line in literal_secret_warnings(settings, complete=True)))
    if is_terminal(sys.stdin, sys.stderr):
        _offer_to_move_secrets(target, settings, StoredSecrets(paths.state))
    sys.stdout.write(f"{target}: ok ({len(settings.servers)} servers, {len(settings.agents)} agents)\n")
    return 0


def _offer_to_move_secrets(path: Path, settings: configuration.Config, store: StoredSecrets) -> None:
    """Move the secrets of the file into the keyring, if the user agrees. Raises ConfigError."""
    entries = tomllib.loads(edit.current_text(path)).get("servers", {})
    moved = move_secrets(entries, store)
    changes: list[tuple[str, str, str]] = []
    for name, table, key in iter_literal_secrets(entries):
        new, old = moved[name][table], entries[name][table]
        if new != old:
            changes.append((name, table, new) if table == "url" else (name, f"{table}.{key}", new[key]))

    def change(text: str) -> str:
        for name, key, reference in changes:
            text = edit.set_server_value(text, name, key, reference)
        return text

    if changes:
        edit.update(path, change)
        sys.stderr.write(f"{path}: {', '.join(f'{name}.{key}' for name, key, _ in changes)} moved into the keyring\n")


@app.command()
def schema() -> int:
    """Print the JSON Schema of the config file, for editors."""
    sys.stdout.write(json.dumps(configuration.json_schema(), indent=2) + "\n")
    return 0
