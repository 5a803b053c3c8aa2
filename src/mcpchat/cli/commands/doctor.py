"""mcpchat doctor: checks everything and says what to do."""

import dataclasses
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from mcpchat.cli.mcp_session import discard, open_servers, require_server, restrict_to
from mcpchat.cli.options import TextOrJson, config_file, with_options
from mcpchat.cli.output import write_json
from mcpchat.cli.runtime import build_context, current_run, load_user_config, run_async
from mcpchat.config.clients.plan import plan_source
from mcpchat.config.run import RunContext, default_paths, working_directory
from mcpchat.config.schema import Config, ServerConfig
from mcpchat.doctor import machine, model, settings
from mcpchat.doctor.check import Check, Subject, worst_exit_code
from mcpchat.doctor.servers import check_servers
from mcpchat.errors import ConfigError, UsageError
from mcpchat.mcp.hub import McpHub
from mcpchat.models.server_time import read_server_time
from mcpchat.ui.prompts.sign_in import PlainSignIn
from mcpchat.ui.render.check_list import CheckList
from mcpchat.ui.render.plain import NonInteractiveDialog
from mcpchat.util.text import suggest

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@with_options(config=config_file)
def doctor(
    config: Path | None,
    server: Annotated[
        str | None, typer.Argument(metavar="[SERVER]", help="Only this server.", show_default=False)
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="SOURCE", help="Check the servers of another client, or of its file, instead."),
    ] = None,
    model_check: Annotated[
        bool, typer.Option("--model-check", help="Also ask the model to call a tool: one small request, which costs.")
    ] = False,
    model_name: Annotated[
        str | None, typer.Option("--model", "-m", metavar="NAME", help="The model to check.", show_default=False)
    ] = None,
    output: TextOrJson = "text",
) -> int:
    """Check the config, the model, each server, the keyring, the threads and the machine; say what to type.

    Starts each server once. Ends with the exit code of the worst: 2 config, 8 model, 4 server, 3 sign-in.

    \b
      mcpchat doctor
      mcpchat doctor notes
      mcpchat doctor --model-check
      mcpchat doctor --from cursor     before you import them
    """
    return run_async(_run(config, server, source, model_check, model_name, output))


async def _run(
    config: Path | None, server: str | None, source: str | None, model_check: bool, model_name: str | None, output: str
) -> int:
    context, user_config, error = _build_context(config)
    if server is not None and source is None and error is None:
        require_server(context, server)
    if model_check and server is None and source is None:
        sys.stderr.write("--model-check sends the model one small request, which its provider may charge for\n")
    if source is not None:
        checks = _check_source(context, source, server)
    elif server is not None:
        checks = _check_one(context, server, user_config, error)
    else:
        checks = _check_all(context, user_config, error, model_name, model_check)
    found: list[Check] = []
    printer = CheckList(sys.stdout)
    async for check in checks:
        check = _redact(context, check)
        found.append(check)
        if output == "text":
            printer.print(check)
    if output == "json":
        write_json(found)
    else:
        printer.print_summary(found)
    return worst_exit_code(found)


def _build_context(config: Path | None) -> tuple[RunContext, Config, ConfigError | None]:
    """The context of the checks and the user's own config; if that cannot be used, defaults and the error."""
    try:
        return build_context(config, quiet=True), load_user_config(config), None
    except ConfigError as error:
        paths = default_paths(os.environ)
        paths = paths if config is None else dataclasses.replace(paths, config=config)
        context = RunContext(
            config=Config(servers={}), environ=dict(os.environ), paths=paths, secrets=current_run().secrets
        )
        return context, Config(), error


def _redact(context: RunContext, check: Check) -> Check:
    redact = context.secrets.redact
    return msgspec.structs.replace(check, detail=redact(check.detail), fix=redact(check.fix))


async def _check_all(
    context: RunContext, user_config: Config, error: ConfigError | None, model_name: str | None, model_check: bool
) -> AsyncIterator[Check]:
    yield machine.check_program()
    for check in settings.check_config(context.paths.config, user_config, error):
        yield check
    for check in settings.check_project(context.paths, user_config):
        yield check
    is_usable = False
    if error is None:
        async for check in model.check_model(context, model_name, with_request=model_check):
            is_usable = is_usable or check.status == "ok"
            yield check
    address = model.find_address(context, model_name) if is_usable else ""
    async for check in check_servers(context.config.servers, partial(_open, context)):
        yield check
    yield await machine.check_keyring(context)
    yield await machine.check_threads(context)
    for check in (*machine.check_folders(context), *machine.check_network(), *machine.check_terminal()):
        yield check
    for check in machine.check_clock(await read_server_time(address) if address else None):
        yield check


async def _check_one(
    context: RunContext, server: str, user_config: Config, error: ConfigError | None
) -> AsyncIterator[Check]:
    for check in settings.check_config(context.paths.config, user_config, error):
        yield check
    servers = {name: entry for name, entry in context.config.servers.items() if name == server}
    async for check in check_servers(servers, partial(_open, context)):
        yield check


async def _check_source(context: RunContext, source: str, server: str | None) -> AsyncIterator[Check]:
    """Check the servers of another client as if they were imported; nothing is written."""
    files = plan_source(source, Config(servers={}), working_directory(), os.environ)
    servers: dict[str, ServerConfig] = {}
    found = [item for file in files for item in file.servers if server in (None, item.name, item.source_name)]
    for file in files:
        if file.problem:
            yield Subject(f"file {file.path}").wrong("file", file.problem, exit_code=2)
    if server is not None and not found:
        names = [item.name for file in files for item in file.servers]
        raise UsageError(f"{source} has no server named {server}; {suggest(server, names)}")
    for item in found:
        if item.state == "cannot":
            yield Subject(f"server {item.name}").wrong("config", item.detail, item.hint, 2)
            continue
        if item.asked_secrets:  # a reference of this name may be another secret of the user
            asked = ", ".join(item.asked_secrets.values())
            subject = Subject(f"server {item.name}")
            yield subject.warning("secrets", f"not started: its client asks for {asked}", "mcpchat import")
            continue
        servers[item.name] = msgspec.convert(item.settings, ServerConfig)
        for key in item.moved_secrets:
            table, _, name = key.partition(".")
            context.secrets.add(item.settings[table][name].removeprefix("Bearer "))
    config = msgspec.structs.replace(context.config, servers=servers)
    async for check in check_servers(servers, partial(_open, dataclasses.replace(context, config=config))):
        yield check


def _open(context: RunContext, name: str) -> AbstractAsyncContextManager[McpHub]:
    """Open the server alone, without its cached lists; it can ask nothing, and no sign-in is started."""
    user = (NonInteractiveDialog(), PlainSignIn(sys.stderr))
    return open_servers(restrict_to(context, name), discard, refresh=True, user=user)
