"""Validation of the configuration: finds problems in its table and the lines of the file they are in."""

import difflib
import functools
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Struct

from mcpchat.config.builtin_servers import BUILTIN_SERVERS, BuiltinServer
from mcpchat.core.patterns import parse_pattern
from mcpchat.core.tools import OWN_SERVER
from mcpchat.util.dates import parse_duration
from mcpchat.util.secret_formats import find_tokens
from mcpchat.util.text import suggest
from mcpchat.util.urls import find_url_problem

REFERENCE = re.compile(r"(env|keyring|cmd):(.+)")
REFERENCES = '"env:NAME", "keyring:NAME" or "cmd:COMMAND"'
NO_SECRETS = f"secrets are not allowed in this file: expected {REFERENCES}"
SECRET_NAME = re.compile(
    r"(?i)(?:^|[_-]|api|access|private)(?:keys?|tokens?|secrets?|pass\w*|pwd|pw|credentials?|auth\w*)(?:$|[_-])"
)
TABLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
SERVER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
TABLES_KEY = "<entries>"  # holds the [model.NAME] tables; cannot be a key in a file

Problem = tuple[tuple[str, ...], str]
_TOP_KEYS = frozenset({"tool_search", "tool_search_embeddings", "always"})


def type_problems(table: Mapping[str, Any], kind: type[Struct], path: tuple[str, ...]) -> Iterator[Problem]:
    """Yield where the table does not match the type: unknown keys, with a suggestion, and values of a wrong type."""
    known = _field_types(kind)
    for key, value in table.items():
        key_path = (*path, key)
        if key not in known:
            others = tuple(name for name in known if name != TABLES_KEY)
            at_top = path and key in _TOP_KEYS
            yield key_path, "it belongs above the first table" if at_top else f"unknown key; {suggest(key, others)}"
            continue
        expected = _expected_type(known[key], value)
        if isinstance(expected, type) and issubclass(expected, Struct):
            yield from _table_problems(value, expected, key_path)
        elif get_origin(expected) is dict and issubclass(get_args(expected)[1], Struct):
            if not isinstance(value, dict):
                yield key_path, "expected a table"
                continue
            for name, item in value.items():
                yield from _table_problems(item, get_args(expected)[1], (*key_path, name))
        elif get_origin(expected) is Literal:
            if value not in get_args(expected):
                yield key_path, f"expected one of {', '.join(map(repr, get_args(expected)))}"
        else:
            try:
                msgspec.convert(value, expected)
            except msgspec.ValidationError as error:
                yield key_path, _describe_choices(expected, value) or _to_toml_terms(str(error), value)


@functools.cache
def _field_types(kind: type[Struct]) -> Mapping[str, Any]:
    """The declared type of each key. To resolve them is slow, and a config has many tables of one kind."""
    return {item.encode_name: item.type for item in msgspec.structs.fields(kind)}


def _describe_choices(expected: Any, value: object) -> str:
    """What a union of Literals and other types takes; empty for another type, or if the value's type is right."""
    bare = _without_metadata(expected)
    kinds = [_without_metadata(kind) for kind in get_args(bare)] if get_origin(bare) in {UnionType, Union} else []
    choices = [repr(choice) for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    if not choices or type(value) in kinds:
        return ""
    names = [_TOML_TYPE_NAMES[kind.__name__] for kind in kinds if getattr(kind, "__name__", "") in _TOML_TYPE_NAMES]
    return f"expected one of {', '.join((*choices, *names))}"


def _without_metadata(declared: Any) -> Any:
    return get_args(declared)[0] if get_origin(declared) is Annotated else declared


def _expected_type(declared: Any, value: object) -> Any:
    """The type to check the value by: of a union, the Struct if the value is a table, or its only Literal."""
    bare = _without_metadata(declared)
    is_union = get_origin(bare) in {UnionType, Union}
    kinds = [kind for kind in get_args(bare) if kind is not NoneType] if is_union else [bare]
    structs = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Struct)]
    if structs and (len(kinds) == 1 or isinstance(value, dict)):
        return structs[0]
    return kinds[0] if len(kinds) == 1 and get_origin(kinds[0]) is Literal else declared


