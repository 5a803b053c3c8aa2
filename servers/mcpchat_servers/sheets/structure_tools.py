"""Sheets tools for the structure of a spreadsheet: rows, columns, whole sheets."""

import re
from typing import Annotated, Any, Literal

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import BaseModel, Field

from mcpchat_servers.google.ids import FileId, parse_file_id
from mcpchat_servers.google.server import Ctx, build_result, get_session
from mcpchat_servers.sheets.a1 import CellRange, format_column, parse_column, parse_range
from mcpchat_servers.sheets.api_calls import (
    SPREADSHEETS_PATH,
    SheetInfo,
    Title,
    batch_update,
    fetch_if_titled,
    find_sheet,
    parse_layout,
    parse_sheet,
)
from mcpchat_servers.sheets.server import server

_ROWS = re.compile(r"\$?\d+:\$?\d+")
_COLUMNS = re.compile(r"\$?[A-Za-z]+:\$?[A-Za-z]+")
SheetName = Annotated[str, Field(description="The sheet's name.", min_length=1, max_length=200)]
NewName = Annotated[str, Field(min_length=1, max_length=100)]
RowsOrColumns = Annotated[
    str,
    Field(
        description="Whole rows or columns in A1 notation.",
        min_length=3,
        max_length=300,
        examples=["Sheet1!5:7", "'My sheet'!B:C"],
    ),
]


class DimensionResult(BaseModel):
    """The rows or columns that were inserted or deleted."""

    range: str
    dimension: Literal["rows", "columns"]
    count: int


class DeleteSheetResult(BaseModel):
    """A sheet that was deleted, with its cells."""

    spreadsheet_id: str
    sheet: str


@server.write_tool("Insert rows or columns", deferred=True)
async def insert_rows_or_columns(
    ctx: Ctx,
    spreadsheet_id: FileId,
    title: Title,
    range: RowsOrColumns,  # noqa: A002
) -> Annotated[CallToolResult, DimensionResult]:
    """Insert empty rows or columns. They take the place of the range, whose cells move down or to the right."""
    return await _change_dimension(ctx, spreadsheet_id, title, range, "insertDimension", {"inheritFromBefore": False})


@server.write_tool("Delete rows or columns", destructive=True, deferred=True)
async def delete_rows_or_columns(
    ctx: Ctx,
    spreadsheet_id: FileId,
    title: Title,
    range: RowsOrColumns,  # noqa: A002
) -> Annotated[CallToolResult, DimensionResult]:
    """Delete whole rows or columns with their cells."""
    return await _change_dimension(ctx, spreadsheet_id, title, range, "deleteDimension", {})


async def _change_dimension(
    ctx: Ctx, spreadsheet_id: str, title: str, text: str, kind: str, options: dict[str, Any]
) -> CallToolResult:
    session, file_id = get_session(ctx), parse_file_id(spreadsheet_id)
    cells = text.rpartition("!")[2]
    if not _ROWS.fullmatch(cells) and not _COLUMNS.fullmatch(cells):
        raise ToolError(f"{text[:100]!r} is neither rows, such as Sheet1!5:7, nor columns, such as Sheet1!B:C")
    is_rows = bool(_ROWS.fullmatch(cells))
    raw = await fetch_if_titled(session, file_id, title)
    target = parse_range(text, *parse_layout(raw))
    first, last = (target.top, target.bottom) if is_rows else (target.left, target.right)
    wanted = [int(part) if is_rows else parse_column(part) for part in cells.replace("$", "").split(":")]
    if max(wanted) > last:
        size = f"{last} rows" if is_rows else f"the columns A to {format_column(last)}"
        raise ToolError(f"{text[:100]!r} ends beyond the sheet, which has {size}")
    dimension = {
        "sheetId": find_sheet(raw, target.sheet).id,
        "dimension": "ROWS" if is_rows else "COLUMNS",
        "startIndex": first - 1,
        "endIndex": last,
    }
    await batch_update(session, file_id, [{kind: {"range": dimension, **options}}], what=str(target))
    return build_result(
        DimensionResult(
            range=_format_dimension(target, is_rows=is_rows),
            dimension="rows" if is_rows else "columns",
            count=last - first + 1,
        )
    )


def _format_dimension(target: CellRange, *, is_rows: bool) -> str:
    sheet, cells = str(target).rsplit("!", 1)
    if is_rows:
        return f"{sheet}!{target.top}:{target.bottom}"
    first, _, last = re.sub(r"\d", "", cells).partition(":")
    return f"{sheet}!{first}:{last or first}"


