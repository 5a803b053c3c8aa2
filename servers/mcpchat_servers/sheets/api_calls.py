"""Sheets API requests shared by several tools: spreadsheet metadata, range lookup."""

from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import quote

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from mcpchat_servers.google.display_names import is_same_name
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


Title = Annotated[
    str,
    Field(
        description="Its current title, for the user to see. Any other is refused.",
        min_length=1,
        max_length=500,
    ),
]


class Chart(BaseModel):
    """A chart, and the cells that it shows."""

    id: int
    title: str
    type: str
    sheet: Annotated[str, Field(description="The sheet that it is on.")]
    data: list[str]


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
    charts: list[Chart] | None = None


SPREADSHEET_FIELDS = (
    "spreadsheetId,spreadsheetUrl,properties(title,locale,timeZone),"
    "sheets/properties(sheetId,title,hidden,sheetType,gridProperties(rowCount,columnCount)),namedRanges"
)


CHART_FIELDS = (
    "sheets/charts(chartId,spec(title,basicChart(chartType,domains,series),pieChart(domain,series),"
    "histogramChart(series),scorecardChart(keyValueData),treemapChart(labels),waterfallChart(domain)))"
)


async def fetch_spreadsheet(session: Session, spreadsheet_id: str, fields: str = SPREADSHEET_FIELDS) -> dict[str, Any]:
    return await session.api.get(
        f"{SPREADSHEETS_PATH}/{spreadsheet_id}",
        {"fields": fields},
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
        charts=_parse_charts(raw) or None,
    )


def _parse_charts(raw: dict[str, Any]) -> list[Chart]:
    infos = [parse_sheet(item["properties"]) for item in raw.get("sheets") or ()]
    titles = {info.id: info for info in infos}
    charts = []
    for info, item in zip(infos, raw.get("sheets") or (), strict=True):
        for chart in item.get("charts") or ():
            spec = chart.get("spec") or {}
            kinds = [name for name in spec if name.endswith("Chart")]
            basic = (spec.get("basicChart") or {}).get("chartType")
            sources = [
                _parse_grid_range(source, titles[source.get("sheetId", 0)])
                for kind in kinds
                for source in _find_sources(spec[kind])
                if source.get("sheetId", 0) in titles
            ]
            kind_name = str(basic or (kinds[0].removesuffix("Chart") if kinds else "unknown")).lower()
            charts.append(
                Chart(
                    id=chart.get("chartId", 0),
                    title=spec.get("title", ""),
                    type=kind_name,
                    sheet=info.title,
                    data=[str(source) for source in sources],
                )
            )
    return charts


def _find_sources(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the ranges that a chart's specification takes its data from."""
    if isinstance(value, list):
        for item in value:
            yield from _find_sources(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name == "sources" and isinstance(item, list):
                yield from item
            else:
                yield from _find_sources(item)


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
            named_ranges[str(named.get("name"))] = _parse_grid_range(grid_range, sheet)
    return list(sheets.values()), named_ranges


def _parse_grid_range(raw: dict[str, Any], sheet: Sheet | SheetInfo) -> CellRange:
    """Return a range of Google's that counts from 0; without an end it reaches to that of the sheet."""
    return CellRange(
        sheet.title,
        raw.get("startRowIndex", 0) + 1,
        raw.get("startColumnIndex", 0) + 1,
        raw.get("endRowIndex", sheet.rows),
        raw.get("endColumnIndex", sheet.columns),
    )


def to_grid_range(raw: dict[str, Any], cell_range: CellRange) -> dict[str, int]:
    """Return a range in Google's notation that counts from 0. ``raw`` is the spreadsheet."""
    return {
        "sheetId": find_sheet(raw, cell_range.sheet).id,
        "startRowIndex": cell_range.top - 1,
        "endRowIndex": cell_range.bottom,
        "startColumnIndex": cell_range.left - 1,
        "endColumnIndex": cell_range.right,
    }


def find_sheet(raw: dict[str, Any], name: str) -> SheetInfo:
    """Return a sheet of a spreadsheet by its name; case makes no difference. Raises ToolError if there is none."""
    infos = [parse_sheet(item["properties"]) for item in raw.get("sheets") or ()]
    for info in infos:
        if info.title.lower() == name.lower():
            return info
    raise ToolError(f"no sheet is named {name!r}; the spreadsheet has: {', '.join(info.title for info in infos[:30])}")


async def fetch_if_titled(session: Session, spreadsheet_id: str, title: str) -> dict[str, Any]:
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


async def batch_update(
    session: Session, spreadsheet_id: str, requests: list[dict[str, Any]], *, what: str, retryable: bool = False
) -> list[dict[str, Any]]:
    """Make changes of a spreadsheet, all or none, and return Google's reply to each. Raises ToolError."""
    response = await session.api.change(
        "POST",
        f"{SPREADSHEETS_PATH}/{spreadsheet_id}:batchUpdate",
        {"requests": requests},
        what=what,
        retryable=retryable,
    )
    return list(response.get("replies") or [{}] * len(requests))


async def resolve_range(session: Session, spreadsheet_id: str, text: str) -> CellRange:
    return parse_range(text, *parse_layout(await fetch_spreadsheet(session, spreadsheet_id)))


def values_path(spreadsheet_id: str, cell_range: CellRange) -> str:
    return f"{SPREADSHEETS_PATH}/{spreadsheet_id}/values/{quote(str(cell_range), safe='')}"
