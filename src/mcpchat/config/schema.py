"""The configuration: TOML text in, frozen values out, and errors that name file, line and key."""

import re
import tomllib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from mcpchat.config.auth_schema import AuthConfig, Reference, auth_problems
from mcpchat.config.builtin_servers import BUILTIN_SERVERS
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
from mcpchat.util.redaction import REDACTED

ProtocolRevision = Literal["auto", "2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"]


class PriceConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model costs, in US dollars for a million tokens."""

    input: Annotated[float, Meta(ge=0)]
    output: Annotated[float, Meta(ge=0)]
    cached: Annotated[float, Meta(ge=0, description="Input read from the cache. Default: as input.")] | None = None


class ModelEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model, where it is, and how it is to answer."""

    name: Annotated[
        str | None,
        Meta(
            description='The model\'s name at its server, or the NAME of a [model.NAME] table, or "demo". '
            "Default: MCPCHAT_MODEL, then OPENAI_MODEL; of a [model.NAME], that NAME."
        ),
    ] = None
    base_url: Annotated[
        str | None,
        Meta(
            description="An OpenAI-compatible address, ending in /v1. Default: OPENAI_BASE_URL; of a [model.NAME], "
            "that of [model], with its key."
        ),
    ] = None
    api_key: Annotated[
        Reference | None,
        Meta(
            description='"env:NAME" or "keyring:NAME". Default: "env:OPENAI_API_KEY"; of a [model.NAME] with an '
            "address of its own, none."
        ),
    ] = None
    headers: Annotated[
        dict[str, str], Meta(description='HTTP headers. "env:NAME" and "keyring:NAME" are looked up.')
    ] = field(default_factory=dict)
    api: Annotated[
        Literal["auto", "chat", "responses"],
        Meta(description='Which API: "auto" is Responses at OpenAI and Azure, Chat Completions elsewhere.'),
    ] = "auto"
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    reasoning_effort: Annotated[
        str | None, Meta(description='How hard a reasoning model thinks: "low", "medium", "high" and others.')
    ] = None
    max_output_tokens: Annotated[int, Meta(gt=0, description="The longest answer of one request.")] | None = None
    context_window: (
        Annotated[
            int, Meta(gt=0, description="How many tokens it can take. Default: found out, as far as anybody says.")
        ]
        | None
    ) = None
    timeout: Annotated[float, Meta(gt=0, description="The longest silence of its server, in seconds.")] = 600.0
    price: PriceConfig | None = None
    extra_body: Annotated[dict[str, Any], Meta(description="More of the request, as the server's API has it.")] = field(
        default_factory=dict
    )


