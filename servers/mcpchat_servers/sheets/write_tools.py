"""Sheets tools that write: rows, ranges, sheets, spreadsheets."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import BaseModel, Field

from mcpchat_servers.google.display_names import is_same_name
from mcpchat_servers.google.ids import FileId, parse_file_id
from mcpchat_servers.google.server import Ctx, Session, build_result, get_session
from mcpchat_servers.sheets.a1 import CellRange, parse_range
from mcpchat_servers.sheets.api_calls import (
    SPREADSHEET_FIELDS,
    SPREADSHEETS_PATH,
    Cell,
    Range,
    SheetInfo,
    Spreadsheet,
    fetch_spreadsheet,
    parse_layout,
    parse_sheet,
    parse_spreadsheet,
    values_path,
)
from mcpchat_servers.sheets.server import server

MAX_WRITTEN_CELLS = 50_000  # per call

Title = Annotated[
    str,
    Field(
        description="Its current title, for the user to see. Any other is refused.",
        min_length=1,
        max_length=500,
    ),
]
Rows = Annotated[
    list[list[Cell]],
    Field(
        description="Rows of cells: numbers, true and false as such, the rest as strings. null keeps a cell unchanged, "
        '"" empties it.',
        min_length=1,
        max_length=MAX_WRITTEN_CELLS,
        examples=[[["Tea", 3.5, True], ["Cake", 12, False]]],
    ),
]
InputMode = Annotated[
    Literal["raw", "user_entered"],
    Field(
        description='"raw" stores the values unchanged: strings stay strings. "user_entered" parses them as if typed: '
        '"=SUM(A1:A3)" becomes a formula, "1 May" a date.'
    ),
]


class WriteResult(BaseModel):
    """The range and the number of cells that were written."""

    range: str
    rows: int
    columns: int
    cells: int
    note: str | None = None


class ClearResult(BaseModel):
    range: str


@server.write_tool("Append rows")
async def append_rows(
    ctx: Ctx,
    spreadsheet_id: FileId,
    title: Title,
    range: Annotated[  # noqa: A002
        str,
        Field(
            description="The table's cells in A1 notation, or a sheet's name for the table that starts at A1.",
            min_length=1,
            max_length=300,
            examples=["Sheet1", "Sheet1!A1:C1"],
        ),
    ],
    rows: Rows,
    entered: InputMode = "raw",
) -> Annotated[CallToolResult, WriteResult]:
    """Add rows below the last row of a table. Never overwrites cells."""
    session, file_id = get_session(ctx), parse_file_id(spreadsheet_id)
    _check_size(rows)
    table = parse_range(range, *parse_layout(await _fetch_if_titled(session, file_id, title)))
    if "!" not in range and table.top == table.left == 1 and table.height > 1:
        # A sheet's name means the table at A1. If the range were the whole sheet, Google would take the last cells that
        # look like a table, and start at their first column.
        table = CellRange(table.sheet, 1, 1, 1, 1)
    response = await session.api.change(
        "POST",
        f"{values_path(file_id, table)}:append",
        {"majorDimension": "ROWS", "values": rows},
        what=f"{table}",
        retryable=False,
        params={"valueInputOption": entered.upper(), "insertDataOption": "INSERT_ROWS"},
    )
    return build_result(_build_write_result(response.get("updates") or {}, rows, entered))


@server.write_tool("Write a range", destructive=True, idempotent=True)
async def write_range(
    ctx: Ctx,
    spreadsheet_id: FileId,
    title: Title,
    range: Range,  # noqa: A002
    rows: Rows,
    entered: InputMode = "raw",
) -> Annotated[CallToolResult, WriteResult]:
    """Overwrite cells, from the range's first cell on."""
    session, file_id = get_session(ctx), parse_file_id(spreadsheet_id)
    _check_size(rows)
    layout = parse_layout(await _fetch_if_titled(session, file_id, title))
    target = parse_range(range, *layout)
    height, width = len(rows), max(map(len, rows))
    if target.height == target.width == 1:  # the top left cell of the area to write
        sheet = next(candidate for candidate in layout[0] if candidate.title == target.sheet)
        available = CellRange(target.sheet, target.top, target.left, sheet.rows, sheet.columns)
    else:
        available = target
    if height > available.height or width > available.width:
        raise ToolError(f"{height} rows of {width} cells do not fit into {available}; append_rows adds new rows")
    response = await session.api.change(
        "PUT",
        values_path(file_id, target),
        {"majorDimension": "ROWS", "values": rows},
        what=f"{target}",
        retryable=True,
        params={"valueInputOption": entered.upper()},
    )
    return build_result(_build_write_result(response, rows, entered))


