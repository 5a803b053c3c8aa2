"""The catalog of a server: its description, resources, prompts and tools."""

from collections.abc import Sequence
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from mcpchat.core.tools import ToolSpec
from mcpchat.errors import UsageError
from mcpchat.util.text import did_you_mean


class ServerInfo(Struct, frozen=True, kw_only=True):
    """A server's description of itself: untrusted text, except ``revision``, the negotiated protocol revision."""

    name: str = ""
    title: str = ""
    version: str = ""
    revision: str = ""
    instructions: str = ""
    capabilities: tuple[str, ...] = ()


class Resource(Struct, frozen=True, kw_only=True):
    """A resource of a server. ``size`` is in bytes, None if the server does not report it."""

    server: str
    uri: str
    name: str = ""
    description: str = ""
    media_type: str = ""
    size: int | None = None

    @property
    def label(self) -> str:
        """The display name, ``server:uri``, which the user types after an @."""
        return f"{self.server}:{self.uri}"


class ResourceTemplate(Struct, frozen=True, kw_only=True):
    """A template for resources. ``uri`` is an RFC 6570 URI template."""

    server: str
    uri: str
    name: str = ""
    description: str = ""
    media_type: str = ""


class PromptArgument(Struct, frozen=True, kw_only=True):
    name: str
    description: str = ""
    required: bool = False


class Prompt(Struct, frozen=True, kw_only=True):
    """A prompt of a server: it turns arguments into one or more messages."""

    server: str
    name: str
    title: str = ""
    description: str = ""
    arguments: tuple[PromptArgument, ...] = ()

    @property
    def label(self) -> str:
        """The display name, ``server:prompt``, which the user types after a slash."""
        return f"{self.server}:{self.name}"


_Named = ToolSpec | Resource | ResourceTemplate | Prompt
_Item = TypeVar("_Item", ToolSpec, Resource, ResourceTemplate, Prompt)


class Catalog(Struct, frozen=True, kw_only=True):
    """Everything that one server lists. ``notices`` say which items cannot be used and why, one sentence each."""

    info: ServerInfo = ServerInfo()
    tools: tuple[ToolSpec, ...] = ()
    resources: tuple[Resource, ...] = ()
    templates: tuple[ResourceTemplate, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    notices: tuple[str, ...] = ()


def describe_offers(catalog: Catalog) -> str:
    """What a server lists, as ``14 tools, 1 prompt``; empty if nothing."""
    counts = (
        (len(catalog.tools), "tool"),
        (len(catalog.resources), "resource"),
        (len(catalog.templates), "resource template"),
        (len(catalog.prompts), "prompt"),
    )
    return ", ".join(f"{count} {kind}{'s' * (count != 1)}" for count, kind in counts if count)


def rename_catalog(catalog: Catalog, server: str) -> Catalog:
    """The catalog as that of the server of this name: another entry of the config may be the same server."""

    def rename(items: tuple[_Item, ...]) -> tuple[_Item, ...]:
        return tuple(replace(item, server=server) for item in items)

    lists: tuple[tuple[_Named, ...], ...] = (catalog.tools, catalog.resources, catalog.templates, catalog.prompts)
    if all(items[0].server == server for items in lists if items):
        return catalog
    return replace(
        catalog,
        tools=rename(catalog.tools),
        resources=rename(catalog.resources),
        templates=rename(catalog.templates),
        prompts=rename(catalog.prompts),
    )


def parse_prompt_arguments(prompt: Prompt, pairs: Sequence[str]) -> dict[str, str]:
    """Parse ``key=value`` words to arguments of the prompt.

    Raises UsageError, with a hint that lists the arguments, if a word is invalid or a required argument is missing.
    """
    known = {argument.name: argument for argument in prompt.arguments}
    names = ", ".join(f"{name} (required)" if argument.required else name for name, argument in known.items())
    hint = f"{prompt.label} takes {names or 'no arguments'}"
    values: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UsageError(f"{pair!r} is not KEY=VALUE", hint=hint)
        if key not in known:
            raise UsageError(f"no argument {key!r}{did_you_mean(key, known)}", hint=hint)
        values[key] = value
    if missing := [name for name, argument in known.items() if argument.required and name not in values]:
        raise UsageError(f"{prompt.label} needs {', '.join(missing)}", hint=hint)
    return values
