"""The tools of Sheets that write: rows, ranges, sheets, spreadsheets."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import BaseModel, Field

from mcpchat_servers.google.ids import FileId, parsed_id
from mcpchat_servers.google.names import same
from mcpchat_servers.google.server import Ctx, Session, answered
from mcpchat_servers.google.server import session as running
from mcpchat_servers.sheets.a1 import Window, window
from mcpchat_servers.sheets.requests import (
    DESCRIBED,
    SPREADSHEETS,
    Cell,
    Range,
    SheetInfo,
    Spreadsheet,
    described,
    known_of,
    sheet_of,
    spreadsheet_of,
    values_path,
)
from mcpchat_servers.sheets.server import server

MOST_WRITTEN = 50_000  # cells of one call

Title = Annotated[
    str,
    Field(
        description="The spreadsheet's title as it is, so that the user sees it when asked; another one is refused.",
        min_length=1,
        max_length=500,
    ),
]
Rows = Annotated[
    list[list[Cell]],
    Field(
        description="Rows of cells: numbers, true and false as such, the rest as strings. null leaves a cell as it is, "
        '"" empties it.',
        min_length=1,
        max_length=MOST_WRITTEN,
        examples=[[["Tea", 3.5, True], ["Cake", 12, False]]],
    ),
]
Entered = Annotated[
    Literal["raw", "user_entered"],
    Field(
        description='"raw" stores what is given, and strings stay strings. "user_entered" reads it as if typed: '
        '"=SUM(A1:A3)" becomes a formula, "1 May" a date.'
    ),
]


class Written(BaseModel):
    """What was written."""

    range: str
    rows: int
    columns: int
    cells: int
    note: str | None = None


class Cleared(BaseModel):
    range: str


@server.changes("Append rows")
async def append_rows(
    ctx: Ctx,
    spreadsheet_id: FileId,
    title: Title,
    range: Annotated[  # noqa: A002
        str,
        Field(
            description="The table's cells in A1 notation, or a sheet's name for the table that begins at A1.",
            min_length=1,
            max_length=300,
            examples=["Sheet1", "Sheet1!A1:C1"],
        ),
    ],
    rows: Rows,
    entered: Entered = "raw",
) -> Annotated[CallToolResult, Written]:
    """Add rows below the last row of a table. Nothing there is overwritten."""
    session, place = running(ctx), parsed_id(spreadsheet_id)
    _check_size(rows)
    table = window(range, *known_of(await _titled(session, place, title)))
    if "!" not in range and table.top == table.left == 1 and table.height > 1:
        # A sheet's name: its table is the one at A1. In all of the sheet Google would look for the last cells that
        # look like a table, and begin where those do.
        table = Window(table.sheet, 1, 1, 1, 1)
    made = await session.api.change(
        "POST",
        f"{values_path(place, table)}:append",
        {"majorDimension": "ROWS", "values": rows},
        what=f"{table}",
        repeatable=False,
        params={"valueInputOption": entered.upper(), "insertDataOption": "INSERT_ROWS"},
    )
    return answered(_written(made.get("updates") or {}, rows, entered))


@server.changes("Write a range", destructive=True, idempotent=True)
async def write_range(
    ctx: Ctx,
    spreadsheet_id: FileId,
    title: Title,
    range: Range,  # noqa: A002
    rows: Rows,
    entered: Entered = "raw",
) -> Annotated[CallToolResult, Written]:
    """Write cells over what is there, from the range's first cell on."""
    session, place = running(ctx), parsed_id(spreadsheet_id)
    _check_size(rows)
    known = known_of(await _titled(session, place, title))
    whole = window(range, *known)
    height, width = len(rows), max(map(len, rows))
    if whole.height == whole.width == 1:  # a corner
        sheet = next(one for one in known[0] if one.title == whole.sheet)
        room = Window(whole.sheet, whole.top, whole.left, sheet.rows, sheet.columns)
    else:
        room = whole
    if height > room.height or width > room.width:
        raise ToolError(f"{height} rows of {width} cells do not fit into {room}; append_rows makes new rows")
    made = await session.api.change(
        "PUT",
        values_path(place, whole),
        {"majorDimension": "ROWS", "values": rows},
        what=f"{whole}",
        repeatable=True,
        params={"valueInputOption": entered.upper()},
    )
    return answered(_written(made, rows, entered))


