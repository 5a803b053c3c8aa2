"""The tools of Sheets that change nothing: sheets, ranges, pages of rows."""

import json
from collections.abc import Sequence
from typing import Annotated, Literal

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import BaseModel, Field

from mcpchat_servers.google.api import TooLarge
from mcpchat_servers.google.ids import FileId, parsed_id
from mcpchat_servers.google.server import Ctx, Cursor, Session, answered
from mcpchat_servers.google.server import session as running
from mcpchat_servers.sheets.a1 import Window, letters, window
from mcpchat_servers.sheets.requests import (
    SPREADSHEETS,
    Cell,
    Range,
    Spreadsheet,
    described,
    known_of,
    spreadsheet_of,
    values_path,
    window_of,
)
from mcpchat_servers.sheets.server import server

MOST_CELLS = 10_000  # of a page
PAGE = 20_000  # characters of a page
LONGEST_CELL = 1000  # characters, where a row alone is longer than a page
_PROBE = 65_536  # bytes that say enough of what is further down

Values = Literal["typed", "formatted", "formulas"]
_RENDERED = {"typed": "UNFORMATTED_VALUE", "formatted": "FORMATTED_VALUE", "formulas": "FORMULA"}


class RangeOfCells(BaseModel):
    """Cells, row by row. Empty cells at the end of a row, and empty rows at the end, are left out."""

    range: str
    rows: list[list[Cell]]


class ReadRange(RangeOfCells):
    """A page of a range."""

    first_row: Annotated[int, Field(description="The number of the first row here, from 1.")]
    next_cursor: Annotated[str | None, Field(description="For the next page; missing at the end.")] = None
    note: str | None = None


class ReadRanges(BaseModel):
    ranges: list[RangeOfCells]


@server.reads("Get a spreadsheet's sheets")
async def get_spreadsheet(ctx: Ctx, spreadsheet_id: FileId) -> Annotated[CallToolResult, Spreadsheet]:
    """A spreadsheet's title, its sheets with their sizes, and its named ranges; no cells."""
    return answered(spreadsheet_of(await described(running(ctx), parsed_id(spreadsheet_id))))


