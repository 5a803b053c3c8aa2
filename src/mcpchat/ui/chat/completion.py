"""Suggestions for the input line: a pure function of its text and the known names."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from mcpchat.core.catalog import Catalog, Prompt

_MENTION_PATTERN = re.compile(r'(?:^|\s)@("[^"\n]*|\S*)$')
_VALUE_PATTERN = re.compile(r"(?:^|\s)([^\s=]+)=(\S*)$")
_MAX_SUGGESTIONS = 100


class Suggestion(NamedTuple):
    """``text`` replaces the last ``replaces`` characters before the cursor."""

    text: str
    replaces: int
    help: str = ""


class PromptValueQuery(NamedTuple):
    """A question to a server for suggestions: an argument of its prompt, its value so far, and the other values."""

    prompt: Prompt
    argument: str
    typed: str
    other_values: dict[str, str]


def suggest(
    line: str,
    commands: Mapping[str, str],
    arguments: Mapping[str, Mapping[str, str]],
    catalogs: Mapping[str, Catalog] | None = None,
    files: Callable[[str], Iterable[str]] = lambda typed: (),
) -> list[Suggestion]:
    """Suggestions for the line up to the cursor, best first.

    ``commands`` maps "/name" to its help. ``arguments`` maps "/name" to its possible arguments, each with its help.
    ``catalogs`` supply prompts after a slash and resources after an @. ``files`` returns the paths that begin with the
    text after an @.
    """
    known_catalogs = catalogs or {}
    if mention := _MENTION_PATTERN.search(line):
        return _suggest_mentions(mention[1], known_catalogs, files)
    if not line.startswith("/") or "\n" in line:
        return []
    command, space, typed = line.partition(" ")
    prompts = {f"/{prompt.label}": prompt for catalog in known_catalogs.values() for prompt in catalog.prompts}
    if not space:
        names = {**commands, **{name: prompt.description or prompt.title for name, prompt in prompts.items()}}
        return fuzzy_match(names, command)
    if command in prompts:
        return _suggest_argument_names(prompts[command], typed)
    return fuzzy_match(arguments.get(command, {}), typed)


def fuzzy_match(names: Mapping[str, str], typed: str) -> list[Suggestion]:
    """The names that contain the letters of ``typed`` in order, each with its help.

    Names that begin with it come first, then names that contain it as a whole, then the others, shortest first.
    """
    query = typed.casefold()
    ranked = []
    for index, (name, help_text) in enumerate(names.items()):
        folded = name.casefold()
        if folded.startswith(query):
            ranked.append((0, index, name, help_text))
        elif query in folded:
            ranked.append((1, index, name, help_text))
        elif is_subsequence(query, folded):
            ranked.append((2, len(name), name, help_text))
    return [Suggestion(name, len(typed), help_text) for _, _, name, help_text in sorted(ranked)[:_MAX_SUGGESTIONS]]


def is_subsequence(letters: str, name: str) -> bool:
    """Whether the name contains these letters in this order."""
    remaining = iter(name)
    return all(letter in remaining for letter in letters)


def _suggest_mentions(
    typed: str, catalogs: Mapping[str, Catalog], files: Callable[[str], Iterable[str]]
) -> list[Suggestion]:
    prefix = typed.removeprefix('"')
    file_suggestions = [
        Suggestion(
            f'@"{name}"' if " " in name else f"@{name}", len(typed) + 1, "folder" if name.endswith("/") else "file"
        )
        for name in files(prefix)
        if '"' not in name and name.isprintable()  # such a name could end its mention and begin another one
    ]
    names = {
        resource.label: resource.name
        for catalog in catalogs.values()
        for resource in catalog.resources
        if resource.label.isprintable() and " " not in resource.label
    }
    names |= {
        f"{template.server}:{template.uri.partition('{')[0]}": f"{template.uri}  {template.name}"
        for catalog in catalogs.values()
        for template in catalog.templates
        if template.uri.isprintable() and " " not in template.uri
    }
    resources = [
        suggestion._replace(text=f"@{suggestion.text}", replaces=len(typed) + 1)
        for suggestion in fuzzy_match(names, prefix)
    ]
    return (
        [*resources, *file_suggestions][:_MAX_SUGGESTIONS]
        if ":" in typed
        else [*file_suggestions, *resources][:_MAX_SUGGESTIONS]
    )


def _suggest_argument_names(prompt: Prompt, typed: str) -> list[Suggestion]:
    """The prompt's arguments that have no value yet."""
    tokens = typed.split(" ")
    assigned = {token.partition("=")[0] for token in tokens[:-1]}
    return [
        Suggestion(
            f"{argument.name}=", len(tokens[-1]), f"{'required  ' * argument.required}{argument.description}".strip()
        )
        for argument in prompt.arguments
        if argument.name not in assigned and f"{argument.name}=".startswith(tokens[-1]) and "=" not in tokens[-1]
    ]


def prompt_value_at_cursor(line: str, catalogs: Mapping[str, Catalog]) -> PromptValueQuery | None:
    """The argument of a server's prompt whose value is at the cursor; None if there is none."""
    command, space, typed = line.partition(" ")
    match = _VALUE_PATTERN.search(typed) if space and command.startswith("/") else None
    if match is None:
        return None
    for catalog in catalogs.values():
        for prompt in catalog.prompts:
            if f"/{prompt.label}" == command and match[1] in {argument.name for argument in prompt.arguments}:
                pairs = (token.partition("=") for token in typed.split(" ")[:-1])
                return PromptValueQuery(
                    prompt, match[1], match[2], {key: text for key, equals, text in pairs if equals}
                )
    return None
