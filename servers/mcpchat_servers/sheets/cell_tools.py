"""Sheets tools that change cells in place: number formats, sorting, find and replace."""

from typing import Annotated, Any, Literal

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import BaseModel, Field

from mcpchat_servers.google.ids import FileId, parse_file_id
from mcpchat_servers.google.server import Ctx, build_result, get_session
from mcpchat_servers.sheets.a1 import CellRange, parse_column, parse_range
from mcpchat_servers.sheets.api_calls import (
    Range,
    Title,
    batch_update,
    fetch_if_titled,
    parse_layout,
    to_grid_range,
)
from mcpchat_servers.sheets.server import server

NumberFormat = Literal["text", "number", "percent", "currency", "date", "time", "date_time", "scientific"]


class FormatResult(BaseModel):
    range: str
    format: str


class SortResult(BaseModel):
    range: str


class ReplaceResult(BaseModel):
    """How much was replaced."""

    occurrences: int
    cells: int
    formulas: int
    sheets: int


class SortKey(BaseModel):
    """A column to sort by."""

    column: Annotated[str, Field(description="Its letters, such as B.", pattern=r"^[A-Za-z]{1,3}$")]
    descending: bool = False


@server.write_tool("Format numbers", idempotent=True, deferred=True)
async def format_numbers(
    ctx: Ctx,
    spreadsheet_id: FileId,
    title: Title,
    range: Range,  # noqa: A002
    format: NumberFormat,  # noqa: A002
    pattern: Annotated[
        str | None,
        Field(
            description="Google's pattern. Default: by locale.", max_length=200, examples=["#,##0.00 €", "yyyy-mm-dd"]
        ),
    ] = None,
) -> Annotated[CallToolResult, FormatResult]:
    """Set how the numbers and dates of a range are shown. Their values stay."""
    session, file_id = get_session(ctx), parse_file_id(spreadsheet_id)
    raw = await fetch_if_titled(session, file_id, title)
    target = parse_range(range, *parse_layout(raw))
    number_format = {"type": format.upper()} | ({"pattern": pattern} if pattern else {})
    request = {
        "repeatCell": {
            "range": to_grid_range(raw, target),
            "cell": {"userEnteredFormat": {"numberFormat": number_format}},
            "fields": "userEnteredFormat.numberFormat",
        }
    }
    await batch_update(session, file_id, [request], what=str(target), retryable=True)
    return build_result(FormatResult(range=str(target), format=pattern or format))


@server.write_tool("Sort a range", destructive=True, idempotent=True, deferred=True)
async def sort_range(
    ctx: Ctx,
    spreadsheet_id: FileId,
    title: Title,
    range: Annotated[str, Field(description="The rows to sort, without their heading.", min_length=1, max_length=300)],  # noqa: A002
    by: Annotated[list[SortKey], Field(min_length=1, max_length=20)],
) -> Annotated[CallToolResult, SortResult]:
    """Sort the rows of a range by one or more of its columns. The old order is lost."""
    session, file_id = get_session(ctx), parse_file_id(spreadsheet_id)
    raw = await fetch_if_titled(session, file_id, title)
    target = parse_range(range, *parse_layout(raw))
    specs: list[dict[str, Any]] = []
    for key in by:
        column = parse_column(key.column)
        if not target.left <= column <= target.right:
            raise ToolError(f"by: the column {key.column} is not in {target}")
        order = "DESCENDING" if key.descending else "ASCENDING"
        specs.append({"dimensionIndex": column - 1, "sortOrder": order})
    request = {"sortRange": {"range": to_grid_range(raw, target), "sortSpecs": specs}}
    await batch_update(session, file_id, [request], what=str(target), retryable=True)
    return build_result(SortResult(range=str(target)))


@server.write_tool("Find and replace", destructive=True, deferred=True)
async def find_and_replace(
    ctx: Ctx,
    spreadsheet_id: FileId,
    title: Title,
    find: Annotated[str, Field(min_length=1, max_length=10_000)],
    replacement: Annotated[str, Field(max_length=10_000)],
    range: Annotated[str | None, Field(description="Default: all sheets.", min_length=1, max_length=300)] = None,  # noqa: A002
    match_case: bool = False,
    entire_cell: bool = False,
    regex: bool = False,
    formulas: Annotated[bool, Field(description="Also within formulas.")] = False,
) -> Annotated[CallToolResult, ReplaceResult]:
    """Replace a text in the cells of a range, a sheet or the whole spreadsheet."""
    session, file_id = get_session(ctx), parse_file_id(spreadsheet_id)
    raw = await fetch_if_titled(session, file_id, title)
    where: dict[str, Any] = {"allSheets": True}
    target: CellRange | None = None
    if range is not None:
        target = parse_range(range, *parse_layout(raw))
        where = {"range": to_grid_range(raw, target)}
    request = {
        "findReplace": {
            "find": find, "replacement": replacement, "matchCase": match_case, "matchEntireCell": entire_cell,
            "searchByRegex": regex, "includeFormulas": formulas, **where,
        }
    }  # fmt: skip
    replies = await batch_update(session, file_id, [request], what=str(target or f"the spreadsheet {title!r}"))
    reply = replies[0].get("findReplace") or {}
    return build_result(
        ReplaceResult(
            occurrences=reply.get("occurrencesChanged", 0),
            cells=reply.get("valuesChanged", 0),
            formulas=reply.get("formulasChanged", 0),
            sheets=reply.get("sheetsChanged", 0),
        )
    )
