"""Resources in what a person writes: @server:uri, found and fetched."""

import re
from collections.abc import Collection, Mapping
from urllib.parse import unquote

from mcpchat.core.catalog import Catalog
from mcpchat.core.messages import Message, Part, Text
from mcpchat.core.protocols import Servers
from mcpchat.engine.tool_results import clip

_MENTION = re.compile(r"(?<!\S)@([A-Za-z0-9][A-Za-z0-9_-]*):(\S+)")
_FILE = re.compile(r'(?<!\S)@(?:"(?P<quoted>[^"\n]+)"|(?P<bare>[^\s"]\S*))')
_LONGEST = 200_000  # characters of one resource
_CLOSING = ".,;:!?)]}>'\""


def mentions(text: str, catalogs: Mapping[str, Catalog | None]) -> list[tuple[str, str]]:
    """The (server, uri) of each mention of a known server, once each.

    What closes a sentence belongs to the address only where the server lists it so.
    """
    found: dict[tuple[str, str], None] = {}
    for server, uri in _MENTION.findall(text):
        if server in catalogs:
            found[server, _trimmed(uri, _listed(catalogs[server]))] = None
    return list(found)


def file_mentions(text: str) -> list[str]:
    """The names after an @ that could be files' names, once each; ``@"a name"`` may have blanks in it."""
    found = (match["quoted"] or match["bare"].rstrip(_CLOSING) for match in _FILE.finditer(text))
    return list(dict.fromkeys(name for name in found if name))


def _listed(catalog: Catalog | None) -> Collection[str]:
    return {resource.uri for resource in catalog.resources} if catalog else ()


def _trimmed(uri: str, listed: Collection[str]) -> str:
    shorter = uri.rstrip(_CLOSING)
    return uri if uri in listed or not shorter else shorter


async def with_resources(text: str, servers: Servers) -> Message:
    """The text as a user's message, with the resources that it mentions. Raises what reading them raises."""
    known = servers.catalogs()
    parts: list[Part] = [Text(text=text)]
    for server, uri in mentions(text, {status.name: known.get(status.name) for status in servers.status()}):
        parts.append(Text(text=f"\n\n[{server}:{unquote(uri)}]\n"))
        for part in await servers.read(server, uri):
            cut = clip(part.text, _LONGEST, "mcpchat read shows it whole") if isinstance(part, Text) else ""
            parts.append(Text(text=cut) if cut else part)
    return Message(role="user", parts=tuple(parts))
