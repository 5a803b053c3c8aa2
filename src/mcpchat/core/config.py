"""The configuration: TOML text in, frozen values out, and errors that name file, line and key."""

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct, field

from mcpchat.core import schemas
from mcpchat.core.errors import ConfigError

REFERENCE = re.compile(r"(env|keyring):(.+)")
ENTRY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
SERVER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
BUILTIN_SERVERS = ("calculator",)
Protocol = Literal["auto", "2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"]

Reference = Annotated[str, Meta(description='Where a secret is: "env:NAME" or "keyring:NAME".')]


_ENTRIES = "<entries>"  # where [model.NAME] tables are kept; no file can have it


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

    entries: dict[str, ModelEntry] = field(default_factory=dict, name=_ENTRIES)


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

    def over(self, other: "Timeouts") -> "Timeouts":
        """These, with what they leave open taken from the other."""
        return Timeouts(start=self.start or other.start, idle=self.idle or other.idle, call=self.call or other.call)


DEFAULT_TIMEOUTS = Timeouts(start=30.0, idle=120.0, call=1800.0)


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
        Protocol, Meta(description="The protocol's revision. Default: found out, newest first, and remembered.")
    ] = "auto"
    headers: Annotated[
        dict[str, str],
        Meta(description='HTTP headers. "env:NAME", "keyring:NAME" and "Bearer env:NAME" are looked up.'),
    ] = field(default_factory=dict)
    builtin: Annotated[
        str | None, Meta(description="A server that comes with mcpchat.", extra_json_schema={"enum": BUILTIN_SERVERS})
    ] = None
    enabled: bool = True
    required: Annotated[bool, Meta(description="Fail at once when this server is down, instead of going on.")] = False
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
    def reached_by(self) -> Literal["stdio", "http", "sse"]:
        return self.transport if self.url else "stdio"

    def offers(self, tool: str) -> bool:
        """Whether the globs let this tool through."""
        return any(fnmatchcase(tool, glob) for glob in self.tools) and not any(
            fnmatchcase(tool, glob) for glob in self.exclude
        )


class AgentConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A role to talk in: instructions, a model, a choice of servers and tools. "default" is used unless named."""

    instructions: Annotated[str, Meta(description="What the model is told before the conversation.")] = ""
    model: Annotated[str | None, Meta(description="A model's name, over [model].")] = None
    servers: Annotated[
        tuple[str, ...] | None, Meta(description="The servers it uses; no other is started. Default: all.")
    ] = None
    tools: Annotated[tuple[str, ...], Meta(description='Globs of "server.tool" that it is offered.')] = ("*",)


class ApprovalConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tools may run: globs of "server.tool". The strictest match wins."""

    default: Literal["allow", "ask", "deny"] = "ask"
    allow: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one turn may take."""

    max_steps: (
        Annotated[
            int,
            Meta(gt=0, description="Rounds of tool calls in one turn. Default: 25; in the chat 50, and then it asks."),
        ]
        | None
    ) = None
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


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. Every table may be missing."""

    model: ModelConfig = ModelConfig()
    servers: dict[str, ServerConfig] = field(default_factory=lambda: {"calculator": ServerConfig(builtin="calculator")})
    agents: dict[str, AgentConfig] = field(default_factory=dict)
    approvals: ApprovalConfig = ApprovalConfig()
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()


class Problem(Struct, frozen=True, kw_only=True):
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
    except tomllib.TOMLDecodeError as error:
        told, line = str(error), re.search(r"at line (\d+)", str(error))
        raise ConfigError(f"{name}:{line[1] if line else 1}: not valid TOML: {told}") from error
    table = _with_entries(table)
    found = [(_as_written(key), message) for key, message in (*_problems(table, Config, ()), *_contradictions(table))]
    if found:
        problems = [Problem(key=key, line=line_of(text, key), message=message) for key, message in found]
        problems.sort(key=lambda problem: problem.line)
        where = (f"{name}:{p.line}: {p}" if p.line else f"{name}: {p}" for p in problems)
        raise ConfigError("\n".join(where), hint="mcpchat config validate checks the file again")
    return msgspec.convert(table, Config)


def _with_entries(table: dict[str, Any]) -> dict[str, Any]:
    """The table with each [model.NAME] where the types have it: among the entries of [model]."""
    model = table.get("model")
    if not isinstance(model, dict):
        return table
    known = {item.name for item in msgspec.structs.fields(ModelEntry)}
    entries = {name: entry for name, entry in model.items() if isinstance(entry, dict) and name not in known}
    own = {name: value for name, value in model.items() if name not in entries}
    return {**table, "model": {**own, _ENTRIES: entries}}


