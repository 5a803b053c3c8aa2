"""Finds servers in the registry, and adds one: shows its exact command and source, and asks for what it needs."""

import getpass
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from mcpchat.cli.output import is_terminal
from mcpchat.cli.runtime import run_for_value
from mcpchat.config.clients.plan import own_name
from mcpchat.config.run import RunContext
from mcpchat.config.secret_refs import resolve_headers
from mcpchat.config.stored_secrets import StoredSecrets, move_secret
from mcpchat.errors import Denied, McpChatError, UsageError
from mcpchat.registry.client import RegistryClient
from mcpchat.registry.documents import ServerResponse
from mcpchat.registry.install import InstalledSettings, build_settings
from mcpchat.registry.known_servers import search_known
from mcpchat.registry.options import InstallOption, RequestedInput, list_options
from mcpchat.ui.render.registry import FoundServer, describe_install
from mcpchat.util.redaction import SecretRegistry
from mcpchat.util.sanitize import one_line

_NAME_NOISE = ("mcp", "server")


@dataclass(frozen=True, kw_only=True)
class InstallChoices:
    """What the command line says: the kind of package, values, the sandbox, and whether to ask before writing.

    ``check_name`` raises UsageError for a name that the server cannot have.
    """

    kind: str | None = None
    values: Mapping[str, str]
    sandbox: bool = False
    yes: bool = False
    check_name: Callable[[str], None] = lambda name: None


async def open_registry(context: RunContext) -> RegistryClient:
    """The registry of the config. Raises ConfigError if a header cannot be resolved."""
    settings = context.config.registry
    headers = await resolve_headers(
        settings.headers,
        context.environ,
        url=settings.url,
        allow_http=False,
        config_key="registry.headers",
        on_secret=context.secrets.add,
    )
    return RegistryClient(settings.url, headers)


async def search_servers(context: RunContext, words: str, limit: int) -> tuple[list[FoundServer], McpChatError | None]:
    """The known servers and those of the registry that the words are about, and the error of the registry.

    Without words, only the known ones: the registry has thousands.
    """
    found = [
        FoundServer(name=name, version="", kinds=("remote",), description=f"{server.description} ({server.url})")
        for name, server in search_known(words).items()
    ]
    if not words:
        return found, None
    try:
        responses = await (await open_registry(context)).search(words, limit)
    except McpChatError as error:
        return found, error
    return [*found, *map(_to_found, responses)][:limit], None


def _to_found(response: ServerResponse) -> FoundServer:
    server = response.server
    kinds = tuple(dict.fromkeys(option.kind for option in list_options(server)))
    note = "deprecated: " if response.status == "deprecated" else ""
    return FoundServer(
        name=server.name, version=server.version, kinds=kinds, description=f"{note}{server.description or server.title}"
    )


def short_name(name: str) -> str:
    """A name for the config: what is particular in the registry's name."""
    words = [word for word in name.rpartition("/")[2].replace(".", "-").split("-") if word.lower() not in _NAME_NOISE]
    return own_name("-".join(words) or name.rpartition("/")[2])


def install(
    context: RunContext, registry_name: str, own: str | None, choices: InstallChoices
) -> tuple[str, dict[str, Any]]:
    """Choose how to use a server of the registry; show it, and ask. Returns its name and settings for the config.

    Secrets that it asks for are in the keyring then. Raises UsageError, ServerError, and Denied if the user says no.
    """
    name, _, version = registry_name.partition("@")
    response = run_for_value(_fetch(context, name, version or "latest"))
    if response.status == "deleted":
        raise UsageError(f"{name} was deleted from the registry", hint="mcpchat servers search finds others")
    option = _choose_option(list_options(response.server), choices, name)
    own = own or short_name(name)
    choices.check_name(own)
    installed = build_settings(option, _ask_values(option, choices.values, context.secrets))
    settings = dict(installed.settings)
    sandbox = option.sandbox if choices.sandbox else None
    if choices.sandbox and option.sandbox is None:
        raise UsageError(f"there is no sandbox for a server of the kind {option.kind}", hint="leave out --sandbox")
    if sandbox is not None:
        settings["sandbox"] = sandbox
    for line in describe_install(
        response.server.name,
        version=response.server.version,
        repository=response.server.repository.url if response.server.repository else "",
        status=response.status,
        origin=option.origin,
        settings=settings,
        secret_keys=installed.secret_keys,
        risky=option.risky_variables,
        suggests_sandbox=option.sandbox is not None and sandbox is None and shutil.which("bwrap") is not None,
    ):
        sys.stderr.write(f"{line}\n")
    _confirm(own, yes=choices.yes)
    store = StoredSecrets(context.paths.state)
    return own, run_for_value(_store_secrets(own, settings, installed, store))


async def _fetch(context: RunContext, name: str, version: str) -> ServerResponse:
    return await (await open_registry(context)).get(name, version)


def _choose_option(options: Sequence[InstallOption], choices: InstallChoices, name: str) -> InstallOption:
    """The first option that can be used; packages only if their program is there, unless ``choices`` names the kind."""
    usable = [option for option in options if not option.problem]
    if choices.kind is not None:
        of_kind = [option for option in options if option.kind == choices.kind]
        if not of_kind:
            kinds = ", ".join(dict.fromkeys(option.kind for option in options)) or "none"
            raise UsageError(f"{name} has no {choices.kind}; it has {kinds}")
        usable = [option for option in of_kind if not option.problem]
        options = of_kind
    if not usable:
        reasons = (
            "; ".join(f"{option.kind}: {option.problem}" for option in options) or "it names no package or address"
        )
        raise UsageError(f"{name} cannot be used: {reasons}")
    return next((option for option in usable if not option.program or shutil.which(option.program)), usable[0])


def _ask_values(option: InstallOption, given: Mapping[str, str], secrets: SecretRegistry) -> dict[str, str]:
    """The values of the inputs: those that are given, else what the user enters at the terminal.

    Only what is required is asked for. Raises UsageError for a name that the server does not ask for.
    """
    names = [item.name for item in option.inputs]
    if unknown := [name for name in given if name not in names]:
        raise UsageError(f"--input {unknown[0]}: it asks for {', '.join(names) or 'nothing'}")
    values = dict(given)
    for item in option.inputs:
        if item.name in given or not item.is_required or not is_terminal(sys.stdin, sys.stderr):
            continue
        values[item.name] = _ask(item)
        if item.is_secret:
            secrets.add(values[item.name])
    return values


def _ask(item: RequestedInput) -> str:
    description = f" ({item.description})" if item.description else ""
    choices = f" [{one_line(', '.join(item.choices), 300)}]" if item.choices else ""
    question = f"{one_line(item.name, 60)}{description}{choices}"
    if item.is_secret:
        return getpass.getpass(f"{question}: ", sys.stderr)
    answer: str = typer.prompt(question, default=one_line(item.default, 200) or None, err=True)
    return answer


def _confirm(name: str, *, yes: bool) -> None:
    """Ask whether to add the server. Raises UsageError without a terminal, Denied if the user says no."""
    if yes:
        return
    if not is_terminal(sys.stdin, sys.stderr):
        raise UsageError(f"{name} was not added: nobody confirmed it", hint="--yes adds it")
    if not typer.confirm(f"add it as {name}?", default=True, err=True):
        raise Denied("nothing was added")


async def _store_secrets(
    name: str, settings: dict[str, Any], installed: InstalledSettings, store: StoredSecrets
) -> dict[str, Any]:
    for key in installed.secret_keys:
        settings = await move_secret(settings, name, key, store)
    return settings
