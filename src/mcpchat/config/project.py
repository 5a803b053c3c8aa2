"""A project's own file: servers and agents that come with a folder, and that nobody has agreed to yet."""

import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from mcpchat.config.schema import AgentConfig, Config, SandboxConfig, ServerConfig, completed, located
from mcpchat.config.validation import REFERENCE, Found, contradictions, problems, tables
from mcpchat.errors import ConfigError
from mcpchat.util.sanitize import one_line, revealed

FILE_NAME = ".mcpchat.toml"
# The session bus opens the whole keyring, the agent every other machine; the rest is mcpchat's own.
_NEVER = re.compile(r"DBUS_SESSION_BUS_ADDRESS|SSH_AUTH_SOCK|GPG_AGENT_INFO|OPENAI_\w*|MCPCHAT_\w*")


_YOURS = ("trust", "sampling", "required", "client_id", "client_secret", "private_key", "issuer", "token_env")


class Project(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that such a file may have."""

    servers: dict[str, ServerConfig] = field(default_factory=dict)
    agents: dict[str, AgentConfig] = field(default_factory=dict)


def parse_project(text: str, name: str, *, folder: str, user: Config) -> Project:
    """Decode a project file's text; its programs run in ``folder``. ``user`` is the config that it comes on top of.

    Raises ConfigError that lists every problem, a line each.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: not valid TOML: {error}") from error
    found = [
        *problems(table, Project, ()),
        *contradictions(table, others=user.servers),
        *_too_much(table, _keys(user)),
    ]
    if found:
        raise ConfigError(located(found, text, name), hint="the file is the project's: tell its authors")
    project = msgspec.convert(table, Project)
    servers = {own: _at_home(completed(server), folder) for own, server in project.servers.items()}
    return replace(project, servers=servers)


def _at_home(server: ServerConfig, folder: str) -> ServerConfig:
    if server.command is None:
        return server
    cwd = server.cwd or folder
    return replace(server, cwd=cwd if cwd.startswith(("/", "~")) else f"{folder}/{cwd}")


def _keys(user: Config) -> frozenset[str]:
    """The variables that hold the user's own keys, by the user's config."""
    entries = (user.model, *user.model.entries.values())
    providers = user.auth.entries.values()
    texts = [entry.api_key for entry in entries]
    texts += [text for one in providers for text in (one.client_secret, one.refresh_token)]
    texts += [text.removeprefix("Bearer ") for entry in entries for text in entry.headers.values()]
    references = [REFERENCE.fullmatch(text) for text in texts if text]
    return frozenset(found[2] for found in references if found and found[1] == "env")


def _too_much(table: Mapping[str, Any], keys: frozenset[str]) -> Iterator[Found]:
    """What a file must not have that anybody may have written."""
    for name, server in tables(table.get("servers")).items():
        path = ("servers", name)
        yield from _claims(server, path)
        for text in _all_texts(server):
            reference = REFERENCE.fullmatch(text.removeprefix("Bearer "))
            if reference and reference[1] == "keyring":
                yield path, f"{text}: a project's file gets nothing out of your keyring"
            elif reference and _is_ours(reference[2], keys):
                yield path, f"{reference[2]} is never given to a project's server"
        passed = server.get("env_pass")
        for variable in passed if isinstance(passed, list) else ():
            if isinstance(variable, str) and _is_ours(variable, keys):
                yield (*path, "env_pass"), f"{variable} is never given to a project's server"
    for name, agent in tables(table.get("agents")).items():
        if "approvals" in agent:
            yield ("agents", name, "approvals"), "not in a project's file: what may run is yours to say"
        if "instructions_file" in agent:
            yield ("agents", name, "instructions_file"), "not in a project's file: the words stand in it, to be seen"
        options = agent.get("options")
        if isinstance(options, dict) and "extra_body" in options:
            yield ("agents", name, "options"), "extra_body is not for a project's file: what is sent is yours to say"


def _claims(server: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Found]:
    for key in _YOURS:
        if server.get(key):
            yield (*path, key), "not in a project's file: only your own config can say so"
    if server.get("auth") == "client_credentials":
        yield (*path, "auth"), "not in a project's file: your secrets are not its to name"
    elif server.get("auth") not in {None, "none", "oauth"} and not server.get("scopes"):
        yield (*path, "auth"), "in a project's file it goes with scopes: what its token is to allow"


def _is_ours(variable: str, keys: frozenset[str]) -> bool:
    return variable in keys or _NEVER.fullmatch(variable) is not None


def _all_texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _all_texts(inner)


def joined(user: Config, project: Project) -> tuple[Config, tuple[str, ...]]:
    """The config with the project's servers and agents, and what is said of those that the user's stand before."""
    told = [
        f"the project's {kind} {name!r} is left out: yours has that name"
        for kind, theirs, yours in (
            ("server", project.servers, user.servers),
            ("agent", project.agents, user.agents),
        )
        for name in theirs
        if name in yours
    ]
    servers, agents = project.servers | user.servers, project.agents | user.agents
    return replace(user, servers=servers, agents=agents), tuple(told)


def shown(project: Project, user: Config) -> list[str]:
    """All that the file would have said, contacted, handed over and run, a line each; nothing is cut.

    The servers come last, right above the question. ``user`` is the config that it comes on top of.
    """
    lines: list[str] = []
    for name, agent in project.agents.items():
        if name in user.agents:
            lines.append(f"agent {one_line(name)}  not used: yours has that name")
            continue
        lines.append(f"agent {one_line(name)}" + ("  (used unless another is named)" if name == "default" else ""))
        said = agent.instructions.splitlines()
        lines += [f"  {line}" for line in _others(agent, {"instructions"})]
        many = f" ({len(said):,} lines)" if len(said) > 1 else ""
        lines += [f"  instructions{many}"] if said else []
        lines += [f"    {_plain(line)}" for line in said]
    for name, server in project.servers.items():
        if name in user.servers:
            lines.append(f"server {one_line(name)}  not used: yours has that name")
            continue
        lines += [f"server {one_line(name)}", *(f"  {line}" for line in _server_shown(server))]
    return lines


def _server_shown(server: ServerConfig) -> Iterator[str]:
    if server.command is not None:
        yield f"runs      {_plain(shlex.join([server.command, *server.args]))}"
        yield f"in        {_plain(server.cwd or '.')}"
    if server.url is not None:
        yield f"contacts  {_plain(server.url)}"
    if server.builtin is not None:
        yield f"runs      mcpchat's own {_plain(server.builtin)} server"
    yield from _given(server)
    for folder in (*server.folders, *server.roots):
        yield f"opens     {_plain(folder)}"
    if server.sandbox:
        allowed = server.sandbox if isinstance(server.sandbox, SandboxConfig) else SandboxConfig()
        yield from (f"reads     {_plain(folder)}" for folder in allowed.read)
        yield from (f"changes   {_plain(folder)}" for folder in allowed.write)
        yield f"sandbox   {'with' if allowed.network else 'without'} network"
    yield from _others(server, _SHOWN)


def _given(server: ServerConfig) -> Iterator[str]:
    for name, value in (*server.env.items(), *server.headers.items()):
        reference = REFERENCE.search(value)
        yield f"gives it  {_plain(name)} = {_plain(value)}" + ("  (yours)" if reference else "")
    for name in server.env_pass:
        yield f"gives it  your variable {_plain(name)}"
    if server.auth not in {None, "none", "oauth"}:
        whose = f" of {server.account}" if server.account else ""
        yield f"gives it  your {_plain(server.auth or '')} login{_plain(whose)}"
    for scope in server.scopes:
        yield f"  for     {_plain(scope)}"


_SHOWN = {
    "command", "args", "cwd", "url", "builtin", "env", "headers", "env_pass", "scopes", "folders", "roots", "sandbox",
}  # fmt: skip


def _others(value: Struct, shown: set[str]) -> Iterator[str]:
    """What else the table says, whatever keys there come to be."""
    for item in msgspec.structs.fields(value):
        said = getattr(value, item.name)
        if item.name not in shown and said != _default(item):
            yield f"{item.encode_name} = {_plain(msgspec.json.encode(said).decode())}"


def _default(item: msgspec.structs.FieldInfo) -> object:
    if item.default_factory is not msgspec.NODEFAULT:
        return item.default_factory()
    return item.default


def _plain(text: str) -> str:
    return revealed(text).replace("\n", "␊").replace("\t", "␉")
