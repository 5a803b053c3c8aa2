"""The ways to use a server of the registry: what each asks for, and why some cannot be used."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from mcpchat.config.clients.likely_secrets import names_secret
from mcpchat.config.program_variables import effect_of
from mcpchat.registry.documents import Argument, Input, NamedInput, Package, Server, Transport
from mcpchat.util.sanitize import one_line, show_invisible

VARIABLE = re.compile(r"\{([\w.-]+)\}")
_VERSION = re.compile(r"v?\d[\w.+!-]*")
_NPM_VERSION = re.compile(r"\d+\.\d+\.\d+([-+][\w.+-]+)?")
_NPM_NAME = re.compile(r"(@[a-z0-9~][\w.~-]*/)?[a-z0-9~][\w.~-]*", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_IMAGE = re.compile(r"[a-z0-9][\w.-]*(:\d+)?(/[a-z0-9][\w.-]*)*(:\w[\w.-]*)?(@sha256:[0-9a-f]{64})?")
_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
REFERENCE = re.compile(r"(Bearer )?(env|keyring|cmd):.+", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Ecosystem:
    """Where packages of a kind come from, and the programs that run them, the usual one first."""

    domain: str  # the second label of its usual source
    runtimes: tuple[str, ...]
    name: re.Pattern[str]


ECOSYSTEMS = {
    "npm": Ecosystem(domain="npmjs", runtimes=("npx", "bunx"), name=_NPM_NAME),
    "pypi": Ecosystem(domain="pypi", runtimes=("uvx",), name=_NAME),
    "oci": Ecosystem(domain="docker", runtimes=("docker", "podman"), name=_IMAGE),
    "nuget": Ecosystem(domain="nuget", runtimes=("dnx",), name=_NAME),
}
# What a sandboxed package must write to: its program's cache.
_CACHES = {"npm": ["~/.npm"], "pypi": ["~/.cache/uv", "~/.local/share/uv"]}
KINDS = ("remote", *ECOSYSTEMS)


@dataclass(frozen=True, kw_only=True)
class RequestedInput:
    """A value that the server's publisher asks for. ``default`` is used if the user gives none."""

    name: str
    description: str = ""
    is_required: bool = False
    is_secret: bool = False
    default: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class InstallOption:
    """One way to use a server. ``problem`` says why it cannot be used; ``origin`` where its code or data comes from."""

    kind: str
    origin: str
    inputs: tuple[RequestedInput, ...] = ()
    problem: str = ""
    package: Package | None = None
    remote: Transport | None = None

    @property
    def program(self) -> str:
        """The program that runs the package; empty for a remote server."""
        return find_runtime(self.package) if self.package is not None else ""

    @property
    def sandbox(self) -> dict[str, Any] | None:
        """A sandbox in which the package can run; None if there is none for its kind."""
        return {"network": True, "write": _CACHES[self.kind]} if self.kind in _CACHES else None

    @property
    def risky_variables(self) -> list[str]:
        """The environment variables that change which code runs, or where it connects."""
        variables = (self.package.environment_variables or ()) if self.package is not None else ()
        return [variable.name for variable in variables if effect_of(variable.name)]


def list_options(server: Server) -> list[InstallOption]:
    """The ways to use a server: the remote ones first, which run no code on this machine."""
    return [
        *(_remote_option(remote) for remote in server.remotes or ()),
        *(_package_option(package) for package in server.packages or ()),
    ]


def _remote_option(remote: Transport) -> InstallOption:
    address = [_to_input(name, item, is_required=True) for name, item in (remote.variables or {}).items()]
    return InstallOption(
        kind="remote",
        origin=show_invisible(remote.url),
        inputs=_merge([*address, *_named_inputs(remote.headers)]),
        problem=_find_text_problem(remote) or _remote_problem(remote),
        remote=remote,
    )


def _remote_problem(remote: Transport) -> str:
    variables = remote.variables or {}
    if remote.type not in ("streamable-http", "sse"):
        return f"mcpchat has no transport {one_line(remote.type, 40)}"
    if not remote.url.startswith("https://"):
        return f"its address does not begin with https://: {one_line(remote.url, 100)}"
    if undeclared := [name for name in VARIABLE.findall(remote.url) if name not in variables]:
        return f"its address has a variable that it does not declare: {one_line(undeclared[0], 40)}"
    if problem := address_problem(VARIABLE.sub("x", remote.url)):
        return problem
    if any(not _HEADER.fullmatch(header.name) for header in remote.headers or ()):
        return "a header has no valid name"
    secrets = {item.name for item in _named_inputs(remote.headers) if item.is_secret}
    if any(item.is_secret or name in secrets for name, item in variables.items()):
        return "it wants a secret in its address, which the config would have in plain text"
    return ""


