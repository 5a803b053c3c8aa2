"""The types of the configuration; parses TOML text to them, with errors that name file, line and key."""

import re
import tomllib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct, field

from mcpchat.config.auth_schema import AuthConfig, Reference, auth_problems
from mcpchat.config.builtin_servers import BUILTIN_SERVERS
from mcpchat.config.program_variables import effect_of
from mcpchat.config.validation import (
    REFERENCE,
    SECRET_NAME,
    TABLES_KEY,
    Problem,
    find_line,
    semantic_problems,
    type_problems,
)
from mcpchat.errors import ConfigError
from mcpchat.util import struct_schema
from mcpchat.util.dates import parse_duration
from mcpchat.util.redaction import REDACTED

ProtocolRevision = Literal["auto", "2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"]


class PriceConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The price of a model, in US dollars per million tokens."""

    input: Annotated[float, Meta(ge=0)]
    output: Annotated[float, Meta(ge=0)]
    cached: Annotated[float, Meta(ge=0, description="Cached input. Default: the price of input.")] | None = None


class ModelEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model, its endpoint, and its options."""

    name: Annotated[
        str | None,
        Meta(
            description='The name of the model at its server, the NAME of a [model.NAME] table, or "demo". '
            "Default: MCPCHAT_MODEL, then OPENAI_MODEL; in [model.NAME], that NAME."
        ),
    ] = None
    base_url: Annotated[
        str | None,
        Meta(
            description="The URL of an OpenAI-compatible API, ending in /v1. Default: OPENAI_BASE_URL; in "
            "[model.NAME], the URL of [model], with its key."
        ),
    ] = None
    api_key: Annotated[
        Reference | None,
        Meta(
            description='"env:NAME", "keyring:NAME" or "cmd:COMMAND". Default: "env:OPENAI_API_KEY"; in a [model.NAME] '
            "with a base_url, none."
        ),
    ] = None
    headers: Annotated[
        dict[str, str], Meta(description='HTTP headers. "env:NAME", "keyring:NAME" and "cmd:COMMAND" are resolved.')
    ] = field(default_factory=dict)
    api: Annotated[
        Literal["auto", "chat", "responses"],
        Meta(description='The API: "auto" selects Responses for OpenAI and Azure, Chat Completions for others.'),
    ] = "auto"
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    reasoning_effort: Annotated[
        str | None, Meta(description='The effort of a reasoning model: "low", "medium", "high" and others.')
    ] = None
    max_output_tokens: Annotated[int, Meta(gt=0, description="The maximum length of one answer, in tokens.")] | None = (
        None
    )
    context_window: (
        Annotated[int, Meta(gt=0, description="The context window, in tokens. Default: detected, if possible.")] | None
    ) = None
    timeout: Annotated[float, Meta(gt=0, description="The maximum time without data from the server, in seconds.")] = (
        600.0
    )
    price: PriceConfig | None = None
    extra_body: Annotated[
        dict[str, Any], Meta(description="More fields of the request body, as the API of the server defines them.")
    ] = field(default_factory=dict)
    allow_http: Annotated[
        bool, Meta(description="Send the key and headers with secrets also to an http:// URL of another machine.")
    ] = False