def _table_problems(value: object, kind: type[Struct], path: tuple[str, ...]) -> Iterator[Problem]:
    if isinstance(value, dict):
        yield from type_problems(value, kind, path)
    else:
        yield path, "expected a table"


def semantic_problems(table: Mapping[str, Any], others: Mapping[str, Any] | None = None) -> Iterator[Problem]:
    """Yield the problems that types cannot express. ``others`` are servers of another file that this one may name."""
    yield from _models_problems(table.get("model"))
    servers = as_tables(table.get("servers"))
    for name, server in servers.items():
        yield from _server_problems(name, server)
        if name == OWN_SERVER:
            yield ("servers", name), "this name is reserved: choose another"
    names = {**(others or {}), **servers} or {"calculator": {}}
    yield from _rule_problems(table.get("approvals"), names, ("approvals",))
    yield from _thread_problems(table.get("threads"))
    yield from _agent_problems(table, names)
    registry = table.get("registry")
    url = registry.get("url") if isinstance(registry, dict) else None
    if isinstance(url, str) and (problem := find_url_problem(url)):
        yield ("registry", "url"), problem
    start = table.get("start")
    warm = start.get("warm") if isinstance(start, dict) else None
    if isinstance(warm, str) and parse_duration(warm) is None:
        yield ("start", "warm"), _DURATION_EXPECTED


def _rule_problems(approvals: object, names: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Problem]:
    for action in ("allow", "ask", "deny"):
        globs = approvals.get(action) if isinstance(approvals, dict) else None
        for glob in globs if isinstance(globs, list) else ():
            if isinstance(glob, str) and (problem := unmatched_pattern(glob, names)):
                yield (*path, action), problem


def _agent_problems(table: Mapping[str, Any], names: Mapping[str, Any]) -> Iterator[Problem]:
    for name, agent in as_tables(table.get("agents")).items():
        yield from _rule_problems(agent.get("approvals"), names, ("agents", name, "approvals"))
        if agent.get("instructions") and agent.get("instructions_file"):
            yield ("agents", name, "instructions_file"), 'cannot be combined with "instructions"'
        if not TABLE_NAME.fullmatch(name):
            yield ("agents", name), "the name of an agent has only letters, digits, and . _ / -"
        agent_servers = agent.get("servers")
        for server in agent_servers if isinstance(agent_servers, list) else ():
            if isinstance(server, str) and server not in names:
                yield ("agents", name, "servers"), f"no server is named {server!r}; {suggest(server, names)}"


def _thread_problems(threads: object) -> Iterator[Problem]:
    url = threads.get("url") if isinstance(threads, dict) else None
    if isinstance(url, str) and not REFERENCE.fullmatch(url):
        if not re.match(r"postgres(ql)?://[^\s]", url):
            yield (
                ("threads", "url"),
                f'expected "postgresql://USER@HOST/DATABASE", {REFERENCES}',
            )
        elif re.match(r"postgres(ql)?://[^?@]*:[^?]*@", url) or "pass" in unquote(url.partition("?")[2]).lower():
            yield ("threads", "url"), 'secrets are not allowed in this file: use "password" with a reference'
    password = threads.get("password") if isinstance(threads, dict) else None
    if isinstance(password, str) and not REFERENCE.fullmatch(password):
        yield (
            ("threads", "password"),
            NO_SECRETS,
        )
    elif password is not None and url is None:
        yield ("threads", "password"), 'only valid with "url"'


def _models_problems(model: object) -> Iterator[Problem]:
    if not isinstance(model, dict):
        return
    yield from _model_problems(model, ("model",))
    for name, table in as_tables(model.get(TABLES_KEY)).items():
        path = ("model", TABLES_KEY, name)
        yield from _model_problems(table, path)
        if name == "demo":
            yield path, "this name is reserved for the built-in model: choose another"
        elif not TABLE_NAME.fullmatch(name):
            yield path, "the name of a model table has only letters, digits, and . _ / -"


