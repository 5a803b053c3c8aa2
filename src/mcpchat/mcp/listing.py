"""Lists everything that a server offers, page by page, and leaves out entries that cannot be used."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Literal

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
    describe_invalid_entries,
    valid_entries,
)
from mcpchat.mcp.protocols import CatalogListing, ConnectionLost
from mcpchat.mcp.timeouts import RequestTimeout
from mcpchat.util.sanitize import one_line
from mcpchat.util.structures import exceeds_depth

_MAX_PAGES = 1000
_MAX_IDLE_TIMES = 10  # times the time of a page, for a whole list
_MAX_NAMED = 5  # entries that a notice names
_MAX_TTL_MS = 1e15  # larger numbers are nonsense
_TASK_REVISION = "2025-11-25"
_RETRY_TTL = 300.0  # seconds after which a list that failed is requested again
_MAX_ENTRY_LENGTH = 500_000  # characters of one entry
_MAX_TOTAL_LENGTH = 50_000_000  # characters of a whole list, dropped entries included
_LIST_METHODS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")
# Sends a request within its timeout, which each page restarts.
SendRequest = Callable[[Coroutine[Any, Any, Any], RequestTimeout], Awaitable[Any]]
Part = Literal["tools", "others", "all"]


async def list_all(
    name: str,
    info: ServerInfo,
    client: Client,
    message_filter: MessageFilter,
    send: SendRequest,
    *,
    part: Part,
    idle: float,
) -> CatalogListing:
    """The server's lists, or a part of them, requested side by side. A page may take ``idle`` seconds.

    Raises ServerError if the tools cannot be listed, ConnectionLost if the connection is lost. Other lists that fail
    are empty, and a notice says why.
    """
    methods = {"tools": _LIST_METHODS[:1], "others": _LIST_METHODS[1:], "all": _LIST_METHODS}[part]
    supported = [method for method in methods if method.partition("/")[0] in info.capabilities]
    entries_by_method: dict[str, list[dict[str, Any]]] = {method: [] for method in _LIST_METHODS}
    notices: list[str] = []
    ttls: list[float] = []
    # In this revision a tool may say that it only runs as a task, though its server has none.
    lacks_tasks = info.revision == _TASK_REVISION and decode.TASK_CALLS not in info.capabilities

    async def fetch(method: str) -> None:
        timeout = RequestTimeout(idle=idle, total=_MAX_IDLE_TIMES * idle)
        try:
            pages = _fetch_pages(client, message_filter, method, notices, timeout.touch, lacks_tasks=lacks_tasks)
            entries, ttl = await send(pages, timeout)
        except MCPError as error:
            if method == "tools/list":
                raise ServerError(f"it did not list its tools: {error.message} (code {error.code})") from error
            if error.code != METHOD_NOT_FOUND:  # ignore a capability that is declared but missing
                notices.append(f"{method}: {error.message}")
                ttls.append(_RETRY_TTL)
        except ConnectionLost:
            raise
        except ServerError as error:
            if method == "tools/list":
                raise
            notices.append(f"{method}: {error.message}")
            ttls.append(_RETRY_TTL)
        else:
            entries_by_method[method] = entries
            if ttl is not None and (entries or method == "tools/list"):  # an empty list cannot become wrong
                ttls.append(ttl)

    outcomes = await asyncio.gather(*map(fetch, supported), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
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
    client: Client,
    message_filter: MessageFilter,
    method: str,
    notices: list[str],
    on_page: Callable[[], None],
    *,
    lacks_tasks: bool,
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
    dropped: list[str] = []  # the name and the reason of each entry that is left out
    total_length = 0
    cursor, ttl = None, None
    for _ in range(_MAX_PAGES):
        page = await fetch_page(cursor=cursor)
        on_page()
        raw = message_filter.take_result(page.meta)
        valid = valid_entries(raw, method)
        dropped += describe_invalid_entries(raw, method)
        if not isinstance(raw.get(LIST_FIELDS[method]), list):
            notices.append(f"the answer to {method} holds no list")
        if method == "tools/list":
            accepted = {tool.name for tool in page.tools}  # the SDK drops those whose header annotations are invalid
            dropped += [f"{entry['name']} (invalid x-mcp-header)" for entry in valid if entry["name"] not in accepted]
            valid = [entry for entry in valid if entry["name"] in accepted]
            if lacks_tasks:
                unusable = [entry for entry in valid if decode.parse_task_support(entry) == "required"]
                dropped += [f"{entry['name']} (runs only as a task, and the server has none)" for entry in unusable]
                valid = [entry for entry in valid if entry not in unusable]
        for entry in valid:
            key = entry[ID_FIELDS.get(method, "name")]
            total_length += 0 if exceeds_depth(entry) else len(str(entry))
            if problem := _find_problem(entry, key in entries, len(entries), total_length):
                dropped.append(f"{key} ({problem})")
            else:
                entries[key] = entry
        ttl_ms = raw.get("ttlMs")
        if isinstance(ttl_ms, int | float) and not isinstance(ttl_ms, bool) and abs(ttl_ms) < _MAX_TTL_MS:
            page_ttl = max(0.0, ttl_ms / 1000)  # 0: the list is not kept
            ttl = page_ttl if ttl is None else min(ttl, page_ttl)
        cursor = page.next_cursor
        if cursor is None or cursor in cursors or len(entries) >= MAX_LIST_ITEMS or total_length > _MAX_TOTAL_LENGTH:
            break
        cursors.add(cursor)
    if dropped or len(entries) >= MAX_LIST_ITEMS:
        limit_note = f"; only {MAX_LIST_ITEMS:,} are kept" if len(entries) >= MAX_LIST_ITEMS else ""
        more = f" and {len(dropped) - _MAX_NAMED:,} more" if len(dropped) > _MAX_NAMED else ""
        named = ", ".join(one_line(entry, 80) for entry in dropped[:_MAX_NAMED])
        notices.append(f"{len(dropped):,} {label} cannot be used: {named}{more}{limit_note}")
    return list(entries.values()), ttl


def _find_problem(entry: Mapping[str, Any], is_duplicate: bool, count: int, total_length: int) -> str:
    """Why a list's entry is left out; empty if it is kept."""
    if exceeds_depth(entry):
        return "too deep"
    if is_duplicate:
        return "listed twice"
    if count >= MAX_LIST_ITEMS or total_length > _MAX_TOTAL_LENGTH:
        return "too many"
    return "too large" if len(str(entry)) > _MAX_ENTRY_LENGTH else ""
