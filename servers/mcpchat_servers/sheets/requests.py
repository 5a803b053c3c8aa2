"""Requests that several tools of Sheets make: what a spreadsheet has, and where a range is in it."""

from typing import Annotated, Any
from urllib.parse import quote

from pydantic import BaseModel, Field

from mcpchat_servers.google.server import Session
from mcpchat_servers.sheets.a1 import Sheet, Window, window

SPREADSHEETS = "v4/spreadsheets"
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
    named_ranges: Annotated[dict[str, str] | None, Field(description="What the names stand for.")] = None


DESCRIBED = (
    "spreadsheetId,spreadsheetUrl,properties(title,locale,timeZone),"
    "sheets/properties(sheetId,title,hidden,sheetType,gridProperties(rowCount,columnCount)),namedRanges"
)


async def described(session: Session, place: str) -> dict[str, Any]:
    return await session.api.get(f"{SPREADSHEETS}/{place}", {"fields": DESCRIBED}, what=f"the spreadsheet {place}")


def spreadsheet_of(raw: dict[str, Any]) -> Spreadsheet:
    properties = raw.get("properties") or {}
    _, names = known_of(raw)
    return Spreadsheet(
        id=raw["spreadsheetId"],
        title=properties.get("title", ""),
        link=raw.get("spreadsheetUrl"),
        locale=properties.get("locale"),
        time_zone=properties.get("timeZone"),
        sheets=[sheet_of(one["properties"]) for one in raw.get("sheets") or ()],
        named_ranges={name: str(found) for name, found in names.items()} or None,
    )


def sheet_of(raw: dict[str, Any]) -> SheetInfo:
    grid = raw.get("gridProperties") or {}
    return SheetInfo(
        id=raw.get("sheetId", 0),
        title=raw.get("title", ""),
        rows=grid.get("rowCount", 0),
        columns=grid.get("columnCount", 0),
        hidden=raw.get("hidden") or None,
    )


def known_of(raw: dict[str, Any]) -> tuple[list[Sheet], dict[str, Window]]:
    """The sheets that have cells, and what the named ranges stand for."""
    infos = [sheet_of(one["properties"]) for one in raw.get("sheets") or ()]
    # Without a sheet's name the first that can be seen is meant.
    infos.sort(key=lambda one: bool(one.hidden))
    sheets = {one.id: Sheet(one.title, one.rows, one.columns) for one in infos if one.rows and one.columns}
    names = {}
    for one in raw.get("namedRanges") or ():
        found = one.get("range") or {}
        if (sheet := sheets.get(found.get("sheetId", 0))) is not None:
            names[str(one.get("name"))] = Window(
                sheet.title,
                found.get("startRowIndex", 0) + 1,
                found.get("startColumnIndex", 0) + 1,
                found.get("endRowIndex", sheet.rows),
                found.get("endColumnIndex", sheet.columns),
            )
    return list(sheets.values()), names


async def window_of(session: Session, place: str, text: str) -> Window:
    return window(text, *known_of(await described(session, place)))


def values_path(place: str, cells: Window) -> str:
    return f"{SPREADSHEETS}/{place}/values/{quote(str(cells), safe='')}"