def _model_problems(model: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Problem]:
    key, address = model.get("api_key"), model.get("base_url")
    if isinstance(key, str) and not REFERENCE.fullmatch(key):
        yield (
            (*path, "api_key"),
            NO_SECRETS,
        )
    if isinstance(address, str) and (problem := address_problem(address)):
        yield (*path, "base_url"), problem


def address_problem(address: str) -> str:
    """Describe why the URL of a model cannot be used; empty if it can."""
    if problem := find_url_problem(address):
        return problem
    parts = urlsplit(address)
    if parts.username or parts.password:
        return "secrets are not allowed in a URL: put it into headers, as a reference"
    return "expected a URL without ?: use extra_body for more request parameters" if parts.query else ""


def _server_problems(name: str, server: Mapping[str, Any]) -> Iterator[Problem]:
    path = ("servers", name)
    if not SERVER_NAME.fullmatch(name):
        yield path, "the name of a server has only letters, digits, - and _, at most 40"
    transport_keys = [key for key in ("command", "url", "builtin") if key in server]
    if not transport_keys:
        misspelt = [key for key in server if difflib.get_close_matches(key, ("command", "url", "builtin"), cutoff=0.7)]
        if not misspelt:
            yield path, 'expected one of "command", "url" and "builtin"'
    elif len(transport_keys) > 1:
        yield path, f"expected only one of {' and '.join(transport_keys)}"
    elif transport_keys[0] != "command":
        for key in ("args", "cwd") if transport_keys[0] == "builtin" else ("args", "env", "env_pass", "cwd"):
            if key in server:
                yield (*path, key), f'only valid with "command", not with "{transport_keys[0]}"'
    yield from _builtin_problems(path, server)
    yield from _secrets_in_arguments(path, server)
    yield from _sandbox_problems(path, server)
    for key in ("headers", "transport"):
        if key in server and "url" not in server:
            yield (*path, key), 'only valid with "url"'
    builtin = server.get("builtin")
    if isinstance(builtin, str) and builtin not in BUILTIN_SERVERS:
        yield (*path, "builtin"), f"no bundled server is named {builtin!r}; {suggest(builtin, tuple(BUILTIN_SERVERS))}"
    yield from _keep_problems(path, server)
    url = server.get("url")
    if isinstance(url, str) and (problem := find_url_problem(url)):
        yield (*path, "url"), problem


_DURATION_EXPECTED = 'expected a duration such as "10m", "90s" or "2h"'
_LOOKS_SECRET = re.compile(
    r"""\b(?:env|keyring):[A-Za-z_]
      | \$\{?\w*(?i:key|token|secret|passw)\w*\}?
      | ://[^/\s:@]*:[^/\s@]+@""",
    re.VERBOSE,
)


_SECRET_QUERY = re.compile(
    r"(?i)[?&](?P<key>[\w.-]*(api[_-]?key|token|secret|passw\w*|signature)|([\w.-]*[_.-])?(key|sig|auth))="
    r"(?P<value>[^&#]{6,})"
)
_REFERENCE_QUERY = re.compile(r"(?<==)(env|keyring|cmd):[^&#]+")
_SECRET_HEADER = re.compile(
    r"(?i)(proxy-)?authorization|cookie|x-\w*-?(api-?)?key|.*(token|secret|password|credentials?|[-_]auth|session)"
    r"|(.*[-_])?(api|access|auth|license|private|subscription)[-_]?key"
)
_CREDENTIALS = re.compile(r"(?i)(?:basic|bearer|token|api-?key)\s+\S{6,}")
_SECRET_VARIABLE = re.compile(
    r"(?i)passw(or)?d|secret|token(?!iz|_?(type|file|path|url|count))|(api|access|private)_?key(?!_?(file|path))|_pat$"
)
_HARMLESS_VALUE = re.compile(r"(?i)[\d.]+|\.{0,2}~?/[\w./ -]*|\w+://[^@]*|.*\s.*")
_MIN_SECRET = 6  # characters


