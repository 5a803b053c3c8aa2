"""What can be wrong with a configuration: where in the table, in which line of its text, and what."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Struct

from mcpchat.config.builtin_servers import BUNDLED, Bundled
from mcpchat.core.patterns import read_pattern
from mcpchat.util.redaction import TOKEN
from mcpchat.util.text import suggest

REFERENCE = re.compile(r"(env|keyring):(.+)")
SECRET_NAME = re.compile(
    r"(?i)(?:^|[_-]|api|access|private)(?:keys?|tokens?|secrets?|pass\w*|pwd|pw|credentials?|auth\w*)(?:$|[_-])"
)
ENTRY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
SERVER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
ENTRIES = "<entries>"  # where [model.NAME] tables are kept; no file can have it

Found = tuple[tuple[str, ...], str]


def problems(table: Mapping[str, Any], kind: type[Struct], path: tuple[str, ...]) -> Iterator[Found]:
    """What of the table is not as the type has it: unknown keys, with the nearest known one, and wrong values."""
    known = {item.encode_name: item.type for item in msgspec.structs.fields(kind)}
    for key, value in table.items():
        here = (*path, key)
        if key not in known:
            others = tuple(name for name in known if name != ENTRIES)
            yield here, f"unknown key; {suggest(key, others)}"
            continue
        wanted = _kind_of(known[key], value)
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


def _kind_of(wanted: Any, value: object) -> Any:
    """The type to hold the value against: of several the table for a table, and the one choice where there is one."""
    bare = get_args(wanted)[0] if get_origin(wanted) is Annotated else wanted
    several = get_origin(bare) in {UnionType, Union}
    kinds = [kind for kind in get_args(bare) if kind is not NoneType] if several else [bare]
    tables = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Struct)]
    if tables and (len(kinds) == 1 or isinstance(value, dict)):
        return tables[0]
    return kinds[0] if len(kinds) == 1 and get_origin(kinds[0]) is Literal else wanted


def _table_problems(value: object, kind: type[Struct], path: tuple[str, ...]) -> Iterator[Found]:
    if isinstance(value, dict):
        yield from problems(value, kind, path)
    else:
        yield path, "expected a table"


def contradictions(table: Mapping[str, Any], others: Mapping[str, Any] | None = None) -> Iterator[Found]:
    """What the types alone cannot say. ``others`` are servers of another file, which this one may name."""
    yield from _models_contradictions(table.get("model"))
    servers = tables(table.get("servers"))
    for name, server in servers.items():
        yield from _server_contradictions(name, server)
        if name == "mcpchat":
            yield ("servers", name), "this name is mcpchat's own: choose another"
    names = {**(others or {}), **servers} or {"calculator": {}}
    yield from _rules_contradictions(table.get("approvals"), names, ("approvals",))
    yield from _threads_contradictions(table.get("threads"))
    yield from _agents_contradictions(table, names)


def _rules_contradictions(approvals: object, names: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Found]:
    for action in ("allow", "ask", "deny"):
        globs = approvals.get(action) if isinstance(approvals, dict) else None
        for glob in globs if isinstance(globs, list) else ():
            if isinstance(glob, str) and (problem := idle_pattern(glob, names)):
                yield (*path, action), problem


def _agents_contradictions(table: Mapping[str, Any], names: Mapping[str, Any]) -> Iterator[Found]:
    for name, agent in tables(table.get("agents")).items():
        yield from _rules_contradictions(agent.get("approvals"), names, ("agents", name, "approvals"))
        if agent.get("instructions") and agent.get("instructions_file"):
            yield ("agents", name, "instructions_file"), 'goes without "instructions": one or the other'
        if not ENTRY_NAME.fullmatch(name):
            yield ("agents", name), "an agent is named with letters, digits, and . _ / -"
        wanted = agent.get("servers")
        for server in wanted if isinstance(wanted, list) else ():
            if isinstance(server, str) and server not in names:
                yield ("agents", name, "servers"), f"no server is named {server!r}; {suggest(server, names)}"


def _threads_contradictions(threads: object) -> Iterator[Found]:
    url = threads.get("url") if isinstance(threads, dict) else None
    if isinstance(url, str) and not REFERENCE.fullmatch(url):
        if not re.match(r"postgres(ql)?://[^\s]", url):
            yield ("threads", "url"), 'expected "postgresql://USER@HOST/DATABASE", "env:NAME" or "keyring:NAME"'
        elif re.match(r"postgres(ql)?://[^?@]*:[^?]*@", url) or "pass" in unquote(url.partition("?")[2]).lower():
            yield ("threads", "url"), "a secret never stands in this file: give it as password, a reference"
    password = threads.get("password") if isinstance(threads, dict) else None
    if isinstance(password, str) and not REFERENCE.fullmatch(password):
        yield ("threads", "password"), 'a secret never stands in this file: expected "env:NAME" or "keyring:NAME"'
    elif password is not None and url is None:
        yield ("threads", "password"), 'goes with "url"'


def _models_contradictions(model: object) -> Iterator[Found]:
    if not isinstance(model, dict):
        return
    yield from _model_contradictions(model, ("model",))
    for name, entry in tables(model.get(ENTRIES)).items():
        path = ("model", ENTRIES, name)
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
        for key in ("args", "cwd") if ways[0] == "builtin" else ("args", "env", "env_pass", "cwd"):
            if key in server:
                yield (*path, key), f'goes with "command", not with "{ways[0]}"'
    yield from _bundled_contradictions(path, server)
    yield from _secrets_in_arguments(path, server)
    yield from _sandbox_contradictions(path, server)
    for key in ("headers", "transport"):
        if key in server and "url" not in server:
            yield (*path, key), 'goes with "url"'
    builtin = server.get("builtin")
    if isinstance(builtin, str) and builtin not in BUNDLED:
        yield (*path, "builtin"), f"no bundled server is named {builtin!r}; {suggest(builtin, tuple(BUNDLED))}"
    url = server.get("url")
    if isinstance(url, str) and not is_http(url):
        yield (*path, "url"), "expected an address that begins with https:// or http://"


_LOOKS_SECRET = re.compile(
    r"""\b(?:env|keyring):[A-Za-z_]
      | \$\{?\w*(?i:key|token|secret|passw)\w*\}?
      | ://[^/\s:@]*:[^/\s@]+@""",
    re.VERBOSE,
)


