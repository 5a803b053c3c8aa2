"""How much a server may put before a model: so many tools, so long descriptions, schemas of such a size and depth."""

import json
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from mcpchat.core.tools import ToolSpec
from mcpchat.util.sanitize import visible
from mcpchat.util.structures import mapped


class Budget(Struct, frozen=True, kw_only=True):
    """Tools of one server, characters of a description, characters of an input schema."""

    tools: int = 200
    description: int = 4000
    schema: int = 32_000


def within(tools: Sequence[ToolSpec], budget: Budget) -> tuple[tuple[ToolSpec, ...], tuple[str, ...]]:
    """The tools that fit, nothing hidden in their words; and what is to be said of the rest, a sentence each."""
    told: list[str] = []
    kept = []
    unfit: list[str] = []
    hiding: list[str] = []
    cut = 0
    for spec in tools:
        written = json.dumps(spec.schema, ensure_ascii=False)
        if len(written) > budget.schema:
            unfit.append(spec.name)
            continue
        schema = mapped(spec.schema, visible)
        if _names(schema) != _names(spec.schema):
            hiding.append(spec.name)  # an argument by another name would be none that the server knows
            continue
        spec = replace(spec, description=visible(spec.description), schema=schema)
        if len(spec.description) > budget.description:
            spec = replace(spec, description=spec.description[: budget.description - 1] + "…")
            cut += 1
        kept.append(spec)
    if unfit:
        told.append(f"{_some(unfit)} left out: a schema of more than {budget.schema:,} characters (limits.max_schema)")
    if hiding:
        told.append(f"{_some(hiding)} left out: arguments with invisible characters in their names")
    if cut:
        told.append(f"{cut} descriptions cut at {budget.description:,} characters (limits.max_description)")
    if len(kept) > budget.tools:
        told.append(f"only {budget.tools} of its {len(kept):,} tools are offered (limits.max_tools)")
    return tuple(kept[: budget.tools]), tuple(told)


def _names(schema: object) -> set[str]:
    """Every key in the schema."""
    found: set[str] = set()
    level = [schema]
    while level:
        found |= {key for one in level if isinstance(one, dict) for key in one}
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return found


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + ("..." if len(names) > 3 else "")