def address_problem(url: str) -> str:
    """Why an address cannot be used; empty if it can."""
    try:
        parts = urlsplit(url)
        has_host = (bool(re.fullmatch(r"[A-Za-z0-9.-]+", parts.hostname or "")) and parts.port is None) or bool(
            parts.port
        )
    except ValueError:
        return f"{one_line(url, 100)} is no address"
    if parts.username or parts.password:
        return "its address has a user name"
    return "" if has_host and not re.search(r"\s", url) else f"{one_line(url, 100)} is no address"


def _package_option(package: Package) -> InstallOption:
    ecosystem = ECOSYSTEMS.get(package.registry_type)
    inputs = [*_argument_inputs(all_arguments(package)), *_named_inputs(package.environment_variables)]
    source = f" of {other_source(package) or package.registry_type}" if package.registry_type != "oci" else ""
    return InstallOption(
        kind=one_line(package.registry_type, 20),
        origin=show_invisible(f"{package.identifier} {package.version}".strip() + source),
        inputs=_merge(inputs),
        problem=_find_text_problem(package) or _package_problem(package, ecosystem),
        package=package,
    )


def _find_text_problem(part: Package | Transport) -> str:
    """Why its texts cannot be used: control characters, or references to the user's own secrets."""
    for text in _iter_texts(msgspec.to_builtins(part)):
        if any(ord(char) < ord(" ") or char == "\x7f" for char in text):
            return "it has control characters"
        if REFERENCE.fullmatch(text):
            return f"it refers to your own secrets or programs: {one_line(text, 60)}"
    return ""


def _iter_texts(value: Any) -> Iterator[str]:
    """Every text in the value but descriptions, which are only shown."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key not in ("description", "placeholder"):
                yield from _iter_texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _iter_texts(inner)


def _package_problem(package: Package, ecosystem: Ecosystem | None) -> str:
    """Why a package cannot be used. Its names must not be options of the program that runs it."""
    if ecosystem is None:
        return f"mcpchat runs no packages of the kind {one_line(package.registry_type, 20)}"
    if package.transport.type != "stdio":
        return "it would listen on a port; mcpchat starts only servers that speak over stdio"
    if package.runtime_hint and package.runtime_hint not in ecosystem.runtimes:
        return f"it is to be run with {one_line(package.runtime_hint, 40)}, and not with {ecosystem.runtimes[0]}"
    if not ecosystem.name.fullmatch(package.identifier):
        return f"{one_line(package.identifier, 100)!r} is no name of a package"
    return (
        _version_problem(package) or _source_problem(package) or _secret_problem(package) or _runtime_problem(package)
    )


def _runtime_problem(package: Package) -> str:
    """Whether the arguments of the program that runs the package name something else to run."""
    arguments = package.runtime_arguments or ()
    sources = [text_of(argument.value) for argument in arguments if argument.name == "--from"]
    if sources and (package.registry_type != "pypi" or not all(source in exact_names(package) for source in sources)):
        return f"it is to be run from something else: {one_line(sources[0], 100)}"
    allowed = {package.identifier, *exact_names(package)}
    for argument in arguments:
        text = text_of(argument.value)
        is_option = argument.type == "named" or text.startswith("-")
        is_run = package.registry_type == "oci" and text.split()[:1] == ["run"]
        if not is_option and not is_run and not sources and text not in allowed:
            return f"it names something else to run: {one_line(text or argument_name(argument), 100)}"
    return ""


def exact_names(package: Package) -> set[str]:
    """How the package in its exact version can be named."""
    return {f"{package.identifier}{sign}{package.version}" for sign in ("@", "==")}


def _version_problem(package: Package) -> str:
    version = package.version
    if package.registry_type == "oci":
        name = image_name(package).rpartition("/")[2]
        is_fixed = "@sha256:" in name or (":" in name and not name.endswith(":latest"))
        return "" if is_fixed else "it has no fixed version"
    if version and not _VERSION.fullmatch(version) and version != "latest":
        return f"{one_line(version, 60)!r} is no version"
    is_tag = package.registry_type == "npm" and not _NPM_VERSION.fullmatch(version)  # or every version like it
    return "it has no fixed version" if version in ("", "latest") or is_tag else ""


def other_source(package: Package) -> str:
    """The address of the package's source, if it is not the usual one of its kind; else empty."""
    url = package.registry_base_url.rstrip("/")
    labels = _host(url).split(".")
    ecosystem = ECOSYSTEMS.get(package.registry_type)
    return "" if not url or (ecosystem is not None and labels[-2:-1] == [ecosystem.domain]) else url


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _source_problem(package: Package) -> str:
    source = other_source(package)
    if source and package.registry_type == "nuget":
        return f"it comes from another source, {one_line(source, 100)}"
    if source and not source.startswith("https://"):
        return f"its source does not begin with https://: {one_line(source, 100)}"
    return address_problem(source) if source else ""


