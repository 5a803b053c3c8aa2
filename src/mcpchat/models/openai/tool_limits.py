"""Fits the tools of a request to what a model's server accepts: their number, descriptions and schema keywords."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any

from mcpchat.core.tool_schema import iter_keywords, remove_keywords
from mcpchat.core.tools import OWN_SERVER, ToolSpec

_OWN_PREFIX = f"{OWN_SERVER}__"  # of the tools that read stored results and search tools
# Without these a schema no longer says what a call must contain.
ESSENTIAL_KEYWORDS = frozenset({"type", "properties", "required", "items"})
BASIC_KEYWORDS = ESSENTIAL_KEYWORDS | {"enum", "description"}


def fit_tools(
    tools: Sequence[dict[str, Any]],
    used_names: Iterable[str],
    *,
    max_tools: int | None,
    max_description: int | None,
    without: Collection[str],
    basic: bool,
) -> Sequence[dict[str, Any]]:
    """Return the tools as the server accepts them; see Compatibility for the limits.

    ``used_names`` are names that the conversation has calls of.
    """
    if max_tools is not None and len(tools) > max_tools:
        tools = select_tools(tools, used_names, max_tools)
    if without or basic or max_description:
        tools = [_simplify_tool(tool, max_description, without, basic=basic) for tool in tools]
    return tools


def select_tools(tools: Sequence[dict[str, Any]], used_names: Iterable[str], maximum: int) -> Sequence[dict[str, Any]]:
    """Return at most ``maximum`` tools: those that were used, mcpchat's own, then of each server in turn."""
    names = [tool_name(tool) for tool in tools]
    used = set(used_names)
    by_server: dict[str, list[str]] = {}
    for name in names:
        by_server.setdefault(name.partition("__")[0], []).append(name)
    in_turn = (name for name in chain.from_iterable(zip_longest(*by_server.values())) if name is not None)
    first = [name for name in names if name in used or name.startswith(_OWN_PREFIX)]
    selected = set([*dict.fromkeys((*first, *in_turn))][:maximum])
    return [tool for tool, name in zip(tools, names, strict=True) if name in selected]


def tool_name(tool: Mapping[str, Any]) -> str:
    return str(_definition(tool).get("name", ""))


def tool_description(tool: Mapping[str, Any]) -> str:
    return str(_definition(tool).get("description") or "")


def _definition(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """The function's definition: within ``function`` in Chat Completions, the tool itself in Responses."""
    function = tool.get("function")
    return function if isinstance(function, Mapping) else tool


def _simplify_tool(
    tool: dict[str, Any], max_description: int | None, without: Collection[str], *, basic: bool
) -> dict[str, Any]:
    definition = dict(_definition(tool))
    schema = definition.get("parameters")
    if isinstance(schema, dict):
        unwanted = {*without, *(set(iter_keywords(schema)) - BASIC_KEYWORDS if basic else ())}
        definition["parameters"] = remove_keywords(schema, unwanted)
    description = definition.get("description")
    if max_description and isinstance(description, str) and len(description) > max_description:
        definition["description"] = f"{description[: max_description - 1]}…"
    return {**tool, "function": definition} if "function" in tool else definition


_TOOL_NUMBER = re.compile(r"\b(?:tools|functions)(?:\[|\.|/)(\d{1,5})\b")
_ORDINARY_WORDS = frozenset(
    {"not", "if", "then", "else", "contains", "title", "description", "examples", "default", "const"}
)
_REGEX_WORDS = re.compile(r"look-?(around|ahead|behind)|regex|regular expression|back-?reference")


def find_refused_keyword(error_text: str, tools: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the keyword of the tools' schemas that an error in lower case names; None if it names none.

    Of several, the last one: it ends the path of the place that the error is about.
    """
    keywords = set(_sent_keywords(tools)) - ESSENTIAL_KEYWORDS
    by_lower_case = {keyword.lower(): keyword for keyword in keywords}
    for match in reversed([*re.finditer(r"(?P<before>^|.)(?P<word>\$?[a-z]{2,})\b", error_text)]):
        keyword = by_lower_case.get(match["word"])
        if keyword and (keyword not in _ORDINARY_WORDS or match["before"] in "'\"`.]/"):
            return keyword
    return "pattern" if "pattern" in keywords and _REGEX_WORDS.search(error_text) else None


def find_tool_at_fault(
    error_text: str, sent: Sequence[Mapping[str, Any]], tools: Iterable[ToolSpec]
) -> ToolSpec | None:
    """Return the tool that an error is about, by its name or its number (``tools[3]``); None if it names none."""
    by_name = {tool.model_name: tool for tool in tools}
    number = _TOOL_NUMBER.search(error_text)
    names = [tool_name(tool) for tool in sent]
    if number and int(number[1]) < len(names):
        return by_name.get(names[int(number[1])])
    lowered = error_text.lower()
    named = [name for name in names if re.search(rf"(?<![\w-]){re.escape(name.lower())}(?![\w-])", lowered)]
    return by_name.get(max(named, key=len)) if named else None


def _sent_keywords(tools: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for tool in tools:
        schema = _definition(tool).get("parameters")
        if isinstance(schema, dict):
            yield from iter_keywords(schema)