@server.reads("Read a range")
async def read_range(
    ctx: Ctx,
    spreadsheet_id: FileId,
    range: Range,  # noqa: A002 - what Google calls it
    values: Annotated[
        Values,
        Field(description='"typed": numbers and booleans as such; "formatted": as shown; "formulas": as entered.'),
    ] = "typed",
    max_rows: Annotated[int, Field(description="Rows of a page.", ge=1, le=5000)] = 500,
    cursor: Cursor = None,
) -> Annotated[CallToolResult, ReadRange]:
    """The cells of a range, a page of rows at a time."""
    session, place = running(ctx), parsed_id(spreadsheet_id)
    whole = await window_of(session, place, range)
    top = _top(cursor, whole)
    asked = max(1, min(max_rows, MOST_CELLS // whole.width, whole.bottom - top + 1))
    page = whole.rows(top, top + asked - 1)
    rows = await _values(session, place, page, values)
    shown, note = _bounded(rows, whole)
    if len(shown) < len(rows):
        after: int | None = top + len(shown)
    elif page.bottom == whole.bottom:
        after = None
    elif len(rows) == asked:
        after = page.bottom + 1
    else:
        after = await _next_filled(session, place, whole.rows(page.bottom + 1, whole.bottom), values)
    page = whole.rows(top, top + len(shown) - 1) if shown else page
    value = ReadRange(
        range=str(page), first_row=top, rows=shown, next_cursor=None if after is None else str(after), note=note
    )
    lines = [f"{top + index}: {_json(row)}" for index, row in enumerate(shown)] or [
        f"(rows {top} to {page.bottom} are empty)"
    ]
    more = f"\n[rows go on: cursor={after}]" if after is not None else ""
    return answered(value, f"{page}\n" + "\n".join(lines) + more + (f"\n[{note}]" if note else ""))


@server.reads("Read several ranges")
async def read_ranges(
    ctx: Ctx,
    spreadsheet_id: FileId,
    ranges: Annotated[list[Range], Field(min_length=1, max_length=20)],
    values: Values = "typed",
) -> Annotated[CallToolResult, ReadRanges]:
    """The cells of several small ranges at once. For large ones see read_range, which gives pages."""
    session, place = running(ctx), parsed_id(spreadsheet_id)
    known = known_of(await described(session, place))
    windows = [window(one, *known) for one in ranges]
    params = {"ranges": [str(one) for one in windows], **_rendering(values)}
    try:
        found = await session.api.get(
            f"{SPREADSHEETS}/{place}/values:batchGet", params, what=f"the ranges of {place}", most=2**20
        )
    except TooLarge as error:
        raise ToolError(f"{error}: read_range gives large ranges page by page") from error
    got = [one.get("values") or [] for one in found.get("valueRanges") or ()]
    if (size := sum(len(_json(rows)) for rows in got)) > 5 * PAGE:
        raise ToolError(f"{size:,} characters are too many at once: read_range gives large ranges page by page")
    pairs = zip(windows, got, strict=False)
    return answered(ReadRanges(ranges=[RangeOfCells(range=str(one), rows=rows) for one, rows in pairs]))


def _rendering(values: Values) -> dict[str, str]:
    return {"valueRenderOption": _RENDERED[values], "dateTimeRenderOption": "FORMATTED_STRING"}


async def _values(session: Session, place: str, cells: Window, values: Values) -> list[list[Cell]]:
    found = await session.api.get(values_path(place, cells), _rendering(values), what=f"{cells}")
    rows: list[list[Cell]] = found.get("values") or []
    return rows


async def _next_filled(session: Session, place: str, rest: Window, values: Values) -> int | None:
    """The first row further down that is not empty: Google leaves out empty rows at an end, so a short page says
    nothing of what follows."""
    try:
        found = await session.api.get(values_path(place, rest), _rendering(values), what=f"{rest}", most=_PROBE)
    except TooLarge:
        return rest.top
    rows = found.get("values") or []
    return next((rest.top + index for index, row in enumerate(rows) if any(cell != "" for cell in row)), None)


def _top(cursor: str | None, whole: Window) -> int:
    if cursor is None:
        return whole.top
    if not cursor.isdecimal() or not whole.top <= int(cursor) <= whole.bottom:
        raise ToolError(f"cursor: expected next_cursor of a page of {whole}")
    return int(cursor)


def _bounded(rows: Sequence[list[Cell]], whole: Window) -> tuple[list[list[Cell]], str | None]:
    """As many of the rows as a page holds, and at least one; of that, long cells are cut."""
    shown: list[list[Cell]] = []
    size = 0
    for row in rows:
        size += len(_json(row))
        if size > PAGE and shown:
            break
        shown.append(row)
    if not shown or len(_json(shown[0])) <= PAGE or whole.width == whole.height == 1:
        return shown, None
    cut = [_cut(cell) for cell in shown[0]]
    kept = _fitting(cut)
    told = []
    if cut[:kept] != shown[0][:kept]:
        told.append(f"Cells of more than {LONGEST_CELL:,} characters are cut: read one alone to get all of it.")
    if kept < len(cut):
        told.append(f"Columns from {letters(whole.left + kept)} on are left out: ask for a range that begins there.")
    return [cut[:kept]], " ".join(told)


def _fitting(row: Sequence[Cell]) -> int:
    """How many cells of a row a page holds."""
    size = 0
    for count, cell in enumerate(row):
        size += len(_json(cell)) + 2
        if size > PAGE:
            return max(count, 1)
    return len(row)


def _cut(cell: Cell) -> Cell:
    return f"{cell[:LONGEST_CELL]}…" if isinstance(cell, str) and len(cell) > LONGEST_CELL else cell


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
