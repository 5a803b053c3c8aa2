"""Sheets API requests shared by several tools: spreadsheet metadata, range lookup."""

from typing import Annotated, Any
from urllib.parse import quote

from pydantic import BaseModel, Field

from mcpchat_servers.google.server import Session
from mcpchat_servers.sheets.a1 import CellRange, Sheet, parse_range

SPREADSHEETS_PATH = "v4/spreadsheets"
Cell = str | int | Annotated[float, Field(allow_inf_nan=False)] | bool | None

Range = Annotated[
    str,
    Field(
        description="A1 notation, a sheet's name for all of it, or a named range. Without a sheet: the first one.",
        min_length=1,
        max_length=300,
        examples=["Sheet1!A1:C10", "'My sheet'!A:C", "Sheet1"],
    ),
]


class SheetInfo(BaseModel):
    """A sheet of a spreadsheet, with the size of its grid."""

    id: int
    title: str
    rows: int
    columns: int
    hidden: bool | None = None


class Spreadsheet(BaseModel):
    """A spreadsheet and its sheets."""

    id: str
    title: str
    link: str | None = None
    locale: str | None = None
    time_zone: str | None = None
    sheets: list[SheetInfo]
    named_ranges: Annotated[dict[str, str] | None, Field(description="The cells that each name refers to.")] = None


SPREADSHEET_FIELDS = (
    "spreadsheetId,spreadsheetUrl,properties(title,locale,timeZone),"
    "sheets/properties(sheetId,title,hidden,sheetType,gridProperties(rowCount,columnCount)),namedRanges"
)


async def fetch_spreadsheet(session: Session, spreadsheet_id: str) -> dict[str, Any]:
    return await session.api.get(
        f"{SPREADSHEETS_PATH}/{spreadsheet_id}",
        {"fields": SPREADSHEET_FIELDS},
        what=f"the spreadsheet {spreadsheet_id}",
    )


def parse_spreadsheet(raw: dict[str, Any]) -> Spreadsheet:
    properties = raw.get("properties") or {}
    _, named_ranges = parse_layout(raw)
    return Spreadsheet(
        id=raw["spreadsheetId"],
        title=properties.get("title", ""),
        link=raw.get("spreadsheetUrl"),
        locale=properties.get("locale"),
        time_zone=properties.get("timeZone"),
        sheets=[parse_sheet(sheet["properties"]) for sheet in raw.get("sheets") or ()],
        named_ranges={name: str(cell_range) for name, cell_range in named_ranges.items()} or None,
    )


def parse_sheet(raw: dict[str, Any]) -> SheetInfo:
    grid = raw.get("gridProperties") or {}
    return SheetInfo(
        id=raw.get("sheetId", 0),
        title=raw.get("title", ""),
        rows=grid.get("rowCount", 0),
        columns=grid.get("columnCount", 0),
        hidden=raw.get("hidden") or None,
    )


def parse_layout(raw: dict[str, Any]) -> tuple[list[Sheet], dict[str, CellRange]]:
    """Return the sheets that have cells (hidden ones last) and the named ranges."""
    infos = [parse_sheet(item["properties"]) for item in raw.get("sheets") or ()]
    # A range without a sheet refers to the first visible sheet.
    infos.sort(key=lambda info: bool(info.hidden))
    sheets = {info.id: Sheet(info.title, info.rows, info.columns) for info in infos if info.rows and info.columns}
    named_ranges = {}
    for named in raw.get("namedRanges") or ():
        grid_range = named.get("range") or {}
        if (sheet := sheets.get(grid_range.get("sheetId", 0))) is not None:
            named_ranges[str(named.get("name"))] = CellRange(
                sheet.title,
                grid_range.get("startRowIndex", 0) + 1,
                grid_range.get("startColumnIndex", 0) + 1,
                grid_range.get("endRowIndex", sheet.rows),
                grid_range.get("endColumnIndex", sheet.columns),
            )
    return list(sheets.values()), named_ranges


async def resolve_range(session: Session, spreadsheet_id: str, text: str) -> CellRange:
    return parse_range(text, *parse_layout(await fetch_spreadsheet(session, spreadsheet_id)))


def values_path(spreadsheet_id: str, cell_range: CellRange) -> str:
    return f"{SPREADSHEETS_PATH}/{spreadsheet_id}/values/{quote(str(cell_range), safe='')}"