class ModelConfig(ModelEntry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The default model; [model.NAME] tables are further models, selected by that name."""

    entries: dict[str, ModelEntry] = field(default_factory=dict, name=TABLES_KEY)


class Timeouts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Timeouts, in seconds."""

    start: Annotated[float, Meta(gt=0, description="The start of a server. Default: 30.")] | None = None
    idle: (
        Annotated[
            float,
            Meta(gt=0, description="A call without progress; pauses while you are asked. Default: 120."),
        ]
        | None
    ) = None
    call: Annotated[float, Meta(gt=0, description="A whole call, with or without progress. Default: 1800.")] | None = (
        None
    )

    def with_fallback(self, fallback: "Timeouts") -> "Timeouts":
        """These timeouts, with missing values taken from ``fallback``."""
        return Timeouts(
            start=self.start or fallback.start, idle=self.idle or fallback.idle, call=self.call or fallback.call
        )


DEFAULT_TIMEOUTS = Timeouts(start=30.0, idle=120.0, call=1800.0)


class ServerLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often the tools of a server are called in one run."""

    calls_per_minute: (
        Annotated[int, Meta(gt=0, description="Calls that begin in any minute. Default: no limit.")] | None
    ) = None
    over: Annotated[
        Literal["wait", "refuse"],
        Meta(description='A call above that waits, or with "refuse" the model is told when to try again.'),
    ] = "wait"


class SandboxConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a server in a sandbox can access."""

    network: Annotated[bool, Meta(description="Allow network access.")] = False
    read: Annotated[tuple[str, ...], Meta(description="Folders that it may read, in or outside your home folder.")] = ()
    write: Annotated[tuple[str, ...], Meta(description="Folders that it may read and write.")] = ()


class ServerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An MCP server. Exactly one of command, url and builtin is required. ``is_own``: the user's config has it."""

    is_own: ClassVar[bool] = True
    command: Annotated[str | None, Meta(description="The program to start; it must speak MCP on stdin and stdout.")] = (
        None
    )
    args: Annotated[tuple[str, ...], Meta(description="The program's arguments. Never put a secret here.")] = ()
    env: Annotated[
        dict[str, str],
        Meta(description='Variables for the program. "env:NAME", "keyring:NAME" and "cmd:COMMAND" are resolved.'),
    ] = field(default_factory=dict)
    env_pass: Annotated[
        tuple[str, ...], Meta(description="Names of your environment variables to pass to the program.")
    ] = ()
    cwd: Annotated[str | None, Meta(description="The working folder of the program.")] = None
    url: Annotated[str | None, Meta(description="The URL of a remote server.")] = None
    transport: Annotated[
        Literal["http", "sse"],
        Meta(description='The transport of a remote server: streamable HTTP ("http"), or the older "sse".'),
    ] = "http"
    protocol: Annotated[
        ProtocolRevision,
        Meta(description="The revision of the MCP protocol. Default: detected, newest first, and remembered."),
    ] = "auto"
    headers: Annotated[
        dict[str, str],
        Meta(description='HTTP headers. "env:NAME", "keyring:NAME", "cmd:COMMAND" and "Bearer env:NAME" are resolved.'),
    ] = field(default_factory=dict)
    allow_http: Annotated[
        bool, Meta(description="Send headers with secrets also to an http:// URL of another machine.")
    ] = False
    builtin: Annotated[
        str | None,
        Meta(description="The name of a bundled server.", extra_json_schema={"enum": tuple(BUILTIN_SERVERS)}),
    ] = None
    read_only: Annotated[
        bool,
        Meta(description="For a bundled server: only tools that change nothing, and a login with read-only scopes."),
    ] = False
    folders: Annotated[
        tuple[str, ...],
        Meta(description="Local folders in which a bundled server may save files, and from which it may send files."),
    ] = ()
    auth: Annotated[
        str | None,
        Meta(
            description='For a program: the provider of its access token, "google" or an [auth.NAME]. For a remote '
            'server: "oauth", "client_credentials" or "none". Default: none; for a remote server without headers, '
            "OAuth if the server requires it."
        ),
    ] = None
    scopes: Annotated[tuple[str, ...], Meta(description="The OAuth scopes of its token.")] = ()
    account: Annotated[
        str | None,
        Meta(
            description="The account to use: an e-mail address, or a name set with --account. Default: the default one."
        ),
    ] = None
    token_env: Annotated[
        str | None, Meta(description="The environment variable for its token. Default: <PROVIDER>_ACCESS_TOKEN.")
    ] = None
    client_id: Annotated[
        str | None,
        Meta(description="The client id at its authorization server, or the https URL of a client metadata document."),
    ] = None
    client_secret: Annotated[Reference | None, Meta(description="A reference to the client secret.")] = None
    private_key: Annotated[
        Reference | None, Meta(description='A reference to a PEM key, for auth = "client_credentials".')
    ] = None
    key_algorithm: Annotated[str, Meta(description="The signature algorithm of that key.")] = "RS256"
    issuer: Annotated[
        str | None, Meta(description="The required authorization server. Default: the one that the server names.")
    ] = None
    assume_pkce: Annotated[
        bool,
        Meta(description="Sign in although the authorization server does not say that it supports PKCE (Entra ID)."),
    ] = False
    enabled: bool = True
    required: Annotated[bool, Meta(description="Fail if this server is down, instead of continuing without it.")] = (
        False
    )
    sandbox: Annotated[
        bool | SandboxConfig,
        Meta(description="Run it in a sandbox (Linux, bubblewrap) without network and home folder. true, or a table."),
    ] = False
    trust: Annotated[
        bool, Meta(description="Trust its annotations: tools that it marks as read-only run without approval.")
    ] = False
    tools: Annotated[tuple[str, ...], Meta(description="Globs of the tools to use. Default: all.")] = ("*",)
    exclude: Annotated[tuple[str, ...], Meta(description="Globs of tools to exclude; overrides tools.")] = ()
    max_parallel: Annotated[int, Meta(gt=0, description="The maximum number of parallel calls.")] = 8
    elicitation: Annotated[bool, Meta(description="Allow it to ask you questions.")] = True
    sampling: Annotated[bool, Meta(description="Allow it to send requests to your model; you approve each one.")] = (
        False
    )
    roots: Annotated[tuple[str, ...], Meta(description="Folders to offer as its roots, once you agree.")] = ()
    timeouts: Timeouts = Timeouts()
    limits: ServerLimits = ServerLimits()
    keep: Annotated[
        str | None,
        Meta(
            description="Keep a local server, or the session with a remote one, after the command, until it was "
            'idle for so long: "10m". Local servers: not on Windows.'
        ),
    ] = None

    @property
    def keep_seconds(self) -> float | None:
        """How long it stays idle; None if it ends with the command."""
        return parse_duration(self.keep) if self.keep else None

    @property
    def effective_transport(self) -> Literal["stdio", "http", "sse"]:
        return self.transport if self.url else "stdio"

    @property
    def is_bundled(self) -> bool:
        """Whether it is mcpchat's own program, with no variable that makes it run other code."""
        return self.builtin is not None and not any(effect_of(name) == "code" for name in (*self.env, *self.env_pass))

    @property
    def uses_oauth(self) -> bool:
        """Whether mcpchat may sign in to this remote server: with configured headers only if ``auth`` is set."""
        return bool(self.url) and self.auth != "none" and (self.auth is not None or not self.headers)

    def exposes(self, tool: str) -> bool:
        """Whether ``tools`` and ``exclude`` let the model use this tool."""
        if self.tools == ("*",) and not self.exclude:  # as it is for nearly all servers, some with thousands of tools
            return True
        return any(fnmatchcase(tool, glob) for glob in self.tools) and not any(
            fnmatchcase(tool, glob) for glob in self.exclude
        )


class NamedServer(ServerConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server that a command line names: the user's rules for the same server of the config hold for it too."""

    is_own: ClassVar[bool] = False


def find_sign_in_name(name: str, server: ServerConfig) -> str:
    """What ``mcpchat auth login`` takes for a server: its name, or its address if only a command line names it."""
    return server.url if server.url and isinstance(server, NamedServer) else name


class ProjectServer(ServerConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server that a project file adds. ``own_entries`` are the user's own for the same server."""

    is_own: ClassVar[bool] = False
    own_entries: tuple[ServerConfig, ...] = ()

    def exposes(self, tool: str) -> bool:
        return ServerConfig.exposes(self, tool) and all(own.exposes(tool) for own in self.own_entries)


class ApprovalConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tools may run: "server.tool" globs, with optional conditions on arguments. The strictest match wins."""

    default: Annotated[
        Literal["allow", "ask", "deny"] | None,
        Meta(description='The action if no rule matches. Default: "ask"; for an agent, the default in [approvals].'),
    ] = None
    allow: Annotated[tuple[str, ...], Meta(description='Run without asking, such as "files.write(path=/tmp/*)".')] = ()
    ask: Annotated[tuple[str, ...], Meta(description="Always ask, even if another rule allows the call.")] = ()
    deny: Annotated[
        tuple[str, ...],
        Meta(description='Never run, such as "shell.run(command~=\\bsudo\\b)"; overrides all other rules.'),
    ] = ()


class AgentOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Model options of an agent; they override the options of the model."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    reasoning_effort: str | None = None
    max_output_tokens: Annotated[int, Meta(gt=0)] | None = None
    extra_body: Annotated[
        dict[str, Any], Meta(description="More fields of the request body, as the API of the server defines them.")
    ] = field(default_factory=dict)


class AgentConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An agent: instructions, a model, servers and tools. The agent "default" is used if no other is selected."""

    description: Annotated[str, Meta(description="A description for users.")] = ""
    instructions: Annotated[
        str,
        Meta(
            description="The instructions for the model. $date, $time, $folder, $user, $host and $agent are replaced "
            "with their values."
        ),
    ] = ""
    instructions_file: Annotated[
        str | None,
        Meta(description="A file with the instructions. A relative path is relative to the folder of the config file."),
    ] = None
    model: Annotated[str | None, Meta(description="The name of the model; overrides [model].")] = None
    servers: Annotated[
        tuple[str, ...] | None, Meta(description="The servers to use; no others are started. Default: all.")
    ] = None
    tools: Annotated[tuple[str, ...], Meta(description='Globs of the tools to use ("server.tool").')] = ("*",)
    always: Annotated[
        tuple[str, ...], Meta(description="Globs of further tools that are offered even if tools are searched for.")
    ] = ()
    options: AgentOptions = AgentOptions()
    approvals: ApprovalConfig = ApprovalConfig()


class ThreadsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where and how threads are stored."""

    save: Annotated[bool, Meta(description="Save threads. --no-save disables it for one run.")] = True
    titles: Annotated[
        Literal["words", "model"],
        Meta(description='The title of a thread: its first "words", or by the "model", once after the first answer.'),
    ] = "words"
    url: Annotated[
        str | None,
        Meta(
            description='A PostgreSQL database, to share threads: "postgresql://USER@HOST/DATABASE", or a reference. '
            "Default: a local file."
        ),
    ] = None
    password: Annotated[Reference | None, Meta(description="A reference to the password of the database.")] = None


class RegistryConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The registry in which "servers search" and "servers add" look for servers."""

    url: Annotated[str, Meta(description="Its address, before /v0.1.")] = "https://registry.modelcontextprotocol.io"
    headers: Annotated[
        dict[str, str],
        Meta(description="HTTP headers for it, with references as in the headers of a server."),
    ] = field(default_factory=dict)


class StartConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a command starts."""

    warm: Annotated[
        str | None,
        Meta(
            description="Keep a process that has everything loaded, in which the next command runs, until it was idle "
            'for so long: "15m". Only on Linux.'
        ),
    ] = None

    @property
    def warm_seconds(self) -> float | None:
        """How long it waits; None for no such process."""
        return parse_duration(self.warm) if self.warm else None


class TelemetryConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What mcpchat reports to a collector of your own. Nothing by default."""

    traces: Annotated[
        bool,
        Meta(
            description="Send traces of turns, requests and tool calls by OTLP, to where the OTEL_* variables say. "
            "Needs mcpchat[otel]."
        ),
    ] = False
    content: Annotated[
        bool, Meta(description="Put what you, the model and the tools say into the traces, without secrets.")
    ] = False


class ChatConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Display and keys of the chat."""

    keys: Annotated[Literal["emacs", "vi"], Meta(description="The key bindings of the input line.")] = "emacs"
    reasoning: Annotated[
        Literal["show", "fold"],
        Meta(description="Show the reasoning of a model in full or folded. Ctrl-T switches."),
    ] = "show"
    background: Annotated[
        Literal["auto", "dark", "light"],
        Meta(description="The terminal's background, for the tint of your lines. Default: what the terminal says."),
    ] = "auto"
    notify: Annotated[
        Literal["off", "bell", "desktop"],
        Meta(
            description="A bell, or a desktop notification by the terminal (OSC 9), when a long turn ends and you "
            "have not typed meanwhile."
        ),
    ] = "off"
    notify_after: Annotated[float, Meta(ge=0, description="Seconds after which a turn counts as long.")] = 10.0
    plain: Annotated[
        bool, Meta(description="Never redraw text, and use prefixes instead of colours: for screen readers and logs.")
    ] = False


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of a turn and of a run, and of what a server may send."""

    max_steps: (
        Annotated[
            int,
            Meta(gt=0, description="Tool rounds of one turn. Default: 25; in the chat 50, then it asks you."),
        ]
        | None
    ) = None
    max_calls: Annotated[int, Meta(gt=0, description="Tool calls of one turn, over all rounds.")] = 250
    max_tokens: (
        Annotated[int, Meta(gt=0, description="Tokens of one run, input and output; checked before each request.")]
        | None
    ) = None
    max_cost: (
        Annotated[float, Meta(ge=0, description="Cost of one run in US dollars; checked before each request.")] | None
    ) = None
    max_result: Annotated[
        int,
        Meta(
            ge=1000,
            description="Characters of a tool result that the model gets at once; it can read the rest in pages.",
        ),
    ] = 30_000
    max_message: Annotated[
        int, Meta(ge=65_536, description="Bytes of one message from a server; larger messages are discarded.")
    ] = 16 * 2**20
    max_tools: Annotated[
        int,
        Meta(
            gt=0,
            description="Tools of one server that are offered to the model; if there are more, it searches them "
            '(with tool_search = "off", the others are not used).',
        ),
    ] = 200
    max_description: Annotated[
        int, Meta(ge=100, description="Characters of a tool's description; longer ones are cut.")
    ] = 4000
    max_schema: Annotated[
        int, Meta(ge=1000, description="Characters of a tool's input schema; a tool with a longer schema is left out.")
    ] = 32_000


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The config file. Every table is optional."""

    tool_search: Annotated[
        Literal["auto", "on", "off", "native"] | Annotated[int, Meta(ge=0)],
        Meta(
            description="Give the model a search instead of all tools, and leave out nothing: "
            '"auto" (above 40 tools or about 10,000 tokens), "on", "off", or a number of tools; "native" is "auto" '
            "with the tool search of the Responses API."
        ),
    ] = "auto"
    tool_search_embeddings: Annotated[
        str,
        Meta(
            description="A model of embeddings, by name: a [model.NAME] table, MODEL@NAME, or one of [model]'s server. "
            "The search then finds tools by meaning too."
        ),
    ] = ""
    always: Annotated[
        tuple[str, ...],
        Meta(description='Globs of the tools ("server.tool") that are offered even if tools are searched for.'),
    ] = ()
    model: ModelConfig = ModelConfig()
    servers: dict[str, ServerConfig] = field(default_factory=lambda: {"calculator": ServerConfig(builtin="calculator")})
    auth: AuthConfig = AuthConfig()
    agents: dict[str, AgentConfig] = field(default_factory=dict)
    approvals: ApprovalConfig = ApprovalConfig()
    threads: ThreadsConfig = ThreadsConfig()
    registry: RegistryConfig = RegistryConfig()
    start: StartConfig = StartConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    chat: ChatConfig = ChatConfig()
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()


class ConfigProblem(Struct, frozen=True, kw_only=True):
    """One problem of the file: the path of the ``key``, the ``line`` (from 1; 0 if unknown), and a message."""

    key: tuple[str, ...]
    line: int
    message: str

    def __str__(self) -> str:
        return f"{'.'.join(self.key)}: {self.message}" if self.key else self.message


def parse(text: str, name: str) -> Config:
    """Parse the text of a config file. ``name`` is the file's name for error messages.

    Raises ConfigError that lists every problem, one per line.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        match = re.search(r"at line (\d+)", str(error))
        reason = re.sub(r"\s*\(at [^()]*\)$", "", str(error))
        if text.lstrip().startswith("{") or '"mcpServers"' in text:
            raise ConfigError(
                f"{name}: this is JSON, and the config is TOML",
                hint="mcpchat servers add NAME 'JSON' takes an entry of another client's mcpServers",
            ) from error
        raise ConfigError(f"{name}:{match[1] if match else 1}: not valid TOML: {reason}") from error
    table = _nest_named_tables(table)
    problems = [
        (_to_file_key(key), message)
        for key, message in (*type_problems(table, Config, ()), *semantic_problems(table), *auth_problems(table))
    ]
    if problems:
        raise ConfigError(format_problems(problems, text, name), hint="mcpchat config validate checks the file again")
    config = msgspec.convert(table, Config)
    return msgspec.structs.replace(
        config, servers={name: with_builtin_defaults(server) for name, server in config.servers.items()}
    )


def format_problems(problems: Iterable[Problem], text: str, name: str) -> str:
    """Format problems, one per line, with the file name and line number, in the order of the file."""
    config_problems = [ConfigProblem(key=key, line=find_line(text, key), message=message) for key, message in problems]
    config_problems.sort(key=lambda problem: problem.line)
    return "\n".join(
        f"{name}:{problem.line}: {problem}" if problem.line else f"{name}: {problem}" for problem in config_problems
    )


def with_builtin_defaults(server: ServerConfig) -> ServerConfig:
    """Complete the settings of a bundled server: its provider, scopes and token variable."""
    builtin = BUILTIN_SERVERS.get(server.builtin or "")
    variables = {*server.env, *server.env_pass}
    if builtin is None or not builtin.provider or (server.auth is None and variables.intersection(builtin.credentials)):
        return server
    return msgspec.structs.replace(
        server,
        auth=server.auth or builtin.provider,
        scopes=server.scopes or (builtin.read_only_scopes if server.read_only else builtin.scopes),
        token_env=server.token_env or builtin.token_env,
    )


_NAMED_TABLES: dict[str, type[Struct]] = {
    "model": ModelEntry,
    "auth": AuthConfig,
}  # tables with named sub-tables


def _nest_named_tables(table: dict[str, Any]) -> dict[str, Any]:
    """Move each [model.NAME] and [auth.NAME] table into the ``entries`` of its type."""
    for outer, kind in _NAMED_TABLES.items():
        inner = table.get(outer)
        if not isinstance(inner, dict):
            continue
        known = {item.name for item in msgspec.structs.fields(kind)}
        entries = {name: entry for name, entry in inner.items() if isinstance(entry, dict) and name not in known}
        settings = {name: value for name, value in inner.items() if name not in entries}
        table = {**table, outer: {**settings, TABLES_KEY: entries}}
    return table


def _to_file_key(key: tuple[str, ...]) -> tuple[str, ...]:
    return (key[0], *key[2:]) if key[1:2] == (TABLES_KEY,) and key[0] in _NAMED_TABLES else key


def to_plain(config: Config) -> dict[str, Any]:
    """The config in the form of the file: plain values, with each [model.NAME] and [auth.NAME] under its name."""
    table: dict[str, Any] = msgspec.to_builtins(config)
    for outer in _NAMED_TABLES:
        table[outer] |= table[outer].pop(TABLES_KEY)
    return table


def to_redacted(config: Config) -> dict[str, Any]:
    """The config as plain values, with literal secrets replaced."""
    table = to_plain(config)
    for values in (
        table["registry"]["headers"],
        *(s[key] for s in table["servers"].values() for key in ("env", "headers")),
    ):
        for name, value in values.items():
            if SECRET_NAME.search(name) and not REFERENCE.fullmatch(value.removeprefix("Bearer ")):
                values[name] = REDACTED
    for server in table["servers"].values():
        if server["url"]:
            server["url"] = re.sub("//[^/@]*@", f"//{REDACTED}@", server["url"])
    return table


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the config file, for editors."""
    schema = struct_schema.json_schema(Config)
    for outer, table_type in (("ModelConfig", "ModelEntry"), ("AuthConfig", "ProviderConfig")):
        definition = schema["$defs"][outer]
        del definition["properties"][TABLES_KEY]
        definition["additionalProperties"] = {"$ref": f"#/$defs/{table_type}"}
    server = schema["$defs"]["ServerConfig"]
    server["oneOf"] = [{"required": [key]} for key in ("command", "url", "builtin")]
    for definition in schema["$defs"].values():
        for value in definition.get("properties", {}).values():
            if value.get("default", 0) is None:
                del value["default"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mcpchat configuration",
        **schema,
    }