@server.write_tool("Rename a sheet", idempotent=True, deferred=True)
async def rename_sheet(
    ctx: Ctx, spreadsheet_id: FileId, title: Title, sheet: SheetName, new_name: NewName
) -> Annotated[CallToolResult, SheetInfo]:
    """Rename a sheet of a spreadsheet. Formulas that refer to it are adapted."""
    session, file_id = get_session(ctx), parse_file_id(spreadsheet_id)
    raw = await fetch_if_titled(session, file_id, title)
    info = find_sheet(raw, sheet)
    properties = {"sheetId": info.id, "title": new_name}
    await batch_update(
        session, file_id, [{"updateSheetProperties": {"properties": properties, "fields": "title"}}],
        what=f"the sheet {sheet!r}", retryable=True,
    )  # fmt: skip
    return build_result(info.model_copy(update={"title": new_name}))


@server.write_tool("Move a sheet", idempotent=True, deferred=True)
async def move_sheet(
    ctx: Ctx,
    spreadsheet_id: FileId,
    title: Title,
    sheet: SheetName,
    position: Annotated[int, Field(description="1 is the first.", ge=1, le=200)],
) -> Annotated[CallToolResult, SheetInfo]:
    """Move a sheet to another place among the tabs."""
    session, file_id = get_session(ctx), parse_file_id(spreadsheet_id)
    raw = await fetch_if_titled(session, file_id, title)
    info, titles = find_sheet(raw, sheet), [item["properties"].get("title") for item in raw.get("sheets") or ()]
    if position > len(titles):
        raise ToolError(f"position: the spreadsheet has {len(titles)} sheets")
    # Google counts the places before the sheet is taken out of its own.
    index = position if position - 1 > titles.index(info.title) else position - 1
    properties = {"sheetId": info.id, "index": index}
    await batch_update(
        session, file_id, [{"updateSheetProperties": {"properties": properties, "fields": "index"}}],
        what=f"the sheet {sheet!r}", retryable=True,
    )  # fmt: skip
    return build_result(info)


@server.write_tool("Copy a sheet", deferred=True)
async def copy_sheet(
    ctx: Ctx,
    spreadsheet_id: FileId,
    title: Title,
    sheet: SheetName,
    new_name: NewName,
    target_spreadsheet_id: Annotated[
        str | None, Field(description="Id or link of another spreadsheet to copy it into.", max_length=2000)
    ] = None,
    target_title: Annotated[
        str | None, Field(description="The title of the other spreadsheet, for the user to see.", max_length=500)
    ] = None,
) -> Annotated[CallToolResult, SheetInfo]:
    """Copy a sheet within its spreadsheet, or into another one."""
    session, file_id = get_session(ctx), parse_file_id(spreadsheet_id)
    info = find_sheet(await fetch_if_titled(session, file_id, title), sheet)
    target = parse_file_id(target_spreadsheet_id) if target_spreadsheet_id else file_id
    if target == file_id:
        request = {"duplicateSheet": {"sourceSheetId": info.id, "newSheetName": new_name}}
        replies = await batch_update(session, file_id, [request], what=f"the sheet {new_name!r}")
        return build_result(parse_sheet(replies[0]["duplicateSheet"]["properties"]))
    if not target_title:
        raise ToolError("target_title: expected, for the user to see where the copy goes")
    other = await fetch_if_titled(session, target, target_title)
    titles = [item["properties"].get("title") for item in other.get("sheets") or ()]
    if new_name in titles:
        raise ToolError(f"new_name: the other spreadsheet has a sheet {new_name!r} already; nothing was copied")
    copied = parse_sheet(
        await session.api.change(
            "POST",
            f"{SPREADSHEETS_PATH}/{file_id}/sheets/{info.id}:copyTo",
            {"destinationSpreadsheetId": target},
            what=f"the sheet {sheet!r}",
            retryable=False,
        )
    )
    properties = {"sheetId": copied.id, "title": new_name}
    await batch_update(
        session, target, [{"updateSheetProperties": {"properties": properties, "fields": "title"}}],
        what=f"the copy {copied.title!r}, which could not be renamed", retryable=True,
    )  # fmt: skip
    return build_result(copied.model_copy(update={"title": new_name}))


@server.write_tool("Delete a sheet", destructive=True, deferred=True)
async def delete_sheet(
    ctx: Ctx, spreadsheet_id: FileId, title: Title, sheet: SheetName
) -> Annotated[CallToolResult, DeleteSheetResult]:
    """Delete a sheet with all of its cells."""
    session, file_id = get_session(ctx), parse_file_id(spreadsheet_id)
    raw = await fetch_if_titled(session, file_id, title)
    info = find_sheet(raw, sheet)
    if len(raw.get("sheets") or ()) == 1:
        raise ToolError(f"{sheet!r} is the only sheet: a spreadsheet needs one")
    await batch_update(session, file_id, [{"deleteSheet": {"sheetId": info.id}}], what=f"the sheet {sheet!r}")
    return build_result(DeleteSheetResult(spreadsheet_id=file_id, sheet=info.title))
