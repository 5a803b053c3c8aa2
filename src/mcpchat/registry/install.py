"""Settings for a server of the registry: its exact command or address, with the user's values."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcpchat.errors import UsageError
from mcpchat.registry.documents import Argument, Input, NamedInput, Package, Transport
from mcpchat.registry.options import (
    REFERENCE,
    VARIABLE,
    InstallOption,
    address_problem,
    all_arguments,
    argument_name,
    exact_names,
    find_runtime,
    image_name,
    in_brackets,
    is_bare_option,
    other_source,
    text_of,
)


@dataclass(frozen=True)
class InstalledSettings:
    """Settings of a server, and the keys in them (``env.NAME``) whose values are secrets in plain text."""

    settings: dict[str, Any] = field(default_factory=dict)
    secret_keys: tuple[str, ...] = ()


def build_settings(option: InstallOption, values: Mapping[str, str]) -> InstalledSettings:
    """The settings of an option with these values of its inputs. Raises UsageError if one is missing or not allowed."""
    for item in option.inputs:
        value = values.get(item.name) or item.default
        if item.is_required and not value:
            hint = f"--input {item.name}={'env:NAME, or keyring:NAME' if item.is_secret else 'VALUE'}"
            raise UsageError(f"{item.name} is required{in_brackets(item.description)}", hint=hint)
        if value and item.choices and value not in item.choices:
            raise UsageError(f"{item.name}: expected one of {', '.join(item.choices)}")
    return _Builder(option, values).build()


class _Builder:
    """Fills in the values of one option."""

    def __init__(self, option: InstallOption, values: Mapping[str, str]) -> None:
        self._option = option
        self._values = {item.name: values.get(item.name) or item.default for item in option.inputs}
        self._given = {value.removeprefix("Bearer ") for value in values.values()}  # by the user
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
        url = self._fill(remote.url, remote.variables)
        if problem := address_problem(url):
            raise UsageError(problem)
        settings: dict[str, Any] = {"url": url}
        if remote.type == "sse":
            settings["transport"] = "sse"
        if headers := self._build_table("headers", remote.headers):
            settings["headers"] = headers
        return settings

    def _build_package(self, package: Package) -> dict[str, Any]:
        runtime = find_runtime(package)
        words = [self._build_argument(argument) for argument in all_arguments(package)]
        first = len(package.runtime_arguments or ())
        before, after = ([word for group in part for word in group] for part in (words[:first], words[first:]))
        env = self._build_table("env", package.environment_variables)
        args = [*_runtime_words(package, runtime, before, list(env)), *after]
        return {"command": runtime, "args": args, **({"env": env} if env else {})}

    def _build_argument(self, argument: Argument) -> list[str]:
        value = self._value(argument_name(argument), argument)
        if argument.type != "named":
            if not argument.is_repeated or argument.value is not None:
                return [value] if value else []
            try:
                return shlex.split(value)
            except ValueError as error:
                raise UsageError(f"{argument_name(argument)}: the quotes do not match") from error
        if argument.format == "boolean":
            return [argument.name] if value == "true" else []
        if is_bare_option(argument) or (not value and argument.value == ""):
            return [argument.name]
        return [argument.name, value] if value else []

    def _build_table(self, table: str, items: Sequence[NamedInput] | None) -> dict[str, str]:
        filled: dict[str, str] = {}
        for item in items or ():
            if not (value := self._value(item.name, item)):
                continue
            if REFERENCE.fullmatch(value) and value.removeprefix("Bearer ") not in self._given:
                raise UsageError(f"{item.name}: its publisher refers to your own secrets or programs")
            filled[item.name] = value
            variables = {item.name, *VARIABLE.findall(text_of(item.value))}
            if (item.is_secret or variables & self._secrets) and not REFERENCE.fullmatch(value):
                self._secret_keys.append(f"{table}.{item.name}")
        return filled

    def _value(self, name: str, item: Input) -> str:
        if item.value is None:
            return self._values.get(name, "")
        needed = [variable for variable in VARIABLE.findall(text_of(item.value)) if variable in (item.variables or {})]
        if any(not self._values.get(variable) for variable in needed):
            return ""  # an optional value that was not given
        return self._fill(text_of(item.value), item.variables)

    def _fill(self, text: str, variables: Mapping[str, Input] | None) -> str:
        known = variables or {}
        return VARIABLE.sub(lambda match: self._values[match[1]] if match[1] in known else match[0], text)


def _runtime_words(package: Package, runtime: str, before: Sequence[str], variables: Sequence[str]) -> list[str]:
    """The words between the program and the package's own arguments, with the package in its exact version."""
    source = other_source(package)
    if package.registry_type == "oci":
        before = _without_run(before)
        names = [word for name in variables for word in ("-e", name)]
        usual = [word for word, long in (("-i", "--interactive"), ("--rm", "--rm")) if not {word, long} & {*before}]
        return ["run", *usual, *before, *names, image_name(package)]
    name = f"{package.identifier}@{package.version}"
    before = [name if word == package.identifier else word for word in before]
    # The publisher may have named the package among the runtime's arguments.
    exact = [] if exact_names(package) & {*before} else [name]
    match package.registry_type:
        case "npm":
            yes = [] if runtime == "bunx" or "-y" in before or "--yes" in before else ["-y"]
            return [*yes, *([f"--registry={source}"] if source else []), *before, *exact]
        case "pypi":
            return [*(["--default-index", source] if source else []), *before, *exact]
        case _:
            return [*before, *exact, "--yes", "--"]


def _without_run(words: Sequence[str]) -> list[str]:
    """The words without a leading "run", which may be in one word with others."""
    first, *rest = [*words] or [""]
    parts = first.split()
    return [*parts[1:], *rest] if parts[:1] == ["run"] else [*words]
