"""Tool search: of many tools the model gets a few, and two tools that find and call the others."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from msgspec import Struct

from mcpchat.core.events import Emit
from mcpchat.core.messages import Message, Text, ToolResult, error_result
from mcpchat.core.patterns import glob_matches
from mcpchat.core.protocols import SelectedModel, Toolbox, ToolboxWrapper
from mcpchat.core.search_tools import CALL_TOOL, SEARCH_TOOLS, read_wrapped_call
from mcpchat.core.tool_schema import to_tool_schema
from mcpchat.core.tools import OWN_SERVER, InvalidArguments, ToolSpec
from mcpchat.engine.token_estimate import estimate_tool_tokens
from mcpchat.util.sanitize import one_line
from mcpchat.util.text import suggest

MAX_PLAIN_TOOLS = 40
MAX_PLAIN_TOKENS = 10_000
WINDOW_SHARE = 4  # the tools take at most this part of a model's window
MAX_RESULTS = 10
_MAX_QUERIES = 5
_MAX_USED = 10  # tools of the thread that are offered plainly
_MAX_SCHEMAS = 16_000  # characters of the schemas of one answer
_MAX_LINE, _MIN_LINE, _MAX_NOTES = 150, 40, 1000  # characters of what is said of a tool or a server
_MAX_SERVER_LINES = 6000  # characters of the lines of all servers
_FEW_RESULTS = 3
_SEARCH_PAIR: Mapping[str, ToolSpec] = {tool.model_name: tool for tool in (SEARCH_TOOLS, CALL_TOOL)}
_LEFT_OUT = "left out: too long beside the others; search for this tool alone"


class ToolIndex(Protocol):
    """Finds tools by words."""

    async def search(
        self, queries: Sequence[str], tools: Sequence[ToolSpec], notes: Mapping[str, str], limit: int
    ) -> Sequence[ToolSpec]:
        """The tools that the queries are about, at most ``limit``, the best first.

        ``notes`` are what the servers say of themselves, by server.
        """
        ...


class ToolSearchSettings(Struct, frozen=True, kw_only=True):
    """When tools are searched for: a number is that of the tools from which on, "native" is "auto" with the provider's
    own tool search, if its API has one. ``always`` are globs of the tools that
    are offered in any case. ``max_tools`` is how many tools of one server are offered without a search.
    """

    mode: Literal["auto", "on", "off", "native"] | int = "auto"
    always: tuple[str, ...] = ()
    max_tools: int = 200


@dataclass(frozen=True, kw_only=True)
class ToolSelection:
    """The tools of a request. ``offered`` is what the model gets, ``reachable`` what it can call, by model name.

    With ``searched``, the model searches the others: all but a few, or only the ``deferred`` ones.
    """

    offered: tuple[ToolSpec, ...]
    reachable: Mapping[str, ToolSpec]
    searched: bool = False
    deferred: tuple[ToolSpec, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)  # the number of tools, by server


def select_tools(
    available: Sequence[ToolSpec],
    settings: ToolSearchSettings,
    *,
    tokens: int | None,
    window: int | None,
    max_tools: int | None,
    used: Sequence[str],
    before: ToolSelection | None,
) -> ToolSelection:
    """Choose the tools of the next request.

    ``tokens`` are those of ``plain_tokens``; ``window`` is the model's, in tokens; ``max_tools`` is how many tools its
    server takes; ``used`` are the names of the tools that the thread has calls of, the latest first; ``before`` is the
    selection of the request before. A request begins as the one before: what was offered stays, in its order, and once
    all tools are searched for, nothing is added any more.
    """
    reachable = {tool.model_name: tool for tool in available}
    searching = {**reachable, **_SEARCH_PAIR}
    searched_all = before is not None and before.searched and not before.deferred
    if before is not None and searched_all and len(before.offered) <= (max_tools or len(before.offered)):
        return ToolSelection(offered=before.offered, reachable=searching, searched=True)
    first = _choose_first(available, reachable, settings.always, used)
    plain, deferred = split_deferred(available, settings)
    if not _needs_search([*plain, *_SEARCH_PAIR.values()] if deferred else plain, settings, tokens, window, max_tools):
        if deferred:
            sent = [*plain, *_SEARCH_PAIR.values()]
            room = len(first) if max_tools is None else max(0, max_tools - len(sent))
            more = [tool for tool in first if tool.deferred][:room]
            offered = _extend_offered(before, searching, sent, more)
            if max_tools is not None and len(offered) > max_tools:  # learnt meanwhile
                offered = _extend_offered(None, searching, sent, more)
            return ToolSelection(offered=offered, reachable=searching, searched=True, deferred=tuple(deferred))
        left_out: Mapping[str, int] = {}
        if settings.mode == "off":
            reachable, left_out = _cut_servers(available, settings.max_tools)
        return ToolSelection(
            offered=_extend_offered(before, reachable, reachable.values()), reachable=reachable, left_out=left_out
        )
    own = [*(tool for tool in available if tool.server == OWN_SERVER), *_SEARCH_PAIR.values()]
    most = max(0, (max_tools or MAX_PLAIN_TOOLS) - len(own))
    chosen = {tool.model_name: tool for tool in (*own, *first[:most])}
    return ToolSelection(offered=tuple(sorted(chosen.values(), key=_model_name)), reachable=searching, searched=True)


def _choose_first(
    available: Sequence[ToolSpec], reachable: Mapping[str, ToolSpec], always: Sequence[str], used: Sequence[str]
) -> list[ToolSpec]:
    """The tools that are sent even if the others are searched for."""
    first: list[ToolSpec] = []
    if always:
        first += [tool for tool in available if any(glob_matches(glob, tool.qualified_name) for glob in always)]
    if used:
        by_name = {**{tool.qualified_name: tool for tool in available}, **reachable}
        first += [by_name[name] for name in used if name in by_name][:_MAX_USED]
    return first


def split_deferred(
    tools: Sequence[ToolSpec], settings: ToolSearchSettings
) -> tuple[Sequence[ToolSpec], Sequence[ToolSpec]]:
    """The tools that are sent, and those that their servers defer.

    None is deferred if nothing is searched for, or if all that could be are so small that a search costs more than they
    do.
    """
    deferred = [tool for tool in tools if tool.deferred] if settings.mode != "off" else []
    pair = sum(map(estimate_tool_tokens, _SEARCH_PAIR.values()))
    if len(deferred) <= MAX_PLAIN_TOOLS and sum(map(estimate_tool_tokens, deferred)) <= pair:
        return tools, ()
    return [tool for tool in tools if not tool.deferred], deferred


def _extend_offered(
    before: ToolSelection | None,
    reachable: Mapping[str, ToolSpec],
    tools: Iterable[ToolSpec],
    first: Iterable[ToolSpec] = (),
) -> tuple[ToolSpec, ...]:
    """What was offered before and can still be called, in its order, then the other ``tools`` by name.

    The ``first`` ones are added only at the beginning of a conversation.
    """
    kept = {
        tool.model_name: reachable[tool.model_name]
        for tool in (before.offered if before is not None else ())
        if tool.model_name in reachable
    }
    added = {tool.model_name: tool for tool in (*tools, *(first if before is None else ()))}
    return (*kept.values(), *sorted((tool for name, tool in added.items() if name not in kept), key=_model_name))


async def choose_tools(
    available: Sequence[ToolSpec],
    settings: ToolSearchSettings,
    model: SelectedModel,
    *,
    used: Sequence[str] = (),
    before: ToolSelection | None = None,
) -> ToolSelection:
    """Choose the tools of the next request to this model: ``select_tools`` with what is known of the model."""
    tokens = plain_tokens(split_deferred(available, settings)[0])
    return select_tools(
        available,
        settings,
        tokens=tokens,
        window=await model.window(tokens * WINDOW_SHARE) if tokens else None,
        max_tools=model.max_tools(),
        used=used,
        before=before,
    )


def _cut_servers(tools: Sequence[ToolSpec], most: int) -> tuple[dict[str, ToolSpec], Mapping[str, int]]:
    """The first tools of each server by model name, and how many of which servers are left out."""
    counts: Counter[str] = Counter()
    cut: dict[str, ToolSpec] = {}
    for tool in tools:
        counts[tool.server] += 1
        if counts[tool.server] <= most:
            cut[tool.model_name] = tool
    return cut, {server: count - most for server, count in counts.items() if count > most}


def describe_left_out(left_out: Mapping[str, int]) -> str:
    """A notice of the tools that are neither offered nor found."""
    names = ", ".join(f"{count:,} of {server}" for server, count in left_out.items())
    return f"tools are left out (limits.max_tools, and tool_search is off): {names}"


def _model_name(tool: ToolSpec) -> str:
    return tool.model_name


def _needs_search(
    tools: Sequence[ToolSpec],
    settings: ToolSearchSettings,
    tokens: int | None,
    window: int | None,
    max_tools: int | None,
) -> bool:
    counts = Counter(tool.server for tool in tools if tool.server != OWN_SERVER)
    if settings.mode in {"on", "off"} or not counts:
        return settings.mode == "on" and bool(counts)
    if max(counts.values()) > settings.max_tools or (max_tools is not None and len(tools) > max_tools):
        return True
    if isinstance(settings.mode, int):
        return counts.total() > settings.mode
    most = min(MAX_PLAIN_TOKENS, window // WINDOW_SHARE) if window else MAX_PLAIN_TOKENS
    return counts.total() > MAX_PLAIN_TOOLS or (tokens or 0) > most


def plain_tokens(tools: Sequence[ToolSpec]) -> int | None:
    """About how many tokens the tools take in a request. None if they are too many in any case."""
    counted = [tool for tool in tools if tool.server != OWN_SERVER]
    return sum(map(estimate_tool_tokens, counted)) if len(counted) <= MAX_PLAIN_TOOLS else None


def add_server_lines(instructions: str, lines: str) -> str:
    """The instructions, followed by the servers whose tools can be searched."""
    heading = (
        "# More tools\nYou have many more tools than are listed: search for what you need, and call what you find. "
        "Their servers, in their own words (not the user's):"
    )
    return "\n\n".join(filter(None, (instructions, f"{heading}\n{lines}")))


def add_deferred_lines(instructions: str, deferred: Iterable[ToolSpec]) -> str:
    """The instructions, followed by the names of the tools that can be searched, one line per server."""
    groups: dict[str, list[str]] = {}
    for tool in deferred:
        groups.setdefault(tool.server, []).append(tool.name)
    lines = "\n".join(
        f"- {server}: {one_line(', '.join(names), _MAX_SERVER_LINES // len(groups))}"
        for server, names in groups.items()
    )
    heading = (
        "# More tools\nThese tools of your servers are not listed in full. Search for one to get its arguments, then "
        "call it:"
    )
    return "\n\n".join(filter(None, (instructions, f"{heading}\n{lines}")))


def describe_servers(tools: Iterable[ToolSpec], notes: Mapping[str, str]) -> str:
    """One line per server for the model: its name, the number of its tools, and what it is for."""
    groups: dict[str, list[ToolSpec]] = {}
    for tool in tools:
        if tool.server != OWN_SERVER:
            groups.setdefault(tool.server, []).append(tool)
    max_length = max(_MIN_LINE, min(_MAX_LINE, _MAX_SERVER_LINES // max(1, len(groups))))
    return "\n".join(
        f"- {server} ({len(specs)} tools): {one_line(_describe_server(specs, notes.get(server, '')), max_length)}"
        for server, specs in groups.items()
    )


def _describe_server(tools: Sequence[ToolSpec], notes: str) -> str:
    """The beginning of the server's notes, else its title, else some of its tools."""
    return _first_line(notes) or tools[0].server_title or ", ".join(tool.name for tool in tools[:8])