def _secrets_in_arguments(path: tuple[str, ...], server: Mapping[str, Any]) -> Iterator[Found]:
    words = server.get("args")
    for word in words if isinstance(words, list) else ():
        if isinstance(word, str) and (TOKEN.search(word) or _LOOKS_SECRET.search(word)):
            told = "a secret never stands in args, where every user of the machine can read it: give it in env"
            yield (*path, "args"), told
            return


def _sandbox_contradictions(path: tuple[str, ...], server: Mapping[str, Any]) -> Iterator[Found]:
    sandbox = server.get("sandbox")
    if not sandbox:
        return
    if "url" in server:
        yield (*path, "sandbox"), 'goes with "command" or "builtin": a remote server runs elsewhere'
    for key in ("read", "write"):
        folders = sandbox.get(key) if isinstance(sandbox, dict) else None
        for folder in folders if isinstance(folders, list) else ():
            if isinstance(folder, str) and not (folder.startswith("~") or PurePath(folder).is_absolute()):
                yield (*path, "sandbox", key), f"{folder!r}: expected a whole path, or one that begins with ~"


def _bundled_contradictions(path: tuple[str, ...], server: Mapping[str, Any]) -> Iterator[Found]:
    known = bundled(server)
    if "read_only" in server and not known.provider:
        yield (*path, "read_only"), f"goes with builtin = {_some(one for one in BUNDLED if BUNDLED[one].provider)}"
    if "folders" in server and not known.takes_folders:
        yield (*path, "folders"), f"goes with builtin = {_some(one for one in BUNDLED if BUNDLED[one].takes_folders)}"
    folders = server.get("folders")
    for folder in folders if isinstance(folders, list) else ():
        if isinstance(folder, str) and not (folder.startswith("~") or PurePath(folder).is_absolute()):
            yield (*path, "folders"), f"{folder!r}: expected a whole path, or one that begins with ~"


def bundled(server: Mapping[str, Any]) -> Bundled:
    """What is known of the bundled server that this table is for; of any other, nothing."""
    name = server.get("builtin")
    return BUNDLED.get(name, Bundled()) if isinstance(name, str) else Bundled()


def _some(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def is_http(address: str) -> bool:
    return re.match(r"https?://[^/\s]", address) is not None


def idle_pattern(text: str, servers: Mapping[str, Any]) -> str:
    """What is wrong with an approval's pattern, or nothing: a bare name must be a server's."""
    try:
        glob = read_pattern(text).glob
    except ValueError as error:
        return str(error)
    server, dot, _ = glob.partition(".")
    if not dot and "*" not in glob and glob not in servers:
        return f'{glob!r} names no server; for a tool write "*.{glob}"'
    if re.search(r"[*?\[]", server) or server in servers or server == "mcpchat":
        return ""
    return f"{text!r}: no server is named {server!r}; {suggest(server, servers)}"


def tables(value: object) -> dict[str, dict[str, Any]]:
    return {k: v for k, v in value.items() if isinstance(v, dict)} if isinstance(value, dict) else {}


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