@server.changes("Clear a range", destructive=True, idempotent=True)
async def clear_range(
    ctx: Ctx,
    spreadsheet_id: FileId,
    title: Title,
    range: Range,  # noqa: A002
) -> Annotated[CallToolResult, Cleared]:
    """Empty the cells of a range. Their formats stay."""
    session, place = running(ctx), parsed_id(spreadsheet_id)
    whole = window(range, *known_of(await _titled(session, place, title)))
    made = await session.api.change("POST", f"{values_path(place, whole)}:clear", {}, what=f"{whole}", repeatable=True)
    return answered(Cleared(range=made.get("clearedRange", str(whole))))


@server.changes("Create a spreadsheet")
async def create_spreadsheet(
    ctx: Ctx,
    title: Annotated[str, Field(min_length=1, max_length=500)],
    sheets: Annotated[list[str] | None, Field(description="The sheets' names.", min_length=1, max_length=50)] = None,
    rows: Annotated[
        list[list[Cell]] | None, Field(description="What the first sheet holds.", max_length=MOST_WRITTEN)
    ] = None,
) -> Annotated[CallToolResult, Spreadsheet]:
    """Make a new spreadsheet in My Drive, empty or with rows in its first sheet."""
    _check_size(rows or [])
    made_sheets: list[dict[str, Any]] = [{"properties": {"title": name}} for name in sheets or ["Sheet1"]]
    if rows:
        size = {"rowCount": max(1000, len(rows)), "columnCount": max(26, *map(len, rows))}
        made_sheets[0]["properties"]["gridProperties"] = size
        made_sheets[0]["data"] = [{"rowData": [{"values": [_entered_value(cell) for cell in row]} for row in rows]}]
    made = await running(ctx).api.change(
        "POST",
        SPREADSHEETS,
        {"properties": {"title": title}, "sheets": made_sheets},
        what=f"the spreadsheet {title!r}",
        repeatable=False,
        params={"fields": DESCRIBED},
    )
    return answered(spreadsheet_of(made))


@server.changes("Add a sheet")
async def add_sheet(
    ctx: Ctx,
    spreadsheet_id: FileId,
    title: Title,
    name: Annotated[str, Field(description="The new sheet's.", min_length=1, max_length=100)],
    rows: Annotated[int, Field(ge=1, le=100_000)] = 1000,
    columns: Annotated[int, Field(ge=1, le=1000)] = 26,
) -> Annotated[CallToolResult, SheetInfo]:
    """Add an empty sheet to a spreadsheet."""
    session, place = running(ctx), parsed_id(spreadsheet_id)
    await _titled(session, place, title)
    properties = {"title": name, "gridProperties": {"rowCount": rows, "columnCount": columns}}
    made = await session.api.change(
        "POST",
        f"{SPREADSHEETS}/{place}:batchUpdate",
        {"requests": [{"addSheet": {"properties": properties}}]},
        what=f"the sheet {name!r}",
        repeatable=False,
    )
    return answered(sheet_of(made["replies"][0]["addSheet"]["properties"]))


async def _titled(session: Session, place: str, title: str) -> dict[str, Any]:
    """What is told of a spreadsheet, where that has this title: a person who saw it agreed to no other."""
    raw = await described(session, place)
    own = str((raw.get("properties") or {}).get("title", ""))
    if not same(own, title):
        raise ToolError(f"title: the spreadsheet {place} is called {own!r}, not {title!r}; nothing was changed")
    return raw


def _check_size(rows: Sequence[Sequence[Cell]]) -> None:
    if (cells := sum(map(len, rows))) > MOST_WRITTEN:
        raise ToolError(f"{cells:,} cells are more than the {MOST_WRITTEN:,} that one call writes")


def _written(raw: dict[str, Any], rows: Sequence[Sequence[Cell]], entered: str) -> Written:
    formulas = entered == "raw" and any(isinstance(cell, str) and cell.startswith("=") for row in rows for cell in row)
    return Written(
        range=raw.get("updatedRange", ""),
        rows=raw.get("updatedRows", 0),
        columns=raw.get("updatedColumns", 0),
        cells=raw.get("updatedCells", 0),
        note='What begins with "=" was stored as text; entered="user_entered" makes formulas.' if formulas else None,
    )


def _entered_value(cell: Cell) -> dict[str, Any]:
    match cell:
        case None | "":
            return {}
        case bool():
            return {"userEnteredValue": {"boolValue": cell}}
        case int() | float():
            return {"userEnteredValue": {"numberValue": cell}}
        case str():
            return {"userEnteredValue": {"stringValue": cell}}