def _secret_problem(package: Package) -> str:
    """Whether a secret would get onto the command line, also under the name of another value."""
    variables = package.environment_variables or ()
    if wrong := [variable.name for variable in variables if not _VARIABLE_NAME.fullmatch(variable.name)]:
        return f"{one_line(wrong[0], 60)!r} is no name of a variable"
    secrets = {item.name for item in _named_inputs(variables) if item.is_secret}
    inputs = list(_argument_inputs(all_arguments(package)))
    if any(item.is_secret or item.name in secrets or names_secret(f"--{item.name}") for item in inputs):
        return "it wants a secret on its command line, where every user of this machine can read it"
    return ""


def all_arguments(package: Package) -> list[Argument]:
    """All arguments, of the program that runs the package and of the package. Those without a name get a number."""
    named = []
    for number, argument in enumerate((*(package.runtime_arguments or ()), *(package.package_arguments or ())), 1):
        has_name = argument.value_hint or argument.name.lstrip("-")
        named.append(argument if has_name else replace(argument, value_hint=f"argument{number}"))
    return named


def find_runtime(package: Package) -> str:
    """The program that runs a package: the one that its publisher names, if it is one for that kind."""
    ecosystem = ECOSYSTEMS.get(package.registry_type)
    if ecosystem is None:
        return ""
    return package.runtime_hint if package.runtime_hint in ecosystem.runtimes else ecosystem.runtimes[0]


def _to_input(name: str, item: Input, *, is_secret: bool = False, is_required: bool = False) -> RequestedInput:
    return RequestedInput(
        name=name,
        description=one_line(item.description or item.placeholder, 200),
        is_required=item.is_required or is_required,
        is_secret=item.is_secret or is_secret,
        default=text_of(item.default),
        choices=tuple(map(text_of, item.choices or ())),
    )


def _named_inputs(items: Sequence[NamedInput] | None) -> Iterator[RequestedInput]:
    for item in items or ():
        yield from _inputs_of(item.name, item)


def _argument_inputs(arguments: Iterable[Argument]) -> Iterator[RequestedInput]:
    for argument in arguments:
        if not is_bare_option(argument):
            yield from _inputs_of(argument_name(argument), argument)


def is_bare_option(argument: Argument) -> bool:
    """Whether the argument is an option without a value, such as -y: nothing is said of a value."""
    is_asked = argument.is_required or argument.is_secret or argument.choices
    is_described = argument.description or argument.placeholder or is_asked
    has_value = argument.value is not None or argument.default is not None or argument.format != "string"
    return argument.type == "named" and not is_described and not has_value


def argument_name(argument: Argument) -> str:
    return argument.value_hint or argument.name.lstrip("-") or "argument"


def _inputs_of(name: str, item: Input) -> Iterator[RequestedInput]:
    """What the user has to give: the value itself, or the variables in it; nothing for a fixed value."""
    if item.value is None:
        yield _to_input(name, item)
        return
    for variable in VARIABLE.findall(text_of(item.value)):
        if inner := (item.variables or {}).get(variable):
            yield _to_input(variable, inner, is_secret=item.is_secret)


def _merge(inputs: Iterable[RequestedInput]) -> tuple[RequestedInput, ...]:
    """The inputs, each name once; it is secret or required if one of its uses is."""
    merged: dict[str, RequestedInput] = {}
    for item in inputs:
        other = merged.get(item.name, item)
        merged[item.name] = replace_dataclass(
            other, is_secret=other.is_secret or item.is_secret, is_required=other.is_required or item.is_required
        )
    return tuple(merged.values())


def in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def text_of(value: Any) -> str:
    """A value of a document as text."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def image_name(package: Package) -> str:
    """The image with its host and its tag: in newer documents the identifier has them."""
    host = _host(other_source(package))
    name = f"{host}/{package.identifier}" if host else package.identifier
    has_tag = ":" in name.rpartition("/")[2]
    return name if has_tag or not package.version else f"{name}:{package.version}"
