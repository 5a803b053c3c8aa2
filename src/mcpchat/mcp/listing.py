"""Lists everything that a server offers, page by page, and leaves out entries that cannot be used."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from mcp import Client, MCPError
from mcp.types import METHOD_NOT_FOUND

from mcpchat.core.catalog import Catalog, ServerInfo
from mcpchat.errors import ServerError
from mcpchat.mcp import decode
from mcpchat.mcp.message_filter import (
    ID_FIELDS,
    LIST_FIELDS,
    MAX_LIST_ITEMS,
    MessageFilter,
    count_entries,
    valid_entries,
)
from mcpchat.mcp.protocols import CatalogListing, ConnectionLost
from mcpchat.util.structures import exceeds_depth

_MAX_PAGES = 1000
_RETRY_TTL = 300.0  # seconds after which a list that failed is requested again
_MAX_ENTRY_LENGTH = 500_000  # characters of one entry
_MAX_TOTAL_LENGTH = 50_000_000  # characters of a whole list, dropped entries included
_LIST_METHODS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")
SendRequest = Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]]


async def list_all(
    name: str,
    info: ServerInfo,
    client: Client,
    message_filter: MessageFilter,
    send: SendRequest,
    *,
    tools_only: bool = False,
) -> CatalogListing:
    """The server's lists; with ``tools_only`` only its tools. ``send`` sends a request within a timeout.

    Raises ServerError if the tools cannot be listed, ConnectionLost if the connection is lost. Other lists that fail
    are empty, and a notice says why.
    """
    methods = _LIST_METHODS[:1] if tools_only else _LIST_METHODS
    supported = [method for method in methods if method.partition("/")[0] in info.capabilities]
    entries_by_method: dict[str, list[dict[str, Any]]] = {method: [] for method in _LIST_METHODS}
    notices: list[str] = []
    ttls: list[float] = []
    for method in supported:
        try:
            entries, ttl = await send(_fetch_pages(client, message_filter, method, notices))
        except MCPError as error:
            if method == "tools/list":
                raise ServerError(f"it did not list its tools: {error.message} (code {error.code})") from error
            if error.code != METHOD_NOT_FOUND:  # ignore a capability that is declared but missing
                notices.append(f"{method}: {error.message}")
                ttls.append(_RETRY_TTL)
            continue
        except ConnectionLost:
            raise
        except ServerError as error:
            if method == "tools/list":
                raise
            notices.append(f"{method}: {error.message}")
            continue
        entries_by_method[method] = entries
        ttls += [ttl] if ttl else []
    catalog = Catalog(
        info=info,
        tools=tuple(decode.parse_tool(name, raw) for raw in entries_by_method["tools/list"]),
        prompts=tuple(decode.parse_prompt(name, raw) for raw in entries_by_method["prompts/list"]),
        resources=tuple(decode.parse_resource(name, raw) for raw in entries_by_method["resources/list"]),
        templates=tuple(decode.parse_template(name, raw) for raw in entries_by_method["resources/templates/list"]),
        notices=tuple(notices),
    )
    return CatalogListing(catalog=catalog, ttl=min(ttls, default=None))


async def _fetch_pages(
    client: Client, message_filter: MessageFilter, method: str, notices: list[str]
) -> tuple[list[dict[str, Any]], float | None]:
    """All pages of one list, and its validity in seconds (None if the server does not say)."""
    fetch_page: Any = {
        "tools/list": client.list_tools,
        "prompts/list": client.list_prompts,
        "resources/list": client.list_resources,
        "resources/templates/list": client.list_resource_templates,
    }[method]
    label = method.removesuffix("/list").replace("/", " ")
    entries: dict[str, dict[str, Any]] = {}
    cursors: set[str] = set()
    dropped = total_length = 0
    cursor, ttl = None, None
    for _ in range(_MAX_PAGES):
        page = await fetch_page(cursor=cursor)
        raw = message_filter.take_result(page.meta)
        valid = valid_entries(raw, method)
        dropped += count_entries(raw, method) - len(valid)
        if not isinstance(raw.get(LIST_FIELDS[method]), list):
            notices.append(f"the answer to {method} holds no list")
        if method == "tools/list":
            accepted = {tool.name for tool in page.tools}  # the SDK drops those whose header annotations are invalid
            dropped += sum(entry["name"] not in accepted for entry in valid)
            valid = [entry for entry in valid if entry["name"] in accepted]
        for entry in valid:
            if exceeds_depth(entry):
                dropped += 1
                continue
            key = entry[ID_FIELDS.get(method, "name")]
            entry_length = len(str(entry))
            total_length += entry_length
            if (
                key in entries
                or len(entries) >= MAX_LIST_ITEMS
                or entry_length > _MAX_ENTRY_LENGTH
                or total_length > _MAX_TOTAL_LENGTH
            ):
                dropped += 1
            else:
                entries[key] = entry
        ttl_ms = raw.get("ttlMs")
        if isinstance(ttl_ms, int | float) and ttl_ms > 0:  # 0 is the SDK's default on servers that set no ttl
            ttl = ttl_ms / 1000
        cursor = page.next_cursor
        if cursor is None or cursor in cursors or len(entries) >= MAX_LIST_ITEMS or total_length > _MAX_TOTAL_LENGTH:
            break
        cursors.add(cursor)
    if dropped or len(entries) >= MAX_LIST_ITEMS:
        limit_note = f"; only {MAX_LIST_ITEMS:,} are kept" if len(entries) >= MAX_LIST_ITEMS else ""
        notices.append(
            f"{dropped:,} {label} cannot be used (malformed, duplicate, too deep, too large or too many){limit_note}"
        )
    return list(entries.values()), ttl
