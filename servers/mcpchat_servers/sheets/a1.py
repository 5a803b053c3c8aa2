"""A1 notation: parses ranges, resolves them against a spreadsheet's sheets and named ranges, formats them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcp.server.mcpserver.exceptions import ToolError

_CELLS = re.compile(
    r"\$?(?P<left>[A-Za-z]{1,3})?\$?(?P<top>[1-9][0-9]{0,7})?"
    r"(?P<rest>:\$?(?P<right>[A-Za-z]{1,3})?\$?(?P<bottom>[1-9][0-9]{0,7})?)?"
)
_QUOTED_SHEET = re.compile(r"'((?:[^']|'')+)'(?:!(.*))?", re.DOTALL)


@dataclass(frozen=True)
class Sheet:
    """A sheet's title and size."""

    title: str
    rows: int
    columns: int


@dataclass(frozen=True)
class CellRange:
    """Cells of one sheet. Rows and columns count from 1; ``bottom`` and ``right`` are inclusive."""

    sheet: str
    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top + 1

    @property
    def width(self) -> int:
        return self.right - self.left + 1

    def with_rows(self, top: int, bottom: int) -> "CellRange":
        """Return a range with the same columns and other rows."""
        return CellRange(self.sheet, top, self.left, bottom, self.right)

    def __str__(self) -> str:
        first, last = f"{format_column(self.left)}{self.top}", f"{format_column(self.right)}{self.bottom}"
        quoted = self.sheet.replace("'", "''")
        return f"'{quoted}'!{first}" if first == last else f"'{quoted}'!{first}:{last}"


def format_column(column: int) -> str:
    """Return a column's letters: 1 is A, 27 is AA."""
    name = ""
    while column:
        column, digit = divmod(column - 1, 26)
        name = chr(ord("A") + digit) + name
    return name


def parse_column(column: str) -> int:
    """Return a column's number: A is 1, AA is 27."""
    value = 0
    for letter in column.upper():
        value = value * 26 + ord(letter) - ord("A") + 1
    return value


def parse_range(text: str, sheets: Sequence[Sheet], named_ranges: Mapping[str, CellRange]) -> CellRange:
    """Resolve a range in a spreadsheet: cells, a sheet's name, or one of ``named_ranges``.

    Cells without a sheet are in the first one; open ranges end at the sheet's last row or column. Raises ToolError if
    the range is invalid, ambiguous or outside the sheet.
    """
    if not sheets:
        raise ToolError("the spreadsheet has no sheet with cells")
    text = text.strip()
    titled_sheet = _find_sheet(text, sheets)
    named_range = next((cell_range for name, cell_range in named_ranges.items() if name.lower() == text.lower()), None)
    title, cells = _split_sheet(text)
    is_range = _is_cells(text) or (title is not None and _find_sheet(title, sheets) is not None and _is_cells(cells))
    if titled_sheet is not None and (named_range is not None or (is_range and not text.startswith("'"))):
        quoted = titled_sheet.title.replace("'", "''")
        first = (title or sheets[0].title).replace("'", "''")
        alternative = f"{named_range}" if named_range is not None else f"'{first}'!{cells}"
        raise ToolError(f"{text!r} is ambiguous: write '{quoted}' for the sheet, or {alternative}")
    if named_range is not None:
        return named_range
    title, cells = (titled_sheet.title, "") if titled_sheet is not None else _split_sheet(text)
    if titled_sheet is None and title is not None and text.endswith("!"):
        raise ToolError(f'{text[:100]!r}: expected cells after the "!", or the sheet\'s name without it')
    if title is None and not _is_cells(cells):
        raise ToolError(
            f"{text[:100]!r} is neither cells, such as A1:C10 or 'My sheet'!A:C, nor a sheet or a named range; there "
            f"are the sheets {', '.join(candidate.title for candidate in sheets[:30])}"
            + (f" and the ranges {', '.join([*named_ranges][:30])}" if named_ranges else "")
        )
    sheet = sheets[0] if title is None else _find_sheet(title, sheets)
    if sheet is None:
        available = ", ".join(candidate.title for candidate in sheets[:30])
        raise ToolError(f"no sheet is named {title!r}; the spreadsheet has: {available}")
    if not cells:
        return CellRange(sheet.title, 1, 1, max(sheet.rows, 1), max(sheet.columns, 1))
    return _parse_cells(text, cells, sheet)


def _split_sheet(text: str) -> tuple[str | None, str]:
    """Split a range into the sheet's title (None if there is none) and the cells."""
    if quoted := _QUOTED_SHEET.fullmatch(text):
        return quoted[1].replace("''", "'"), quoted[2] or ""
    title, separator, cells = text.rpartition("!")
    return (title, cells) if separator else (None, text)


def _is_cells(text: str) -> bool:
    match = _CELLS.fullmatch(text)
    return match is not None and bool((match["top"] and match["left"]) or match["rest"])


def _find_sheet(title: str, sheets: Sequence[Sheet]) -> Sheet | None:
    return next((sheet for sheet in sheets if sheet.title.lower() == title.lower()), None)


def _parse_cells(text: str, cells: str, sheet: Sheet) -> CellRange:
    match = _CELLS.fullmatch(cells)
    if not _is_cells(cells) or match is None:
        raise ToolError(f"{text[:100]!r} is not a range: write it like A1:C10, Sheet1!A:C, 'My sheet'!2:5, or Sheet1")
    left, top = match["left"], match["top"]
    right, bottom = (match["right"], match["bottom"]) if match["rest"] else (left, top)
    if not (right or bottom) or (bool(right) != bool(left) and not bottom):
        raise ToolError(f"{text[:100]!r} is not a range: the part after the colon is incomplete")
    if left and not right and parse_column(left) > sheet.columns:
        raise ToolError(
            f"{text[:100]!r} lies outside the sheet {sheet.title!r}, which has columns A to "
            f"{format_column(sheet.columns)}"
        )
    columns = sorted((parse_column(left) if left else 1, parse_column(right) if right else sheet.columns))
    rows = sorted((int(top) if top else 1, int(bottom) if bottom else sheet.rows))
    if top and not bottom and int(top) > sheet.rows:
        rows = [int(top), int(top)]
    if columns[0] > sheet.columns or rows[0] > sheet.rows:
        raise ToolError(
            f"{text[:100]!r} lies outside the sheet {sheet.title!r}, which has {sheet.rows} rows and columns A to "
            f"{format_column(sheet.columns)}"
        )
    return CellRange(sheet.title, rows[0], columns[0], min(rows[1], sheet.rows), min(columns[1], sheet.columns))
