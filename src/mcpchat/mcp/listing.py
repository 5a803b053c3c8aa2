"""All that a server lists, page by page, whatever it puts into the pages."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from mcp import Client, MCPError
from mcp.types import METHOD_NOT_FOUND

from mcpchat.core.catalog import Catalog, ServerInfo
from mcpchat.errors import ServerError
from mcpchat.mcp import decode
from mcpchat.mcp.message_filter import KEYS, LISTS, MOST_ITEMS, Wire, length, usable
from mcpchat.mcp.protocols import ConnectionLost, Listing
from mcpchat.util.structures import too_deep

_MOST_PAGES = 1000
_SOON = 300.0  # seconds after which a list that failed is asked for again
_LONGEST_ENTRY = 500_000  # characters, of one tool and the like
_MOST_TEXT = 50_000_000  # of a whole list, dropped entries included
_METHODS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")
Ask = Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]]


async def list_all(
    name: str, info: ServerInfo, client: Client, wire: Wire, ask: Ask, *, tools_only: bool = False
) -> Listing:
    """The server's lists, or that of its tools; ``ask`` sends a request and raises what befalls it.

    Raises ServerError.
    """
    methods = _METHODS[:1] if tools_only else _METHODS
    wanted = [method for method in methods if method.partition("/")[0] in info.capabilities]
    found: dict[str, list[dict[str, Any]]] = {method: [] for method in _METHODS}
    notices: list[str] = []
    ttls: list[float] = []
    for method in wanted:
        try:
            entries, ttl = await ask(_pages(client, wire, method, notices))
        except MCPError as error:
            if method == "tools/list":
                raise ServerError(f"it did not list its tools: {error.message} (code {error.code})") from error
            if error.code != METHOD_NOT_FOUND:  # else it says that it has some, and does not
                notices.append(f"{method}: {error.message}")
                ttls.append(_SOON)
            continue
        except ConnectionLost:
            raise
        except ServerError as error:
            if method == "tools/list":
                raise
            notices.append(f"{method}: {error.message}")
            continue
        found[method] = entries
        ttls += [ttl] if ttl else []
    catalog = Catalog(
        info=info,
        tools=tuple(decode.tool(name, raw) for raw in found["tools/list"]),
        prompts=tuple(decode.prompt(name, raw) for raw in found["prompts/list"]),
        resources=tuple(decode.resource(name, raw) for raw in found["resources/list"]),
        templates=tuple(decode.template(name, raw) for raw in found["resources/templates/list"]),
        notices=tuple(notices),
    )
    return Listing(catalog=catalog, ttl=min(ttls, default=None))


async def _pages(
    client: Client, wire: Wire, method: str, notices: list[str]
) -> tuple[list[dict[str, Any]], float | None]:
    """All pages of one list, and for how many seconds they hold (None where the server does not say)."""
    ask: Any = {
        "tools/list": client.list_tools,
        "prompts/list": client.list_prompts,
        "resources/list": client.list_resources,
        "resources/templates/list": client.list_resource_templates,
    }[method]
    what = method.removesuffix("/list").replace("/", " ")
    entries: dict[str, dict[str, Any]] = {}
    cursors: set[str] = set()
    dropped = size = 0
    cursor, ttl = None, None
    for _ in range(_MOST_PAGES):
        page = await ask(cursor=cursor)
        raw = wire.take(page.meta)
        good = usable(raw, method)
        dropped += length(raw, method) - len(good)
        if not isinstance(raw.get(LISTS[method]), list):
            notices.append(f"the answer to {method} holds no list")
        if method == "tools/list":
            kept = {tool.name for tool in page.tools}  # the SDK drops those whose header annotations are invalid
            dropped += sum(entry["name"] not in kept for entry in good)
            good = [entry for entry in good if entry["name"] in kept]
        for entry in good:
            if too_deep(entry):
                dropped += 1
                continue
            key = entry[KEYS.get(method, "name")]
            took = len(str(entry))
            size += took
            if key in entries or len(entries) >= MOST_ITEMS or took > _LONGEST_ENTRY or size > _MOST_TEXT:
                dropped += 1
            else:
                entries[key] = entry
        said = raw.get("ttlMs")
        if isinstance(said, int | float) and said > 0:  # zero is what a server says that was told nothing
            ttl = said / 1000
        cursor = page.next_cursor
        if cursor is None or cursor in cursors or len(entries) >= MOST_ITEMS or size > _MOST_TEXT:
            break
        cursors.add(cursor)
    if dropped or len(entries) >= MOST_ITEMS:
        over = f"; only {MOST_ITEMS:,} are kept" if len(entries) >= MOST_ITEMS else ""
        notices.append(
            f"{dropped:,} {what} cannot be used (malformed, twice the same, too deep, too large or too many){over}"
        )
    return list(entries.values()), ttl
