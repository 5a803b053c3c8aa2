"""What a server offers besides its tools, and what it says of itself."""

from collections.abc import Sequence

from msgspec import Struct

from mcpchat.core.tools import ToolSpec
from mcpchat.errors import UsageError
from mcpchat.util.text import did_you_mean


class ServerInfo(Struct, frozen=True, kw_only=True):
    """A server's own words on itself. ``revision`` is the protocol's, as negotiated; all else is untrusted text."""

    name: str = ""
    title: str = ""
    version: str = ""
    revision: str = ""
    instructions: str = ""
    capabilities: tuple[str, ...] = ()


class Resource(Struct, frozen=True, kw_only=True):
    """Something that can be read. ``size`` is in bytes, None where the server does not say."""

    server: str
    uri: str
    name: str = ""
    description: str = ""
    media_type: str = ""
    size: int | None = None

    @property
    def label(self) -> str:
        """The name for people, as they write it after an @: ``server:uri``."""
        return f"{self.server}:{self.uri}"


class ResourceTemplate(Struct, frozen=True, kw_only=True):
    """A family of resources: an RFC 6570 template of their addresses."""

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
    """A message, or several, that a server writes from arguments."""

    server: str
    name: str
    title: str = ""
    description: str = ""
    arguments: tuple[PromptArgument, ...] = ()

    @property
    def label(self) -> str:
        """The name for people: ``server:prompt``, typed after a slash."""
        return f"{self.server}:{self.name}"


class Catalog(Struct, frozen=True, kw_only=True):
    """All that one server lists. ``notices`` tell what of it cannot be used, in a sentence each."""

    info: ServerInfo = ServerInfo()
    tools: tuple[ToolSpec, ...] = ()
    resources: tuple[Resource, ...] = ()
    templates: tuple[ResourceTemplate, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    notices: tuple[str, ...] = ()


def parse_prompt_arguments(prompt: Prompt, pairs: Sequence[str]) -> dict[str, str]:
    """The ``key=value`` words as the prompt's arguments. Raises UsageError that says what it takes."""
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
