"""How much a server may put before a model: so many tools, so long descriptions, schemas of such a size and depth."""

import json
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from mcpchat.core.sanitize import visible
from mcpchat.core.texts import mapped
from mcpchat.core.tools import ToolSpec

DEEPEST = 64  # levels of a schema


class Budget(Struct, frozen=True, kw_only=True):
    """Tools of one server, characters of a description, characters of an input schema."""

    tools: int = 200
    description: int = 4000
    schema: int = 32_000


def within(tools: Sequence[ToolSpec], budget: Budget) -> tuple[tuple[ToolSpec, ...], tuple[str, ...]]:
    """The tools that fit, nothing hidden in their words; and what is to be said of the rest, a sentence each."""
    told: list[str] = []
    kept = []
    unfit = []
    cut = 0
    for spec in tools:
        spec = replace(spec, description=visible(spec.description), schema=mapped(spec.schema, visible))
        if _depth(spec.schema) > DEEPEST or len(json.dumps(spec.schema)) > budget.schema:
            unfit.append(spec.name)
            continue
        if len(spec.description) > budget.description:
            spec = replace(spec, description=spec.description[: budget.description - 1] + "…")
            cut += 1
        kept.append(spec)
    if unfit:
        some = ", ".join(unfit[:3]) + ("..." if len(unfit) > 3 else "")
        told.append(f"{some} left out: a schema of more than {budget.schema:,} characters (limits.max_schema)")
    if cut:
        told.append(f"{cut} descriptions cut at {budget.description:,} characters (limits.max_description)")
    if len(kept) > budget.tools:
        told.append(f"only {budget.tools} of its {len(kept):,} tools are offered (limits.max_tools)")
    return tuple(kept[: budget.tools]), tuple(told)


def _depth(value: object) -> int:
    """How deep the value is nested, counted to one more than the deepest that is taken."""
    level, depth = [value], 0
    while level and depth <= DEEPEST:
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        depth += 1
    return depth
