"""Sheets v4: grids of typed cells, values trimmed as Google trims them, named ranges."""

import re
from typing import Any

from tests.google.http import Answer, Error, Request, Service

_A1 = re.compile(r"(?:'((?:[^']|'')+)'|([^!']+))(?:!([A-Z]*)(\d*)(?::([A-Z]*)(\d*))?)?")


def _column(letters: str) -> int:
    value = 0
    for letter in letters:
        value = value * 26 + ord(letter) - 64
    return value


def _letters(column: int) -> str:
    name = ""
    while column:
        column, digit = divmod(column - 1, 26)
        name = chr(65 + digit) + name
    return name


class Sheets:
    def __init__(self, service: Service) -> None:
        self.service = service
        self.books: dict[str, dict[str, Any]] = {}

    def add(self, id_: str, title: str, sheets: dict[str, list[list[Any]]], *, rows: int = 1000, columns: int = 26,
            named: dict[str, dict[str, int]] | None = None) -> None:  # fmt: skip
        self.books[id_] = {
            "spreadsheetId": id_,
            "spreadsheetUrl": f"https://docs.google.com/spreadsheets/d/{id_}/edit",
            "properties": {"title": title, "locale": "en_GB", "timeZone": "Europe/London"},
            "namedRanges": [
                {"namedRangeId": name, "name": name, "range": where} for name, where in (named or {}).items()
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

    def handle(self, request: Request) -> Answer:
        self.service.enabled("sheets.googleapis.com")
        reading = request.method == "GET"
        extra = ("spreadsheets.readonly", "drive.readonly") if reading else ()
        self.service.authorize(request, "spreadsheets", "drive", *extra)
        path = request.path.removeprefix("/v4/spreadsheets")
        if path == "" and request.method == "POST":
            return Answer(self._created(request.json()))
        found = re.fullmatch(
            r"/([^/:]+)(?:(:batchUpdate)|/values(?::(batchGet)|/(.+?)(?::(append|clear))?))?", path, re.DOTALL
        )
        if found is None:
            raise Error(404, "Not found.")
        book = self.books.get(found[1])
        if book is None:
            raise Error(404, "Requested entity was not found.")
        if found[2]:
            return Answer(self._added(book, request.json()["requests"][0]["addSheet"]["properties"]))
        if found[3]:
            ranges = [self._values(book, one, request) for one in request.query.get("ranges", ())]
            return Answer({"spreadsheetId": found[1], "valueRanges": ranges})
        if found[4] is None:
            return Answer(_described(book))
        match request.method, found[5]:
            case "GET", None:
                return Answer(self._values(book, found[4], request))
            case "PUT", None:
                return Answer(self._write(book, self._place(book, found[4]), request))
            case "POST", "append":
                return Answer(self._append(book, found[4], request))
            case "POST", "clear":
                sheet, top, left, bottom, right = self._place(book, found[4])
                for row in book["_sheets"][sheet]["cells"][top - 1 : bottom]:
                    row[left - 1 : right] = [""] * len(row[left - 1 : right])
                return Answer({"clearedRange": _named(sheet, top, left, bottom, right)})
        raise Error(404, "Not found.")

    def _place(self, book: dict[str, Any], text: str) -> tuple[str, int, int, int, int]:
        found = _A1.fullmatch(text)
        name = (found[1].replace("''", "'") if found[1] else found[2]) if found else None
        if found is None or name not in book["_sheets"]:
            raise Error(400, f"Unable to parse range: {text}")
        sheet = book["_sheets"][name]
        left, top = _column(found[3] or "A"), int(found[4] or 1)
        single = found[3] and found[5] is None
        right = left if single else _column(found[5] or _letters(sheet["columns"]))
        bottom = top if single else int(found[6] or sheet["rows"])
        if top > sheet["rows"] or left > sheet["columns"]:
            raise Error(
                400, f"Range ({text}) exceeds grid limits. Max rows: {sheet['rows']}, max columns: {sheet['columns']}"
            )
        return name, top, left, min(bottom, sheet["rows"]), min(right, sheet["columns"])

    def _values(self, book: dict[str, Any], text: str, request: Request) -> dict[str, Any]:
        sheet, top, left, bottom, right = self._place(book, text)
        rendered = request.one("valueRenderOption", "FORMATTED_VALUE")
        rows = [
            [_rendered(cell, rendered) for cell in row[left - 1 : right]]
            for row in book["_sheets"][sheet]["cells"][top - 1 : bottom]
        ]
        for row in rows:
            while row and row[-1] == "":
                row.pop()
        while rows and not rows[-1]:
            rows.pop()
        body = {"range": _named(sheet, top, left, bottom, right), "majorDimension": "ROWS"}
        return body | ({"values": rows} if rows else {})

    def _write(self, book: dict[str, Any], place: tuple[str, int, int, int, int], request: Request) -> dict[str, Any]:
        sheet, top, left, bottom, right = place
        values = request.json()["values"]
        option = request.one("valueInputOption")
        if option not in {"RAW", "USER_ENTERED"}:
            raise Error(400, "'valueInputOption' is required but not specified")
        width = max(map(len, values))
        if (bottom, right) != (top, left) and (len(values) > bottom - top + 1 or width > right - left + 1):
            raise Error(
                400,
                f"Requested writing within range [{_named(*place)}], but tried writing to row [{top + len(values)}]",
            )
        own_sheet = book["_sheets"][sheet]
        if top + len(values) - 1 > own_sheet["rows"] or left + width - 1 > own_sheet["columns"]:
            raise Error(400, f"Range exceeds grid limits. Max rows: {own_sheet['rows']}")
        cells = own_sheet["cells"]
        count = 0
        for y, row in enumerate(values):
            while len(cells) < top + y:
                cells.append([])
            own = cells[top + y - 1]
            for x, value in enumerate(row):
                if value is None:
                    continue
                own += [""] * (left + x - len(own))
                own[left + x - 1] = _entered(value, option)
                count += 1
        return {"spreadsheetId": book["spreadsheetId"], "updatedRows": len(values), "updatedColumns": width,
                "updatedCells": count,
                "updatedRange": _named(sheet, top, left, top + len(values) - 1, left + width - 1)}  # fmt: skip

    def _append(self, book: dict[str, Any], text: str, request: Request) -> dict[str, Any]:
        """Below the last table within the range, from that table's first column on; what is further down moves."""
        sheet, top, left, bottom, right = self._place(book, text)
        own = book["_sheets"][sheet]
        tables = [one for one in _tables(own["cells"]) if one[0] <= bottom and one[1] >= top and one[2] <= right]
        below, first = (tables[-1][1], tables[-1][2]) if tables else (top - 1, left)
        count = len(request.json()["values"])
        own["cells"][below:below] = [[] for _ in range(count)]
        own["rows"] += count
        place = (sheet, below + 1, first, own["rows"], own["columns"])
        return {"spreadsheetId": book["spreadsheetId"], "updates": self._write(book, place, request)}

    def _created(self, body: dict[str, Any]) -> dict[str, Any]:
        id_ = f"book-{len(self.books)}"
        sheets = {}
        for one in body.get("sheets") or [{"properties": {"title": "Sheet1"}}]:
            rows = [
                [next(iter(cell.get("userEnteredValue", {"": ""}).values())) for cell in row.get("values", ())]
                for data in one.get("data", ())
                for row in data.get("rowData", ())
            ]
            grid = one["properties"].get("gridProperties", {"rowCount": 1000, "columnCount": 26})
            if len(rows) > grid["rowCount"] or max(map(len, rows), default=0) > grid["columnCount"]:
                raise Error(400, "Invalid requests: data exceeds grid limits.")
            sheets[one["properties"]["title"]] = rows
        self.add(id_, body["properties"]["title"], sheets, rows=grid["rowCount"], columns=grid["columnCount"])
        return _described(self.books[id_])

    def _added(self, book: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
        if properties["title"] in book["_sheets"]:
            raise Error(
                400, f'Invalid requests[0].addSheet: A sheet with the name "{properties["title"]}" already exists.'
            )
        grid = properties["gridProperties"]
        book["_sheets"][properties["title"]] = {
            "id": len(book["_sheets"]), "rows": grid["rowCount"], "columns": grid["columnCount"], "cells": [],
        }  # fmt: skip
        made = _described(book)["sheets"][-1]["properties"]
        return {"spreadsheetId": book["spreadsheetId"], "replies": [{"addSheet": {"properties": made}}]}


def _tables(cells: list[list[Any]]) -> list[tuple[int, int, int]]:
    """The blocks of rows without a gap: first row, last row, first column."""
    tables: list[tuple[int, int, int]] = []
    for row, values in enumerate(cells, 1):
        filled = [column for column, cell in enumerate(values, 1) if cell != ""]
        if filled and tables and tables[-1][1] == row - 1:
            tables[-1] = (tables[-1][0], row, min(tables[-1][2], filled[0]))
        elif filled:
            tables.append((row, row, filled[0]))
    return tables


def _named(sheet: str, top: int, left: int, bottom: int, right: int) -> str:
    quoted = f"'{sheet}'" if re.search(r"\W", sheet) else sheet
    first, last = f"{_letters(left)}{top}", f"{_letters(right)}{bottom}"
    return f"{quoted}!{first}" if first == last else f"{quoted}!{first}:{last}"


def _described(book: dict[str, Any]) -> dict[str, Any]:
    sheets = [
        {"properties": {"sheetId": one["id"], "title": name, "index": n, "sheetType": "GRID", **({"hidden": True} if one.get("hidden") else {}),
                        "gridProperties": {"rowCount": one["rows"], "columnCount": one["columns"]}}}
        for n, (name, one) in enumerate(book["_sheets"].items())
    ]  # fmt: skip
    return {name: value for name, value in book.items() if not name.startswith("_")} | {"sheets": sheets}


def _rendered(cell: Any, option: str) -> Any:
    if isinstance(cell, dict):  # a formula and its value
        return cell["formula"] if option == "FORMULA" else _rendered(cell["value"], option)
    if option != "FORMATTED_VALUE" or cell == "":
        return cell
    return ("TRUE" if cell else "FALSE") if isinstance(cell, bool) else str(cell)


def _entered(value: Any, option: str) -> Any:
    if option == "USER_ENTERED" and isinstance(value, str):
        if value.startswith("="):
            return {"formula": value, "value": 0}
        if re.fullmatch(r"-?\d+(\.\d+)?", value):
            return float(value)
    return value