def _as_written(key: tuple[str, ...]) -> tuple[str, ...]:
    return (key[0], *key[2:]) if key[:2] == ("model", _ENTRIES) else key


def as_written(config: Config) -> dict[str, Any]:
    """The config as the file would have it: plain values, with each [model.NAME] under its name."""
    table: dict[str, Any] = msgspec.to_builtins(config)
    table["model"] |= table["model"].pop(_ENTRIES)
    return table


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors."""
    schema = schemas.json_schema(Config)
    model = schema["$defs"]["ModelConfig"]
    del model["properties"][_ENTRIES]
    model["additionalProperties"] = {"$ref": "#/$defs/ModelEntry"}
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


Found = tuple[tuple[str, ...], str]


def _problems(table: Mapping[str, Any], kind: type[Struct], path: tuple[str, ...]) -> Iterator[Found]:
    known = {item.encode_name: item.type for item in msgspec.structs.fields(kind)}
    for key, value in table.items():
        here = (*path, key)
        if key not in known:
            others = tuple(name for name in known if name != _ENTRIES)
            yield here, f"unknown key{_did_you_mean(key, others)}"
            continue
        wanted = known[key]
        if isinstance(wanted, UnionType) and NoneType in get_args(wanted):
            own = [one for one in get_args(wanted) if one is not NoneType]
            wanted = own[0] if len(own) == 1 and isinstance(own[0], type) and issubclass(own[0], Struct) else wanted
        if get_origin(get_args(wanted)[0] if get_origin(wanted) is Annotated else None) is Literal:
            wanted = get_args(wanted)[0]
        if isinstance(wanted, type) and issubclass(wanted, Struct):
            yield from _table_problems(value, wanted, here)
        elif get_origin(wanted) is dict and issubclass(get_args(wanted)[1], Struct):
            if not isinstance(value, dict):
                yield here, "expected a table"
                continue
            for name, entry in value.items():
                yield from _table_problems(entry, get_args(wanted)[1], (*here, name))
        elif get_origin(wanted) is Literal:
            if value not in get_args(wanted):
                yield here, f"expected one of {', '.join(map(repr, get_args(wanted)))}"
        else:
            try:
                msgspec.convert(value, wanted)
            except msgspec.ValidationError as error:
                yield here, _in_toml_words(str(error), value)


def _table_problems(value: object, kind: type[Struct], path: tuple[str, ...]) -> Iterator[Found]:
    if isinstance(value, dict):
        yield from _problems(value, kind, path)
    else:
        yield path, "expected a table"


def _contradictions(table: Mapping[str, Any]) -> Iterator[Found]:
    """What the types alone cannot say."""
    yield from _models_contradictions(table.get("model"))
    servers = _tables(table.get("servers"))
    for name, server in servers.items():
        yield from _server_contradictions(name, server)
        if name == "mcpchat":
            yield ("servers", name), "this name is mcpchat's own: choose another"
    names = servers or {"calculator": {}}
    approvals = table.get("approvals")
    for action in ("allow", "ask", "deny"):
        globs = approvals.get(action) if isinstance(approvals, dict) else None
        for glob in globs if isinstance(globs, list) else ():
            if isinstance(glob, str) and (problem := idle_glob(glob, names)):
                yield ("approvals", action), problem
    for name, agent in _tables(table.get("agents")).items():
        wanted = agent.get("servers")
        for server in wanted if isinstance(wanted, list) else ():
            if isinstance(server, str) and server not in names:
                yield ("agents", name, "servers"), f"no server is named {server!r}{_did_you_mean(server, names)}"


def _models_contradictions(model: object) -> Iterator[Found]:
    if not isinstance(model, dict):
        return
    yield from _model_contradictions(model, ("model",))
    for name, entry in _tables(model.get(_ENTRIES)).items():
        path = ("model", _ENTRIES, name)
        yield from _model_contradictions(entry, path)
        if name == "demo":
            yield path, "this name is the built-in model's: choose another"
        elif not ENTRY_NAME.fullmatch(name):
            yield path, "a model's table is named with letters, digits, and . _ / -"


def _model_contradictions(model: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Found]:
    key, address = model.get("api_key"), model.get("base_url")
    if isinstance(key, str) and not REFERENCE.fullmatch(key):
        yield (*path, "api_key"), 'a secret never stands in this file: expected "env:NAME" or "keyring:NAME"'
    if isinstance(address, str) and (problem := address_problem(address)):
        yield (*path, "base_url"), problem


def address_problem(address: str) -> str:
    """Why a model's address cannot be used; empty where it can."""
    if not is_http(address):
        return "expected an address that begins with https:// or http://"
    try:
        parts = urlsplit(address)
        host = parts.hostname if parts.port is None or parts.port else None
    except ValueError as error:
        return f"no address: {error}"
    if not host or not address.isprintable() or " " in address:
        return "no address that can be called"
    if parts.username or parts.password:
        return "a secret never stands in an address: put it into headers, as a reference"
    return "expected an address without ? and #: more of a request goes into extra_body" if parts.query else ""