def _secrets_in_arguments(path: tuple[str, ...], server: Mapping[str, Any]) -> Iterator[Problem]:
    args = server.get("args")
    for arg in args if isinstance(args, list) else ():
        if isinstance(arg, str) and (find_tokens(arg) or _LOOKS_SECRET.search(arg)):
            message = "secrets are not allowed in args, where every user of the machine can read them: use env"
            yield (*path, "args"), message
            return


def find_literal_secrets(servers: Mapping[str, Any]) -> list[str]:
    """The keys of the servers' tables that have a secret as plain text, such as "servers.x.headers.Authorization"."""
    found = [f"servers.{name}.{table}.{key}" for name, table, key in iter_literal_secrets(servers)]
    for name, server in as_tables(servers).items():
        url = server.get("url")
        is_found = f"servers.{name}.url" in {key.rpartition(".")[0] for key in found}
        if isinstance(url, str) and not is_found and has_literal_secret(url):
            found.append(f"servers.{name}.url")
    return found


def has_literal_secret(url: str) -> bool:
    """Whether the URL has a secret in plain text: in a parameter, or anywhere what can only be one."""
    if any(not REFERENCE.fullmatch(match["value"]) for match in _SECRET_QUERY.finditer(url)):
        return True
    rest = _REFERENCE_QUERY.sub("", url)
    return _LOOKS_SECRET.search(rest) is not None or bool(find_tokens(rest))


def is_secret_header(name: str, value: str) -> bool:
    """Whether the value of an HTTP header is a secret, or refers to one."""
    return (
        _SECRET_HEADER.fullmatch(name) is not None
        or REFERENCE.fullmatch(value.removeprefix("Bearer ")) is not None
        or any(pattern.search(value) for pattern in (_CREDENTIALS, _LOOKS_SECRET))
        or bool(find_tokens(value))
    )


