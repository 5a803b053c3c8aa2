"""Mentions in the user's text: @server:uri for a resource, @name for a file."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from urllib.parse import unquote

from mcpchat.core.catalog import Catalog
from mcpchat.core.messages import Message, Part, Text
from mcpchat.core.protocols import ServerDirectory
from mcpchat.engine.tool_results import truncate_middle

_MENTION = re.compile(r"(?<!\S)@([A-Za-z0-9][A-Za-z0-9_-]*):(\S+)")
_FILE_MENTION = re.compile(r'(?<!\S)@(?:"(?P<quoted>[^"\n]+)"|(?P<bare>[^\s"]\S*))')
_MENTION_START = re.compile(r'@(?:"[^"\n]*"?|\S*)')  # also where it is not the beginning of a word
_NAMES_SOMETHING = re.compile(r"..[./:~\\]|@\".")
_MAX_PASTES = 1000
_MAX_RESOURCE_LENGTH = 200_000  # characters of one resource
_TRAILING_PUNCTUATION = ".,;:!?)]}>'\""


def is_pasted(mention: str, pastes: Iterable[str]) -> bool:
    """Whether a mention, from its @ on, was pasted, as a whole or its beginning. Pasted text may come from anyone."""
    return any(
        mention.startswith(pasted) or pasted.startswith(mention)
        for paste in pastes
        for pasted in _MENTION_START.findall(paste)
    )


def keep_pasted(pastes: Sequence[str], sent: str) -> list[str]:
    """The pastes that are still to be known once the text is sent.

    These are the ones that are not in it, and of the others the mentions of names: /edit and Ctrl-Y bring a line back.
    """
    kept = [paste for paste in pastes if paste not in sent]
    mentions = [mention for paste in pastes if paste in sent for mention in _MENTION_START.findall(paste)]
    return [*dict.fromkeys((*kept, *filter(_NAMES_SOMETHING.search, mentions)))][-_MAX_PASTES:]


def unmark_pasted(text: str, pastes: Sequence[str]) -> str:
    """Return the text without the @ of each mention that was pasted: sent again, it attaches nothing."""
    return _MENTION_START.sub(lambda match: match[0][1:] if is_pasted(match[0], pastes) else match[0], text)


def find_mentions(text: str, catalogs: Mapping[str, Catalog | None]) -> list[tuple[str, str]]:
    """The (server, uri) of each mention of a known server, without duplicates.

    Punctuation at the end of a mention belongs to the URI only if the server lists it that way.
    """
    matches: dict[tuple[str, str], None] = {}
    for server, uri in _MENTION.findall(text):
        if server in catalogs:
            matches[server, _trim_punctuation(uri, _resource_uris(catalogs[server]))] = None
    return list(matches)


def find_file_mentions(text: str) -> list[str]:
    """The names after an @ that could be file names, without duplicates; ``@"a name"`` may contain blanks."""
    names = (match["quoted"] or match["bare"].rstrip(_TRAILING_PUNCTUATION) for match in _FILE_MENTION.finditer(text))
    return list(dict.fromkeys(name for name in names if name))


def _resource_uris(catalog: Catalog | None) -> Collection[str]:
    return {resource.uri for resource in catalog.resources} if catalog else ()


def _trim_punctuation(uri: str, known_uris: Collection[str]) -> str:
    trimmed = uri.rstrip(_TRAILING_PUNCTUATION)
    return uri if uri in known_uris or not trimmed else trimmed


async def attach_resources(
    text: str, servers: ServerDirectory, *, is_allowed: Callable[[str], bool] = lambda mention: True
) -> Message:
    """A user message of the text and the resources it mentions. Raises ServerError, SignInNeeded, ToolFailed.

    ``is_allowed`` decides whether a mention ("@server:uri") is attached.
    """
    catalogs = servers.catalogs()
    parts: list[Part] = [Text(text=text)]
    for server, uri in find_mentions(text, {status.name: catalogs.get(status.name) for status in servers.status()}):
        if not is_allowed(f"@{server}:{uri}"):
            continue
        parts.append(Text(text=f"\n\n[{server}:{unquote(uri)}]\n"))
        for part in await servers.read_resource(server, uri):
            text_part = (
                truncate_middle(part.text, _MAX_RESOURCE_LENGTH, "mcpchat read shows it whole")
                if isinstance(part, Text)
                else ""
            )
            parts.append(Text(text=text_part) if text_part else part)
    return Message(role="user", parts=tuple(parts))