@server.write_tool("Clear a range", destructive=True, idempotent=True)
async def clear_range(
    ctx: Ctx,
    spreadsheet_id: FileId,
    title: Title,
    range: Range,  # noqa: A002
) -> Annotated[CallToolResult, ClearResult]:
    """Empty the cells of a range. Their formatting is kept."""
    session, file_id = get_session(ctx), parse_file_id(spreadsheet_id)
    target = parse_range(range, *parse_layout(await _fetch_if_titled(session, file_id, title)))
    response = await session.api.change(
        "POST", f"{values_path(file_id, target)}:clear", {}, what=f"{target}", retryable=True
    )
    return build_result(ClearResult(range=response.get("clearedRange", str(target))))


@server.write_tool("Create a spreadsheet")
async def create_spreadsheet(
    ctx: Ctx,
    title: Annotated[str, Field(min_length=1, max_length=500)],
    sheets: Annotated[list[str] | None, Field(description="The sheets' names.", min_length=1, max_length=50)] = None,
    rows: Annotated[
        list[list[Cell]] | None, Field(description="The rows of the first sheet.", max_length=MAX_WRITTEN_CELLS)
    ] = None,
) -> Annotated[CallToolResult, Spreadsheet]:
    """Create a spreadsheet in My Drive, empty or with rows in its first sheet."""
    _check_size(rows or [])
    sheet_specs: list[dict[str, Any]] = [{"properties": {"title": name}} for name in sheets or ["Sheet1"]]
    if rows:
        size = {"rowCount": max(1000, len(rows)), "columnCount": max(26, *map(len, rows))}
        sheet_specs[0]["properties"]["gridProperties"] = size
        sheet_specs[0]["data"] = [{"rowData": [{"values": [_to_entered_value(cell) for cell in row]} for row in rows]}]
    response = await get_session(ctx).api.change(
        "POST",
        SPREADSHEETS_PATH,
        {"properties": {"title": title}, "sheets": sheet_specs},
        what=f"the spreadsheet {title!r}",
        retryable=False,
        params={"fields": SPREADSHEET_FIELDS},
    )
    return build_result(parse_spreadsheet(response))


@server.write_tool("Add a sheet")
async def add_sheet(
    ctx: Ctx,
    spreadsheet_id: FileId,
    title: Title,
    name: Annotated[str, Field(description="The new sheet's name.", min_length=1, max_length=100)],
    rows: Annotated[int, Field(ge=1, le=100_000)] = 1000,
    columns: Annotated[int, Field(ge=1, le=1000)] = 26,
) -> Annotated[CallToolResult, SheetInfo]:
    """Add an empty sheet to a spreadsheet."""
    session, file_id = get_session(ctx), parse_file_id(spreadsheet_id)
    await _fetch_if_titled(session, file_id, title)
    properties = {"title": name, "gridProperties": {"rowCount": rows, "columnCount": columns}}
    response = await session.api.change(
        "POST",
        f"{SPREADSHEETS_PATH}/{file_id}:batchUpdate",
        {"requests": [{"addSheet": {"properties": properties}}]},
        what=f"the sheet {name!r}",
        retryable=False,
    )
    return build_result(parse_sheet(response["replies"][0]["addSheet"]["properties"]))


async def _fetch_if_titled(session: Session, spreadsheet_id: str, title: str) -> dict[str, Any]:
    """Return a spreadsheet's metadata if its title is ``title``; raises ToolError if not.

    The user who approved the call saw this title, and approved no other spreadsheet.
    """
    raw = await fetch_spreadsheet(session, spreadsheet_id)
    current_title = str((raw.get("properties") or {}).get("title", ""))
    if not is_same_name(current_title, title):
        raise ToolError(
            f"title: the spreadsheet {spreadsheet_id} is called {current_title!r}, not {title!r}; nothing was changed"
        )
    return raw


def _check_size(rows: Sequence[Sequence[Cell]]) -> None:
    if (cells := sum(map(len, rows))) > MAX_WRITTEN_CELLS:
        raise ToolError(f"{cells:,} cells are more than the limit of {MAX_WRITTEN_CELLS:,} per call")


def _build_write_result(raw: dict[str, Any], rows: Sequence[Sequence[Cell]], entered: str) -> WriteResult:
    has_formulas = entered == "raw" and any(
        isinstance(cell, str) and cell.startswith("=") for row in rows for cell in row
    )
    return WriteResult(
        range=raw.get("updatedRange", ""),
        rows=raw.get("updatedRows", 0),
        columns=raw.get("updatedColumns", 0),
        cells=raw.get("updatedCells", 0),
        note='Cells that start with "=" were stored as text; entered="user_entered" makes them formulas.'
        if has_formulas
        else None,
    )


def _to_entered_value(cell: Cell) -> dict[str, Any]:
    match cell:
        case None | "":
            return {}
        case bool():
            return {"userEnteredValue": {"boolValue": cell}}
        case int() | float():
            return {"userEnteredValue": {"numberValue": cell}}
        case str():
            return {"userEnteredValue": {"stringValue": cell}}
