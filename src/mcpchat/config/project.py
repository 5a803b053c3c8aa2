"""The project file: servers and agents that belong to a folder. Its content is untrusted until the user agrees."""

import re
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from mcpchat.config.program_variables import effect_of
from mcpchat.config.same_server import is_same_server
from mcpchat.config.schema import (
    AgentConfig,
    Config,
    ProjectServer,
    SandboxConfig,
    ServerConfig,
    format_problems,
    with_builtin_defaults,
)
from mcpchat.config.validation import REFERENCE, Problem, as_tables, semantic_problems, type_problems
from mcpchat.errors import ConfigError
from mcpchat.util.sanitize import one_line, show_invisible

FILE_NAME = ".mcpchat.toml"
# Variables that a project's server never gets: the session bus gives access to the whole keyring, the SSH agent to
# other machines; the rest configures mcpchat itself.
_FORBIDDEN_VARIABLES = re.compile(r"DBUS_SESSION_BUS_ADDRESS|SSH_AUTH_SOCK|GPG_AGENT_INFO|OPENAI_\w*|MCPCHAT_\w*")


_MAX_SERVERS = 20  # so that all of them are beside the question
_USER_ONLY_KEYS = (
    "trust",
    "sampling",
    "required",
    "client_id",
    "client_secret",
    "private_key",
    "issuer",
    "assume_pkce",
    "token_env",
    "allow_http",
    "keep",
)


