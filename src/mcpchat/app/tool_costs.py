"""What the definitions of tools take of each request: tokens, the share of the model's window, money."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from mcpchat.app.build_session import tool_search_settings
from mcpchat.config.run import RunContext
from mcpchat.core.messages import Usage, user_message
from mcpchat.core.protocols import ModelRequest, SelectedModel
from mcpchat.core.tools import ToolSpec
from mcpchat.core.usage import REQUESTS, ToolUsage
from mcpchat.engine.context_window import ALWAYS_PROBE
from mcpchat.engine.session import add_server_notes
from mcpchat.engine.token_estimate import INITIAL_WEIGHT_PER_TOKEN, text_weight, tool_weight
from mcpchat.engine.tool_search import choose_tools, split_deferred
from mcpchat.errors import McpChatError, NoModelConfigured
from mcpchat.models.selection import ModelSelector


@dataclass(frozen=True, kw_only=True)
class ToolCosts:
    """About how many tokens each tool's definition takes, the largest first, and what a request to the model has.

    ``deferred`` are the qualified names of the tools that are sent only if the model searches for them.
    ``request`` is None if no model can be selected; ``problem`` says why.
    """

    tools: Sequence[tuple[ToolSpec, int]]
    deferred: frozenset[str] = frozenset()
    request: ToolUsage | None = None
    problem: str = ""

    @property
    def servers(self) -> Mapping[str, int]:
        """The tokens of all definitions of each server."""
        totals: dict[str, int] = {}
        for spec, tokens in self.tools:
            totals[spec.server] = totals.get(spec.server, 0) + tokens
        return totals

    @property
    def sent(self) -> Mapping[str, int]:
        """The tokens of the definitions of each server that are not deferred."""
        totals = dict.fromkeys(self.servers, 0)
        for spec, tokens in self.tools:
            totals[spec.server] += tokens if spec.qualified_name not in self.deferred else 0
        return totals


async def measure_tool_costs(context: RunContext, specs: Sequence[ToolSpec], notes: Mapping[str, str]) -> ToolCosts:
    """Measure the tools as they are sent to the model of the config. ``notes`` are what the servers say, by server.

    A server that counts tokens gets the definitions, and no question.
    """
    weights = sorted(((tool_weight(spec), spec) for spec in specs), key=lambda item: -item[0])
    selector = ModelSelector(context, track_cost=True)
    ratio, request, problem = 1 / INITIAL_WEIGHT_PER_TOKEN, None, ""
    try:
        request, ratio = await _measure_request(context, await selector.select(None), specs, notes)
    except NoModelConfigured:
        problem = "no model is configured"
    except McpChatError as error:
        problem = error.message.partition("\n")[0]
    finally:
        await selector.aclose()
    tools = [(spec, round(weight * ratio)) for weight, spec in weights]
    _, deferred = split_deferred(specs, tool_search_settings(context.config))
    return ToolCosts(
        tools=tools,
        deferred=frozenset(spec.qualified_name for spec in deferred),
        request=request,
        problem=problem,
    )


async def _measure_request(
    context: RunContext, model: SelectedModel, specs: Sequence[ToolSpec], notes: Mapping[str, str]
) -> tuple[ToolUsage, float]:
    """What a request takes, and how many tokens a unit of weight is."""
    selection = await choose_tools(specs, tool_search_settings(context.config), model)
    system = add_server_notes("", selection, notes)
    weight = sum(map(tool_weight, selection.offered)) + text_weight(system)
    request = ModelRequest(
        model=model.name, messages=(user_message("."),), tools=selection.offered, system=system, options=model.options
    )
    counted = await _count_added(model, request) if weight else None
    tokens = weight / INITIAL_WEIGHT_PER_TOKEN if counted is None else counted
    usage, price = Usage(input=round(tokens)), model.price
    cost = ToolUsage(
        model=model.selector or model.name,
        tools=len(selection.offered),
        tokens=usage.input,
        counted=counted is not None,
        searched=selection.searched,
        window=await model.window(ALWAYS_PROBE),
        cost=_times(REQUESTS, price(usage) if price else None),
        cached_cost=_times(REQUESTS, price(replace(usage, cached=usage.input)) if price else None),
    )
    return cost, tokens / weight if weight else 1 / INITIAL_WEIGHT_PER_TOKEN


async def _count_added(model: SelectedModel, request: ModelRequest) -> int | None:
    """How many tokens the tools and the instructions add to the request; None if the model's server does not count."""
    bare = await model.count_tokens(replace(request, tools=(), system=""))
    full = await model.count_tokens(request) if bare else None
    return full - bare if bare and full and full > bare else None


def _times(count: int, dollars: float | None) -> float | None:
    return None if dollars is None else round(count * dollars, 6)
