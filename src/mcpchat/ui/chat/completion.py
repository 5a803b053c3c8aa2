"""What may come next on the line: a pure function from the text and the known names to suggestions."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from mcpchat.core.catalog import Catalog, Prompt, PromptArgument

_MENTION = re.compile(r'(?:^|\s)@("[^"\n]*|\S*)$')
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
    files: Callable[[str], Iterable[str]] = lambda typed: (),
) -> list[Suggestion]:
    """Suggestions for the line up to the cursor, the likeliest first.

    ``commands`` maps "/name" to its help; ``arguments`` maps "/name" to the values that it takes, each with its help;
    ``catalogs`` are the servers' own names: prompts after a slash, resources after an @; ``files`` gives the names of
    files that begin as what is typed after an @.
    """
    known = catalogs or {}
    if mention := _MENTION.search(line):
        return _mentions(mention[1], known, files)
    if not line.startswith("/") or "\n" in line:
        return []
    command, space, typed = line.partition(" ")
    prompts = {f"/{prompt.label}": prompt for catalog in known.values() for prompt in catalog.prompts}
    if not space:
        named = {**commands, **{name: prompt.description or prompt.title for name, prompt in prompts.items()}}
        return likely(named, command)
    if command in prompts:
        return _keys(prompts[command], typed)
    return likely(arguments.get(command, {}), typed)


def likely(names: Mapping[str, str], typed: str) -> list[Suggestion]:
    """The names, each with its help, that what is typed may stand for: its letters are in them in their order.

    Those that begin so come first, then those that hold it in one piece, then the others, the shortest first.
    """
    wanted = typed.casefold()
    ranked = []
    for place, (name, told) in enumerate(names.items()):
        own = name.casefold()
        if own.startswith(wanted):
            ranked.append((0, place, name, told))
        elif wanted in own:
            ranked.append((1, place, name, told))
        elif _in_order(wanted, own):
            ranked.append((2, len(name), name, told))
    return [Suggestion(name, len(typed), told) for _, _, name, told in sorted(ranked)[:_MOST]]


def _in_order(letters: str, name: str) -> bool:
    rest = iter(name)
    return all(letter in rest for letter in letters)


def _mentions(typed: str, catalogs: Mapping[str, Catalog], files: Callable[[str], Iterable[str]]) -> list[Suggestion]:
    begun = typed.removeprefix('"')
    found = [
        Suggestion(
            f'@"{name}"' if " " in name else f"@{name}", len(typed) + 1, "folder" if name.endswith("/") else "file"
        )
        for name in files(begun)
    ]
    named = {one.label: one.name for catalog in catalogs.values() for one in catalog.resources}
    named |= {
        f"{one.server}:{one.uri.partition('{')[0]}": f"{one.uri}  {one.name}"
        for catalog in catalogs.values()
        for one in catalog.templates
    }
    resources = [one._replace(text=f"@{one.text}", replaces=len(typed) + 1) for one in likely(named, begun)]
    return [*resources, *found][:_MOST] if ":" in typed else [*found, *resources][:_MOST]


def _keys(prompt: Prompt, typed: str) -> list[Suggestion]:
    """The prompt's arguments that are not there yet."""
    words = typed.split(" ")
    given = {word.partition("=")[0] for word in words[:-1]}
    return [
        Suggestion(
            f"{argument.name}=", len(words[-1]), f"{'required  ' * argument.required}{argument.description}".strip()
        )
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


def _told(argument: PromptArgument) -> str:
    return "  ".join(filter(None, ("required" * argument.required, argument.description)))
