"""Turns what a registry says of a server into settings: the ways to run it, what each asks for, its exact command."""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcpchat.config.program_variables import effect_of
from mcpchat.errors import UsageError
from mcpchat.registry.documents import Argument, Input, NamedInput, Package, Server, Transport
from mcpchat.util.sanitize import one_line

_VARIABLE = re.compile(r"\{([\w.-]+)\}")
_VERSION = re.compile(r"\w[\w.+!-]*")
_NPM_NAME = re.compile(r"(@[a-z0-9~][\w.~-]*/)?[a-z0-9~][\w.~-]*", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_IMAGE = re.compile(r"[a-z0-9][\w.-]*(:\d+)?(/[a-z0-9][\w.-]*)*(:\w[\w.-]*)?(@sha256:[0-9a-f]{64})?")
_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(r"(Bearer )?(env|keyring|cmd):.+")


@dataclass(frozen=True, kw_only=True)
class _Ecosystem:
    """Where packages of a kind come from, and the programs that run them, the usual one first."""

    base_url: str
    runtimes: tuple[str, ...]
    name: re.Pattern[str]


_ECOSYSTEMS = {
    "npm": _Ecosystem(base_url="https://packages.npmjs.example", runtimes=("npx", "bunx"), name=_NPM_NAME),
    "pypi": _Ecosystem(base_url="https://packages.pypi.example", runtimes=("uvx",), name=_NAME),
    "oci": _Ecosystem(base_url="https://docker.io", runtimes=("docker", "podman"), name=_IMAGE),
    "nuget": _Ecosystem(base_url="https://api.nuget.org", runtimes=("dnx",), name=_NAME),
}
# What a sandboxed package must write to: its program's cache.
_CACHES = {"npm": ["~/.npm"], "pypi": ["~/.cache/uv", "~/.local/share/uv"]}
KINDS = ("remote", *_ECOSYSTEMS)


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
        return _find_runtime(self.package) if self.package is not None else ""

    @property
    def sandbox(self) -> dict[str, Any] | None:
        """A sandbox in which the package can run; None if there is none for its kind."""
        return {"network": True, "write": _CACHES[self.kind]} if self.kind in _CACHES else None

    @property
    def risky_variables(self) -> list[str]:
        """The environment variables that change which code runs, or where it connects."""
        variables = (self.package.environment_variables or ()) if self.package is not None else ()
        return [variable.name for variable in variables if effect_of(variable.name)]

    def build(self, values: Mapping[str, str]) -> "InstalledSettings":
        """The settings with these values of the inputs. Raises UsageError if one is missing or not allowed."""
        for item in self.inputs:
            value = values.get(item.name) or item.default
            if item.is_required and not value:
                hint = f"--input {item.name}={'env:NAME, or keyring:NAME' if item.is_secret else 'VALUE'}"
                raise UsageError(f"{item.name} is required{_in_brackets(item.description)}", hint=hint)
            if value and item.choices and value not in item.choices:
                raise UsageError(f"{item.name}: expected one of {', '.join(item.choices)}")
        return _Builder(self, values).build()


@dataclass(frozen=True)
class InstalledSettings:
    """Settings of a server, and the keys in them (``env.NAME``) whose values are secrets in plain text."""

    settings: dict[str, Any] = field(default_factory=dict)
    secret_keys: tuple[str, ...] = ()


def list_options(server: Server) -> list[InstallOption]:
    """The ways to use a server: the remote ones first, which run no code on this machine."""
    return [
        *(_remote_option(remote) for remote in server.remotes or ()),
        *(_package_option(package) for package in server.packages or ()),
    ]


def _remote_option(remote: Transport) -> InstallOption:
    problem = ""
    if remote.type not in ("streamable-http", "sse"):
        problem = f"mcpchat has no transport {one_line(remote.type, 40)}"
    elif not remote.url.startswith("https://"):
        problem = f"its address does not begin with https://: {one_line(remote.url, 100)}"
    elif any(not _HEADER.fullmatch(header.name) for header in remote.headers or ()):
        problem = "a header has no valid name"
    elif any(item.is_secret for item in (remote.variables or {}).values()):
        problem = "it wants a secret in its address, which the config would have in plain text"
    inputs = [_to_input(name, item) for name, item in (remote.variables or {}).items()]
    inputs += _named_inputs(remote.headers)
    return InstallOption(
        kind="remote", origin=one_line(remote.url, 300), inputs=_merge(inputs), problem=problem, remote=remote
    )


def _package_option(package: Package) -> InstallOption:
    ecosystem = _ECOSYSTEMS.get(package.registry_type)
    arguments = (*(package.runtime_arguments or ()), *(package.package_arguments or ()))
    inputs = [*_argument_inputs(arguments), *_named_inputs(package.environment_variables)]
    base_url = (package.registry_base_url or (ecosystem.base_url if ecosystem else "")).rstrip("/")
    source = f" of {base_url}" if base_url and package.registry_type != "oci" else ""  # an image's name has its own
    origin = one_line(f"{package.identifier} {package.version}".strip() + source, 300)
    return InstallOption(
        kind=one_line(package.registry_type, 20),
        origin=origin,
        inputs=_merge(inputs),
        problem=_package_problem(package, ecosystem, arguments),
        package=package,
    )


def _package_problem(package: Package, ecosystem: _Ecosystem | None, arguments: Sequence[Argument]) -> str:
    """Why a package cannot be used. Its names must not be options of the program that runs it."""
    if ecosystem is None:
        return f"mcpchat runs no packages of the kind {one_line(package.registry_type, 20)}"
    if package.transport.type != "stdio":
        return "it would listen on a port; mcpchat starts only servers that speak over stdio"
    if not ecosystem.name.fullmatch(package.identifier):
        return f"{one_line(package.identifier, 100)!r} is no name of a package"
    if package.version and not _VERSION.fullmatch(package.version):
        return f"{one_line(package.version, 60)!r} is no version"
    if not package.version and package.registry_type != "oci":
        return "it has no fixed version"
    base_url = package.registry_base_url.rstrip("/")
    if base_url and package.registry_type in ("oci", "nuget") and not base_url.startswith(ecosystem.base_url):
        return f"it comes from another source, {one_line(base_url, 100)}"
    if base_url and not base_url.startswith("https://"):
        return f"its source does not begin with https://: {one_line(base_url, 100)}"
    if any(item.is_secret or any(v.is_secret for v in (item.variables or {}).values()) for item in arguments):
        return "it wants a secret on its command line, where every user of this machine can read it"
    names = [variable.name for variable in package.environment_variables or ()]
    if wrong := [name for name in names if not _VARIABLE_NAME.fullmatch(name)]:
        return f"{one_line(wrong[0], 60)!r} is no name of a variable"
    if any("\n" in str(item.value) or "\0" in str(item.value) or "\0" in item.name for item in arguments):
        return "its arguments have control characters"
    return ""


def _find_runtime(package: Package) -> str:
    """The program that runs a package: the one that its publisher names, if it is one for that kind."""
    ecosystem = _ECOSYSTEMS.get(package.registry_type)
    if ecosystem is None:
        return ""
    return package.runtime_hint if package.runtime_hint in ecosystem.runtimes else ecosystem.runtimes[0]


def _to_input(name: str, item: Input, *, is_secret: bool = False) -> RequestedInput:
    return RequestedInput(
        name=name,
        description=one_line(item.description or item.placeholder, 200),
        is_required=item.is_required,
        is_secret=item.is_secret or is_secret,
        default=_text(item.default),
        choices=tuple(map(_text, item.choices or ())),
    )


def _named_inputs(items: Sequence[NamedInput] | None) -> Iterator[RequestedInput]:
    for item in items or ():
        yield from _inputs_of(item.name, item)


def _argument_inputs(arguments: Iterable[Argument]) -> Iterator[RequestedInput]:
    for argument in arguments:
        if not _is_bare_option(argument):
            yield from _inputs_of(_argument_name(argument), argument)


def _is_bare_option(argument: Argument) -> bool:
    """Whether the argument is an option without a value, such as -y: nothing is said of a value."""
    is_described = argument.description or argument.placeholder or argument.choices or argument.is_required
    has_value = argument.value is not None or argument.default is not None or argument.format != "string"
    return argument.type == "named" and not is_described and not has_value


def _argument_name(argument: Argument) -> str:
    return argument.value_hint or argument.name.lstrip("-") or "argument"


def _inputs_of(name: str, item: Input) -> Iterator[RequestedInput]:
    """What the user has to give: the value itself, or the variables in it; nothing for a fixed value."""
    if item.value is None:
        yield _to_input(name, item)
        return
    for variable in _VARIABLE.findall(_text(item.value)):
        if inner := (item.variables or {}).get(variable):
            yield _to_input(variable, inner, is_secret=item.is_secret)


def _merge(inputs: Iterable[RequestedInput]) -> tuple[RequestedInput, ...]:
    """The inputs, each name once."""
    return tuple({item.name: item for item in inputs}.values())


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _text(value: Any) -> str:
    """A value of a document as text."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


class _Builder:
    """Fills in the values of one option."""

    def __init__(self, option: InstallOption, values: Mapping[str, str]) -> None:
        self._option = option
        self._values = {item.name: values.get(item.name) or item.default for item in option.inputs}
        self._secrets = {item.name for item in option.inputs if item.is_secret}
        self._secret_keys: list[str] = []

    def build(self) -> InstalledSettings:
        if self._option.remote is not None:
            settings = self._build_remote(self._option.remote)
        else:
            assert self._option.package is not None
            settings = self._build_package(self._option.package)
        return InstalledSettings(settings, tuple(self._secret_keys))

    def _build_remote(self, remote: Transport) -> dict[str, Any]:
        settings: dict[str, Any] = {"url": self._fill(remote.url, remote.variables)}
        if remote.type == "sse":
            settings["transport"] = "sse"
        if headers := self._build_table("headers", remote.headers):
            settings["headers"] = headers
        return settings

    def _build_package(self, package: Package) -> dict[str, Any]:
        runtime = _find_runtime(package)
        before = [word for argument in package.runtime_arguments or () for word in self._build_argument(argument)]
        after = [word for argument in package.package_arguments or () for word in self._build_argument(argument)]
        env = self._build_table("env", package.environment_variables)
        args = [*_runtime_words(package, runtime, before, list(env)), *after]
        return {"command": runtime, "args": args, **({"env": env} if env else {})}

    def _build_argument(self, argument: Argument) -> list[str]:
        value = self._value(_argument_name(argument), argument)
        if argument.type != "named":
            if not argument.is_repeated or argument.value is not None:
                return [value] if value else []
            try:
                return shlex.split(value)
            except ValueError as error:
                raise UsageError(f"{_argument_name(argument)}: the quotes do not match") from error
        if argument.format == "boolean":
            return [argument.name] if value == "true" else []
        if _is_bare_option(argument) or (not value and argument.value == ""):
            return [argument.name]
        return [argument.name, value] if value else []

    def _build_table(self, table: str, items: Sequence[NamedInput] | None) -> dict[str, str]:
        filled: dict[str, str] = {}
        for item in items or ():
            if not (value := self._value(item.name, item)):
                continue
            filled[item.name] = value
            variables = {item.name, *_VARIABLE.findall(_text(item.value))}
            if (item.is_secret or variables & self._secrets) and not _REFERENCE.fullmatch(value):
                self._secret_keys.append(f"{table}.{item.name}")
        return filled

    def _value(self, name: str, item: Input) -> str:
        if item.value is None:
            return self._values.get(name, "")
        needed = [variable for variable in _VARIABLE.findall(_text(item.value)) if variable in (item.variables or {})]
        if any(not self._values.get(variable) for variable in needed):
            return ""  # an optional value that was not given
        return self._fill(_text(item.value), item.variables)

    def _fill(self, text: str, variables: Mapping[str, Input] | None) -> str:
        known = variables or {}
        return _VARIABLE.sub(lambda match: self._values[match[1]] if match[1] in known else match[0], text)


def _runtime_words(package: Package, runtime: str, before: Sequence[str], variables: Sequence[str]) -> list[str]:
    """The words between the program and the package's own arguments, with the package in its exact version."""
    base_url = package.registry_base_url.rstrip("/")
    is_other = bool(base_url) and base_url != _ECOSYSTEMS[package.registry_type].base_url
    match package.registry_type:
        case "npm":
            yes = [] if runtime == "bunx" or "-y" in before or "--yes" in before else ["-y"]
            source = [f"--registry={base_url}"] if is_other else []
            return [*yes, *source, *before, f"{package.identifier}@{package.version}"]
        case "pypi":
            source = ["--default-index", base_url] if is_other else []
            return [*source, *before, f"{package.identifier}@{package.version}"]
        case "nuget":
            return [*before, f"{package.identifier}@{package.version}", "--yes", "--"]
        case _:
            names = [word for name in variables for word in ("-e", name)]
            before = before[1:] if before[:1] == ["run"] else before
            usual = [word for word in ("-i", "--rm") if word not in before]
            return ["run", *usual, *before, *names, _image(package)]


def _image(package: Package) -> str:
    """The image with its tag: in newer documents the identifier has it."""
    name = package.identifier.rpartition("/")[2]
    return package.identifier if ":" in name or not package.version else f"{package.identifier}:{package.version}"
