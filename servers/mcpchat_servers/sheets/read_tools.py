"""Sheets tools that change nothing: spreadsheet metadata, ranges, pages of rows."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Annotated, Literal

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import BaseModel, Field

from mcpchat_servers.google.api import TooLarge
from mcpchat_servers.google.ids import FileId, parse_file_id
from mcpchat_servers.google.server import Ctx, Cursor, Session, build_result, get_session
from mcpchat_servers.sheets.a1 import CellRange, format_column, parse_range
from mcpchat_servers.sheets.api_calls import (
    CHART_FIELDS,
    SPREADSHEET_FIELDS,
    SPREADSHEETS_PATH,
    Cell,
    Range,
    Spreadsheet,
    fetch_spreadsheet,
    parse_layout,
    parse_spreadsheet,
    resolve_range,
    values_path,
)
from mcpchat_servers.sheets.server import server

MAX_PAGE_CELLS = 10_000
PAGE_LENGTH = 20_000  # characters of a page
MAX_CELL_LENGTH = 1000  # characters of a cell, if a single row is longer than a page
_PROBE_BYTES = 65_536  # enough to see if there are more rows further down

ValueRendering = Literal["typed", "formatted", "formulas"]
_RENDER_OPTIONS = {"typed": "UNFORMATTED_VALUE", "formatted": "FORMATTED_VALUE", "formulas": "FORMULA"}


class RangeOfCells(BaseModel):
    """Cells, row by row. Empty cells at the end of a row, and empty rows at the end, are left out."""

    range: str
    rows: list[list[Cell]]


class RangePage(RangeOfCells):
    """A page of a range."""

    first_row: Annotated[int, Field(description="The number of the first row on this page, from 1.")]
    next_cursor: Annotated[str | None, Field(description="For the next page; missing at the end.")] = None
    note: str | None = None


class CsvPage(BaseModel):
    """A page of a range as CSV."""

    range: str
    csv: str
    next_cursor: Annotated[str | None, Field(description="For the next page; missing at the end.")] = None
    note: str | None = None


class RangesResult(BaseModel):
    ranges: list[RangeOfCells]


@server.read_tool("Get a spreadsheet's sheets")
async def get_spreadsheet(ctx: Ctx, spreadsheet_id: FileId) -> Annotated[CallToolResult, Spreadsheet]:
    """Get a spreadsheet's title, its sheets with their sizes, its named ranges and charts; no cells."""
    fields = f"{SPREADSHEET_FIELDS},{CHART_FIELDS}"
    raw = await fetch_spreadsheet(get_session(ctx), parse_file_id(spreadsheet_id), fields)
    return build_result(parse_spreadsheet(raw))


@server.read_tool("Read a range")
async def read_range(
    ctx: Ctx,
    spreadsheet_id: FileId,
    range: Range,  # noqa: A002 - Google's term
    values: Annotated[
        ValueRendering,
        Field(description='"typed": numbers and booleans as such; "formatted": as shown; "formulas": as entered.'),
    ] = "typed",
    max_rows: Annotated[int, Field(description="Rows of a page.", ge=1, le=5000)] = 500,
    cursor: Cursor = None,
) -> Annotated[CallToolResult, RangePage]:
    """Read the cells of a range, one page of rows at a time."""
    value = await _read_page(get_session(ctx), parse_file_id(spreadsheet_id), range, values, max_rows, cursor)
    lines = [f"{value.first_row + index}: {_to_json(row)}" for index, row in enumerate(value.rows)] or [
        f"(the rows from {value.first_row} on are empty)"
    ]
    footer = f"\n[more rows: cursor={value.next_cursor}]" if value.next_cursor is not None else ""
    return build_result(
        value, f"{value.range}\n" + "\n".join(lines) + footer + (f"\n[{value.note}]" if value.note else "")
    )


