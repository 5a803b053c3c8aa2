"""mcpchat secret: secrets in the keyring of the operating system, for the config to refer to."""

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from mcpchat.cli.lazy_group import CommandGroup
from mcpchat.cli.options import TextOrJson, config_file, with_options
from mcpchat.cli.output import is_terminal, write_json
from mcpchat.cli.runtime import build_context, run_async
from mcpchat.config.run import RunContext
from mcpchat.config.schema import to_plain
from mcpchat.config.stored_secrets import StoredSecrets, find_keyring_references
from mcpchat.errors import UsageError
from mcpchat.util.sanitize import one_line
from mcpchat.util.stdin import read_text

app = typer.Typer(cls=CommandGroup, add_completion=False, rich_markup_mode=None)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help='The name, as in "keyring:NAME".')]


@app.command("list", hidden=True)
@app.callback(invoke_without_command=True)
@with_options(config=config_file)
def list_secrets(config: Path | None, output: TextOrJson = "text") -> int:
    """List the secrets that are stored, and those that the config refers to; never their values.

    \b
      mcpchat secret set github                 asks for the secret; then write "keyring:github" in the config
      pass show github | mcpchat secret set github
      mcpchat secret delete github
    """
    context = build_context(config)
    return run_async(_list_secrets(context, output))


async def _list_secrets(context: RunContext, output: str) -> int:
    store = _open(context)
    used: dict[str, list[str]] = {name: [] for name in store.names()}
    for name, key in find_keyring_references(to_plain(context.config)):
        used.setdefault(name, []).append(key)
    rows = [(name, await store.exists(name), keys) for name, keys in sorted(used.items())]
    if output == "json":
        write_json([{"name": name, "stored": stored, "used_by": keys} for name, stored, keys in rows])
        return 0
    for name, stored, keys in rows:
        state = "stored" if stored else "missing"
        users = f"  {', '.join(one_line(key, 100) for key in keys)}" if keys else ""
        sys.stdout.write(f"{one_line(name, 100)}  {state}{users}\n")
    if not rows:
        sys.stderr.write("no secret is stored; mcpchat secret set NAME stores one\n")
    return 0


@app.command("set")
@with_options(config=config_file)
def set_secret(config: Path | None, name: NameArgument) -> int:
    """Store a secret, or replace it. It is asked for without echo, or read from standard input."""
    if is_terminal(sys.stdin, sys.stderr):
        secret = getpass.getpass(f"{one_line(name, 60)}: ", sys.stderr)
    else:
        secret = read_text("secret set").strip("\r\n")
    context = build_context(config, quiet=True)
    context.secrets.add(secret)
    run_async(_store(context, name, secret))
    sys.stderr.write(f'stored {one_line(name, 100)}; "keyring:{one_line(name, 100)}" refers to it\n')
    return 0


async def _store(context: RunContext, name: str, secret: str) -> int:
    await _open(context).store(name, secret)
    return 0


@app.command()
@with_options(config=config_file)
def delete(config: Path | None, name: NameArgument) -> int:
    """Delete a secret from the keyring."""
    return run_async(_delete(build_context(config, quiet=True), name))


async def _delete(context: RunContext, name: str) -> int:
    if not await _open(context).delete(name):
        raise UsageError(f"the keyring has no secret {one_line(name, 100)}", hint="mcpchat secret lists them")
    sys.stderr.write(f"deleted {one_line(name, 100)}\n")
    return 0


def _open(context: RunContext) -> StoredSecrets:
    return StoredSecrets(context.paths.state)