def _server_contradictions(name: str, server: Mapping[str, Any]) -> Iterator[Found]:
    path = ("servers", name)
    if not SERVER_NAME.fullmatch(name):
        yield path, "a server's name is made of letters, digits, - and _, at most 40"
    ways = [key for key in ("command", "url", "builtin") if key in server]
    if not ways:
        misspelt = [key for key in server if difflib.get_close_matches(key, ("command", "url", "builtin"), cutoff=0.7)]
        if not misspelt:
            yield path, 'expected one of "command", "url" and "builtin"'
    elif len(ways) > 1:
        yield path, f"expected only one of {' and '.join(ways)}"
    elif ways[0] != "command":
        for key in ("args", "env", "env_pass", "cwd"):
            if key in server:
                yield (*path, key), f'goes with "command", not with "{ways[0]}"'
    for key in ("headers", "transport"):
        if key in server and "url" not in server:
            yield (*path, key), 'goes with "url"'
    builtin = server.get("builtin")
    if isinstance(builtin, str) and builtin not in BUILTIN_SERVERS:
        close = _did_you_mean(builtin, BUILTIN_SERVERS)
        yield (*path, "builtin"), f"no bundled server is named {builtin!r}{close or ': ' + ', '.join(BUILTIN_SERVERS)}"
    url = server.get("url")
    if isinstance(url, str) and not is_http(url):
        yield (*path, "url"), "expected an address that begins with https:// or http://"


def is_http(address: str) -> bool:
    return re.match(r"https?://[^/\s]", address) is not None


def idle_glob(glob: str, servers: Mapping[str, Any]) -> str:
    """What is wrong with an approval glob that can match no tool, or nothing: a bare name must be a server's."""
    if "." in glob or "*" in glob or glob in servers:
        return ""
    return f'{glob!r} names no server; for a tool write "*.{glob}"'


def _tables(value: object) -> dict[str, dict[str, Any]]:
    return {k: v for k, v in value.items() if isinstance(v, dict)} if isinstance(value, dict) else {}


def _did_you_mean(name: str, known: Mapping[str, Any] | tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; known here: {', '.join(known)}" if 0 < len(known) <= 15 else ""


_TOML_WORDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "an array",
    "object": "a table",
    "null": "nothing",
}


def _in_toml_words(message: str, value: object) -> str:
    """msgspec's complaint in the words of the file: "Expected `int`, got `str`" and the like."""
    message, _, inside = message.partition(" - at ")
    if inside and isinstance(value, dict):
        message += f" for {next((key for key, held in value.items() if not isinstance(held, str)), '')}"
    message = re.sub(r" \| null`", "`", message)
    words = re.sub(
        r"`([a-z| ]+)`", lambda m: " or ".join(_TOML_WORDS.get(w, w) for w in m[1].replace(" ", "").split("|")), message
    )
    return words[:1].lower() + words[1:]


_HEADER = re.compile(r"\s*\[\[?\s*(.+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PIECE = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")


def line_of(text: str, key: tuple[str, ...]) -> int:
    """The line, from 1, where the key or else its nearest parent table stands; 0 where neither is found."""
    best, best_depth = 0, 0
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = here = _pieces(header[1])
        elif assignment := _KEY.match(line):
            here = (*table, *_pieces(assignment[1]))
        else:
            continue
        depth = len(here)
        if depth > best_depth and key[:depth] == here:
            best, best_depth = number, depth
    return best


def _pieces(dotted: str) -> tuple[str, ...]:
    return tuple(piece.strip("\"'") for piece in _PIECE.findall(dotted))