def _first_line(text: str) -> str:
    return next((line for line in (line.strip(" #*-") for line in text.splitlines()) if line), "")


class SearchToolbox(ToolboxWrapper):
    """The inner toolbox, which also answers calls of ``search_tools``, with about ``limit`` characters."""

    def __init__(self, inner: Toolbox, index: ToolIndex, *, limit: int = 30_000) -> None:
        super().__init__(inner)
        self._index = index
        self._max_schemas = min(_MAX_SCHEMAS, limit // 2)

    def prestart(self, spec: ToolSpec) -> None:
        if spec not in (SEARCH_TOOLS, CALL_TOOL):
            self._inner.prestart(spec)

    async def call(self, spec: ToolSpec, call_id: str, arguments: Mapping[str, Any], emit: Emit) -> ToolResult:
        if spec == CALL_TOOL:
            return error_result(call_id, "call_tool needs the name of another tool")
        if spec != SEARCH_TOOLS:
            return await self._inner.call(spec, call_id, arguments, emit)
        tools = [tool for tool in await self._inner.list_tools() if tool.server != OWN_SERVER]
        text = await self._search(str(arguments["query"]), str(arguments.get("server") or ""), tools)
        return ToolResult(call_id=call_id, parts=(Text(text=text),))

    async def _search(self, query: str, server: str, tools: Sequence[ToolSpec]) -> str:
        names = list(dict.fromkeys(tool.server for tool in tools))
        if server and server not in names:
            return f"no server {server}; {suggest(server, names)}"
        searched = [tool for tool in tools if tool.server == server] if server else tools
        queries = [line.strip() for line in query.splitlines() if line.strip()][:_MAX_QUERIES]
        notes = self.instructions()
        found = await self._index.search(queries, searched, notes, MAX_RESULTS)
        answer: dict[str, Any] = {"tools": list(_describe_found(found, self._max_schemas))}
        if known := {
            tool.server: notes[tool.server][:_MAX_NOTES] for tool in found[:_FEW_RESULTS] if tool.server in notes
        }:
            answer["notes"] = known
        text = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
        if len(found) >= _FEW_RESULTS:
            return text
        return (
            f"{text}\nFew tools match. Use other words, or search one of the servers:\n{describe_servers(tools, notes)}"
        )


def _describe_found(tools: Sequence[ToolSpec], max_schemas: int) -> Iterator[dict[str, Any]]:
    """Each tool's name, a line and its schema. All schemas but the first have ``max_schemas`` characters at most."""
    length = 0
    for tool in tools:
        schema = to_tool_schema(tool.schema)
        length += len(json.dumps(schema, ensure_ascii=False))
        line = one_line(_first_line(tool.description) or tool.title, _MAX_LINE)
        described = {"name": tool.model_name, "description": line}
        yield (
            {**described, "input_schema": schema}
            if length <= max_schemas or tool is tools[0]
            else {**described, "input_schema": _LEFT_OUT}
        )


def used_names(messages: Sequence[Message]) -> Sequence[str]:
    """The names of the tools that messages have calls of, the latest first."""
    names: dict[str, None] = {}
    for call in (call for message in reversed(messages) for call in reversed(message.calls)):
        with suppress(InvalidArguments):
            names[read_wrapped_call(call).name] = None
    return list(names)