def iter_literal_secrets(servers: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The server, the table (``env``, ``headers`` or ``url``) and the key of each secret in plain text.

    The keys of a URL are the names of its parameters.
    """
    for name, server in as_tables(servers).items():
        url = server.get("url")
        for match in _SECRET_QUERY.finditer(url) if isinstance(url, str) else ():
            if not REFERENCE.fullmatch(match["value"]):
                yield name, "url", match["key"]
        for table in ("headers", "env"):
            values = server.get(table)
            for key, value in values.items() if isinstance(values, dict) else ():
                if isinstance(value, str) and _is_literal_secret(table, key, value):
                    yield name, table, key


def _is_literal_secret(table: str, key: str, value: str) -> bool:
    text = value.removeprefix("Bearer ")
    if not text or REFERENCE.fullmatch(text):
        return False
    if find_tokens(value) or _LOOKS_SECRET.search(value):
        return True
    if table == "headers":
        return len(text) >= _MIN_SECRET and is_secret_header(key, value)
    is_random = len(text) >= _MIN_SECRET and re.search(r"\d", text) and re.search(r"[A-Za-z]", text)
    return bool(_SECRET_VARIABLE.search(key) and is_random and not _HARMLESS_VALUE.fullmatch(text))


def _sandbox_problems(path: tuple[str, ...], server: Mapping[str, Any]) -> Iterator[Problem]:
    sandbox = server.get("sandbox")
    if not sandbox:
        return
    if "url" in server:
        yield (*path, "sandbox"), 'only valid with "command" or "builtin": a remote server runs elsewhere'
    for key in ("read", "write"):
        folders = sandbox.get(key) if isinstance(sandbox, dict) else None
        for folder in folders if isinstance(folders, list) else ():
            if isinstance(folder, str) and not (folder.startswith("~") or PurePath(folder).is_absolute()):
                yield (*path, "sandbox", key), f"{folder!r}: expected an absolute path, or one that begins with ~"


def _keep_problems(path: tuple[str, ...], server: Mapping[str, Any]) -> Iterator[Problem]:
    keep = server.get("keep")
    if keep and sys.platform == "win32" and "url" not in server:
        yield (*path, "keep"), "local servers cannot be kept on Windows yet"
    elif isinstance(keep, str) and parse_duration(keep) is None:
        yield (*path, "keep"), _DURATION_EXPECTED
    elif keep and server.get("transport") == "sse":
        yield (*path, "keep"), 'not possible with transport = "sse": its session ends with the connection'


def _builtin_problems(path: tuple[str, ...], server: Mapping[str, Any]) -> Iterator[Problem]:
    builtin = find_builtin(server)
    if "read_only" in server and not builtin.provider:
        yield (
            (*path, "read_only"),
            "only valid with builtin = "
            + _quoted_list(name for name, server in BUILTIN_SERVERS.items() if server.provider),
        )
    if "folders" in server and not builtin.takes_folders:
        yield (
            (*path, "folders"),
            "only valid with builtin = "
            + _quoted_list(name for name, server in BUILTIN_SERVERS.items() if server.takes_folders),
        )
    folders = server.get("folders")
    for folder in folders if isinstance(folders, list) else ():
        if isinstance(folder, str) and not (folder.startswith("~") or PurePath(folder).is_absolute()):
            yield (*path, "folders"), f"{folder!r}: expected an absolute path, or one that begins with ~"


def find_builtin(server: Mapping[str, Any]) -> BuiltinServer:
    """The properties of the bundled server that this table configures; defaults for any other server."""
    name = server.get("builtin")
    return BUILTIN_SERVERS.get(name, BuiltinServer()) if isinstance(name, str) else BuiltinServer()


def _quoted_list(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def unmatched_pattern(text: str, servers: Mapping[str, Any]) -> str:
    """Describe why an approval pattern is invalid or matches no server; empty if it is fine."""
    try:
        glob = parse_pattern(text).glob
    except ValueError as error:
        return str(error)
    server, dot, _ = glob.partition(".")
    if not dot and "*" not in glob and glob not in servers:
        return f'no server is named {glob!r}; for a tool write "*.{glob}"'
    if re.search(r"[*?\[]", server) or server in servers or server == OWN_SERVER:
        return ""
    return f"{text!r}: no server is named {server!r}; {suggest(server, servers)}"


def as_tables(value: object) -> dict[str, dict[str, Any]]:
    return {k: v for k, v in value.items() if isinstance(v, dict)} if isinstance(value, dict) else {}


_TOML_TYPE_NAMES = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "an array",
    "object": "a table",
    "null": "nothing",
}


def _to_toml_terms(message: str, value: object) -> str:
    """Rewrite an error message of msgspec ("Expected `int`, got `str`") with TOML's names of the types."""
    message, _, location = message.partition(" - at ")
    if location and isinstance(value, dict):
        message += f" for {next((key for key, item in value.items() if not isinstance(item, str)), '')}"
    message = re.sub(r" \| null`", "`", message)
    text = re.sub(
        r"`([a-z| ]+)`",
        lambda m: " or ".join(_TOML_TYPE_NAMES.get(w, w) for w in m[1].replace(" ", "").split("|")),
        message,
    )
    return text[:1].lower() + text[1:]


_HEADER = re.compile(r"\s*\[\[?\s*(.+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_KEY_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")


def find_line(text: str, key: tuple[str, ...]) -> int:
    """The line of the key or else of its nearest parent table, counting from 1; 0 if neither is found."""
    best, best_depth = 0, 0
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = path = _split_key(header[1])
        elif assignment := _KEY.match(line):
            path = (*table, *_split_key(assignment[1]))
        else:
            continue
        depth = len(path)
        if depth > best_depth and key[:depth] == path:
            best, best_depth = number, depth
    return best


def _split_key(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _KEY_PART.findall(dotted))