class _ProjectTables(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tables of a project file; other ones are not allowed."""

    servers: dict[str, ServerConfig] = field(default_factory=dict)
    agents: dict[str, AgentConfig] = field(default_factory=dict)


class Project(Struct, frozen=True, kw_only=True):
    """The content of a project file. ``unusable`` has the servers of another client's file that cannot be used.

    Each has the reason.
    """

    servers: Mapping[str, ServerConfig] = field(default_factory=dict)
    agents: Mapping[str, AgentConfig] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)


def parse_project(text: str, name: str, *, folder: str, user: Config) -> Project:
    """Parse the text of a project file. Its programs run in ``folder``. ``user`` is the user's own config.

    ``name`` is the file's name for error messages. Raises ConfigError that lists every problem, one per line.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: not valid TOML: {error}") from error
    if problems := _find_problems(table, user):
        text = format_problems(problems, text, name)
        raise ConfigError(text, hint="the file belongs to the project: tell its authors")
    return _convert(table, folder)


def parse_client_project(
    servers: Mapping[str, dict[str, Any]], unusable: Mapping[str, str], name: str, *, folder: str, user: Config
) -> Project:
    """The project of another client's file: its servers with our settings, and the reasons why others are unusable.

    A server with a problem is unusable too. Raises ConfigError if the file has too many servers.
    """
    problems = dict(unusable)
    for key, settings in servers.items():
        for path, problem in _find_problems({"servers": {key: settings}}, user):
            problems.setdefault(key, f"{'.'.join(path[2:])}: {problem}" if path[2:] else problem)
    table = {"servers": {key: settings for key, settings in servers.items() if key not in problems}}
    if issues := _find_problems(table, user):
        raise ConfigError("\n".join(f"{name}: {'.'.join(path)}: {problem}" for path, problem in issues))
    return replace(_convert(table, folder), unusable=problems)


def _find_problems(table: Mapping[str, Any], user: Config) -> list[Problem]:
    return [
        *type_problems(table, _ProjectTables, ()),
        *semantic_problems(table, others=user.servers),
        *_forbidden_keys(table, _user_key_variables(user)),
    ]


def _convert(table: Mapping[str, Any], folder: str) -> Project:
    tables = msgspec.convert(table, _ProjectTables)
    servers = {key: _anchor(with_builtin_defaults(server), folder) for key, server in tables.servers.items()}
    return Project(servers=servers, agents=tables.agents)


def _anchor(server: ServerConfig, folder: str) -> ProjectServer:
    server = ProjectServer(**msgspec.structs.asdict(server))
    if server.command is None:
        return server
    cwd = server.cwd or folder
    return replace(server, cwd=cwd if cwd.startswith(("/", "~")) else f"{folder}/{cwd}")


def _user_key_variables(user: Config) -> frozenset[str]:
    """The environment variables that hold the user's own keys, according to the user's config."""
    entries = (user.model, *user.model.entries.values())
    providers = user.auth.entries.values()
    texts = [entry.api_key for entry in entries]
    texts += [text for provider in providers for text in (provider.client_secret, provider.refresh_token)]
    texts += [text.removeprefix("Bearer ") for entry in entries for text in entry.headers.values()]
    references = [REFERENCE.fullmatch(text) for text in texts if text]
    return frozenset(match[2] for match in references if match and match[1] == "env")


def _forbidden_keys(table: Mapping[str, Any], keys: frozenset[str]) -> Iterator[Problem]:
    """Yield the keys that an untrusted file must not set."""
    if len(as_tables(table.get("servers"))) > _MAX_SERVERS:
        yield (
            ("servers",),
            f"more than {_MAX_SERVERS} servers; remove some, so that all can be reviewed",
        )
    for name, server in as_tables(table.get("servers")).items():
        path = ("servers", name)
        yield from _claimed_keys(server, path)
        yield from _forbidden_variables(server, path, keys)
    yield from _forbidden_agent_keys(table)


def _forbidden_variables(server: Mapping[str, Any], path: tuple[str, ...], keys: frozenset[str]) -> Iterator[Problem]:
    for text in _iter_strings(server):
        reference = REFERENCE.fullmatch(text.removeprefix("Bearer "))
        if reference and reference[1] == "keyring":
            yield path, f"{text}: a project file cannot use your keyring"
        elif reference and reference[1] == "cmd":
            yield path, f"{text}: a project file cannot run a command for a secret"
        elif reference and _is_reserved_variable(reference[2], keys):
            yield path, f"{reference[2]} is never passed to a project's server"
    for key in ("env", "env_pass") if "builtin" in server else ():
        if server.get(key):
            yield (*path, key), "not allowed in a project file: a bundled server has mcpchat's own environment"
    passed = server.get("env_pass")
    for variable in passed if isinstance(passed, list) else ():
        if isinstance(variable, str) and _is_reserved_variable(variable, keys):
            yield (*path, "env_pass"), f"{variable} is never passed to a project's server"


def _forbidden_agent_keys(table: Mapping[str, Any]) -> Iterator[Problem]:
    for name, agent in as_tables(table.get("agents")).items():
        if "approvals" in agent:
            yield (
                ("agents", name, "approvals"),
                "not allowed in a project file: only your own config decides what may run",
            )
        if "instructions_file" in agent:
            yield (
                ("agents", name, "instructions_file"),
                'not allowed in a project file: use "instructions", so that the user can review them',
            )
        options = agent.get("options")
        if isinstance(options, dict) and "extra_body" in options:
            yield (
                ("agents", name, "options"),
                "extra_body is not allowed in a project file: only your own config decides what is sent",
            )


def _claimed_keys(server: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Problem]:
    for key in _USER_ONLY_KEYS:
        if server.get(key):
            yield (*path, key), "not allowed in a project file: only your own config can set it"
    if server.get("auth") == "client_credentials":
        yield (*path, "auth"), "not allowed in a project file: it cannot use your secrets"
    elif server.get("auth") not in (None, "none", "oauth") and not server.get("scopes"):
        yield (*path, "auth"), 'expected "scopes" too in a project file: what the token may be used for'


def _is_reserved_variable(variable: str, keys: frozenset[str]) -> bool:
    return variable in keys or _FORBIDDEN_VARIABLES.fullmatch(variable) is not None


def _iter_strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _iter_strings(inner)


def merge(user: Config, project: Project) -> tuple[Config, tuple[str, ...]]:
    """Add the project's servers and agents to the config.

    If both have the same name, the user's one is used. A project's server has the limits of the user's own entry for
    the same server, and its agents use only models of the user's config. Also returns a notice for each name and each
    model that is not used.
    """
    notices = [
        f"the project's {kind} {name!r} is left out: your config has the same name"
        for kind, project_items, user_items in (
            ("server", project.servers, user.servers),
            ("agent", project.agents, user.agents),
        )
        for name in project_items
        if name in user_items
    ]
    known_models = {*user.model.entries, user.model.name, None}
    foreign = {name for name, agent in project.agents.items() if agent.model not in known_models}
    notices += [
        f"the project's agent {name!r} uses your default model: your config has no model {project.agents[name].model!r}"
        for name in project.agents
        if name in foreign and name not in user.agents
    ]
    agents = {name: replace(a, model=None) if name in foreign else a for name, a in project.agents.items()}
    servers = {name: _limit(server, user) for name, server in project.servers.items()}
    return replace(user, servers=servers | user.servers, agents=agents | user.agents), tuple(notices)


def _limit(server: ServerConfig, user: Config) -> ServerConfig:
    """The project's server with the limits of the user's own entries for the same server."""
    own = tuple(entry for entry in user.servers.values() if is_same_server(entry, server))
    if not own or not isinstance(server, ProjectServer):
        return server
    folders = next((entry.folders for entry in own if entry.folders), ())
    return replace(
        server,
        own_entries=own,
        read_only=server.read_only or any(entry.read_only for entry in own),
        folders=folders or server.folders,
    )


def describe_project(project: Project, user: Config, programs: Iterable[str] = ()) -> list[str]:
    """Describe everything that the project file would run, contact, pass on and tell a model. Nothing is cut.

    Returns one string per line. The servers come last, next to the question. ``user`` is the user's own config,
    ``programs`` are the files of the folder that command lines name.
    """
    lines: list[str] = []
    for name, agent in project.agents.items():
        if name in user.agents:
            lines.append(f"agent {one_line(name)}  not used: your config has the same name")
            continue
        lines.append(f"agent {one_line(name)}" + ("  (used by default)" if name == "default" else ""))
        instructions = agent.instructions.splitlines()
        lines += [f"  {_describe_model(agent.model, user)}"] if agent.model else []
        lines += [f"  {line}" for line in _other_settings(agent, {"instructions", "model"})]
        count_note = f" ({len(instructions):,} lines)" if len(instructions) > 1 else ""
        lines += [f"  instructions{count_note}"] if instructions else []
        lines += [f"    {_visible_text(line)}" for line in instructions]
    for name, server in project.servers.items():
        if name in user.servers:
            lines.append(f"server {one_line(name)}  not used: your config has the same name")
            continue
        own_names = [own_name for own_name, own in user.servers.items() if is_same_server(own, server)]
        lines += [f"server {one_line(name)}", *(f"  {line}" for line in _describe_server(server, own_names))]
    lines += [f"server {one_line(name)}  not used: {one_line(why, 300)}" for name, why in project.unusable.items()]
    lines += [f"file {_visible_text(path)}  (if it changes, mcpchat asks again)" for path in programs]
    return lines


def summarize_project(project: Project, user: Config, length: int = 400) -> list[str]:
    """List in one short line each what the project file would run or contact: the target has ``length`` characters."""
    lines = []
    for name, server in project.servers.items():
        if name in user.servers:
            continue
        verb, target = (
            ("contacts", server.url)
            if server.url is not None
            else ("runs", shlex.join([server.command, *server.args]))
            if server.command is not None
            else ("runs", f"mcpchat's own {server.builtin} server")
        )
        effects = [variable for variable in (*server.env, *server.env_pass) if effect_of(variable)]
        changes = f"  with {', '.join(one_line(variable, 40) for variable in effects[:5])}" if effects else ""
        lines.append(f"{one_line(name, 40)} {verb} {_cut_middle(_visible_text(target), length)}{changes}")
    return lines


def _cut_middle(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    half = length // 2
    return f"{text[:half]} … {len(text) - 2 * half:,} more characters … {text[-half:]}"


def _describe_model(name: str, user: Config) -> str:
    owner = "your model" if name in user.model.entries else "the model"
    return f"uses      {owner} {_visible_text(name)}"


def _describe_server(server: ServerConfig, own_names: Sequence[str]) -> Iterator[str]:
    if server.command is not None:
        yield f"runs      {_visible_text(shlex.join([server.command, *server.args]))}"
        yield f"in        {_visible_text(server.cwd or '.')}"
    if server.url is not None:
        yield f"contacts  {_visible_text(server.url)}"
    if own_names:
        names = ", ".join(map(_visible_text, own_names))
        yield f"          the same server as your {names}; deny and ask rules for that apply"
    if server.url is not None and server.uses_oauth:
        yield "gives it  your login there, if you have one"
    if server.builtin is not None:
        yield f"runs      mcpchat's own {_visible_text(server.builtin)} server"
    yield from _describe_grants(server)
    for folder in (*server.folders, *server.roots):
        yield f"opens     {_visible_text(folder)}"
    if server.sandbox:
        sandbox = server.sandbox if isinstance(server.sandbox, SandboxConfig) else SandboxConfig()
        yield from (f"reads     {_visible_text(folder)}" for folder in sandbox.read)
        yield from (f"changes   {_visible_text(folder)}" for folder in sandbox.write)
        yield f"sandbox   {'with' if sandbox.network else 'without'} network"
    yield from _other_settings(server, _DESCRIBED_KEYS)


def _describe_grants(server: ServerConfig) -> Iterator[str]:
    for name, value in (*server.env.items(), *server.headers.items()):
        reference = REFERENCE.search(value)
        effect = _EFFECTS[effect_of(name)] if name in server.env else ""
        yield f"gives it  {_visible_text(name)} = {_visible_text(value)}{'  (yours)' if reference else ''}{effect}"
    for name in server.env_pass:
        yield f"gives it  your variable {_visible_text(name)}{_EFFECTS[effect_of(name)]}"
    if server.auth not in {None, "none", "oauth"}:
        owner = f" of {server.account}" if server.account else ""
        yield f"gives it  your {_visible_text(server.auth or '')} login{_visible_text(owner)}"
    for scope in server.scopes:
        yield f"  for     {_visible_text(scope)}"


_EFFECTS = {"": "", "code": "  (changes which code it runs)", "network": "  (changes where it connects)"}
_DESCRIBED_KEYS = {
    "command", "args", "cwd", "url", "builtin", "env", "headers", "env_pass", "scopes", "folders", "roots", "sandbox",
}  # fmt: skip


def _other_settings(value: Struct, excluded: set[str]) -> Iterator[str]:
    """Describe all other settings that differ from their defaults, so that no setting of a future version is missed."""
    for item in msgspec.structs.fields(value):
        setting = getattr(value, item.name)
        if item.name not in excluded and setting != _default_value(item):
            yield f"{item.encode_name} = {_visible_text(msgspec.json.encode(setting).decode())}"


def _default_value(item: msgspec.structs.FieldInfo) -> object:
    if item.default_factory is not msgspec.NODEFAULT:
        return item.default_factory()
    return item.default


def _visible_text(text: str) -> str:
    return show_invisible(text).replace("\n", "␊").replace("\t", "␉")
