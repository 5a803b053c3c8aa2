"""Calculator MCP server: expressions, statistics of a list, unit conversion. Uses no files and no network."""

import os
import re
import statistics as stats
import sys
from typing import TYPE_CHECKING, Annotated, TypedDict

from mcp.server import CacheHint, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from mcpchat_servers.arithmetic import CONSTANTS, FUNCTIONS, CalculationError, Number, evaluate, normalize_number

if TYPE_CHECKING:
    import pint

MAX_VALUES = 100_000
MAX_UNIT_LENGTH = 60  # characters
_READ_ONLY = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)

server = MCPServer(
    "calculator",
    title="Calculator",
    version="1.0.0",
    instructions="Exact arithmetic, statistics and unit conversion. Use it for every calculation instead of guessing.",
    log_level="WARNING",
    cache_hints={"tools/list": CacheHint(ttl_ms=86_400_000, scope="public")},
)


class CalculationResult(TypedDict):
    expression: str
    result: Number


class Statistics(TypedDict):
    count: int
    sum: Number
    mean: Number
    median: Number
    min: Number
    max: Number
    stdev: Annotated[float | None, Field(description="Sample standard deviation; null for fewer than two values.")]
    variance: Annotated[float | None, Field(description="Sample variance; null for fewer than two values.")]


class ConversionResult(TypedDict):
    value: float
    from_unit: str
    result: float
    unit: str


@server.tool(
    title="Evaluate an expression",
    description=(
        "Evaluate an arithmetic expression. Operators: + - * / // % ** (also ^) and parentheses. "
        f"Functions: {', '.join(FUNCTIONS)}; angles in radians, log is natural. Constants: {', '.join(CONSTANTS)}. "
        "Whole numbers are exact, up to 1,000 digits."
    ),
    annotations=_READ_ONLY,
)
def calculate(
    expression: Annotated[str, Field(description="For example: 2 * (3 + sqrt(16)) ** 2", min_length=1)],
) -> CalculationResult:
    try:
        return {"expression": expression, "result": evaluate(expression)}
    except CalculationError as error:
        raise ToolError(str(error)) from error


@server.tool(
    title="Statistics of a list",
    description="Count, sum, mean (average), median, minimum, maximum, standard deviation and variance of numbers.",
    annotations=_READ_ONLY,
)
def statistics(
    values: Annotated[list[float], Field(description="The numbers.", min_length=1, max_length=MAX_VALUES)],
) -> Statistics:
    numbers: list[Number] = [int(value) if value.is_integer() and abs(value) < 2**53 else value for value in values]
    several = len(numbers) > 1
    try:
        return {
            "count": len(numbers),
            "sum": normalize_number(sum(numbers)),
            "mean": normalize_number(stats.fmean(numbers)),
            "median": normalize_number(stats.median(numbers)),
            "min": min(numbers),
            "max": max(numbers),
            "stdev": normalize_number(stats.stdev(numbers)) if several else None,
            "variance": normalize_number(float(stats.variance(numbers))) if several else None,
        }
    except (OverflowError, CalculationError) as error:
        raise ToolError("the numbers are too large to add up") from error


@server.tool(
    title="Convert units",
    description=(
        "Convert a value between units of measure: lengths, masses, times, temperatures, speeds, areas, volumes, "
        "energies, data sizes and more. No currencies: they have no fixed rate."
    ),
    annotations=_READ_ONLY,
)
def convert(
    value: float,
    from_unit: Annotated[str, Field(description="For example: km, mile/hour, degF, kWh", max_length=MAX_UNIT_LENGTH)],
    to_unit: Annotated[str, Field(description="A unit of the same kind.", max_length=MAX_UNIT_LENGTH)],
) -> ConversionResult:
    import pint  # imported only here: it takes 0.3 seconds

    units: pint.UnitRegistry[float] = pint.UnitRegistry(autoconvert_offset_to_baseunit=True)
    source, target = (_parse_unit(units, unit) for unit in (from_unit, to_unit))
    try:
        quantity = units.Quantity(value, source).to(target)
    except pint.DimensionalityError as error:
        raise ToolError(
            f"{from_unit} ({source.dimensionality}) and {to_unit} ({target.dimensionality}) measure different things"
        ) from error
    except (pint.PintError, ArithmeticError, ValueError) as error:
        raise ToolError(f"cannot convert {value} {from_unit} to {to_unit}: {error}") from error
    try:
        result = float(normalize_number(float(quantity.magnitude)))
    except CalculationError as error:
        raise ToolError(str(error)) from error
    return {"value": value, "from_unit": from_unit, "result": result, "unit": to_unit}


_TEMPERATURE_UNITS = {
    **dict.fromkeys(("c", "°c", "celsius", "degrees celsius"), "degC"),
    **dict.fromkeys(("f", "°f", "fahrenheit", "degrees fahrenheit"), "degF"),
}


# One unit with an optional power. Anything else (numbers, parentheses, powers of powers) would reach pint's evaluator,
# which has no limits.
_TERM = re.compile(r"(?:[^\W\d]|[°%Å])[\w°]*(?:\^-?\d)?|1")
_SEPARATOR = re.compile(r"\s*[*/·]\s*|\s+(?:per\s+)?")


def _parse_unit(units: "pint.UnitRegistry[float]", text: str) -> "pint.Unit":
    name = _TEMPERATURE_UNITS.get(text.strip().lower(), text.strip())
    terms = _SEPARATOR.split(re.sub(r"\s*(\^|\*\*)\s*", "^", name))
    try:
        if not all(_TERM.fullmatch(term) for term in terms):
            raise ValueError(text)
        return units.Unit(name)
    except Exception as error:  # pint raises its own errors, and any error of its parser
        raise ToolError(f"unknown unit {text!r}; write it like km, mile/hour, degC, kWh, m^2") from error


def main() -> None:
    server.run()
    # Skip the interpreter's teardown: it takes 0.3 seconds, and the client that closed stdin may be waiting.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
