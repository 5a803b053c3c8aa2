"""Sheets tools that write: rows, ranges, sheets, spreadsheets."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import BaseModel, Field

from mcpchat_servers.google.credentials import TokenExpired
from mcpchat_servers.google.ids import FileId, parse_file_id
from mcpchat_servers.google.server import Ctx, build_result, get_session
from mcpchat_servers.sheets.a1 import CellRange, Sheet, parse_range
from mcpchat_servers.sheets.api_calls import (
    SPREADSHEET_FIELDS,
    SPREADSHEETS_PATH,
    Cell,
    Range,
    SheetInfo,
    Spreadsheet,
    Title,
    batch_update,
    fetch_if_titled,
    fetch_spreadsheet,
    parse_layout,
    parse_sheet,
    parse_spreadsheet,
    values_path,
)
from mcpchat_servers.sheets.server import DRIVE_API, server

MAX_WRITTEN_CELLS = 50_000  # per call
SPREADSHEET_TYPE = "application/vnd.google-apps.spreadsheet"

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


class WriteResults(BaseModel):
    ranges: list[WriteResult]


class RangeToWrite(BaseModel):
    """A range and its new cells."""

    range: Range
    rows: Rows


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
    table = parse_range(range, *parse_layout(await fetch_if_titled(session, file_id, title)))
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
    target = _find_target(range, rows, *parse_layout(await fetch_if_titled(session, file_id, title)))
    response = await session.api.change(
        "PUT",
        values_path(file_id, target),
        {"majorDimension": "ROWS", "values": rows},
        what=f"{target}",
        retryable=True,
        params={"valueInputOption": entered.upper()},
    )
    return build_result(_build_write_result(response, rows, entered))


@server.write_tool("Write several ranges", destructive=True, idempotent=True, deferred=True)
async def write_ranges(
    ctx: Ctx,
    spreadsheet_id: FileId,
    title: Title,
    ranges: Annotated[list[RangeToWrite], Field(min_length=1, max_length=50)],
    entered: InputMode = "raw",
) -> Annotated[CallToolResult, WriteResults]:
    """Overwrite the cells of several ranges in one request: if one cannot be written, none is."""
    session, file_id = get_session(ctx), parse_file_id(spreadsheet_id)
    _check_size([row for item in ranges for row in item.rows])
    layout = parse_layout(await fetch_if_titled(session, file_id, title))
    targets = [_find_target(item.range, item.rows, *layout) for item in ranges]
    for number, target in enumerate(targets):
        for other in targets[:number]:
            if _overlap(target, other):
                raise ToolError(f"the ranges {other} and {target} overlap; nothing was written")
    data = [
        {"range": str(target), "majorDimension": "ROWS", "values": item.rows}
        for target, item in zip(targets, ranges, strict=True)
    ]
    response = await session.api.change(
        "POST",
        f"{SPREADSHEETS_PATH}/{file_id}/values:batchUpdate",
        {"valueInputOption": entered.upper(), "data": data},
        what=f"the ranges of {title!r}",
        retryable=True,
    )
    results = [
        _build_write_result(raw, item.rows, entered)
        for raw, item in zip(response.get("responses") or (), ranges, strict=False)
    ]
    return build_result(WriteResults(ranges=results))


@server.write_tool("Clear a range", destructive=True, idempotent=True)
async def clear_range(
    ctx: Ctx,
    spreadsheet_id: FileId,
    title: Title,
    range: Range,  # noqa: A002
) -> Annotated[CallToolResult, ClearResult]:
    """Empty the cells of a range. Their formatting is kept."""
    session, file_id = get_session(ctx), parse_file_id(spreadsheet_id)
    target = parse_range(range, *parse_layout(await fetch_if_titled(session, file_id, title)))
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
    folder_id: Annotated[
        str | None, Field(description="Id or link of a folder of Drive. Default: My Drive.", max_length=2000)
    ] = None,
) -> Annotated[CallToolResult, Spreadsheet]:
    """Create a spreadsheet, empty or with rows in its first sheet. A folder needs the drive scope."""
    _check_size(rows or [])
    if folder_id:
        return await _create_in_folder(ctx, title, sheets or ["Sheet1"], rows or [], parse_file_id(folder_id))
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


async def _create_in_folder(
    ctx: Ctx, title: str, sheets: Sequence[str], rows: Sequence[Sequence[Cell]], folder_id: str
) -> CallToolResult:
    """Create a spreadsheet through Drive, because the Sheets API knows no folders, then fill it."""
    session = get_session(ctx)
    body = {"name": title, "mimeType": SPREADSHEET_TYPE, "parents": [folder_id]}
    created = await session.other_apis[DRIVE_API].change(
        "POST",
        "drive/v3/files",
        body,
        what=f"the folder {folder_id}",
        retryable=False,
        params={"fields": "id", "supportsAllDrives": True},
    )
    file_id = str(created["id"])
    problem = f"the spreadsheet {title!r} was created as {file_id}, but is still empty"
    try:
        first = (await fetch_spreadsheet(session, file_id))["sheets"][0]["properties"]
    except TokenExpired:
        raise
    except ToolError as error:
        raise ToolError(f"{problem}: {error}") from error
    size = {"rowCount": max(1000, len(rows)), "columnCount": max(26, *map(len, rows), 0)}
    sheet_id = first.get("sheetId", 0)
    requests: list[dict[str, Any]] = [
        {
            "updateSheetProperties": {
                "properties": {"sheetId": sheet_id, "title": sheets[0], "gridProperties": size},
                "fields": "title,gridProperties(rowCount,columnCount)",
            }
        },
        *({"addSheet": {"properties": {"title": name}}} for name in sheets[1:]),
    ]
    if rows:
        cells = [{"values": [_to_entered_value(cell) for cell in row]} for row in rows]
        start = {"sheetId": sheet_id, "rowIndex": 0, "columnIndex": 0}
        requests.append({"updateCells": {"rows": cells, "fields": "userEnteredValue", "start": start}})
    await batch_update(session, file_id, requests, what=problem, retryable=False)
    return build_result(parse_spreadsheet(await fetch_spreadsheet(session, file_id)))


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
    await fetch_if_titled(session, file_id, title)
    properties = {"title": name, "gridProperties": {"rowCount": rows, "columnCount": columns}}
    replies = await batch_update(
        session, file_id, [{"addSheet": {"properties": properties}}], what=f"the sheet {name!r}"
    )
    return build_result(parse_sheet(replies[0]["addSheet"]["properties"]))


def _find_target(
    text: str, rows: Sequence[Sequence[Cell]], sheets: Sequence[Sheet], named_ranges: Mapping[str, CellRange]
) -> CellRange:
    """Return the range to write. Raises ToolError if the rows do not fit into it.

    A single cell is the top left one of the area to write.
    """
    target = parse_range(text, sheets, named_ranges)
    height, width = len(rows), max(map(len, rows))
    available = target
    if target.height == target.width == 1:
        sheet = next(candidate for candidate in sheets if candidate.title == target.sheet)
        available = CellRange(target.sheet, target.top, target.left, sheet.rows, sheet.columns)
    if height > available.height or width > available.width:
        raise ToolError(f"{height} rows of {width} cells do not fit into {available}; append_rows adds new rows")
    return (
        target
        if available is target
        else CellRange(target.sheet, target.top, target.left, target.top + height - 1, target.left + max(width, 1) - 1)
    )


def _overlap(first: CellRange, second: CellRange) -> bool:
    return (
        first.sheet == second.sheet
        and first.top <= second.bottom
        and second.top <= first.bottom
        and first.left <= second.right
        and second.left <= first.right
    )


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
