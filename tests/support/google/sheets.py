"""Fake Sheets API v4: grids of typed cells, values trimmed as Google trims them, named ranges."""

import copy
import re
from typing import Any

from tests.support.google.http import ApiError, FakeService, Request, Response

_A1 = re.compile(r"(?:'((?:[^']|'')+)'|([^!']+))(?:!([A-Z]*)(\d*)(?::([A-Z]*)(\d*))?)?")


def _parse_column(letters: str) -> int:
    value = 0
    for letter in letters:
        value = value * 26 + ord(letter) - 64
    return value


def _format_column(column: int) -> str:
    name = ""
    while column:
        column, digit = divmod(column - 1, 26)
        name = chr(65 + digit) + name
    return name


class FakeSheets:
    def __init__(self, service: FakeService) -> None:
        self.service = service
        self.books: dict[str, dict[str, Any]] = {}

    def add(self, id_: str, title: str, sheets: dict[str, list[list[Any]]], *, rows: int = 1000, columns: int = 26,
            named_ranges: dict[str, dict[str, int]] | None = None) -> None:  # fmt: skip
        self.books[id_] = {
            "spreadsheetId": id_,
            "spreadsheetUrl": f"https://docs.google.com/spreadsheets/d/{id_}/edit",
            "properties": {"title": title, "locale": "en_GB", "timeZone": "Europe/London"},
            "namedRanges": [
                {"namedRangeId": name, "name": name, "range": grid_range}
                for name, grid_range in (named_ranges or {}).items()
            ],
            "_sheets": {
                name: {
                    "id": number,
                    "rows": max(rows, len(cells)),
                    "columns": columns,
                    "cells": [list(row) for row in cells],
                }
                for number, (name, cells) in enumerate(sheets.items())
            },
        }

    def handle(self, request: Request) -> Response:
        self.service.require_enabled("sheets.googleapis.com")
        is_read = request.method == "GET"
        read_scopes = ("spreadsheets.readonly", "drive.readonly") if is_read else ()
        self.service.authorize(request, "spreadsheets", "drive", *read_scopes)
        path = request.path.removeprefix("/v4/spreadsheets")
        if path == "" and request.method == "POST":
            return Response(self._create_book(request.json()))
        match = re.fullmatch(
            r"/([^/:]+)(?:(:batchUpdate)|/sheets/(?P<copied>\d+):copyTo|/values(?::(?P<many>batchGet|batchUpdate)|/(?P<range>.+?)(?::(?P<verb>append|clear))?))?",
            path,
            re.DOTALL,
        )
        if match is None:
            raise ApiError(404, "Not found.")
        book = self.books.get(match[1])
        if book is None:
            raise ApiError(404, "Requested entity was not found.")
        if match[2]:
            return Response(self._update(book, request.json()["requests"]))
        if match["copied"]:
            return Response(self._copy_sheet(book, int(match["copied"]), request.json()["destinationSpreadsheetId"]))
        if match["many"] == "batchUpdate":
            return Response(self._write_many(book, request.json()))
        if match["many"]:
            ranges = [self._read_values(book, text, request) for text in request.query.get("ranges", ())]
            return Response({"spreadsheetId": match[1], "valueRanges": ranges})
        if match["range"] is None:
            return Response(_describe_book(book))
        match request.method, match["verb"]:
            case "GET", None:
                return Response(self._read_values(book, match["range"], request))
            case "PUT", None:
                cell_range = self._parse_range(book, match["range"])
                values, option = request.json()["values"], request.param("valueInputOption")
                return Response(self._write(book, cell_range, values, option))
            case "POST", "append":
                return Response(self._append(book, match["range"], request))
            case "POST", "clear":
                sheet, top, left, bottom, right = self._parse_range(book, match["range"])
                for row in book["_sheets"][sheet]["cells"][top - 1 : bottom]:
                    row[left - 1 : right] = [""] * len(row[left - 1 : right])
                return Response({"clearedRange": _format_range(sheet, top, left, bottom, right)})
        raise ApiError(404, "Not found.")

    def _parse_range(self, book: dict[str, Any], text: str) -> tuple[str, int, int, int, int]:
        match = _A1.fullmatch(text)
        name = (match[1].replace("''", "'") if match[1] else match[2]) if match else None
        if match is None or name not in book["_sheets"]:
            raise ApiError(400, f"Unable to parse range: {text}")
        sheet = book["_sheets"][name]
        left, top = _parse_column(match[3] or "A"), int(match[4] or 1)
        is_single = match[3] and match[5] is None
        right = left if is_single else _parse_column(match[5] or _format_column(sheet["columns"]))
        bottom = top if is_single else int(match[6] or sheet["rows"])
        if top > sheet["rows"] or left > sheet["columns"]:
            raise ApiError(
                400, f"Range ({text}) exceeds grid limits. Max rows: {sheet['rows']}, max columns: {sheet['columns']}"
            )
        return name, top, left, min(bottom, sheet["rows"]), min(right, sheet["columns"])

    def _read_values(self, book: dict[str, Any], text: str, request: Request) -> dict[str, Any]:
        sheet, top, left, bottom, right = self._parse_range(book, text)
        render_option = request.param("valueRenderOption", "FORMATTED_VALUE")
        rows = [
            [_render_cell(cell, render_option) for cell in row[left - 1 : right]]
            for row in book["_sheets"][sheet]["cells"][top - 1 : bottom]
        ]
        for row in rows:
            while row and row[-1] == "":
                row.pop()
        while rows and not rows[-1]:
            rows.pop()
        body = {"range": _format_range(sheet, top, left, bottom, right), "majorDimension": "ROWS"}
        return body | ({"values": rows} if rows else {})

    def _write_many(self, book: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        before = copy.deepcopy(book["_sheets"])
        try:
            responses = [
                self._write(book, self._parse_range(book, item["range"]), item["values"], body["valueInputOption"])
                for item in body["data"]
            ]
        except ApiError:
            book["_sheets"] = before
            raise
        return {"spreadsheetId": book["spreadsheetId"], "responses": responses}

    def _update(self, book: dict[str, Any], requests: list[dict[str, Any]]) -> dict[str, Any]:
        """Apply all requests, or none."""
        before = copy.deepcopy(book["_sheets"])
        try:
            replies = [self._apply(book, *next(iter(request.items()))) for request in requests]
        except ApiError:
            book["_sheets"] = before
            raise
        return {"spreadsheetId": book["spreadsheetId"], "replies": replies}

    def _apply(self, book: dict[str, Any], kind: str, body: dict[str, Any]) -> dict[str, Any]:
        sheets = book["_sheets"]
        by_id = {sheet["id"]: name for name, sheet in sheets.items()}

        def grid(reference: dict[str, Any]) -> dict[str, Any]:
            if reference["sheetId"] not in by_id:
                raise ApiError(400, f"No grid with id: {reference['sheetId']}")
            return sheets[by_id[reference["sheetId"]]]

        match kind:
            case "addSheet":
                return self._add_sheet(book, body["properties"])
            case "duplicateSheet":
                source = sheets[by_id[body["sourceSheetId"]]]
                added = self._add_sheet(book, {"title": body["newSheetName"]})
                sheets[body["newSheetName"]] |= {
                    name: copy.deepcopy(source[name]) for name in ("rows", "columns", "cells")
                }
                return {"duplicateSheet": {"properties": added["addSheet"]["properties"]}}
            case "deleteSheet":
                if len(sheets) == 1:
                    raise ApiError(400, "You can't remove all the sheets in a document.")
                del sheets[by_id[body["sheetId"]]]
            case "updateSheetProperties":
                properties, sheet = body["properties"], grid(body["properties"])
                names = [by_id[properties["sheetId"]] if name == "" else name for name in sheets]
                if "title" in properties:
                    new_name = properties["title"]
                    if new_name in sheets and sheets[new_name] is not sheet:
                        raise ApiError(400, f'A sheet with the name "{new_name}" already exists.')
                    book["_sheets"] = {new_name if item is sheet else name: item for name, item in sheets.items()}
                if "gridProperties" in properties:
                    sheet |= {"rows": properties["gridProperties"]["rowCount"],
                              "columns": properties["gridProperties"]["columnCount"]}  # fmt: skip
                if "index" in properties:
                    name = by_id[properties["sheetId"]]
                    place = properties["index"]
                    before, after = names[:place], names[place:]
                    order = [*(n for n in before if n != name), name, *(n for n in after if n != name)]
                    book["_sheets"] = {n: sheets[n] for n in order}
            case "insertDimension" | "deleteDimension":
                where, sheet = body["range"], grid(body["range"])
                start, end = where["startIndex"], where["endIndex"]
                size = "rows" if where["dimension"] == "ROWS" else "columns"
                is_insert = kind == "insertDimension"
                if not is_insert and end - start >= sheet[size]:
                    raise ApiError(400, f"You can't delete all the {size} on the sheet.")
                sheet[size] += (end - start) * (1 if is_insert else -1)
                for line in [sheet["cells"]] if size == "rows" else sheet["cells"]:
                    line += [[] if size == "rows" else ""] * (start - len(line))
                    line[start : start if is_insert else end] = (
                        [[] if size == "rows" else "" for _ in range(start, end)] if is_insert else []
                    )
            case "updateCells":
                sheet, start = grid(body["start"]), body["start"]
                values = [
                    [next(iter(cell.get("userEnteredValue", {"": ""}).values())) for cell in row.get("values", ())]
                    for row in body["rows"]
                ]
                name = by_id[start["sheetId"]]
                top, left = start["rowIndex"] + 1, start["columnIndex"] + 1
                self._write(book, (name, top, left, sheet["rows"], sheet["columns"]), values, "RAW")
            case "repeatCell":
                assert body["fields"] == "userEnteredFormat.numberFormat"
                grid(body["range"]).setdefault("formats", []).append((body["range"], body["cell"]["userEnteredFormat"]))
            case "sortRange":
                sheet, where = grid(body["range"]), body["range"]
                rows = sheet["cells"][where["startRowIndex"] : where["endRowIndex"]]
                for spec in reversed(body["sortSpecs"]):
                    column = spec["dimensionIndex"]
                    rows.sort(
                        key=lambda row, column=column: (str(type(row[column])), row[column]),  # type: ignore[misc]
                        reverse=spec["sortOrder"] == "DESCENDING",
                    )
                sheet["cells"][where["startRowIndex"] : where["startRowIndex"] + len(rows)] = rows
            case "findReplace":
                return self._find_replace(book, body)
            case _:
                raise ApiError(400, f"Unknown request {kind}")
        return {}

    def _find_replace(self, book: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        where = body.get("range")
        pattern = body["find"] if body["searchByRegex"] else re.escape(body["find"])
        try:
            regex = re.compile(f"^{pattern}$" if body["matchEntireCell"] else pattern, 0 if body["matchCase"] else re.I)
        except re.error as error:
            raise ApiError(400, f"Invalid requests[0].findReplace: Invalid regular expression: {error}") from None
        occurrences = changed = 0
        for sheet in book["_sheets"].values():
            if where is not None and sheet["id"] != where["sheetId"]:
                continue
            for y, row in enumerate(sheet["cells"]):
                for x, cell in enumerate(row):
                    inside = where is None or (
                        where["startRowIndex"] <= y < where["endRowIndex"]
                        and where["startColumnIndex"] <= x < where["endColumnIndex"]
                    )
                    if inside and isinstance(cell, str) and regex.search(cell):
                        row[x], count = regex.subn(body["replacement"], cell)
                        occurrences, changed = occurrences + count, changed + 1
        return {"findReplace": {"occurrencesChanged": occurrences, "valuesChanged": changed, "sheetsChanged": 1}}

    def _copy_sheet(self, book: dict[str, Any], sheet_id: int, target_id: str) -> dict[str, Any]:
        if target_id not in self.books:
            raise ApiError(404, "Requested entity was not found.")
        name, sheet = next((name, sheet) for name, sheet in book["_sheets"].items() if sheet["id"] == sheet_id)
        added = self._add_sheet(self.books[target_id], {"title": f"Copy of {name}"})
        self.books[target_id]["_sheets"][f"Copy of {name}"]["cells"] = copy.deepcopy(sheet["cells"])
        return added["addSheet"]["properties"]

    def _write(
        self, book: dict[str, Any], cell_range: tuple[str, int, int, int, int], values: list[list[Any]], option: str
    ) -> dict[str, Any]:
        sheet, top, left, bottom, right = cell_range
        if option not in {"RAW", "USER_ENTERED"}:
            raise ApiError(400, "'valueInputOption' is required but not specified")
        width = max(map(len, values))
        if (bottom, right) != (top, left) and (len(values) > bottom - top + 1 or width > right - left + 1):
            raise ApiError(
                400,
                f"Requested writing within range [{_format_range(*cell_range)}], but tried writing to row [{top + len(values)}]",
            )
        grid = book["_sheets"][sheet]
        if top + len(values) - 1 > grid["rows"] or left + width - 1 > grid["columns"]:
            raise ApiError(400, f"Range exceeds grid limits. Max rows: {grid['rows']}")
        cells = grid["cells"]
        count = 0
        for y, row in enumerate(values):
            while len(cells) < top + y:
                cells.append([])
            target_row = cells[top + y - 1]
            for x, value in enumerate(row):
                if value is None:
                    continue
                target_row += [""] * (left + x - len(target_row))
                target_row[left + x - 1] = _parse_entered(value, option)
                count += 1
        return {"spreadsheetId": book["spreadsheetId"], "updatedRows": len(values), "updatedColumns": width,
                "updatedCells": count,
                "updatedRange": _format_range(sheet, top, left, top + len(values) - 1, left + width - 1)}  # fmt: skip

    def _append(self, book: dict[str, Any], text: str, request: Request) -> dict[str, Any]:
        """Insert rows below the last table within the range, from the table's first column on."""
        sheet, top, left, bottom, right = self._parse_range(book, text)
        grid = book["_sheets"][sheet]
        tables = [
            table
            for table in _find_tables(grid["cells"])
            if table[0] <= bottom and table[1] >= top and table[2] <= right
        ]
        below, first = (tables[-1][1], tables[-1][2]) if tables else (top - 1, left)
        count = len(request.json()["values"])
        grid["cells"][below:below] = [[] for _ in range(count)]
        grid["rows"] += count
        cell_range = (sheet, below + 1, first, grid["rows"], grid["columns"])
        values, option = request.json()["values"], request.param("valueInputOption")
        return {"spreadsheetId": book["spreadsheetId"], "updates": self._write(book, cell_range, values, option)}

    def _create_book(self, body: dict[str, Any]) -> dict[str, Any]:
        id_ = f"book-{len(self.books)}"
        sheets = {}
        for sheet in body.get("sheets") or [{"properties": {"title": "Sheet1"}}]:
            rows = [
                [next(iter(cell.get("userEnteredValue", {"": ""}).values())) for cell in row.get("values", ())]
                for data in sheet.get("data", ())
                for row in data.get("rowData", ())
            ]
            grid = sheet["properties"].get("gridProperties", {"rowCount": 1000, "columnCount": 26})
            if len(rows) > grid["rowCount"] or max(map(len, rows), default=0) > grid["columnCount"]:
                raise ApiError(400, "Invalid requests: data exceeds grid limits.")
            sheets[sheet["properties"]["title"]] = rows
        self.add(id_, body["properties"]["title"], sheets, rows=grid["rowCount"], columns=grid["columnCount"])
        return _describe_book(self.books[id_])

    def _add_sheet(self, book: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
        if properties["title"] in book["_sheets"]:
            raise ApiError(
                400, f'Invalid requests[0].addSheet: A sheet with the name "{properties["title"]}" already exists.'
            )
        grid = properties.get("gridProperties", {"rowCount": 1000, "columnCount": 26})
        book["_sheets"][properties["title"]] = {
            "id": max(sheet["id"] for sheet in book["_sheets"].values()) + 1, "rows": grid["rowCount"],
            "columns": grid["columnCount"], "cells": [],
        }  # fmt: skip
        return {"addSheet": {"properties": _describe_book(book)["sheets"][-1]["properties"]}}


def _find_tables(cells: list[list[Any]]) -> list[tuple[int, int, int]]:
    """Return the blocks of consecutive rows: first row, last row, first column."""
    tables: list[tuple[int, int, int]] = []
    for row, values in enumerate(cells, 1):
        filled = [column for column, cell in enumerate(values, 1) if cell != ""]
        if filled and tables and tables[-1][1] == row - 1:
            tables[-1] = (tables[-1][0], row, min(tables[-1][2], filled[0]))
        elif filled:
            tables.append((row, row, filled[0]))
    return tables


def _format_range(sheet: str, top: int, left: int, bottom: int, right: int) -> str:
    quoted = f"'{sheet}'" if re.search(r"\W", sheet) else sheet
    first, last = f"{_format_column(left)}{top}", f"{_format_column(right)}{bottom}"
    return f"{quoted}!{first}" if first == last else f"{quoted}!{first}:{last}"


def _describe_book(book: dict[str, Any]) -> dict[str, Any]:
    sheets = [
        {"properties": {"sheetId": sheet["id"], "title": name, "index": n, "sheetType": "GRID", **({"hidden": True} if sheet.get("hidden") else {}),
                        "gridProperties": {"rowCount": sheet["rows"], "columnCount": sheet["columns"]}},
         **({"charts": sheet["charts"]} if sheet.get("charts") else {})}
        for n, (name, sheet) in enumerate(book["_sheets"].items())
    ]  # fmt: skip
    return {name: value for name, value in book.items() if not name.startswith("_")} | {"sheets": sheets}


def _render_cell(cell: Any, option: str) -> Any:
    if isinstance(cell, dict):  # a formula and its value
        return cell["formula"] if option == "FORMULA" else _render_cell(cell["value"], option)
    if option != "FORMATTED_VALUE" or cell == "":
        return cell
    return ("TRUE" if cell else "FALSE") if isinstance(cell, bool) else str(cell)


def _parse_entered(value: Any, option: str) -> Any:
    if option == "USER_ENTERED" and isinstance(value, str):
        if value.startswith("="):
            return {"formula": value, "value": 0}
        if re.fullmatch(r"-?\d+(\.\d+)?", value):
            return float(value)
    return value
