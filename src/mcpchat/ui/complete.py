"""What may come next on the line: a pure function from the text and the known names to suggestions."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from mcpchat.core.catalog import Catalog, Prompt

_MENTION = re.compile(r"(?:^|\s)@(\S*)$")
_VALUE = re.compile(r"(?:^|\s)([^\s=]+)=(\S*)$")
_MOST = 100


class Suggestion(NamedTuple):
    """``text`` replaces the last ``replaces`` characters before the cursor."""

    text: str
    replaces: int
    help: str = ""


class Asked(NamedTuple):
    """A prompt's argument whose value the server may suggest: what is typed of it, and the other values."""

    prompt: Prompt
    argument: str
    typed: str
    given: dict[str, str]


def suggest(
    line: str,
    commands: Mapping[str, str],
    arguments: Mapping[str, Mapping[str, str]],
    catalogs: Mapping[str, Catalog] | None = None,
) -> list[Suggestion]:
    """Suggestions for the line up to the cursor.

    ``commands`` maps "/name" to its help; ``arguments`` maps "/name" to the values that it takes, each with its help;
    ``catalogs`` are the servers' own names: prompts after a slash, resources after an @.
    """
    known = catalogs or {}
    if mention := _MENTION.search(line):
        return _resources(mention[1], known)
    if not line.startswith("/"):
        return []
    command, space, typed = line.partition(" ")
    prompts = {f"/{prompt.label}": prompt for catalog in known.values() for prompt in catalog.prompts}
    if not space:
        named = {**commands, **{name: prompt.description or prompt.title for name, prompt in prompts.items()}}
        return [Suggestion(name, len(line), text) for name, text in named.items() if name.startswith(command)][:_MOST]
    if command in prompts:
        return _keys(prompts[command], typed)
    known_values = arguments.get(command, {}).items()
    return [Suggestion(name, len(typed), text) for name, text in known_values if name.startswith(typed)]


def _resources(typed: str, catalogs: Mapping[str, Catalog]) -> list[Suggestion]:
    found = [
        Suggestion(f"@{one.label}", len(typed) + 1, one.name)
        for catalog in catalogs.values()
        for one in catalog.resources
        if one.label.startswith(typed)
    ]
    found += [
        Suggestion(f"@{one.server}:{one.uri.partition('{')[0]}", len(typed) + 1, f"{one.uri}  {one.name}")
        for catalog in catalogs.values()
        for one in catalog.templates
        if f"{one.server}:{one.uri.partition('{')[0]}".startswith(typed)
    ]
    return found[:_MOST]


def _keys(prompt: Prompt, typed: str) -> list[Suggestion]:
    """The prompt's arguments that are not there yet."""
    words = typed.split(" ")
    given = {word.partition("=")[0] for word in words[:-1]}
    return [
        Suggestion(f"{argument.name}=", len(words[-1]), argument.description)
        for argument in prompt.arguments
        if argument.name not in given and f"{argument.name}=".startswith(words[-1]) and "=" not in words[-1]
    ]


def asked_value(line: str, catalogs: Mapping[str, Catalog]) -> Asked | None:
    """The prompt's value at the cursor, None where there is none."""
    command, space, typed = line.partition(" ")
    value = _VALUE.search(typed) if space and command.startswith("/") else None
    if value is None:
        return None
    for catalog in catalogs.values():
        for prompt in catalog.prompts:
            if f"/{prompt.label}" == command and value[1] in {argument.name for argument in prompt.arguments}:
                pairs = (word.partition("=") for word in typed.split(" ")[:-1])
                return Asked(prompt, value[1], value[2], {key: text for key, equals, text in pairs if equals})
    return None
