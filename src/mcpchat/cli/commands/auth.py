"""mcpchat auth: sign in, see who is signed in, sign out."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mcpchat.auth.service import AuthService
from mcpchat.cli.lazy_group import CommandGroup
from mcpchat.cli.mcp_session import terminal_user
from mcpchat.cli.options import TextOrJson, choice, config_and_named_servers, config_file, with_options
from mcpchat.cli.output import print_table, write_json
from mcpchat.cli.runtime import build_context, build_context_at, run_async
from mcpchat.config.named_servers import find_named_server, is_address
from mcpchat.config.run import ConfigChoice
from mcpchat.errors import SignInNeeded, UsageError
from mcpchat.ui.render import tables

app = typer.Typer(cls=CommandGroup, add_completion=False, rich_markup_mode=None, no_args_is_help=True)

AccountOption = Annotated[
    str | None,
    typer.Option("--account", metavar="WHO", help="An address, or a name of your own for the account."),
]


@app.callback()
def root() -> None:
    """Sign in to Google, other providers and remote servers; see who is signed in; sign out.

    \b
      mcpchat auth login google
      mcpchat auth status
    """


@app.command()
@with_options(config=config_and_named_servers)
def login(
    config: ConfigChoice,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME | URL]", help="A provider (google), or a remote server: its name or address."),
    ] = None,
    account: AccountOption = None,
    store: Annotated[
        str | None,
        choice(
            "--store", of=("keyring", "file"), metavar="WHERE", help="keyring, or file: a plain file, NOT encrypted."
        ),
    ] = None,
    scope: Annotated[
        list[str] | None, typer.Option("--scope", metavar="SCOPE", help="Ask for this too. Repeatable.")
    ] = None,
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="The callback's port. Default: a free one.")
    ] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only show the address; start no browser.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=1, help="How long to wait for you.")
    ] = 300.0,
) -> int:
    """Sign in with a browser, once: the login is kept in the OS keyring and renewed automatically.

    Over SSH, open the address on your own machine, and paste the address at which the browser ends; or tunnel the
    callback: ssh -L 8931:127.0.0.1:8931 HOST, then --port 8931.

    \b
      mcpchat auth login google
      mcpchat auth login google --account work
      mcpchat auth login notion
      mcpchat auth login https://mcp.example.com/mcp
    """
    if name is not None and is_address(name):
        context, name = build_context_at(config, name)
    else:
        context = build_context(config)

    async def work() -> int:
        logins = AuthService(context, terminal_user()[1])
        named = find_named_server(context.config, config.servers, name) if name else _only(logins.list_names())
        if logins.is_ephemeral and store is None:
            raise UsageError(
                'a login in memory ends with this command: the config has auth.store = "memory"',
                hint="sign in within a chat by /login, or name a place: --store keyring",
            )
        try:
            await logins.login(
                named,
                account=account,
                store=store,  # type: ignore[arg-type]  # checked above
                port=port,
                browser=not no_browser,
                timeout=timeout,
                extra_scopes=[name for value in scope or () for name in value.split()],
            )
        except asyncio.CancelledError:
            await logins.wait_for_pending()
            sys.stderr.write("\ncancelled; mcpchat auth status shows who is signed in\n")
            raise
        finally:
            await logins.wait_for_pending()
        return 0

    return run_async(work())


def _only(known: Sequence[str]) -> str:
    if len(known) == 1:
        return known[0]
    if not known:
        raise UsageError(
            "nothing in the config takes a sign-in", hint='a server with auth = "google", or one with a url, does'
        )
    raise UsageError(f"several things can be signed in to: {', '.join(known)}", hint="mcpchat auth login NAME")


@app.command()
@with_options(config=config_file)
def status(
    config: Path | None,
    check: Annotated[
        bool, typer.Option("--check", help="Ask each provider and server whether it still holds.")
    ] = False,
    output: TextOrJson = "text",
) -> int:
    """Show the logins: account, scopes, store, lifetime. Shows no secret.

    With --check, ends with exit code 3 when one no longer holds, and with that of the error when one could not be
    checked: 1 for a locked keyring, 4 for a server that does not answer.

    \b
      mcpchat auth status
      mcpchat auth status --check -o json
    """
    context = build_context(config)

    async def work() -> int:
        logins = AuthService(context, terminal_user()[1])
        try:
            rows = await logins.list_statuses(check=check)
        finally:
            await logins.wait_for_pending()
        if output == "json":
            write_json(rows)
        elif rows:
            print_table(tables.account_table(rows))
        else:
            sys.stderr.write("not signed in anywhere; a remote server that needs a sign-in says so when you use it\n")
        if check and any(row.state == "signed out" for row in rows):
            return SignInNeeded.exit_code
        return max((row.exit_code for row in rows), default=0)

    return run_async(work())


@app.command()
@with_options(config=config_file)
def logout(
    config: Path | None,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The provider, or the remote server.")],
    account: AccountOption = None,
    every: Annotated[bool, typer.Option("--all", help="All its accounts.")] = False,
    local: Annotated[bool, typer.Option("--local", help="Only remove it here; do not tell the provider.")] = False,
) -> int:
    """Sign out: the login is revoked at the provider, then removed here whatever the provider answers.

    Ends with exit code 1 when it could not be revoked.

    \b
      mcpchat auth logout google
      mcpchat auth logout google --account work
    """
    context = build_context(config)

    async def work() -> int:
        return await AuthService(context, terminal_user()[1]).logout(
            name, account=account, local=local, all_accounts=every
        )

    return run_async(work())