class ModelConfig(ModelEntry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The usual model; [model.NAME] tables are others, to be chosen by that name."""

    entries: dict[str, ModelEntry] = field(default_factory=dict, name=TABLES_KEY)


class Timeouts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of time, in seconds."""

    start: Annotated[float, Meta(gt=0, description="A server's start. Default: 30.")] | None = None
    idle: (
        Annotated[
            float,
            Meta(gt=0, description="Silence in a call; progress begins it anew, a question pauses it. Default: 120."),
        ]
        | None
    ) = None
    call: Annotated[float, Meta(gt=0, description="One call in all, whatever its progress. Default: 1800.")] | None = (
        None
    )

    def with_fallback(self, fallback: "Timeouts") -> "Timeouts":
        """These, with what they leave open taken from the other."""
        return Timeouts(
            start=self.start or fallback.start, idle=self.idle or fallback.idle, call=self.call or fallback.call
        )


DEFAULT_TIMEOUTS = Timeouts(start=30.0, idle=120.0, call=1800.0)


class SandboxConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a server in a sandbox may have after all."""

    network: Annotated[bool, Meta(description="Let it reach the network.")] = False
    read: Annotated[tuple[str, ...], Meta(description="Folders under your home, and others, that it may read.")] = ()
    write: Annotated[tuple[str, ...], Meta(description="Folders that it may read and change.")] = ()


class ServerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One MCP server: exactly one of command, url and builtin says how to reach it."""

    command: Annotated[str | None, Meta(description="The program to start; it speaks MCP on stdin and stdout.")] = None
    args: Annotated[tuple[str, ...], Meta(description="The program's arguments. Never put a secret here.")] = ()
    env: Annotated[
        dict[str, str],
        Meta(description='Variables for the program. "env:NAME" and "keyring:NAME" are looked up.'),
    ] = field(default_factory=dict)
    env_pass: Annotated[tuple[str, ...], Meta(description="Names of your own variables that it may see.")] = ()
    cwd: Annotated[str | None, Meta(description="The folder it runs in.")] = None
    url: Annotated[str | None, Meta(description="The address of a remote server.")] = None
    transport: Annotated[
        Literal["http", "sse"], Meta(description='How the address is spoken to: streamable HTTP, or the older "sse".')
    ] = "http"
    protocol: Annotated[
        ProtocolRevision, Meta(description="The protocol's revision. Default: found out, newest first, and remembered.")
    ] = "auto"
    headers: Annotated[
        dict[str, str],
        Meta(description='HTTP headers. "env:NAME", "keyring:NAME" and "Bearer env:NAME" are looked up.'),
    ] = field(default_factory=dict)
    builtin: Annotated[
        str | None,
        Meta(description="A server that comes with mcpchat.", extra_json_schema={"enum": tuple(BUILTIN_SERVERS)}),
    ] = None
    read_only: Annotated[
        bool, Meta(description="Of a bundled server: only the tools that change nothing, and a login for no more.")
    ] = False
    folders: Annotated[
        tuple[str, ...],
        Meta(description="Folders of this machine that a bundled server may save files into and send files from."),
    ] = ()
    auth: Annotated[
        str | None,
        Meta(
            description='Of a program: the provider whose access token it gets, "google" or an [auth.NAME]. Of a '
            'remote server: "oauth", "client_credentials" or "none". Default: none; of a remote server, OAuth where '
            "it asks, unless it has headers."
        ),
    ] = None
    scopes: Annotated[tuple[str, ...], Meta(description="What its token allows, in the provider's words.")] = ()
    account: Annotated[
        str | None,
        Meta(description="Whose login it gets: an address, or what --account called it. Default: the default."),
    ] = None
    token_env: Annotated[
        str | None, Meta(description="The variable that its token comes in. Default: <PROVIDER>_ACCESS_TOKEN.")
    ] = None
    client_id: Annotated[
        str | None,
        Meta(
            description="mcpchat's id at its authorization server, or the https address of a client metadata document."
        ),
    ] = None
    client_secret: Annotated[Reference | None, Meta(description="A reference to the secret of that id.")] = None
    private_key: Annotated[
        Reference | None, Meta(description='A reference to a PEM key, for auth = "client_credentials".')
    ] = None
    key_algorithm: Annotated[str, Meta(description="How that key signs.")] = "RS256"
    issuer: Annotated[
        str | None, Meta(description="The authorization server that it must be signed in to at. Default: as it says.")
    ] = None
    enabled: bool = True
    required: Annotated[bool, Meta(description="Fail at once when this server is down, instead of going on.")] = False
    sandbox: Annotated[
        bool | SandboxConfig,
        Meta(
            description="Run it in a sandbox (Linux, bubblewrap): no network, the home folder hidden. true, or a table."
        ),
    ] = False
    trust: Annotated[
        bool, Meta(description="Believe its annotations: tools that it calls read-only run without a question.")
    ] = False
    tools: Annotated[tuple[str, ...], Meta(description="Globs of the tools to offer. Default: all.")] = ("*",)
    exclude: Annotated[tuple[str, ...], Meta(description="Globs of the tools to leave out, over tools.")] = ()
    max_parallel: Annotated[int, Meta(gt=0, description="Calls that it is given at once.")] = 8
    elicitation: Annotated[bool, Meta(description="Let it ask you questions.")] = True
    sampling: Annotated[bool, Meta(description="Let it ask your model, after you agreed each time.")] = False
    roots: Annotated[
        tuple[str, ...], Meta(description="Folders that it may be told of as its roots, after you agreed.")
    ] = ()
    timeouts: Timeouts = Timeouts()

    @property
    def effective_transport(self) -> Literal["stdio", "http", "sse"]:
        return self.transport if self.url else "stdio"

    @property
    def uses_oauth(self) -> bool:
        """Whether mcpchat signs in to this remote server: headers of one's own mean that it does not."""
        return bool(self.url) and self.auth != "none" and (self.auth is not None or not self.headers)

    def exposes(self, tool: str) -> bool:
        """Whether the globs let this tool through."""
        return any(fnmatchcase(tool, glob) for glob in self.tools) and not any(
            fnmatchcase(tool, glob) for glob in self.exclude
        )


class ApprovalConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tools may run: "server.tool" globs, with conditions on arguments in brackets. The strictest match wins."""

    default: Annotated[
        Literal["allow", "ask", "deny"] | None,
        Meta(description='What happens where no rule matches. Default: "ask"; of an agent, as under [approvals].'),
    ] = None
    allow: Annotated[
        tuple[str, ...], Meta(description='Run without a question, such as "files.write(path=/tmp/*)".')
    ] = ()
    ask: Annotated[tuple[str, ...], Meta(description="Ask each time, whatever else allows it.")] = ()
    deny: Annotated[
        tuple[str, ...], Meta(description='Never run, such as "shell.run(command~=\\bsudo\\b)"; over everything.')
    ] = ()


class AgentOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the agent's model is to answer, over what the model's table says."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    reasoning_effort: str | None = None
    max_output_tokens: Annotated[int, Meta(gt=0)] | None = None
    extra_body: Annotated[dict[str, Any], Meta(description="More of the request, as the server's API has it.")] = field(
        default_factory=dict
    )


class AgentConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A role to talk in: instructions, a model, a choice of servers and tools. "default" is used unless named."""

    description: Annotated[str, Meta(description="What it is for, for people.")] = ""
    instructions: Annotated[
        str,
        Meta(
            description="What the model is told before the conversation. $date, $time, $folder, $user, $host and "
            "$agent stand for what they say."
        ),
    ] = ""
    instructions_file: Annotated[
        str | None, Meta(description="A file with the instructions; where it is not a whole path, beside the config.")
    ] = None
    model: Annotated[str | None, Meta(description="A model's name, over [model].")] = None
    servers: Annotated[
        tuple[str, ...] | None, Meta(description="The servers it uses; no other is started. Default: all.")
    ] = None
    tools: Annotated[tuple[str, ...], Meta(description='Globs of "server.tool" that it is offered.')] = ("*",)
    options: AgentOptions = AgentOptions()
    approvals: ApprovalConfig = ApprovalConfig()


class ThreadsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where conversations are kept, and how."""

    save: Annotated[bool, Meta(description="Keep them. --no-save leaves out one run.")] = True
    titles: Annotated[
        Literal["words", "model"],
        Meta(description='Who names a thread: its first "words", or the "model", asked once after its first answer.'),
    ] = "words"
    url: Annotated[
        str | None,
        Meta(
            description='A PostgreSQL that several machines share: "postgresql://USER@HOST/DATABASE", or a reference. '
            "Default: a file of this machine."
        ),
    ] = None
    password: Annotated[Reference | None, Meta(description="A reference to the password for it.")] = None


class ChatConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the chat looks and feels."""

    keys: Annotated[Literal["emacs", "vi"], Meta(description="What the keys of the line do.")] = "emacs"
    reasoning: Annotated[
        Literal["show", "fold"],
        Meta(description="A model's reasoning: its words, or that there is some. Ctrl-T turns."),
    ] = "show"
    notify: Annotated[
        Literal["off", "bell", "desktop"],
        Meta(
            description="What happens when a long turn ends and nobody typed meanwhile: a bell, or a notification of "
            "the desktop by way of the terminal (OSC 9)."
        ),
    ] = "off"
    notify_after: Annotated[float, Meta(ge=0, description="Seconds after which a turn is long.")] = 10.0
    plain: Annotated[
        bool, Meta(description="Nothing is drawn over: prefixes instead of colours, for screen readers and logs.")
    ] = False


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one turn may take."""

    max_steps: (
        Annotated[
            int,
            Meta(gt=0, description="Rounds of tool calls in one turn. Default: 25; in the chat 50, and then it asks."),
        ]
        | None
    ) = None
    max_calls: Annotated[int, Meta(gt=0, description="Tool calls of one turn, all rounds together.")] = 250
    max_tokens: (
        Annotated[int, Meta(gt=0, description="Tokens, in and out, of one run; looked at before each request.")] | None
    ) = None
    max_cost: (
        Annotated[float, Meta(ge=0, description="US dollars of one run; looked at before each request.")] | None
    ) = None
    max_result: Annotated[
        int,
        Meta(
            ge=1000, description="Characters of a tool's result that the model gets at once; it can page to the rest."
        ),
    ] = 30_000
    max_message: Annotated[
        int, Meta(ge=65_536, description="Bytes of one message from a server; a larger one is thrown away.")
    ] = 16 * 2**20
    max_tools: Annotated[
        int, Meta(gt=0, description="Tools of one server that are offered; of those in excess, none is.")
    ] = 200
    max_description: Annotated[
        int, Meta(ge=100, description="Characters of a tool's description; what is longer is cut.")
    ] = 4000
    max_schema: Annotated[
        int, Meta(ge=1000, description="Characters of a tool's input schema; a tool with a longer one is left out.")
    ] = 32_000


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. Every table may be missing."""

    model: ModelConfig = ModelConfig()
    servers: dict[str, ServerConfig] = field(default_factory=lambda: {"calculator": ServerConfig(builtin="calculator")})
    auth: AuthConfig = AuthConfig()
    agents: dict[str, AgentConfig] = field(default_factory=dict)
    approvals: ApprovalConfig = ApprovalConfig()
    threads: ThreadsConfig = ThreadsConfig()
    chat: ChatConfig = ChatConfig()
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()


class ConfigProblem(Struct, frozen=True, kw_only=True):
    """One thing wrong: where (``key`` as path, ``line`` from 1, 0 where unknown), and what."""

    key: tuple[str, ...]
    line: int
    message: str

    def __str__(self) -> str:
        return f"{'.'.join(self.key)}: {self.message}" if self.key else self.message


def parse(text: str, name: str) -> Config:
    """Decode a configuration file's text; ``name`` is the file's, for messages.

    Raises ConfigError that lists every problem found, a line each.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason, match = str(error), re.search(r"at line (\d+)", str(error))
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
    """The problems as lines that name the file and the line in it, in the file's order."""
    config_problems = [ConfigProblem(key=key, line=find_line(text, key), message=message) for key, message in problems]
    config_problems.sort(key=lambda problem: problem.line)
    return "\n".join(
        f"{name}:{problem.line}: {problem}" if problem.line else f"{name}: {problem}" for problem in config_problems
    )


def with_builtin_defaults(server: ServerConfig) -> ServerConfig:
    """The server with what a bundled one needs and the file need not say: whose login, and for what."""
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
}  # tables whose own tables are named ones


def _nest_named_tables(table: dict[str, Any]) -> dict[str, Any]:
    """The table with each [model.NAME] and [auth.NAME] where the types have it: among the entries."""
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
    """The config as the file would have it: plain values, with each [model.NAME] and [auth.NAME] under its name."""
    table: dict[str, Any] = msgspec.to_builtins(config)
    for outer in _NAMED_TABLES:
        table[outer] |= table[outer].pop(TABLES_KEY)
    return table


def to_redacted(config: Config) -> dict[str, Any]:
    """As it is written, but for what stands there in plain words and is not to be shown."""
    table = to_plain(config)
    for server in table["servers"].values():
        for values in (server["env"], server["headers"]):
            for name, value in values.items():
                if SECRET_NAME.search(name) and not REFERENCE.fullmatch(value.removeprefix("Bearer ")):
                    values[name] = REDACTED
        if server["url"]:
            server["url"] = re.sub("//[^/@]*@", f"//{REDACTED}@", server["url"])
    return table


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors."""
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