async def _read_page(
    session: Session, file_id: str, text: str, values: ValueRendering, max_rows: int, cursor: str | None
) -> RangePage:
    """Read a page of the rows of a range. Raises ToolError."""
    full_range = await resolve_range(session, file_id, text)
    top = _parse_cursor(cursor, full_range)
    row_count = max(1, min(max_rows, MAX_PAGE_CELLS // full_range.width, full_range.bottom - top + 1))
    page = full_range.with_rows(top, top + row_count - 1)
    rows = await _fetch_values(session, file_id, page, values)
    page_rows, note = _fit_page(rows, full_range)
    if len(page_rows) < len(rows):
        next_row: int | None = top + len(page_rows)
    elif page.bottom == full_range.bottom:
        next_row = None
    elif len(rows) == row_count:
        next_row = page.bottom + 1
    else:
        next_row = await _find_next_row(
            session, file_id, full_range.with_rows(page.bottom + 1, full_range.bottom), values
        )
    page = full_range.with_rows(top, top + len(page_rows) - 1) if page_rows else page
    return RangePage(
        range=str(page),
        first_row=top,
        rows=page_rows,
        next_cursor=None if next_row is None else str(next_row),
        note=note,
    )


@server.read_tool("Read a range as CSV", deferred=True)
async def read_csv(
    ctx: Ctx,
    spreadsheet_id: FileId,
    range: Range,  # noqa: A002
    values: ValueRendering = "formatted",
    max_rows: Annotated[int, Field(description="Rows of a page.", ge=1, le=5000)] = 1000,
    cursor: Cursor = None,
) -> Annotated[CallToolResult, CsvPage]:
    """Read the cells of a range as CSV (RFC 4180), one page of rows at a time."""
    page = await _read_page(get_session(ctx), parse_file_id(spreadsheet_id), range, values, max_rows, cursor)
    text = io.StringIO()
    csv.writer(text).writerows([map(_to_csv, row) for row in page.rows])
    value = CsvPage(range=page.range, csv=text.getvalue(), next_cursor=page.next_cursor, note=page.note)
    footer = f"[more rows: cursor={page.next_cursor}]" if page.next_cursor is not None else ""
    return build_result(value, text.getvalue() + footer + (f"\n[{page.note}]" if page.note else ""))


def _to_csv(cell: Cell) -> str:
    if isinstance(cell, bool):
        return str(cell).upper()
    return "" if cell is None else str(cell)


@server.read_tool("Read several ranges")
async def read_ranges(
    ctx: Ctx,
    spreadsheet_id: FileId,
    ranges: Annotated[list[Range], Field(min_length=1, max_length=20)],
    values: ValueRendering = "typed",
) -> Annotated[CallToolResult, RangesResult]:
    """Read the cells of several small ranges at once. For large ranges use read_range, which returns pages."""
    session, file_id = get_session(ctx), parse_file_id(spreadsheet_id)
    layout = parse_layout(await fetch_spreadsheet(session, file_id))
    cell_ranges = [parse_range(text, *layout) for text in ranges]
    params = {"ranges": [str(cell_range) for cell_range in cell_ranges], **_render_params(values)}
    try:
        response = await session.api.get(
            f"{SPREADSHEETS_PATH}/{file_id}/values:batchGet", params, what=f"the ranges of {file_id}", max_bytes=2**20
        )
    except TooLarge as error:
        raise ToolError(f"{error}: read_range returns large ranges page by page") from error
    row_lists = [item.get("values") or [] for item in response.get("valueRanges") or ()]
    if (size := sum(len(_to_json(rows)) for rows in row_lists)) > 5 * PAGE_LENGTH:
        raise ToolError(f"{size:,} characters are too many at once: read_range returns large ranges page by page")
    pairs = zip(cell_ranges, row_lists, strict=False)
    return build_result(
        RangesResult(ranges=[RangeOfCells(range=str(cell_range), rows=rows) for cell_range, rows in pairs])
    )


def _render_params(values: ValueRendering) -> dict[str, str]:
    return {"valueRenderOption": _RENDER_OPTIONS[values], "dateTimeRenderOption": "FORMATTED_STRING"}


async def _fetch_values(
    session: Session, spreadsheet_id: str, cell_range: CellRange, values: ValueRendering
) -> list[list[Cell]]:
    response = await session.api.get(
        values_path(spreadsheet_id, cell_range), _render_params(values), what=f"{cell_range}"
    )
    rows: list[list[Cell]] = response.get("values") or []
    return rows


async def _find_next_row(
    session: Session, spreadsheet_id: str, remaining: CellRange, values: ValueRendering
) -> int | None:
    """Return the next row that is not empty, or None.

    Google leaves out empty rows at the end of a range, so a short page does not mean that no rows follow.
    """
    try:
        response = await session.api.get(
            values_path(spreadsheet_id, remaining), _render_params(values), what=f"{remaining}", max_bytes=_PROBE_BYTES
        )
    except TooLarge:
        return remaining.top
    rows = response.get("values") or []
    return next((remaining.top + index for index, row in enumerate(rows) if any(cell != "" for cell in row)), None)


def _parse_cursor(cursor: str | None, full_range: CellRange) -> int:
    if cursor is None:
        return full_range.top
    if not cursor.isdecimal() or not full_range.top <= int(cursor) <= full_range.bottom:
        raise ToolError(f"cursor: expected next_cursor of a page of {full_range}")
    return int(cursor)


def _fit_page(rows: Sequence[list[Cell]], full_range: CellRange) -> tuple[list[list[Cell]], str | None]:
    """Return as many rows as fit on a page, at least one, and a note.

    If the first row alone does not fit, its long cells are cut and its last cells left out; the note says so.
    """
    page: list[list[Cell]] = []
    size = 0
    for row in rows:
        size += len(_to_json(row))
        if size > PAGE_LENGTH and page:
            break
        page.append(row)
    if not page or len(_to_json(page[0])) <= PAGE_LENGTH or full_range.width == full_range.height == 1:
        return page, None
    cut = [_truncate_cell(cell) for cell in page[0]]
    cell_count = _count_fitting(cut)
    notes = []
    if cut[:cell_count] != page[0][:cell_count]:
        notes.append(f"Cells of more than {MAX_CELL_LENGTH:,} characters are cut: read one alone to get its full text.")
    if cell_count < len(cut):
        notes.append(
            f"Columns from {format_column(full_range.left + cell_count)} on are left out: "
            "read a range that starts there."
        )
    return [cut[:cell_count]], " ".join(notes)


def _count_fitting(row: Sequence[Cell]) -> int:
    """Return how many cells of a row fit on a page, at least one."""
    size = 0
    for count, cell in enumerate(row):
        size += len(_to_json(cell)) + 2
        if size > PAGE_LENGTH:
            return max(count, 1)
    return len(row)


def _truncate_cell(cell: Cell) -> Cell:
    return f"{cell[:MAX_CELL_LENGTH]}…" if isinstance(cell, str) and len(cell) > MAX_CELL_LENGTH else cell


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
